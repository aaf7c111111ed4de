"""MCG: predictor and corrector for CT, with a gradient that stays on the manifold of images."""

import torch
from torch import Tensor, nn

from baselines.classical import check_problem
from baselines.score_mri import check_snr, predictor_step
from models.diffusion import Prior
from operators.base import Operator
from operators.radon import Radon
from utils.callback import Callback
from utils.consistency import proximal
from utils.methods import Count, Method, NotNegative, Positive
from utils.optim import norm, sqnorm
from utils.randomness import stream
from utils.sampling import Frame, draw, grid, langevin_step, levels

RELAXATION = (1.0, 0.6)  # of the projection onto the views, in the first and in the last step


def mcg(
    y: Tensor,
    A: Radon,
    net: nn.Module | None = None,
    *,
    z0: Tensor | None = None,
    prior: Prior,
    n_steps: Count = 2000,
    snr: Positive = 0.16,
    alpha: NotNegative = 0.1,
    cg_steps: Count = 10,
    seed: int = 0,
    callback: Callback | None = None,
) -> Tensor:
    """Reconstruct by manifold-constrained gradients.

        u'  = u + (s^2 - s'^2) score(u) + sqrt(s^2 - s'^2) z        predictor, from level s to s'
        u'' = u' + delta score(u') + sqrt(2 delta) z                corrector, at level s'
        G   = alpha grad_u' ||A^+ (y - A x_0)||,   x_0 = u' + s'^2 score(u')
        u   <- u'' + lambda A^T (y - A u'') / (A^T A 1) - (I - A^+ A) G

    with score = -eps / s, A^+ in G the FBP, and lambda from 1 in the first to 0.6 in the last
    step. The last factor takes from G what the measured views see. In the last step there is
    neither noise nor corrector nor gradient.

    Args:
        y: sinogram, (1, 1, n_angles, n_det).
        A: forward operator.
        net, z0: not used.
        prior: of images like this one.
        n_steps: noise levels, at most the prior's; each with two passes through the network and
            one back.
        snr: ratio of signal to noise of the corrector, r in the paper.
        alpha: length of the gradient's step, in units of images in [0, 1].
        cg_steps: of conjugate gradients for A^+ A G.
        seed: of all noise.
        callback: is told each step and the image that is expected behind u.

    Returns:
        x_hat, (1, 1, H, W): the last u.

    Raises:
        ValueError: A is not Radon, y does not fit it, a setting is out of range, or the prior has
            other channels.

    Reference:
        Chung, Sim, Ryu, Ye, Improving diffusion models for inverse problems using manifold
        constraints, NeurIPS 2022, with the settings of the authors' public CT code. Differs from
        it: A^+ A G by conjugate gradients, where the code filters and back-projects 180 views,
        which changes measured ones a little; the corrector takes the score at level s'.
    """
    check_problem("mcg", y, A, Radon)
    check_snr("mcg", snr)
    if not alpha >= 0 or cg_steps < 1:
        raise ValueError(
            f"mcg: expected alpha of at least 0 and cg_steps of at least 1, got {alpha} and "
            f"{cg_steps}"
        )
    callback = Callback() if callback is None else callback
    frame = Frame(prior, y, A)
    ts = grid(prior, n_steps)
    sigma = levels(prior, ts)
    noise = stream(seed, "sampling", y.device)
    weights = A.adjoint(A(torch.ones_like(A.pinv(y))))  # A^T A 1
    weights = torch.where(weights > 0, weights, 1)  # no ray passes there, so nothing is divided
    first, last = RELAXATION

    def near_views(u: Tensor, step: int) -> Tensor:
        x = frame.decode(u)
        relaxation = first + (last - first) * (step - 1) / max(len(ts) - 1, 1)
        return frame.merge(u, x + relaxation * A.adjoint(y - A(x)) / weights)

    u = sigma[0] * draw(torch.empty(frame.shape, dtype=y.dtype, device=y.device), noise)
    x = callback.start(None, u=u, noise=noise)
    for step in callback.outer(len(ts)):
        t, s, s_next = ts[step - 1], sigma[step - 1], sigma[step]
        with torch.no_grad():
            eps = prior.eps(u, t)
        if s_next > 0:
            arrived = predictor_step(u, eps, s, s_next, draw(u, noise)).requires_grad_()
            eps = prior.eps(arrived, ts[step])
            u0 = arrived - s_next * eps
            x = frame.decode(u0)
            projected = A(x)
            residual = A.pinv(y - projected)
            error = frame.span / frame.peak * norm(residual, torch.zeros_like(residual))
            (gradient,) = torch.autograd.grad(error, arrived)
            with torch.no_grad():
                corrected = langevin_step(arrived, eps, snr, s_next, draw(u, noise))
                seen = frame.crop(gradient)
                seen.copy_(unmeasured(seen, A, cg_steps))
                u.copy_(near_views(corrected, step) - alpha * frame.span * gradient)
            x, projected = x.detach(), projected.detach()
        else:
            with torch.no_grad():
                x = frame.decode(near_views(u - s * eps, step))
                projected = A(x)
        callback.record(step, x, {"loss": sqnorm(projected, y)})
    return x


METHOD = Method("mcg", "MCG", mcg, takes=("prior",), needs="prior", exploding=True, output="sample")


def unmeasured(g: Tensor, A: Operator, steps: int) -> Tensor:
    """Return (I - A^+ A) g: what no measurement sees of an image.

    Args:
        g: (1, *A.in_shape).
        A: linear operator.
        steps: of conjugate gradients.
    """
    return proximal(g, g.new_zeros(1, *A.out_shape), A, 0.0, steps)
