"""SGLD-DIP: the deep image prior, its weights sampled by Langevin dynamics, its images averaged."""

from typing import Annotated

import torch
from torch import Tensor, nn

from baselines.vanilla_dip import fixed_noise, perturbed
from operators.base import Operator
from utils.callback import Callback
from utils.errors import CannotRun
from utils.methods import Count, Method, NotNegative, Positive, Range
from utils.optim import Update, adam, sqnorm
from utils.randomness import stream


def sgld_dip(
    y: Tensor,
    A: Operator,
    net: nn.Module,
    *,
    z0: Tensor | None = None,
    steps: int = 4000,
    lr: Positive = 0.01,
    temperature: NotNegative = 1.0,
    weight_decay: NotNegative = 5e-8,
    burn_in: Annotated[float, Range(0, 1)] = 0.35,
    thin: Count = 50,
    z_scale: Positive = 0.1,
    input_noise: NotNegative = 1 / 30,
    seed: int = 0,
    callback: Callback | None = None,
) -> Tensor:
    """Reconstruct by the posterior mean of the deep image prior.

        phi <- Adam step on ||A f_phi(z) - y||^2 + (m / 2) weight_decay ||phi||^2
        w   <- w + n,   n ~ N(0, (2 temperature lr)^2),   for each convolution kernel w of phi
        x_hat = mean of f_phi(z) over the steps that are sampled

    where m is the number of entries of y, and z is fixed, optionally perturbed by fresh Gaussian
    noise in each step. With temperature and weight_decay 0 the steps are those of vanilla_dip.

    Args:
        y: measurements, (1, *A.out_shape).
        A: forward operator.
        net: untrained network from z to (1, *A.in_shape), with its channels as net.in_channels.
        z0: the fixed z; None draws (1, net.in_channels, H, W) from U(0, z_scale).
        steps: weight updates (aSeqDIP, appendix C.6: 4000).
        lr: Adam's learning rate.
        temperature: scale of the noise on the kernels, which are all parameters of four axes; 1 is
            the authors', for 20000 steps. Fewer need less: after 2000, a 128x128 picture with noise
            of 25/255 (20.4 dB) came to 23.8 dB with 1, 27.9 dB with 0.3 and 28.9 dB with 0.1.
        weight_decay: for the mean squared error, as in the authors' code; here the loss is a sum,
            and the decay is multiplied by as much.
        burn_in: share of the steps that are not sampled.
        thin: after that, every thin-th step is sampled.
        z_scale: upper end of the uniform distribution of z.
        input_noise: standard deviation of the noise added to z in each step.
        seed: of z, its noise and that of the kernels.
        callback: is told each step and its image, the network's output before that step.

    Returns:
        x_hat, (1, *A.in_shape): the mean of the samples; where the callback ends the steps before
        the first, the image of the last step.

    Raises:
        ValueError: no step would be sampled, or burn_in or thin is out of range.

    Reference:
        Cheng, Gadelha, Maji, Sheldon, A Bayesian perspective on the deep image prior, CVPR 2019.
        Settings of the authors' public denoising code, whose burn-in is 7000 of 20000 steps.
        Differs from that: 4000 steps, of which 7000 would leave nothing, so that burn_in is the
        share; no return to earlier weights when the fit worsens. Adam scales the gradient but not
        the noise, which is proportional to lr instead of its root: as in that code, these are not
        samples of the posterior.
    """
    if not 0 <= burn_in <= 1 or thin < 1:
        raise ValueError(
            f"expected burn_in from 0 to 1 and thin of at least 1, got {burn_in} and {thin}"
        )
    burned = round(burn_in * steps)
    first_sample = (burned // thin + 1) * thin
    if first_sample > steps:
        raise CannotRun(
            f"sgld_dip: no step is sampled: got {steps} steps, a burn-in of {burned} and a sample every "
            f"{thin} steps; take more steps or a lower thin or burn_in"
        )
    callback = Callback() if callback is None else callback
    z = fixed_noise(net, A, z_scale, seed).to(y.real) if z0 is None else z0
    noise = stream(seed, "input noise", y.device)
    kernel_noise = stream(seed, "kernel noise", y.device)

    def objective(z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        x = net(z)
        data_term = sqnorm(A(x), y)
        return x, {"loss": data_term, "data_term": data_term}

    decay = weight_decay * y.numel()
    update = Update(objective, adam(net.parameters(), lr, decay), graph=True)
    mean = torch.zeros_like(A.pinv(y))  # of the samples; before the first, the latest image
    state = dict(net=net, update=update, noise=noise, kernel_noise=kernel_noise, mean=mean)
    callback.start(None, **state)
    for step in callback.outer(steps):
        x = update(perturbed(z, input_noise, noise))
        shake_kernels(net, 2 * temperature * lr, kernel_noise)
        if step <= first_sample or step % thin == 0:
            n_samples = max(step // thin - burned // thin, 1)
            mean.lerp_(x, 1 / n_samples)
        callback.record(step, x, update.terms)
    return mean


METHOD = Method(
    "sgld_dip", "SGLD-DIP", sgld_dip, net="noise", own_average=True, output="posterior mean"
)


@torch.no_grad()
def shake_kernels(net: nn.Module, std: float, noise: torch.Generator) -> None:
    """Add Gaussian noise to all parameters of four axes, in place."""
    for parameter in net.parameters():
        if parameter.ndim == 4:
            shape, device = parameter.shape, parameter.device
            parameter += std * torch.randn(shape, generator=noise, device=device)
