"""The pictures of a run. They are built without pyplot, so no global state is touched."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

ERROR_SCALE = 5
DPI = 110


def caption(figures: dict[str, float]) -> str:
    """Write an image's PSNR and SSIM as a line, empty without a truth."""
    return f"{figures['psnr']:.2f} dB, SSIM {figures['ssim']:.3f}" if figures else ""


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
) -> Figure:
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
    figure = Figure(figsize=(size * columns, rows * (size * height / width + 0.55) + 0.4), dpi=DPI)
    FigureCanvasAgg(figure)
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
    figure.suptitle(title, fontsize=10, parse_math=False)  # titles hold file names
    figure.tight_layout(pad=0.4)
    return figure


def curves(rows: list[dict[str, float]], title: str) -> Figure:
    """Draw PSNR (where there is a truth) and the terms of the loss over the steps.

    Args:
        rows: the rows of log.csv; the first is step 0, before any update.
        title: line above all.
    """
    has_truth = "psnr" in rows[0]
    figure = Figure(figsize=(10 if has_truth else 5.5, 3.6), dpi=DPI)
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 1 + has_truth, squeeze=False)[0]
    if has_truth:
        axes[0].plot([r["step"] for r in rows], [r["psnr"] for r in rows], label="iterate")
        axes[0].axhline(rows[0]["psnr"], color="gray", ls="--", lw=1, label="z_0")
        axes[0].set(xlabel="step (weight updates)", ylabel="PSNR (dB)")
        axes[0].legend()
    logged = [r for r in rows if "loss" in r]
    for name, label in (
        ("data_term", "data term"),
        ("autoencoding_term", "autoencoding term"),
        ("loss", "loss"),
    ):
        style = {"color": "black", "lw": 1, "ls": ":"} if name == "loss" else {}
        axes[-1].plot([r["step"] for r in logged], [r[name] for r in logged], label=label, **style)
    axes[-1].set(xlabel="step (weight updates)", ylabel="sum of squares", yscale="log")
    axes[-1].legend()
    for axis in axes:
        axis.grid(alpha=0.3)
    figure.suptitle(title, fontsize=10, parse_math=False)  # titles hold file names
    figure.tight_layout(pad=0.6)
    return figure
