"""The last step that any method's image can take: nearer to the measurements."""

import torch
from torch import Tensor

from operators.base import Operator
from utils.optim import minimise, sqnorm

MU = 1e-3  # without noise, in units of ||A||^2
CG_STEPS = 50
LBFGS_STEPS = 100


@torch.no_grad()
def consistent(x: Tensor, y: Tensor, A: Operator, noise_norm: float) -> Tensor:
    """Bring an image as near to the measurements as their noise permits.

        x_mu = argmin_u ||A(u) - y||^2 + mu ||u - x||^2

    mu is the noise's variance over that of the image's error, which is best where both are white
    (Wiener). The latter follows from what of the misfit ||A(x) - y|| the noise does not explain.
    So an image that explains the measurements already stays as it is. Without noise mu is 0.001
    ||A||^2, where ||A|| is taken as 1 if A has no norm(). Where that does not reach noise_norm,
    such as for maps that do not fit the scan, A itself does not explain y so far, and the image
    stays as it is too. The minimum is found by conjugate gradients, where A is not linear by L-BFGS.

    The discrepancy principle, ||A(x_mu) - y|| = noise_norm, is no better where A fits. Where maps
    leave a rest, or the noise is taken as a little too low, it fits the noise.

    Args:
        x: image, (1, *A.in_shape).
        y: measurements, (1, *A.out_shape).
        A: forward operator.
        noise_norm: expected ||A(x_true) - y||, 0 without noise.

    Returns:
        x_mu, (1, *A.in_shape).

    Raises:
        ValueError: x or y does not fit A, or noise_norm is below 0.

    Reference:
        Wiener, Extrapolation, interpolation, and smoothing of stationary time series, 1949.
    """
    A.check_image(x)
    A.check_measurement(y)
    if not noise_norm >= 0:
        raise ValueError(f"consistency: expected noise_norm of at least 0, got {noise_norm}")
    least = MU * (A.norm() ** 2 if hasattr(A, "norm") else 1.0)

    def nearer(mu: float) -> Tensor:
        if is_linear(A):
            return proximal(x, y, A, mu)
        return minimise(lambda u: sqnorm(A(u), y) + mu * sqnorm(u, x), x, LBFGS_STEPS)

    explained = noise_norm**2
    misfit = sqnorm(A(x), y).item()
    if misfit <= explained:
        return x
    nearest = nearer(least)
    if noise_norm == 0:
        return nearest
    if sqnorm(A(nearest), y).item() >= explained:
        return x
    return nearer(max(least, explained / (misfit - explained) * gain(A, x)))


def gain(A: Operator, x: Tensor) -> float:
    """Estimate the variance of a measurement where each pixel of x varies by 1, by one draw.

    Only measurements count that x changes at all, such as the sampled ones of k-space.
    """
    v = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(0)).to(x.device)
    v *= 0.01 * x.abs().max().clamp_min(1e-6)  # small beside x, for an A that is not linear
    change = A(x + v) - A(x)
    return (change.abs().square().sum() / change.count_nonzero() / v.abs().square().mean()).item()


def is_linear(A: Operator) -> bool:
    """Tell whether an operator is linear: those that are have an adjoint."""
    return hasattr(A, "adjoint")


def proximal(x: Tensor, y: Tensor, A: Operator, mu: float, steps: int | None = None) -> Tensor:
    """Solve a least-squares problem by conjugate gradients from x.

        argmin_u ||A u - y||^2 + mu ||u - x||^2

    With mu 0 it goes towards the solution that is nearest to x. Complex images take r^H r.

    Args:
        x: image, (1, *A.in_shape).
        y: measurements, (1, *A.out_shape).
        A: linear operator.
        mu: weight, at least 0.
        steps: how many are taken, without waiting for the device; None takes them until the
            residual is a millionth of the first, at most CG_STEPS.

    Returns:
        (1, *A.in_shape).
    """
    step = torch.zeros_like(x)  # u - x, of (A^H A + mu) step = A^H (y - A x)
    r = A.adjoint(y - A(x))
    p, rr = r, _dot(r, r)
    enough = 1e-12 * rr
    for _ in range(CG_STEPS if steps is None else steps):
        if steps is None and rr <= enough:
            break
        q = A.adjoint(A(p)) + mu * p
        alpha = torch.where(rr > enough, rr / _dot(p, q), 0)
        step = step + alpha * p
        r = r - alpha * q
        before, rr = rr, _dot(r, r)
        p = torch.where(rr > enough, r + rr / before * p, 0)
    return x + step


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.vecdot(a.flatten(), b.flatten()).real
