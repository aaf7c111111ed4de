"""Bicubic interpolation: the plain way to make a small picture large."""

import torch.nn.functional as F
from torch import Tensor, nn

from baselines.classical import check_problem
from operators.downsample import Downsample
from utils.callback import Callback
from utils.methods import Method


def bicubic(
    y: Tensor,
    A: Downsample,
    net: nn.Module | None = None,
    *,
    z0: Tensor | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Enlarge by cubic convolution.

    Args:
        y: measurements, (1, C, H/f, W/f), f times the small picture.
        A: forward operator.
        net, z0, callback: not used.

    Returns:
        x_hat, (1, C, H, W).

    Raises:
        ValueError: A is not Downsample, or y does not fit it.

    Reference:
        Keys, Cubic convolution interpolation for digital image processing, IEEE TASSP 1981, with
        a = -1/2, as in Pillow; PyTorch takes that value with its flag antialias.
    """
    check_problem("bicubic", y, A, Downsample)
    return F.interpolate(y / A.factor, size=A.in_shape[-2:], mode="bicubic", antialias=True)


METHOD = Method("bicubic", "bicubic interpolation", bicubic)
