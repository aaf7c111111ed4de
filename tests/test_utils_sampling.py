"""Samplers against Gaussian images, whose posterior is known in closed form."""

import math

import numpy as np
import pytest
import torch
from gaussian import gaussian_prior

from operators.mri import MultiCoilMRI
from operators.pixels import Identity
from operators.radon import Radon
from utils import sampling
from utils.sampling import Frame, ancestral, ddim_step, draw, grid, levels, purify


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def correlated(n=4, seed=0):
    """Return a mean, variances and an orthonormal basis of images of n pixels."""
    basis = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64, generator=rng(seed)))[0]
    mean = torch.randn(1, 1, n, dtype=torch.float64, generator=rng(seed + 1))
    return mean, torch.tensor([0.1, 0.3, 0.7, 1.5], dtype=torch.float64), basis


@pytest.mark.parametrize("kind", ["vp", "ve"])
@pytest.mark.parametrize("fresh", ["ddim", "ancestral"])
def test_samples_have_the_mean_and_the_covariance_of_the_images(kind, fresh):
    mean, variances, basis = correlated()
    prior = gaussian_prior(mean, variances, kind, basis=basis)
    noise, n = rng(2), 10000
    ts = grid(prior, 200)
    sigma = levels(prior, ts)
    x = sigma[0] * draw(torch.empty(n, 1, 1, 4, dtype=torch.float64), noise)
    for t, s, s_next in zip(ts, sigma, sigma[1:]):
        eps = prior.eps(x, t)
        std = ancestral(s, s_next) if fresh == "ancestral" else 0.0
        x = ddim_step(x - s * eps, eps, s_next, std, noise)
    x = x.flatten(1).numpy()
    covariance = (basis * variances) @ basis.T
    assert np.abs(x.mean(axis=0) - mean.flatten().numpy()).max() < 4 * math.sqrt(1.5 / n)
    # The levels are finite: what is sampled is a little narrower.
    assert np.abs(np.cov(x.T) - covariance.numpy()).max() < 0.06


@pytest.mark.parametrize("kind", ["vp", "ve"])
def test_one_ddim_step_is_exact_for_each_deviation_from_the_mean(kind):
    """(x_0' - mean) = (x - mean) (variance + sigma sigma') / (variance + sigma^2)."""
    prior = gaussian_prior(0.3, 0.2, kind)
    x = draw(torch.empty(1, 1, 3, 3, dtype=torch.float64), rng())
    t = 500
    s, s_next = prior.sigma[500].item(), 0.4 * prior.sigma[500].item()
    found = ddim_step(prior.x0(x, t), prior.eps(x, t), s_next, 0.0, rng())
    assert torch.allclose(found, 0.3 + (x - 0.3) * (0.2 + s * s_next) / (0.2 + s**2))


def test_ancestral_is_ddpm_in_its_own_coordinates():
    prior = gaussian_prior(0.3, 0.2, "vp")
    t = 400
    abar, abar_next = (prior.scale[i].item() ** 2 for i in (t, t - 1))
    beta = 1 - abar / abar_next
    x_t = draw(torch.empty(2, 1, 3, 3, dtype=torch.float64), rng())
    x = x_t / math.sqrt(abar)
    x0 = prior.x0(x, t)
    mean = math.sqrt(abar_next) * beta * x0 + math.sqrt(1 - beta) * (1 - abar_next) * x_t
    std = math.sqrt(beta * (1 - abar_next) / (1 - abar))
    expected = mean / (1 - abar) + std * draw(x, rng(5))
    s, s_next = prior.sigma[t].item(), prior.sigma[t - 1].item()
    found = ddim_step(x0, prior.eps(x, t), s_next, ancestral(s, s_next), rng(5))
    assert torch.allclose(found, expected / math.sqrt(abar_next))


@pytest.mark.parametrize("eta", [0.0, 0.6])
def test_purification_shrinks_as_computed_by_hand(eta):
    prior = gaussian_prior(0.5, 0.04)
    x = torch.full((50000, 1, 1, 1), 0.9, dtype=torch.float64)
    t, steps = 100, 4
    found = purify(prior, x, t, steps, eta, rng())
    # Deviation d from the mean and variance v of the noise, step by step: with a = 0.04,
    # x_0 - mean keeps a / (a + s^2) of x - mean, and eps s / (a + s^2).
    s = [prior.sigma[i].item() for i in (100, 67, 33, 0)] + [0.0]
    d, v = 0.4, s[0] ** 2
    for now, following in zip(s, s[1:]):
        share = (0.04 + math.sqrt(1 - eta**2) * following * now) / (0.04 + now**2)
        d, v = share * d, share**2 * v + (eta * following) ** 2
    assert found.mean().item() - 0.5 == pytest.approx(d, abs=4 * math.sqrt(v / 50000))
    assert found.var().item() == pytest.approx(v, rel=0.03)


