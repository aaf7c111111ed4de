"""Every figure of merit of this project, each defined once (docs/metrics.md explains them).

All take real images of shape (..., H, W), the range of the data, and a support: the pixels that
count. They run on the device of their arguments.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def psnr(x: Tensor, x_true: Tensor, support: Tensor, data_range: float) -> float:
    """Compute 10 log10(data_range^2 / mean over the support of (x - x_true)^2), in dB.

    Args:
        x, x_true: (..., H, W) real.
        support: (H, W) bool.
        data_range: largest value that the images are meant to have, their smallest being 0.

    Returns:
        Infinity for an image without any error; NaN where it is not defined, as for a data_range
        of 0.
    """
    difference = (x - x_true)[..., support]
    mse = difference.square().mean().item()
    if mse == 0:
        return math.inf
    ratio = data_range**2 / mse
    return 10 * math.log10(ratio) if ratio > 0 else math.nan


def nmse(x: Tensor, x_true: Tensor, support: Tensor) -> float:
    """Compute ||x - x_true||^2 / ||x_true||^2 over the support.

    Args:
        x, x_true: (..., H, W) real.
        support: (H, W) bool.
    """
    error = (x - x_true)[..., support].square().sum()
    return (error / x_true[..., support].square().sum()).item()


def ssim(
    x: Tensor, x_true: Tensor, support: Tensor, data_range: float, window: str = "gaussian11"
) -> float:
    """Compute the mean structural similarity over the support, and over channels.

    Args:
        x, x_true: (..., H, W) real, both sides at least 11 pixels.
        support: (H, W) bool. Where a window would cross the image's border is left out.
        data_range: as for psnr.
        window: `gaussian11`: 11 x 11 Gaussian of standard deviation 1.5 (Wang et al.);
            `uniform7`: 7 x 7 mean with the unbiased covariance (scikit-image's default).

    Returns:
        Mean SSIM in [-1, 1], K1 0.01, K2 0.03.

    Reference:
        Wang et al., Image quality assessment, IEEE TIP 2004, eq. (13);
        skimage.metrics.structural_similarity, which it equals when the support is everything.
    """
    if window == "gaussian11":
        taps = torch.arange(-5, 6, dtype=torch.float64)
        taps = torch.exp(-0.5 * (taps / 1.5) ** 2)
        bessel = 1.0
    elif window == "uniform7":
        taps = torch.ones(7, dtype=torch.float64)
        bessel = 49 / 48
    else:
        raise ValueError(f"window must be gaussian11 or uniform7, got {window!r}")
    taps = (taps / taps.sum()).to(x.device)
    radius = len(taps) // 2

    def smooth(image: Tensor) -> Tensor:  # valid part only: (channels, 1, H - 2r, W - 2r)
        rows = F.conv2d(image, taps[None, None, :, None])
        return F.conv2d(rows, taps[None, None, None, :])

    # Outside the support the images count as zero, so nothing there leaks in through a window.
    a, b = (
        torch.where(support, image, 0).double().reshape(-1, 1, *support.shape)
        for image in (x, x_true)
    )
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mean_a, mean_b = smooth(a), smooth(b)
    var_a = bessel * (smooth(a * a) - mean_a**2)
    var_b = bessel * (smooth(b * b) - mean_b**2)
    cov = bessel * (smooth(a * b) - mean_a * mean_b)
    similarity = ((2 * mean_a * mean_b + c1) * (2 * cov + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    )
    inside = support[radius:-radius, radius:-radius]
    return similarity[..., inside].mean().item()


def magnitude_metrics(x: Tensor, x_true: Tensor, support: Tensor) -> dict[str, float]:
    """Score a complex image by its magnitude; the data range is max|x_true| in the support.

    Args:
        x, x_true: (1, 1, H, W) complex.
        support: (H, W) bool.

    Returns:
        psnr (dB), ssim (gaussian11), ssim_uniform7, nmse, all over the support; psnr_frame (dB):
        over the whole frame, where both images count as 0 outside the support.
    """
    a, b = x[0, 0].abs(), x_true[0, 0].abs()
    data_range = b[support].max().item()
    figures = _figures(a, b, support, data_range)
    figures["psnr_frame"] = psnr(a * support, b * support, _everything(x), data_range)
    return figures


def image_metrics(x: Tensor, x_true: Tensor) -> dict[str, float]:
    """Score a picture as it would be shown: clipped to [0, 1], with data range 1.

    Args:
        x: (1, C, H, W) real.
        x_true: (1, C, H, W) real in [0, 1].

    Returns:
        psnr (dB) over all channels, ssim (gaussian11) and ssim_uniform7, each the mean of the
        channels' own, nmse.
    """
    return _figures(x[0].clamp(0, 1), x_true[0], _everything(x), data_range=1.0)


def hole_psnr(x: Tensor, x_true: Tensor, hole: Tensor) -> float:
    """Compute the PSNR of a picture's missing pixels alone, clipped to [0, 1], data range 1.

    Args:
        x: (1, C, H, W) real.
        x_true: (1, C, H, W) real in [0, 1].
        hole: (H, W) bool, True where a pixel was missing.
    """
    return psnr(x[0].clamp(0, 1), x_true[0], hole, data_range=1.0)


def attenuation_metrics(x: Tensor, x_true: Tensor) -> dict[str, float]:
    """Score a normalised CT slice, not clipped, with data range 1.

    Args:
        x: (1, 1, H, W) real.
        x_true: (1, 1, H, W) real in [0, 1].

    Returns:
        psnr (dB), ssim (gaussian11), ssim_uniform7, nmse.
    """
    return _figures(x[0], x_true[0], _everything(x), data_range=1.0)


def hu_metrics(hu: Tensor, hu_true: Tensor, window: tuple[float, float]) -> dict[str, float]:
    """Score a CT slice in Hounsfield units.

    Args:
        hu, hu_true: (1, 1, H, W) in Hounsfield units.
        window: lowest and highest value that a picture of the window shows.

    Returns:
        psnr_window (dB): of values clipped to the window, its width as data range; rmse_hu: root
        of the mean squared error, in Hounsfield units, not clipped.
    """
    a, b = (image.clamp(*window) for image in (hu, hu_true))
    return {
        "psnr_window": psnr(a, b, _everything(hu), data_range=window[1] - window[0]),
        "rmse_hu": (hu - hu_true).square().mean().sqrt().item(),
    }


def _everything(x: Tensor) -> Tensor:
    return torch.ones(x.shape[-2:], dtype=torch.bool, device=x.device)


def _figures(a: Tensor, b: Tensor, support: Tensor, data_range: float) -> dict[str, float]:
    return {
        "psnr": psnr(a, b, support, data_range),
        "ssim": ssim(a, b, support, data_range),
        "ssim_uniform7": ssim(a, b, support, data_range, window="uniform7"),
        "nmse": nmse(a, b, support),
    }
