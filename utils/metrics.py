"""Every figure of merit of this project, each defined once (docs/metrics.md explains them).

All take magnitudes or real images, the truth's own maximum as data range, and a support: the
pixels that count. They run on the device of their arguments.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def psnr(x: Tensor, x_true: Tensor, support: Tensor) -> float:
    """Compute 10 log10(max|x_true|^2 / mean over the support of (x - x_true)^2), in dB.

    Args:
        x, x_true: (H, W) real.
        support: (H, W) bool.
    """
    difference = (x - x_true)[support]
    mse = difference.square().mean().item()
    peak = x_true[support].abs().max().item()
    return math.inf if mse == 0 else 10 * math.log10(peak**2 / mse)


def nmse(x: Tensor, x_true: Tensor, support: Tensor) -> float:
    """Compute ||x - x_true||^2 / ||x_true||^2 over the support.

    Args:
        x, x_true: (H, W) real.
        support: (H, W) bool.
    """
    error = (x - x_true)[support].square().sum()
    return (error / x_true[support].square().sum()).item()


def ssim(x: Tensor, x_true: Tensor, support: Tensor, window: str = "gaussian11") -> float:
    """Compute the mean structural similarity over the support.

    Args:
        x, x_true: (H, W) real, both sides at least 11 pixels.
        support: (H, W) bool. Where a window would cross the image's border is left out.
        window: `gaussian11`: 11 x 11 Gaussian of standard deviation 1.5 (Wang et al.);
            `uniform7`: 7 x 7 mean with the unbiased covariance (scikit-image's default).

    Returns:
        Mean SSIM in [-1, 1] with data range max|x_true| in the support, K1 0.01, K2 0.03.

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

    def smooth(image: Tensor) -> Tensor:  # valid part only: (H - 2 radius, W - 2 radius)
        rows = F.conv2d(image[None, None], taps[None, None, :, None])
        return F.conv2d(rows, taps[None, None, None, :])[0, 0]

    # Outside the support the images count as zero, so nothing there leaks in through a window.
    a = torch.where(support, x, 0).double()
    b = torch.where(support, x_true, 0).double()
    peak = b.abs().max()
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    mean_a, mean_b = smooth(a), smooth(b)
    var_a = bessel * (smooth(a * a) - mean_a**2)
    var_b = bessel * (smooth(b * b) - mean_b**2)
    cov = bessel * (smooth(a * b) - mean_a * mean_b)
    similarity = ((2 * mean_a * mean_b + c1) * (2 * cov + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    )
    inside = support[radius:-radius, radius:-radius]
    return similarity[inside].mean().item()


def magnitude_metrics(x: Tensor, x_true: Tensor, support: Tensor) -> dict[str, float]:
    """Score a complex image by its magnitude.

    Args:
        x, x_true: (1, 1, H, W) complex.
        support: (H, W) bool.

    Returns:
        psnr (dB), ssim (gaussian11), ssim_uniform7, nmse.
    """
    a, b = x[0, 0].abs(), x_true[0, 0].abs()
    return {
        "psnr": psnr(a, b, support),
        "ssim": ssim(a, b, support),
        "ssim_uniform7": ssim(a, b, support, window="uniform7"),
        "nmse": nmse(a, b, support),
    }
