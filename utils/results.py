"""What a finished run leaves and says: arrays, pictures, figures of merit."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils.figures import caption, comparison, curves, percent
from utils.folder import RunFolder
from utils.loop import Loop
from utils.methods import Method
from utils.problem import Problem
from utils.progress import duration
from utils.tables import shown

NAMES = {  # of an image in pictures and in what is printed
    "ema": "average (EMA)", "last": "last iterate", "unfinished": "before the last step",
}  # fmt: skip
SPANS = 5  # of a run: medians over each are compared, as the loss of parts of y varies by chance
FAR = 2.0  # times the noise, a misfit is doubted,
LEAST_DOUBTED = 0.01  # if it is above this, too: below lie errors of the pixel grid
FAR_WITHOUT = 0.1  # misfit that is doubted where no noise is known
CLOSE = 0.5  # times the noise, a misfit is doubted to be too low
RISEN = 2.0  # times the lowest median, a loss is told to have risen
MORE_FIGURES = {  # of some tasks
    "psnr_frame": ("whole frame", "dB"),
    "psnr_window": ("in the window", "dB"),
    "rmse_hu": ("RMSE", "HU"),
    "psnr_hole": ("in the hole", "dB"),
}


def save_results(
    folder: RunFolder,
    loop: Loop,
    images: dict[str, Tensor],
    problem: Problem,
    method: Method,
    facts: dict[str, Any],
) -> dict[str, Any]:
    """Write the reconstructions as arrays and pictures, and complete the run.

    Args:
        folder, loop: the run's, after its method has returned.
        images: `input` (the direct reconstruction), `final` (x_hat) and what else there is; the
            problem's derived images are added. All but the input are saved: final as
            reconstruction.npy and .png, X as reconstruction_X. Input and truth are saved as
            pictures, input.png and truth.png.
        problem: what was solved.
        method: what solved it.
        facts: what else metrics.json is to hold.

    Returns:
        What metrics.json holds.
    """
    result = "stopped" if "stopped" in images else "final"
    images = images | {name: make(images[result]) for name, make in problem.derived.items()}
    figures = {name: problem.score(x) | {"misfit": problem.misfit(x)} for name, x in images.items()}
    arrays = {name: problem.array(x) for name, x in images.items()}
    pictures = {name: problem.picture(array) for name, array in arrays.items()}
    if problem.x_true is not None:
        pictures = {"truth": problem.picture(problem.array(problem.x_true)), **pictures}
    limits = problem.limits or grey_limits(pictures | {"final": pictures[result]})
    for name, array in problem.arrays.items():
        folder.save_array(name, array)
    for name, array in arrays.items():
        if name != "input":
            file = "reconstruction" if name == "final" else f"reconstruction_{name}"
            folder.save_array(f"{file}.npy", array)
            folder.save_picture(f"{file}.png", pictures[name], limits)
    for name in pictures.keys() & {"truth", "input"}:  # for a report; shown alike
        folder.save_picture(f"{name}.png", pictures[name], limits)
    names = NAMES | problem.names
    names["final"] = NAMES["ema"] if "last" in images else method.output
    if "stopped" in images:
        names["stopped"] = f"stopped, step {facts['step_stopped']}"
    if "unfinished" in images and not torch.equal(images["unfinished"], images[result]):
        names[result] += ", made consistent"
    title = f"{method.label}, {problem.title}"
    folder.save_figure(
        "comparison.png",
        comparison(
            {names[n]: picture for n, picture in told_apart(pictures, limits, result).items()},
            {names[name]: caption(f) for name, f in figures.items()},
            truth=None if problem.x_true is None else names["truth"],
            extra=problem.extra,
            title=title,
            limits=limits,
            error_scale=problem.error_scale,
            focus=problem.focus,
        ),
    )
    if loop.rows:
        folder.save_figure("curve.png", curves(loop.rows, title))
        loop.write_log()
    scores = {f"{m}_{name}": v for name, f in figures.items() for m, v in f.items()}
    record = {
        "hyperparameters": folder.settings["hyperparameters"], "images": list(images), **scores,
        "noise": problem.noise, **problem.facts, **loop.figures(), **facts,
    }  # fmt: skip
    record["doubts"] = [
        *facts.get("doubts", ()),
        *doubts(loop.rows, figures[result], figures["input"]),
    ]
    if method.iterative or method.parts:
        made, given = (figures.get(n, figures[result])["misfit"] for n in ("unfinished", result))
        assumes = problem.A.assumes if problem.x_true is None else ""  # what is simulated fits
        record["doubts"] += misfit_doubts(made, given, problem.noise, assumes)
    metrics = folder.complete(record)
    print_report(metrics, folder.path)
    return metrics


def told_apart(
    pictures: dict[str, np.ndarray], limits: tuple[float, float], kept: str
) -> dict[str, np.ndarray]:
    """Leave out what looks like one before it: it differs by less than a grey level of 255 (RMS).

    The picture named `kept` stays.
    """
    shown: dict[str, np.ndarray] = {}
    level = (limits[1] - limits[0]) / 255
    for name, picture in pictures.items():
        same = (np.mean((picture - p) ** 2) < level**2 for p in shown.values())
        if name == kept or not any(same):
            shown[name] = picture
    return shown


def doubts(
    rows: list[dict[str, float]], result: dict[str, float], direct: dict[str, float]
) -> list[str]:
    """Say what speaks against a result, a line each.

    Args:
        rows: of log.csv; that of step 0 is of the image that the method starts from.
        result, direct: figures of the result and of the direct reconstruction: with a truth PSNR
            and SSIM.
    """
    found = []
    losses = [row["loss"] for row in rows if "loss" in row]
    medians = [np.median(span) for span in np.array_split(losses, SPANS) if len(span)]
    at_the_end = max(medians[-1], min(losses[-3:])) if losses else 0.0
    if losses and at_the_end > RISEN * min(medians) > 0:
        found.append(f"the loss rose from {min(medians):.3g} to {at_the_end:.3g}: the run diverges")
    what, other = "its input", direct
    start = rows[0] if rows and rows[0].get("step") == 0 else {}
    if start.get("psnr", -math.inf) > direct.get("psnr", -math.inf):
        what, other = "the image that it starts from", start
    for name, unit in (("psnr", " dB"), ("ssim", "")):
        if name in result and result[name] < other[name]:
            found.append(
                f"the result is worse than {what} by {other[name] - result[name]:.3g}{unit} "
                f"of {name.upper()}; that has {other[name]:.4g}"
            )
    return found


def misfit_doubts(made: float, result: float, noise: float, assumes: str) -> list[str]:
    """Say whether a network is far from the measurements, or its result fits their noise.

    Args:
        made: misfit of its image before the last step, which hides part of it.
        result: misfit of the result.
        noise: misfit of the truth; 0 where no noise is known.
        assumes: what may not fit the measurements, "" where all does.
    """
    found = []
    if made > (max(FAR * noise, LEAST_DOUBTED) if noise > 0 else FAR_WITHOUT):
        far = f"{made / noise:.2g} times the noise" if noise > 0 else percent(made)
        other = f", or something does not fit: {assumes}" if assumes else ""
        found.append(
            f"the network misses the measurements by {far}, before any last step: it had too few "
            f"updates{other}"
        )
    if result < CLOSE * noise:
        found.append(
            f"the result's misfit is {result / noise:.2g} times that of the noise: it holds noise"
        )
    return found


def grey_limits(pictures: dict[str, np.ndarray]) -> tuple[float, float]:
    """Return 0 and the truth's maximum, or without a truth a high value of the result."""
    if "truth" in pictures:
        white = pictures["truth"].max()
    else:
        white = np.percentile(pictures["final"], 99.9)
    return 0.0, max(float(white), 1e-30)  # all may be black, or negative


