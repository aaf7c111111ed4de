"""Score-MRI: a predictor and a corrector in turns, each followed by the measured k-space."""

import torch
from torch import Tensor, nn

from baselines.classical import check_problem
from models.diffusion import Prior
from operators.mri import MultiCoilMRI
from utils.callback import Callback
from utils.methods import Count, Method, Positive
from utils.optim import sqnorm
from utils.randomness import stream
from utils.sampling import Frame, draw, grid, langevin_step, levels


@torch.no_grad()
def score_mri(
    y: Tensor,
    A: MultiCoilMRI,
    net: nn.Module | None = None,
    *,
    z0: Tensor | None = None,
    prior: Prior,
    n_steps: Count = 500,
    snr: Positive = 0.16,
    seed: int = 0,
    callback: Callback | None = None,
) -> Tensor:
    """Reconstruct by Score-MRI, in its coil-combined form.

        u <- u + (s^2 - s'^2) score(u) + sqrt(s^2 - s'^2) z      predictor, from level s to s'
        u <- u + A^H (y - A u)
        u <- u + delta score(u) + sqrt(2 delta) z                corrector, at level s'
        u <- u + A^H (y - A u)

    with score = -eps / s and delta = 2 (snr ||z|| / ||score||)^2, from the noisiest level to none.
    The last predictor adds no noise, and no corrector follows. A prior of one channel takes real
    and imaginary part as two images.

    Args:
        y: k-space, (1, n_coils, H, W) complex.
        A: forward operator.
        net, z0: not used.
        prior: of images like this one.
        n_steps: noise levels, each with two passes through the network.
        snr: ratio of signal to noise of the corrector, r in the paper.
        seed: of all noise.
        callback: is told each step, and the image that is expected behind u before it, with the
            measured k-space.

    Returns:
        x_hat, (1, 1, H, W) complex: that image of the last step.

    Raises:
        ValueError: A is not MultiCoilMRI, y does not fit it, snr is not above 0, or the prior has
            other channels.

    Reference:
        Chung, Ye, Score-based diffusion models for accelerated MRI, Med. Image Anal. 2022, with
        the settings of the authors' public multi-coil code. Differs from it: one combined image in
        place of each coil's, so 4 passes a level in place of 60; the corrector takes the score at
        the level where the predictor has arrived; norms of each image; the phase is as it is.
    """
    check_problem("score_mri", y, A, MultiCoilMRI)
    check_snr("score_mri", snr)
    callback = Callback() if callback is None else callback
    frame = Frame(prior, y, A)
    ts = grid(prior, n_steps)
    sigma = levels(prior, ts)
    noise = stream(seed, "sampling", y.device)

    def with_measured(u: Tensor) -> Tensor:
        x = frame.decode(u)
        return frame.merge(u, x + A.adjoint(y - A(x)))

    u = sigma[0] * draw(torch.empty(frame.shape, dtype=y.real.dtype, device=y.device), noise)
    x = callback.start(None, u=u, noise=noise)
    for step in callback.outer(len(ts)):
        t, s, s_next = ts[step - 1], sigma[step - 1], sigma[step]
        eps = prior.eps(u, t)
        x = frame.decode(with_measured(u - s * eps))
        if s_next > 0:
            arrived = with_measured(predictor_step(u, eps, s, s_next, draw(u, noise)))
            eps = prior.eps(arrived, ts[step])
            corrected = langevin_step(arrived, eps, snr, s_next, draw(u, noise))
            u.copy_(with_measured(corrected))
        callback.record(step, x, {"loss": sqnorm(A(x), y)})
    return x


METHOD = Method(
    "score_mri", "Score-MRI", score_mri, takes=("prior",), needs="prior", exploding=True,
    output="sample",
)  # fmt: skip


def predictor_step(u: Tensor, eps: Tensor, s: float, s_next: float, z: Tensor) -> Tensor:
    """Step to a lower level of a variance-exploding process, backwards in time.

        u' = u + (s^2 - s'^2) score + sqrt(s^2 - s'^2) z,   score = -eps / s

    Reference:
        Song et al., Score-based generative modeling through stochastic differential equations,
        ICLR 2021, algorithm 2.
    """
    gap = s**2 - s_next**2
    return u - gap / s * eps + gap**0.5 * z


def check_snr(method: str, snr: float) -> None:
    """Raise ValueError unless the corrector's ratio of signal to noise is above 0."""
    if not snr > 0:
        raise ValueError(f"{method}: expected snr above 0, got {snr}")
