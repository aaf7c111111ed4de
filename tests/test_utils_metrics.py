"""Figures of merit against skimage and against what a hand can compute."""

import math

import numpy as np
import pytest
import torch
from skimage import data, metrics as skimage_metrics

from utils.metrics import magnitude_metrics, nmse, psnr, ssim


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
    assert math.isclose(psnr(x_true + 0.1, x_true, everything(x_true)), 20.0, rel_tol=1e-9)
    assert math.isclose(psnr(5 * (x_true + 0.1), 5 * x_true, everything(x_true)), 20.0)
    assert psnr(x_true, x_true, everything(x_true)) == math.inf


def test_figures_agree_with_skimage(pair):
    x, x_true = pair
    a, b, peak = x.numpy(), x_true.numpy(), x_true.max().item()
    support = everything(x)
    expected = skimage_metrics.peak_signal_noise_ratio(b, a, data_range=peak)
    assert math.isclose(psnr(x, x_true, support), expected, rel_tol=1e-10)
    expected = skimage_metrics.normalized_root_mse(b, a) ** 2
    assert math.isclose(nmse(x, x_true, support), expected, rel_tol=1e-10)
    expected = skimage_metrics.structural_similarity(b, a, data_range=peak)
    assert math.isclose(ssim(x, x_true, support, "uniform7"), expected, rel_tol=1e-9)
    expected = skimage_metrics.structural_similarity(
        b, a, data_range=peak, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert math.isclose(ssim(x, x_true, support), expected, rel_tol=1e-9)


def test_only_the_support_counts(pair):
    x, x_true = pair
    support = everything(x)
    support[:, 40:] = False
    spoiled = torch.where(support, x, 99.0)
    for figure in (psnr, nmse, ssim):
        assert figure(spoiled, x_true, support) == figure(x, x_true, support)
    peak = x_true[support].max().item()
    _, similarity = skimage_metrics.structural_similarity(
        (x_true * support).numpy(), (x * support).numpy(), data_range=peak, full=True,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    expected = similarity[5:-5, 5:40].mean()
    assert math.isclose(ssim(x, x_true, support), expected, rel_tol=1e-9)


def test_an_unknown_window_is_refused(pair):
    with pytest.raises(ValueError, match="gaussian11"):
        ssim(*pair, everything(pair[0]), window="box")


def test_magnitudes_are_scored(pair):
    x, x_true = (p.to(torch.complex128)[None, None] for p in pair)
    support = everything(pair[0])
    figures = magnitude_metrics(x * 1j, x_true, support)
    assert set(figures) == {"psnr", "ssim", "ssim_uniform7", "nmse"}
    assert math.isclose(figures["psnr"], psnr(x[0, 0].abs(), x_true[0, 0].abs(), support))
