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

from utils.files import reason
from utils.tables import read_psnr

TASKS = {
    "mri": "MRI",
    "ct": "CT",
    "denoising": "Denoising",
    "inpainting": "Inpainting",
    "deblurring": "Deblurring",
    "superresolution": "Super-resolution",  # not of the paper
}
STATES = ("done", "failed", "running", "waiting", "not run")
# Of a run's settings, those that tell problems and repetitions apart rather than configurations.
NOT_CONFIGURATION = {
    "accel", "views", "sigma", "mask", "hiar", "missing", "blur", "seed", "data_seed",
    "data_sha256", "sample", "measured", "log_every", "factor",
}  # fmt: skip
Panels = dict[str, dict[str, tuple[str, str]]]  # title -> label of a curve -> setting, method


class Unreadable(ValueError):
    """A file that is not what its name says; the message is one line."""


DAMAGED = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, csv.Error)


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: its run folder.
        metrics: what metrics.json holds.
        config: what config.json holds, {} if it is missing or damaged.
        curve: weight updates -> PSNR from log.csv, {} if there is none or it is damaged.
    """

    folder: Path
    metrics: dict[str, Any]
    config: dict[str, Any]
    curve: dict[int, float] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that decide the result, by name."""
        return self.config.get("settings", {})

    @property
    def image(self) -> str:
        """The image that is the run's result: the last iterate, or that of the rule of --stop."""
        return "stopped" if "step_stopped" in self.metrics else "final"

    def figure(self, name: str) -> float | None:
        """Return a figure such as psnr_final, infinite where it is recorded as null; else None."""
        if name not in self.metrics:
            return None
        value = self.metrics[name]
        return math.inf if value is None else value

    def result(self, name: str) -> float | None:
        """Return `psnr` or `ssim` of the run's result, None without a truth."""
        return self.figure(f"{name}_{self.image}")

    def picture(self, name: str) -> Path | None:
        """Return the picture of `truth`, `input` or `result`, None if it was not written."""
        if name == "result":
            name = "reconstruction" if self.image == "final" else f"reconstruction_{self.image}"
        path = self.folder / f"{name}.png"
        return path if path.is_file() else None


@dataclass
class Cell:
    """One run of a table, whatever has become of it.

    Attributes:
        id: its name.
        setting, method: its column and row.
        item, seed: which image, which seed of the weights.
        command: the task script's command line, [] if not known.
        state: one of STATES.
        why: why it failed or was not run, one line.
        log: its log file below the folder of results.
        run: the finished run where the state is `done`.
    """

    id: str
    setting: str
    method: str
    item: str
    seed: int
    command: list[str] = field(default_factory=list)
    state: str = "done"
    why: str | None = None
    log: str | None = None
    run: Run | None = None


