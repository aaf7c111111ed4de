"""NCSN++, the network of Score-MRI and MCG, with the names of score_sde's weights."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MULTS = (1, 2, 2, 2)  # channels of the levels in units of width
BLOCKS = 4  # ResBlocks of a level
FOURIER_SCALE = 16
EPS = 1e-6  # of GroupNorm
TAPS = (1, 3, 3, 1)  # of the filter before going down and after going up


def filtered(x: Tensor, gain: float, padding: tuple[int, int]) -> Tensor:
    """Convolve each channel with the outer product of TAPS, whose sum is made `gain`.

    Args:
        x: (B, C, H, W).
        gain: sum of the filter.
        padding: zeros before and behind, along both axes.

    Returns:
        (B, C, H + sum(padding) - 3, W + sum(padding) - 3).
    """
    taps = torch.tensor(TAPS, dtype=x.dtype, device=x.device)
    kernel = torch.outer(taps, taps) * (gain / sum(TAPS) ** 2)
    channels = x.shape[1]
    return F.conv2d(F.pad(x, padding * 2), kernel.expand(channels, 1, -1, -1), groups=channels)


def upsampled(x: Tensor) -> Tensor:
    """Double the sides of (B, C, H, W): zeros between the pixels, then the filter."""
    batch, channels, height, width = x.shape
    spread = F.pad(x[..., None, :, None], (0, 1, 0, 0, 0, 1))  # a zero behind each pixel
    return filtered(spread.reshape(batch, channels, 2 * height, 2 * width), 4.0, (2, 1))


def downsampled(x: Tensor) -> Tensor:
    """Halve the sides of (B, C, H, W): the filter, then every second pixel."""
    return filtered(x, 1.0, (1, 1))[..., ::2, ::2]


def group_norm(channels: int) -> nn.GroupNorm:
    """Return GroupNorm of groups of 4 channels, 32 at most."""
    return nn.GroupNorm(min(channels // 4, 32), channels, eps=EPS)


class Fourier(nn.Module):
    """Embed log sigma as (sin, cos) of 2 pi W log sigma, with fixed random W."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(width) * FOURIER_SCALE, requires_grad=False)

    def forward(self, log_sigma: Tensor) -> Tensor:
        """Embed (B,) as (B, 2 width)."""
        angles = 2 * math.pi * log_sigma[:, None] * self.W
        return torch.cat((angles.sin(), angles.cos()), dim=1)


class NIN(nn.Module):
    """Mix the channels of each pixel: a 1x1 convolution whose W is (in, out)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(channels, channels) * channels**-0.5)
        self.b = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Mix (B, C, H, W)."""
        return torch.einsum("bchw,cd->bdhw", x, self.W) + self.b[:, None, None]


