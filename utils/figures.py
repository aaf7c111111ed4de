"""The pictures of a run. They are built without pyplot, so no global state is touched."""

import io
import itertools
import math
import re
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import gaussian_filter, uniform_filter

from utils.files import encoded
from utils.tables import Curve, shown

if TYPE_CHECKING:  # matplotlib is imported where it draws: it takes half a second
    from matplotlib.figure import Figure

ERROR_SCALE = 5
DPI = 110
TERMS = {  # columns of log.csv that are drawn, with their names
    "data_term": "data term",
    "autoencoding_term": "autoencoding term",
    "tv_term": "total variation",
    "denoising_term": "denoising term",
    "unseen_term": "held-out term",
    "loss": "loss",
}


def caption(figures: dict[str, float | None]) -> str:
    """Write an image's PSNR and SSIM as a line, or without a truth its misfit, as far as it has it."""
    if "psnr" in figures:
        return f"{shown(figures['psnr'], 2)} dB, SSIM {shown(figures['ssim'], 3)}"
    return f"misfit {percent(figures['misfit'])}" if "misfit" in figures else ""


def percent(share: float | None) -> str:
    """Write a share in percent, to three digits; a dash where it is not finite."""
    if share is None or not math.isfinite(share):
        return "-"
    return f"{100 * share:#.3g}".rstrip(".") + " %"


