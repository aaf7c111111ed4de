"""The noise of measurements: its level, and how neighbouring pixels and channels share it."""

import math

import numpy as np
import torch
from torch import Tensor

from utils.errors import require

SIDE = 16  # of a patch in pixels
FLAT = 0.1  # share of the patches that are taken for flat,
FEWEST = 8  # and at least so many
ROUNDING = 1 / 255**2 / 12  # variance that 8 bits make by themselves


def told_norm(y: Tensor, sigma: float | None, estimate: float, of: str) -> float:
    """Return the expected norm of the noise in measurements, and print its level.

    Args:
        y: what was measured, any shape, real or complex.
        sigma: --sigma, the root mean square of the noise in the unit of y; None takes the estimate.
        estimate: of the norm, in the unit of y.
        of: what one value of y is, such as "ray".

    Raises:
        InputError: sigma is below 0, or the noise would be larger than y.
    """
    root, whole = math.sqrt(y.numel()), torch.linalg.vector_norm(y).item()
    norm, source = estimate, "estimated"
    if sigma is not None:
        norm, source = sigma * root, f"given; the estimate is {estimate / root:.3g}"
    require(
        sigma is None or 0 <= norm < whole,
        f"--sigma {sigma}: expected at least 0, and less than {whole / root:.3g}, the root mean "
        "square of the measurements; give it in their unit",
    )
    print(f"noise of standard deviation {norm / root:.3g} a {of}, of {whole / root:.3g} ({source})")
    return norm


def estimate_correlation(pixels: np.ndarray) -> Tensor:
    """Estimate how the pixels and channels of a picture share its noise, from its flattest patches.

        S = mean over patches of G G^H / n,   h = F^-1 S^(1/2)

    where G is the Fourier transform of a patch of n pixels and all channels, without its quadratic
    trend and under a Hann window of mean square 1. S^(1/2) is the root of a matrix over the channels
    at each frequency. White noise convolved with h has the spectrum S. Patches with a pixel that is 0
    or 1 in all channels do not count, nor those without noise: what a camera cuts off has none.

    Args:
        pixels: (C, H, W) in [0, 1], H and W of at least 16.

    Returns:
        h, (C, C, 16, 16) float32 with its middle at [:, :, 0, 0], scaled so that its noise has a
        variance of 1 over all channels.

    Raises:
        InputError: there are too few patches with noise.
    """
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (SIDE, SIDE), axis=(1, 2))
    step = SIDE // 2
    patches = windows[:, ::step, ::step].swapaxes(0, 2).reshape(-1, len(pixels), SIDE**2)
    patches = patches.astype(np.float64)
    trend = np.linalg.qr(quadratic(SIDE))[0]
    rest = patches - patches @ trend @ trend.T
    cut = ((patches <= 0) | (patches >= 1)).all(axis=1).any(axis=1)
    rest = rest[~cut & (rest.var(axis=(1, 2)) > ROUNDING)]
    require(
        len(rest) >= FEWEST,
        f"--noise correlated: of {len(patches)} patches of {SIDE}x{SIDE} pixels {len(rest)} have "
        f"noise and no black or white pixel; expected at least {FEWEST}. Take more of the "
        "picture, or omit it",
    )
    flattest = np.argsort(rest.var(axis=(1, 2)))[: max(FEWEST, round(FLAT * len(rest)))]
    hann = np.hanning(SIDE + 2)[1:-1]
    window = np.outer(hann, hann) / np.mean(hann**2)
    G = np.fft.fft2(rest[flattest].reshape(-1, len(pixels), SIDE, SIDE) * window)
    S = np.einsum("pcij,pdij->ijcd", G, G.conj()) / len(flattest) / SIDE**2
    values, vectors = np.linalg.eigh(S)
    root = np.einsum("ijce,ije,ijde->cdij", vectors, np.sqrt(values.clip(0)), vectors.conj())
    h = np.fft.ifft2(root).real
    return torch.from_numpy(h / np.sqrt((h**2).sum() / len(h))).float()


def quadratic(side: int) -> np.ndarray:
    """Return a basis of the polynomials up to degree 2 over a square, (side^2, 6)."""
    v, u = np.mgrid[:side, :side].reshape(2, -1) / side
    return np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=1)


def convolve(white: Tensor, h: Tensor) -> Tensor:
    """Convolve white noise with a filter, as if the picture went on at its other side.

    Args:
        white: (B, C, H, W), H and W at least those of the filter.
        h: (C, C, a, b) with its middle at [:, :, 0, 0], on the same device.

    Returns:
        (B, C, H, W).

    Raises:
        ValueError: h has other channels, or is larger than the picture.
    """
    channels, (a, b) = white.shape[1], h.shape[-2:]
    if h.shape[:2] != (channels, channels) or a > white.shape[-2] or b > white.shape[-1]:
        raise ValueError(
            f"expected a filter of {channels} by {channels} channels, at most as large as the "
            f"picture, got {tuple(h.shape)} for {tuple(white.shape)}"
        )
    wide = h.new_zeros(*h.shape[:2], *white.shape[-2:])
    wide[..., :a, :b] = h.roll((a // 2, b // 2), (-2, -1))
    wide = wide.roll((-(a // 2), -(b // 2)), (-2, -1))
    spectrum = torch.einsum("cdij,bdij->bcij", torch.fft.rfft2(wide), torch.fft.rfft2(white))
    return torch.fft.irfft2(spectrum, s=white.shape[-2:])
