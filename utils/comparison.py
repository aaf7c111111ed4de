"""The comparison of several methods on one problem: a picture, curves, a table."""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from utils.errors import Busy, require
from utils.figures import caption, comparison, percent, psnr_figure
from utils.files import content_hash, encoded, write_atomically
from utils.problem import Problem
from utils.progress import duration
from utils.results import grey_limits, oracle_is_better
from utils.runs import Run
from utils.tables import markdown_table, mean_curve, read_psnr, shown

COLUMNS = (
    "method", "psnr_final", "ssim_final", "misfit_final", "step_final", "psnr_ema", "ssim_ema",
    "psnr_stopped", "ssim_stopped", "misfit_stopped", "step_stopped", "psnr_oracle", "step_oracle",
    "seconds", "steps", "n_params", "failure", "not_run",
)  # fmt: skip


def compare(args: Any, runs: list[Run], problem: Problem) -> None:
    """Write comparison.png, psnr.png, table.md and table.csv from finished runs; print the table.

    Args:
        args: the script's Args.
        runs: of several methods on one item, in their order, complete, failed or not run.
        problem: what all solved.

    Raises:
        InputError: a run failed, which does not keep the others from being compared.
        Busy: other processes are at work on some, so that nothing can be compared yet.
    """
    failed = [run for run in runs if run.failure]
    if failed and all(run.busy for run in failed):
        names = ", ".join(run.method.name for run in failed)
        raise Busy(
            f"other processes are at work on {names}; repeat the command without --fresh to continue"
        )
    folder = comparison_folder(args, runs)
    folder.mkdir(parents=True, exist_ok=True)
    metrics = {run.method.name: run.metrics or {} for run in runs}
    image = problem.A.pinv(problem.y)
    direct = problem.score(image) | {"misfit": problem.misfit(image)}
    _save_pictures(folder, problem, runs, metrics, image, direct)
    _save_curves(folder, problem, runs, direct)
    rows = [
        {"method": r.method.name, "failure": r.failure, "not_run": r.why_not}
        | metrics[r.method.name]
        for r in runs
    ]
    known = {f"{name}_final": value for name, value in direct.items()}
    rows.insert(0, {"method": problem.names["input"], **known})
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(folder / "table.csv", lambda file: file.write(encoded(text.getvalue())))
    table = markdown(rows)
    if problem.noise_norm > 0:
        table += f"\nnoise: a misfit of {percent(problem.noise)}\n"
    write_atomically(folder / "table.md", lambda file: file.write(encoded(table)))
    print(table, end="")
    print(f"  comparison: {folder}")
    print(f"  images side by side: {folder / 'comparison.png'}")
    names = ", ".join(run.method.name for run in failed)
    require(not failed, f"{names} failed, as said above; the others are complete")


def comparison_folder(args: Any, runs: list[Run]) -> Path:
    """Return the comparison's own folder, named by the runs that it compares."""
    names = [(run.method.name, run.folder and run.folder.name) for run in runs]
    name = content_hash(json.dumps(names))[:10]
    return args.out / runs[0].task / "comparison" / runs[0].item.item / name


def markdown(rows: list[dict[str, Any]]) -> str:
    """Write the rows of table.csv for people, as a Markdown table and a line for each that has no figures."""
    result = "final: PSNR / SSIM"
    head = ("method", result, "average", "stopped", "oracle", "misfit", "time", "updates")
    lines = [
        (row["method"], "failed" if row.get("failure") else "not run", *[None] * 6)
        if row.get("failure") or row.get("not_run")
        else (
            row["method"],
            _figures(row, "final") + (f" at {row['step_final']}" if "step_final" in row else ""),
            _figures(row, "ema"),
            _at(row, "stopped"),
            _at(row, "oracle") if oracle_is_better(row) else None,
            _misfit(row),
            duration(row["seconds"]) if "seconds" in row else None,
            row.get("steps") or None,
        )
        for row in rows
    ]
    used = [i for i in range(len(head)) if any(line[i] for line in lines)]
    head, *lines = ([line[i] for i in used] for line in (head, *lines))
    reasons = [
        f"\n{row['method']} {what}: {row[key]}\n"
        for row in rows
        for key, what in (("failure", "failed"), ("not_run", "not run"))
        if row.get(key)
    ]
    return markdown_table(head, lines) + "".join(reasons)


