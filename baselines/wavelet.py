"""Wavelet denoising: small wavelet coefficients are noise."""

from typing import Literal

import pywt
import torch
from skimage.restoration import denoise_wavelet
from torch import Tensor, nn

from baselines.classical import check_problem
from operators.pixels import Identity
from utils.callback import Callback
from utils.methods import Count, Method


def wavelet(
    y: Tensor,
    A: Identity,
    net: nn.Module | None = None,
    *,
    z0: Tensor | None = None,
    sigma: float,
    wavelet_name: str = "sym8",
    levels: Count = 3,
    mode: Literal["soft", "hard"] = "soft",
    callback: Callback | None = None,
) -> Tensor:
    """Denoise by thresholds on wavelet coefficients (BayesShrink).

        x_hat = W^-1 shrink(W y, t_b),   t_b = sigma^2 / sqrt(max(var(W y)_b - sigma^2, 0))

    with one threshold t_b in each subband b; a colour picture is treated in YCbCr.

    Args:
        y: noisy picture, (1, C, H, W), C 3 (RGB) or 1 (grey).
        A: forward operator, the identity.
        net, z0, callback: not used.
        sigma: standard deviation of the noise in units of y.
        wavelet_name: an orthogonal wavelet of PyWavelets; it, levels and mode were chosen by
            studies/tune.py, on the development half of data/split.txt.
        levels: of the transform; fewer where the picture is too small for the wavelet.
        mode: whether larger coefficients are lowered by the threshold, or kept.

    Returns:
        x_hat, (1, C, H, W), not clipped.

    Raises:
        ValueError: A is not Identity, y does not fit it, or the wavelet is not known.

    Reference:
        Chang, Yu, Vetterli, Adaptive wavelet thresholding for image denoising and compression,
        IEEE Trans. Image Process. 2000; skimage.restoration.denoise_wavelet. Differs from the
        paper: colour.
    """
    check_problem("wavelet", y, A, Identity)
    x_hat = denoise_wavelet(
        y[0].cpu().numpy(),
        sigma=sigma,
        wavelet=wavelet_name,
        mode=mode,
        wavelet_levels=min(levels, pywt.dwtn_max_level(y.shape[-2:], wavelet_name)),
        convert2ycbcr=len(y[0]) == 3,
        channel_axis=0,
    )
    return torch.from_numpy(x_hat)[None].to(y)


METHOD = Method("wavelet", "wavelet", wavelet, takes=("sigma",))
