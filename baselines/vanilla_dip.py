"""Vanilla DIP: a network fed with fixed noise, fitted to the measurements."""

import torch
from torch import Tensor, nn

from operators.base import Operator
from utils.callback import Callback
from utils.methods import Method, NotNegative, Positive
from utils.optim import Update, adam, sqnorm
from utils.randomness import stream


def vanilla_dip(
    y: Tensor,
    A: Operator,
    net: nn.Module,
    *,
    z0: Tensor | None = None,
    steps: int = 4000,
    lr: Positive = 0.01,
    z_scale: Positive = 0.1,
    input_noise: NotNegative = 0.0,
    seed: int = 0,
    callback: Callback | None = None,
) -> Tensor:
    """Reconstruct by the deep image prior.

        min_phi ||A f_phi(z) - y||^2                                                    (1)

    with z fixed, optionally perturbed by fresh Gaussian noise in each step.

    Args:
        y: measurements, (1, *A.out_shape).
        A: forward operator.
        net: untrained network from z to (1, *A.in_shape), with its channels as net.in_channels.
        z0: the fixed z; None draws (1, net.in_channels, H, W) from U(0, z_scale).
        steps: weight updates (aSeqDIP, appendix C.6: 4000).
        lr: Adam's learning rate.
        z_scale: upper end of the uniform distribution of z.
        input_noise: standard deviation of the noise added to z in each step.
        seed: of z and its noise.
        callback: is told each step and its image, the network's output before that step.

    Returns:
        x_hat, (1, *A.in_shape): the image of the last step.

    Reference:
        Ulyanov, Vedaldi, Lempitsky, Deep Image Prior, CVPR 2018, eq. (2); eq. (1) of aSeqDIP
        (Alkhouri et al., NeurIPS 2024). Settings of the authors' public code: 32 channels of
        U(0, 0.1), Adam at 0.01. Differs from it: the sum of squares in place of their mean,
        which Adam hardly tells apart; no return to earlier weights when the fit worsens.
    """
    callback = Callback() if callback is None else callback
    z = fixed_noise(net, A, z_scale, seed).to(y.device) if z0 is None else z0
    noise = stream(seed, "input noise", y.device)

    def objective(z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        x = net(z)
        data_term = sqnorm(A(x), y)
        return x, {"loss": data_term, "data_term": data_term}

    update = Update(objective, adam(net.parameters(), lr), graph=True)
    x = callback.start(None, net=net, update=update, noise=noise)
    for step in callback.outer(steps):
        x = update(perturbed(z, input_noise, noise))
        callback.record(step, x, update.terms)
    return x


METHOD = Method(
    "vanilla_dip", "Vanilla DIP", vanilla_dip, net="noise", style={"color": "tab:green", "lw": 1.5}
)


def fixed_noise(net: nn.Module, A: Operator, scale: float, seed: int) -> Tensor:
    """Draw z, (1, net.in_channels, H, W) float32 from U(0, scale), the same on every machine."""
    shape = (1, net.in_channels, *A.in_shape[-2:])
    return scale * torch.rand(shape, generator=stream(seed, "z0"))


def perturbed(z: Tensor, std: float, noise: torch.Generator) -> Tensor:
    """Return z plus fresh Gaussian noise; z itself, and nothing drawn, where std is 0."""
    if std == 0:
        return z
    return z + std * torch.randn(z.shape, generator=noise, device=z.device)
