"""The cells of a table, and the plan file that says what has become of each.

A cell is one run of a task script: a setting, a method, an image, a seed. OUT/plan/<table>.json
holds all of them; it is replaced whole, so that a reader never sees half of it.
"""

import importlib
import importlib.util
import json
import re
import shlex
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tables import DATASETS, QUICK_SIZE, Dataset, Method, Setting, Table

from utils.cli import files_of
from utils.errors import InputError, require
from utils.files import content_hash, reason, write_atomically

ROOT = Path(__file__).resolve().parent.parent
OWN_FLAGS = (  # the launcher's or the table's to set
    "--data", "--out", "--method", "--seed", "--quick", "--run", "--fresh", "--set", "--reference",
    "--bkse-weights",
)  # fmt: skip
NAMED = 5  # images that a message lists
NEEDS = {
    "reference": "needs prior data: --reference names images of others",
    "bkse_weights": "needs the weights of the blur network: --bkse-weights names their file",
}


@dataclass
class Cell:
    """One run of a task script and what has become of it.

    Args:
        id: table, setting, method, image and seed, with slashes between.
        setting, method, task: their names in scripts/tables.py.
        item: the image's file without its suffix, "sample" for the embedded one, "-" where the
            data folder holds none.
        seed: of the weights.
        command: the script and its flags; empty if it cannot run.
        stamp: hash of the command and of the code's and the files' state. A finished cell is
            taken for finished as long as it is the same.
        state: waiting, running, done, failed, or "not run" for good.
        run: the run folder, relative to OUT, once it is known.
        why: why it failed or cannot run, in one line.
        log: what the script printed, a file relative to OUT.
    """

    id: str
    setting: str
    method: str
    task: str
    item: str
    seed: int
    command: list[str]
    stamp: str | None
    state: str = "waiting"
    run: str | None = None
    why: str | None = None
    log: str | None = None


@dataclass
class Request:
    """What the user asks of a table.

    Args:
        name, table: the table.
        out: absolute path of the folder for everything.
        data: file or folder, None for the embedded samples.
        images: how many of a folder.
        seeds: of the weights; each makes a run of every image.
        quick: pass --quick, and make pictures small.
        given: `reference` and `bkse_weights`, where the user has them.
        flags: further ones, each for the cells whose script has it.
    """

    name: str
    table: Table
    out: Path
    data: Path | None
    images: int
    seeds: tuple[int, ...]
    quick: bool
    given: dict[str, Path]
    flags: tuple[str, ...]

    @property
    def settings(self) -> list[Setting]:
        """Return the table's settings without the stand-ins that are not needed."""
        return [s for s in self.table.settings if s.instead_of not in self.given]


