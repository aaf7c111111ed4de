"""Linear interpolation of missing pixels between the known ones around them."""

import contextlib

import numpy as np
import torch
from scipy.interpolate import griddata
from scipy.spatial import QhullError
from torch import Tensor, nn

from baselines.classical import check_problem
from operators.pixels import PixelMask
from utils.callback import Callback
from utils.methods import Method


def linear(
    y: Tensor,
    A: PixelMask,
    net: nn.Module | None = None,
    *,
    z0: Tensor | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Fill missing pixels linearly within the triangles that known pixels span.

    The triangles are Delaunay's. Beyond them the nearest known pixel is repeated.

    Args:
        y: picture, (1, C, H, W).
        A: forward operator, the mask of known pixels.
        net, z0, callback: not used.

    Returns:
        x_hat, (1, C, H, W); known pixels as they are.

    Raises:
        ValueError: A is not PixelMask, or y does not fit it.

    Reference:
        scipy.interpolate.griddata.
    """
    check_problem("linear", y, A, PixelMask)
    known = A.mask.cpu().numpy()
    values = y[0].movedim(0, -1).cpu().numpy().copy()  # (H, W, C)
    points, holes = np.argwhere(known), np.argwhere(~known)
    filled = griddata(points, values[known], holes, method="nearest")
    with contextlib.suppress(QhullError):  # all known pixels lie on one line: no triangle
        inside = griddata(points, values[known], holes, method="linear")
        filled = np.where(np.isnan(inside), filled, inside)
    values[~known] = filled
    return torch.from_numpy(values).movedim(-1, 0)[None].to(y)


METHOD = Method("linear", "linear interpolation", linear)
