"""Kill the task scripts at random moments and let the disk refuse each write; compare the bytes.

Kills: a run is killed (SIGKILL) at a moment drawn evenly over an undisturbed run's time, and begun
again with the same command, killed or not, until one comes to its end. Writes: the run's n-th write
and all later ones fail, first because the disk is full, then because it became read-only, for n =
1, 2, ... until the run no longer notices; from each state that was left, the same command runs without
faults. In both cases every file that is there in between must be whole, a failing run must end with
one line and status 1 or 2, and the bytes of reconstruction.npy must be the undisturbed run's.

    python -m studies.faults --kills 500
    python -m studies.faults --kills 0 --writes

A run is a fork of this process, so that the libraries are loaded once; Linux and macOS only. The
table runner is killed by studies.kill_table.
"""

import builtins
import contextlib
import errno
import hashlib
import importlib
import itertools
import json
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from PIL import Image

import utils.loop
from utils.errors import RunFailed, exit_status, require
from utils.files import load_torch
from utils.flags import cli

FLAGS = {  # of a run of about a second
    "mri": "--crop 64 --center-fraction 0.2",
    "ct": "--sample small --resize 64",
    "denoising": "--sample face --resize 64",
    "inpainting": "--sample face --resize 64",
    "deblurring": "--sample face --resize 64",
    "superresolution": "--sample face --resize 64",
}
SHARED = "--K 40 --N 1 --width 8 --depth 2 --log-every 5 --device cpu"
METHODS = {
    "aseqdip": "",
    "vanilla_dip": "",
    "es_dip": "",
    "split_dip": "--set parts=2 start_iter=5",
}
FIRST = "aseqdip"  # of the methods, whose writes are refused
# Libraries that a run loads late, half of its time: here once, not in each fork.
LATE = ("torch._dynamo", "matplotlib.figure", "matplotlib.backends.backend_agg", "sigpy.mri")
CHECKPOINT_SECONDS = 0.1  # so that a short run has several
REFUSALS = {"full": errno.ENOSPC, "read-only": errno.EROFS}


@dataclass
class Args:
    kills: int = 500  # over all tasks, in turn
    writes: bool = False  # let each write fail too
    tasks: tuple[str, ...] = tuple(FLAGS)
    seed: int = 0  # of the moments of the kills


class Disk:
    """A disk that refuses the n-th write below a folder, half of it written, and all later ones."""

    def __init__(self, root: Path, n: int, number: int) -> None:
        self.root, self.n, self.number, self.count = str(root), n, number, 0
        self.open, self.fsync = builtins.open, os.fsync
        builtins.open, os.fsync = self._open, self._fsync

    def refuses(self) -> bool:
        self.count += 1
        return self.count >= self.n

    def error(self, path: object = None) -> OSError:
        return OSError(self.number, os.strerror(self.number), path)

    def _open(self, path: Any, mode: str = "r", *more: Any, **named: Any) -> Any:
        file = self.open(path, mode, *more, **named)
        ours = isinstance(path, (str, Path)) and str(path).startswith(self.root)
        return _File(self, file, str(path)) if ours and set(mode) & set("wax") else file

    def _fsync(self, descriptor: int) -> None:
        if self.refuses():
            raise self.error()
        self.fsync(descriptor)


