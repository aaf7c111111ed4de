"""The networks that the picture scripts offer, by kind."""

import torch
from torch import nn

from models.s2snet import S2SNet
from models.skip import LateSkipNet, SkipNet
from models.unet import UNet


def picture_net(
    kind: str, channels: int, width: int, depth: int, init_std: float, generator: torch.Generator
) -> nn.Module:
    """Build a network for pictures.

    Args:
        kind: `unet`, aSeqDIP's; `shallow` and `late_skip`, those of its public code for denoising
            and deblurring, and for inpainting, with the width alone; `noise`, the deep image
            prior's, fed with 32 channels of noise;
            `ugodit`, with an encoder to learn; `s2s`, Rethinking DIP's.
        channels: of the picture.
        width, depth, init_std: of the U-Net; the widths of the others follow from the U-Net's, so
            that at 64 they have those of their papers: 128, 128 in the public code, and 48.
        generator: CPU generator of the initial weights.
    """
    if kind == "noise":
        return SkipNet(32, channels, 2 * width, generator=generator)
    if kind == "ugodit":
        return SkipNet(channels, channels, 2 * width, norm_joined=False, generator=generator)
    if kind == "late_skip":
        return LateSkipNet(channels, channels, 2 * width, generator=generator)
    if kind == "shallow":
        return UNet(channels, channels, width, 2, init_std, generator, widest=2)
    if kind == "s2s":
        return S2SNet(channels, 3 * max(width // 4, 1), generator)
    return UNet(channels, channels, width, depth, init_std, generator)
