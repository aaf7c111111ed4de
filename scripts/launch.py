"""Rebuild a table or a figure of the paper, cell by cell, as far as the data go.

A cell is one run of a task script: a setting, a method, an image, a seed. Cells that are finished
are skipped and those that failed are tried again, so the same command goes on after whatever
stopped it; runs that were cut short go on from their checkpoints. Everything lies in --out:
results/ (the run folders), logs/, plan/<table>.json (the state of each cell), figures/, report/.

    python scripts/launch.py table2_denoising --data cbsd68 --images 6 --quick
    python scripts/launch.py fig4 --data FOLDER --executor ray --gpus-per-run 0.5
    python scripts/launch.py table2_ct --quick -- --width 8 --resize 64

What follows a lone -- goes to every run whose script has the flag; flags that aSeqDIP alone takes
make the other methods' cells fail. Without --data the task scripts take their embedded samples.
FOLDER is a folder of images, or one that holds the folders fastmri (or mri), aapm (or ct), cbsd68,
ffhq.
"""

import importlib.util
import json
import math
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

# Run from anywhere: the repository's modules can be imported only after this.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from cells import ROOT, Cell, Plan, Request, command_of
from executors import Executor, Job, LocalExecutor, RayExecutor
from tables import TABLES

from utils.errors import InputError, Interrupted, RunFailed, exit_status, require
from utils.files import PARTIAL
from utils.runs import duration

try:
    import fcntl
except ImportError:  # Windows has none: there, two launchers of one table are not told apart
    fcntl = None

POLL_SECONDS = 0.2  # between two looks at the runs
BUSY_SECONDS = 10.0  # before a run folder that another process holds is tried again
BUSY = "another process is at work on this run"  # the words of utils.runs.Run
THERE = "this run is finished already"  # likewise
FOLDER = re.compile(r"^  pictures, reconstruction and figures: (.+)$", re.MULTILINE)
COMPARISON = re.compile(r"^  comparison, curves and table: (.+)$", re.MULTILINE)


@dataclass
class Args:
    table: tyro.conf.Positional[Literal[tuple(TABLES)]]  # which table or figure
    data: Path | None = (
        None  # folder of images, or of the folders fastmri, aapm, cbsd68, ffhq; or one file
    )
    images: int | None = None  # how many of a folder; without it as many as the paper took
    seeds: tuple[int, ...] = (0,)  # of the weights; every image is run with each
    out: Path = Path("results")  # folder for everything that is made
    quick: bool = False  # the task scripts' --quick, and pictures of 128x128
    reference: Path | None = (
        None  # prior data for Ref-Guided DIP: an image of someone else, or a folder
    )
    bkse_weights: Path | None = (
        None  # of the paper's blur, GOPRO_wVAE.pth; without it a stand-in is used
    )
    executor: Literal["local", "ray"] = "local"  # this machine, or a Ray cluster
    workers: int = 1  # local: runs at a time on each GPU, or on the CPU
    gpus_per_run: float = 1.0  # ray: share of a GPU that each run takes


