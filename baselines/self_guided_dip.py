"""Self-Guided DIP: the network's input is learned with its weights, and denoised by it."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from baselines.classical import check_problem
from baselines.tv import tv
from operators.base import Operator
from operators.downsample import Downsample
from operators.mri import MultiCoilMRI
from operators.pixels import PixelMask
from operators.radon import Radon
from utils.callback import Callback
from utils.methods import Count, Method, NotNegative, Positive
from utils.optim import DISTANCES, Update, adam
from utils.randomness import stream


def self_guided_dip(
    y: Tensor,
    A: Operator,
    net: nn.Module,
    *,
    z0: Tensor | None = None,
    steps: int = 4000,
    lr: Positive = 3e-4,
    lr_z: Positive = 0.1,
    alpha: NotNegative = 2.0,
    n_draws: Count = 3,
    noise_share: NotNegative = 0.5,
    loss: Literal["squares", "norms"] = "squares",
    start: Literal["uniform", "tv"] = "uniform",
    sigma: float | None = None,
    seed: int = 0,
    callback: Callback | None = None,
) -> Tensor:
    """Reconstruct by Self-Guided DIP.

        min_{phi, z} ||A E[f_phi(z + eta)] - y||^2 + alpha ||E[f_phi(z + eta)] - z||^2         (2)
        eta = noise_share max(z) u,   u ~ U[0, 1) in each pixel,   x_hat = E[f_phi(z + eta)]

    where E is the mean over n_draws fresh draws of eta in each step. No gradient flows through
    max(z). In a complex image u has a real and an imaginary part, and max(z) is over both. With
    lr_z, alpha and noise_share 0, n_draws 1 and squares, it is vanilla_dip on z0.

    With norms both terms are norms in place of their squares, and alpha is in units of ||A||, which
    is how large the gradient of ||A x - y|| is.

    Args:
        y: measurements, (1, *A.out_shape).
        A: forward operator.
        net: untrained network from (1, *A.in_shape) to itself. Each draw is a pass of its own, so
            that batch statistics do not mix them.
        z0: where z starts, (1, *A.in_shape); None makes it as `start` says.
        steps: updates of weights and input (aSeqDIP, appendix C.6: 4000).
        lr: Adam's learning rate for the weights.
        lr_z: Adam's learning rate for z.
        alpha: weight of the denoising term.
        n_draws: passes through the network in each step.
        noise_share: upper end of the noise, in units of the largest entry of z.
        loss: what eq. (2) takes of its two differences.
        start: `uniform` draws z from U[0, 1), real and imaginary part; `tv` is the image of
            total variation.
        sigma: standard deviation of the noise in units of y, for that image; None for none.
        seed: of z and its noise.
        callback: is told each step and its image, the mean of the draws before that step. The
            authors' average over the steps (EMA, 0.99) is the callback's to take.

    Returns:
        x_hat, (1, *A.in_shape): the image of the last step.

    Raises:
        ValueError: n_draws is below 1, or `start` is tv and A none of MultiCoilMRI, Radon, PixelMask
            and Downsample.

    Reference:
        Liang et al., Analysis of deep image prior and exploiting self-guidance for image
        reconstruction, arXiv 2402.04097; eq. (2) of aSeqDIP (Alkhouri et al., NeurIPS 2024).
        Settings of the authors' public MRI demo. Differs from that: by default the squared norms of
        eq. (2), where the demo has norms; the denoising term compares complex images, where the demo
        broadcasts a complex against two real channels; max(z) is a constant. The start from total
        variation is ours; an input near the truth helps (aSeqDIP, section 3.1).
    """
    callback = Callback() if callback is None else callback
    if z0 is None and start == "tv":
        name = "self_guided_dip: start=tv"
        check_problem(name, y, A, MultiCoilMRI, Radon, PixelMask, Downsample)
        print("an image of total variation ...", flush=True)
        z0 = tv(y, A, sigma=sigma)
    elif z0 is None:
        z0 = uniform_image(y, A, seed)
    network = SelfGuidedNetwork(
        y, A, net, z0, lr=lr, lr_z=lr_z, alpha=alpha, n_draws=n_draws, noise_share=noise_share,
        loss=loss, seed=seed,
    )  # fmt: skip
    x = callback.start(None, net=net, **network.state())
    for step in callback.outer(steps):
        x = network.step()
        callback.record(step, x, network.update.terms)
    return x


METHOD = Method(
    "self_guided_dip",
    "Self-Guided DIP",
    self_guided_dip,
    net="unet",
    takes=("sigma",),
    style={"color": "tab:red", "lw": 1.5},
)


class SelfGuidedNetwork:
    """A network and its input that learn together.

    Args:
        z0: where the input starts, (1, *A.in_shape).
        Others as for self_guided_dip.

    Attributes:
        update: the update of the latest step, with the terms of its loss.
    """

    def __init__(
        self,
        y: Tensor,
        A: Operator,
        net: nn.Module,
        z0: Tensor,
        *,
        lr: float,
        lr_z: float,
        alpha: float,
        n_draws: int,
        noise_share: float,
        loss: str,
        seed: int,
    ) -> None:
        if n_draws < 1:
            raise ValueError(f"expected n_draws of at least 1, got {n_draws}")
        if loss not in DISTANCES:
            raise ValueError(f"expected a loss of {', '.join(DISTANCES)}, got {loss}")
        self.z = z0.detach().clone().requires_grad_()
        self.noise = stream(seed, "input noise", y.device)
        distance = DISTANCES[loss]
        weight = alpha * (A.norm() if loss == "norms" else 1.0)

        def objective(z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            x = sum(net(perturbed(z, noise_share, self.noise)) for _ in range(n_draws)) / n_draws
            data_term, denoising_term = distance(A(x), y), distance(x, z)
            total = data_term + weight * denoising_term
            return x, {"loss": total, "data_term": data_term, "denoising_term": denoising_term}

        groups = [{"params": net.parameters(), "lr": lr}, {"params": [self.z], "lr": lr_z}]
        self.update = Update(objective, adam(groups, lr))  # no graph: the objective draws noise

    def state(self) -> dict[str, Any]:
        """Return what a callback must remember between steps, but for the network."""
        return {"z": self.z, "update": self.update, "noise": self.noise}

    def step(self) -> Tensor:
        """Update weights and input once; return the image from before the update."""
        return self.update(self.z)


def uniform_image(y: Tensor, A: Operator, seed: int) -> Tensor:
    """Draw z, (1, *A.in_shape) of the image's dtype from U[0, 1), the same on every machine."""
    like = A.pinv(y)
    return torch.rand(like.shape, dtype=like.dtype, generator=stream(seed, "z0")).to(like.device)


def perturbed(z: Tensor, share: float, noise: torch.Generator) -> Tensor:
    """Return z + share max(z) u with fresh u from U[0, 1)."""
    parts = torch.view_as_real(z) if z.is_complex() else z
    u = torch.rand(z.shape, dtype=z.dtype, generator=noise, device=z.device)
    return z + share * parts.detach().max() * u
