"""Take some steps of aSeqDIP as CUDA graphs and kernel by kernel, and compare the bits.

    python -m scripts.graph_equals_eager mri --size 128 --deterministic

Three networks of one seed take turns, two of them without graphs: where these two differ the
kernels themselves do not repeat their bits, as sums by atomic additions do not. The last line is
JSON. The exit status is 1 if bits differ under --deterministic, or if no graph could be made.
"""

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from scripts.bench import Mode
from scripts.tasks import SCRIPTS, build, size_field
from utils.cli import RunArgs, set_up_device
from utils.errors import RunFailed, exit_status, require
from utils.flags import cli
from utils.graphs import Graphed


@dataclass
class Args:
    task: tyro.conf.Positional[Literal[tuple(SCRIPTS)]]  # whose steps
    size: int = 128  # side of the image
    width: int = 64  # channels of the U-Net
    steps: int = 8  # outer steps, of two updates
    device: str = "auto"  # auto, cpu, cuda or cuda:INDEX
    deterministic: bool = False  # ask PyTorch for the same bits each time


def compare(options: Args, device: torch.device) -> dict[str, Any]:
    """Return what the modes' iterates z have in common after some outer steps."""
    script = SCRIPTS[options.task]
    side = {size_field(options.task): options.size}
    with tempfile.TemporaryDirectory() as folder:  # for the cache of coil maps
        args = script.Args(width=options.width, device=str(device), out=Path(folder), **side)
        _, problem = build(script, args)
    modes = [Mode(script, args, problem.y, problem.A, graph) for graph in (False, False, True)]
    for _ in range(options.steps):
        for mode in modes:
            mode.outer()
    eager, again, graph = (mode.z for mode in modes)
    return {
        "task": options.task,
        "size": options.size,
        "steps": options.steps,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "finite": bool(torch.isfinite(graph).all()),
        "eager equals eager": torch.equal(again, eager),
        "graph equals eager": torch.equal(graph, eager),
        "largest difference": (graph - eager).abs().max().item(),
        "graphs": device.type == "cuda" and not Graphed.failed,
    }


def check(options: Args) -> None:
    """Compare, print the figures and raise RunFailed where they are not as they should be."""
    require(options.steps >= 1, f"--steps {options.steps}: expected at least 1")
    device = set_up_device(RunArgs(device=options.device, deterministic=options.deterministic))
    found = compare(options, device)
    print(json.dumps(found))
    if device.type == "cuda" and not found["graphs"]:
        raise RunFailed("no CUDA graph could be made, as said above")
    if options.deterministic and not found["graph equals eager"]:
        raise RunFailed("the graphs do not give the bits of their kernels")


def main() -> int:
    options = cli(Args, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,))
    return exit_status(lambda: check(options))


if __name__ == "__main__":
    sys.exit(main())
