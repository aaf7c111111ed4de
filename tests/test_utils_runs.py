"""The parts of a run that stand alone."""

from types import SimpleNamespace

import pytest
import torch

from utils import runs
from utils.errors import InputError
from utils.runs import Run, duration


def test_the_average_is_the_normalised_exponential_one():
    generator = torch.Generator().manual_seed(0)
    iterates = torch.randn(7, 1, 1, 4, 5, dtype=torch.complex64, generator=generator)
    decay = 0.8
    run = Run.__new__(Run)
    run.args, run.inner = SimpleNamespace(ema_decay=decay, log_every=100, N=2), 2
    run.K, run.ema, run._pending = 100, None, []
    run._last_checkpoint, run._checkpoint_cost, run._stopped_by = float("inf"), 0.0, None
    for k, z in enumerate(iterates, start=1):
        run.record(k, z, {"loss": torch.tensor(1.0)})
        weights = decay ** torch.arange(k - 1, -1, -1, dtype=torch.float32)
        expected = torch.einsum("k,k...->...", (weights / weights.sum()).to(z.dtype), iterates[:k])
        torch.testing.assert_close(run.averaged(), expected)


def test_times_are_written_for_people():
    times = {0.12: "0.1 s", 34: "34 s", 119: "119 s", 300: "5 min", 12240: "3.4 h"}
    assert {seconds: duration(seconds) for seconds in times} == times


def test_random_numbers_of_another_kind_of_device_are_refused():
    generator = torch.Generator().manual_seed(3)
    state = generator.get_state()
    runs._restore(generator, state)
    with pytest.raises(InputError, match="begun on another kind of device"):
        runs._restore(generator, torch.zeros(16, dtype=torch.uint8))  # as a GPU's
