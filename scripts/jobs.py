"""Run the commands of a table or a figure, method by method and image by image, up to the report.

The script of a table, such as scripts/table2_mri.sh, hands over its settings on stdin:

    NAME: python aseqdip_mri.py --accel 4 --method aseqdip,tv --list data/fastmri.txt
    NAME (LABEL): ...

NAME is as in scripts/paper_tables.csv, or "PANEL / CURVE" of a figure. Each image, method and seed
of a setting is a cell and a process of its own. All cells of the first image come first, so that a
table that is cut short has all methods. A cell whose run folder holds metrics.json is done; the
others begin, or resume from a checkpoint. To continue after a stop, repeat the command. --out holds
everything: results/, logs/, plan/NAME.json (the state of each cell), figures/, report/.

Flags after a lone -- go to every command whose script has them, such as -- --width 16.
"""

import contextlib
import functools
import importlib
import importlib.util
import io
import itertools
import json
import re
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import tyro

from baselines import NEEDS, chosen, find
from scripts.executors import ROOT, LocalExecutor, RayExecutor, caught_signals, why_failed
from utils import ct_data, image_data, mri_data
from utils.cli import check_method, choose_files, parse_args, refuse_empty
from utils.comparison import comparison_folder
from utils.errors import BUSY, InputError, Interrupted, RunFailed, Status, require
from utils.files import PARTIAL, lock, write_atomically
from utils.flags import cli
from utils.methods import ASEQDIP, Method, takes
from utils.progress import duration
from utils.runs import Run

POLL_SECONDS = 0.2  # between two looks at the processes
BUSY_SECONDS = 10.0  # before a run folder that another process holds is tried again
PAPER_IMAGES = 20  # in each of the paper's tables
LINE = re.compile(r"(.+?)(?: \((.+)\))?: python aseqdip_([a-z]+)\.py(.*)")
FOLDERS = {  # list of a command -> its folder below a --data that holds several
    "fastmri": ("fastmri", "mri"), "aapm": ("aapm", "ct"), "cbsd68": ("cbsd68",), "ffhq": ("ffhq",),
}  # fmt: skip
SUFFIXES = {"mri": mri_data.SUFFIXES, "ct": ct_data.SUFFIXES}  # of the others image_data.SUFFIXES
REPEATED = {"--prior"}  # flags that are written once for each of their values
NOT_FURTHER = {  # flags that do not go after the --
    "--data", "--out", "--method", "--seed", "--preset", "--quick", "--run", "--fresh", "--set",
    "--reference", "--bkse-weights", "--list", "--images",
}  # fmt: skip


# fmt: off
@dataclass
class Args:
    title: tyro.conf.Positional[str]  # of the table or figure, as "Table 2, MRI"
    name: str | None = None  # of the plan and the figure; without it made of the title
    note: str = ""  # what a reader of the report must know
    curves: bool = False  # draw PSNR over the updates at the end
    pictures: bool = False  # put the methods' images side by side at the end
    data: Path | None = None  # file, folder of files, or one that holds the folders fastmri, aapm, cbsd68, ffhq; without it the embedded samples
    images: int | None = None  # how many of a folder: those that the command's --list names, then others by name
    seeds: tuple[int, ...] = (0,)  # of the weights; every image is run with each
    out: Path = Path("results")  # folder for everything that is made
    preset: Literal["paper", "public", "best", "quick"] = "paper"  # the scripts' own; quick also makes pictures and CT slices 128x128
    quick: bool = False  # short for --preset quick
    reference: Path | None = None  # prior data for Ref-Guided DIP: an image of someone else, or a folder
    bkse_weights: Path | None = None  # of the paper's blur, GOPRO_wVAE.pth
    executor: Literal["local", "ray"] = "local"  # this machine, or a Ray cluster
    workers: int = 1  # local: runs at a time on each GPU, or on the CPU
    gpus_per_run: float = 1.0  # ray: share of a GPU that each run takes
    dry_run: bool = False  # print the command of each cell and run nothing


@dataclass
class Setting:
    """A command for several methods and images."""

    name: str
    label: str | None  # name for people, if it has another
    script: Any  # the module
    task: str
    data: str  # name of its list, and so of its data set
    flags: dict[str, list[str]]  # without those of data, methods and seeds
    methods: dict[str, Method]  # in their order
    why_not: dict[str, str]  # method -> why it cannot run
    files: list[Path | None]  # [None] for the embedded sample, [Path("-")] where there are none


