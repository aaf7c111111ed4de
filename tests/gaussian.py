"""Priors whose network is exact: the noise that is expected in noisy Gaussian images."""

import json
import math

import torch
from torch import nn

from models.diffusion import Prior
from utils import priors, runs

FACTS = {"file": "exact.pt", "network": "Gaussian", "n_params": 3, "predicts": "eps"}


class GaussianNet(nn.Module):
    """Compute E[eps | x_t] for x_0 ~ N(mean, Q diag(variances) Q^T), the images flattened.

        E[eps | x] = sigma Q (variances + sigma^2)^-1 Q^T (x - mean)

    Args:
        mean, variances: broadcast to (channels, H, W).
        sigma, scale: (steps,) float64.
        basis: Q, (n, n); None for the identity.
        v: what it says of its variance in each pixel; None for nothing.
    """

    def __init__(self, mean, variances, sigma, scale, basis=None, v=None):
        super().__init__()
        self.mean, self.variances, self.basis, self.v = mean, variances, basis, v
        self.sigma, self.scale = sigma, scale
        self.weight = nn.Parameter(torch.ones(3))  # so that it counts some

    def turned(self, x, basis):
        return x if self.basis is None else (x.flatten(1) @ basis).view(x.shape)

    def forward(self, x_t, t):
        sigma, scale = (s[t.cpu()].to(x_t)[:, None, None, None] for s in (self.sigma, self.scale))
        d = self.turned(x_t / scale - self.mean, self.basis)
        eps = sigma * d / (self.variances + sigma**2)
        eps = self.turned(eps, None if self.basis is None else self.basis.T)
        return eps if self.v is None else torch.cat((eps, torch.full_like(eps, self.v)), dim=1)


def schedule(kind, steps=1000):
    """Return sigma and scale: DDPM's linear schedule, or a geometric one over the same range."""
    betas = torch.linspace(1e-4, 2e-2, 1000, dtype=torch.float64)
    abar = (1 - betas).cumprod(dim=0)[torch.linspace(0, 999, steps).long()]
    sigma = ((1 - abar) / abar).sqrt()
    if kind == "vp":
        return sigma, abar.sqrt()
    if kind == "rescaled":  # VP's levels, VE's coordinates
        return sigma, torch.ones_like(sigma)
    ends = (math.log(sigma[0]), math.log(sigma[-1]))
    return torch.linspace(*ends, steps, dtype=torch.float64).exp(), torch.ones_like(sigma)


def gaussian_prior(
    mean, variances, kind="vp", steps=1000, channels=1, size=8, basis=None, v=None, **more
):
    sigma, scale = schedule(kind, steps)
    net = GaussianNet(mean, variances, sigma, scale, basis, v)
    levels = {"multiple": 1, "low": 0.0, "high": 1.0, "facts": FACTS}
    return Prior(net, sigma, scale, channels=channels, size=size, **levels | more)


def write_prior(path, channels=1, kind="vp", seen=()):
    """Write a file that fake_priors reads as a prior; seen: facts of what it learned from."""
    path.write_text(json.dumps({"channels": channels, "kind": kind, "items": [*seen]}))
    return path


def fake_priors(monkeypatch):
    """Let files of write_prior be read where a run reads its priors."""

    def load(path):
        facts = json.loads(path.read_text())
        own = {name: facts[name] for name in ("channels", "kind")}
        mean = 0.5 if facts["channels"] == 3 else 0.0
        return gaussian_prior(mean, 0.1, size=64, multiple=16, facts=FACTS | facts, **own)

    for module in (runs, priors):
        monkeypatch.setattr(module, "load_prior", load)
