"""Learned priors: frozen diffusion networks, all seen in one form."""

from typing import Any

import torch
from torch import Tensor, nn


class Prior(nn.Module):
    """A frozen diffusion network and its noise levels.

    Variance-preserving (VP) and variance-exploding (VE) networks have one form,

        x = x_0 + sigma[t] eps,    eps ~ N(0, I),    t = 0, ..., steps - 1

    the coordinates of k-diffusion. The network cannot be trained, but it can be differentiated
    with respect to x.

    Args:
        net: (x_t, t) -> (B, channels or 2 channels, H, W), with x_t = scale[t] x and t integer
            (B,). The first channels predict eps; the others, if there are any, are the v in
            [-1, 1] of a learned variance.
        sigma: (steps,) float64, ascending. VP: sqrt((1 - abar) / abar). VE: geometric.
        scale: (steps,) float64. VP: sqrt(abar). VE: 1.
        channels: 1 (grey, CT), 2 (real and imaginary part) or 3 (RGB).
        size: side in pixels of the images that it was trained on.
        multiple: both sides of an image must be multiples of it.
        low, high: range of the images that it was trained on, (0, 1) or (-1, 1); of complex ones
            (0, 1) is the magnitude's.
        facts: what config.json is to hold: name of the network, parameters, the file's name and
            its SHA-256.

    Attributes:
        steps: number of noise levels.

    Reference:
        Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models, NeurIPS
        2022, appendix C, writes VP and VE in these coordinates; VP networks are those of Ho et
        al., DDPM, NeurIPS 2020.
    """

    def __init__(
        self,
        net: nn.Module,
        sigma: Tensor,
        scale: Tensor,
        channels: int,
        size: int,
        multiple: int,
        low: float,
        high: float,
        facts: dict[str, Any],
    ) -> None:
        super().__init__()
        self.net = net.requires_grad_(False).eval()
        # No buffers: they stay on the CPU in float64, and reading one never waits for a GPU.
        self.sigma, self.scale = sigma, scale
        self.channels, self.size, self.multiple = channels, size, multiple
        self.low, self.high, self.facts = low, high, facts
        self.steps = len(sigma)

    def predict(self, x: Tensor, t: int) -> tuple[Tensor, Tensor | None]:
        """Predict the noise.

        Args:
            x: (B, channels, H, W) float32, x_0 + sigma[t] eps.
            t: index of the noise level.

        Returns:
            eps_hat, (B, channels, H, W), and v of the same shape, None without learned variance.
        """
        index = torch.full((len(x),), t, device=x.device)
        prediction = self.net(self.scale[t].item() * x, index)
        eps, v = prediction[:, : self.channels], prediction[:, self.channels :]
        return eps, v if v.shape[1] else None

    def eps(self, x: Tensor, t: int) -> Tensor:
        """Predict the noise, (B, channels, H, W). Arguments as in predict."""
        return self.predict(x, t)[0]

    def x0(self, x: Tensor, t: int) -> Tensor:
        """Predict the image, E[x_0 | x] = x - sigma[t] eps_hat. Arguments as in predict."""
        return x - self.sigma[t].item() * self.eps(x, t)
