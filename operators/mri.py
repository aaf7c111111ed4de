"""Multi-coil Cartesian MRI: A = M F S."""

import torch
from torch import Tensor

from operators.base import Operator, choose_positions


def fft2c(x: Tensor) -> Tensor:
    """Compute the centred orthonormal 2-D Fourier transform over the last two axes."""
    x = torch.fft.ifftshift(x, dim=(-2, -1))
    return torch.fft.fftshift(torch.fft.fft2(x, norm="ortho"), dim=(-2, -1))


def ifft2c(k: Tensor) -> Tensor:
    """Compute the inverse of fft2c, which is also its adjoint."""
    k = torch.fft.ifftshift(k, dim=(-2, -1))
    return torch.fft.fftshift(torch.fft.ifft2(k, norm="ortho"), dim=(-2, -1))


def central_columns(columns: Tensor) -> Tensor:
    """Find the unbroken run of sampled columns around zero frequency.

    Args:
        columns: (W,) bool, True where a column is sampled.

    Returns:
        (W,) bool, True in the run; empty where zero frequency, W // 2, is not sampled.
    """
    centre = len(columns) // 2
    right = columns[centre:].cumprod(dim=0)
    left = columns[: centre + 1].flip(0).cumprod(dim=0).flip(0)
    return torch.cat((left[:-1], right)).bool()


def central_square(mask: Tensor) -> Tensor:
    """Find the largest fully sampled square around zero frequency, at index n // 2.

    Args:
        mask: (H, W) bool, True where k-space is sampled.

    Returns:
        (H, W) bool, True in the square, which may reach beyond the shorter side.
    """
    sides = []  # of the smallest centred interval that holds an index: 2d + 1, or -2d before 0
    for n in mask.shape:
        d = torch.arange(n, device=mask.device) - n // 2
        sides.append(torch.where(d < 0, -2 * d, 2 * d + 1))
    side = torch.maximum(sides[0][:, None], sides[1])
    gaps = side[~mask]
    return side < gaps.min() if len(gaps) else torch.ones_like(mask)


class MultiCoilMRI(Operator):
    """Sample the k-space of an image that several coils see: A x = M F S x.

    S multiplies by each coil's sensitivity, F is fft2c, M keeps the sampled points. With
    sum_c |S_c|^2 = 1 in the support of the maps, ||A|| <= 1.

    Args:
        sens_maps: (n_coils, H, W) complex sensitivity maps.
        mask: (H, W) bool, True where k-space is sampled.

    Raises:
        ValueError: the shapes or dtypes of maps and mask do not fit.

    Reference:
        aSeqDIP (Alkhouri et al., NeurIPS 2024), section 2.1. Differs from the paper: nothing.
    """

    def __init__(self, sens_maps: Tensor, mask: Tensor) -> None:
        if sens_maps.ndim != 3 or not sens_maps.is_complex():
            raise ValueError(
                "sens_maps must be complex of shape (n_coils, H, W), "
                f"got {sens_maps.dtype} {tuple(sens_maps.shape)}"
            )
        if mask.dtype != torch.bool or mask.shape != sens_maps.shape[1:]:
            raise ValueError(
                f"mask must be bool of shape {tuple(sens_maps.shape[1:])}, "
                f"got {mask.dtype} {tuple(mask.shape)}"
            )
        super().__init__(in_shape=(1, *mask.shape), out_shape=tuple(sens_maps.shape))
        self.register_buffer("sens_maps", sens_maps)
        self.register_buffer("mask", mask)
        self.register_buffer("support", (sens_maps != 0).any(dim=0))  # (H, W)

    def forward(self, x: Tensor) -> Tensor:
        """Compute A x.

        Args:
            x: (B, 1, H, W) complex image.

        Returns:
            (B, n_coils, H, W) complex k-space, zero where it is not sampled.
        """
        self.check_image(x)
        return self.mask * fft2c(self.sens_maps * x)

    def adjoint(self, y: Tensor) -> Tensor:
        """Compute A^H y.

        Args:
            y: (B, n_coils, H, W) complex k-space; what lies outside the mask is ignored.

        Returns:
            (B, 1, H, W) complex image.
        """
        self.check_measurement(y)
        coil_images = ifft2c(self.mask * y)
        return (self.sens_maps.conj() * coil_images).sum(dim=1, keepdim=True)

    def pinv(self, y: Tensor) -> Tensor:
        """Return the zero-filled, coil-combined image: A^H y, exact only at full sampling."""
        return self.adjoint(y)

    def hold_out(self, share: float, generator: torch.Generator) -> Tensor:
        """Choose a random share of what is sampled outside the centre, the same for all coils.

        Of a mask of columns, lines along H, whole columns outside the unbroken run around zero
        frequency. A column may be cut off at its ends, by an elliptical shutter or a partial echo,
        but has no gaps. Of any other mask, points outside the largest fully sampled square. So
        the calibration of the sensitivity maps stays as it is.

        Args:
            share: of the columns or points outside the centre, in (0, 0.5]; at least one is held
                out.
            generator: CPU generator of the choice.

        Returns:
            (n_coils, H, W) bool on the CPU, True for a measurement that is held out.

        Raises:
            ValueError: the share is not as above, or nothing is sampled outside the centre.
        """
        mask = self.mask.cpu()
        starts = mask.clone()  # True where a run along H begins
        starts[1:] &= ~mask[:-1]
        if (starts.sum(dim=0) <= 1).all():
            columns = mask.any(dim=0)
            held = mask & choose_positions(columns & ~central_columns(columns), share, generator)
        else:
            held = choose_positions(mask & ~central_square(mask), share, generator)
        return held.expand(self.out_shape)

    def without(self, held: Tensor) -> "MultiCoilMRI":
        """Return the operator of the smaller mask; held is the same for all coils."""
        return MultiCoilMRI(self.sens_maps, self.mask & ~self._positions(held).to(self.mask))
