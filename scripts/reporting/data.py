"""What a report is made of: plans, runs and drawn figures, read from one folder of results.

Nothing here is computed anew: figures come from metrics.json, settings and versions from
config.json, curves from log.csv.
"""

import csv
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from baselines import ASEQDIP, NAMES, find
from utils.files import reason
from utils.tables import read_psnr

TASKS = {  # the last is not of the paper
    "mri": "MRI", "ct": "CT", "denoising": "Denoising", "inpainting": "Inpainting",
    "deblurring": "Deblurring", "superresolution": "Super-resolution",
}  # fmt: skip
STATES = ("done", "failed", "running", "waiting", "not run")
# Of a run's settings, those that tell problems and repetitions apart rather than configurations.
NOT_CONFIGURATION = {
    "accel", "views", "sigma", "mask", "hiar", "missing", "blur", "seed", "data_seed",
    "data_sha256", "sample", "measured", "log_every", "factor", "center_fraction", "photons",
    "pixel_mm",
}  # fmt: skip
DAMAGED = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, csv.Error)


class Unreadable(ValueError):
    """A file that is not what its name says; the message is one line."""


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    metrics: dict[str, Any]  # what metrics.json holds
    config: dict[str, Any]  # what config.json holds, {} if it is missing or damaged
    curve: dict[int, float] = field(default_factory=dict)  # weight updates -> PSNR, of log.csv

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that decide the result, by name."""
        return self.config.get("settings", {})

    @property
    def seed(self) -> int:
        """Of the weights, or of what a sampler draws; 0 of what draws nothing."""
        return self.settings.get("seed", self.metrics.get("hyperparameters", {}).get("seed", 0))

    @property
    def image(self) -> str:
        """The image that is the run's result: the last iterate, or that of the rule of --stop."""
        return "stopped" if "step_stopped" in self.metrics else "final"

    def figure(self, name: str) -> float | None:
        """Return a figure such as psnr_final: None without one, NaN for null, which is not finite."""
        value = self.metrics.get(name)
        return math.nan if value is None and name in self.metrics else value

    def result(self, name: str) -> float | None:
        """Return `psnr`, `ssim` or `misfit` of the run's result, None where it has none."""
        return self.figure(f"{name}_{self.image}")

    def picture(self, name: str) -> Path | None:
        """Return the picture of `truth`, `input` or `result`, None if it was not written."""
        if name == "result":
            name = "reconstruction" if self.image == "final" else f"reconstruction_{self.image}"
        path = self.folder / f"{name}.png"
        return path if path.is_file() else None


@dataclass
class Cell:
    """One run of a table, whatever has become of it."""

    id: str
    setting: str  # its column
    method: str  # its row
    item: str  # which image
    seed: int  # of the weights
    command: list[str] = field(default_factory=list)  # of the task script, [] if not known
    state: str = "done"  # one of STATES
    why: str | None = None  # why it failed or was not run, one line
    log: str | None = None  # a file below the folder of results
    run: Run | None = None  # where the state is `done`


@dataclass
class Table:
    """A table or a figure of the paper, or the runs of one task."""

    name: str  # for links
    title: str  # for people
    settings: dict[str, str]  # name -> label, columns in their order
    methods: dict[str, str]  # name -> label, rows in their order
    cells: list[Cell]
    number: int | None = None  # of the paper's table that stands beside it, None for none
    planned: bool = False  # a plan lists the methods; else they are those that have run
    note: str = ""  # what else a reader must know
    data_sets: dict[str, str] = field(default_factory=dict)  # setting -> that of the paper
    images: int = 20  # how many the paper took, 0 where nothing of it is rebuilt
    picture: str | None = None  # a figure of them that is drawn, below the folder of results

    def at(self, setting: str, method: str) -> list[Cell]:
        """Return the cells of one column and row."""
        return [c for c in self.cells if c.setting == setting and c.method == method]

    def runs(self) -> list[Run]:
        """Return the finished runs."""
        return [cell.run for cell in self.cells if cell.run is not None]

    def count(self, state: str) -> int:
        """Count the cells of a state."""
        return sum(cell.state == state for cell in self.cells)


@dataclass(frozen=True)
class Drawing:
    """A figure that a script drew, with what it wrote beside it."""

    picture: Path  # the .png, in a folder of its own
    notes: list[str]  # what was found, a sentence each
    tables: dict[str, list[list[str]]]  # name -> lines of cells, the head first
    command: str  # "" where not known
    commit: str  # likewise

    @property
    def title(self) -> str:
        """For people: Figure 6, Figure 7 (mri)."""
        name, _, more = self.picture.parent.name.partition("_")
        return name.replace("fig", "Figure ") + (f" ({more})" if more else "")