def oracle_is_better(metrics: dict[str, Any]) -> bool:
    """Tell whether the best iterate in hindsight is above the result; else it tells nothing."""
    result = "stopped" if "step_stopped" in metrics else "final"
    oracle, own = metrics.get("psnr_oracle"), metrics.get(f"psnr_{result}")
    return oracle is not None and own is not None and oracle > own


def _figures(metrics: dict[str, Any], name: str) -> str:
    """Write what metrics.json tells of one image."""
    words = []
    if f"psnr_{name}" in metrics:
        words += [
            f"PSNR {shown(metrics[f'psnr_{name}'], 2):>6} dB",
            f"SSIM {shown(metrics[f'ssim_{name}'], 4)}",
            f"NMSE {shown(metrics[f'nmse_{name}'], 5)}",
        ]
    if f"misfit_{name}" in metrics:
        words.append(f"misfit {percent(metrics[f'misfit_{name}'])}")
    if f"step_{name}" in metrics:  # of an image that is not the last one's
        words.append(f"step {metrics[f'step_{name}']}")
    words += [
        f"{what} {shown(metrics[f'{key}_{name}'], 2)} {unit}"
        for key, (what, unit) in MORE_FIGURES.items()
        if f"{key}_{name}" in metrics
    ]
    return "   ".join(words)


def print_report(metrics: dict[str, Any], folder: Path) -> None:
    """Print a complete run's figures and where its files lie."""
    told = {NAMES.get(name, name): _figures(metrics, name) for name in metrics.get("images", ())}
    width = max(map(len, [*told, "oracle"]))
    for label, figures in told.items():
        if figures:
            print(f"  {label:<{width}} {figures}")
    if oracle_is_better(metrics):
        print(
            f"  {'oracle':<{width}} PSNR {shown(metrics['psnr_oracle'], 2):>6} dB   the best iterate "
            f"in hindsight, step {metrics['step_oracle']}: not a result"
        )
    if metrics.get("noise"):
        print(f"  {'noise':<{width}} misfit {percent(metrics['noise'])} is expected of the truth")
    for doubt in metrics.get("doubts", ()):
        print(f"  warning: {doubt}")
    work = f"{metrics['steps']} steps in "  # of a sampler, which fits no weights
    if metrics["n_params"]:
        work = f"{metrics['steps']} updates of {metrics['n_params']:,} weights in "
    print(
        f"  {work if metrics['steps'] else ''}{duration(metrics['seconds'])} on {metrics['device']}"
    )
    print(f"  pictures, reconstruction and metrics: {folder}")
    if (folder / "comparison.png").exists():
        print(f"  images side by side: {folder / 'comparison.png'}")
