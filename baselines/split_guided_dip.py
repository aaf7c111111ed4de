"""The mean image of Split DIP and Self-Guided DIP, which learn side by side."""

import math
from typing import Annotated

import torch
from torch import Tensor, nn

from baselines.classical import check_problem
from baselines.self_guided_dip import SelfGuidedNetwork
from baselines.split_dip import SplitNetworks, due
from models.members import with_shuffled_weights
from operators.base import Operator
from operators.mri import MultiCoilMRI
from operators.radon import Radon
from utils.callback import Callback
from utils.methods import Count, Method, NotNegative, Positive, Range
from utils.optim import norm
from utils.randomness import stream

EMA_DECAY = 0.99  # memory of the average over the images of Self-Guided DIP, as its authors take it


def split_guided_dip(
    y: Tensor,
    A: Operator,
    net: nn.Module,
    *,
    z0: Tensor | None = None,
    parts: Count = 16,
    share: Annotated[float, Range(0, 0.5, above=True)] = 0.2,
    start_iter: Count = 100,
    members: Count = 3,
    steps: int = 700,
    lr: Positive = 5e-4,
    guided_per_step: Positive = 4 / 3,
    guided_lr: Positive = 3e-4,
    lr_z: Positive = 0.1,
    alpha: NotNegative = 0.02,
    n_draws: Count = 3,
    noise_share: NotNegative = 0.5,
    seed: int = 0,
    noise_norm: float = 0.0,
    callback: Callback | None = None,
) -> Tensor:
    """Reconstruct by Split DIP and by Self-Guided DIP, and take the mean of their images.

        x_hat = (x_split + x_guided) / 2

    The two err in different places, so their mean is often nearer to the truth than either.
    Self-Guided DIP has norms, and both start from the image of total variation. x_guided is its
    exponential average over updates. They share nothing else.

    Self-Guided DIP would go on to fit the noise. So before each step it is asked whether
    ||A x_guided - y|| is down to that of the noise (discrepancy principle). If so it ends, and
    x_guided stays as it is.

    Args:
        y: measurements, (1, *A.out_shape).
        A: MultiCoilMRI or Radon.
        net: untrained network from an image to an image; the first of Split DIP's. The others are
            copies of it with their weights shuffled.
        z0: their common start; None makes it by total variation.
        parts, share, start_iter, members, steps, lr: Split DIP's, as for split_dip.
        guided_per_step: updates of Self-Guided DIP for each step, on average.
        guided_lr: its learning rate for the weights.
        lr_z, alpha, n_draws, noise_share: as for self_guided_dip with norms.
        seed: of both.
        noise_norm: expected ||A x_true - y||; 0 without noise, or if it is unknown. The scripts give
            CT's alone: in MRI the outer k-space holds signal, too, so its estimate is too high.
        callback: is told each step, the terms of Split DIP's loss, and the mean so far, which is
            made anew in each 20th step; until the first their common start.

    Returns:
        x_hat, (1, *A.in_shape).

    Raises:
        ValueError: A is of another task, a setting is out of range, or there is nothing to split.

    Reference:
        None as a whole; see split_dip and self_guided_dip. The discrepancy principle: Morozov, On
        the solution of functional equations by the method of regularization, 1966.
    """
    check_problem("split_guided_dip", y, A, MultiCoilMRI, Radon)
    if not guided_per_step > 0:
        raise ValueError(f"expected guided_per_step above 0, got {guided_per_step}")
    callback = Callback() if callback is None else callback
    guided_net = with_shuffled_weights(net, stream(seed, "guided network"))
    split = SplitNetworks(
        y, A, net, z0, parts=parts, share=share, start_iter=start_iter, members=members, lr=lr,
        seed=seed,
    )  # fmt: skip
    guided = SelfGuidedNetwork(
        y, A, guided_net, split.z, lr=guided_lr, lr_z=lr_z, alpha=alpha, n_draws=n_draws,
        noise_share=noise_share, loss="norms", seed=seed,
    )  # fmt: skip
    guided_steps = round(guided_per_step * steps)
    total = torch.zeros_like(split.z)  # of the average of the guided network's images, biased
    updates = torch.zeros((), dtype=torch.int64)  # of the guided network
    nets = nn.ModuleList([*split.nets, guided_net])
    state = split.state() | {f"guided_{name}": part for name, part in guided.state().items()}
    x = callback.start(split.z, net=nets, total=total, updates=updates, **state)
    split.prepare(callback)

    def x_guided() -> Tensor:
        return total / (1 - EMA_DECAY ** int(updates))

    ended = False
    for step in callback.outer(steps):
        terms = split.step()
        before, after = (math.ceil(guided_steps * k / steps) for k in (step - 1, step))
        if noise_norm > 0 and step > 1 and not ended:
            ended = norm(A(x_guided()), y).item() <= noise_norm
            if ended:
                print(f"Self-Guided DIP ends at the noise, after {updates} updates", flush=True)
        for _ in range(0 if ended else after - before):
            total.lerp_(guided.step(), 1 - EMA_DECAY)
            updates += 1
        if n := due(step, steps):
            x = (split.average_of(n) + x_guided()) / 2
        callback.record(step, x, terms)
    return x


METHOD = Method(
    "split_guided_dip", "Split + Self-Guided DIP", split_guided_dip, net="unet",
    takes=("noise_norm",), own_average=True, output="Split + Self-Guided DIP",
    style={"color": "tab:pink", "lw": 1.5},
)  # fmt: skip