def test_the_same_levels_give_the_same_samples_in_either_coordinates():
    images = []
    for kind in ("vp", "rescaled"):
        prior = gaussian_prior(0.5, 0.04, kind)
        images.append(purify(prior, torch.rand(1, 1, 4, 4, generator=rng()), 300, 6, 0.3, rng(1)))
    assert torch.allclose(*images, atol=1e-6)


def test_a_grid_begins_with_the_noisiest_and_ends_with_none():
    prior = gaussian_prior(0.0, 1.0, steps=100)
    assert grid(prior, 4) == [99, 66, 33, 0] and grid(prior, 3, 10) == [10, 5, 0]
    assert grid(prior, 1) == [99] and grid(prior, 1000) == [*range(99, -1, -1)]
    assert levels(prior, [3, 0]) == [*prior.sigma[[3, 0]].tolist(), 0.0]
    assert sampling.nearest_step(prior, 1.01 * prior.sigma[40].item()) == 40
    for bad in (lambda: grid(prior, 0), lambda: sampling.nearest_step(prior, 0.0)):
        with pytest.raises(ValueError, match="got 0"):
            bad()


def mri(height=37, width=31):
    mask = torch.ones(height, width, dtype=torch.bool)
    return MultiCoilMRI(torch.ones(1, height, width, dtype=torch.complex64), mask)


@pytest.mark.parametrize("channels, shape", [(2, (1, 2, 48, 32)), (1, (2, 1, 48, 32))])
def test_a_complex_image_goes_through_a_frame_and_back(channels, shape):
    A = mri()
    x = torch.randn(1, 1, 37, 31, dtype=torch.complex64, generator=rng())
    prior = gaussian_prior(0.0, 1.0, channels=channels, multiple=16)
    frame = Frame(prior, A(x), A)
    u = frame.encode(x)
    assert tuple(u.shape) == frame.shape == shape and u.dtype == torch.float32
    assert torch.allclose(frame.decode(u), x, atol=1e-5)
    # The factor comes from y alone: fully sampled, it is the image's own maximum.
    assert frame.peak.item() == pytest.approx(x.abs().max().item(), rel=0.01)
    magnitude = torch.linalg.vector_norm(frame.crop(u).reshape(2, 37, 31), dim=0)
    assert magnitude.max().item() == pytest.approx(1, rel=0.01)
    parts = np.stack((x[0, 0].real, x[0, 0].imag)) / frame.peak.item()
    mirrored = np.pad(parts, ((0, 0), (0, 11), (0, 1)), mode="reflect")
    assert np.allclose(u.reshape(2, 48, 32).numpy(), mirrored, atol=1e-6)
    merged = frame.merge(torch.zeros_like(u), x)
    assert torch.equal(frame.crop(merged), frame.crop(u)) and (merged[..., 37:, :] == 0).all()


def test_pictures_have_a_unit_of_their_own():
    A = Identity((3, 5, 4))
    x = torch.rand(1, 3, 5, 4, generator=rng())
    prior = gaussian_prior(0.0, 1.0, channels=3, multiple=32, low=-1.0)
    frame = Frame(prior, x, A)
    u = frame.encode(x)
    assert frame.peak == 1 and frame.shape == (1, 3, 32, 32)
    assert np.allclose(u, np.pad(2 * x - 1, ((0, 0),) * 2 + ((0, 27), (0, 28)), mode="reflect"))
    assert torch.allclose(frame.decode(u), x, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_prior_of_other_channels_is_refused(channels):
    prior = gaussian_prior(0.0, 1.0, channels=channels)
    with pytest.raises(ValueError, match=f"3 channels, got one of {channels}"):
        Frame(prior, torch.zeros(1, 3, 8, 8), Identity((3, 8, 8)))


def test_the_unit_of_a_slice_follows_its_sinogram():
    A = Radon((32, 32), torch.arange(40, dtype=torch.float64) * torch.pi / 40)
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, 32)] * 2, indexing="ij")
    image = torch.exp(-4 * (x**2 + y**2))[None, None]
    for factor in (1.0, 300.0):
        peak = sampling.peak(A(factor * image), A)
        assert peak.item() == pytest.approx(factor * image.max().item(), rel=0.03)
