"""Rethinking DIP: a network fed with the noisy image, fitted by an estimate of its true error."""

from typing import Annotated

import torch
from torch import Tensor, nn

from operators.base import Operator
from operators.pixels import Identity
from utils.callback import Callback
from utils.methods import Count, Method, NotNegative, Positive, Range
from utils.optim import Update, sqnorm
from utils.randomness import stream


def rethinking_dip(
    y: Tensor,
    A: Operator,
    net: nn.Module,
    *,
    z0: Tensor | None = None,
    sigma: float,
    steps: int = 4000,
    lr: Positive = 0.1,
    lr_decay: Annotated[float, Range(0, 1, above=True)] = 0.9,
    lr_every: Count = 300,
    input_noise: NotNegative = 0.5,
    ste_decay: Annotated[float, Range(0, 1, below=True)] = 0.99,
    seed: int = 0,
    callback: Callback | None = None,
) -> Tensor:
    """Denoise by the deep image prior under Stein's unbiased risk estimate.

        min_phi L(phi) = (||f_phi(z) - y||^2 + 2 sigma^2 b^T J b) / n - sigma^2

    with z = y + gamma and J = df_phi/dz there, n the number of entries of y, and fresh in each
    step b ~ N(0, I) and gamma ~ N(0, s^2 I), s ~ U(0, input_noise * sigma). For a network that
    does not depend on y, L is on average its error ||f_phi(z) - x_true||^2 / n; once it falls
    below zero, which an error cannot, the network has learnt the noise.

    Stopping at zero crossing: the first step whose L < 0 is the last, and its output is left out.
    Stochastic temporal ensemble (STE): x_hat = xbar_T is the exponential average of the outputs,

        xbar_t = sum_{s=1..t} d^(t-s) x_s / sum_{s=1..t} d^(t-s),    d = ste_decay,

    with x_s the output that step s takes L of, and T the step before the last one, or `steps`
    where L never falls below zero. Where it does so in step 1, x_hat = x_1.

    Args:
        y: noisy image, (1, *A.out_shape) float in [0, 1] but for its noise, which is not clipped.
        A: the identity.
        net: untrained network from (1, *A.in_shape) to the same, twice differentiable.
        z0: the network's input before gamma; None takes y, for which alone L estimates the error.
        sigma: standard deviation of the noise, in units of y.
        steps: weight updates at most (aSeqDIP, appendix C.6: 4000).
        lr: RAdam's learning rate.
        lr_decay, lr_every: after every lr_every steps it is multiplied by lr_decay.
        input_noise: upper end of the standard deviation of gamma, in units of sigma.
        ste_decay: memory d of the average, from 0 (the last output alone) to below 1.
        seed: of gamma and b.
        callback: is told each step and its average.

    Returns:
        x_hat, (1, *A.in_shape).

    Raises:
        ValueError: A is not the identity, or sigma, ste_decay or lr_every is out of range.

    Reference:
        Jo, Chun, Choi, Rethinking Deep Image Prior for Denoising, ICCV 2021: DIP-SURE, zero
        crossing stopping and STE. Settings of the authors' public code for colour images
        (eSURE_uniform): network S2SNet, RAdam at 0.1 times 0.9 every 300 steps. That L stays
        unbiased with gamma: Zhussip et al., Extending Stein's unbiased risk estimator, NeurIPS
        2019.
        Differs from the code: its average starts as x_1, which still weighs 13 % at step 204, and
        sheds it by starting anew after steps 11 and 201 where the clean image says that the output
        is better; dividing by the sum of the weights takes its place, without the clean image.
        Outputs are not rounded to 8 bits before averaging; no return to earlier weights when the
        fit to y falls by 5 dB, nor after stopping; 4000 steps instead of 3000; random streams of
        their own for b and gamma.
    """
    if not isinstance(A, Identity):
        raise ValueError(
            "rethinking_dip: its loss estimates the error of a denoised image; expected A to be "
            f"operators.pixels.Identity, got {type(A).__name__}"
        )
    if not sigma > 0:
        raise ValueError(f"rethinking_dip: expected sigma above 0, got {sigma}")
    if not 0 <= ste_decay < 1 or lr_every < 1:
        raise ValueError(
            "rethinking_dip: expected ste_decay from 0 to below 1 and lr_every of at least 1, got "
            f"{ste_decay} and {lr_every}"
        )
    callback = Callback() if callback is None else callback
    z = y if z0 is None else z0
    gamma_rng = stream(seed, "input noise", y.device)
    probe_rng = stream(seed, "divergence probe", y.device)

    def objective(z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        x = net(z)
        data_term = sqnorm(A(x), y)
        b = torch.randn(z.shape, generator=probe_rng, device=z.device, dtype=z.dtype)
        trace = divergence(x, z, b)
        loss = (data_term + 2 * sigma**2 * trace) / y.numel() - sigma**2
        return x, {"loss": loss, "data_term": data_term, "divergence": trace}

    optimizer = torch.optim.RAdam(net.parameters(), lr)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, lr_every, lr_decay)
    update = Update(objective, optimizer)
    average = torch.zeros_like(y)
    stopped = torch.zeros((), dtype=torch.bool)
    callback.start(
        None, net=net, update=update, schedule=schedule, gamma_rng=gamma_rng,
        probe_rng=probe_rng, average=average, stopped=stopped,
    )  # fmt: skip
    for step in callback.outer(steps):
        if stopped:  # in the step before, or in the run that this one goes on with
            break
        x = update(perturbed(z, input_noise * sigma, gamma_rng).requires_grad_())
        schedule.step()
        stopped.copy_(update.terms["loss"] < 0)
        if step == 1 or not stopped:
            average.lerp_(x, (1 - ste_decay) / (1 - ste_decay**step))  # all of x_1 in step 1
        callback.record(step, average.clone(), update.terms)
    return average.clone()


METHOD = Method(
    "rethinking_dip",
    "Rethinking DIP",
    rethinking_dip,
    net="s2s",
    takes=("sigma",),
    output="average at the stop",
    own_stop=True,
)


def divergence(x: Tensor, z: Tensor, b: Tensor) -> Tensor:
    """Compute b^T J b with J = dx/dz, exactly and differentiably.

    Its mean over b ~ N(0, I), or over random signs, is the divergence tr J = sum_i dx_i / dz_i.

    Args:
        x: what a network made of z.
        z: the network's input, which requires grad, of x's shape.
        b: of the same shape.

    Returns:
        Scalar.

    Reference:
        Hutchinson, A stochastic estimator of the trace of the influence matrix, 1989. With
        autograd's J instead of the finite difference of Ramani et al., Monte-Carlo SURE, 2008.
    """
    (product,) = torch.autograd.grad((b * x).sum(), z, create_graph=True)  # J^T b
    return (b * product).sum()


def perturbed(z: Tensor, largest_std: float, generator: torch.Generator) -> Tensor:
    """Return z plus Gaussian noise of a standard deviation drawn from U(0, largest_std)."""
    std = largest_std * torch.rand((), generator=generator, device=z.device, dtype=z.dtype)
    return z + std * torch.randn(z.shape, generator=generator, device=z.device, dtype=z.dtype)