def _figures(row: dict[str, Any], image: str) -> str:
    if f"psnr_{image}" not in row:
        return ""
    return f"{shown(row[f'psnr_{image}'], 2)} / {shown(row[f'ssim_{image}'], 3)}"


def _misfit(row: dict[str, Any]) -> str:
    name = "misfit_stopped" if "misfit_stopped" in row else "misfit_final"
    return percent(row[name]) if name in row else ""


def _at(row: dict[str, Any], image: str) -> str:
    if f"psnr_{image}" not in row:
        return ""
    return f"{shown(row[f'psnr_{image}'], 2)} at {row[f'step_{image}']}"


def _save_pictures(
    folder: Path,
    problem: Problem,
    runs: list[Run],
    metrics: dict[str, dict[str, Any]],
    image: Tensor,
    figures_direct: dict[str, float],
) -> None:
    direct = problem.names["input"]
    pictures: dict[str, np.ndarray | str] = {}
    if problem.x_true is not None:
        pictures[problem.names["truth"]] = problem.picture(problem.array(problem.x_true))
    pictures[direct] = problem.picture(problem.array(image))
    captions = {direct: caption(figures_direct)}
    psnr: dict[str, float] = {}
    for run in runs:
        figures, label = metrics[run.method.name], run.method.label
        if not figures:
            pictures[label] = f"not run: {run.why_not}" if run.why_not else "failed"
            continue
        pictures[label] = problem.picture(run.result())
        if figures.get(f"psnr_{run.image}") is not None:
            psnr[label] = figures[f"psnr_{run.image}"]
        known = (n for n in ("psnr", "ssim", "misfit") if f"{n}_{run.image}" in figures)
        captions[label] = caption({n: figures[f"{n}_{run.image}"] for n in known})
    limits = problem.limits
    if limits is None:
        last = next(p for p in reversed(pictures.values()) if not isinstance(p, str))
        truth = {} if problem.x_true is None else {"truth": pictures[problem.names["truth"]]}
        limits = grey_limits({"final": last} | truth)
    figure = comparison(
        pictures, captions, None if problem.x_true is None else problem.names["truth"],
        problem.extra, problem.title, limits, problem.error_scale,
        direct=direct, best=max(psnr, key=psnr.get, default=None), focus=problem.focus,
    )  # fmt: skip
    write_atomically(folder / "comparison.png", lambda file: figure.savefig(file, format="png"))


def _save_curves(
    folder: Path,
    problem: Problem,
    runs: list[Run],
    direct: dict[str, float],
) -> None:
    curves = {
        run.method.label: curve
        for run in runs
        if run.metrics is not None
        and (curve := mean_curve([("", read_psnr(run.folder.path / "log.csv"))])) is not None
        and len(curve.steps) > 1
    }
    if curves:
        start = problem.names["input"]
        found = {start: direct["psnr"]} | {
            run.method.label: run.metrics.get(f"psnr_{run.image}") for run in runs if run.metrics
        }
        psnr = {label: p for label, p in found.items() if p is not None and math.isfinite(p)}
        levels = {  # of what has no curve; what is the direct image has its line already
            label: p
            for label, p in psnr.items()
            if label not in curves and (label == start or p != psnr.get(start))
        }
        styles = {run.method.label: run.method.style for run in runs}
        figure = psnr_figure({problem.title: curves}, styles, levels=levels, results=psnr)
        write_atomically(folder / "psnr.png", lambda file: figure.savefig(file, format="png"))
