"""Draw a figure of PSNR over the weight updates from the logs of a plan's finished cells.

Each curve is the mean over images of one method at one setting, with a band of one standard
deviation. Seeds of one image are averaged first. An upright line marks the highest mean: from there
on the curve falls. It is seen by the truth only, as all of the curve, so no method stops there.
A setting labelled "PANEL / CURVE" is a curve of that panel; any other is a panel of its own.

    python -m scripts.plot_steps results/plan/fig4.json
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from baselines import styles
from scripts.reporting.data import labels, panels
from utils.errors import InputError, exit_status, require
from utils.figures import psnr_figure
from utils.files import write_atomically
from utils.flags import cli
from utils.tables import Curve, markdown_table, mean_curve, read_psnr

HEAD = (
    "panel", "curve", "images", "last: update, PSNR", "highest mean: update, PSNR (oracle)",
)  # fmt: skip


@dataclass
class Args:
    plan: tyro.conf.Positional[Path]  # a plan file of scripts/jobs.py


def title_of(panel: str, folders: list[Path], curves: dict[str, Curve], quick: bool) -> str:
    """Write a panel's title: its name, how many images of which size."""
    counts = sorted({curve.images for curve in curves.values()})
    number = "-".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    shapes = (np.load(f / "reconstruction.npy", mmap_mode="r").shape[:2] for f in folders)
    sizes = [f"{height}x{width}" for height, width in sorted(set(shapes))]
    size = " to ".join(dict.fromkeys((sizes[0], sizes[-1])))
    plural = "image" if counts == [1] else "images"
    return f"{panel}: {number} {plural} of {size}{', --quick' if quick else ''}"


def draw(plan: dict[str, Any], out: Path) -> None:
    """Draw the figure of a plan and write the numbers in it beside it as .md.

    Args:
        plan: what the plan file holds.
        out: the folder that its paths start from.
    """
    done: dict[tuple[str, str], list[tuple[str, Path]]] = {}
    for cell in plan["cells"]:
        if cell["state"] == "done":
            of = cell["setting"], cell["method"]
            done.setdefault(of, []).append((cell["item"], out / cell["run"]))
    drawn, rows = {}, []
    for panel, members in panels(*labels(plan)).items():
        curves, folders = {}, []
        for label, of in members.items():
            runs = done.get(of, [])
            curve = mean_curve((item, read_psnr(folder / "log.csv")) for item, folder in runs)
            if curve is not None:
                curves[label] = curve
                folders += [folder for _, folder in runs]
                spread = f" +- {curve.std[-1]:.2f}" if curve.images > 1 else ""
                last = f"{curve.steps[-1]}, {curve.mean[-1]:.2f}{spread}"
                best = f"{curve.steps[curve.best]}, {curve.mean[curve.best]:.2f}"
                rows.append((panel, label, curve.images, last, best))
        if curves:
            drawn[title_of(panel, folders, curves, plan["quick"])] = curves
    if not drawn:
        print(f"{plan['title']}: nothing to draw: no run with a truth is finished")
        return
    figure, table = psnr_figure(drawn, styles(), plan["title"]), markdown_table(HEAD, rows)
    path = out / plan["figure"]["file"]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: figure.savefig(file, format="png"))
    write_atomically(path.with_suffix(".md"), lambda file: file.write(table.encode()))
    print(table + f"  {path}")


def run(args: Args) -> None:
    require(args.plan.is_file(), f"{args.plan}: no such file; scripts/jobs.py writes it")
    try:
        plan = json.loads(args.plan.read_text())
    except ValueError as error:
        raise InputError(f"{args.plan}: damaged ({error})") from error
    curves = (plan.get("figure") or {}).get("kind") == "curves"
    require(curves, f"{args.plan}: not of a figure over updates")
    draw(plan, args.plan.absolute().parent.parent)


def main() -> int:
    args = cli(Args, description=__doc__)
    return exit_status(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
