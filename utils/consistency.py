"""The last step that any method's image can take: nearer to the measurements."""

import math

import torch
from torch import Tensor

from operators.base import Operator
from utils.optim import minimise, sqnorm

MU_RANGE = (1e-3, 1e2)  # of the search, in units of ||A||^2
CG_STEPS = 50
LBFGS_STEPS = 100


@torch.no_grad()
def consistent(x: Tensor, y: Tensor, A: Operator, noise_norm: float) -> Tensor:
    """Bring an image as near to the measurements as their noise tells.

        x_mu = argmin_u ||A(u) - y||^2 + mu ||A||^2 ||u - x||^2

    ||A|| is taken as 1 where A has no norm().

    mu follows from the discrepancy principle: the largest with ||A(x_mu) - y|| <= noise_norm. So
    an image that explains the measurements already stays as it is. Without noise mu is 0.001.
    Where that does not reach noise_norm, such as for maps that do not fit the scan, A itself does
    not explain y so far, and the image stays as it is too. The minimum is found by conjugate
    gradients, where A is not linear by L-BFGS.

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
        Morozov, On the solution of functional equations by the method of regularization, 1966.
    """
    A.check_image(x)
    A.check_measurement(y)
    if not noise_norm >= 0:
        raise ValueError(f"consistency: expected noise_norm of at least 0, got {noise_norm}")
    scale = A.norm() ** 2 if hasattr(A, "norm") else 1.0

    def nearer(mu: float) -> Tensor:
        if is_linear(A):
            return proximal(x, y, A, mu * scale)
        return minimise(lambda u: sqnorm(A(u), y) + mu * scale * sqnorm(u, x), x, LBFGS_STEPS)

    def residual(u: Tensor) -> float:
        return torch.linalg.vector_norm(A(u) - y).item()

    if residual(x) <= noise_norm:
        return x
    nearest = nearer(MU_RANGE[0])
    if noise_norm == 0:
        return nearest
    if residual(nearest) >= noise_norm:
        return x
    low, high = map(math.log, MU_RANGE)
    for _ in range(10):  # to a hundredth of the range
        middle = (low + high) / 2
        u = nearer(math.exp(middle))
        if residual(u) <= noise_norm:
            low, nearest = middle, u
        else:
            high = middle
    return nearest


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
