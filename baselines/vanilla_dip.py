"""Vanilla DIP: a network fed with fixed noise, fitted to the measurements."""

import torch
from torch import Tensor, nn

from models.members import members_of
from operators.base import Operator
from utils.callback import Callback
from utils.methods import Count, Method, NotNegative, Positive
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
    members: Count = 1,
    seed: int = 0,
    callback: Callback | None = None,
) -> Tensor:
    """Reconstruct by the deep image prior.

        min_phi ||A f_phi(z) - y||^2                                                    (1)

    with z fixed, optionally perturbed by fresh Gaussian noise in each step. Several networks can
    learn at once, each with a z of its own; the image is the mean of theirs.

    Args:
        y: measurements, (1, *A.out_shape).
        A: forward operator.
        net: untrained network from z to (1, *A.in_shape), with its channels as net.in_channels.
        z0: the fixed z of all networks; None draws (1, net.in_channels, H, W) for each from
            U(0, z_scale).
        steps: weight updates (aSeqDIP, appendix C.6: 4000).
        lr: Adam's learning rate.
        z_scale: upper end of the uniform distribution of z.
        input_noise: standard deviation of the noise added to z in each step.
        members: how many networks (models.members).
        seed: of z and its noise, and of the other networks.
        callback: is told each step and its image, the output before that step, and the terms of
            the first network's loss.

    Returns:
        x_hat, (1, *A.in_shape): the image of the last step.

    Reference:
        Ulyanov, Vedaldi, Lempitsky, Deep Image Prior, CVPR 2018, eq. (2); eq. (1) of aSeqDIP
        (Alkhouri et al., NeurIPS 2024). Settings of the authors' public code: 32 channels of
        U(0, 0.1), Adam at 0.01. Differs from it: the sum of squares in place of their mean,
        which Adam hardly tells apart; no return to earlier weights when the fit worsens; the mean
        of several networks.
    """
    callback = Callback() if callback is None else callback
    nets = members_of(net, members, stream(seed, "members"))
    inputs = [
        fixed_noise(net, A, z_scale, seed, m).to(y.real) if z0 is None else z0
        for m in range(members)
    ]
    noise = stream(seed, "input noise", y.device)

    def update_of(net: nn.Module) -> Update:
        def objective(z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            x = net(z)
            data_term = sqnorm(A(x), y)
            return x, {"loss": data_term, "data_term": data_term}

        return Update(objective, adam(net.parameters(), lr), graph=True)

    updates = [update_of(net) for net in nets]
    state = {f"update_{m}": update for m, update in enumerate(updates)}
    x = callback.start(None, net=nets, noise=noise, **state)
    for step in callback.outer(steps):
        x = sum(
            update(perturbed(z, input_noise, noise)) for update, z in zip(updates, inputs)
        ) / members  # fmt: skip
        callback.record(step, x, updates[0].terms)
    return x


METHOD = Method(
    "vanilla_dip", "Vanilla DIP", vanilla_dip, net="noise", style={"color": "tab:green", "lw": 1.5}
)


def fixed_noise(net: nn.Module, A: Operator, scale: float, seed: int, member: int = 0) -> Tensor:
    """Draw z, (1, net.in_channels, H, W) float32 from U(0, scale), the same on every machine."""
    shape = (1, net.in_channels, *A.in_shape[-2:])
    purpose = "z0" if member == 0 else f"z0 of member {member}"
    return scale * torch.rand(shape, generator=stream(seed, purpose))


def perturbed(z: Tensor, std: float, noise: torch.Generator) -> Tensor:
    """Return z plus fresh Gaussian noise; z itself, and nothing drawn, where std is 0."""
    if std == 0:
        return z
    return z + std * torch.randn(z.shape, generator=noise, device=z.device)
