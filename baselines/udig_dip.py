"""uDiG-DIP: aSeqDIP whose next input a diffusion network has purified."""

from typing import Literal

import torch
from torch import Tensor, nn

from baselines.dds import dds
from models.diffusion import Prior
from operators.base import Operator
from operators.radon import Radon
from operators.subset import whole
from utils.callback import Callback
from utils.consistency import is_linear
from utils.methods import Count, Method, NotNegative, Positive
from utils.optim import DISTANCES, Output, Update, adam
from utils.randomness import stream
from utils.sampling import Frame, nearest_step, purify


def udig_dip(
    y: Tensor,
    A: Operator,
    net: nn.Module,
    *,
    z0: Tensor | None = None,
    prior: Prior,
    steps: int = 4000,
    N: Count = 2,
    lr: Positive = 1e-4,
    loss: Literal["squares", "norms", "means"] = "squares",
    lambda_ae: NotNegative = 1.0,
    order: Literal["alternate", "released"] = "alternate",
    noise_level: Positive = 0.1,
    denoise_steps: Count = 5,
    purifications: Count = 20,
    seed: int = 0,
    callback: Callback | None = None,
) -> Tensor:
    """Reconstruct by sequential diffusion-guided deep image prior.

        phi_k = argmin_phi ||A f_phi(z_{k-1}) - y||^2 + lambda ||f_phi(z_{k-1}) - z_{k-1}||^2,
        z_k = P(f_{phi_k}(z_{k-1})),    z_0 = A^+ y,    x_hat = f_{phi_K}(z_{K-1})

    with N Adam steps for each argmin. P adds noise and lets the diffusion network take it away
    (utils.sampling.purify); with P the identity it is aSeqDIP, bit for bit.

    Args:
        y: measurements, (1, *A.out_shape).
        A: forward operator.
        net: untrained network from (1, *A.in_shape) to itself.
        z0: start of the sequence, (1, *A.in_shape); None takes A.pinv(y).
        prior: of images like this one; used for P only.
        steps: weight updates; z is updated after each N of them.
        N: weight updates for an input.
        lr: Adam's learning rate.
        loss: what is taken of the two differences, as aSeqDIP's --loss.
        lambda_ae: weight of the autoencoding term.
        order: `alternate`: as above; `released`: what the authors' public script does: z_0 is the
            image of DDS, and P the identity.
        noise_level: standard deviation of P's noise, where images go from 0 to 1. Not an index:
            that means another noise in each schedule. The scripts of MRI and CT have their own.
        denoise_steps: passes through the diffusion network in each P.
        purifications: how many updates of z are by P, spread evenly; the others take f(z) as it is.
        seed: of P's noise, and of DDS.
        callback: is told each step and its image: f(z) after an update of z, else the network's
            output before that step.

    Returns:
        x_hat, (1, *A.in_shape): the image of the last step.

    Raises:
        ValueError: N is below 1 or purifications below 0, noise_level is not above 0, the prior has other
            channels, or the order is `released` and A is not linear.

    Reference:
        Liang, Alkhouri et al., Sequential diffusion-guided deep image prior for medical image
        reconstruction, ICASSP 2025 (arXiv 2410.04482). The paper's noise level, steps of denoising
        and number of purifications were not at hand: ours were chosen with small priors on
        development images (docs/priors.md).
    """
    if N < 1 or purifications < 0:
        raise ValueError(
            f"expected N of at least 1 and purifications of at least 0, got {N} and {purifications}"
        )
    if order == "released" and not is_linear(A):
        raise ValueError(
            f"the order `released` is for linear problems only, which {type(A).__name__} is not; "
            "take `alternate`"
        )
    callback = Callback() if callback is None else callback
    frame = Frame(prior, y, A)
    t = nearest_step(prior, frame.span * noise_level)
    noise = stream(seed, "purification", y.device)
    z = (A.pinv(y) if z0 is None else z0).detach().clone()
    distance = DISTANCES[loss]
    # As in aSeqDIP for CT: the gradient of a norm is as large as ||A||.
    is_ct = isinstance(whole(A), Radon)
    weight = lambda_ae * (A.norm() if loss == "norms" and is_ct else 1.0)

    def objective(z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        x = net(z)
        data_term, autoencoding_term = distance(A(x), y), distance(x, z)
        loss = data_term + weight * autoencoding_term
        return x, {"loss": loss, "data_term": data_term, "autoencoding_term": autoencoding_term}

    update = Update(objective, adam(net.parameters(), lr), graph=True)
    net_output = Output(net)
    x = callback.start(None, net=net, z=z, update=update, noise=noise)
    if order == "released" and x is None:  # else the checkpoint's z has come from it
        z.copy_(dds(y, A, prior=prior, seed=seed))
    for step in callback.outer(steps):
        x = update(z)
        if step % N == 0:
            x = net_output(z)
            due = order == "alternate" and is_due(step // N, steps // N, purifications)
            with torch.no_grad():
                z.copy_(purified(x, frame, prior, t, denoise_steps, noise) if due else x)
        callback.record(step, x, update.terms)
    return x


METHOD = Method("udig_dip", "uDiG-DIP", udig_dip, net="unet", takes=("prior",), needs="prior")


def is_due(k: int, K: int, n: int) -> bool:
    """Tell whether update k of 1..K is one of n that lie evenly between the first and the last."""
    return k < K and k * (n + 1) // K > (k - 1) * (n + 1) // K


def purified(
    x: Tensor, frame: Frame, prior: Prior, t: int, steps: int, noise: torch.Generator
) -> Tensor:
    """Return a task's image, purified from noise level t by DDIM."""
    return frame.decode(purify(prior, frame.encode(x), t, steps, 0.0, noise))
