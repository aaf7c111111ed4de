"""Steps of diffusion samplers, and how a prior sees the images of a task.

All is written in the coordinates of models.diffusion.Prior: x = x_0 + sigma eps.
"""

import math

import torch
from torch import Tensor

from models.diffusion import Prior
from operators.base import Operator
from operators.radon import Radon
from operators.subset import whole
from utils.consistency import MU, proximal

PEAK_STEPS = 20  # of conjugate gradients for the image whose maximum is the unit


class Frame:
    """Turn a task's image into what a prior takes, and back.

        u = low + (high - low) x / peak

    A complex image becomes two channels or, for a prior of one channel, two images: real and
    imaginary part. To the right and below it is mirrored until its sides are multiples of what
    the network asks for. A larger image than those of the training is the prior's matter.

    Args:
        prior: has as many channels as a real image has, 2 or 1 for a complex one.
        y: measurements, (1, *A.out_shape).
        A: forward operator.

    Attributes:
        shape: of u, (B, channels, H', W').
        span: high - low: what 1 of a picture is in u.
        peak: of an image that has no unit of its own (MRI, CT): the maximum of a least-squares
            image. Such an image came within 1 to 17 % of the truth's maximum on the embedded
            samples, the direct reconstruction within 3 to 112 %. 1 for pictures.

    Raises:
        ValueError: the prior has other channels.
    """

    def __init__(self, prior: Prior, y: Tensor, A: Operator) -> None:
        channels, *self.sides = A.in_shape
        self.complex = y.is_complex()
        parts = 2 * channels if self.complex else channels
        if prior.channels not in ({1, parts} if self.complex else {parts}):
            raise ValueError(
                f"expected a prior of {parts} channels, got one of {prior.channels}; give another "
                "--prior"
            )
        height, width = padded(self.sides, prior.multiple)
        self.shape = (parts // prior.channels, prior.channels, height, width)
        self.low, self.span = prior.low, prior.high - prior.low
        self.peak = peak(y, A)
        self._rows, self._columns = (
            mirrored(side, length).to(y.device)
            for side, length in zip(self.sides, (height, width), strict=True)
        )

    def encode(self, x: Tensor) -> Tensor:
        """Turn an image (1, C, H, W) into u, (B, channels, H', W')."""
        u = self._parts(x)
        return u[..., self._rows[:, None], self._columns]

    def decode(self, u: Tensor) -> Tensor:
        """Turn u (B, channels, H', W') into an image (1, C, H, W)."""
        x = (self.crop(u) - self.low) * (self.peak / self.span)
        if not self.complex:
            return x
        return torch.complex(*x.reshape(2, 1, 1, *self.sides))

    def merge(self, u: Tensor, x: Tensor) -> Tensor:
        """Return u with an image (1, C, H, W) in the place of its own."""
        u = u.clone()
        self.crop(u).copy_(self._parts(x))
        return u

    def crop(self, u: Tensor) -> Tensor:
        """Return the part of (B, channels, H', W') that is not padding, a view."""
        height, width = self.sides
        return u[..., :height, :width]

    def _parts(self, x: Tensor) -> Tensor:
        parts = torch.cat((x.real, x.imag)) if self.complex else x
        return self.low + (self.span / self.peak) * parts.reshape(*self.shape[:2], *self.sides)


def padded(sides: tuple[int, int], multiple: int) -> tuple[int, int]:
    """Return sides as the next multiples."""
    height, width = (math.ceil(side / multiple) * multiple for side in sides)
    return height, width


def mirrored(side: int, length: int) -> Tensor:
    """Return (length,) indices that go up to side - 1, back to 0, and so on."""
    index = torch.arange(length) % max(2 * side - 2, 1)
    return torch.where(index < side, index, 2 * side - 2 - index)


@torch.no_grad()
def peak(y: Tensor, A: Operator) -> Tensor | float:
    """Return the maximum that an image of MRI or CT has, as far as its measurements tell; else 1."""
    if not (y.is_complex() or isinstance(whole(A), Radon)):
        return 1.0
    nothing = torch.zeros_like(A.adjoint(y))
    return proximal(nothing, y, A, MU * A.norm() ** 2, PEAK_STEPS).abs().max()


def grid(prior: Prior, n_steps: int, start: int | None = None) -> list[int]:
    """Choose indices t for a sampler, from the noisiest to 0.

    Args:
        prior: has the noise levels.
        n_steps: how many, at least 1; at most all that there are.
        start: the first index; None takes the noisiest.

    Raises:
        ValueError: n_steps is below 1.
    """
    if n_steps < 1:
        raise ValueError(f"expected at least 1 step of denoising, got {n_steps}")
    start = prior.steps - 1 if start is None else start
    indices = torch.linspace(start, 0, n_steps, dtype=torch.float64).round().long()
    return indices.unique().flip(0).tolist()


def levels(prior: Prior, ts: list[int]) -> list[float]:
    """Return sigma at each index of a grid, and the 0 where a sampler ends."""
    sigma = prior.sigma.tolist()
    return [*(sigma[t] for t in ts), 0.0]


def nearest_step(prior: Prior, sigma: float) -> int:
    """Return the index t whose noise level is nearest to sigma, by their ratio.

    Raises:
        ValueError: sigma is not above 0.
    """
    if not 0 < sigma < math.inf:
        raise ValueError(f"expected a noise level above 0, got {sigma}")
    return int((prior.sigma.log() - math.log(sigma)).abs().argmin())


def draw(like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw Gaussian noise in the form of a tensor."""
    return torch.randn(like.shape, dtype=like.dtype, generator=generator, device=like.device)


def ddim_step(
    x0: Tensor, eps: Tensor, sigma_next: float, fresh: float, generator: torch.Generator
) -> Tensor:
    """Go to a lower noise level.

        x' = x0 + sqrt(sigma'^2 - fresh^2) eps + fresh z,   z ~ N(0, I)

    fresh 0 is DDIM, `ancestral` DDPM, and eta sigma' the form of DDNM and DDS.

    Args:
        x0, eps: the image and the noise that a prior expects in x.
        sigma_next: sigma', the next level.
        fresh: standard deviation of the fresh noise, from 0 to sigma'.
        generator: draws z.

    Reference:
        Song, Meng, Ermon, Denoising diffusion implicit models, ICLR 2021, eq. (12), divided by
        sqrt(abar').
    """
    kept = math.sqrt(max(sigma_next**2 - fresh**2, 0.0))
    return x0 + kept * eps + fresh * draw(x0, generator)


def ancestral(sigma: float, sigma_next: float) -> float:
    """Return the standard deviation of DDPM's fresh noise between two levels, given x_0."""
    return sigma_next * math.sqrt(1 - (sigma_next / sigma) ** 2)


def purify(
    prior: Prior, x: Tensor, t: int, steps: int, eta: float, generator: torch.Generator
) -> Tensor:
    """Add noise to an image and take it away again: diffusion purification.

        x_t = x + sigma_t n,   n ~ N(0, I),   then DDIM from t to 0

    Args:
        prior: what an image should look like.
        x: (B, channels, H, W), in the prior's range.
        t: index of the noise level.
        steps: of denoising, at most t + 1.
        eta: share of fresh noise in that of each step, from 0 to 1.
        generator: draws the noise.

    Returns:
        (B, channels, H, W).

    Reference:
        Nie et al., Diffusion models for adversarial purification, ICML 2022, there with
        ancestral sampling.
    """
    ts = grid(prior, steps, t)
    sigma = levels(prior, ts)
    x = x + sigma[0] * draw(x, generator)
    for t, s, s_next in zip(ts, sigma, sigma[1:]):
        eps = prior.eps(x, t)
        x = ddim_step(x - s * eps, eps, s_next, eta * s_next, generator)
    return x


def langevin_step(x: Tensor, eps: Tensor, snr: float, sigma: float, z: Tensor) -> Tensor:
    """Take a step of annealed Langevin dynamics at one noise level.

        x' = x + delta score + sqrt(2 delta) z,   delta = 2 (snr ||z|| / ||score||)^2

    with score = -eps / sigma, and the norms those of each image.

    Args:
        x: (B, channels, H, W).
        eps: the prior's of x.
        snr: the ratio of signal to noise, r in the reference.
        sigma: the noise level of x.
        z: Gaussian noise in the form of x.

    Reference:
        Song et al., Score-based generative modeling through stochastic differential equations,
        ICLR 2021, algorithm 4. Differs from it: norms of each image, not their mean.
    """
    norms = (torch.linalg.vector_norm(v, dim=(1, 2, 3), keepdim=True) for v in (z, eps))
    z_norm, eps_norm = norms
    delta = 2 * (snr * sigma * z_norm / eps_norm) ** 2
    return x - delta / sigma * eps + (2 * delta).sqrt() * z
