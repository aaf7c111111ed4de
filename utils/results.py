"""What a finished run leaves: arrays, pictures, figures of merit."""

from typing import Any

import numpy as np
from torch import Tensor

from utils.figures import caption, comparison, curves
from utils.problem import Problem
from utils.runs import Run

NAMES = {"ema": "average (EMA)"}


def save_results(
    run: Run,
    images: dict[str, Tensor],
    problem: Problem,
    method: str,
    output: str,
    facts: dict[str, Any],
) -> None:
    """Write the reconstructions as arrays and pictures, and complete the run.

    Args:
        run: the run, after its method has returned.
        images: `input` (the direct reconstruction), `final` (x_hat) and what else there is; the
            problem's derived images are added. All but the input are saved: final as
            reconstruction.npy and .png, X as reconstruction_X. Input and truth are saved as
            pictures, input.png and truth.png.
        problem: what was solved.
        method: the method's name for the pictures' title.
        output: what x_hat is, such as "last iterate".
        facts: what else metrics.json is to hold.
    """
    images = images | {name: make(images["final"]) for name, make in problem.derived.items()}
    figures = {name: problem.score(x) for name, x in images.items()}
    arrays = {name: problem.array(x) for name, x in images.items()}
    pictures = {name: problem.picture(array) for name, array in arrays.items()}
    if problem.x_true is not None:
        pictures = {"truth": problem.picture(problem.array(problem.x_true)), **pictures}
    limits = grey_limits(pictures) if problem.limits is None else problem.limits
    for name, array in problem.arrays.items():
        run.save_array(name, array)
    for name, array in arrays.items():
        if name != "input":
            file = "reconstruction" if name == "final" else f"reconstruction_{name}"
            run.save_array(f"{file}.npy", array)
            run.save_picture(f"{file}.png", pictures[name], limits)
    for name in pictures.keys() & {"truth", "input"}:  # for a report; shown alike
        run.save_picture(f"{name}.png", pictures[name], limits)
    names = NAMES | problem.names | {"final": output}
    if "stopped" in images:
        names["stopped"] = f"stopped, step {facts['step_stopped']}"
    title = f"{method}, {problem.title}"
    run.save_figure(
        "comparison.png",
        comparison(
            {names[name]: shown for name, shown in pictures.items()},
            {names[name]: caption(f) for name, f in figures.items()},
            truth=None if problem.x_true is None else names["truth"],
            extra=problem.extra,
            title=title,
            limits=limits,
            error_scale=problem.error_scale,
        ),
    )
    if run.rows:
        run.save_figure("curve.png", curves(run.rows, title))
    scores = {f"{m}_{name}": v for name, f in figures.items() for m, v in f.items()}
    run.finish({"images": list(images), **scores, **problem.facts, **facts})


def grey_limits(pictures: dict[str, np.ndarray]) -> tuple[float, float]:
    """Return 0 and the truth's maximum, or without a truth a high value of the last image."""
    if "truth" in pictures:
        return 0.0, float(pictures["truth"].max())
    return 0.0, max(float(np.percentile(pictures["final"], 99.9)), 1e-30)  # all may be negative
