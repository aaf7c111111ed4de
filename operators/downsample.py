"""Fewer, larger pixels: A of super-resolution, by block means or by bicubic interpolation."""

import math
from typing import Literal

import torch
from torch import Tensor

from operators.base import Operator

Kernel = Literal["average", "bicubic"]


class Downsample(Operator):
    """Shrink each channel by a whole factor f: A x = f R x C^T, with R and C for rows and columns.

    A row of R or C makes one pixel of f and their neighbours; its weights sum to 1. `average`:
    the mean of f pixels, as a camera with larger pixels does; `bicubic`: Keys' cubic kernel
    (a = -1/2) stretched by f, four f pixels wide, renormalised where it reaches over the border.
    The factor f makes ||A|| = 1: exactly for average, to within 2 % for bicubic. So lambda weighs
    the terms of eq. (3) as it does for the other pictures, and sums of squares have the ratio that
    means over y and x would have without the factor.

    Args:
        shape: (C, H, W) of one image, H and W multiples of the factor.
        factor: f, at least 2.
        kernel: how pixels are joined.

    Raises:
        ValueError: the shape is not that of an image, or the factor does not divide its sides.

    Reference:
        Keys, Cubic convolution interpolation for digital image processing, IEEE TASSP 1981. The
        bicubic weights are those of Pillow's BICUBIC and of PyTorch's interpolate with antialias.
    """

    assumes = "the factor or the kernel"

    def __init__(self, shape: tuple[int, int, int], factor: int, kernel: Kernel) -> None:
        if len(shape) != 3:
            raise ValueError(f"expected the shape of an image, (C, H, W), got {tuple(shape)}")
        channels, height, width = shape
        if factor < 2 or height % factor or width % factor:
            raise ValueError(
                f"expected a factor of at least 2 that divides both sides, got {factor} for "
                f"{height}x{width} pixels"
            )
        super().__init__(shape, (channels, height // factor, width // factor))
        self.factor = factor
        weights = block_weights if kernel == "average" else bicubic_weights
        for name, side in (("rows", height), ("columns", width)):
            matrix = weights(side, factor)
            self.register_buffer(name, matrix.float())
            self.register_buffer(f"{name}_pinv", torch.linalg.pinv(matrix).float())

    def forward(self, x: Tensor) -> Tensor:
        """Compute A x.

        Args:
            x: (B, C, H, W) float image.

        Returns:
            (B, C, H/f, W/f) float, f times the small image.
        """
        self.check_image(x)
        return self.factor * (self.rows @ x @ self.columns.mT)

    def adjoint(self, y: Tensor) -> Tensor:
        """Compute A^H y, (B, C, H, W)."""
        self.check_measurement(y)
        return self.factor * (self.rows.mT @ y @ self.columns)

    def norm(self) -> float:
        """Return ||A||_2."""
        sides = (torch.linalg.matrix_norm(m, 2).item() for m in (self.rows, self.columns))
        return self.factor * math.prod(sides)

    def pinv(self, y: Tensor) -> Tensor:
        """Return the image of least norm with A x = y, (B, C, H, W): exact.

        For average it is A^H y: each small pixel, repeated.
        """
        self.check_measurement(y)
        return self.rows_pinv @ y @ self.columns_pinv.mT / self.factor


def block_weights(side: int, factor: int) -> Tensor:
    """Return (side / factor, side) float64: row i is the mean over pixels i f to (i + 1) f - 1."""
    mean = torch.full((1, factor), 1 / factor, dtype=torch.float64)
    return torch.kron(torch.eye(side // factor, dtype=torch.float64), mean)


def bicubic_weights(side: int, factor: int) -> Tensor:
    """Return (side / factor, side) float64: Keys' kernel around each new pixel's centre."""
    old = torch.arange(side, dtype=torch.float64) + 0.5
    new = factor * (torch.arange(side // factor, dtype=torch.float64) + 0.5)
    t = (old - new[:, None]).abs() / factor
    near = 1.5 * t**3 - 2.5 * t**2 + 1
    far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    weights = torch.where(t <= 1, near, torch.where(t < 2, far, 0))
    return weights / weights.sum(dim=1, keepdim=True)
