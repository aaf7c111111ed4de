"""Measure all that this repository says about a GPU, in one command of a few minutes.

    bash scripts/gpu.sh DATA OUT                              nine minutes on one GPU
    bash scripts/gpu.sh DATA OUT --against Aseq_DIP           beside the authors' public code
    bash scripts/gpu.sh DATA OUT --dry-run                    the same steps, tiny, on a CPU

Three parts follow each other, each within its share of --minutes:

- smoke: each task script with each of its methods in each precision, CUDA graphs against their
  kernels, a run that is interrupted and resumed, the tests that need CUDA (gpu_smoke.py);
- bench: bench.py for three tasks, and how many runs at a time are best (gpu_bench.py);
- campaign: full-size runs of the paper's setting until the time is up (gpu_campaign.py has the
  list).

A step that fails does not stop the next. OUT/gpu.json holds every value and OUT/gpu.md a summary;
both are rewritten after each step, so that a kill loses nothing that was measured. OUT/results holds
the campaign's runs; to continue after a stop, repeat the command. OUT/runs.tar.gz holds the logs and
the small files of the runs, and restores them on a machine without OUT/results. DATA holds the
folders mri, ct and cbsd68; settings whose file is missing are left out.
"""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from scripts.executors import caught_signals
from scripts.gpu_bench import bench
from scripts.gpu_campaign import campaign, pack, unpack
from scripts.gpu_jobs import DRY, GPU, Processes, Work
from scripts.gpu_report import TIME_UP, failures
from scripts.gpu_smoke import smoke
from scripts.jobs import alone
from utils.errors import InputError, Interrupted, RunFailed, exit_status, require
from utils.files import reason
from utils.flags import cli
from utils.folder import git_state
from utils.precision import Precision

BEGUN = time.monotonic() - time.process_time()  # imports count in --minutes
PARTS = ("smoke", "bench", "campaign")
SHARES = {"smoke": 0.25, "bench": 0.30, "campaign": 1.0}  # of --minutes, at most
RESERVE = 0.04  # share of --minutes that is left for the end: stopping and packing
LAST_START = 0.03  # share of --minutes before the campaign's end in which no run is begun


@dataclass
class Args:
    data: tyro.conf.Positional[Path]  # folder that holds mri, ct and cbsd68
    out: tyro.conf.Positional[Path]  # folder for everything that is made
    minutes: float = 9.0  # for the whole command
    parts: tuple[Literal[PARTS], ...] = PARTS  # of others, what an earlier call measured is kept
    precision: Precision = "bf16"  # of the campaign's networks
    at_a_time: int | None = None  # runs of the campaign; without it what bench found best
    against: Path | None = None  # checkout of the authors' Aseq_DIP, for bench
    dry_run: bool = False  # tiny sizes on the CPU, to try the command itself


def check(args: Args) -> None:
    """Raise InputError for a command line that cannot be."""
    require(
        args.dry_run or torch.cuda.is_available(),
        f"PyTorch {torch.__version__} sees no CUDA device here; --dry-run takes the same steps on "
        "the CPU, with tiny sizes",
    )
    require(args.minutes > 0, f"--minutes {args.minutes:g}: expected a number above 0")
    require(args.data.is_dir(), f"{args.data}: no such folder; expected that of the data")
    require(
        args.at_a_time is None or args.at_a_time >= 1,
        f"--at-a-time {args.at_a_time}: expected a whole number of at least 1",
    )
    require(
        args.precision != "tf32" or not args.dry_run,
        "--precision tf32: needs a GPU, so not with --dry-run",
    )
    if args.against is not None:
        require(not args.dry_run, "--against: the public loop has no tiny size for --dry-run")
        require(args.against.is_dir(), f"--against {args.against}: no such folder")
    above = next(path for path in (args.out, *args.out.parents) if path.exists())
    require(above.is_dir(), f"{args.out}: cannot be written, {above} is a file")


def machine(dry_run: bool) -> dict[str, Any]:
    """Describe the device, the versions and this code."""
    cuda = torch.cuda.is_available() and not dry_run
    driver = None
    if cuda and shutil.which("nvidia-smi") is not None:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(query, capture_output=True, text=True).stdout.strip()
    return {
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "driver": driver,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        **git_state(),
        "dry run": dry_run,
    }


def earlier(path: Path) -> dict[str, Any]:
    """Read what an earlier call measured.

    Raises:
        InputError: the file is damaged.
    """
    try:
        record = json.loads(path.read_text())
        return {part: record[part] for part in PARTS}
    except FileNotFoundError:
        return {part: {} for part in PARTS}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: damaged ({reason(error)}); delete it, the runs are kept"
        ) from error


def run_part(work: Work, args: Args, part: str) -> None:
    """Go through one part; whatever fails in it, the next is to follow.

    Raises:
        Interrupted: a signal came.
    """
    whole, begun = 60 * args.minutes, time.monotonic()
    deadline = min(begun + SHARES[part] * whole, work.end - RESERVE * whole)
    note = work.record["parts"][part] = {"state": "running", "seconds": 0.0}
    work.save()
    try:
        if part == "smoke":
            smoke(work, deadline)
        elif part == "bench":
            against = None if args.against is None else args.against.absolute()
            bench(work, deadline, against)
        else:
            last_start = deadline - LAST_START * whole
            campaign(work, deadline, last_start, args.precision, args.at_a_time)
        note["state"] = "done" if time.monotonic() < deadline else f"cut, {TIME_UP}"
    except Interrupted:
        note["state"] = "interrupted"
        raise
    except Exception as error:
        note["state"] = f"failed: {reason(error)}"
        work.say(f"{part} failed: {reason(error)}")
    finally:
        note["seconds"] = time.monotonic() - begun
        work.save()


def measure(args: Args) -> None:
    """Go through the parts and pack the runs.

    Raises:
        RunFailed: a step failed.
        Interrupted: a signal came.
    """
    check(args)
    out = args.out.absolute()
    with alone(out / "gpu.json"), caught_signals() as stop:
        record = machine(args.dry_run) | earlier(out / "gpu.json")
        processes = Processes(out / "logs", stop)
        record["cores"] = processes.cores
        record["parts"] = {part: {"state": "not asked for", "seconds": 0.0} for part in PARTS}
        work = Work(
            args.data.absolute(), out, DRY if args.dry_run else GPU, processes,
            BEGUN + 60 * args.minutes, record,
        )  # fmt: skip
        unpacked = unpack(out)
        if unpacked is not None:
            work.say(unpacked)
        record["pack"] = {}
        try:
            for part in PARTS:
                if part in args.parts:
                    run_part(work, args, part)
        finally:
            work.step("pack", "runs", lambda: pack(out))
            work.say(f"written: {out / 'gpu.md'}")
    failed = failures(record)
    if failed:
        raise RunFailed(
            f"{len(failed)} steps failed: {', '.join(failed)}; {out / 'gpu.md'} says why"
        )


def main() -> int:
    args = cli(Args, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,))
    return exit_status(lambda: measure(args))


if __name__ == "__main__":
    sys.exit(main())
