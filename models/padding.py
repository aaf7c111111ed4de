"""The mirrored border that networks and blurs have in common."""

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