class _File:
    def __init__(self, disk: Disk, file: Any, path: str) -> None:
        self.disk, self.file, self.path = disk, file, path

    def __enter__(self) -> "_File":
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, content: Any) -> int:
        if self.disk.refuses():
            self.file.write(content[: len(content) // 2])
            self.file.flush()
            raise self.disk.error(self.path)
        return self.file.write(content)


def start(task: str, method: str, out: Path, prepare: Callable[[], object] = lambda: None) -> int:
    """Start a run in a fork; what it prints goes to a file beside `out`. Return its process."""
    module = importlib.import_module(f"aseqdip_{task}")
    process = os.fork()
    if process:
        return process
    status = 99  # a defect
    with contextlib.suppress(BaseException):
        said = os.open(out.with_suffix(".txt"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        words = f"{FLAGS[task]} {SHARED} --method {method} {METHODS[method]} --out {out}".split()
        sys.argv = [f"aseqdip_{task}.py", *words]
        prepare()
        try:
            status = module.main()
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
    os._exit(status)


def wait(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def killed_at(moment: float, process: int) -> bool:
    """Kill a process so many seconds from now; False if it has ended by then."""
    deadline = time.monotonic() + moment
    while time.monotonic() < deadline:
        if os.waitpid(process, os.WNOHANG)[0]:
            return False
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    wait(process)
    return True


def digest(out: Path) -> str:
    (path,) = out.glob("*/*/*/*/reconstruction.npy")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def left(out: Path) -> frozenset[tuple[str, int]]:
    """Return what a refused run left: each file, of a log its number of lines too."""
    files = [path for path in out.rglob("*") if path.is_file()]
    lines = [len(p.read_bytes().splitlines()) if p.suffix == ".csv" else 0 for p in files]
    return frozenset((str(p.relative_to(out)), n) for p, n in zip(files, lines))


def half_written(out: Path) -> list[str]:
    """Return the files that cannot be read; those with a dot in front are nobody's."""
    readers = {
        ".json": lambda path: json.loads(path.read_text()),
        ".npy": np.load,
        ".png": lambda path: Image.open(path).load(),
        ".pt": load_torch,
    }
    bad = []
    for path in out.rglob("[!.]*"):
        try:
            readers.get(path.suffix, lambda path: None)(path)
        except Exception as error:
            bad.append(f"{path}: {error}")
    return bad


class Campaign:
    """Make the trials and count them.

    Args:
        folder: an empty one.
        args: of this script.
    """

    def __init__(self, folder: Path, args: Args) -> None:
        self.folder, self.args = folder, args
        self.random = random.Random(args.seed)
        self.faults: list[str] = []
        self.seen: dict[str, set[frozenset[tuple[str, int]]]] = {}  # by task, what was begun from
        self.whole: dict[tuple[str, str], tuple[str, float]] = {}

    def undisturbed(self, task: str, method: str) -> tuple[str, float]:
        """Return the bytes' hash of an undisturbed run, and how long it took."""
        if (task, method) not in self.whole:
            out = self.folder / f"{task}_{method}"
            for _ in range(2):  # the first fills caches
                shutil.rmtree(out, ignore_errors=True)
                begun = time.monotonic()
                status = wait(start(task, method, out))
            require(status == 0, f"{task}, {method}: the undisturbed run failed with {status}")
            self.whole[task, method] = digest(out), time.monotonic() - begun
        return self.whole[task, method]

    def check(self, name: str, out: Path, expected: str | None = None) -> None:
        """Note what is half written, and a result of other bytes."""
        self.faults += [f"{name}: half written: {line}" for line in half_written(out)]
        if expected is not None and digest(out) != expected:
            self.faults.append(f"{name}: other bytes")

    def kill(self) -> None:
        """Kill runs of all tasks in turn."""
        kills = results = resumed = 0
        for task in itertools.cycle(self.args.tasks):
            if kills >= self.args.kills:
                break
            module = importlib.import_module(f"aseqdip_{task}")
            offered = {"aseqdip", *module.baselines(module.Args())}
            method = self.random.choice([name for name in METHODS if name in offered])
            expected, length = self.undisturbed(task, method)
            out = self.folder / "killed"
            while killed_at(self.random.uniform(0, 1.1 * length), start(task, method, out)):
                kills += 1
                self.check(f"kill {kills}, {task}, {method}", out)
            said = out.with_suffix(".txt").read_text()
            resumed += "resumed after" in said
            if not list(out.glob("*/*/*/*/metrics.json")):
                self.faults.append(f"after kill {kills}, {task}, {method}: {said[-300:]}")
            else:
                self.check(f"after kill {kills}, {task}, {method}", out, expected)
            results += 1
            print(f"{kills} kills, {results} results, {len(self.faults)} faults", flush=True)
            shutil.rmtree(out)
        print(f"{kills} kills: {results} results, {resumed} of them resumed a checkpoint last")

    def refuse(self) -> None:
        """Let each write of each task's run fail."""
        utils.loop.CHECKPOINT_SECONDS = math.inf  # one at the end, so that all runs write alike
        for task, (kind, number) in itertools.product(self.args.tasks, REFUSALS.items()):
            expected, _ = self.undisturbed(task, FIRST)
            out, seen = self.folder / "refused", self.seen.setdefault(task, set())
            for n in itertools.count(1):
                status = wait(start(task, FIRST, out, partial(Disk, out, n, number)))
                name = f"{task}, {kind} at write {n}"
                if status == 0:
                    break
                said = out.with_suffix(".txt").read_text()
                if status not in (1, 2) or "Traceback" in said or "error: " not in said:
                    self.faults.append(f"{name}: status {status}: {said[-300:]}")
                self.check(name, out)
                state = left(out)
                if state not in seen:  # a refused write and its refused fsync leave the same
                    seen.add(state)
                    status = wait(start(task, FIRST, out))
                    if status:
                        said = out.with_suffix(".txt").read_text()
                        self.faults.append(f"after {name}: status {status}: {said[-300:]}")
                    else:
                        self.check(f"after {name}", out, expected)
                shutil.rmtree(out, ignore_errors=True)
            shutil.rmtree(out)
            facts = f"{len(seen)} states begun again from, {len(self.faults)} faults"
            print(f"{task}: {kind} at {n - 1} writes, {facts}", flush=True)


def run(args: Args) -> None:
    """Make the campaign; raise RunFailed if anything is not as it should be."""
    unknown = set(args.tasks) - set(FLAGS)
    require(not unknown, f"--tasks {' '.join(unknown)}: expected some of {', '.join(FLAGS)}")
    require(hasattr(os, "fork"), "this needs os.fork, which this system has not")
    require(args.kills >= 0, f"--kills {args.kills}: expected at least 0")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)  # a fork has no other threads
    utils.loop.CHECKPOINT_SECONDS, utils.loop.CHECKPOINT_SHARE = CHECKPOINT_SECONDS, 1.0
    for name in LATE:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(Path(folder), args)
        if args.kills:
            campaign.kill()
        if args.writes:
            campaign.refuse()
    for fault in campaign.faults:
        print(fault)
    if campaign.faults:
        raise RunFailed(f"{len(campaign.faults)} faults")


def main() -> int:
    args = cli(Args, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,))
    return exit_status(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
