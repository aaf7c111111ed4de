"""SART: CT as linear equations, solved projection by projection."""

import sigpy
import torch
from skimage.transform import iradon_sart
from torch import Tensor, nn

from baselines.classical import check_problem
from operators.radon import Radon
from utils.callback import Callback
from utils.methods import Count, Method, Positive


def sart(
    y: Tensor,
    A: Radon,
    net: nn.Module | None = None,
    *,
    z0: Tensor | None = None,
    n_iter: Count = 10,
    relaxation: Positive = 0.3,
    callback: Callback | None = None,
) -> Tensor:
    """Reconstruct by the simultaneous algebraic reconstruction technique, from the image 0.

        x <- x + relaxation Q_v^T W_v^-1 (y_v - P_v x) for each view v, n_iter times

    with P_v the projection, W_v its rays' squared weights, Q_v the projection with a Hamming window
    along each ray. The views come in the order of the golden ratio.

    Args:
        y: sinogram, (1, 1, n_angles, n_det).
        A: forward operator. Only its geometry is used: scikit-image projects by itself, inside a
            circle of radius n_det // 2 - 1 about pixel (H//2, W//2); what lies outside is 0.
        net, z0, callback: not used.
        n_iter: passes over all views; it and relaxation were chosen by studies/tune.py,
            on other slices than any that is scored, without noise. With noise fewer are better.
        relaxation: step; from about 1 on it diverges.

    Returns:
        x_hat, (1, 1, H, W).

    Raises:
        ValueError: A is not Radon, y does not fit it, or n_iter is below 1.

    Reference:
        Andersen and Kak, Simultaneous algebraic reconstruction technique (SART), Ultrasonic
        Imaging 1984; skimage.transform.iradon_sart. Differs from the paper: the order of the views.
    """
    check_problem("sart", y, A, Radon)
    if n_iter < 1:
        raise ValueError(f"sart: expected n_iter of at least 1, got {n_iter}")
    sinogram = y[0, 0].double().cpu().numpy().T
    degrees = A.angles.rad2deg().numpy()
    square = None
    for _ in range(n_iter):
        square = iradon_sart(sinogram, degrees, image=square, relaxation=relaxation)
    # The square is as wide as the detector; pixel n // 2 stays the centre.
    return torch.from_numpy(sigpy.resize(square, A.in_shape[1:]))[None, None].to(y)


METHOD = Method("sart", "SART", sart)
