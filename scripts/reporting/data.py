"""What a report is made of: plans, runs and their figures, read from one folder of results.

Nothing here is computed anew: figures come from metrics.json, settings and versions from
config.json, curves from log.csv.
"""

import csv
import json
import math
import re
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from utils.files import reason

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


class Unreadable(ValueError):
    """A file that is not what its name says; the message is one line."""


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
        number: of the paper's table that it rebuilds, None for none.
        note: what else a reader must know.
        data_sets: setting -> name of the data set that the paper took.
        images: how many the paper took, None if it is not known what is rebuilt.
        panels: charts of a figure over the updates, title -> label -> setting and method.
        picture: the figure that the launcher drew of them, below the folder of results.
    """

    name: str
    title: str
    settings: dict[str, str]
    methods: dict[str, str]
    cells: list[Cell]
    number: int | None = None
    note: str = ""
    data_sets: dict[str, str] = field(default_factory=dict)
    images: int | None = None
    panels: dict[str, dict[str, tuple[str, str]]] = field(default_factory=dict)
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


@dataclass
class Material:
    """All that a report shows.

    Attributes:
        tables: in the order of their names, or of the tasks.
        problems: what could not be read, a line each.
        unplanned: how many finished runs belong to no plan, where there are plans.
        drawings: figures of scripts that are no tables, in the order of their names.
    """

    tables: list[Table]
    problems: list[str]
    unplanned: int = 0
    drawings: list[Drawing] = field(default_factory=list)


@dataclass(frozen=True)
class Summary:
    """A mean over images; of an image with several seeds the mean over them counts.

    Attributes:
        mean: infinite if any image has no error at all.
        std: standard deviation between images (n - 1), None for one image.
        n: images.
    """

    mean: float
    std: float | None
    n: int


def summarise(values: Iterable[tuple[str, float | None]]) -> Summary | None:
    """Average figures over images.

    Args:
        values: image and figure of each run; None where there is no truth.

    Returns:
        None without a single figure.
    """
    of_image: dict[str, list[float]] = {}
    for item, value in values:
        if value is not None:
            of_image.setdefault(item, []).append(value)
    if not of_image:
        return None
    means = [math.fsum(v) / len(v) for v in of_image.values()]
    mean = math.fsum(means) / len(means)
    several = len(means) > 1 and math.isfinite(mean)
    return Summary(mean, statistics.stdev(means) if several else None, len(means))


# Reading -------------------------------------------------------------------------------------


def read_json(path: Path) -> dict[str, Any]:
    """Read an object from a JSON file.

    Raises:
        Unreadable: it is missing, damaged, or holds no object, or a NaN, which JSON has not.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"it holds {constant}")

    try:
        found = json.loads(path.read_bytes(), parse_constant=refuse)
    except FileNotFoundError as error:
        raise Unreadable("missing") from error
    except (OSError, ValueError, RecursionError) as error:
        raise Unreadable(f"damaged ({reason(error)})") from error
    if not isinstance(found, dict):
        raise Unreadable(f"damaged (expected an object, got {type(found).__name__})")
    return found


def read_run(folder: Path, problems: list[str], root: Path) -> Run | None:
    """Read a finished run.

    Args:
        folder: its run folder.
        problems: gets a line for each damaged file.
        root: folder of results, for the names in these lines.

    Returns:
        None if metrics.json is damaged or not a run's.
    """
    name = folder.relative_to(root) if folder.is_relative_to(root) else folder
    try:
        metrics = read_json(folder / "metrics.json")
        for key in ("task", "method", "item", "device"):
            if not isinstance(metrics.get(key), str):
                raise Unreadable(f"not a run's (`{key}` is {metrics.get(key)!r})")
        for key, value in metrics.items():
            a_figure = key in ("seconds", "steps") or key.startswith(("psnr", "ssim", "step_"))
            if a_figure and (isinstance(value, bool) or not isinstance(value, int | float | None)):
                raise Unreadable(f"not a run's (`{key}` is {value!r})")
        if metrics.get("seconds") is None:
            raise Unreadable("not a run's (no `seconds`)")
    except Unreadable as error:
        problems.append(f"{name / 'metrics.json'}: {error}")
        return None
    try:
        config = read_json(folder / "config.json")
        for key in ("settings", "flags", "versions"):
            if not isinstance(config.get(key), dict):
                raise Unreadable(f"not a run's (`{key}` is {config.get(key)!r})")
    except Unreadable as error:
        problems.append(f"{name / 'config.json'}: {error}")
        config = {}
    try:
        curve = read_curve(folder / "log.csv")
    except Unreadable as error:
        problems.append(f"{name / 'log.csv'}: {error}")
        curve = {}
    return Run(folder, metrics, config, curve)


