"""What a CUDA graph cannot record must not stand in a step: looked for on the CPU, op by op."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from baselines.tv_dip import total_variation
from scripts.bench import parts_of
from scripts.tasks import SCRIPTS, build, size_field
from utils.holdout import hold_out, without
from utils.optim import Output

# Operations that bring a number to the host, whose result's shape depends on values, or that
# draw; and tensors made on the host from Python's numbers.
UNRECORDABLE = (
    "_local_scalar_dense", "nonzero", "masked_select", "unique", "lift_fresh", "rand", "normal_",
    "uniform_", "bernoulli",
)  # fmt: skip


class Ops(TorchDispatchMode):
    """Names each operation, and those that take a mask as index."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function)
        self.seen.add(name)
        if name.startswith(("aten.index.", "aten.index_put")):
            masks = [t for t in args[1] if t is not None and t.dtype == torch.bool]
            self.seen |= {f"nonzero of {name}" for _ in masks}
        return function(*args, **(kwargs or {}))

    def unrecordable(self):
        return sorted(name for name in self.seen if any(word in name for word in UNRECORDABLE))


@pytest.mark.parametrize("task", SCRIPTS)
def test_a_step_has_nothing_that_a_graph_cannot_record(task, tmp_path, monkeypatch):
    # A GPU takes the Radon transform that does without MKL.
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    script = SCRIPTS[task]
    side = {size_field(task): 80 if task == "mri" else 48}
    args = script.Args(width=4, device="cpu", out=tmp_path, **side)
    _, problem = build(script, args)
    held = hold_out(problem.A, 0.05, torch.Generator().manual_seed(0))
    whole = problem.A, problem.y
    part = without(problem.A, held), torch.where(held, 0, problem.y)
    for (A, y), precision in itertools.product((whole, part), ("fp32", "bf16")):
        parts = parts_of(script, replace(args, precision=precision), y, A)
        parts.update(parts.z0)  # Adam makes its state in the first
        with Ops() as ops:
            parts.update(parts.z0)
            Output(parts.net)(parts.z0)
            total_variation(parts.net(parts.z0)).backward()  # of TV-DIP
        assert ops.unrecordable() == []


def test_what_a_graph_cannot_record_is_found():
    x = torch.ones(3)
    for step in (
        lambda: x.sum().item(),
        lambda: x[x > 0],
        lambda: torch.rand(2),
        lambda: torch.tensor(2.0) * x,
    ):
        with Ops() as ops:
            step()
        assert len(ops.unrecordable()) > 0
