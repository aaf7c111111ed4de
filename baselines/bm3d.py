"""BM3D: similar blocks are stacked and denoised together. Needs the optional package bm3d."""

import torch
from torch import Tensor, nn

from baselines.classical import check_problem
from operators.pixels import Identity
from utils.callback import Callback
from utils.errors import CannotRun
from utils.methods import Method


def bm3d(
    y: Tensor,
    A: Identity,
    net: nn.Module | None = None,
    *,
    z0: Tensor | None = None,
    sigma: float,
    callback: Callback | None = None,
) -> Tensor:
    """Denoise by block matching and 3-D collaborative filtering.

    Similar 8 x 8 blocks are stacked; the stack's 3-D transform is thresholded, and what comes of it
    steers a second pass with a Wiener filter. Settings are those of the package's normal profile.
    Blocks of a colour picture are matched in its luminance.

    Args:
        y: noisy picture, (1, C, H, W), C 3 (RGB) or 1 (grey), in [0, 1] but for the noise.
        A: forward operator, the identity.
        net, z0, callback: not used.
        sigma: standard deviation of the noise in units of y.

    Returns:
        x_hat, (1, C, H, W), not clipped.

    Raises:
        CannotRun: the package bm3d is not installed.
        ValueError: A is not Identity, y does not fit it, or it has other than 1 or 3 channels.

    Reference:
        Dabov, Foi, Katkovnik, Egiazarian, Image denoising by sparse 3-D transform-domain
        collaborative filtering, IEEE Trans. Image Process. 2007, as in the authors' package
        (Makinen, Azzari, Foi, Collaborative filtering of correlated noise, IEEE Trans. Image
        Process. 2020). Differs from it: nothing.
    """
    check_problem("bm3d", y, A, Identity)
    channels = y.shape[1]
    if channels not in (1, 3):
        raise ValueError(f"bm3d: expected a picture of 1 or 3 channels, got {channels}")
    try:
        import bm3d as package  # not at the top: optional, and not free software
    except ImportError as error:
        raise CannotRun(
            "bm3d: the optional package bm3d is not installed; pip install bm3d, if its licence "
            "suits you: non-commercial use only (Tampere University)"
        ) from error
    profile = package.BM3DProfile()
    profile.num_threads = 1  # of several, sums come in an order that changes from run to run
    picture = y[0].double().cpu().numpy()
    if channels == 3:
        x_hat = torch.from_numpy(package.bm3d_rgb(picture.transpose(1, 2, 0), sigma, profile))
        x_hat = x_hat.movedim(-1, 0)
    else:
        x_hat = torch.from_numpy(package.bm3d(picture[0], sigma, profile))[None]
    return x_hat[None].to(y)


METHOD = Method("bm3d", "BM3D", bm3d, takes=("sigma",), package="bm3d")