def empty_figure(width: float, height: float) -> "Figure":
    """Make an empty figure of so many inches that can be written to a file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def readable(text: str) -> str:
    """Return a text that can be drawn: the bytes of a file name that are not UTF-8 as \\xNN."""
    return encoded(text).decode()


def side_by_side(pictures: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Join (n, h, w) pictures, each brought to a maximum of 1, in a row on black.

    Args:
        pictures: to be joined.
        shape: of the image beside which they are shown; the result has its ratio of sides, so that
            they are not stretched there.
    """
    peaks = pictures.max(axis=(1, 2), keepdims=True)
    row = np.concatenate(list(pictures / peaks), axis=1)
    (height, width), ratio = row.shape, shape[0] / shape[1]
    missing = max(round(width * ratio) - height, 0), max(round(height / ratio) - width, 0)
    return np.pad(row, [(n // 2, n - n // 2) for n in missing])


def content_box(image: np.ndarray, limits: tuple[float, float]) -> tuple[slice, slice]:
    """Return the rows and columns that hold the body of an image, with a small margin.

    Args:
        image: (H, W) grey or (H, W, 3) colour. A photograph, whose limits are (0, 1), is whole.
        limits: values shown as black and white.
    """
    black, white = limits
    bright = gaussian_filter(image.astype(float), 2) > black + 0.1 * (white - black)
    if limits == (0, 1) or not bright.any():
        return slice(None), slice(None)
    margin = max(image.shape) // 25
    rows, columns = (np.flatnonzero(bright.any(axis=axis)) for axis in (1, 0))
    return tuple(slice(max(at[0] - margin, 0), at[-1] + margin + 1) for at in (rows, columns))


def zoom_box(
    images: list[np.ndarray], guide: np.ndarray | None = None, focus: np.ndarray | None = None
) -> tuple[int, int, int]:
    """Choose the square of a quarter of the shorter side in which images differ most.

    With a guide it is that of the largest product of difference and the guide's fine detail: what a
    Gaussian of two pixels smooths away. Of one image it is that of most fine detail, as where nothing
    differs.

    Args:
        images: at least one of (H, W) or (H, W, 3), real.
        guide: as one of them: the truth, or without one the last result.
        focus: (H, W) bool, the pixels that count more, the more of them a square has; None for all.

    Returns:
        Its top row, left column, and side.
    """

    def detail(x: np.ndarray) -> np.ndarray:
        return uniform_filter(np.abs(x - gaussian_filter(x, 2)), side)

    grey = np.stack([x.mean(axis=-1) if x.ndim == 3 else x for x in images]).astype(float)
    side = max(min(grey.shape[1:]) // 4, min(4, *grey.shape[1:]))
    amount = uniform_filter(grey.std(axis=0), side) if len(images) > 1 else detail(grey[0])
    if guide is not None:
        fine = detail(guide.mean(axis=-1) if guide.ndim == 3 else guide.astype(float))
        amount = amount * fine if (amount * fine).any() else amount + fine
    if focus is not None and focus.any():
        share = uniform_filter(focus.astype(float), side)
        amount = (amount / max(amount.max(), 1e-30) + 1e-3) * share
    half = side // 2
    inside = amount[
        half : amount.shape[0] - side + half + 1, half : amount.shape[1] - side + half + 1
    ]
    row, column = np.unravel_index(inside.argmax(), inside.shape)
    return int(row), int(column), side


def comparison(
    images: dict[str, np.ndarray | str],
    captions: dict[str, str],
    truth: str | None,
    extra: tuple[str, np.ndarray] | None,
    title: str,
    limits: tuple[float, float],
    error_scale: float = ERROR_SCALE,
    direct: str | None = None,
    best: str | None = None,
    focus: np.ndarray | None = None,
    columns: int = 6,
) -> "Figure":
    """Show images side by side, each with a detail and its error map below.

    The detail is that of zoom_box. Grey images are cropped to the body.

    Args:
        images: name -> (H, W) grey or (H, W, 3) colour in [0, 1], real; in place of an image a
            line that says why there is none. The error of a colour image is the mean of its channels'.
        captions: name -> line under the name, such as the figures of that image.
        truth: the name that the others are compared with, None if there is none.
        extra: name and image of what is shown once beside them, such as the mask.
        title: line above all.
        limits: values shown as black and white; (0, 1) for photographs.
        error_scale: error maps show error_scale * |image - truth|, white where the limits' width.
        direct: the name of an image that does not decide where the detail lies.
        best: the name that is marked.
        focus: (H, W) bool, the pixels that the detail is to show; None for all.
        columns: most images in one row.
    """
    from matplotlib.patches import Rectangle

    black, white = limits
    real = {name: image for name, image in images.items() if not isinstance(image, str)}
    box = content_box(real[truth] if truth is not None else list(real.values())[-1], limits)
    real = {name: image[box] for name, image in real.items()}
    deciding = [image.clip(*limits) for name, image in real.items() if name not in (direct, truth)]
    deciding = deciding or [image.clip(*limits) for image in real.values()]
    guide = deciding[-1] if truth is None else real[truth].clip(*limits)
    row, column, side = zoom_box(deciding, guide, None if focus is None else focus[box])
    height, width = next(iter(real.values())).shape[:2]
    cells: list[str | None] = [*images, *([None] if truth is None and extra is not None else [])]
    bands = -(-len(cells) // columns)
    columns = -(-len(cells) // bands)  # the rows are equally full, but for the last
    size, line = 2.4, 0.17  # inches of a column and of a line of text
    ratios = [size * height / width, size, size * height / width][: 2 if truth is None else 3]
    each = sum(ratios) + 3.2 * line + (0 if truth is None else 1.5 * line)
    figure = empty_figure(size * columns, bands * each + 1.5 * line)
    tall = figure.get_figheight()
    gap = 0.02 * size

    def axis_at(index: int, level: int) -> Any:
        """Return the axes of a cell: level 0 the image, 1 its detail, 2 its error map."""
        band, place = divmod(index, columns)
        top = tall - 1.5 * line - band * each - 2.7 * line - sum(ratios[:level])
        top -= 1.5 * line if level == 2 else 0
        left = (place * size + gap) / (size * columns)
        wide = (size - 2 * gap) / (size * columns)
        high = ratios[level] - 2 * gap
        axis = figure.add_axes((left, (top - high) / tall, wide, high / tall))
        axis.set(xticks=[], yticks=[])
        return axis

    grey = {"cmap": "gray", "vmin": black, "vmax": white}
    for index, name in enumerate(cells):
        axis = axis_at(index, 0)
        if name is None:
            _show_extra(axis, extra, height / width)
            continue
        label = "\n".join(filter(None, (textwrap.fill(name, 34), captions.get(name))))
        marked = {"fontweight": "bold", "color": "#0b6e2e"} if name == best else {}
        axis.set_title(label, fontsize=8, parse_math=False, **marked)
        if name not in real:
            axis.set_axis_off()
            axis.text(
                0.5, 0.5, textwrap.fill(images[name], 28), fontsize=7, parse_math=False,
                ha="center", va="center", transform=axis.transAxes,
            )  # fmt: skip
            continue
        axis.imshow(real[name], **grey)
        frame = {"fill": False, "edgecolor": "red", "lw": 0.8}
        axis.add_patch(Rectangle((column - 0.5, row - 0.5), side, side, **frame))
        detail = axis_at(index, 1)
        detail.imshow(real[name][row : row + side, column : column + side], **grey)
        for spine in detail.spines.values():
            spine.set(edgecolor="red", linewidth=0.8)
        if truth is not None and name != truth:
            error = error_scale * np.abs(real[name] - real[truth])
            error = error.mean(axis=-1) if error.ndim == 3 else error
            below = axis_at(index, 2)
            below.imshow(error, cmap="gray", vmin=0, vmax=white - black)
            times = "" if error_scale == 1 else f" x {error_scale:g}"
            below.set_title(f"|error|{times}", fontsize=7)
        elif truth is not None and extra is not None:
            _show_extra(axis_at(index, 2), extra, height / width)
    figure.suptitle(readable(title), fontsize=10, y=1 - 0.3 * line / tall, parse_math=False)
    return figure


def _show_extra(axis: Any, extra: tuple[str, np.ndarray], aspect: float) -> None:
    axis.imshow(extra[1], cmap="gray", interpolation="nearest", aspect="auto")
    axis.set_box_aspect(aspect)
    axis.set_title(extra[0], fontsize=7)


OTHERS = [  # dark enough on white, and told apart without colours, too
    {"color": color, "ls": ls, "lw": 1.5}
    for color, ls in (
        ("#b35900", "-"), ("#6b4c9a", "--"), ("#8c564b", "-."), ("#c2408f", ":"),
        ("#7a7a00", (0, (5, 1))), ("#007f8c", (0, (3, 1, 1, 1))),
    )
]  # fmt: skip
DASHES = [":", "--", "-.", (0, (1, 3)), (0, (8, 2)), (0, (5, 1, 1, 1, 1, 1))]  # of level lines
FLOOR = 20.0  # dB below the highest that are shown
BAND_POINTS = 300  # of a band's outline, which matplotlib does not thin out


def psnr_figure(
    panels: dict[str, dict[str, Curve]],
    styles: dict[str, dict[str, Any]],
    title: str = "",
    levels: dict[str, float] | None = None,
    results: dict[str, float] | None = None,
    size: tuple[float, float] = (6.0, 4.2),
    legend: bool = True,
) -> "Figure":
    """Draw PSNR over the weight updates, as the paper's Figures 4 and 8 to 10.

    Each curve has a band of one standard deviation between images, and an upright line at its
    highest mean: from there on it falls. That is seen by the truth only, so no method stops there.

    Args:
        panels: title -> label -> curve; at least one panel, each with at least one curve.
        styles: label -> style of its line for matplotlib; those without one take others in turn.
        title: line above all.
        levels: label -> PSNR in dB of what has no updates, drawn as a level line; None for none.
        results: label -> PSNR in dB of what a curve has ended with, such as an average, for the
            legend; None takes the last points.
        size: inches of a panel.
        legend: whether the curves are named. Without, a page does so; what belongs to the i-th
            curve of a panel has the ids curve-i-line, curve-i-band and curve-i-top in an SVG.
    """
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": False}):  # labels hold file names
        return _psnr_figure(panels, styles, title, levels or {}, results, size, legend)


def line_styles(
    labels: Iterable[str], styles: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return label -> style of its line: of `styles`, or one of OTHERS in turn."""
    others = itertools.cycle(OTHERS)
    return {label: styles.get(label) or next(others) for label in labels}


def _psnr_figure(
    panels: dict[str, dict[str, Curve]],
    styles: dict[str, dict[str, Any]],
    title: str,
    levels: dict[str, float],
    results: dict[str, float] | None,
    size: tuple[float, float],
    legend: bool,
) -> "Figure":
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    figure = empty_figure(size[0] * columns, size[1] * rows + (0.3 if title else 0))
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, (name, curves) in zip(axes.flat, panels.items()):
        for i, (label, style) in enumerate(line_styles(curves, styles).items()):
            curve = curves[label]
            text = f"{label}, {(results or {}).get(label, curve.mean[-1]):.2f} dB"
            axis.plot(curve.steps, curve.mean, label=text, gid=f"curve-{i}-line", **style)
            if curve.images > 1:
                at = np.linspace(0, len(curve.steps) - 1, BAND_POINTS).astype(int)
                at = np.unique(at)
                low, high = (curve.mean - curve.std)[at], (curve.mean + curve.std)[at]
                axis.fill_between(
                    curve.steps[at], low, high, color=style["color"], alpha=0.12, lw=0,
                    gid=f"curve-{i}-band",
                )  # fmt: skip
            axis.axvline(
                curve.steps[curve.best], color=style["color"], lw=0.6, gid=f"curve-{i}-top"
            )
        for (label, level), dashes in zip(levels.items(), itertools.cycle(DASHES)):
            text = f"{label}, {level:.2f} dB"
            axis.axhline(level, color="0.4", ls=dashes, lw=1, label=text)
        heights = [(curve.mean + curve.std).max() for curve in curves.values()]
        depths = [curve.mean.min() for curve in curves.values()]
        top, bottom = max([*heights, *levels.values()]), min([*depths, *levels.values()])
        axis.set_ylim(max(bottom, top - FLOOR) - 0.5, top + 0.5)
        axis.set(xlabel="weight updates", ylabel="PSNR (dB)")
        axis.set_title(name, fontsize=9, parse_math=False)  # it holds file names
        axis.grid(alpha=0.3)
        if legend:
            axis.legend(
                fontsize=8, title_fontsize=8, loc="best",
                title=f"PSNR of the {'result' if results else 'last point'}; upright: highest (oracle)",
            )  # fmt: skip
    figure.suptitle(readable(title), fontsize=10, parse_math=False)
    figure.tight_layout(pad=0.6)
    return figure


def as_svg(figure: "Figure", name: str) -> str:
    """Return a figure as an <svg> element for a page, the same bytes each time.

    Args:
        figure: what is shown; its texts stay texts.
        name: of letters, digits and hyphens; opens every id, so that a page can hold several.
    """
    import matplotlib

    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(file, format="svg", metadata=nothing)
    svg = file.getvalue()
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg[svg.index("<svg") :], count=2)
    return re.sub(r'( id="|url\(#|href="#)', rf"\1{name}-", svg)


def curves(rows: list[dict[str, float]], title: str) -> "Figure":
    """Draw PSNR (where there is a truth) and the terms of the loss over the steps.

    Args:
        rows: the rows of log.csv; step 0, where there is one, is before any update.
        title: line above all.
    """
    has_truth = "psnr" in rows[-1]
    figure = empty_figure(10 if has_truth else 5.5, 3.6)
    axes = figure.subplots(1, 1 + has_truth, squeeze=False)[0]
    if has_truth:
        axes[0].plot([r["step"] for r in rows], [r["psnr"] for r in rows], label="iterate")
        if rows[0]["step"] == 0:
            axes[0].axhline(rows[0]["psnr"], color="gray", ls="--", lw=1, label="start")
        axes[0].set(xlabel="step (weight updates)", ylabel="PSNR (dB)")
        axes[0].legend()
    logged = [r for r in rows if "loss" in r]
    drawn = []
    for name, label in TERMS.items():
        values = [r.get(name, 0.0) for r in logged]
        if name == "loss" or any(values):
            style = {"color": "black", "lw": 1, "ls": ":"} if name == "loss" else {}
            axes[-1].plot([r["step"] for r in logged], values, label=label, **style)
            drawn += values
    positive = [value for value in drawn if value > 0]
    decades = positive and min(drawn) >= 0 and max(positive) > 10 * min(positive)
    scale = "log" if decades else "linear"
    axes[-1].set(xlabel="step (weight updates)", ylabel="terms of the loss", yscale=scale)
    axes[-1].legend()
    for axis in axes:
        axis.grid(alpha=0.3)
    figure.suptitle(readable(title), fontsize=10, parse_math=False)  # titles hold file names
    figure.tight_layout(pad=0.6)
    return figure
