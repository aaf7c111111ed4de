"""DDNM and DDNM+: diffusion sampling that takes from the prior what the measurements lack."""

import math

import torch
from torch import Tensor, nn

from models.diffusion import Prior
from operators.base import Operator
from operators.downsample import Downsample
from operators.pixels import Identity, PixelMask
from utils.callback import Callback
from utils.consistency import is_linear, proximal
from utils.methods import Count, Method, Share
from utils.optim import sqnorm
from utils.randomness import stream
from utils.sampling import Frame, ddim_step, draw, grid, levels

MU = 1e-3  # keeps the inverse of a blur finite; ||A|| is 1


@torch.no_grad()
def ddnm(
    y: Tensor,
    A: Operator,
    net: nn.Module | None = None,
    *,
    z0: Tensor | None = None,
    prior: Prior,
    sigma: float = 0.0,
    n_steps: Count = 100,
    eta: Share = 0.85,
    seed: int = 0,
    callback: Callback | None = None,
) -> Tensor:
    """Reconstruct by the denoising diffusion null-space model.

        x_0  = u - s eps(u)
        x_0' = x_0 - Lambda A^+ (A x_0 - y)
        u'   = x_0' + s' (sqrt(1 - eta^2) eps + eta z),   z ~ N(0, I),   Lambda = 1

    from the noisiest level to none. DDNM+ is for y with noise: where a pixel is measured,

        s' >= sigma:  Lambda = 1,                             u' = x_0' + sqrt(s'^2 - sigma^2) z
        s' <  sigma:  Lambda = s' sqrt(1 - eta^2) / sigma,    u' = x_0' + eta s' z

    so that the measurements' own noise is a part of the noise at each level.

    Args:
        y: measurements, (1, *A.out_shape).
        A: linear operator.
        net, z0: not used.
        prior: of images like this one.
        sigma: standard deviation of the noise in y, in its units.
        n_steps: noise levels, each with one pass through the network.
        eta: share of fresh noise, from 0 to 1.
        seed: of all noise.
        callback: is told each step and its x_0'.

    Returns:
        x_hat, (1, *A.in_shape): the last x_0'. Without noise A x_hat = y, of a blur nearly.

    Raises:
        ValueError: A is not linear, or with noise neither the identity nor a mask; a setting is
            out of range, or the prior has other channels.

    Reference:
        Wang, Yu, Zhang, Zero-shot image restoration using denoising diffusion null-space model,
        ICLR 2023; DDNM+ by singular values, as in the authors' public code. Differs from it: no
        time travel, which its settings for these tasks switch off; of a blur A^+ is found by
        conjugate gradients.
    """
    if not is_linear(A):
        raise ValueError(
            f"ddnm: for linear problems only, which {type(A).__name__} is not; take dps"
        )
    if sigma > 0 and not isinstance(A, (Identity, PixelMask)):
        raise ValueError(
            f"ddnm: expected measurements without noise, or an operator Identity or PixelMask, got "
            f"sigma {sigma:g} and {type(A).__name__}; give sigma 0 to take them so"
        )
    if not 0 <= eta <= 1 or not sigma >= 0:
        raise ValueError(
            f"ddnm: expected eta from 0 to 1 and sigma of at least 0, got {eta} and {sigma}"
        )
    callback = Callback() if callback is None else callback
    frame = Frame(prior, y, A)
    ts = grid(prior, n_steps)
    level = levels(prior, ts)
    noise = stream(seed, "sampling", y.device)
    u = level[0] * draw(torch.empty(frame.shape, dtype=y.dtype, device=y.device), noise)
    noisy = torch.zeros_like(u, dtype=torch.bool)  # pixels that are measured with noise
    if sigma > 0:
        frame.crop(noisy).copy_(A(torch.ones_like(y)) > 0)
    sigma_u = frame.span * sigma
    x = callback.start(None, u=u, noise=noise)
    for step in callback.outer(len(ts)):
        t, s, s_next = ts[step - 1], level[step - 1], level[step]
        eps = prior.eps(u, t)
        u0 = u - s * eps
        x0 = frame.decode(u0)
        if s_next >= sigma_u:
            weight, fresh = 1.0, math.sqrt(s_next**2 - sigma_u**2)
        else:
            weight, fresh = s_next * math.sqrt(1 - eta**2) / sigma_u, eta * s_next
        x = x0 + weight * (nearest(x0, y, A) - x0)
        u0 = frame.merge(u0, x)
        unmeasured = ddim_step(u0, eps, s_next, eta * s_next, noise)
        u.copy_(torch.where(noisy, u0 + fresh * draw(u0, noise), unmeasured))
        callback.record(step, x, {"loss": sqnorm(A(x), y)})
    return x


METHOD = Method("ddnm", "DDNM", ddnm, takes=("prior", "sigma"), needs="prior", output="sample")


def nearest(x: Tensor, y: Tensor, A: Operator) -> Tensor:
    """Return x - A^+ (A x - y): the image that explains y and is nearest to x."""
    if isinstance(A, (Identity, PixelMask, Downsample)):  # whose pinv is exact
        return x - A.pinv(A(x) - y)
    return proximal(x, y, A, MU)
