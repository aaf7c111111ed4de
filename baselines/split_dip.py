"""Split DIP: a network that learns to predict some measurements from the others of one scan."""

import numpy as np
import torch
from scipy.interpolate import griddata
from torch import Tensor, nn

from baselines.classical import check_problem
from baselines.tv import tv
from operators.base import Operator
from operators.mri import MultiCoilMRI
from operators.pixels import PixelMask
from operators.radon import Radon
from utils.callback import Callback
from utils.holdout import choose_positions, hold_out, without
from utils.methods import Method
from utils.optim import Output, Update, adam, norm
from utils.randomness import stream

EVERY = 10  # updates between two images of the whole


def split_dip(
    y: Tensor,
    A: Operator,
    net: nn.Module,
    *,
    z0: Tensor | None = None,
    parts: int = 16,
    share: float = 0.2,
    start_iter: int = 300,
    steps: int = 700,
    lr: float = 5e-4,
    seed: int = 0,
    callback: Callback | None = None,
) -> Tensor:
    """Reconstruct by a network that has seen how parts of the measurements lack the rest.

        min_phi mean_j ( ||H_j (A f_phi(z_j) - y)|| + ||(1 - H_j) (A f_phi(z_j) - y)|| ),
        x_hat = f_phi(z)

    H_j picks measurements that are held out of the j-th part. z_j is a classical reconstruction
    of what is left of them, and z that of all. So the network learns, from one scan, to make of a
    classical image one that predicts measurements which that image has not seen. Each step takes
    one part, by chance.

    MRI: columns outside the centre are held out; CT: whole views; z is by total variation.
    Inpainting: pixels are held out as they are missing. Where most are known, the missing ones'
    pattern is moved over them, and z has their mean in its holes; else a random share is held
    out, and z is interpolated linearly.

    Args:
        y: measurements, (1, *A.out_shape).
        A: MultiCoilMRI, Radon or PixelMask.
        net: untrained network from an image to an image.
        z0: z; None makes it.
        parts: how many.
        share: of what can be held out, in (0, 0.5].
        start_iter: iterations of total variation for each z.
        steps: weight updates.
        lr: Adam's learning rate.
        seed: of the parts and of their order.
        callback: is told each step and the latest f_phi(z), which is made in each tenth; until
            then z.

    Returns:
        x_hat, (1, *A.in_shape).

    Raises:
        ValueError: A is of another task, or a setting is out of range.

    Reference:
        None as a whole. The split is that of self-supervised learning via data undersampling and
        its zero-shot form (Yaman, Hosseini, Akcakaya, ICLR 2022), there with unrolled networks.
        An input near the truth: aSeqDIP (Alkhouri et al., NeurIPS 2024), section 3.1. Norms in
        place of their squares, as in the public code of aSeqDIP. It has neither aSeqDIP's
        sequence of inputs nor its autoencoding term.
    """
    check_problem("split_dip", y, A, MultiCoilMRI, Radon, PixelMask)
    if parts < 1 or start_iter < 1:
        raise ValueError(
            f"split_dip: expected at least one part and start_iter, got {parts} and {start_iter}"
        )
    callback = Callback() if callback is None else callback
    rng = stream(seed, "parts")
    held = [choose(A, share, rng).to(y.device) for _ in range(parts)]
    print(f"split_dip: a classical image of each of {parts} parts ...", flush=True)
    inputs = [classical(y, A, start_iter, h) for h in held]
    z = classical(y, A, start_iter) if z0 is None else z0

    held_now = held[0].clone()  # of the part in hand: it stays in one place, for a CUDA graph

    def objective(z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        x = net(z)
        predicted = A(x)
        held_term = norm(torch.where(held_now, predicted, 0), torch.where(held_now, y, 0))
        data_term = norm(torch.where(held_now, 0, predicted), torch.where(held_now, 0, y))
        loss = held_term + data_term
        return x, {"loss": loss, "held_term": held_term, "data_term": data_term}

    update = Update(objective, adam(net.parameters(), lr), graph=True)
    net_output = Output(net)
    x = callback.start(z, net=net, update=update, rng=rng)
    for step in callback.outer(steps):
        j = int(torch.randint(parts, (), generator=rng))
        held_now.copy_(held[j])
        update(inputs[j])
        if step % EVERY == 0 or step == steps:
            x = net_output(z)
        callback.record(step, x, update.terms)
    return x


METHOD = Method("split_dip", "Split DIP", split_dip, net="unet", style={"color": "tab:cyan"})


def choose(A: Operator, share: float, rng: torch.Generator) -> Tensor:
    """Choose what a part does not see.

    Args:
        A: MultiCoilMRI, Radon or PixelMask.
        share: of what can be held out; where most pixels are known it does not matter.
        rng: CPU generator.

    Returns:
        A.out_shape bool on the CPU.
    """
    if isinstance(A, MultiCoilMRI):
        return hold_out(A, share, rng)
    if isinstance(A, Radon):
        views = choose_positions(torch.ones(A.out_shape[1], dtype=torch.bool), share, rng)
        return views[:, None].expand(A.out_shape)
    known = A.mask.cpu()
    if mostly(known):
        rows, columns = (int(torch.randint(n, (), generator=rng)) for n in known.shape)
        held = known & ~known.roll((rows, columns), (0, 1))
    else:
        held = choose_positions(known, share, rng)
    return held.expand(A.out_shape)


def classical(y: Tensor, A: Operator, max_iter: int, held: Tensor | None = None) -> Tensor:
    """Reconstruct by total variation, or fill missing pixels.

    Args:
        y, A: as for split_dip.
        max_iter: iterations of total variation.
        held: A.out_shape bool, what is not used of y; None uses all.

    Returns:
        (1, *A.in_shape).
    """
    held = torch.zeros_like(y[0], dtype=torch.bool) if held is None else held
    if isinstance(A, Radon):
        views = ~held[0, :, 0]
        kept = Radon(A.in_shape[-2:], A.angles[views.cpu()], A.out_shape[-1]).to(y.device)
        return tv(y[:, :, views].contiguous(), kept, max_iter=max_iter)
    if isinstance(A, MultiCoilMRI):
        A = without(A, held) if held.any() else A
        return tv(torch.where(held, 0, y), A, max_iter=max_iter)
    known = A.mask & ~held[0]
    if mostly(A.mask):
        return torch.where(known, y, y[..., known].mean())
    return interpolated(y, known)


def mostly(known: Tensor) -> bool:
    """Tell whether at least half of the pixels are known."""
    return known.float().mean().item() >= 0.5


def interpolated(y: Tensor, mask: Tensor) -> Tensor:
    """Fill missing pixels linearly between the known ones, beyond them with the nearest.

    Args:
        y: (1, C, H, W) real.
        mask: (H, W) bool, True where a pixel is known.

    Returns:
        (1, C, H, W); known pixels as they are.
    """
    known = mask.cpu().numpy()
    values = y[0].movedim(0, -1).cpu().numpy().copy()  # (H, W, C)
    points, holes = np.argwhere(known), np.argwhere(~known)
    filled = griddata(points, values[known], holes, method="nearest")
    if len(points) > 3:
        linear = griddata(points, values[known], holes, method="linear")
        filled = np.where(np.isnan(linear), filled, linear)
    values[~known] = filled
    return torch.from_numpy(values).movedim(-1, 0)[None].to(y)
