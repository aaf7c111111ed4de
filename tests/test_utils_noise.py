"""Noise that neighbouring pixels and channels share."""

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d

from utils.errors import InputError
from utils.noise import SIDE, convolve, estimate_correlation


def picture(noise):
    """Add noise to a picture that is textured in two thirds, and smooth in the rest."""
    rows = np.linspace(0.2, 0.8, noise.shape[1])[:, None]
    texture = np.random.default_rng(1).normal(0, 0.2, noise.shape)
    texture[:, :, : noise.shape[2] // 3] = 0
    return (rows + texture + noise).clip(0.01, 0.99).astype(np.float32)


def drawn(h, shape, n=20):
    """Return noise of a filter, (n, C, H, W)."""
    white = torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))
    return convolve(white, h).numpy()


def autocovariance(noise, i, j):
    """Return the covariance (C, C) of pixels that lie (i, j) apart, from (n, C, H, W)."""
    there = np.roll(noise, (i, j), (2, 3))
    return np.einsum("nchw,ndhw->cd", noise, there) / noise[:, 0].size


def test_white_noise_is_found_to_be_white():
    noise = np.random.default_rng(0).normal(0, 0.05, (3, 192, 192))
    h = estimate_correlation(picture(noise))
    assert h.shape == (3, 3, SIDE, SIDE)
    found = drawn(h, noise.shape)
    np.testing.assert_allclose(autocovariance(found, 0, 0), np.eye(3), atol=0.12)
    for apart in ((0, 1), (1, 0), (1, 1)):
        np.testing.assert_allclose(autocovariance(found, *apart), 0, atol=0.12)


@pytest.mark.parametrize("channels, saturated", [(1, 0), (3, 0), (3, 2)])
def test_noise_is_drawn_as_neighbours_and_channels_share_it(channels, saturated):
    """scipy blurs the noise, of which the covariance is known."""
    white = np.random.default_rng(0).normal(0, 0.03, (channels, 256, 256))
    mixed = np.einsum("cd,dhw->chw", np.eye(channels) + 0.5, white)
    kernel = {1: [0.25, 0.5, 0.25], 2: [0.1, 0.8, 0.1]}  # along rows and columns
    noise = mixed
    for axis, weights in kernel.items():
        noise = correlate1d(noise, weights, axis=axis, mode="wrap")
    pixels = picture(noise)
    pixels[:, : 40 * saturated] = 1.0  # what is cut off has no noise
    found = drawn(estimate_correlation(pixels), noise.shape)
    mixing = (np.eye(channels) + 0.5) @ (np.eye(channels) + 0.5).T * 0.03**2
    rows, columns = (np.correlate(k, k, "full") for k in kernel.values())
    scale = mixing[0, 0] * rows[2] * columns[2]
    for i, j in ((0, 0), (1, 0), (0, 1), (1, 1), (2, 0)):
        expected = mixing * rows[2 + i] * columns[2 + j] / scale
        np.testing.assert_allclose(autocovariance(found, i, j), expected, atol=0.12)


@pytest.mark.parametrize("value", [0.5, 1.0])
def test_a_picture_without_noise_is_refused(value):
    pixels = np.full((3, 64, 64), value, dtype=np.float32)
    with pytest.raises(InputError, match="of 49 patches of 16x16 pixels 0 have noise and no black"):
        estimate_correlation(pixels)


def test_a_filter_moves_nothing_and_goes_on_at_the_other_side():
    h = torch.zeros(2, 2, 4, 4)
    h[0, 1, 0, 0] = 2.0  # the first channel is twice the second one
    h[1, 0, 0, 3] = 1.0  # the second one is the first, one pixel to the left
    white = torch.randn(1, 2, 6, 5, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([2 * white[:, 1], white[:, 0].roll(-1, -1)], dim=1)
    torch.testing.assert_close(convolve(white, h), expected)


@pytest.mark.parametrize("shape", [(3, 3, 4, 4), (2, 2, 7, 4)])
def test_a_filter_that_does_not_fit_is_refused(shape):
    with pytest.raises(ValueError, match="expected a filter of 2 by 2 channels"):
        convolve(torch.zeros(1, 2, 6, 5), torch.zeros(shape))
