"""DPS: diffusion sampling that steps down the gradient of the measurements' error."""

import math

import torch
from torch import Tensor, nn

from models.diffusion import Prior
from operators.base import Operator
from utils.callback import Callback
from utils.methods import Count, Method, NotNegative
from utils.optim import norm
from utils.randomness import stream
from utils.sampling import Frame, ancestral, draw, grid, levels


def dps(
    y: Tensor,
    A: Operator,
    net: nn.Module | None = None,
    *,
    z0: Tensor | None = None,
    prior: Prior,
    zeta: NotNegative = 0.3,
    n_steps: Count = 1000,
    seed: int = 0,
    callback: Callback | None = None,
) -> Tensor:
    """Reconstruct by diffusion posterior sampling.

        x_0 = clip(u - s eps(u))
        u'  = x_0 + (s'/s)^2 (u - x_0) + sqrt(v) z - zeta' grad_u ||y - A(x_0)||,   z ~ N(0, I)
        zeta' = zeta sqrt((1 + s^2) (1 + s'^2))

    from the noisiest level to none. v is the variance of DDPM's step, or what the network has
    learned of it. The gradient goes through the network and the clip. zeta is in units of images
    in [-1, 1] and of variance-preserving coordinates, u / sqrt(1 + s^2), as the authors have it.

    Args:
        y: measurements, (1, *A.out_shape).
        A: forward operator, which may be non-linear.
        net, z0: not used.
        prior: of images like this one.
        zeta: length of the step: the gradient is that of a norm, not of its square.
        n_steps: noise levels, each with one pass through the network and back.
        seed: of all noise.
        callback: is told each step and its x_0.

    Returns:
        x_hat, (1, *A.in_shape): the last u'.

    Raises:
        ValueError: zeta is below 0, or the prior has other channels.

    Reference:
        Chung et al., Diffusion posterior sampling for general noisy inverse problems, ICLR 2023,
        algorithm 1, with zeta of the authors' public code for super-resolution and blur. Differs
        from it: nothing.
    """
    if not 0 <= zeta < math.inf:
        raise ValueError(f"dps: expected zeta of at least 0, got {zeta}")
    callback = Callback() if callback is None else callback
    frame = Frame(prior, y, A)
    ts = grid(prior, n_steps)
    sigma, scale = levels(prior, ts), prior.scale.tolist()
    noise = stream(seed, "sampling", y.device)
    u = sigma[0] * draw(torch.empty(frame.shape, dtype=y.real.dtype, device=y.device), noise)
    x = callback.start(None, u=u, noise=noise)
    for step in callback.outer(len(ts)):
        t, s, s_next = ts[step - 1], sigma[step - 1], sigma[step]
        u.requires_grad_()
        eps, v = prior.predict(u, t)
        u0 = (u - s * eps).clamp(prior.low, prior.high)
        error = norm(A(frame.decode(u0)), y)
        (gradient,) = torch.autograd.grad(error, u)
        with torch.no_grad():
            u0 = u0.detach()
            last = s_next == 0
            ratio = 0.0 if last else scale[t] / scale[ts[step]]
            std = 0.0 if last else deviation(s, s_next, ratio, v)
            # In [-1, 1] the norm, and the step's unit, are as large as span / 2 makes them.
            zeta_u = zeta * frame.span**2 / 2 * math.sqrt((1 + s**2) * (1 + s_next**2))
            following = u0 + (s_next / s) ** 2 * (u - u0) + std * draw(u0, noise)
            following -= zeta_u * gradient
            x = frame.decode(following if last else u0)
            u.detach_().copy_(following)
        callback.record(step, x, {"loss": error.detach()})
    return x


METHOD = Method("dps", "DPS", dps, takes=("prior",), needs="prior", output="sample")


def deviation(s: float, s_next: float, scale_ratio: float, v: Tensor | None) -> Tensor | float:
    """Return the standard deviation of the fresh noise in a step of DDPM, in units of x.

        log variance = f log beta + (1 - f) log beta~,   f = (v + 1) / 2
        beta  = (s^2 - s'^2) (scale / scale')^2,   beta~ = s'^2 (1 - (s' / s)^2)

    Args:
        s, s_next: the levels before and after the step, s > s_next > 0.
        scale_ratio: scale / scale' of the prior.
        v: what the network has learned, (B, channels, H, W) from -1 to 1; None takes beta~, the
            variance where x_0 is known.

    Returns:
        (B, channels, H, W), or a number.

    Reference:
        Nichol, Dhariwal, Improved denoising diffusion probabilistic models, ICML 2021, eq. (15),
        divided by abar'.
    """
    if v is None:
        return ancestral(s, s_next)
    share = (v + 1) / 2
    upper = 0.5 * math.log(s**2 - s_next**2) + math.log(scale_ratio)
    return (share * upper + (1 - share) * math.log(ancestral(s, s_next))).exp()
