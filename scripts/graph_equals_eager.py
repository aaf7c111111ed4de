"""Take some steps of aSeqDIP as CUDA graphs and kernel by kernel, and compare the bits.

    python scripts/graph_equals_eager.py mri --size 128 --deterministic

Three networks of one seed take turns, two of them without graphs: where these two differ the
kernels themselves do not repeat their bits, as sums by atomic additions do not. The last line is
JSON. The exit status is 1 if bits differ under --deterministic, or if no graph could be made.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

# Run from anywhere: the repository's modules can be imported only after this.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench import Mode
from stopping_study import SCRIPTS, problem_of

from utils.cli import RunArgs, set_up_device
from utils.errors import RunFailed, exit_status, require
from utils.graphs import Graphed


def compare(task: str, size: int, width: int, steps: int, device: torch.device) -> dict[str, Any]:
    """Return what the modes' iterates z have in common after some outer steps."""
    script = SCRIPTS[task]
    side = {"crop" if task == "mri" else "resize": size}
    with tempfile.TemporaryDirectory() as folder:  # for the cache of coil maps
        args = script.Args(width=width, device=str(device), out=Path(folder), **side)
        _, problem = problem_of(script, task, None, args)
    modes = [Mode(script, args, problem.y, problem.A, graph) for graph in (False, False, True)]
    for _ in range(steps):
        for mode in modes:
            mode.outer()
    eager, again, graph = (mode.z for mode in modes)
    return {
        "task": task,
        "size": size,
        "steps": steps,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "finite": bool(torch.isfinite(graph).all()),
        "eager equals eager": torch.equal(again, eager),
        "graph equals eager": torch.equal(graph, eager),
        "largest difference": (graph - eager).abs().max().item(),
        "graphs": device.type == "cuda" and not Graphed.failed,
    }


def main(options: argparse.Namespace) -> None:
    require(options.steps >= 1, f"--steps {options.steps}: expected at least 1")
    device = set_up_device(RunArgs(device=options.device, deterministic=options.deterministic))
    found = compare(options.task, options.size, options.width, options.steps, device)
    print(json.dumps(found))
    if device.type == "cuda" and not found["graphs"]:
        raise RunFailed("no CUDA graph could be made, as said above")
    if options.deterministic and not found["graph equals eager"]:
        raise RunFailed("the graphs do not give the bits of their kernels")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=SCRIPTS)
    parser.add_argument("--size", type=int, default=128, help="side of the image")
    parser.add_argument("--width", type=int, default=64, help="channels of the U-Net")
    parser.add_argument("--steps", type=int, default=8, help="outer steps, of two updates")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--deterministic", action="store_true")
    chosen = parser.parse_args()
    sys.exit(exit_status(lambda: main(chosen)))
