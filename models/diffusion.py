"""Learned priors: frozen diffusion networks, all seen in one form."""

from typing import Any

import torch
from torch import Tensor, nn

KIND = "aSeqDIP prior 1"  # of the files that prior_train.py writes
VP_STEPS = 1000


def vp_levels() -> tuple[Tensor, Tensor]:
    """Return sigma and scale, (1000,) float64 each, of the linear schedule of DDPM.

        beta = 1e-4, ..., 2e-2,    abar_t = prod_{s <= t} (1 - beta_s)
        sigma = sqrt((1 - abar) / abar),    scale = sqrt(abar)

    Reference:
        Ho et al., DDPM, NeurIPS 2020, section 4; OpenAI's networks, DPS and DDS have it too.
    """
    beta = torch.linspace(1e-4, 2e-2, VP_STEPS, dtype=torch.float64)
    abar = torch.cumprod(1 - beta, dim=0)
    return ((1 - abar) / abar).sqrt(), abar.sqrt()


class Preconditioned(nn.Module):
    """Let a network predict the noise well at every level, whatever the scale of the images is.

    With x = x_t / scale, r^2 = sigma^2 + s^2 and the network F,

        eps_hat = (sigma x / r - s F(x / r, t)) / r

    F's input and its target have variance 1. Where there is hardly any noise, F predicts it;
    where there is hardly anything else, F predicts the image.

    Args:
        net: F, ADM.
        sigma, scale: (steps,), as in Prior.
        data_std: s, root mean square of the training images.

    Reference:
        Karras et al., NeurIPS 2022, eq. (7) and table 1, solved for the noise.
    """

    def __init__(self, net: nn.Module, sigma: Tensor, scale: Tensor, data_std: float) -> None:
        super().__init__()
        self.net, self.data_std = net, data_std
        self.in_channels = net.in_channels
        self.register_buffer("sigma", sigma.float(), persistent=False)
        self.register_buffer("scale", scale.float(), persistent=False)

    def spread(self, t: Tensor) -> Tensor:
        """Return r, (B, 1, 1, 1), of noise levels (B,)."""
        return (self.sigma[t] ** 2 + self.data_std**2).sqrt()[:, None, None, None]

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Predict the noise in x_t (B, C, H, W) at the levels t (B,)."""
        r = self.spread(t)
        x = x_t / self.scale[t][:, None, None, None] / r
        return (self.sigma[t][:, None, None, None] * x - self.data_std * self.net(x, t)) / r


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
