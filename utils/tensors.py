"""Reshaping that networks and operators have in common: a mirrored border, images in one row."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def pad_reflect(x: Tensor, kernel_size: tuple[int, int]) -> Tensor:
    """Mirror an image at its borders, which are not repeated, so far as a kernel reaches.

    Args:
        x: (..., H, W), H > kh // 2 and W > kw // 2.
        kernel_size: kh and kw; the kernel's origin is (kh // 2, kw // 2).

    Returns:
        (..., H + kh - 1, W + kw - 1).
    """
    # Not torch.nn.functional.pad: its backward pass on CUDA is refused in deterministic mode.
    for dim, size in zip((-2, -1), kernel_size):
        if size == 1:
            continue
        before, after = (size - 1) // 2, size // 2
        head = x.narrow(dim, 1, before).flip(dim)
        tail = x.narrow(dim, x.shape[dim] - 1 - after, after).flip(dim)
        x = torch.cat((head, x, tail), dim)
    return x


def pack(images: Sequence[Tensor]) -> Tensor:
    """Return (B, n): what images (B, C, H_m, W_m) of one dtype hold, one after the other."""
    return torch.cat([image.flatten(start_dim=1) for image in images], dim=1)


def unpack(packed: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """Undo pack: return the images, (B, *shape) each."""
    parts = packed.split([math.prod(shape) for shape in shapes], dim=1)
    return [part.reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True)]
