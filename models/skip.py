"""The encoder-decoder of Deep Image Prior, and the layers that it shares with S2SNet."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.upsampling import upsample
from utils.tensors import pad_reflect


class SkipNet(nn.Module):
    """Map noise to an image through strided scales with narrow skip connections.

    Each scale halves its input by (3x3 convolution of stride 2, 3x3 convolution) and hands it to
    the scale below; what comes back is upsampled bilinearly, joined with a 1x1 convolution of the
    scale's input, and goes through BatchNorm, a 3x3 and a 1x1 convolution. BatchNorm and
    LeakyReLU(0.2) follow every convolution but the last, a 1x1 convolution before a sigmoid.
    Borders are reflected.

    Args:
        in_channels, out_channels: channels of the input and of the image.
        width: channels at every scale.
        skip_width: channels of a skip connection.
        depth: number of scales.
        norm_joined: whether BatchNorm follows the joining; UGoDIT's network has none there.
        generator: CPU generator that the initial weights are drawn from; None: the global one.

    Attributes:
        ENCODER: the parts that make features of the input; the others make the image of them.

    Reference:
        Ulyanov, Vedaldi, Lempitsky, Deep Image Prior, CVPR 2018; the network of the authors'
        public code for denoising, initialised by PyTorch's default law as there.
        Differs from it: without what BatchNorm cancels, the 2580 convolution biases before it and
        the 660 shifts after joining (2,214,591 parameters from 32 to 3 channels instead of
        2,217,831). BatchNorm keeps no running statistics, which the code never uses.
    """

    ENCODER = ("skips", "encoder")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        width: int = 128,
        skip_width: int = 4,
        depth: int = 5,
        norm_joined: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.width = width
        self.depth = depth
        self.skips, self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        joined = skip_width + width
        for scale in range(depth):
            above = width if scale else in_channels
            self.skips.append(block(above, skip_width, size=1))
            self.encoder.append(nn.Sequential(block(above, width, stride=2), block(width, width)))
            self.decoder.append(
                nn.Sequential(
                    batch_norm(joined, shift=False) if norm_joined else nn.Identity(),
                    block(joined, width),
                    block(width, width, size=1),
                )
            )
        self.head = nn.Sequential(Conv(width, out_channels, size=1, bias=True), nn.Sigmoid())
        initialise(self, generator)

    def forward(self, z: Tensor) -> Tensor:
        """Compute f(z).

        Args:
            z: (B, in_channels, H, W) float, H and W above 2^depth. Odd sizes are rounded up when
                halved, and what upsampling then has too much is cropped, as in the public code.

        Returns:
            (B, out_channels, H, W) float in (0, 1).

        Raises:
            ValueError: the image is too small.
        """
        check_size(z, self.depth)
        x, joints = z, []
        for skip, down in zip(self.skips, self.encoder):
            joints.append(skip(x))
            x = down(x)
        for skipped, up in zip(reversed(joints), reversed(self.decoder)):
            x = up(join(skipped, upsample(x, align_corners=False)))
        return self.head(x)


class LateSkipNet(nn.Module):
    """Map an image to an image as SkipNet does, with its skip connections taken one scale lower.

    They start behind the halving instead of before it, so that nothing of full resolution passes
    by the scales. Each scale on the way up has BatchNorm, two 3x3 convolutions and enlarging by
    repetition; a 3x3 convolution and a sigmoid follow the last.

    Args:
        in_channels, out_channels, width, skip_width, depth, generator: as for SkipNet.

    Reference:
        The network of the authors' public code of aSeqDIP (Alkhouri et al., NeurIPS 2024) for
        inpainting, initialised by PyTorch's default law as there. Differs from it: without what
        BatchNorm cancels, the 2580 convolution biases before it and the 660 shifts after joining
        (2,839,999 parameters for 3 channels instead of 2,843,239).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        width: int = 128,
        skip_width: int = 4,
        depth: int = 5,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.width = width
        self.depth = depth
        self.skips, self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        joined = skip_width + width
        for scale in range(depth):
            above = width if scale else in_channels
            self.encoder.append(nn.Sequential(block(above, width, stride=2), block(width, width)))
            self.skips.append(block(width, skip_width, size=1))
            self.decoder.append(
                nn.Sequential(
                    batch_norm(joined, shift=False), block(joined, width), block(width, width)
                )
            )
        self.head = nn.Sequential(Conv(width, out_channels, bias=True), nn.Sigmoid())
        initialise(self, generator)

    def forward(self, z: Tensor) -> Tensor:
        """Compute f(z), as SkipNet does; what enlarging has too much is cropped.

        Args:
            z: (B, in_channels, H, W) float, H and W above 2^depth.

        Returns:
            (B, out_channels, H, W) float in (0, 1).

        Raises:
            ValueError: the image is too small.
        """
        check_size(z, self.depth)
        x, joints = z, []
        for down, skip in zip(self.encoder, self.skips):
            x = down(x)
            joints.append(skip(x))
        for skipped, up in zip(reversed(joints), reversed(self.decoder)):
            x = up(join(skipped, x))
            x = x.repeat_interleave(2, dim=-2).repeat_interleave(2, dim=-1)
        return self.head(x[..., : z.shape[-2], : z.shape[-1]])


