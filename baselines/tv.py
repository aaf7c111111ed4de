"""Total variation: the classical penalty that keeps edges, for all tasks."""

import math

import torch
from torch import Tensor, nn

from baselines.classical import check_problem
from operators.base import Operator
from operators.blur import BLURS, BKSEBlur, CameraBlur, LinearBlur
from operators.downsample import Downsample
from operators.mri import MultiCoilMRI
from operators.pixels import Identity, PixelMask
from operators.radon import Radon
from utils.callback import Callback
from utils.methods import Count, Method, Positive
from utils.optim import minimise, sqnorm

# The first three were chosen by studies/tune.py, on the development half of data/split.txt, in CT
# without noise. Small pictures and blurs are without noise here, and need hardly any: less than this
# is no better for blurs, or has not settled after max_iter.
LAMBDA_TV = {
    MultiCoilMRI: 0.002, Radon: 2e-5, PixelMask: 0.001, Downsample: 0.001,
    LinearBlur: 1e-6, CameraBlur: 1e-7, BKSEBlur: 1e-6,
}  # fmt: skip
# Of sigma, chosen there too. In CT of the standard deviation of A^T n / ||A||^2, by docs/choices.md.
LAMBDA_PER_SIGMA = {Identity: 0.7, LinearBlur: 0.15, CameraBlur: 0.15, BKSEBlur: 0.15, Radon: 1.0}
EPS = 1e-3  # what rounds the lengths of differences off, where A is a blur


def tv(
    y: Tensor,
    A: Operator,
    net: nn.Module | None = None,
    *,
    z0: Tensor | None = None,
    lambda_tv: Positive | None = None,
    lambda_per_sigma: Positive | None = None,
    sigma: float | None = None,
    max_iter: Count = 1000,
    callback: Callback | None = None,
) -> Tensor:
    """Reconstruct by total variation.

        min_x ||A x - y||^2 / (2 ||A||^2) + lambda_tv TV(x)

        TV(x) = sum_i sqrt(|x_i - x_above|^2 + |x_i - x_left|^2)

    over all pixels i, and channels, which do not interact; a difference across the border is zero,
    |.| the modulus. ||A|| is 1 for MRI with normalised maps, and taken as 1 for blurs; for CT,
    where it grows with the views and the image, dividing by it keeps lambda_tv comparable.

    The solver is the primal-dual hybrid gradient method. Blurs, which may be non-linear, have
    L-BFGS in its place, and lengths of sqrt(|.|^2 + EPS^2).

    Args:
        y: measurements, (1, *A.out_shape), scaled as the task scripts do: max|A^H y| = 1 in MRI,
            an FBP of maximum 1 in CT, pictures in [0, 1], small ones times the factor.
        A: forward operator.
        net, z0, callback: not used.
        lambda_tv: weight of TV, above 0, in units of x. None takes LAMBDA_TV of the operator, and
            for noisy or blurred pictures with noise lambda_per_sigma sigma, if that is larger. For
            CT, too, but there sigma is that in a pixel of A^T n / ||A||^2, about sqrt(views) /
            ||A||^2 times as large.
        lambda_per_sigma: above 0, for noise; None takes LAMBDA_PER_SIGMA.
        sigma: standard deviation of the noise in units of y; used for noisy and blurred pictures
            and CT only, and there only without lambda_tv.
        max_iter: iterations from A.pinv(y), in which missing pixels are the mean of the known.

    Returns:
        x_hat, (1, *A.in_shape).

    Raises:
        ValueError: A is of another task, y does not fit it, lambda_tv is not above 0, or neither
            lambda_tv nor sigma was given for denoising.

    Reference:
        Rudin, Osher, Fatemi, Nonlinear total variation based noise removal algorithms, Physica D
        1992; Chambolle and Pock, J. Math. Imaging Vis. 2011, Algorithm 1, of sigpy. Differs from
        sigpy.mri.app.TotalVariationRecon: isotropic, and no differences across the border.
        L-BFGS as in utils.optim.minimise.
    """
    check_problem("tv", y, A, *LAMBDA_TV, Identity)
    if lambda_tv is None and isinstance(A, Identity) and not sigma:
        raise ValueError(f"tv: expected lambda_tv or sigma for denoising, got sigma {sigma}")
    norm = A.norm()
    if lambda_tv is None:
        lambda_tv = of_kind(A, LAMBDA_TV)
        if isinstance(A, tuple(LAMBDA_PER_SIGMA)):
            per_sigma = (
                of_kind(A, LAMBDA_PER_SIGMA) if lambda_per_sigma is None else lambda_per_sigma
            )
            sigma = sigma or 0.0
            if isinstance(A, Radon):
                sigma *= math.sqrt(A.out_shape[1]) / norm**2
            lambda_tv = max(lambda_tv, per_sigma * sigma)
    if not 0 < lambda_tv < math.inf:
        raise ValueError(f"tv: expected lambda_tv above 0, got {lambda_tv}")

    x = A.pinv(y)
    if isinstance(A, BLURS):
        return minimise(lambda u: sqnorm(A(u), y) / 2 + lambda_tv * rounded_tv(u), x, max_iter)
    if isinstance(A, PixelMask):  # a large hole takes long to fill from black
        x = torch.where(A.mask, y, y[..., A.mask].mean())
    import sigpy  # not at the top: it takes a second, and the scripts import this file

    from baselines.primal_dual import LengthSum, TorchLinop, differences

    # Both parts of the dual problem weigh the same once A and the gradient have norm 1.
    gradient_norm = math.sqrt(8)
    array = y[0].cpu().numpy()
    forward = TorchLinop(
        lambda x: A(x) / norm, lambda v: A.adjoint(v) / norm, A.in_shape, A.out_shape, y.device
    )
    gradient = differences(A.in_shape, array.real.dtype)
    # The smaller lambda_tv, the smaller the dual variable beside x, and its step beside x's. How
    # much smaller was fitted to what settles fastest, in MRI, CT, inpainting and denoising.
    balance = (10 * lambda_tv) ** (2 / 3)
    app = sigpy.app.LinearLeastSquares(
        forward,
        array / norm,
        x=x[0].cpu().numpy().copy(),  # sigpy works in place
        G=(1 / gradient_norm) * gradient,
        proxg=LengthSum(gradient.oshape, lambda_tv * gradient_norm),
        solver="PrimalDualHybridGradient",
        tau=1 / (math.sqrt(2) * balance),  # tau sigma ||K||^2 <= 1, ||K||^2 <= 2
        sigma=balance / math.sqrt(2),
        max_iter=max_iter,
        show_pbar=False,
    )
    return torch.from_numpy(app.run())[None].to(y)


METHOD = Method("tv", "TV", tv, takes=("sigma",))


def of_kind(A: Operator, weights: dict[type[Operator], float]) -> float:
    """Return the weight of an operator's kind, 0 where it has none."""
    return next((weight for kind, weight in weights.items() if isinstance(A, kind)), 0.0)


def rounded_tv(x: Tensor) -> Tensor:
    """Compute sum_i sqrt(|x_i - x_above|^2 + |x_i - x_left|^2 + EPS^2) of (1, C, H, W)."""
    above = torch.diff(x, dim=-2, prepend=x[..., :1, :])
    left = torch.diff(x, dim=-1, prepend=x[..., :1])
    return (above.square() + left.square() + EPS**2).sqrt().sum()
