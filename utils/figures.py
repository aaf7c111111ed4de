"""The pictures of a run. They are built without pyplot, so no global state is touched."""

import io
import itertools
import re
import textwrap
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
    "loss": "loss",
}


def caption(figures: dict[str, float | None]) -> str:
    """Write an image's PSNR and SSIM as a line, empty without a truth."""
    return f"{shown(figures['psnr'], 2)} dB, SSIM {shown(figures['ssim'], 3)}" if figures else ""


def _figure(width: float, height: float) -> "Figure":
    """Make an empty figure of so many inches that can be written to a file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def readable(text: str) -> str:
    """Return a text that can be drawn: the bytes of a file name that are not UTF-8 as \\xNN."""
    return encoded(text).decode()


def side_by_side(pictures: np.ndarray) -> np.ndarray:
    """Join (n, h, w) pictures, each brought to a maximum of 1, in one row of (h, n w)."""
    peaks = pictures.max(axis=(1, 2), keepdims=True)
    return np.concatenate(list(pictures / peaks), axis=1)


def comparison(
    images: dict[str, np.ndarray],
    captions: dict[str, str],
    truth: str | None,
    extra: tuple[str, np.ndarray] | None,
    title: str,
    limits: tuple[float, float],
    error_scale: float = ERROR_SCALE,
) -> "Figure":
    """Show images side by side, error maps against the truth below them.

    Args:
        images: name -> (H, W) grey or (H, W, 3) colour in [0, 1], real. The error of a colour
            image is the mean of its channels'.
        captions: name -> line under the name, such as the figures of that image.
        truth: the name that the others are compared with, None if there is none.
        extra: name and image of what is shown once beside them, such as the mask.
        title: line above all.
        limits: values shown as black and white; (0, 1) for colour.
        error_scale: error maps show error_scale * |image - truth|, white where the limits' width.
    """
    last = list(images.values())[-1]
    height, width = last.shape[:2]
    rows = 1 if truth is None else 2
    columns = len(images) + (truth is None and extra is not None)
    size = 3.0
    figure = _figure(size * columns, rows * (size * height / width + 0.55) + 0.4)
    axes = figure.subplots(rows, columns, squeeze=False)
    black, white = limits
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (name, image) in zip(axes[0], images.items()):
        axis.imshow(image, cmap="gray", vmin=black, vmax=white)
        axis.set_title("\n".join(filter(None, (name, captions.get(name)))), fontsize=9)
        if truth is not None and name != truth:
            below = axes[1, list(images).index(name)]
            error = error_scale * np.abs(image - images[truth])
            error = error.mean(axis=-1) if error.ndim == 3 else error
            below.imshow(error, cmap="gray", vmin=0, vmax=white - black)
            below.set_title(f"|error| x {error_scale}", fontsize=9)
    if extra is not None:
        corner = axes[0, -1] if truth is None else axes[1, list(images).index(truth)]
        corner.imshow(extra[1], cmap="gray", interpolation="nearest", aspect="auto")
        corner.set_box_aspect(height / width)
        corner.set_title(extra[0], fontsize=9)
    figure.suptitle(readable(title), fontsize=10, parse_math=False)  # titles hold file names
    figure.tight_layout(pad=0.4)
    return figure


def zoom_box(image: np.ndarray) -> tuple[int, int, int]:
    """Choose the square of a fifth of the shorter side that holds most fine detail.

    Detail is what a Gaussian of two pixels smooths away.

    Args:
        image: (H, W) or (H, W, 3), real.

    Returns:
        Its top row, left column, and side.
    """
    grey = (image.mean(axis=-1) if image.ndim == 3 else image).astype(float)
    side = max(min(grey.shape) // 5, 4)
    detail = np.abs(grey - gaussian_filter(grey, 2))
    amount = uniform_filter(detail, side)
    half = side // 2
    inside = amount[half : grey.shape[0] - side + half + 1, half : grey.shape[1] - side + half + 1]
    row, column = np.unravel_index(inside.argmax(), inside.shape)
    return int(row), int(column), side


def methods_comparison(
    images: dict[str, np.ndarray | str],
    captions: dict[str, str],
    truth: np.ndarray | None,
    title: str,
    limits: tuple[float, float],
    error_scale: float,
    columns: int = 5,
) -> "Figure":
    """Show many methods' images, each with a detail enlarged and its error map below.

    Args:
        images: name -> (H, W) grey or (H, W, 3) colour in [0, 1], real; a line where there
            is none, that says why.
        captions: name -> line under the name.
        truth: the image that the others are compared with, None if there is none; shown first.
        title: line above all.
        limits: values shown as black and white; (0, 1) for colour.
        error_scale: as for comparison.
        columns: most images in one row.
    """
    from matplotlib.patches import Rectangle

    images = images if truth is None else {"truth": truth} | images
    first = next(image for image in images.values() if not isinstance(image, str))
    row, column, side = zoom_box(first.clip(*limits))
    height, width = first.shape[:2]
    # The enlarged detail lies in the corner that is farthest from where it comes from.
    left = 0.58 if column + side / 2 < width / 2 else 0.0
    inset_height = 0.42 * width / height
    bottom = 0.0 if row + side / 2 < height / 2 else 1 - inset_height
    columns = min(columns, len(images))
    bands = -(-len(images) // columns)
    rows_each = 1 if truth is None else 2
    size = 2.6
    band = rows_each * size * height / width + 0.8
    figure = _figure(size * columns, bands * band + 0.3)
    axes = figure.subplots(bands * rows_each, columns, squeeze=False)
    black, white = limits
    for axis in axes.flat:
        axis.set_axis_off()
    for index, (name, image) in enumerate(images.items()):
        number, place = divmod(index, columns)
        axis = axes[number * rows_each, place]
        axis.set_title("\n".join(filter(None, (name, captions.get(name)))), fontsize=8)
        if isinstance(image, str):
            why = textwrap.fill(image, 28)
            place = {"ha": "center", "va": "center", "transform": axis.transAxes}
            axis.text(0.5, 0.5, why, fontsize=7, parse_math=False, **place)
            continue
        grey = {"cmap": "gray", "vmin": black, "vmax": white}
        axis.imshow(image, **grey)
        axis.add_patch(
            Rectangle((column - 0.5, row - 0.5), side, side, fill=False, edgecolor="red", lw=0.8)
        )
        inset = axis.inset_axes((left, bottom, 0.42, inset_height))
        inset.imshow(image[row : row + side, column : column + side], **grey)
        inset.set(xticks=[], yticks=[])
        for spine in inset.spines.values():
            spine.set(edgecolor="red", linewidth=0.8)
        if truth is not None and image is not truth:
            error = error_scale * np.abs(image - truth)
            error = error.mean(axis=-1) if error.ndim == 3 else error
            below = axes[number * rows_each + 1, place]
            below.imshow(error, cmap="gray", vmin=0, vmax=white - black)
            below.set_title(f"|error| x {error_scale}", fontsize=7)
    top = 1 - 0.3 / figure.get_figheight()
    figure.suptitle(
        readable(title), fontsize=10, y=1 - 0.08 / figure.get_figheight(), parse_math=False
    )
    figure.tight_layout(pad=0.4, h_pad=1.0, rect=(0, 0, 1, top))
    return figure


OTHERS = [  # dark enough on white, and told apart without colours, too
    {"color": color, "ls": ls, "lw": 1.5}
    for color, ls in (
        ("#b35900", "-"), ("#6b4c9a", "--"), ("#8c564b", "-."), ("#c2408f", ":"),
        ("#7a7a00", (0, (5, 1))), ("#007f8c", (0, (3, 1, 1, 1))),
    )
]  # fmt: skip
FLOOR = 20.0  # dB below the highest that are shown
BAND_POINTS = 300  # of a band's outline, which matplotlib does not thin out


def psnr_figure(
    panels: dict[str, dict[str, Curve]],
    styles: dict[str, dict[str, Any]],
    title: str = "",
    level: float | None = None,
    size: tuple[float, float] = (6.0, 4.2),
) -> "Figure":
    """Draw PSNR over the weight updates, as the paper's Figures 4 and 8 to 10.

    Each curve has a band of one standard deviation between images, and an upright line at its
    highest mean: from there on it falls. That is seen by the truth only, so no method stops there.

    Args:
        panels: title -> label -> curve; at least one panel, each with at least one curve.
        styles: label -> style of its line for matplotlib; those without one take others in turn.
        title: line above all.
        level: PSNR of the direct reconstruction in dB, drawn as a line, None for none.
        size: inches of a panel.
    """
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": False}):  # labels hold file names
        return _psnr_figure(panels, styles, title, level, size)


def _psnr_figure(
    panels: dict[str, dict[str, Curve]],
    styles: dict[str, dict[str, Any]],
    title: str,
    level: float | None,
    size: tuple[float, float],
) -> "Figure":
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    figure = _figure(size[0] * columns, size[1] * rows + (0.3 if title else 0))
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, (name, curves) in zip(axes.flat, panels.items()):
        others = itertools.cycle(OTHERS)
        for label, curve in curves.items():
            style = styles.get(label) or next(others)
            text = f"{label}, {curve.mean[-1]:.2f} dB"
            axis.plot(curve.steps, curve.mean, label=text, **style)
            if curve.images > 1:
                at = np.linspace(0, len(curve.steps) - 1, BAND_POINTS).astype(int)
                at = np.unique(at)
                low, high = (curve.mean - curve.std)[at], (curve.mean + curve.std)[at]
                axis.fill_between(
                    curve.steps[at], low, high, color=style["color"], alpha=0.12, lw=0
                )
            axis.axvline(curve.steps[curve.best], color=style["color"], lw=0.6)
        if level is not None:
            axis.axhline(level, color="gray", ls=":", lw=1, label="direct reconstruction")
        top = max((curve.mean + curve.std).max() for curve in curves.values())
        bottom = min(curve.mean.min() for curve in curves.values())
        top, bottom = (top, bottom) if level is None else (max(top, level), min(bottom, level))
        axis.set_ylim(max(bottom, top - FLOOR) - 0.5, top + 0.5)
        axis.set(xlabel="weight updates", ylabel="PSNR (dB)")
        axis.set_title(name, fontsize=9, parse_math=False)  # it holds file names
        axis.grid(alpha=0.3)
        axis.legend(
            fontsize=8, title_fontsize=8, loc="best",
            title="PSNR at the end; upright: highest (oracle)",
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
    figure = _figure(10 if has_truth else 5.5, 3.6)
    axes = figure.subplots(1, 1 + has_truth, squeeze=False)[0]
    if has_truth:
        axes[0].plot([r["step"] for r in rows], [r["psnr"] for r in rows], label="iterate")
        if rows[0]["step"] == 0:
            axes[0].axhline(rows[0]["psnr"], color="gray", ls="--", lw=1, label="z_0")
        axes[0].set(xlabel="step (weight updates)", ylabel="PSNR (dB)")
        axes[0].legend()
    logged = [r for r in rows if "loss" in r]
    for name, label in TERMS.items():
        if name in logged[0]:
            style = {"color": "black", "lw": 1, "ls": ":"} if name == "loss" else {}
            steps = [r["step"] for r in logged]
            axes[-1].plot(steps, [r[name] for r in logged], label=label, **style)
    scale = "log" if any(r["loss"] > 0 for r in logged) else "linear"
    axes[-1].set(xlabel="step (weight updates)", ylabel="sum of squares", yscale=scale)
    axes[-1].legend()
    for axis in axes:
        axis.grid(alpha=0.3)
    figure.suptitle(readable(title), fontsize=10, parse_math=False)  # titles hold file names
    figure.tight_layout(pad=0.6)
    return figure
