"""The U-Net that all tasks share, its view of complex images, and of images around a level."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.upsampling import upsample


class DoubleConv(nn.Sequential):
    """Apply (3x3 convolution, BatchNorm, ReLU) twice.

    The convolutions have no bias: BatchNorm would cancel it, and its gradient would be zero.
    BatchNorm keeps no running statistics, so every pass, in train() and eval() alike, is
    normalised by the image's own statistics.

    Args:
        in_channels, mid_channels, out_channels: channels before, between and after.
    """

    def __init__(self, in_channels: int, mid_channels: int, out_channels: int) -> None:
        layers: list[nn.Module] = []
        for c_in, c_out in ((in_channels, mid_channels), (mid_channels, out_channels)):
            layers += [
                nn.Conv2d(c_in, c_out, kernel_size=3, padding=1, bias=False),
                nn.BatchNorm2d(c_out, track_running_stats=False),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class UNet(nn.Module):
    """Map an image to an image of the same size through skip-connected scales.

    With width 64 and depth 3: encoder widths 64-128-256-256, 2x2 max pooling, bilinear
    upsampling, skip concatenation, a final 1x1 convolution without activation.

    Args:
        in_channels, out_channels: channels of the input and output image.
        width: channels at full resolution; they double at each scale up to widest * width.
        depth: number of 2x2 poolings.
        init_std: standard deviation of the initial convolution weights, which are drawn from
            N(0, init_std^2); BatchNorm's scales come from N(1, 0.02^2).
        generator: CPU generator that the initial weights are drawn from.
        widest: with 2, and a depth of 2, it is the network of the public code for denoising and
            deblurring.

    Attributes:
        ENCODER: the parts that make features of the input; the others make the image of them.

    Reference:
        aSeqDIP (Alkhouri et al., NeurIPS 2024), section 4.1, names "a U-Net" without its sizes;
        the shape is that of the network in the authors' public MRI code.
        Differs from it: no convolution bias before BatchNorm (4,281,730 parameters instead of
        4,283,842), and none of its layers that are never called. Algorithm 1 writes
        phi_0 ~ N(0, I); the public code's 0.02 is the default here.
    """

    ENCODER = ("stem", "encoder")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        width: int = 64,
        depth: int = 3,
        init_std: float = 0.02,
        generator: torch.Generator | None = None,
        widest: int = 4,
    ) -> None:
        super().__init__()
        widths = [width * min(2**level, widest) for level in range(depth + 1)]
        self.in_channels = in_channels
        self.width = width
        self.depth = depth
        self.stem = DoubleConv(in_channels, widths[0], widths[0])
        self.encoder = nn.ModuleList(
            DoubleConv(widths[i], widths[i + 1], widths[i + 1]) for i in range(depth)
        )
        # Going up, a block halves the concatenated width first, then narrows to what the next
        # skip connection carries.
        self.decoder = nn.ModuleList()
        below = widths[depth]
        for level in reversed(range(depth)):
            concatenated = below + widths[level]
            below = widths[max(level - 1, 0)]
            self.decoder.append(DoubleConv(concatenated, concatenated // 2, below))
        self.head = nn.Conv2d(below, out_channels, kernel_size=1)
        self._initialise(init_std, generator)

    def _initialise(self, init_std: float, generator: torch.Generator | None) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, init_std, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02, generator=generator)
                nn.init.zeros_(module.bias)

    def forward(self, z: Tensor) -> Tensor:
        """Compute f(z).

        Args:
            z: (B, in_channels, H, W) float, any H and W; zero-padded inside to a multiple of
                2^depth.

        Returns:
            (B, out_channels, H, W) float.
        """
        height, width = z.shape[-2:]
        multiple = 2**self.depth
        x = F.pad(z, (0, -width % multiple, 0, -height % multiple))
        x = self.stem(x)
        skips = []
        for block in self.encoder:
            skips.append(x)
            x = block(F.max_pool2d(x, 2))
        for block, skip in zip(self.decoder, reversed(skips)):
            x = block(torch.cat((skip, upsample(x, align_corners=True)), dim=1))
        return self.head(x)[..., :height, :width]


class ComplexNet(nn.Module):
    """Let a network of real channels make complex images.

    Args:
        net: network from (B, net.in_channels, H, W) to (B, 2, H, W); two channels of an image are
            its real and imaginary part.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.in_channels = net.in_channels

    def forward(self, z: Tensor) -> Tensor:
        """Compute f(z).

        Args:
            z: (B, 1, H, W) complex image, for a network of two channels, or
                (B, net.in_channels, H, W) real, such as noise.

        Returns:
            (B, 1, H, W) complex.
        """
        channels = z
        if z.ndim == 4 and z.shape[1] == 1 and z.is_complex():
            channels = torch.view_as_real(z.squeeze(1)).movedim(-1, 1)  # channels lie last
        if channels.ndim != 4 or channels.shape[1] != self.in_channels or channels.is_complex():
            raise ValueError(
                f"ComplexNet takes a complex (B, 1, H, W) image or real (B, {self.in_channels}, "
                f"H, W), got {z.dtype} {tuple(z.shape)}"
            )
        x = self.net(channels).to(channels.dtype)  # a network may compute in bfloat16
        return torch.view_as_complex(x.movedim(1, -1).contiguous()).unsqueeze(1)


class OffsetNet(nn.Module):
    """Let a network work around a level instead of around 0: f(z) = level + net(z - level).

    An untrained network puts out nearly 0; so this one's first images are nearly flat.

    Args:
        net: network from (B, C, H, W) to (B, C, H, W).
        level: scalar.
    """

    def __init__(self, net: nn.Module, level: Tensor) -> None:
        super().__init__()
        self.net = net
        self.in_channels = net.in_channels
        self.register_buffer("level", level, persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        """Compute f(z), (B, C, H, W)."""
        return self.level + self.net(z - self.level)