class Plan:
    """The cells of a request, and the file that holds them."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.path = request.out / "plan" / f"{request.name}.json"
        self.pictures: list[str] = []
        self.cells = make_cells(request)

    def take_over(self) -> None:
        """Mark as done what the plan file has as done, if nothing it depends on has changed.

        Raises:
            InputError: the file is damaged.
        """
        try:
            stored = {cell["id"]: cell for cell in json.loads(self.path.read_text())["cells"]}
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{self.path}: damaged ({reason(error)}); delete it, the runs are kept"
            ) from error
        for cell in self.cells:
            before = stored.get(cell.id, {})
            same = before.get("stamp") == cell.stamp and before.get("state") == "done"
            if cell.command and same and self.folder(before["run"], "metrics.json").exists():
                cell.state, cell.run, cell.log = "done", before["run"], before["log"]

    def folder(self, *parts: str) -> Path:
        """Return a path below OUT."""
        return self.request.out.joinpath(*parts)

    def count(self, *states: str) -> int:
        """Return how many cells are in one of the states."""
        return sum(cell.state in states for cell in self.cells)

    def save(self) -> None:
        """Write the plan file."""
        table = self.request.table
        tasks = {s.task for s in self.request.settings}
        record = {
            "table": self.request.name,
            "title": table.title,
            "task": tasks.pop() if len(tasks) == 1 else None,
            "note": table.note,
            "quick": self.request.quick,
            "images": self.request.images,
            "paper_images": table.images,
            "settings": [
                {"name": s.name, "label": s.label, "task": s.task, "data": s.data.name}
                for s in self.request.settings
            ],
            "methods": [{"name": m.name, "label": m.label} for m in table.methods],
            "cells": [asdict(cell) for cell in self.cells],
            "figure": self._figure(),
        }
        text = json.dumps(record, indent=1)
        write_atomically(self.path, lambda file: file.write(text.encode()))

    def _figure(self) -> dict[str, Any] | None:
        table = self.request.table
        if table.panels:
            return {
                "kind": "curves",
                "file": f"figures/{self.request.name}.png",
                "panels": [asdict(panel) for panel in table.panels],
            }
        return {"kind": "pictures", "files": self.pictures} if table.pictures else None


def make_cells(request: Request) -> list[Cell]:
    """Expand a table: image by image, so that a table cut short has all methods of the first ones.

    Raises:
        InputError: the data are not there, or a flag is not the user's to give.
    """
    further = _further_flags(request)
    code = {s.task: _code_hash(s.task) for s in request.settings}
    chosen: dict[Dataset, list[Path | None] | str] = {}
    for setting in request.settings:
        if setting.data not in chosen:
            chosen[setting.data] = choose_files(request, setting.data)
    number = {d: 1 if isinstance(files, str) else len(files) for d, files in chosen.items()}
    cells = []
    for index in range(max(number.values())):
        for setting in request.settings:
            files = chosen[setting.data]
            if index >= number[setting.data]:
                continue
            file = None if isinstance(files, str) else files[index]
            for method in request.table.methods:
                why = files if isinstance(files, str) else _why_not(request, setting, method)
                for seed in request.seeds:
                    item = "sample" if file is None else file.stem
                    item = "-" if isinstance(files, str) else item
                    cell = Cell(
                        id=f"{request.name}/{setting.name}/{method.name}/{item}/seed{seed}",
                        setting=setting.name, method=method.name, task=setting.task,
                        item=item, seed=seed,
                        command=[], stamp=None, state="not run", why=why,
                    )  # fmt: skip
                    if why is None:
                        cell.state = "waiting"
                        cell.command = command_of(
                            request, setting, (method,), file, seed, further[setting.task]
                        )
                        cell.log = "logs/" + re.sub(r"[^\w./=-]", "_", cell.id) + ".log"
                        used = [file, *(request.given.get(n) for n in _needs(setting, method))]
                        cell.stamp = content_hash(
                            json.dumps(cell.command), code[setting.task],
                            *(_file_state(path) for path in used if path is not None),
                        )[:16]  # fmt: skip
                    cells.append(cell)
    require(
        len({cell.id for cell in cells}) == len(cells),
        f"{request.data}: two files have one name but for their suffix; rename one",
    )
    return cells


def command_of(
    request: Request, setting: Setting, methods: tuple[Method, ...], file: Path | None, seed: int,
    further: dict[str, list[str]] | None = None,
) -> list[str]:  # fmt: skip
    """Write the command that runs methods on one image: the script and its flags."""
    further = _further_flags(request)[setting.task] if further is None else further
    quick = request.quick
    own = setting.quick if quick and setting.quick is not None else setting.flags
    flags = read_flags(shlex.split(own))
    flags |= read_flags(shlex.split(QUICK_SIZE[setting.task] if quick else setting.size))
    flags |= further
    special = [v for m in methods for v in read_flags(shlex.split(m.flags)).get("--set", [])]
    if special:
        flags["--set"] = special
    for method in methods:
        for name in _needs(setting, method):
            flags["--" + name.replace("_", "-")] = [str(request.given[name])]
    command = [f"aseqdip_{setting.task}.py"]
    command += [token for name, values in flags.items() for token in (name, *values)]
    command += ["--quick"] if quick else []
    command += ["--method", ",".join(m.name for m in methods), "--seed", str(seed)]
    command += [] if file is None else ["--data", str(file)]
    return [*command, "--out", str(request.out / "results")]


def read_flags(tokens: list[str]) -> dict[str, list[str]]:
    """Sort the tokens of a command line by the flag that each follows.

    Raises:
        InputError: they do not begin with a flag.
    """
    flags: dict[str, list[str]] = {}
    values: list[str] | None = None
    for token in tokens:
        if token.startswith("--"):
            name, equals, value = token.partition("=")
            values = flags[name.replace("_", "-")] = [value] if equals else []
        else:
            require(values is not None, f"{token}: expected a flag of the task scripts after --")
            values.append(token)
    return flags


def _further_flags(request: Request) -> dict[str, dict[str, list[str]]]:
    """Sort the user's further flags by the tasks whose scripts have them."""
    further = read_flags(list(request.flags))
    own = {f for s in request.settings for f in read_flags(shlex.split(s.flags))}
    tasks = {s.task: _flags_of_script(s.task) if further else set() for s in request.settings}
    for name in further:
        require(
            name not in OWN_FLAGS and name not in own,
            f"{name}: {request.name} sets it, or it stands before the --; after -- come settings of "
            "all runs, such as --width 16",
        )
        require(
            any(name in known for known in tasks.values()),
            f"{name}: no flag of {' or '.join(f'aseqdip_{task}.py' for task in tasks)}; "
            "--help of a script lists those that it has",
        )
    return {
        task: {name: values for name, values in further.items() if name in known}
        for task, known in tasks.items()
    }