def read_curve(path: Path) -> dict[int, float]:
    """Read the PSNR over the weight updates from a log, {} where there is none.

    Raises:
        Unreadable: the log is damaged.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [
                (int(row["step"]), float(row["psnr"]))
                for row in csv.DictReader(file, strict=True)
                if row.get("psnr")
            ]
    except FileNotFoundError:  # of a method that does not iterate
        return {}
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        raise Unreadable(f"damaged ({reason(error)})") from error
    return {step: psnr for step, psnr in rows if math.isfinite(psnr)}


def read_material(root: Path) -> Material:
    """Read all plans and runs of a folder of results.

    Args:
        root: `--out` of the launcher: holds plan/ and results/.
    """
    problems: list[str] = []
    tables = []
    plans = sorted((root / "plan").glob("*.json"))
    for path in plans:
        try:
            tables.append(_read_plan(path, root, problems))
        except Unreadable as error:
            problems.append(f"{path.relative_to(root)}: {error}")
    drawings = [
        _read_drawing(path, root, problems) for path in sorted((root / "figures").glob("*/*.png"))
    ]
    if not plans:
        return Material(_tables_without_plan(root, problems), problems, 0, drawings)
    planned = {run.folder.resolve() for table in tables for run in table.runs()}
    finished = {f.resolve() for f in _run_folders(root) if (f / "metrics.json").exists()}
    return Material(tables, problems, len(finished - planned), drawings)


def _read_drawing(path: Path, root: Path, problems: list[str]) -> Drawing:
    tables, notes, settings = {}, [], {}
    for table in sorted(path.parent.glob("*.csv")):
        try:
            with open(table, newline="", encoding="utf-8") as file:
                tables[table.stem] = list(csv.reader(file, strict=True))
        except (OSError, ValueError, csv.Error) as error:
            problems.append(f"{table.relative_to(root)}: damaged ({reason(error)})")
    try:
        lines = (path.parent / "notes.md").read_text(encoding="utf-8").splitlines()
        notes = [line.removeprefix("- ") for line in lines if line]
    except (OSError, ValueError) as error:
        problems.append(f"{(path.parent / 'notes.md').relative_to(root)}: {reason(error)}")
    try:
        settings = read_json(path.parent / "settings.json")
    except Unreadable as error:
        problems.append(f"{(path.parent / 'settings.json').relative_to(root)}: {error}")
    words = {key: str(settings.get(key) or "") for key in ("command", "commit")}
    return Drawing(path, notes, tables, **words)


def _read_plan(path: Path, root: Path, problems: list[str]) -> Table:
    plan = read_json(path)
    try:
        name, figure = str(plan["table"]), plan.get("figure") or {}
        drawn = figure.get("file")
        number = re.match(r"table(\d+)", name)
        table = Table(
            name=name,
            title=str(plan["title"]),
            settings={str(s["name"]): str(s["label"]) for s in plan["settings"]},
            methods={str(m["name"]): str(m["label"]) for m in plan["methods"]},
            cells=[_read_cell(cell, root, problems) for cell in plan["cells"]],
            number=int(number[1]) if number and not figure else None,
            note=str(plan["note"]),
            data_sets={str(s["name"]): str(s["data"]) for s in plan["settings"]},
            images=int(plan["paper_images"]),
            panels={
                str(panel["title"]): {
                    str(c["label"]): (str(c["setting"]), str(c["method"])) for c in panel["curves"]
                }
                for panel in figure.get("panels", [])
            },
            picture=str(drawn) if drawn and (root / drawn).is_file() else None,
        )
        for cell in table.cells:
            if cell.setting not in table.settings or cell.method not in table.methods:
                raise ValueError(f"{cell.id}: its setting or method is not among those listed")
        return table
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unreadable(
            f"not a plan ({type(error).__name__}: {reason(error)}); the same command of its script "
            "writes it anew, finished runs are kept"
        ) from error


def _read_cell(planned: dict[str, Any], root: Path, problems: list[str]) -> Cell:
    cell = Cell(
        id=str(planned["id"]),
        setting=str(planned["setting"]),
        method=str(planned["method"]),
        item=str(planned["item"]),
        seed=int(planned["seed"]),
        command=[str(word) for word in planned["command"] or []],
        state=planned["state"],
        why=planned.get("why"),
        log=planned.get("log"),
    )
    if cell.state not in STATES:
        raise ValueError(f"{cell.id}: state {cell.state!r}")
    # The run folder decides: a launcher can be killed before it notes that a run is done.
    folder = None if planned.get("run") is None else root / planned["run"]
    if folder is not None and (folder / "metrics.json").exists():
        cell.run = read_run(folder, problems, root)
        cell.state = "failed" if cell.run is None else "done"
        cell.why = "its metrics.json is damaged" if cell.run is None else None
    elif cell.state == "done":
        cell.state, cell.why = "failed", "the plan has it as done, but its metrics.json is missing"
        problems.append(f"{cell.id}: {cell.why}")
    return cell


# Without a plan ------------------------------------------------------------------------------


def _run_folders(root: Path) -> list[Path]:
    """List <task>/<method>/<item>/<run>/ of reconstructions, here or below results/."""
    tasks = [folder / task for folder in (root / "results", root) for task in TASKS]
    folders = [f for task in tasks for f in sorted(task.glob("*/*/*"))]
    others = ("comparison", "ugodit_train")
    return [f for f in folders if f.is_dir() and f.parent.parent.name not in others]


def _tables_without_plan(root: Path, problems: list[str]) -> list[Table]:
    cells: dict[str, list[Cell]] = {}
    for folder in _run_folders(root):
        name = str(folder.relative_to(root))
        task, method, item = folder.parts[-4:-1]
        if (folder / "metrics.json").exists():
            run = read_run(folder, problems, root)
            if run is not None:
                seed = run.settings.get("seed", 0)
                setting = setting_of(run)
                cells.setdefault(task, []).append(Cell(name, setting, method, item, seed, run=run))
        else:
            problems.append(f"{name}: no metrics.json, so the run is not finished")
    tables = []
    for task, label in TASKS.items():
        if task in cells:
            methods = _tell_configurations_apart(cells[task])
            settings = sorted({c.setting for c in cells[task]}, key=_natural)
            named = {setting: setting_label(setting) for setting in settings}
            tables.append(Table(task, label, named, methods, cells[task], number=2))
    return tables


def _tell_configurations_apart(cells: list[Cell]) -> dict[str, str]:
    """Give each configuration of a method a row of its own, so that no mean mixes them.

    Args:
        cells: those of one task. Their methods become `method | what differs` where runs of one
            method have several configurations.

    Returns:
        method -> label, aSeqDIP first.
    """

    def decisive(run: Run) -> dict[str, Any]:
        """Return the settings that make a configuration; a method's own go before the script's."""
        settings = dict(run.settings)
        settings |= settings.pop("hyperparameters", {})
        return {key: value for key, value in settings.items() if key not in NOT_CONFIGURATION}

    methods: dict[str, str] = {}
    names = sorted({c.method for c in cells}, key=lambda m: (not m.startswith("aseqdip"), m))
    for name in names:
        mine = [c for c in cells if c.method == name]
        settings = [decisive(c.run) for c in mine]
        differing = sorted(
            key
            for key in {k for s in settings for k in s}
            if len({json.dumps(s.get(key), sort_keys=True) for s in settings}) > 1
        )
        for cell, own in zip(mine, settings, strict=True):
            values = ", ".join(f"{key} {own.get(key)}" for key in differing)
            cell.method = f"{name} | {values}" if values else name
            methods[cell.method] = f"{name} ({values})" if values else name
    return methods


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