class ResBlock(nn.Module):
    """Compute (skip(x) + h) / sqrt(2); BigGAN's block, with the embedded noise level added to h.

    Args:
        in_channels, out_channels: before and after.
        emb_channels: of the embedded noise level.
        resample: `upsampled`, `downsampled`, or None.
    """

    def __init__(
        self, in_channels: int, out_channels: int, emb_channels: int, resample: str | None = None
    ) -> None:
        super().__init__()
        self.resample = {"up": upsampled, "down": downsampled, None: lambda x: x}[resample]
        # In the order of score_sde, which that of the averaged weights follows.
        self.GroupNorm_0 = group_norm(in_channels)
        self.Conv_0 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.Dense_0 = nn.Linear(emb_channels, out_channels)
        self.GroupNorm_1 = group_norm(out_channels)
        self.Conv_1 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.Conv_2 = None
        if in_channels != out_channels or resample is not None:
            self.Conv_2 = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Compute the block of x (B, in_channels, H, W) and emb (B, emb_channels)."""
        h = self.Conv_0(self.resample(F.silu(self.GroupNorm_0(x))))
        h = h + self.Dense_0(F.silu(emb))[:, :, None, None]
        h = self.Conv_1(F.silu(self.GroupNorm_1(h)))
        x = self.resample(x)
        return ((x if self.Conv_2 is None else self.Conv_2(x)) + h) / math.sqrt(2)


class Attention(nn.Module):
    """Compute (x + attention between all pixels of x) / sqrt(2), with one head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.GroupNorm_0 = group_norm(channels)
        self.NIN_0, self.NIN_1, self.NIN_2, self.NIN_3 = (NIN(channels) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block of x (B, C, H, W)."""
        h = self.GroupNorm_0(x)
        q, k, v = (
            nin(h).flatten(start_dim=2).transpose(1, 2)[:, None]  # (B, 1, pixels, C)
            for nin in (self.NIN_0, self.NIN_1, self.NIN_2)
        )
        h = F.scaled_dot_product_attention(q, k, v)[:, 0].transpose(1, 2).reshape(x.shape)
        return (x + self.NIN_3(h)) / math.sqrt(2)


class Pyramid(nn.Module):
    """Halve the input image and give it as many channels as the level below has."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.Conv2d_0 = nn.Module()
        self.Conv2d_0.weight = nn.Parameter(torch.zeros(out_channels, in_channels, 3, 3))
        self.Conv2d_0.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H / 2, W / 2)."""
        conv = self.Conv2d_0
        return F.conv2d(filtered(x, 1.0, (2, 2)), conv.weight, conv.bias, stride=2)


class NCSNpp(nn.Module):
    """Map a noisy image and the index of its noise level to the noise in it.

    Args:
        channels: of the image.
        width: channels of the first of four levels; 128 in all public files.
        sigmas: (steps,), the noise levels as the file has them, from the highest.

    Attributes:
        multiple: both sides of an image must be multiples of it.

    Reference:
        Song et al., Score-Based Generative Modeling through Stochastic Differential Equations,
        ICLR 2021, appendix H: NCSN++ with continuous levels, FIR resampling and a residual input
        pyramid, as in Score-MRI (Chung and Ye, Medical Image Analysis 2022) and MCG (Chung et
        al., NeurIPS 2022). They divide its output by sigma for the score; eps = -sigma score.
    """

    def __init__(self, channels: int, width: int, sigmas: Tensor) -> None:
        super().__init__()
        self.in_channels, self.multiple = channels, 2 ** (len(MULTS) - 1)
        self.register_buffer("sigmas", sigmas)
        emb = 4 * width
        layers: list[nn.Module] = [Fourier(width), nn.Linear(2 * width, emb), nn.Linear(emb, emb)]
        layers.append(nn.Conv2d(channels, width, 3, padding=1))
        skips, c, pyramid = [width], width, channels
        for level, mult in enumerate(MULTS):
            for _ in range(BLOCKS):
                layers.append(ResBlock(c, width * mult, emb))
                c = width * mult
                skips.append(c)
            if level < len(MULTS) - 1:
                layers += [ResBlock(c, c, emb, "down"), Pyramid(pyramid, c)]
                pyramid = c
                skips.append(c)
        layers += [ResBlock(c, c, emb), Attention(c), ResBlock(c, c, emb)]
        for level, mult in reversed([*enumerate(MULTS)]):
            for _ in range(BLOCKS + 1):
                layers.append(ResBlock(c + skips.pop(), width * mult, emb))
                c = width * mult
            if level:
                layers.append(ResBlock(c, c, emb, "up"))
        layers += [group_norm(c), nn.Conv2d(c, channels, 3, padding=1)]
        self.all_modules = nn.ModuleList(layers)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Predict the noise.

        Args:
            x: (B, channels, H, W) float, images in [0, 1] with noise of sigma; sides that are
                multiples of `multiple`.
            t: (B,) index of the noise level, from the lowest.

        Returns:
            eps_hat, (B, channels, H, W).
        """
        layers = iter(self.all_modules)
        log_sigma = self.sigmas.flip(0)[t].log().to(self.all_modules[1].weight.dtype)
        emb = next(layers)(log_sigma)
        emb = next(layers)(emb)
        emb = next(layers)(F.silu(emb))
        pyramid = 2 * x - 1
        h = next(layers)(pyramid)
        skips = [h]
        for level in range(len(MULTS)):
            for _ in range(BLOCKS):
                h = next(layers)(h, emb)
                skips.append(h)
            if level < len(MULTS) - 1:
                h = next(layers)(h, emb)
                h = pyramid = (next(layers)(pyramid) + h) / math.sqrt(2)
                skips.append(h)
        h = next(layers)(h, emb)
        h = next(layers)(h)
        h = next(layers)(h, emb)
        for level in reversed(range(len(MULTS))):
            for _ in range(BLOCKS + 1):
                h = next(layers)(torch.cat((h, skips.pop()), dim=1), emb)
            if level:
                h = next(layers)(h, emb)
        norm, conv = layers
        return -conv(F.silu(norm(h)))