@dataclass
class Cell:
    """A setting, a method, an image and a seed, and what has become of them."""

    id: str  # name of the plan, setting, method, image, seed
    setting: str
    method: str
    task: str
    item: str  # the file without its suffix, "sample" for the embedded one, "-" for none
    seed: int
    command: list[str] = field(default_factory=list)  # script and flags; empty if it cannot run
    state: str = "not run"  # for good, or waiting, running, done, failed
    run: str | None = None  # its folder below --out, once it is known; with --precision auto a guess until it is done
    why: str | None = None  # it failed or cannot run, in one line
    log: str | None = None  # what its process printed, a file below --out
# fmt: on


def flag(name: str) -> str:
    """Return the flag of a field of Args."""
    return "--" + name.replace("_", "-")


def read_flags(words: list[str]) -> dict[str, list[str]]:
    """Sort the words of a command line by the flag that each follows."""
    flags: dict[str, list[str]] = {}
    for word in words:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            name = flag(name[2:])
            before = flags.get(name, []) if name in REPEATED else []
            values = flags[name] = before + ([value] if equals else [])
        else:
            require(bool(flags), f"{word}: expected a flag of the task scripts")
            values.append(word)
    return flags


def words_of(flags: dict[str, list[str]]) -> list[str]:
    """Write flags as the words of a command line."""
    return [
        word
        for name, values in flags.items()
        for group in (([v] for v in values) if name in REPEATED else (values,))
        for word in (name, *group)
    ]


def read_setting(args: Args, line: str, further: dict[str, list[str]]) -> Setting:
    """Read NAME: COMMAND; give the command the user's further flags that its script has.

    Raises:
        InputError: it is no such line, or the script would refuse the command.
    """
    match = LINE.fullmatch(line)
    require(match is not None, f"{line}: expected NAME: python aseqdip_TASK.py FLAGS")
    name, label, task, words = match.groups()
    require((ROOT / f"aseqdip_{task}.py").exists(), f"{line}: there is no aseqdip_{task}.py")
    script = importlib.import_module(f"aseqdip_{task}")
    has = {flag(f.name) for f in fields(script.Args)}
    flags = read_flags(shlex.split(words))
    for given in further:
        require(
            given not in NOT_FURTHER and (given not in flags or given == "--resize"),
            f"{given}: {args.title} sets it, or it stands before the --; after -- come settings of "
            "all runs, such as --width 16",
        )
    data = Path(*flags.pop("--list", [task])).stem
    names = ",".join(flags.pop("--method", ["aseqdip"])).split(",")
    if args.preset != "paper":
        flags["--preset"] = [args.preset]
    if args.preset == "quick" and "--resize" in has:
        flags["--resize"] = ["128"]
    flags |= {given: values for given, values in further.items() if given in has}

    lacking, files = None, [None]
    if args.data is not None:
        files = images_of(args.data.absolute(), task, data, args.images)
    if not files:
        folders = " or ".join(FOLDERS.get(data, (data,)))
        lacking = f"needs data: no folder {folders} in {args.data.absolute()}"
    if "--bkse-weights" in flags:
        weights = args.bkse_weights or ROOT / flags["--bkse-weights"][0]
        flags["--bkse-weights"] = [str(weights.absolute())]
        if not weights.exists():
            lacking = "needs the weights of the blur network: --bkse-weights names their file"

    def parsed(*more: str, without: Collection[str] = ()) -> Any:
        own = {name: values for name, values in flags.items() if name not in without}
        return parse_args(script.Args, script.PRESETS, "", [*words_of(own), *more])

    found = parsed()
    check_method(found)
    others = script.baselines(found)
    for method in names:
        require(method in ASEQDIP or method in others, f"--method {method}: not of {task}")
        require(
            not find(method).parts,
            f"--method {method}: each job has one method, and it takes the images of several; run "
            f"aseqdip_{task}.py",
        )
    methods = {method: find(method) for method in names}
    if args.reference is not None and any(m.needs == "reference" for m in methods.values()):
        flags["--reference"] = [str(args.reference.absolute())]
        found = parsed()
    why_not = {}
    for m in methods.values():
        if lacking:
            why_not[m.name] = lacking
        elif (why := m.lacks(found)) is not None:
            why_not[m.name] = why
    able = [method for method in names if method not in why_not]
    if able:  # refuses a wrong --set, and aSeqDIP's flags where it is not asked for
        unused = NEEDS - {methods[name].needs for name in able}  # those of what cannot run
        chosen(parsed("--method", ",".join(able), without=[flag(n) for n in unused]), others)
    files = [Path("-")] if lacking else files
    return Setting(name, label, script, task, data, flags, methods, why_not, files)


