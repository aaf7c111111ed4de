"""Biharmonic inpainting: missing pixels as smooth as a thin plate."""

import torch
from skimage.restoration import inpaint_biharmonic
from torch import Tensor, nn

from baselines.classical import check_problem
from operators.pixels import PixelMask
from utils.callback import Callback
from utils.methods import Method


def biharmonic(
    y: Tensor,
    A: PixelMask,
    net: nn.Module | None = None,
    *,
    z0: Tensor | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Fill missing pixels by solving the biharmonic equation.

        Delta^2 x = 0 in missing pixels,   x = y in known ones

    each channel by itself, then clipped to the range of its known pixels.

    Args:
        y: picture, (1, C, H, W).
        A: forward operator, the mask of known pixels.
        net, z0, callback: not used.

    Returns:
        x_hat, (1, C, H, W).

    Raises:
        ValueError: A is not PixelMask, or y does not fit it.

    Reference:
        Damelin and Hoang, On surface completion and image inpainting by biharmonic functions,
        Int. J. Math. Math. Sci. 2018; skimage.restoration.inpaint_biharmonic. Differs from it:
        nothing.
    """
    check_problem("biharmonic", y, A, PixelMask)
    x_hat = inpaint_biharmonic(y[0].double().cpu().numpy(), ~A.mask.cpu().numpy(), channel_axis=0)
    return torch.from_numpy(x_hat)[None].to(y)


METHOD = Method("biharmonic", "biharmonic", biharmonic)