class Stop:
    """Counts SIGINT, SIGTERM and SIGHUP while it is installed."""

    def __init__(self) -> None:
        self.number = 0
        self.count = 0

    def __enter__(self) -> "Stop":
        numbers = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            numbers.append(signal.SIGHUP)  # under nohup it is ignored, and stays so
        self._before = {number: signal.signal(number, self._on_signal) for number in numbers}
        return self

    def _on_signal(self, number: int, frame: Any) -> None:
        self.number = number
        self.count += 1

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class Launch:
    """Brings the cells of a plan to their end on an executor."""

    def __init__(self, plan: Plan, executor: Executor, stop: Stop) -> None:
        self.plan, self.executor, self.stop = plan, executor, stop
        self.running: dict[Job, tuple[Cell, float]] = {}
        self.not_before: dict[str, float] = {}  # cell -> when its folder may be free again
        self.seconds: dict[tuple[str, str], list[float]] = defaultdict(list)

    def run(self) -> None:
        """Run what waits.

        Raises:
            Interrupted: a signal came; the runs have saved their state and ended.
        """
        waiting = [cell for cell in self.plan.cells if cell.state == "waiting"]
        told = 0
        while waiting or self.running:
            if told < self.stop.count:
                if told == 0:
                    print("stopping after the runs' present steps ...", file=sys.stderr)
                told = self.stop.count
                self.executor.stop()
            if told and not self.running:
                raise Interrupted(
                    f"stopped by {signal.Signals(self.stop.number).name}; the same command goes on"
                )
            for job, status in self.executor.ended():
                cell, begun = self.running.pop(job)
                self._settle(cell, status, time.monotonic() - begun, stopping=told > 0)
                if cell.state == "waiting" and not told:
                    waiting.append(cell)
            now = time.monotonic()
            for cell in waiting if not told else []:
                if len(self.running) >= self.executor.slots:
                    break
                if self.not_before.get(cell.id, now) <= now:
                    self._start(cell)
            waiting = [cell for cell in waiting if cell.state == "waiting"]
            time.sleep(POLL_SECONDS)

    def _start(self, cell: Cell) -> None:
        job = Job(tuple(cell.command), self.plan.folder(cell.log))
        cell.state = "running"
        self.plan.save()
        self.executor.start(job)
        self.running[job] = cell, time.monotonic()

    def _settle(self, cell: Cell, status: int, seconds: float, stopping: bool) -> None:
        """Read from a run's exit status and log what has become of its cell, and tell."""
        log = self.plan.folder(cell.log).read_text(errors="replace").replace("\r", "\n")
        folders = FOLDER.findall(log)
        what = ""
        if status == 0 and folders and (Path(folders[-1]) / "metrics.json").exists():
            cell.state = "done"
            cell.run = str(Path(folders[-1]).relative_to(self.plan.request.out))
            if THERE not in log:  # which tells nothing of how long a run takes
                self.seconds[cell.task, cell.method].append(seconds)
            metrics = json.loads((Path(folders[-1]) / "metrics.json").read_text())
            psnr = metrics.get("psnr_stopped", metrics.get("psnr_final"))  # what the report shows
            what = f", {psnr:.2f} dB" if psnr is not None else ""
        elif BUSY in log or stopping:
            cell.state = "waiting"
            self.not_before[cell.id] = time.monotonic() + BUSY_SECONDS
        else:
            cell.state = "failed"
            cell.why = why_failed(status, log)
            what = f": {cell.why}"
        self.plan.save()
        pause = "stopped" if stopping else "put off"
        shown = pause if cell.state == "waiting" else cell.state
        name = cell.id.partition("/")[2]
        print(f"{self.progress()} | {shown}: {name}{what}, {duration(seconds)}", flush=True)

    def progress(self) -> str:
        """Write how many cells are done, failed and left, and the time that these will take."""
        count = self.plan.count
        left = [cell for cell in self.plan.cells if cell.state in ("waiting", "running")]
        text = f"{count('done')} done, {count('failed')} failed, {len(left)} left"
        known = {key: sum(times) / len(times) for key, times in self.seconds.items()}
        if left and known:
            typical = sum(known.values()) / len(known)  # of methods that have not ended yet
            work = sum(known.get((cell.task, cell.method), typical) for cell in left)
            text += f", about {duration(work / self.executor.slots)}"
        return text