@functools.cache  # choose_files tells which names of a list are missing
def images_of(data: Path, task: str, kind: str, number: int | None) -> list[Path]:
    """Choose images of one kind; none if data holds folders, but none for this kind."""
    if holds_folders(data):
        found = [data / name for name in FOLDERS.get(kind, (kind,)) if (data / name).is_dir()]
        if not found:
            return []
        data = found[0]
    if data.is_file():
        return [data]
    listed = ROOT / "data" / f"{kind}.txt"
    also = ct_data.is_dicom if task == "ct" else lambda path: False
    suffixes = SUFFIXES.get(task, image_data.SUFFIXES)
    return choose_files(data, suffixes, also, number, listed if listed.exists() else None)


def holds_folders(data: Path) -> bool:
    """Tell whether a folder holds one for each kind of data."""
    return any((data / name).is_dir() for names in FOLDERS.values() for name in names)


def command_of(
    setting: Setting, names: list[str], file: Path | None, seed: int, out: Path
) -> list[str]:
    """Return the script and its flags for some of a setting's methods on one image.

    What none of them takes is left out: the script would refuse it.
    """
    methods = [setting.methods[name] for name in names]
    unused = {flag(needs) for needs in NEEDS} - {flag(m.needs) for m in methods if m.needs}
    fields = setting.script.Args.only_aseqdip
    unused |= {flag(field) for field in fields if not any(takes(name, field) for name in names)}
    if names == ["aseqdip_lambda0"]:
        unused.add("--lambda-ae")
    flags = {name: values for name, values in setting.flags.items() if name not in unused}
    keys = {key for m in methods for k in m.settings for key in (k, f"{m.name}.{k}")}
    own = [text for text in flags.pop("--set", []) if text.partition("=")[0] in keys]
    flags |= {"--set": own} if own else {}
    flags |= {"--method": [",".join(names)], "--seed": [str(seed)]}
    flags |= {} if file is None else {"--data": [str(file)]}
    return [f"aseqdip_{setting.task}.py", *words_of(flags), "--out", str(out / "results")]


def look(command: list[str]) -> tuple[Any, list[Run]]:
    """Make the Args and the runs of a command as its script does, and look at their folders.

    Raises:
        InputError: the script would refuse the command, or its image or a folder is damaged.
    """
    task = command[0].removeprefix("aseqdip_").removesuffix(".py")
    script = importlib.import_module(f"aseqdip_{task}")
    args = parse_args(script.Args, script.PRESETS, "", command[1:])
    methods = chosen(args, script.baselines(args))
    with contextlib.redirect_stdout(io.StringIO()):
        item = script.load(args, args.data)
        # What auto becomes depends on the device, which may be another machine's.
        for precision in ("fp32", "bf16") if args.precision == "auto" else (args.precision,):
            args.precision = precision
            runs = [Run(args, task, method, item) for method in methods]
            if all([run.finished() for run in runs]):
                break
    return args, runs