@dataclass
class Table:
    """A table or a figure of the paper, or the runs of one task.

    Attributes:
        name: for links.
        title: for people.
        settings, methods: name -> label, columns and rows in their order.
        cells: its runs.
        number: of the paper's table that it rebuilds, or stands beside; None for none.
        planned: whether a plan lists the methods; else they are those of the runs that are there.
        note: what else a reader must know.
        data_sets: setting -> name of the data set that the paper took.
        images: how many the paper took, 0 where nothing of it is rebuilt.
        picture: the figure that the launcher drew of them, below the folder of results.
    """

    name: str
    title: str
    settings: dict[str, str]
    methods: dict[str, str]
    cells: list[Cell]
    number: int | None = None
    planned: bool = False
    note: str = ""
    data_sets: dict[str, str] = field(default_factory=dict)
    images: int = 20
    picture: str | None = None

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
    """A figure that a script drew, with what it wrote beside it.

    Attributes:
        picture: the .png, in a folder of its own.
        notes: what was found, a sentence each.
        tables: its tables, name -> lines of cells, the head first.
        command, commit: behind it, "" where not known.
    """

    picture: Path
    notes: list[str]
    tables: dict[str, list[list[str]]]
    command: str
    commit: str

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
        """Read all plans, runs and drawings.

        Args:
            root: `--out` of the launcher: holds plan/, results/ and figures/.
        """
        self.root = root
        self.problems: list[str] = []
        plans = sorted((root / "plan").glob("*.json"))
        self.tables = [table for p in plans if (table := self.read(p, self._plan)) is not None]
        self.drawings = [self._drawing(path) for path in sorted(root.glob("figures/*/*.png"))]
        self.unplanned = 0
        if plans:
            planned = {run.folder.resolve() for table in self.tables for run in table.runs()}
            finished = {f.resolve() for f in self._folders() if (f / "metrics.json").exists()}
            self.unplanned = len(finished - planned)
        else:
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
        config = self.read(folder / "config.json", _config, {})
        return Run(folder, metrics, config, self.read(folder / "log.csv", read_psnr, {}))

    def _drawing(self, path: Path) -> Drawing:
        folder = path.parent
        tables = {p.stem: self.read(p, _csv, []) for p in sorted(folder.glob("*.csv"))}
        notes = self.read(folder / "notes.md", lambda p: p.read_text(encoding="utf-8"), "")
        settings = self.read(folder / "settings.json", read_json, {})
        return Drawing(
            path,
            [line.removeprefix("- ") for line in notes.splitlines() if line],
            tables,
            *(str(settings.get(key) or "") for key in ("command", "commit")),
        )

    def _plan(self, path: Path) -> Table:
        plan = read_json(path)
        try:
            settings, methods = labels(plan)
            drawn = (plan.get("figure") or {}).get("file")
            title, images = str(plan["title"]), plan["paper_images"]
            number = None if images is None else re.match(r"Table (\d+)", title)
            table = Table(
                name=str(plan["table"]),
                title=title,
                settings=settings,
                methods=methods,
                cells=[self._cell(cell) for cell in plan["cells"]],
                number=int(number[1]) if number else None,
                planned=True,
                note=str(plan.get("note") or ""),
                data_sets={str(s["name"]): str(s["data"]) for s in plan["settings"]},
                images=int(images or 0),
                picture=str(drawn) if drawn and (self.root / drawn).is_file() else None,
            )
            for cell in table.cells:
                if cell.setting not in settings or cell.method not in methods:
                    raise ValueError(f"{cell.id}: its setting or method is not among those listed")
            return table
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Unreadable(
                f"not a plan ({type(error).__name__}: {reason(error)}); the same command of its "
                "script writes it anew, finished runs are kept"
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
        # The run folder decides: a launcher can be killed before it notes that a run is done.
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
                seed = run.settings.get("seed", 0)
                cells[task].append(Cell(name, setting_of(run), method, item, seed, run=run))
        tables = []
        for task, mine in cells.items():
            if mine:
                methods = _tell_configurations_apart(mine)
                settings = sorted({cell.setting for cell in mine}, key=_natural)
                named = {setting: setting_label(setting) for setting in settings}
                tables.append(Table(task, TASKS[task], named, methods, mine, number=2))
        return tables


def read_json(path: Path) -> dict[str, Any]:
    """Read an object from a JSON file.

    Raises:
        One of DAMAGED: it is missing, damaged, or holds no object, or a NaN, which JSON has not.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"it holds {constant}")

    found = json.loads(path.read_bytes(), parse_constant=refuse)
    if not isinstance(found, dict):
        raise ValueError(f"expected an object, got {type(found).__name__}")
    return found


def _metrics(path: Path) -> dict[str, Any]:
    metrics = read_json(path)
    for key in ("task", "method", "item", "device"):
        if not isinstance(metrics.get(key), str):
            raise Unreadable(f"not a run's (`{key}` is {metrics.get(key)!r})")
    for key, value in {"seconds": None, **metrics}.items():
        a_figure = key in ("seconds", "steps") or key.startswith(("psnr", "ssim", "step_"))
        allowed = int | float if key == "seconds" else int | float | None
        if a_figure and (isinstance(value, bool) or not isinstance(value, allowed)):
            raise Unreadable(f"not a run's (`{key}` is {value!r})")
    return metrics


def _config(path: Path) -> dict[str, Any]:
    config = read_json(path)
    for key in ("settings", "flags", "versions"):
        if not isinstance(config.get(key), dict):
            raise Unreadable(f"not a run's (`{key}` is {config.get(key)!r})")
    return config


def _csv(path: Path) -> list[list[str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file, strict=True))


def _tell_configurations_apart(cells: list[Cell]) -> dict[str, str]:
    """Give each configuration of a method a row of its own, so that no mean mixes them.

    Args:
        cells: those of one task. Their methods become `method | what differs` where runs of one
            method have several configurations.

    Returns:
        method -> label, aSeqDIP first.
    """
    methods: dict[str, str] = {}
    for name in sorted({c.method for c in cells}, key=lambda m: (not m.startswith("aseqdip"), m)):
        mine = [c for c in cells if c.method == name]
        own = []
        for cell in mine:  # a method's own settings go before the script's
            settings = cell.run.settings | cell.run.settings.get("hyperparameters", {})
            unused = {"hyperparameters", *NOT_CONFIGURATION}
            own.append({k: v for k, v in settings.items() if k not in unused})
        differing = sorted(
            key
            for key in {key for settings in own for key in settings}
            if len({json.dumps(settings.get(key), sort_keys=True) for settings in own}) > 1
        )
        for cell, settings in zip(mine, own):
            values = ", ".join(f"{key} {settings.get(key)}" for key in differing)
            cell.method = f"{name} | {values}" if values else name
            methods[cell.method] = f"{name} ({values})" if values else name
    return methods


def labels(plan: dict[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the settings and the methods of a plan, name -> label each."""
    settings = {str(s["name"]): str(s.get("label") or "") for s in plan["settings"]}
    return (
        {name: label or setting_label(name) for name, label in settings.items()},
        {str(m["name"]): str(m.get("label") or m["name"]) for m in plan["methods"]},
    )


def panels(settings: dict[str, str], methods: dict[str, str]) -> Panels:
    """Lay out the curves of a figure over the updates.

    A setting labelled "PANEL / CURVE" gives a curve to that panel, or one for each of several
    methods. Any other setting is a panel of its own with a curve for each method.

    Args:
        settings, methods: name -> label.
    """
    found: Panels = {}
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
    task = metrics["task"]
    if metrics.get("measured"):
        return "measured"
    if task == "deblurring":
        blur = str(metrics.get("blur", "unknown blur")).partition(":")[0]
        return "bkse" if blur.startswith("BKSE") else blur
    if task == "inpainting":
        mask = settings.get("mask")
        if mask not in ("box", "random"):
            return "mask from a file"
        name = "hiar" if mask == "box" else "missing"
    else:
        name = {
            "mri": "accel", "ct": "views", "denoising": "sigma", "superresolution": "factor",
        }[task]  # fmt: skip
    value = metrics.get(name, settings.get(name))
    return f"{name}={value:g}" if isinstance(value, int | float) else f"{name} unknown"


def setting_label(setting: str) -> str:
    """Write a setting's name for people."""
    name, equals, value = setting.partition("=")
    if not equals:
        return {"bkse": "BKSE blur", "measured": "measured, no truth"}.get(setting, setting)
    return {
        "accel": f"{value}x", "views": f"{value} views", "sigma": f"sigma {value}",
        "hiar": f"HIAR {value}", "missing": f"{value} missing", "factor": f"factor {value}",
    }.get(name, setting)  # fmt: skip


def _natural(text: str) -> tuple[str, float]:
    number = re.search(r"[\d.]+$", text)
    return (text[: number.start()], float(number[0])) if number else (text, 0.0)
