"""Finished runs as lines of one CSV file, docs/runs.csv, from which docs/results.md is made."""

import csv
import io
import math
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from baselines import ASEQDIP
from baselines import NAMES as METHODS
from scripts.reporting.data import DAMAGED, TASKS, Material, Run, setting_of
from utils.errors import InputError
from utils.files import encoded, reason, write_atomically

NAMES = ("psnr", "psnr_hole", "psnr_frame", "ssim")  # dB but ssim
IMAGES = ("input", "unfinished", "final")  # direct, before the last step, the result
FIGURES = tuple(f"{name}_{image}" for image in IMAGES for name in NAMES)
KEY = ("variant", "task", "item", "setting", "method", "seed")  # of a line
FACTS = ("width", "precision", "device", "torch", "commit", "command")
COLUMNS = (*KEY, *FIGURES, "seconds", "steps", *FACTS)
FOLDERS = ("--out", "--run")  # flags that say where a run is, and nothing of what it is


@dataclass(frozen=True)
class Record:
    """What is kept of a finished run."""

    variant: str  # best, paper, public, ...
    task: str
    item: str  # which image
    setting: str  # views=18
    method: str
    seed: int  # of the weights
    figures: dict[str, float]  # of FIGURES, those that are finite
    seconds: float
    steps: int | None  # weight updates, 0 of a method without, None where it is not known
    facts: dict[str, str]  # of FACTS

    @property
    def key(self) -> tuple[str, ...]:
        """What tells this run from all others."""
        return (*(getattr(self, name) for name in KEY[:-1]), str(self.seed))

    def figure(self, name: str, image: str) -> float | None:
        """Return a figure of one image, None without one that is finite."""
        return self.figures.get(f"{name}_{image}")


def of_run(variant: str, run: Run) -> Record:
    """Keep of a run what the tables need; its result is the image of its rule of stopping."""
    metrics, settings = run.metrics, run.settings
    found = {
        f"{name}_{image}": run.figure(f"{name}_{run.image if image == 'final' else image}")
        for name in NAMES
        for image in IMAGES
    }
    facts = {
        "width": settings.get("width", ""),
        "precision": settings.get("precision", ""),
        "device": metrics["device"],
        "torch": run.config.get("versions", {}).get("torch", ""),
        "commit": str(run.config.get("commit") or "")[:12]
        + (" and changes" if run.config.get("dirty") else ""),
        "command": without_folders(run.config.get("command", "")),
    }
    return Record(
        variant, metrics["task"], metrics["item"], setting_of(run), metrics["method"],
        run.seed,
        {key: v for key, v in found.items() if v is not None and math.isfinite(v)},
        metrics["seconds"], metrics.get("steps"), {key: str(v) for key, v in facts.items()},
    )  # fmt: skip


def of_folder(out: Path) -> list[Record]:
    """Read the finished runs below OUT/VARIANT/, those of scripts/best.sh.

    Raises:
        InputError: two runs differ in what tells no runs apart, such as the number of updates.
    """
    found: dict[tuple[str, ...], tuple[Run, Record]] = {}
    for variant in sorted(folder for folder in out.iterdir() if folder.is_dir()):
        for run in (run for table in Material(variant).tables for run in table.runs()):
            record = of_run(variant.name, run)
            if record.key in found:
                raise InputError(
                    f"{run.folder} and {found[record.key][0].folder}: two runs of one method on "
                    "one problem with one seed; delete one, or move it to another variant's folder"
                )
            found[record.key] = run, record
    return [record for _, record in found.values()]


def read(path: Path) -> list[Record]:
    """Read a file that `write` wrote.

    Raises:
        InputError: it is none.
    """
    try:
        text = path.read_text(encoding="utf-8")
        lines = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
        return [_record(line) for line in lines]
    except DAMAGED as error:
        raise InputError(
            f"{path}: expected the CSV file that --record writes, got {reason(error)}"
        ) from error


def _record(line: dict[str, str]) -> Record:
    if line["task"] not in TASKS or line["method"] not in (*ASEQDIP, *METHODS):
        raise ValueError(f"{line['task']}, {line['method']}: no such task or method")
    figures = {name: float(line[name]) for name in FIGURES if line[name]}
    key = [line[name] for name in KEY[:-1]]
    steps = int(line["steps"]) if line["steps"] else None
    facts = {name: line[name] for name in FACTS}
    return Record(*key, int(line["seed"]), figures, float(line["seconds"]), steps, facts)


def write(path: Path, records: Iterable[Record]) -> None:
    """Write records, sorted by what tells them apart."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for record in sorted(records, key=lambda record: record.key):
        figures = [f"{record.figures[n]:.4f}" if n in record.figures else "" for n in FIGURES]
        steps = "" if record.steps is None else record.steps
        facts = [record.facts[name] for name in FACTS]
        writer.writerow((*record.key, *figures, f"{record.seconds:.1f}", steps, *facts))
    write_atomically(path, lambda binary: binary.write(encoded(file.getvalue())))


def merged(old: Iterable[Record], new: Iterable[Record]) -> list[Record]:
    """Join records; a new one takes the place of an old one with its key."""
    return list({record.key: record for record in (*old, *new)}.values())


def without_folders(command: str) -> str:
    """Write a command without the folders of the machine that ran it."""
    words = shlex.split(command)
    for flag in FOLDERS:
        words = [word for word in words if not word.startswith(f"{flag}=")]
        if flag in words:
            del words[words.index(flag) : words.index(flag) + 2]
    return shlex.join(re.sub(r"^(--[\w-]+=)?/(?:.*/)?", r"\1", word) for word in words)
