"""What a finished run leaves: arrays, pictures, figures of merit."""

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from utils.figures import ERROR_SCALE, caption, comparison, curves
from utils.runs import Run

NAMES = {"final": "last iterate", "ema": "average (EMA)"}


def save_results(
    run: Run,
    images: dict[str, Tensor],
    x_true: Tensor | None,
    score: Callable[[Tensor], dict[str, float]],
    facts: dict[str, Any],
    *,
    array: Callable[[Tensor], np.ndarray],
    picture: Callable[[Tensor], np.ndarray],
    names: dict[str, str],
    title: str,
    extra: tuple[str, np.ndarray] | None = None,
    limits: tuple[float, float] | None = None,
    error_scale: float = ERROR_SCALE,
) -> None:
    """Write the reconstructions as arrays and pictures, and complete the run.

    Args:
        run: the run after its last step.
        images: `input` (the direct reconstruction), `final`, `ema` and what else the task has. All
            but the input are saved: final as reconstruction.npy and .png, X as reconstruction_X.
        x_true: the truth, None if there is none.
        score: an image's figures against the truth, {} without one; F of X is called F_X in
            metrics.json.
        facts: what else metrics.json is to hold.
        array: makes of an image what is saved, in the units of the user's data.
        picture: makes of an image what is shown, (H, W) or (H, W, 3).
        names: titles in the comparison of `truth`, `input` and whatever NAMES lacks.
        limits: values shown as black and white; None takes 0 and the truth's maximum, or without a
            truth the 99.9th percentile of the last iterate.
        title, extra, error_scale: as for comparison.
    """
    figures = {name: score(x) for name, x in images.items()}
    shown = images if x_true is None else {"truth": x_true, **images}
    pictures = {name: picture(x) for name, x in shown.items()}
    if limits is None:
        limits = grey_limits(pictures)
    for name, x in images.items():
        if name != "input":
            file = "reconstruction" if name == "final" else f"reconstruction_{name}"
            run.save_array(f"{file}.npy", array(x))
            run.save_picture(f"{file}.png", pictures[name], limits)
    names = NAMES | names
    run.save_figure(
        "comparison.png",
        comparison(
            {names[name]: shown for name, shown in pictures.items()},
            {names[name]: caption(f) for name, f in figures.items()},
            truth=None if x_true is None else names["truth"],
            extra=extra,
            title=title,
            limits=limits,
            error_scale=error_scale,
        ),
    )
    run.save_figure("curve.png", curves(run.rows, title))
    scores = {f"{m}_{name}": v for name, f in figures.items() for m, v in f.items()}
    run.finish({"images": list(images), **scores, **facts})


def grey_limits(pictures: dict[str, np.ndarray]) -> tuple[float, float]:
    """Return 0 and the truth's maximum, or without a truth a high value of the last iterate."""
    if "truth" in pictures:
        return 0.0, float(pictures["truth"].max())
    return 0.0, max(float(np.percentile(pictures["final"], 99.9)), 1e-30)  # all may be negative