def why_failed(status: int, log: str) -> str:
    """Say in one line why a run failed."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    if errors:
        return errors[-1].removeprefix("error: ")
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    return lines[-1] if lines else f"exit status {status}, nothing printed"


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep other launchers away from a plan file until the block, or this process, ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.stem}.lock"), "w") as lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InputError(
                    f"{path}: another launcher is at work on this table; wait for it, or take "
                    "another --out"
                ) from error
        for partial in path.parent.glob(f".{path.name}.*{PARTIAL}"):
            partial.unlink()  # a kill left it
        yield


def compare_methods(plan: Plan) -> None:
    """Let the task scripts put the finished methods' images side by side, one picture an image.

    Raises:
        RunFailed: a script could not.
    """
    request = plan.request
    methods = {method.name: method for method in request.table.methods}
    for setting in request.settings:
        groups: dict[tuple[str, int], list[Cell]] = defaultdict(list)
        for cell in plan.cells:
            if cell.setting == setting.name and cell.state == "done":
                groups[cell.item, cell.seed].append(cell)
        for (item, seed), cells in groups.items():
            if len(cells) < 2:
                continue
            command = cells[0].command
            file = Path(command[command.index("--data") + 1]) if "--data" in command else None
            chosen = tuple(methods[cell.method] for cell in cells)
            done = subprocess.run(
                [sys.executable, *command_of(request, setting, chosen, file, seed)], cwd=ROOT,
                capture_output=True, text=True,
            )  # fmt: skip
            folders = COMPARISON.findall(done.stdout)
            if done.returncode or not folders:
                why = why_failed(done.returncode, done.stderr)
                raise RunFailed(f"no comparison of {setting.name}, {item}: {why}")
            picture = Path(folders[-1]) / "comparison.png"
            plan.pictures.append(str(picture.relative_to(request.out)))
            print(f"  {picture}")
    plan.save()


def draw_curves(plan: Plan) -> None:
    """Draw the figure over the updates.

    Raises:
        RunFailed: it could not be drawn.
    """
    command = [sys.executable, "-m", "scripts.plot_steps", plan.path]
    if subprocess.run(command, cwd=ROOT).returncode:
        raise RunFailed("the figure could not be drawn")


def make_report(plan: Plan) -> None:
    """Make the report of all tables below OUT, and print this table's part of it.

    Raises:
        RunFailed: it could not be made.
    """
    command = [sys.executable, "-m", "scripts.report", plan.request.out]
    if subprocess.run(command, cwd=ROOT).returncode:
        raise RunFailed("the report could not be made")
    report = plan.folder("report", "report.md").read_text()
    parts = re.split(r"^(?=## )", report, flags=re.MULTILINE)
    head = f"## {plan.request.table.title}\n"
    print("".join(part for part in parts if part.startswith(head)), end="")


def make_request(args: Args, flags: tuple[str, ...]) -> Request:
    """Check the command line.

    Raises:
        InputError: a value cannot be.
    """
    table = TABLES[args.table]
    images = table.images if args.images is None else args.images
    require(images >= 1, f"--images {images}: expected a whole number of at least 1")
    require(
        bool(args.seeds) and len(set(args.seeds)) == len(args.seeds) and min(args.seeds) >= 0,
        f"--seeds {' '.join(map(str, args.seeds))}: expected different numbers from 0",
    )
    require(args.workers >= 1, f"--workers {args.workers}: expected a whole number of at least 1")
    require(
        0 < args.gpus_per_run < math.inf,
        f"--gpus-per-run {args.gpus_per_run:g}: expected a number above 0",
    )
    require(
        args.executor == "local" or args.workers == Args.workers,
        "--workers: of use to --executor local only; with ray take --gpus-per-run",
    )
    require(
        args.executor == "ray" or args.gpus_per_run == Args.gpus_per_run,
        "--gpus-per-run: of use to --executor ray only; with local take --workers",
    )
    require(
        args.executor == "local" or importlib.util.find_spec("ray") is not None,
        "--executor ray: Ray is not installed; pip install -r requirements-cluster.txt",
    )
    given = {}
    for name in ("reference", "bkse_weights"):
        path = getattr(args, name)
        if path is not None:
            require(path.exists(), f"--{name.replace('_', '-')} {path}: no such file or folder")
            given[name] = path.absolute()
    return Request(
        args.table, table, args.out.absolute(), None if args.data is None else args.data.absolute(),
        images, args.seeds, args.quick, given, flags,
    )  # fmt: skip


def launch(args: Args, flags: tuple[str, ...]) -> None:
    """Bring a table to its end and make its figure and the report.

    Raises:
        RunFailed: a cell failed.
        Interrupted: a signal came.
    """
    request = make_request(args, flags)
    path = request.out / "plan" / f"{request.name}.json"
    above = next(folder for folder in path.parents if folder.exists())
    require(above.is_dir(), f"--out {args.out}: {above} is a file")
    plan = Plan(request)
    with alone(path):
        plan.take_over()
        plan.save()
        print(f"{request.table.title}: {len(plan.cells)} cells")
        if request.table.note:
            print(request.table.note)
        if request.data is None:
            print("without --data: the scripts' embedded samples, one image a task")
        if plan.count("waiting"):
            run_cells(args, plan)
        for cell in plan.cells:
            if cell.state == "failed":
                print(f"failed: {cell.id}: {cell.why}; log: {plan.folder(cell.log)}")
        idle = [cell for cell in plan.cells if cell.state == "not run"]
        for why in dict.fromkeys(f"{cell.method}: {cell.why}" for cell in idle):
            print(f"not run: {why}")
        sys.stdout.flush()  # what follows prints by itself
        steps = [draw_curves] if request.table.panels else []
        steps += [compare_methods] if request.table.pictures else []
        statuses = [exit_status(lambda: step(plan)) for step in (*steps, make_report)]
    if any(statuses):
        raise RunFailed("the runs are kept, but what is made of them is not complete")
    if plan.count("failed"):
        raise RunFailed(f"{plan.count('failed')} cells failed; the same command tries them again")


def run_cells(args: Args, plan: Plan) -> None:
    """Run the waiting cells of a plan on the executor that the user wants."""
    if args.executor == "ray":
        executor: Executor = RayExecutor(args.gpus_per_run)
    else:
        executor = LocalExecutor(args.workers)
    try:
        with Stop() as stop:
            work = Launch(plan, executor, stop)
            print(f"{work.progress()} | {executor.slots} at a time on {executor.place}", flush=True)
            work.run()
    finally:
        executor.close()


def main() -> int:
    own, flags = sys.argv[1:], []
    if "--" in own:
        split = own.index("--")
        own, flags = own[:split], own[split + 1 :]
    args = tyro.cli(Args, args=own, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,))
    return exit_status(lambda: launch(args, tuple(flags)))


if __name__ == "__main__":
    sys.exit(main())
