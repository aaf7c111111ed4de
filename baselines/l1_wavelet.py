"""l1-wavelet MRI: compressed sensing with sparse wavelet coefficients."""

import sigpy.mri
import torch
from torch import Tensor, nn

from baselines.classical import check_problem
from operators.mri import MultiCoilMRI
from utils.callback import Callback
from utils.methods import Count, Method, NotNegative


def l1_wavelet(
    y: Tensor,
    A: MultiCoilMRI,
    net: nn.Module | None = None,
    *,
    z0: Tensor | None = None,
    lambda_l1: NotNegative = 0.002,
    max_iter: Count = 100,
    callback: Callback | None = None,
) -> Tensor:
    """Reconstruct by FISTA from the image 0.

        min_x 1/2 ||A x - y||^2 + lambda_l1 ||W x||_1

    with W the wavelet transform of Daubechies 4 over all levels, |.| the modulus.

    Args:
        y: k-space, (1, n_coils, H, W) complex, scaled so that max|A^H y| = 1.
        A: forward operator.
        net, z0, callback: not used.
        lambda_l1: weight of the l1 norm, in units of x; default chosen by
            studies/tune.py, on another MR slice than any that is scored.
        max_iter: iterations of FISTA.

    Returns:
        x_hat, (1, 1, H, W) complex.

    Raises:
        ValueError: A is not MultiCoilMRI, or y does not fit it.

    Reference:
        Lustig, Donoho, Pauly, Sparse MRI, Magn. Reson. Med. 2007, eq. (3);
        sigpy.mri.app.L1WaveletRecon. Differs from the paper: several coils; no total variation;
        FISTA. W continues the image by zeros, so it is not quite unitary at the borders, where
        sigpy's proximal operator is approximate.
    """
    check_problem("l1_wavelet", y, A, MultiCoilMRI)
    app = sigpy.mri.app.L1WaveletRecon(
        y[0].cpu().numpy(),
        A.sens_maps.cpu().numpy(),
        lamda=lambda_l1,
        weights=A.mask.to(y.real.dtype).cpu().numpy(),
        # Without it sigpy finds its step with numpy's global random numbers.
        alpha=1 / A.norm() ** 2,
        max_iter=max_iter,
        show_pbar=False,
    )
    return torch.from_numpy(app.run())[None, None].to(y)


METHOD = Method("l1_wavelet", "l1-wavelet", l1_wavelet)