def _flags_of_script(task: str) -> set[str]:
    script = importlib.import_module(f"aseqdip_{task}")
    return {"--" + field.name.replace("_", "-") for field in fields(script.Args)}


def _needs(setting: Setting, method: Method) -> list[str]:
    return [name for name in (setting.needs, method.needs) if name is not None]


def _why_not(request: Request, setting: Setting, method: Method) -> str | None:
    """Say why a method cannot run at a setting, None if it can."""
    if method.missing is not None:
        return method.missing
    for name in _needs(setting, method):
        if name not in request.given:
            return NEEDS[name]
    if method.package is not None and importlib.util.find_spec(method.package) is None:
        return f"the package {method.package} is not installed"
    return None


def choose_files(request: Request, dataset: Dataset) -> list[Path | None] | str:
    """Choose the images of a data set: those that data/<name>.txt names, then others by name.

    Returns:
        The files; [None] for the embedded sample; or why there are none.

    Raises:
        InputError: the user's file or folder is not there or holds none.
    """
    data = request.data
    if data is None:
        return [None]
    require(data.exists(), f"--data {data}: no such file or folder")
    datasets = {s.data for s in request.settings}
    if data.is_dir() and any((data / name).is_dir() for d in DATASETS for name in d.folders):
        data = next((data / name for name in dataset.folders if (data / name).is_dir()), None)
        if data is None:
            return f"needs data: no folder {' or '.join(dataset.folders)} in {request.data}"
    else:
        require(
            len(datasets) == 1,
            f"--data {data}: {request.name} needs several kinds of data; expected a folder that "
            "holds folders " + ", ".join(sorted(d.folders[0] for d in datasets)),
        )
    files = [f for f in files_of(data, dataset.suffixes, dataset.takes) if f.name[0] != "."]
    require(bool(files), f"{data}: a folder without {', '.join(dataset.suffixes)} files")
    if not data.is_dir():
        return files
    ids = _named_ids(dataset)[: request.images]
    of_id = {name: [file for file in files if name in (file.stem, file.name)] for name in ids}
    named = [file for found in of_id.values() for file in found]
    chosen = (named + [file for file in files if file not in named])[: request.images]
    lacking = [name for name, found in of_id.items() if not found]
    if lacking:
        names = ", ".join(lacking[:NAMED]) + (", ..." if len(lacking) > NAMED else "")
        print(
            f"{data}: {len(lacking)} of the {len(ids)} images that data/{dataset.name}.txt names are "
            f"not there ({names}); taken are " + ", ".join(file.name for file in chosen[:NAMED])
            + (", ..." if len(chosen) > NAMED else "")
        )  # fmt: skip
    return chosen


def _named_ids(dataset: Dataset) -> list[str]:
    """Read data/<name>.txt: a file's name on each line, with or without suffix; # comments."""
    path = ROOT / "data" / f"{dataset.name}.txt"
    if not path.exists():
        return []
    lines = (line.partition("#")[0].split() for line in path.read_text().splitlines())
    return [words[0] for words in lines if words]


def _code_hash(task: str) -> str:
    """Hash the files that hold the defaults of a task's methods."""
    files = [ROOT / f"aseqdip_{task}.py", *sorted((ROOT / "baselines").glob("*.py"))]
    return content_hash(*(file.read_text() for file in files))


def _file_state(path: Path) -> str:
    """Describe the state of a file, or of those of a folder, without reading them."""
    files = sorted(f for f in path.iterdir() if f.is_file()) if path.is_dir() else [path]
    states = ((f, f.stat()) for f in files)
    return " ".join(f"{f} {s.st_size} {s.st_mtime_ns}" for f, s in states)