class Material:
    """All that a report shows, read from a folder of results.

    Attributes:
        tables: in the order of their names; without a plan one for each task.
        problems: what could not be read, a line each.
        unplanned: how many finished runs belong to no plan, where there are plans.
        drawings: figures of scripts that are no tables, in the order of their names.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems: list[str] = []
        plans = sorted((root / "plan").glob("*.json"))
        self.tables = [table for p in plans if (table := self.read(p, self._plan)) is not None]
        self.drawings = [self._drawing(path) for path in sorted(root.glob("figures/*/*.png"))]
        planned = {run.folder.resolve() for table in self.tables for run in table.runs()}
        finished = {f.resolve() for f in self._folders() if (f / "metrics.json").exists()}
        self.unplanned = len(finished - planned) if plans else 0
        if not plans:
            self.tables = self._tables_without_plan()

    def read(self, path: Path, how: Callable[[Path], Any], default: Any = None) -> Any:
        """Read a file; if it is not readable, take note of it and return the default."""
        try:
            return how(path)
        except DAMAGED as error:
            told = str(error) if isinstance(error, Unreadable) else f"damaged ({reason(error)})"
            told = "missing" if isinstance(error, FileNotFoundError) else told
            path = path.relative_to(self.root) if path.is_relative_to(self.root) else path
            self.problems.append(f"{path}: {told}")
            return default

    def run(self, folder: Path) -> Run | None:
        """Read a finished run; None if its metrics.json is damaged or not a run's."""
        metrics = self.read(folder / "metrics.json", _metrics)
        if metrics is None:
            return None
        kinds = {"settings": dict, "flags": dict, "versions": dict}
        config = self.read(folder / "config.json", lambda path: read_json(path, **kinds), {})
        return Run(folder, metrics, config, self.read(folder / "log.csv", read_psnr, {}))

    def _drawing(self, path: Path) -> Drawing:
        folder = path.parent
        tables = {p.stem: self.read(p, _csv, []) for p in sorted(folder.glob("*.csv"))}
        notes = self.read(folder / "notes.md", lambda p: p.read_text(encoding="utf-8"), "")
        notes = [line.removeprefix("- ") for line in notes.splitlines() if line]
        settings = self.read(folder / "settings.json", read_json, {})
        command, commit = (str(settings.get(key) or "") for key in ("command", "commit"))
        return Drawing(path, notes, tables, command, commit)

    def _plan(self, path: Path) -> Table:
        plan = read_json(path)
        try:
            settings, methods = labels(plan)
            drawn = (plan.get("figure") or {}).get("file")
            title, images = str(plan["title"]), plan["paper_images"]
            number = None if images is None else re.match(r"Table (\d+)", title)
            table = Table(
                str(plan["table"]), title, settings, methods,
                [self._cell(cell) for cell in plan["cells"]],
                int(number[1]) if number else None,
                planned=True,
                note=str(plan.get("note") or ""),
                data_sets={str(s["name"]): str(s["data"]) for s in plan["settings"]},
                images=int(images or 0),
                picture=str(drawn) if drawn and (self.root / drawn).is_file() else None,
            )  # fmt: skip
            for cell in table.cells:
                if cell.setting not in settings or cell.method not in methods:
                    raise ValueError(f"{cell.id}: its setting or method is not among those listed")
            return table
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Unreadable(
                f"not a plan ({type(error).__name__}: {reason(error)}); repeat the command of "
                "its script to write it anew; finished runs are kept"
            ) from error

    def _cell(self, planned: dict[str, Any]) -> Cell:
        cell = Cell(
            **{name: str(planned[name]) for name in ("id", "setting", "method", "item")},
            **{name: planned.get(name) for name in ("state", "why", "log")},
            seed=int(planned["seed"]),
            command=[str(word) for word in planned["command"] or []],
        )
        if cell.state not in STATES:
            raise ValueError(f"{cell.id}: state {cell.state!r}")
        # The run folder decides: the runner can be killed before it notes that a run is done.
        folder = None if planned.get("run") is None else self.root / planned["run"]
        if folder is not None and (folder / "metrics.json").exists():
            cell.run = self.run(folder)
            cell.state = "failed" if cell.run is None else "done"
            cell.why = "its metrics.json is damaged" if cell.run is None else None
        elif cell.state == "done":
            cell.state = "failed"
            cell.why = "the plan has it as done, but its metrics.json is missing"
            self.problems.append(f"{cell.id}: {cell.why}")
        return cell

    def _folders(self) -> list[Path]:
        """List <task>/<method>/<item>/<run>/ of reconstructions, here or below results/."""
        tasks = [folder / task for folder in (self.root / "results", self.root) for task in TASKS]
        folders = [f for task in tasks for f in sorted(task.glob("*/*/*"))]
        others = ("comparison", "ugodit_train")
        return [f for f in folders if f.is_dir() and f.parent.parent.name not in others]

    def _tables_without_plan(self) -> list[Table]:
        cells: dict[str, list[Cell]] = {task: [] for task in TASKS}
        for folder in self._folders():
            name = str(folder.relative_to(self.root))
            task, method, item = folder.parts[-4:-1]
            if not (folder / "metrics.json").exists():
                self.problems.append(f"{name}: no metrics.json, so the run is not finished")
            elif (run := self.run(folder)) is not None:
                cells[task].append(Cell(name, setting_of(run), method, item, run.seed, run=run))
        tables = []
        for task, mine in cells.items():
            if mine:
                _tell_problems_apart(mine)
                methods = _tell_configurations_apart(mine)
                settings = sorted({cell.setting for cell in mine}, key=natural)
                named = {setting: setting_label(setting) for setting in settings}
                tables.append(Table(task, TASKS[task], named, methods, mine, number=2))
        return tables


