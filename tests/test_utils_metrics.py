"""Figures of merit against skimage and against what a hand can compute."""

import math

import numpy as np
import pytest
import torch
from skimage import data
from skimage import metrics as skimage_metrics

from utils.metrics import (
    attenuation_metrics,
    hu_metrics,
    image_metrics,
    magnitude_metrics,
    nmse,
    psnr,
    ssim,
)  # fmt: skip


@pytest.fixture(scope="module")
def pair():
    x_true = data.camera()[100:197, 50:131].astype(np.float64) / 255
    noise = np.random.default_rng(0).normal(0, 0.05, x_true.shape)
    return torch.from_numpy(x_true + noise), torch.from_numpy(x_true)


def everything(x):
    return torch.ones(x.shape, dtype=torch.bool)


def test_psnr_of_a_constant_error_is_known():
    x_true = torch.zeros(16, 16, dtype=torch.float64)
    x_true[3, 4] = 1.0
    assert math.isclose(psnr(x_true + 0.1, x_true, everything(x_true), 1.0), 20.0, rel_tol=1e-9)
    assert math.isclose(psnr(5 * (x_true + 0.1), 5 * x_true, everything(x_true), 5.0), 20.0)
    assert psnr(x_true, x_true, everything(x_true), 1.0) == math.inf


def test_figures_agree_with_skimage(pair):
    x, x_true = pair
    a, b, peak = x.numpy(), x_true.numpy(), x_true.max().item()
    support = everything(x)
    expected = skimage_metrics.peak_signal_noise_ratio(b, a, data_range=peak)
    assert math.isclose(psnr(x, x_true, support, peak), expected, rel_tol=1e-10)
    expected = skimage_metrics.normalized_root_mse(b, a) ** 2
    assert math.isclose(nmse(x, x_true, support), expected, rel_tol=1e-10)
    expected = skimage_metrics.structural_similarity(b, a, data_range=peak)
    assert math.isclose(ssim(x, x_true, support, peak, "uniform7"), expected, rel_tol=1e-9)
    expected = skimage_metrics.structural_similarity(
        b, a, data_range=peak, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert math.isclose(ssim(x, x_true, support, peak), expected, rel_tol=1e-9)


def test_only_the_support_counts(pair):
    x, x_true = pair
    support = everything(x)
    support[:, 40:] = False
    spoiled = torch.where(support, x, 99.0)
    peak = x_true[support].max().item()
    for figure, more in ((psnr, [peak]), (nmse, []), (ssim, [peak])):
        assert figure(spoiled, x_true, support, *more) == figure(x, x_true, support, *more)
    _, similarity = skimage_metrics.structural_similarity(
        (x_true * support).numpy(), (x * support).numpy(), data_range=peak, full=True,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    expected = similarity[5:-5, 5:40].mean()
    assert math.isclose(ssim(x, x_true, support, peak), expected, rel_tol=1e-9)


def test_an_unknown_window_is_refused(pair):
    with pytest.raises(ValueError, match="gaussian11"):
        ssim(*pair, everything(pair[0]), 1.0, window="box")


def test_magnitudes_are_scored(pair):
    x, x_true = (p.to(torch.complex128)[None, None] for p in pair)
    support = everything(pair[0])
    figures = magnitude_metrics(x * 1j, x_true, support)
    assert set(figures) == {"psnr", "ssim", "ssim_uniform7", "nmse", "psnr_frame"}
    half = support.clone()
    half[: len(half) // 2] = False
    in_half = magnitude_metrics(x * 1j, x_true, half)
    share = half.double().mean().item()
    assert math.isclose(in_half["psnr_frame"], in_half["psnr"] - 10 * math.log10(share))
    peak = pair[1].max().item()
    assert math.isclose(figures["psnr"], psnr(x[0, 0].abs(), x_true[0, 0].abs(), support, peak))


def test_pictures_are_clipped_and_scored_over_their_channels():
    x_true = data.astronaut()[:64, 60:150].astype(np.float64) / 255  # (64, 90, 3)
    x = x_true + np.random.default_rng(0).normal(0, 0.1, x_true.shape)
    figures = image_metrics(*(torch.from_numpy(a).movedim(-1, 0)[None] for a in (x, x_true)))
    shown = x.clip(0, 1)
    assert math.isclose(
        figures["psnr"], skimage_metrics.peak_signal_noise_ratio(x_true, shown, data_range=1)
    )
    expected = skimage_metrics.structural_similarity(
        x_true, shown, data_range=1, channel_axis=-1, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )  # fmt: skip
    assert math.isclose(figures["ssim"], expected, rel_tol=1e-9)
    expected = skimage_metrics.structural_similarity(x_true, shown, data_range=1, channel_axis=-1)
    assert math.isclose(figures["ssim_uniform7"], expected, rel_tol=1e-9)


def test_attenuation_is_not_clipped_and_its_range_is_1():
    x_true = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    x_true[..., 3, 4] = 0.5  # not its maximum but 1 is the range
    assert math.isclose(attenuation_metrics(x_true - 0.1, x_true)["psnr"], 20.0)


def test_a_window_shows_neither_what_lies_above_nor_below_it():
    hu_true = torch.tensor([[[[-1000.0, 0.0, 50.0, 2000.0]]]])
    hu = torch.tensor([[[[-400.0, 40.0, 50.0, 900.0]]]])  # one visible error, of 40 HU
    expected = 10 * math.log10(400**2 / (40**2 / 4))
    figures = hu_metrics(hu, hu_true, (-160.0, 240.0))
    assert math.isclose(figures["psnr_window"], expected, rel_tol=1e-6)
    rmse = math.sqrt((600**2 + 40**2 + 1100**2) / 4)
    assert math.isclose(figures["rmse_hu"], rmse, rel_tol=1e-6)
