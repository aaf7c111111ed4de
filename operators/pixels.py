"""Operators that act on single pixels: A = I, and A = M of inpainting."""

import torch
from torch import Tensor

from operators.base import Operator


class Identity(Operator):
    """Leave the image as it is: A x = x.

    Args:
        shape: (C, H, W) of one image.

    Reference:
        aSeqDIP (Alkhouri et al., NeurIPS 2024), section 2.1. Differs from the paper: nothing.
    """

    assumes = "sigma"

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(in_shape=shape, out_shape=shape)

    def forward(self, x: Tensor) -> Tensor:
        """Return A x = x, (B, C, H, W)."""
        self.check_image(x)
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        """Return A^H y = y, (B, C, H, W)."""
        self.check_measurement(y)
        return y

    def pinv(self, y: Tensor) -> Tensor:
        """Return y, (B, C, H, W): exact."""
        return self.adjoint(y)


class PixelMask(Operator):
    """Keep the known pixels and set the missing ones to zero: A x = M x.

    Args:
        mask: (H, W) bool, True where a pixel is known, the same for all channels.
        channels: C.

    Raises:
        ValueError: the mask is of another rank or dtype.

    Reference:
        aSeqDIP (Alkhouri et al., NeurIPS 2024), section 2.1. Differs from the paper: nothing.
    """

    assumes = "the mask"

    def __init__(self, mask: Tensor, channels: int) -> None:
        if mask.ndim != 2 or mask.dtype != torch.bool:
            raise ValueError(
                f"mask must be bool of shape (H, W), got {mask.dtype} {tuple(mask.shape)}"
            )
        super().__init__(in_shape=(channels, *mask.shape), out_shape=(channels, *mask.shape))
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        """Return A x, (B, C, H, W): zero where a pixel is missing, whatever x holds there."""
        self.check_image(x)
        return torch.where(self.mask, x, 0)

    def adjoint(self, y: Tensor) -> Tensor:
        """Return A^H y = M y, (B, C, H, W)."""
        self.check_measurement(y)
        return torch.where(self.mask, y, 0)

    def pinv(self, y: Tensor) -> Tensor:
        """Return M y, (B, C, H, W): exact where pixels are known, zero where they are missing."""
        return self.adjoint(y)
