"""CG-SENSE: multi-coil MRI as regularised least squares."""

import sigpy.mri
import torch
from torch import Tensor, nn

from baselines.classical import check_problem
from operators.mri import MultiCoilMRI
from utils.callback import Callback
from utils.methods import Count, Method, NotNegative


def cg_sense(
    y: Tensor,
    A: MultiCoilMRI,
    net: nn.Module | None = None,
    *,
    z0: Tensor | None = None,
    lambda_l2: NotNegative = 0.01,
    max_iter: Count = 100,
    callback: Callback | None = None,
) -> Tensor:
    """Reconstruct by conjugate gradients from the image 0.

        min_x ||A x - y||^2 + lambda_l2 ||x||^2

    Args:
        y: k-space, (1, n_coils, H, W) complex; lambda_l2 does not depend on its scale.
        A: forward operator.
        net, z0, callback: not used.
        lambda_l2: weight of the squared norm; default chosen by studies/tune.py, on
            another MR slice than any that is scored. With 0 only the number of iterations
            regularises.
        max_iter: iterations of conjugate gradients.

    Returns:
        x_hat, (1, 1, H, W) complex.

    Raises:
        ValueError: A is not MultiCoilMRI, or y does not fit it.

    Reference:
        Pruessmann et al., Advances in sensitivity encoding with arbitrary k-space trajectories,
        Magn. Reson. Med. 2001; sigpy.mri.app.SenseRecon. Differs from the paper: the penalty.
    """
    check_problem("cg_sense", y, A, MultiCoilMRI)
    app = sigpy.mri.app.SenseRecon(
        y[0].cpu().numpy(),
        A.sens_maps.cpu().numpy(),
        lamda=lambda_l2,
        weights=A.mask.to(y.real.dtype).cpu().numpy(),
        max_iter=max_iter,
        show_pbar=False,
    )
    return torch.from_numpy(app.run())[None, None].to(y)


METHOD = Method("cg_sense", "CG-SENSE", cg_sense)
