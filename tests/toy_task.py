"""A task script in miniature, for tests of scripts/jobs.py, which imports it like any other.

A process of it imports no torch: it finds its run folder in the plan. It keeps the contract of
utils/folder.py: a locked folder, a checkpoint after each step, metrics.json last. In the folder
`starts` beside the results each start leaves a line. A data file that says "corrupt" is refused;
one that says "slow" takes its time.
"""

# ruff: noqa: E402 (a process is to end before the imports that bring torch)

import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path

STEPS = 4
BUSY = 75  # as in utils.errors


def reconstruct(out: Path, method: str, data: Path, sigma: str) -> int:
    cells = [c for p in out.parent.glob("plan/*.json") for c in json.loads(p.read_text())["cells"]]
    (run,) = {cell["run"] for cell in cells if cell["command"] == sys.argv}
    folder = out.parent / run
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return BUSY
    checkpoint = folder / "checkpoint.pt"
    step = int(checkpoint.read_text()) if checkpoint.exists() else 0
    starts = out.parent / "starts"
    starts.mkdir(exist_ok=True)
    with open(starts / f"{method}_{data.stem}_{sigma}", "a") as file:
        file.write(f"{step}\n")
    stopped = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    while step < STEPS:
        time.sleep(0.4 if data.read_text() == "slow" else 0.02)
        step += 1
        checkpoint.with_suffix(".partial").write_text(str(step))
        checkpoint.with_suffix(".partial").rename(checkpoint)
        if stopped:
            return 130
    metrics = {"psnr_final": 24.0, "images": [], "steps": STEPS, "n_params": 1, "seconds": 1.0}
    (folder / "metrics.json").write_text(json.dumps(metrics | {"device": "toy"}))
    checkpoint.unlink()
    return 0


if __name__ == "__main__":
    flags = dict(zip(sys.argv[1::2], sys.argv[2::2]))
    if "," not in flags["--method"]:
        named = flags["--method"], Path(flags["--data"]), flags["--sigma"]
        sys.exit(reconstruct(Path(flags["--out"]), *named))

from dataclasses import dataclass

from real_denoising import PRESETS, Args, baselines

from baselines import chosen
from utils.cli import parse_args
from utils.comparison import comparison_folder
from utils.errors import require
from utils.item import Item
from utils.runs import Run


@dataclass
class Text(Item):
    text: str

    @property
    def own(self) -> tuple[str]:
        return (self.text,)


def load(args: Args, path: Path) -> Text:
    text = path.read_text()
    require(text != "corrupt", f"{path}: not a readable picture")
    return Text(path.stem, str(path), text)


if __name__ == "__main__":  # all methods are finished: compare them
    args = parse_args(Args, PRESETS, "")
    item = load(args, args.data)
    runs = [Run(args, "denoising", method, item) for method in chosen(args, baselines(args))]
    require(all(run.finished() for run in runs), "some are not finished")
    comparison_folder(args, runs).mkdir(parents=True)
    (comparison_folder(args, runs) / "comparison.png").write_text(args.method)