def read_json(path: Path, **kinds: Any) -> dict[str, Any]:
    """Read an object that holds `kinds`, name -> type, from a JSON file.

    Raises:
        One of DAMAGED: it is missing, damaged, or something else.
    """
    found = json.loads(path.read_bytes())
    if not isinstance(found, dict):
        raise ValueError(f"expected an object, got {type(found).__name__}")
    for key, kind in kinds.items():
        if not isinstance(found.get(key), kind):
            raise Unreadable(f"not a run's (`{key}` is {found.get(key)!r})")
    return found


def _metrics(path: Path) -> dict[str, Any]:
    metrics = read_json(path, task=str, method=str, item=str, device=str, seconds=int | float)
    for key, value in metrics.items():
        if key.startswith(("psnr", "ssim", "step", "seconds")) and (
            not isinstance(value, int | float | None) or value != value  # NaN is no figure
        ):
            raise Unreadable(f"not a run's (`{key}` is {value!r})")
    return metrics


def _csv(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text(encoding="utf-8").splitlines(), strict=True))


def _tell_problems_apart(cells: list[Cell]) -> None:
    """Give each problem of an item a setting of its own, so that no mean mixes them.

    Where an item has several of one setting, such as two kinds of mask, all cells of this setting
    say which is theirs: `setting, mask random`. What only its content tells apart is numbered: the
    files beside an image, such as a mask's, over all items, and images of one name.
    """
    for setting in sorted({cell.setting for cell in cells}):
        mine = [cell for cell in cells if cell.setting == setting]
        marks = [_marks(cell) for cell in mine]
        values: dict[tuple[str, str, int], set[Any]] = {}  # of a mark, item and draw
        for cell, of in zip(mine, marks):
            for name, value in of.items():
                key = (name, cell.item, cell.run.settings.get("data_seed", 0))
                values.setdefault(key, set()).add(value)
        differing = sorted({name for (name, *_), found in values.items() if len(found) > 1})
        numbers: dict[tuple[str, ...], dict[Any, int]] = {}  # of what is known by its hash
        for cell, of in zip(mine, marks):
            for name in differing:
                value = of[name]
                if name in ("files", "image"):
                    among = (name, cell.item) if name == "image" else (name,)
                    known = numbers.setdefault(among, {})
                    value = known.setdefault(value, len(known) + 1)
                cell.setting += f", {name} {value}"


def _marks(cell: Cell) -> dict[str, Any]:
    """Return what may tell a run's problem from others of its setting and item."""
    settings = cell.run.settings
    hashes = settings.get("data_sha256") or []
    parts = find(cell.method).parts if cell.method in (*ASEQDIP, *NAMES) else ()
    hashes = hashes[: max(1, len(hashes) - len(parts))]  # without the images it is a mean of
    return {
        "mask": settings.get("mask") or "random",
        "center_fraction": settings.get("center_fraction"),
        "pixel_mm": settings.get("pixel_mm"),
        "image": tuple(hashes[:1]),
        "files": tuple(hashes[1:]),
    }