class Plan:
    """The cells of a table, and the file that shows them; nothing is read back from it."""

    def __init__(self, args: Args, settings: list[Setting]) -> None:
        self.args, self.settings, self.out = args, settings, args.out.absolute()
        self.name = args.name or re.sub(r"\W+", "_", args.title.lower()).strip("_")
        self.path = self.out / "plan" / f"{self.name}.json"
        self.pictures: list[str] = []
        self.cells = [
            self._cell(s, method, s.files[index], seed)
            for index in range(max(len(s.files) for s in settings))  # image by image
            for s in settings
            if index < len(s.files)
            for method, seed in itertools.product(s.methods, args.seeds)
        ]
        require(
            len({cell.id for cell in self.cells}) == len(self.cells),
            "two lines have one NAME, or two files one name but for their suffix; rename one",
        )

    def _cell(self, s: Setting, method: str, file: Path | None, seed: int) -> Cell:
        item = item_of(file)
        name = f"{self.name}/{s.name}/{method}/{item}/seed{seed}"
        if method in s.why_not:
            return Cell(name, s.name, method, s.task, item, seed, why=s.why_not[method])
        command = command_of(s, [method], file, seed, self.out)
        log = "logs/" + re.sub(r"[^\w./=-]", "_", name) + ".log"
        return Cell(name, s.name, method, s.task, item, seed, command, "waiting", log=log)

    def count(self, *states: str) -> int:
        """Return how many cells are in one of the states."""
        return sum(cell.state in states for cell in self.cells)

    def save(self) -> None:
        """Replace the plan file."""
        args = self.args
        methods = {name: m.label for s in self.settings for name, m in s.methods.items()}
        figure: dict[str, Any] | None = None
        if args.curves:
            figure = {"kind": "curves", "file": f"figures/{self.name}.png"}
        elif args.pictures:
            figure = {"kind": "pictures", "files": self.pictures}
        record = {
            "table": self.name, "title": args.title, "note": args.note,
            "quick": args.preset == "quick",
            "paper_images": PAPER_IMAGES if args.title.startswith("Table ") else None,
            "settings": [{"name": s.name, "label": s.label, "data": s.data} for s in self.settings],
            "methods": [{"name": name, "label": label} for name, label in methods.items()],
            "cells": [asdict(cell) for cell in self.cells],
            "figure": figure,
        }  # fmt: skip
        text = json.dumps(record, indent=1)
        write_atomically(self.path, lambda file: file.write(text.encode()))


def item_of(file: Path | None) -> str:
    """Name an image."""
    return "sample" if file is None else file.stem


class Runner:
    """Bring the cells of a plan to their end on an executor."""

    def __init__(self, plan: Plan, executor: LocalExecutor | RayExecutor) -> None:
        self.plan, self.executor = plan, executor
        self.seconds: list[float] = []  # that finished runs took

    def run(self, came: list[int]) -> None:
        """Run what waits.

        Args:
            came: the signals that have come, each asking for the end.

        Raises:
            Interrupted: one came; the runs have saved their state and ended.
        """
        cells = {cell.id: cell for cell in self.plan.cells}
        waiting = [(0.0, cell) for cell in cells.values() if cell.state == "waiting"]  # not before
        told = 0  # signals that the runs were told of
        while waiting or self.plan.count("running"):
            if told < len(came):
                if told == 0:
                    print("stopping after the current step of each run ...", file=sys.stderr)
                told = len(came)
                self.executor.stop()
            if told and not self.plan.count("running"):
                name = signal.Signals(came[-1]).name
                raise Interrupted(f"stopped by {name}; repeat the command to continue")
            for name, status in self.executor.ended():
                self._end(cells[name], status, stopping=told > 0)
                if cells[name].state == "waiting":
                    waiting.append((time.monotonic() + BUSY_SECONDS, cells[name]))
            ready = [entry for entry in waiting if entry[0] <= time.monotonic()]
            if told or not ready or self.plan.count("running") >= self.executor.slots:
                time.sleep(POLL_SECONDS)
            else:
                waiting.remove(ready[0])
                self._begin(ready[0][1])

    def _begin(self, cell: Cell) -> None:
        """Look at a cell's image and run folder, and start its process if it is not finished."""
        metrics = self._look(cell)
        if cell.state != "failed":
            cell.state = "running" if metrics is None else "done"  # told by an earlier call
            self.plan.save()
        if cell.state == "running":
            self.executor.start(cell.id, cell.command, self.plan.out / cell.log)

    def _look(self, cell: Cell) -> dict[str, Any] | None:
        """Return what metrics.json holds of a cell, None if it is not finished or fails."""
        try:
            _, (run,) = look(cell.command)
            cell.run = str(run.folder.path.relative_to(self.plan.out))
            metrics = run.folder.finished()
        except Exception as error:  # whatever it is, the other images are to be tried
            cell.log = None
            self._fail(cell, str(error).partition("\n")[0] or type(error).__name__)
            return None
        if metrics is not None:
            self.seconds.append(metrics["seconds"])
        return metrics

    def _end(self, cell: Cell, status: int, stopping: bool) -> None:
        """See from a process's end what has become of its cell."""
        metrics = self._look(cell) if status == 0 else None
        if metrics is not None:
            cell.state = "done"
            psnr = metrics.get("psnr_stopped", metrics.get("psnr_final"))  # what the report shows
            self._tell(cell, "done", "" if psnr is None else f", {psnr:.2f} dB")
        elif status == BUSY or stopping:
            cell.state = "waiting"
            self._tell(cell, "stopped" if stopping else "put off")
        elif cell.state != "failed":
            log = (self.plan.out / cell.log).read_text(errors="replace")
            self._fail(cell, why_failed(status, log))

    def _fail(self, cell: Cell, why: str) -> None:
        cell.state, cell.why = "failed", why
        self._tell(cell, "failed", f": {why}")

    def _tell(self, cell: Cell, what: str, more: str = "") -> None:
        self.plan.save()
        name = cell.id.partition("/")[2]
        print(f"{self.progress()} | {what}: {name}{more}", flush=True)

    def progress(self) -> str:
        """Write how many cells are done, failed and left, and about how long these will take."""
        count, left = self.plan.count, self.plan.count("waiting", "running")
        text = f"{count('done')} done, {count('failed')} failed, {left} left"
        if left and self.seconds:
            seconds = left * statistics.mean(self.seconds) / self.executor.slots
            text += f", about {duration(seconds)}"
        return text


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep other runners away from a plan file until the block, or this process, ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    guard = path.with_name(f".{path.stem}.lock")
    guard.touch()
    held = f"{path}: another process is at work on it; wait for it, or take another --out"
    unlock = lock(guard, InputError(held))
    try:
        for partial in path.parent.glob(f".{path.name}.*{PARTIAL}"):
            partial.unlink()  # a kill left it
        yield
    finally:
        unlock()


