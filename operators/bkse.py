"""The blur generator of BKSE: a sharp image and an encoded kernel make a blurred image."""

import torch
from torch import Tensor, nn

KERNEL_CHANNELS = 512
STRIDE = 128  # pixels of the image for one of the kernel: 4 in the encoder, 32 in the adapter


def kernel_shape(height: int, width: int) -> tuple[int, int, int]:
    """Return the shape of the encoded kernel of an image: (512, H / 128, W / 128).

    Args:
        height, width: size of the image in pixels.

    Raises:
        ValueError: a side is not a multiple of 128.
    """
    if min(height, width) < STRIDE or height % STRIDE or width % STRIDE:
        raise ValueError(
            f"BKSE blurs images whose sides are multiples of {STRIDE} pixels, got "
            f"{height}x{width}; crop or resize the image"
        )
    return KERNEL_CHANNELS, height // STRIDE, width // STRIDE


class ResidualBlock(nn.Module):
    """Compute x + conv2(ReLU(conv1(x))) with 3x3 convolutions.

    Args:
        width: channels before, between and after.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block.

        Args:
            x: (B, width, H, W) float.

        Returns:
            (B, width, H, W) float.
        """
        return x + self.conv2(torch.relu(self.conv1(x)))


class AdapterLevel(nn.Module):
    """Compute up(cat(submodule(down(x), k), down(x))), at the innermost up(cat(down(x), k)).

    down halves the resolution, up doubles it, both with 4x4 convolutions.

    Args:
        outer_channels: channels of x and of the result.
        inner_channels: channels after down.
        submodule: the level below; None for the innermost.
        outermost: no activation before down; a bias and tanh at the end.
    """

    def __init__(
        self,
        outer_channels: int,
        inner_channels: int,
        submodule: "AdapterLevel | None" = None,
        outermost: bool = False,
    ) -> None:
        super().__init__()
        # The order and number of modules make the parameters' names, such as down.1.weight.
        down: list[nn.Module] = [] if outermost else [nn.LeakyReLU(0.2)]
        down.append(nn.Conv2d(outer_channels, inner_channels, 4, stride=2, padding=1, bias=False))
        up: list[nn.Module] = [
            nn.ReLU(),
            nn.ConvTranspose2d(
                2 * inner_channels, outer_channels, 4, stride=2, padding=1, bias=outermost
            ),
        ]
        if outermost:
            up.append(nn.Tanh())
        self.down = nn.Sequential(*down)
        self.submodule = submodule
        self.up = nn.Sequential(*up)

    def forward(self, x: Tensor, kernel: Tensor) -> Tensor:
        """Compute the level and those below.

        Args:
            x: (B, outer_channels, H, W) float.
            kernel: (B, 512, h, w) float, of the innermost level's resolution.

        Returns:
            (B, outer_channels, H, W) float.
        """
        inner = self.down(x)
        if self.submodule is None:
            return self.up(torch.cat((inner, kernel), dim=1))
        return self.up(torch.cat((self.submodule(inner, kernel), inner), dim=1))


class Adapter(nn.Module):
    """Let an encoded kernel act on features: a U-Net of five levels with k at its bottom.

    Args:
        width: channels of the features; they double at each level up to 8 * width.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        level = AdapterLevel(8 * width, 8 * width)
        for factor in (4, 2, 1):
            level = AdapterLevel(factor * width, 2 * factor * width, level)
        self.model = AdapterLevel(width, width, level, outermost=True)

    def forward(self, x: Tensor, kernel: Tensor) -> Tensor:
        """Compute the adapted features.

        Args:
            x: (B, width, H, W) float, H and W multiples of 32.
            kernel: (B, 8 * width, H / 32, W / 32) float.

        Returns:
            (B, width, H, W) float in (-1, 1).
        """
        return self.model(x, kernel)


class BlurNet(nn.Module):
    """Blur an image by an encoded kernel: y = x + T(G(E(x), k)).

    E (feature_extractor) takes the image to 64 channels at a quarter of its resolution, G
    (adapter) applies the kernel, T (recon_trunk) returns to the image's resolution.

    The parameters' names and shapes are those of the public checkpoint GOPRO_wVAE.pth without
    its kernel_extractor, which encodes a pair of images as k: 23,662,531 parameters, 814,208 in
    E, 21,037,120 in G and 1,811,203 in T. A new BlurNet has PyTorch's random initial weights,
    with which it does not blur; utils.blur_data.load_bkse_weights reads the trained ones.

    Reference:
        Tran et al., "Explore Image Deblurring via Encoded Blur Kernel Space", CVPR 2021; sizes and
        order of the channels as in the authors' public code. Differs from it: without the kernel
        extractor.
    """

    def __init__(self) -> None:
        super().__init__()
        width = KERNEL_CHANNELS // 8
        self.feature_extractor = nn.Sequential(
            nn.Conv2d(3, width, kernel_size=3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(width, width, kernel_size=3, stride=2, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(width, width, kernel_size=3, stride=2, padding=1),
            nn.LeakyReLU(0.1),
            *(ResidualBlock(width) for _ in range(10)),
        )
        self.adapter = Adapter(width)
        self.recon_trunk = nn.Sequential(
            *(ResidualBlock(width) for _ in range(20)),
            nn.Conv2d(width, 4 * width, kernel_size=3, padding=1),
            nn.PixelShuffle(2),
            nn.LeakyReLU(0.1),
            nn.Conv2d(width, 4 * width, kernel_size=3, padding=1),
            nn.PixelShuffle(2),
            nn.LeakyReLU(0.1),
            nn.Conv2d(width, width, kernel_size=3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(width, 3, kernel_size=3, padding=1),
        )

    def forward(self, x: Tensor, kernel: Tensor) -> Tensor:
        """Compute the blurred image.

        Args:
            x: (B, 3, H, W) float in [0, 1], RGB; H and W multiples of 128.
            kernel: (B, 512, H / 128, W / 128) float, about 1.2 N(0, 1) for a random blur.

        Returns:
            (B, 3, H, W) float, not clamped.

        Raises:
            ValueError: the shapes of image and kernel do not fit.
        """
        if x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(
                f"BlurNet: expected image x of shape (B, 3, H, W), got {tuple(x.shape)}"
            )
        expected = (x.shape[0], *kernel_shape(*x.shape[2:]))
        if tuple(kernel.shape) != expected:
            raise ValueError(
                f"BlurNet: expected a kernel of shape {expected} for image x of shape "
                f"{tuple(x.shape)}, got {tuple(kernel.shape)}"
            )
        return x + self.recon_trunk(self.adapter(self.feature_extractor(x), kernel))