def _tell_configurations_apart(cells: list[Cell]) -> dict[str, str]:
    """Give each configuration of a method a row of its own, so that no mean mixes them.

    Where runs of a method have several, the cells' method becomes `method | what differs`.

    Returns:
        method -> label, aSeqDIP first.
    """
    methods: dict[str, str] = {}
    unused = {"hyperparameters", *NOT_CONFIGURATION}
    for name in sorted({c.method for c in cells}, key=lambda m: (not m.startswith("aseqdip"), m)):
        mine = [c for c in cells if c.method == name]
        # A method's own settings go before the script's.
        own = [c.run.settings | c.run.settings.get("hyperparameters", {}) for c in mine]
        keys = sorted({key for settings in own for key in settings} - unused)
        differing = [k for k in keys if len({json.dumps(settings.get(k)) for settings in own}) > 1]
        for cell, settings in zip(mine, own):
            values = ", ".join(f"{key} {settings.get(key)}" for key in differing)
            cell.method = f"{name} | {values}" if values else name
            label = find(name).label if name in (*ASEQDIP, *NAMES) else name
            methods[cell.method] = f"{label} ({values})" if values else label
    return methods


def labels(plan: dict[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the settings and the methods of a plan, name -> label each."""
    settings = {str(s["name"]): str(s.get("label") or "") for s in plan["settings"]}
    return (
        {name: label or setting_label(name) for name, label in settings.items()},
        {str(m["name"]): str(m.get("label") or m["name"]) for m in plan["methods"]},
    )


def panels(
    settings: dict[str, str], methods: dict[str, str]
) -> dict[str, dict[str, tuple[str, str]]]:
    """Lay out the curves of a figure over the updates.

    A setting labelled "PANEL / CURVE" gives a curve to that panel, or one for each of several
    methods. Any other setting is a panel of its own with a curve for each method.

    Args:
        settings, methods: name -> label.

    Returns:
        Title of a panel -> label of a curve -> setting, method.
    """
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for setting, label in settings.items():
        panel, slash, curve = label.partition(" / ")
        for method, name in methods.items():
            if slash:
                name = f"{curve}, {name}" if len(methods) > 1 else curve
            found.setdefault(panel, {})[name] = setting, method
    return found


def setting_of(run: Run) -> str:
    """Name a run's setting as the paper's figures are named, from what the run recorded."""
    metrics, settings = run.metrics, run.settings
    if metrics.get("measured"):
        return f"measured, {metrics['views']} views" if "views" in metrics else "measured"
    if metrics["task"] == "deblurring":
        blur = str(metrics.get("blur", "unknown blur")).partition(":")[0]
        blur = "bkse" if blur.startswith("BKSE") else blur
        return f"{blur}, sigma {metrics['sigma']:g}" if metrics.get("sigma") else blur
    mask = metrics.get("mask") or settings.get("mask", "random")  # the settings name no file
    kind = mask if metrics["task"] == "inpainting" else metrics["task"]
    name = {
        "mri": "accel", "ct": "views", "denoising": "sigma", "superresolution": "factor",
        "box": "hiar", "random": "missing",
    }.get(kind)  # fmt: skip
    if name is None or mask not in ("box", "random", "equispaced"):
        return "mask from a file"
    value = metrics.get(name, settings.get(name))
    noise = f", {metrics['photons']:.0f} photons" if metrics.get("photons") else ""
    return (f"{name}={value:g}" if isinstance(value, int | float) else f"{name} unknown") + noise


def setting_label(setting: str) -> str:
    """Write a setting's name for people."""
    name, equals, value = setting.partition("=")
    if not equals:
        setting += ", no truth" if setting.startswith("measured") else ""
        return f"BKSE blur{setting.removeprefix('bkse')}" if setting.startswith("bkse") else setting
    value, comma, noise = value.partition(", ")
    label = {
        "accel": f"{value}x", "views": f"{value} views", "sigma": f"sigma {value}",
        "hiar": f"HIAR {value}", "missing": f"{value} missing", "factor": f"factor {value}",
    }.get(name, f"{name}={value}")  # fmt: skip
    return label + comma + noise


def natural(text: str) -> tuple[str | float, ...]:
    """Return what sorts texts by the numbers in them."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)
    return tuple(float(part) if k % 2 else part for k, part in enumerate(parts))
