"""Priors: a Gaussian's exact denoiser, and every kind of file."""

import pytest
import torch
from torch import nn

from models.diffusion import Prior

MEAN, VARIANCE = 0.3, 0.04
BETA = torch.linspace(1e-4, 2e-2, 1000, dtype=torch.float64)
ABAR = torch.cumprod(1 - BETA, 0)
SCHEDULES = {
    "VP": (((1 - ABAR) / ABAR).sqrt(), ABAR.sqrt()),
    "VE": (torch.logspace(-2, 2, 50, dtype=torch.float64), torch.ones(50, dtype=torch.float64)),
}


class GaussianNet(nn.Module):
    """The exact eps of images whose pixels are independent, N(MEAN, VARIANCE)."""

    def __init__(self, sigma, scale, learned_variance=False):
        super().__init__()
        self.sigma, self.scale, self.learned_variance = sigma, scale, learned_variance
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x_t, t):
        assert t.shape == (len(x_t),) and t.dtype == torch.int64
        sigma, scale = (values[t][:, None, None, None] for values in (self.sigma, self.scale))
        x = x_t / scale
        eps = self.weight * sigma * (x - MEAN) / (sigma**2 + VARIANCE)
        return torch.cat((eps, 0 * eps + 0.25), 1) if self.learned_variance else eps


def gaussian_prior(kind, learned_variance=False):
    sigma, scale = SCHEDULES[kind]
    net = GaussianNet(sigma, scale, learned_variance)
    return Prior(net, sigma, scale, 2, 8, 1, 0, 1, {})


def noisy(prior, t, seed=0):
    g = torch.Generator().manual_seed(seed)
    x0 = MEAN + VARIANCE**0.5 * torch.randn(3, 2, 40, 50, generator=g, dtype=torch.float64)
    return x0, x0 + prior.sigma[t] * torch.randn(x0.shape, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("t", [0, 20, 49])
def test_x0_is_the_posterior_mean_of_a_gaussian(kind, t):
    prior = gaussian_prior(kind)
    x0, x = noisy(prior, t)
    precision = 1 / VARIANCE + 1 / prior.sigma[t] ** 2
    mean = (MEAN / VARIANCE + x / prior.sigma[t] ** 2) / precision
    torch.testing.assert_close(prior.x0(x, t), mean, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(prior.eps(x, t), (x - mean) / prior.sigma[t], rtol=1e-9, atol=1e-12)
    # 12000 pixels: the mean squared error is known to 1.3 %.
    error = ((prior.x0(x, t) - x0) ** 2).mean().item()
    assert error == pytest.approx(1 / precision.item(), rel=0.06)


def test_predict_tells_the_variance_from_the_noise():
    prior = gaussian_prior("VP", learned_variance=True)
    x = torch.randn(2, 2, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    eps, v = prior.predict(x, 7)
    assert eps.shape == v.shape == x.shape
    torch.testing.assert_close(v, torch.full_like(v, 0.25))
    eps_alone, v_alone = gaussian_prior("VP").predict(x, 7)
    torch.testing.assert_close(eps_alone, eps, rtol=0, atol=0)
    assert v_alone is None


def test_a_prior_is_frozen_but_differentiable_in_x():
    prior = gaussian_prior("VP")
    assert prior.steps == 1000
    assert not prior.net.training
    x = torch.zeros(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(prior.x0(x, 100).sum(), x)
    expected = VARIANCE / (VARIANCE + prior.sigma[100] ** 2)  # of the posterior mean
    torch.testing.assert_close(gradient, expected.expand_as(gradient))
    assert not any(p.requires_grad for p in prior.parameters())
