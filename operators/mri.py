"""Multi-coil Cartesian MRI: A = M F S."""

import torch
from torch import Tensor

from operators.base import Operator


def fft2c(x: Tensor) -> Tensor:
    """Compute the centred orthonormal 2-D Fourier transform over the last two axes."""
    x = torch.fft.ifftshift(x, dim=(-2, -1))
    return torch.fft.fftshift(torch.fft.fft2(x, norm="ortho"), dim=(-2, -1))


def ifft2c(k: Tensor) -> Tensor:
    """Compute the inverse of fft2c, which is also its adjoint."""
    k = torch.fft.ifftshift(k, dim=(-2, -1))
    return torch.fft.fftshift(torch.fft.ifft2(k, norm="ortho"), dim=(-2, -1))


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

    assumes = "the axes, the mask or the maps"

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

    def norm(self) -> float:
        """Return a bound of ||A||_2, which it reaches where k-space is fully sampled."""
        return self.sens_maps.abs().square().sum(dim=0).max().sqrt().item()

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
