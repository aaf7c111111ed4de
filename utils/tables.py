"""Means over images, and Markdown tables: every script that averages or prints a table uses these."""

import csv
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Summary:
    """A mean over images.

    Attributes:
        mean: not finite if the figure of any image is not.
        std: standard deviation between images (n - 1), None for one image.
        n: images.
    """

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class Curve:
    """A mean over images of PSNR over the weight updates.

    Attributes:
        steps: weight updates that all runs logged, (n,), n >= 1.
        mean, std: dB over images, (n,); std is 0 for one image.
        images: how many.
    """

    steps: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    images: int

    @property
    def best(self) -> int:
        """The index of the highest mean."""
        return int(self.mean.argmax())


def mean_over_images(values: Iterable[tuple[Any, float | None]]) -> Summary | None:
    """Average the seeds of each image first, then the images.

    Args:
        values: image and figure of each run; None where there is no truth.

    Returns:
        None without a single figure.
    """
    of_image: dict[Any, list[float]] = {}
    for image, value in values:
        if value is not None:
            of_image.setdefault(image, []).append(value)
    if not of_image:
        return None
    means = [math.fsum(seeds) / len(seeds) for seeds in of_image.values()]
    mean = math.fsum(means) / len(means)
    several = len(means) > 1 and math.isfinite(mean)
    return Summary(mean, statistics.stdev(means, mean) if several else None, len(means))


def mean_curve(logs: Iterable[tuple[Any, dict[int, float]]]) -> Curve | None:
    """Average logs at the weight updates that all of them have, as mean_over_images does.

    Methods that stop by themselves end at different updates. The curve ends with the first of
    them, since after it the images would be others.

    Args:
        logs: image and log (weight updates -> PSNR in dB) of each run; empty logs do not count.

    Returns:
        None without a log, or without an update that all of them have.
    """
    logs = [(image, log) for image, log in logs if log]
    steps = sorted(set.intersection(*(set(log) for _, log in logs))) if logs else []
    if not steps:
        return None
    found = [mean_over_images((image, log[step]) for image, log in logs) for step in steps]
    mean, std = [s.mean for s in found], [s.std or 0.0 for s in found]
    return Curve(np.array(steps), np.array(mean), np.array(std), found[0].n)


def read_psnr(path: Path) -> dict[int, float]:
    """Read the PSNR over the weight updates from a log.csv.

    Returns:
        Weight updates -> dB where it is finite; {} of a run without a log or a truth. Step 0, the
        image before any update, is left out.

    Raises:
        ValueError, TypeError, KeyError, csv.Error: the log is damaged.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file, strict=True) if row.get("psnr")]
    except FileNotFoundError:  # of a method that does not iterate
        return {}
    log = {int(row["step"]): float(row["psnr"]) for row in rows}
    return {step: psnr for step, psnr in log.items() if step > 0 and math.isfinite(psnr)}


def shown(value: float | None, digits: int) -> str:
    """Write a figure for people; a dash where there is none, or none that is finite."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Write a Markdown table whose columns line up on a console.

    Args:
        head: the names of the columns.
        rows: as many cells each; None for an empty one.

    Returns:
        Its lines, each with its line feed. A `|` in a cell is escaped, a line feed becomes a space.
    """

    def text(cell: object) -> str:
        return "" if cell is None else str(cell).replace("|", "\\|").replace("\n", " ")

    lines = [[text(cell) for cell in line] for line in (head, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |\n"
        for line in lines
    )
