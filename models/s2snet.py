"""The smooth encoder-decoder of Rethinking DIP, which SURE can be differentiated through."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.skip import Conv, batch_norm, check_size, initialise, join

DEPTH = 5


class S2SNet(nn.Module):
    """Map a noisy image to an image of the same size through five strided scales.

    Encoder: at each scale two 3x3 convolutions of `width` channels, the first of stride 2; then
    one to 2 * width. Decoder: nearest-neighbour upsampling, joining with the encoder's output of
    that size, BatchNorm, two 3x3 convolutions of 2 * width channels; at full resolution joining
    with the input image itself, then three convolutions of 4/3 width, 2/3 width (64 and 32 at
    width 48) and the image's channels, and a sigmoid. BatchNorm and Softplus follow every
    convolution but the last; Softplus, so that second derivatives exist everywhere. Borders are
    reflected.

    Args:
        channels: of the input and of the image.
        width: channels of the encoder, a multiple of 3.
        generator: CPU generator that the initial weights are drawn from; None: the global one.

    Raises:
        ValueError: the width is not a multiple of 3.

    Reference:
        Jo, Chun, Choi, Rethinking Deep Image Prior for Denoising, ICCV 2021; the default network
        of the authors' public code, initialised by PyTorch's default law as there, after that of
        Self2Self (Quan et al., CVPR 2020).
        Differs from it: without what BatchNorm cancels, the 1440 convolution biases before it and
        the 576 shifts after joining (1,138,611 parameters for 3 channels instead of 1,140,627).
        BatchNorm keeps no running statistics, which the code never uses.
    """

    def __init__(
        self, channels: int, width: int = 48, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        if width < 3 or width % 3:
            raise ValueError(f"S2SNet: expected a width that is a multiple of 3, got {width}")
        self.in_channels = channels
        self.encoder = nn.ModuleList(
            nn.Sequential(
                self._block(width if scale else channels, width, stride=2),
                self._block(width, width),
            )
            for scale in range(DEPTH)
        )
        self.bottom = self._block(width, 2 * width)
        self.decoder = nn.ModuleList(
            nn.Sequential(
                batch_norm(3 * width, shift=False),
                self._block(3 * width, 2 * width),
                self._block(2 * width, 2 * width),
            )
            for _ in range(DEPTH - 1)
        )
        self.head = nn.Sequential(
            self._block(2 * width + channels, 4 * width // 3),
            self._block(4 * width // 3, 2 * width // 3),
            Conv(2 * width // 3, channels, bias=True),
            nn.Sigmoid(),
        )
        initialise(self, generator)

    @staticmethod
    def _block(in_channels: int, out_channels: int, stride: int = 1) -> nn.Module:
        return nn.Sequential(
            Conv(in_channels, out_channels, stride=stride),
            batch_norm(out_channels),
            nn.Softplus(),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Compute f(z).

        Args:
            z: (B, channels, H, W) float, H and W above 32. Odd sizes are rounded up when halved,
                and what upsampling then has too much is cropped, as in the public code.

        Returns:
            (B, channels, H, W) float in (0, 1).

        Raises:
            ValueError: the image is too small.
        """
        check_size(z, DEPTH)
        x, joints = z, []
        for down in self.encoder:
            joints.append(x)
            x = down(x)
        x = self.bottom(x)
        for skipped, up in zip(reversed(joints), (*self.decoder, self.head)):
            x = up(join(skipped, F.interpolate(x, scale_factor=2, mode="nearest")))
        return x
