"""Split DIP: a network that learns to predict one part of the measurements from the rest."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from baselines.classical import check_problem
from baselines.linear import linear
from baselines.tv import tv
from models.members import members_of
from operators.base import Operator
from operators.blur import BLURS
from operators.downsample import Downsample
from operators.mri import MultiCoilMRI
from operators.pixels import Identity, PixelMask
from operators.radon import Radon
from utils.callback import Callback
from utils.holdout import choose_positions, hold_out, without
from utils.methods import Count, Method, NotNegative, Positive, Range
from utils.noise import convolve
from utils.optim import Update, adam, norm
from utils.randomness import stream

EVERY = 20  # updates between two images of the whole
TRIES = 100  # for a place of a moved mask that leaves most known pixels known
MEMORY = 5  # of these images, of the average that is the result
ROUNDING = 1 / 255 / math.sqrt(12)  # noise of a picture of 8 bits, at least


def split_dip(
    y: Tensor,
    A: Operator,
    net: nn.Module,
    *,
    z0: Tensor | None = None,
    sigma: float | None = None,
    noise_filter: Tensor | None = None,
    parts: Count = 16,
    share: Annotated[float, Range(0, 0.5, above=True)] = 0.2,
    data_weight: NotNegative = 1.0,
    alpha: Positive = 0.5,
    start_iter: Count = 100,
    start_per_sigma: Positive = 0.04,
    members: Count = 1,
    steps: int = 1000,
    lr: Positive = 5e-4,
    seed: int = 0,
    callback: Callback | None = None,
) -> Tensor:
    """Reconstruct by a network that has learnt what the parts of the measurements lack.

        min_phi mean_j ( ||H_j (A f_phi(z_j) - y_j)|| + w ||(1 - H_j) (A f_phi(z_j) - y_j)|| ),
        x_hat = average of f_phi(z) over the last updates

    z_j is a direct image of some measurements, H_j picks those that it has not seen, and z is
    that of all. So, from one scan, the network learns to make of such an image one that predicts
    unseen measurements. Each step takes one j by chance. Several networks learn at once, on the
    same parts and from other initial weights; the image is the mean of theirs.

    MRI: columns or rows outside the centre are unseen; CT: whole views. z_j is by total variation.
    Inpainting: pixels are unseen as they are missing. Where at least half are known, z_j has the
    mean in its holes, and the pattern of the missing ones is moved over the known; a random share
    is unseen where no move leaves half of them. Where fewer are known, a random share is unseen,
    and z_j is interpolated linearly.
    Super-resolution: a random share of the small picture's pixels is unseen. It is interpolated
    linearly, and z_j is made of that by total variation. In all of these y_j = y.
    Denoising: two images with independent noise are made of y by fresh n ~ N(0, sigma^2 I) in
    each step, z_j = y + alpha n, and y_j = y - n / alpha, of which all is unseen. The image is
    turned and mirrored by chance, and f_phi(z) is the mean over all orientations: a network that
    must fit all does not learn the noise by heart. n has the covariance of the noise: with
    noise_filter it is sigma times the convolution of white noise with it.
    Deblurring: the same, but for one n_j for each part. z_j is an image of y + alpha n_j by total
    variation, and y_j = y - n_j / alpha. In the other tasks turning costs more than it brings.

    Args:
        y: measurements, (1, *A.out_shape).
        A: MultiCoilMRI, Radon, PixelMask, Downsample, Identity, LinearBlur, CameraBlur or BKSEBlur.
        net: untrained network from an image to an image.
        z0: z; None makes it.
        sigma: standard deviation of the noise, in units of y; for denoising, for deblurring, there
            at least that of rounding to 8 bits, and for CT, where the weight of z_j's total
            variation follows it.
        noise_filter: (C, C, a, b), for denoising alone: it turns white noise of variance 1 into noise
            of variance 1 with the correlations of y's (utils.noise); None for white noise.
        parts: how many z_j are made; for denoising it does not matter.
        share: of what can be unseen, in (0, 0.5]; for denoising and deblurring it does not matter.
        data_weight: w, of the measurements that z_j was made of. The network can learn their noise
            by heart, but not that of the unseen ones. So a weight below 1 is better on measured or
            noisy data. For denoising and deblurring it does not matter.
        alpha: for denoising and deblurring; the smaller, the less noise has z_j, and the more y_j.
        start_iter: iterations of total variation for each z_j.
        start_per_sigma: weight of total variation in units of sigma, for deblurring. 0.15 is best
            for that image alone; with less the network gets more detail, and of a kernel that is
            not exact more artefacts.
        members: how many networks (models.members).
        steps: weight updates of each network.
        lr: Adam's learning rate.
        seed: of the parts and of their order.
        callback: is told each step and the average so far, of images that are made in each 20th
            step: exponential, with a memory of five; until the first z.

    Returns:
        x_hat, (1, *A.in_shape).

    Raises:
        ValueError: A is of another task, a setting or sigma is out of range, or there is nothing to
            split.

    Reference:
        None as a whole. The split is that of self-supervised learning via data undersampling and
        its zero-shot form (Yaman, Hosseini, Akcakaya, ICLR 2022), there with unrolled networks;
        for noise Pang et al., Recorrupted-to-recorrupted, CVPR 2021, there with a data set.
        An input near the truth: aSeqDIP (Alkhouri et al., NeurIPS 2024), section 3.1. Norms in
        place of their squares, as in the public code of aSeqDIP. It has neither aSeqDIP's
        sequence of inputs nor its autoencoding term.
    """
    callback = Callback() if callback is None else callback
    check_problem("split_dip", y, A, MultiCoilMRI, Radon, PixelMask, Downsample, Identity, *BLURS)
    networks = SplitNetworks(
        y, A, net, z0, parts=parts, share=share, data_weight=data_weight, start_iter=start_iter,
        members=members, lr=lr, seed=seed, sigma=sigma, alpha=alpha,
        start_per_sigma=start_per_sigma, noise_filter=noise_filter,
    )  # fmt: skip
    x = callback.start(networks.z, net=networks.nets, **networks.state())
    networks.prepare(callback)
    for step in callback.outer(steps):
        terms = networks.step()
        if n := due(step, steps):
            x = networks.average_of(n)
        callback.record(step, x, terms)
    return x


METHOD = Method(
    "split_dip", "Split DIP", split_dip, net="unet", takes=("sigma", "noise_filter"), own_average=True,
    output="Split DIP", style={"color": "tab:cyan", "lw": 1.5},
)  # fmt: skip


def due(step: int, steps: int) -> int:
    """Return which image of the whole is made after a step, from 1, or 0 for none."""
    return math.ceil(step / EVERY) if step % EVERY == 0 or step == steps else 0


class SplitNetworks:
    """The networks of Split DIP, the parts that they learn from, and the average of their images.

    Args:
        As for split_dip; the last three are of denoising and deblurring alone.

    Attributes:
        nets: the networks.
        z: their input for the whole.
    """

    def __init__(
        self,
        y: Tensor,
        A: Operator,
        net: nn.Module,
        z0: Tensor | None,
        *,
        parts: int,
        share: float,
        data_weight: float,
        start_iter: int,
        members: int,
        lr: float,
        seed: int,
        sigma: float | None,
        alpha: float,
        start_per_sigma: float,
        noise_filter: Tensor | None,
    ) -> None:
        if min(parts, start_iter) < 1:
            raise ValueError(
                f"expected parts and start_iter of at least 1, got {parts} and {start_iter}"
            )
        noisy = isinstance(A, (Identity, *BLURS))
        if isinstance(A, BLURS) and (sigma is None or 0 <= sigma < ROUNDING):
            sigma = ROUNDING
        if noisy and not (sigma is not None and sigma > 0 and alpha > 0):
            raise ValueError(
                "expected sigma and alpha above 0 for denoising and deblurring, got "
                f"{sigma} and {alpha}"
            )
        if isinstance(A, Radon) and A.out_shape[1] < 2:
            raise ValueError("expected at least two views, got one")
        if isinstance(A, PixelMask) and A.mask.sum() < 4:
            raise ValueError(f"expected at least 4 known pixels, got {int(A.mask.sum())}")
        self.A, self.start_iter, self.data_weight = A, start_iter, data_weight
        self.rng = stream(seed, "parts")
        parts = 0 if isinstance(A, Identity) else parts
        self.parts = [part(y, A, share, sigma, alpha, self.rng) for _ in range(parts)]
        if self.parts and z0 is None:
            print("a classical image of all measurements ...", flush=True)
        self.weight = start_per_sigma * sigma if isinstance(A, BLURS) else None
        self.sigma = sigma if isinstance(A, Radon) else None
        self.z = self._classical(y) if z0 is None else z0
        self.average = self.z.clone()
        self.inputs = torch.zeros(parts, *self.z.shape, dtype=self.z.dtype, device=self.z.device)
        if isinstance(A, Identity):
            self.draw, self.whole = recorrupted(y, sigma, alpha, self.rng, noise_filter)
        else:
            self.draw, self.whole = held_out(self.z, self.inputs, self.parts, self.rng)
        self.there, self.back = orientations(A.in_shape[-2:], y.device)
        if not noisy:
            self.there, self.back = self.there[:1], self.back[:1]
        # What differs from step to step stays in one place, for a CUDA graph.
        self.unseen, self.target = torch.zeros_like(y, dtype=torch.bool), torch.zeros_like(y)
        self.turn, self.turn_back = self.there[0].clone(), self.back[0].clone()
        self.nets = members_of(net, members, self.rng)
        self.updates = [self._update_of(net, lr) for net in self.nets]

    def state(self) -> dict[str, Any]:
        """Return what a callback must remember between steps, but for the networks."""
        updates = {f"update_{m}": update for m, update in enumerate(self.updates)}
        return {"rng": self.rng, "inputs": self.inputs, "average": self.average, **updates}

    def prepare(self, callback: Callback) -> None:
        """Make the classical image of each part."""
        for j in callback.prepare(len(self.parts), "classical image"):
            p = self.parts[j]
            self.inputs[j] = self._classical(p.measured, p.left_out)

    def step(self) -> dict[str, Tensor]:
        """Update each network once, each at a part of its own; return the last one's terms."""
        for update in self.updates:
            z_j, unseen_j, y_j = self.draw()
            self.unseen.copy_(unseen_j)
            self.target.copy_(y_j)
            self._orient(int(torch.randint(len(self.there), (), generator=self.rng)))
            update(z_j)
        return update.terms

    @torch.no_grad()
    def average_of(self, n: int) -> Tensor:
        """Make the n-th image of the whole, from 1, and return the average so far."""
        total = torch.zeros_like(self.z)
        for k in range(len(self.there)):
            self._orient(k)
            total += sum(self._turned(net, self.whole()) for net in self.nets)
        image = total / (len(self.there) * len(self.nets))
        self.average.lerp_(image, 1 / min(n, MEMORY))
        return self.average.clone()

    def _classical(self, y: Tensor, left_out: Tensor | None = None) -> Tensor:
        return classical(y, self.A, self.start_iter, left_out, self.weight, self.sigma)

    def _update_of(self, net: nn.Module, lr: float) -> Update:
        def objective(z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            unseen, target = self.unseen, self.target
            x = self._turned(net, z)
            predicted = self.A(x)
            unseen_term = norm(torch.where(unseen, predicted, 0), torch.where(unseen, target, 0))
            data_term = norm(torch.where(unseen, 0, predicted), torch.where(unseen, 0, target))
            loss = unseen_term + self.data_weight * data_term
            return x, {"loss": loss, "unseen_term": unseen_term, "data_term": data_term}

        return Update(objective, adam(net.parameters(), lr), graph=True)

    def _orient(self, k: int) -> None:
        self.turn.copy_(self.there[k])
        self.turn_back.copy_(self.back[k])

    def _turned(self, net: nn.Module, z: Tensor) -> Tensor:
        return reordered(net(reordered(z, self.turn)), self.turn_back)


Draw = Callable[[], tuple[Tensor, Tensor, Tensor]]  # one z_j, what it has not seen, and y_j


def recorrupted(
    y: Tensor,
    sigma: float,
    alpha: float,
    rng: torch.Generator,
    noise_filter: Tensor | None = None,
) -> tuple[Draw, Callable[[], Tensor]]:
    """Make the drawing of two images of independent noise, and of one of them."""

    def noise() -> Tensor:
        white = (sigma * torch.randn(y.shape, generator=rng)).to(y)
        return white if noise_filter is None else convolve(white, noise_filter)

    def draw() -> tuple[Tensor, Tensor, Tensor]:
        n = noise()
        return y + alpha * n, torch.ones_like(y, dtype=torch.bool), y - n / alpha

    return draw, lambda: y + alpha * noise()


@dataclass
class Part:
    """One part of the measurements: what z_j is made of, and what it is to predict."""

    measured: Tensor
    left_out: Tensor | None  # A.out_shape bool, of what is measured; None leaves nothing out
    unseen: Tensor  # A.out_shape bool, of the target
    target: Tensor


def part(
    y: Tensor, A: Operator, share: float, sigma: float | None, alpha: float, rng: torch.Generator
) -> Part:
    """Draw a part: some measurements are left out, or of a blurred picture all have other noise."""
    if isinstance(A, BLURS):
        n = (sigma * torch.randn(y.shape, generator=rng)).to(y)
        return Part(y + alpha * n, None, torch.ones_like(y[0], dtype=torch.bool), y - n / alpha)
    left_out = choose(A, share, rng).to(y.device)
    return Part(y, left_out, left_out, y)


def held_out(
    z: Tensor, inputs: Tensor, parts: list[Part], rng: torch.Generator
) -> tuple[Draw, Callable[[], Tensor]]:
    """Make the drawing of a part, and that of the whole, which is always z."""

    def draw() -> tuple[Tensor, Tensor, Tensor]:
        j = int(torch.randint(len(parts), (), generator=rng))
        return inputs[j], parts[j].unseen, parts[j].target

    return draw, lambda: z


def choose(A: Operator, share: float, rng: torch.Generator) -> Tensor:
    """Choose what a part does not see.

    Args:
        A: MultiCoilMRI, Radon, Downsample or PixelMask.
        share: of what can be unseen; where most pixels are known it does not matter.
        rng: CPU generator.

    Returns:
        A.out_shape bool on the CPU.
    """
    if isinstance(A, MultiCoilMRI):
        return hold_out(A, share, rng)
    if isinstance(A, Radon):
        views = choose_positions(torch.ones(A.out_shape[1], dtype=torch.bool), share, rng)
        return views[:, None].expand(A.out_shape)
    if isinstance(A, Downsample):
        small = torch.ones(A.out_shape[-2:], dtype=torch.bool)
        return choose_positions(small, share, rng).expand(A.out_shape)
    known = A.mask.cpu()
    if mostly(known):
        for _ in range(TRIES):
            rows, columns = (int(torch.randint(n, (), generator=rng)) for n in known.shape)
            unseen = known & ~known.roll((rows, columns), (0, 1))
            if 0 < unseen.sum() <= known.sum() / 2:
                return unseen.expand(A.out_shape)
    return choose_positions(known, share, rng).expand(A.out_shape)


def classical(
    y: Tensor,
    A: Operator,
    max_iter: int,
    unseen: Tensor | None = None,
    lambda_tv: float | None = None,
    sigma: float | None = None,
) -> Tensor:
    """Reconstruct by total variation, or fill missing pixels; a noisy image stays as it is.

    Args:
        y, A: as for split_dip.
        max_iter: iterations of total variation.
        unseen: A.out_shape bool, what is not used of y; None uses all.
        lambda_tv: weight of total variation for a blur; None takes its default.
        sigma: standard deviation of the noise, for CT.

    Returns:
        (1, *A.in_shape).
    """
    if isinstance(A, Identity):
        return y
    if isinstance(A, BLURS):
        return tv(y, A, lambda_tv=lambda_tv, max_iter=max_iter)
    unseen = torch.zeros_like(y[0], dtype=torch.bool) if unseen is None else unseen
    if isinstance(A, Radon):
        views = ~unseen[0, :, 0]
        angles, n_det = A.angles[views.cpu()], A.out_shape[-1]
        kept = Radon(A.in_shape[-2:], angles, n_det, dtype=y.dtype).to(y.device)
        return tv(y[:, :, views].contiguous(), kept, sigma=sigma, max_iter=max_iter)
    if isinstance(A, MultiCoilMRI):
        A = without(A, unseen) if unseen.any() else A
        return tv(torch.where(unseen, 0, y), A, max_iter=max_iter)
    if isinstance(A, Downsample):
        known = PixelMask(~unseen[0], len(y[0]))
        return tv(linear(y, known) if unseen.any() else y, A, max_iter=max_iter)
    known = A.mask & ~unseen[0]
    if mostly(A.mask):
        return torch.where(known, y, y[..., known].mean())
    return linear(torch.where(known, y, 0), PixelMask(known, len(y[0])))


def mostly(known: Tensor) -> bool:
    """Tell whether at least half of the pixels are known."""
    return known.float().mean().item() >= 0.5


def orientations(shape: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the orders of pixels that turn and mirror an image of (H, W), and those back.

    Returns:
        Each (n, H W) int64: n is 8, or 4 without quarter turns where H differs from W. The first
        leaves the image as it is.
    """
    height, width = shape
    pixels = torch.arange(height * width).view(height, width)
    turns = range(4) if height == width else (0, 2)
    there = torch.stack(
        [
            torch.rot90(image, turn).flatten()
            for image in (pixels, pixels.flip(-1))
            for turn in turns
        ]
    )
    return there.to(device), there.argsort(dim=1).to(device)


def reordered(x: Tensor, order: Tensor) -> Tensor:
    """Put the pixels of (B, C, H, W) in another order, (H W) int64."""
    return x.flatten(start_dim=-2)[..., order].view_as(x)