def compare_methods(plan: Plan) -> None:
    """Let the scripts put the finished methods' images side by side, one picture an image."""
    groups = [(s, f, n) for s in plan.settings for f in s.files for n in plan.args.seeds]
    for setting, file, seed in groups:
        key = (setting.name, item_of(file), seed, "done")
        done = [c.method for c in plan.cells if (c.setting, c.item, c.seed, c.state) == key]
        if len(done) > 1:
            command = command_of(setting, done, file, seed, plan.out)
            args, runs = look(command)
            call(*command, "--precision", args.precision, stdout=subprocess.DEVNULL)
            picture = comparison_folder(args, runs) / "comparison.png"
            plan.pictures.append(str(picture.relative_to(plan.out)))
            print(f"  {picture}")
    plan.save()


def make_report(plan: Plan) -> None:
    """Make the report of all tables below --out, and print this table's part of it."""
    call("-m", "scripts.report", str(plan.out))
    report = (plan.out / "report" / "report.md").read_text()
    parts = re.split(r"^(?=## )", report, flags=re.MULTILINE)
    print("".join(p for p in parts if p.startswith(f"## {plan.args.title}\n")), end="")


def call(*words: str, stdout: int | None = None) -> None:
    """Run a script of this repository to its end; raise RunFailed if it fails."""
    sys.stdout.flush()
    status = subprocess.run([sys.executable, *words], cwd=ROOT, stdout=stdout).returncode
    if status:
        command = shlex.join(["python", *words])
        raise RunFailed(f"exit status {status} of {command}; the runs are kept")


def check(args: Args) -> None:
    """Raise InputError for a value that cannot be."""
    seeds, ray = args.seeds, args.executor == "ray"
    for holds, message in (
        (args.images is None or args.images >= 1,
         f"--images {args.images}: expected a whole number of at least 1"),
        (bool(seeds) and len(set(seeds)) == len(seeds) and min(seeds) >= 0,
         f"--seeds {' '.join(map(str, seeds))}: expected different numbers from 0"),
        (args.workers >= 1, f"--workers {args.workers}: expected a whole number of at least 1"),
        (args.gpus_per_run > 0, f"--gpus-per-run {args.gpus_per_run:g}: expected a number above 0"),
        (not ray or args.workers == 1,
         "--workers: for --executor local only; with ray use --gpus-per-run"),
        (ray or args.gpus_per_run == 1,
         "--gpus-per-run: for --executor ray only; with local use --workers"),
        (not ray or importlib.util.find_spec("ray") is not None,
         "--executor ray: Ray is not installed; pip install -r requirements-cluster.txt"),
        (not args.quick or args.preset in ("paper", "quick"),
         f"--quick is --preset quick; omit it or --preset {args.preset}"),
    ):  # fmt: skip
        require(holds, message)
    for name in ("data", "reference", "bkse_weights"):
        path = getattr(args, name)
        require(path is None or path.exists(), f"{flag(name)} {path}: no such file or folder")


