"""Draw a figure of PSNR over the weight updates from the logs of a plan's finished cells.

Each curve is the mean over images of one method at one setting, with a band of one standard
deviation. Seeds of one image are averaged first. A vertical line marks the highest mean: from there
on the curve falls. It is seen by the truth only, as all of the curve, so no method stops there.

    python scripts/plot_steps.py results/plan/fig4.json
"""

import argparse
import csv
import json
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Run from anywhere: the repository's modules can be imported only after this.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from utils.errors import InputError, exit_status, require
from utils.figures import DPI, STYLES
from utils.files import write_atomically

COLOURS = ("tab:orange", "tab:purple", "tab:brown", "tab:pink", "tab:olive", "tab:cyan")


@dataclass
class MeanCurve:
    """The mean of several runs' logs.

    Args:
        steps: weight updates that all of them logged, (n,).
        mean, std: PSNR in dB over images, (n,); std is 0 for one image.
        images: how many.
    """

    steps: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    images: int


def read_log(path: Path) -> dict[int, float]:
    """Return the PSNR of a log.csv by weight update; step 0, the input, is left out."""
    with open(path, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("psnr")]
    return {int(row["step"]): float(row["psnr"]) for row in rows if row["step"] != "0"}


def mean_curve(logs: dict[str, list[dict[int, float]]]) -> MeanCurve:
    """Average logs, those of one image first.

    Methods that stop by themselves end at different updates: the mean ends with the first, since
    after it the images would be others.

    Args:
        logs: image -> the logs of its runs.
    """
    every = [log for group in logs.values() for log in group]
    steps = np.array(sorted(set.intersection(*(set(log) for log in every))), dtype=int)
    psnr = np.array(
        [np.mean([[log[k] for k in steps] for log in group], axis=0) for group in logs.values()]
    )
    std = psnr.std(axis=0, ddof=1) if len(psnr) > 1 else np.zeros(len(steps))
    return MeanCurve(steps, psnr.mean(axis=0), std, len(psnr))


def collect(plan: dict[str, Any], out: Path, curve: dict[str, str]) -> MeanCurve | None:
    """Average what is done of one curve; None if nothing is, or its runs share no logged step."""
    logs: dict[str, list[dict[int, float]]] = defaultdict(list)
    for cell in plan["cells"]:
        mine = (cell["setting"], cell["method"]) == (curve["setting"], curve["method"])
        if mine and cell["state"] == "done":
            log = read_log(out / cell["run"] / "log.csv")
            if log:  # none of measured data
                logs[cell["item"]].append(log)
    found = mean_curve(logs) if logs else None
    return found if found is not None and len(found.steps) else None


def size_of(plan: dict[str, Any], out: Path, settings: set[str]) -> str:
    """Write the sizes of the finished images of some settings, as 512x512."""
    sizes = {
        np.load(out / cell["run"] / "reconstruction.npy", mmap_mode="r").shape[:2]
        for cell in plan["cells"]
        if cell["state"] == "done" and cell["setting"] in settings
    }
    shown = [f"{height}x{width}" for height, width in sorted(sizes)]
    return shown[0] if len(shown) == 1 else f"{shown[0]} to {shown[-1]}"


def draw(axis: Axes, curves: dict[str, MeanCurve], title: str) -> None:
    """Draw a panel's curves."""
    colours = iter(COLOURS)
    for label, curve in curves.items():
        style = STYLES.get(label) or {"color": next(colours), "lw": 1.5}
        best = int(curve.mean.argmax())
        axis.plot(curve.steps, curve.mean, label=f"{label}, {curve.mean[-1]:.2f} dB", **style)
        if curve.images > 1:
            low, high = curve.mean - curve.std, curve.mean + curve.std
            axis.fill_between(curve.steps, low, high, color=style["color"], alpha=0.12, lw=0)
        axis.axvline(curve.steps[best], color=style["color"], ls=style.get("ls", "-"), lw=0.6)
    top = max(curve.mean.max() for curve in curves.values())
    bottom = min(curve.mean.min() for curve in curves.values())
    axis.set_ylim(max(bottom, top - 20) - 0.5, top + 1)
    axis.set(xlabel="weight updates", ylabel="PSNR (dB)")
    axis.grid(alpha=0.3)
    axis.legend(
        fontsize=7, title_fontsize=7, loc="lower right",
        title="at the end; upright lines: highest mean (oracle)",
    )  # fmt: skip
    axis.set_title(title, fontsize=9)


def main(options: argparse.Namespace) -> None:
    require(options.plan.is_file(), f"{options.plan}: no such file; scripts/launch.py writes it")
    try:
        plan = json.loads(options.plan.read_text())
    except ValueError as error:
        raise InputError(f"{options.plan}: damaged ({error})") from error
    figure_plan = plan.get("figure") or {}
    require(figure_plan.get("kind") == "curves", f"{options.plan}: not of a figure over updates")
    out = options.plan.absolute().parent.parent
    panels = []
    for panel in figure_plan["panels"]:
        found = {curve["label"]: collect(plan, out, curve) for curve in panel["curves"]}
        curves = {label: curve for label, curve in found.items() if curve is not None}
        if curves:
            panels.append((panel, curves))
    if not panels:
        print(f"{plan['title']}: nothing to draw, no cell with a truth is done")
        return
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(6 * columns, 4.2 * rows + 0.4), dpi=DPI)
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    lines = [
        "| panel | curve | images | last: update, PSNR | highest mean: update, PSNR (oracle) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for axis, (panel, curves) in zip(axes.flat, panels):
        counts = sorted({curve.images for curve in curves.values()})
        number = "-".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
        size = size_of(plan, out, {curve["setting"] for curve in panel["curves"]})
        quick = ", --quick" if plan["quick"] else ""
        plural = "image" if counts == [1] else "images"
        draw(axis, curves, f"{panel['title']}: {number} {plural} of {size}{quick}")
        for label, curve in curves.items():
            best = int(curve.mean.argmax())
            spread = f" +- {curve.std[-1]:.2f}" if curve.images > 1 else ""
            lines.append(
                f"| {panel['title']} | {label} | {curve.images} | {curve.steps[-1]}, "
                f"{curve.mean[-1]:.2f}{spread} | {curve.steps[best]}, "
                f"{curve.mean[best]:.2f} |"
            )
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    figure.suptitle(plan["title"], fontsize=10, parse_math=False)
    figure.tight_layout(pad=0.6)
    path = out / figure_plan["file"]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: figure.savefig(file, format="png"))
    table = "\n".join(lines) + "\n"
    write_atomically(path.with_suffix(".md"), lambda file: file.write(table.encode()))
    print(table + f"  {path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("plan", type=Path, help="a plan file of scripts/launch.py")
    chosen = parser.parse_args()
    sys.exit(exit_status(lambda: main(chosen)))
