"""The last step that any method's image can take: nearer to the measurements."""

import torch
from torch import Tensor

from operators.base import Operator
from operators.blur import CameraBlur, LinearBlur
from operators.subset import whole
from utils.optim import minimise, sqnorm

MU = 1e-3  # at least, in units of ||A||^2
EXACT_MU = 1e-6  # ... of exact measurements of a blur, which loses nothing for good
CG_STEPS = 50
LBFGS_STEPS = 100
EXACT_STEPS = 1000  # in the place of both, there


@torch.no_grad()
def consistent(x: Tensor, y: Tensor, A: Operator, noise_norm: float, exact: bool = False) -> Tensor:
    """Bring an image nearer to the measurements, by how far each of both is to be trusted.

        x_mu = argmin_u ||A(u) - y||^2 + mu ||u - x||^2

    mu is the noise's variance over that of the image's error, which is best where both are white
    and independent (Wiener). The latter follows from the part of ||A(x) - y||^2 that exceeds the
    noise. An image without such a part stays as it is. mu is at least 0.001 ||A||^2, of exact
    measurements of a blur a millionth. What not even that mu explains is counted as noise, if it is
    more than noise_norm^2: measurements may miss A by more than their noise, such as where maps do
    not fit the scan. Where there is next to nothing of either, mu has its least value.

    Noise that is not told, and that an image can explain, counts as error of the image, and is
    fitted in part. The discrepancy principle, ||A(x_mu) - y|| = noise_norm, fits more of it.

    Args:
        x: image, (1, *A.in_shape).
        y: measurements, (1, *A.out_shape).
        A: forward operator.
        noise_norm: expected ||A(x_true) - y||, 0 where none is known.
        exact: y was computed by A, without noise. What was measured never is.

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
    far = exact and isinstance(whole(A), (LinearBlur, CameraBlur))
    least = (EXACT_MU if far else MU) * A.norm() ** 2

    def nearer(mu: float) -> Tensor:
        if is_linear(A):
            return proximal(x, y, A, mu, at_most=EXACT_STEPS if far else CG_STEPS)
        steps = EXACT_STEPS if far else LBFGS_STEPS
        return minimise(lambda u: sqnorm(A(u), y) + mu * sqnorm(u, x), x, steps)

    misfit = sqnorm(A(x), y).item()
    if misfit <= noise_norm**2:
        return x
    nearest = nearer(least)
    noise = max(noise_norm**2, sqnorm(A(nearest), y).item())
    if misfit <= noise:
        return x
    mu = noise / (misfit - noise) * gain(A, x)
    return nearer(mu) if mu > least else nearest


def gain(A: Operator, x: Tensor) -> float:
    """Estimate the variance of a measurement where each pixel of x varies by 1, by one draw.

    Measurements that no pixel changes, such as k-space that was not sampled, do not count.
    """
    v = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(0)).to(x.device)
    if is_linear(A):
        change = A(v)
    else:  # a small change, of an image that may be black
        v *= 0.01 * x.abs().max().clamp_min(0.1)
        change = A(x + v) - A(x)
    count = max(change.count_nonzero().item(), 1)
    return (change.abs().square().sum() / count / v.abs().square().mean()).item()


def is_linear(A: Operator) -> bool:
    """Tell whether an operator is linear: those that are have an adjoint."""
    return hasattr(whole(A), "adjoint")


def proximal(
    x: Tensor,
    y: Tensor,
    A: Operator,
    mu: float,
    steps: int | None = None,
    at_most: int = CG_STEPS,
) -> Tensor:
    """Solve a least-squares problem by conjugate gradients from x.

        argmin_u ||A u - y||^2 + mu ||u - x||^2

    With mu 0 it goes towards the solution that is nearest to x. Complex images take r^H r.

    Args:
        x: image, (1, *A.in_shape).
        y: measurements, (1, *A.out_shape).
        A: linear operator.
        mu: weight, at least 0.
        steps: how many are taken, without waiting for the device; None takes them until the
            residual is a millionth of the first, at most `at_most`.
        at_most: steps, without `steps`.

    Returns:
        (1, *A.in_shape).
    """
    step = torch.zeros_like(x)  # u - x, of (A^H A + mu) step = A^H (y - A x)
    r = A.adjoint(y - A(x))
    p, rr = r, _dot(r, r)
    enough = 1e-12 * rr
    for _ in range(at_most if steps is None else steps):
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