def make_plan(args: Args, text: str, further: dict[str, list[str]]) -> Plan:
    """Read the settings of a table, NAME: COMMAND, one a line.

    Raises:
        InputError: a line is none, a flag is not the user's to give, or there are no images.
    """
    lines = [line for line in map(str.strip, text.splitlines()) if line]
    require(bool(lines), "stdin: expected NAME: python aseqdip_TASK.py FLAGS, one command a line")
    kinds = sorted(set(re.findall(r"--list data/(\w+)\.txt", text)))
    require(
        args.data is None or len(kinds) < 2 or holds_folders(args.data),
        f"--data {args.data}: {args.title} needs several kinds of data; expected a folder that "
        f"holds folders {', '.join(kinds)}",
    )
    settings = [read_setting(args, line, further) for line in lines]
    scripts = dict.fromkeys(f"aseqdip_{s.task}.py" for s in settings)
    for name in further:
        require(
            any(name in s.flags for s in settings),
            f"{name}: no flag of {' or '.join(scripts)}; --help of a script lists those that it has",
        )
    return Plan(args, settings)


def run_table(plan: Plan, status: Status) -> None:
    """Bring a table to its end and make its figure and the report; note in status what of it fails.

    Raises:
        RunFailed: a cell failed.
        Interrupted: a signal came.
    """
    args = plan.args
    with alone(plan.path):
        plan.save()
        print(f"{args.title}: {len(plan.cells)} cells")
        if args.note:
            print(args.note)
        if args.data is None:
            print("no --data: the embedded samples, one image for each task")
        if plan.count("waiting"):
            ray = args.executor == "ray"
            executor = RayExecutor(args.gpus_per_run) if ray else LocalExecutor(args.workers)
            with contextlib.closing(executor), caught_signals() as came:
                runner = Runner(plan, executor)
                slots = f"{executor.slots} at a time on {executor.place}"
                print(f"{runner.progress()} | {slots}", flush=True)
                runner.run(came)
        for cell in plan.cells:
            if cell.state == "failed":
                log = f"; log: {plan.out / cell.log}" if cell.log else ""
                print(f"failed: {cell.id}: {cell.why}{log}")
        idle = [cell for cell in plan.cells if cell.state == "not run"]
        for why in dict.fromkeys(f"{cell.method}: {cell.why}" for cell in idle):
            print(f"not run: {why}")
        if args.pictures:
            with status.each():
                compare_methods(plan)
        if args.curves:
            with status.each():
                call("-m", "scripts.plot_steps", str(plan.path))
        with status.each():
            make_report(plan)
    if plan.count("failed"):
        raise RunFailed(f"{plan.count('failed')} runs failed; repeat the command to retry them")


def read_arguments(words: list[str]) -> tuple[Args, dict[str, list[str]]]:
    """Read the command line: this script's Args, and the flags after a lone --."""
    split = words.index("--") if "--" in words else len(words)
    refuse_empty(words)
    config = (tyro.conf.FlagCreatePairsOff,)
    args = cli(Args, args=words[:split], description=__doc__, config=config)
    check(args)
    args.preset = "quick" if args.quick else args.preset
    return args, read_flags(words[split + 1 :])


def main() -> int:
    with Status() as status:
        args, further = read_arguments(sys.argv[1:])
        plan = make_plan(args, sys.stdin.read(), further)
        if not args.dry_run:
            run_table(plan, status)
            return status.code
        for cell in plan.cells:
            command = shlex.join(["python", *cell.command])
            print(command if cell.command else f"# not run: {cell.id}: {cell.why}")
    return status.code


if __name__ == "__main__":
    sys.exit(main())
