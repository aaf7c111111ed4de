"""DDS: diffusion sampling in which conjugate gradients bring each image to the measurements."""

import torch
from torch import Tensor, nn

from models.diffusion import Prior
from operators.base import Operator
from utils.callback import Callback
from utils.consistency import is_linear, proximal
from utils.methods import Count, Method, Positive, Share
from utils.optim import sqnorm
from utils.randomness import stream
from utils.sampling import Frame, ddim_step, draw, grid, levels


@torch.no_grad()
def dds(
    y: Tensor,
    A: Operator,
    net: nn.Module | None = None,
    *,
    z0: Tensor | None = None,
    prior: Prior,
    n_steps: Count = 50,
    gamma: Positive = 1.0,
    cg_steps: Count = 5,
    eta: Share = 0.85,
    seed: int = 0,
    callback: Callback | None = None,
) -> Tensor:
    """Reconstruct by decomposed diffusion sampling.

        x_0  = u - sigma eps(u)
        x_0' = argmin_x gamma ||A x - y||^2 + ||x - x_0||^2,   by a few conjugate gradients
        u'   = x_0' + sigma' (sqrt(1 - eta^2) eps + eta z),   z ~ N(0, I)

    from the noisiest level to none.

    Args:
        y: measurements, (1, *A.out_shape).
        A: linear operator.
        net, z0: not used.
        prior: of images like this one.
        n_steps: noise levels, each with one pass through the network.
        gamma: weight of the measurements.
        cg_steps: of conjugate gradients at each level.
        eta: share of fresh noise, from 0 to 1.
        seed: of all noise.
        callback: is told each step and its x_0'.

    Returns:
        x_hat, (1, *A.in_shape): the last x_0'.

    Raises:
        ValueError: A is not linear, a setting is out of range, or the prior has other channels.

    Reference:
        Chung, Lee, Ye, Decomposed diffusion sampler for accelerating large-scale inverse problems,
        ICLR 2024, with the settings of the authors' public code. Differs from that code: complex
        images are solved in complex arithmetic, with r^H r, and A^H y is not multiplied by 1 + i;
        the levels lie evenly between the last and the first.
    """
    check_settings("dds", A, gamma, eta)
    callback = Callback() if callback is None else callback
    frame = Frame(prior, y, A)
    ts = grid(prior, n_steps)
    sigma = levels(prior, ts)
    noise = stream(seed, "sampling", y.device)
    u = sigma[0] * draw(torch.empty(frame.shape, dtype=y.real.dtype, device=y.device), noise)
    x = callback.start(None, u=u, noise=noise)
    for step in callback.outer(len(ts)):
        t, s, s_next = ts[step - 1], sigma[step - 1], sigma[step]
        eps = prior.eps(u, t)
        u0 = u - s * eps
        x = proximal(frame.decode(u0), y, A, 1 / gamma, cg_steps)
        u.copy_(ddim_step(frame.merge(u0, x), eps, s_next, eta * s_next, noise))
        callback.record(step, x, {"loss": sqnorm(A(x), y)})
    return x


METHOD = Method("dds", "DDS", dds, takes=("prior",), needs="prior", output="sample")


def check_settings(method: str, A: Operator, weight: float, eta: float) -> None:
    """Raise ValueError unless A is linear, a weight above 0, and eta a share."""
    if not is_linear(A):
        raise ValueError(
            f"{method}: for linear problems only, which {type(A).__name__} is not; take dps"
        )
    if not weight > 0 or not 0 <= eta <= 1:
        raise ValueError(
            f"{method}: expected a weight above 0 and eta from 0 to 1, got {weight} and {eta}"
        )