def block(in_channels: int, out_channels: int, size: int = 3, stride: int = 1) -> nn.Module:
    """Make (convolution, BatchNorm, LeakyReLU(0.2)); arguments as for Conv."""
    return nn.Sequential(
        Conv(in_channels, out_channels, size, stride),
        batch_norm(out_channels),
        nn.LeakyReLU(0.2, inplace=True),
    )


class Conv(nn.Conv2d):
    """Convolve, with reflection at the borders; its weights are what `initialise` draws.

    Args:
        in_channels, out_channels: channels before and after.
        size: side of the kernel, odd.
        stride: step between outputs; 2 makes (H, W) into (ceil(H / 2), ceil(W / 2)).
        bias: whether there is one; before BatchNorm it would be cancelled.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: int = 3,
        stride: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, size, stride, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, in_channels, H, W)."""
        x = pad_reflect(x, self.kernel_size)
        return F.conv2d(x, self.weight, self.bias, self.stride)

    def reset_parameters(self) -> None:
        """Draw nothing: PyTorch would draw from the global random state."""


def batch_norm(channels: int, shift: bool = True) -> nn.BatchNorm2d:
    """Make a BatchNorm that normalises by the image's own statistics, in eval() too.

    Args:
        channels: of its input.
        shift: whether a shift is added. Where nothing but a Conv and another BatchNorm follow,
            the latter would cancel it exactly, for reflection keeps a constant constant.
    """
    layer = nn.BatchNorm2d(channels, track_running_stats=False)
    if not shift:
        layer.register_parameter("bias", None)
    return layer


def join(skipped: Tensor, x: Tensor) -> Tensor:
    """Concatenate the channels of (B, C, H, W) and of x, cropped to its H and W."""
    return torch.cat((skipped, x[..., : skipped.shape[-2], : skipped.shape[-1]]), dim=1)


def initialise(net: nn.Module, generator: torch.Generator | None) -> None:
    """Draw the weights of all convolutions from U(-1/sqrt(fan_in), 1/sqrt(fan_in)).

    This is PyTorch's default law, which knows no generator.
    """
    for module in net.modules():
        if isinstance(module, Conv):
            bound = 1 / math.sqrt(module.weight[0].numel())
            for parameter in module.parameters():
                nn.init.uniform_(parameter, -bound, bound, generator=generator)


def check_size(z: Tensor, depth: int) -> None:
    """Raise ValueError unless 2x2 pixels are left below all scales: one cannot be reflected."""
    if min(z.shape[-2:]) <= 2**depth:
        raise ValueError(
            f"a network of {depth} scales takes sides above {2**depth} pixels, got "
            f"{z.shape[-2]}x{z.shape[-1]}; enlarge the image or take another network"
        )
