"""A diffusion network that was trained before, in one form for all noise schedules."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class Prior(nn.Module):
    """A frozen diffusion network and its noise levels, in one form for variance-preserving and variance-exploding networks alike.

        x = x_0 + sigma[t] eps,    t = 0, ..., steps - 1

    These are the coordinates of Karras et al., Elucidating the design space of diffusion-based
    generative models, NeurIPS 2022.

    Args:
        net: maps x_t = scale[t] x and t, a tensor (B,) of indices, to (B, channels, H, W), or to
            twice as many channels. It predicts eps; the further channels of a network with learned
            variance are v in [-1, 1].
        sigma: (steps,) float64, ascending. Variance-preserving: sqrt((1 - abar) / abar);
            variance-exploding: geometric.
        scale: (steps,) float64. Variance-preserving: sqrt(abar); variance-exploding: 1.
        channels: 1 (grey, CT), 2 (real and imaginary part), 3 (RGB).
        size: side in pixels of the images that it was trained on.
        multiple: both sides of an image must be multiples of it.
        low, high: the range of these images, (0, 1) or (-1, 1); of complex ones (0, 1) is the
            magnitude's.
        facts: what config.json is to hold of it.
    """

    def __init__(
        self,
        net: nn.Module,
        sigma: Tensor,
        scale: Tensor,
        *,
        channels: int,
        size: int,
        multiple: int = 1,
        low: float = 0.0,
        high: float = 1.0,
        facts: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.net = net.requires_grad_(False).eval()
        self.sigma, self.scale = sigma, scale  # on the CPU: reading them never waits for a device
        self.steps = len(sigma)
        self.channels, self.size, self.multiple = channels, size, multiple
        self.low, self.high = low, high
        self.facts = facts or {}

    def predict(self, x: Tensor, t: int) -> tuple[Tensor, Tensor | None]:
        """Return eps and v at step t, (B, channels, H, W) each; v is None without learned variance."""
        index = torch.full((len(x),), t, device=x.device)
        out = self.net(float(self.scale[t]) * x, index)
        if out.shape[1] == self.channels:
            return out, None
        eps, v = out.split(self.channels, dim=1)
        return eps, v

    def eps(self, x: Tensor, t: int) -> Tensor:
        """Return eps, (B, channels, H, W): the noise in x in units of sigma[t]."""
        return self.predict(x, t)[0]

    def x0(self, x: Tensor, t: int) -> Tensor:
        """Return x - sigma[t] eps, (B, channels, H, W): the image that is expected behind x."""
        return x - float(self.sigma[t]) * self.eps(x, t)


def load_prior(path: Path) -> Prior:
    """Read a prior from a file.

    Raises:
        InputError: the file is damaged, of another kind, or cannot be read safely.
    """
    raise NotImplementedError
