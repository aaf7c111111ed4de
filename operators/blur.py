"""Blur: by a camera's changing kernels, by one linear kernel, and by BKSE's network."""

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from operators.base import Operator
from operators.bkse import BlurNet, kernel_shape
from utils.tensors import pad_reflect

SUM_TOLERANCE = 1e-4  # of kernels and weights, which come in single precision


def fft_size(shape: tuple[int, int], kernel_size: tuple[int, int]) -> tuple[int, int]:
    """Return the sides at which an image padded for a kernel has a fast Fourier transform."""
    height, width = (
        next_fast_len(side + size - 1, real=True) for side, size in zip(shape, kernel_size)
    )
    return height, width


def convolve(x: Tensor, transfer: Tensor, kernel_size: tuple[int, int]) -> Tensor:
    """Convolve an image that is mirrored at its borders: y = k * x.

    By Fourier transforms, whose cost hardly depends on the kernel's size.

    Args:
        x: (..., H, W) real.
        transfer: rfft2 of the kernel at fft_size; its leading axes broadcast with those of x.
        kernel_size: kh and kw.

    Returns:
        (..., H, W) real.
    """
    shape = x.shape[-2:]
    size = fft_size(shape, kernel_size)
    spectrum = torch.fft.rfft2(pad_reflect(x, kernel_size), s=size)
    y = torch.fft.irfft2(spectrum * transfer, s=size)
    # What lies before is wrapped around; what lies behind is the padding to a fast size.
    for dim, start, side in zip((-2, -1), kernel_size, shape):
        y = y.narrow(dim, start - 1, side)
    return y


def srgb_to_linear(v: Tensor) -> Tensor:
    """Compute g^-1, the linear light of sRGB values: ((v + 0.055) / 1.055)^2.4.

    Below 0.04045 it is v / 12.92. Values below 0 follow the odd function, those above 1 the same
    power, so that value and slope are finite for any output of a network.

    Args:
        v: sRGB values, any shape.

    Returns:
        Linear light of the same shape.

    Reference:
        IEC 61966-2-1. Differs from it: defined outside [0, 1].
    """
    curve = v.sign() * ((v.abs() + 0.055) / 1.055) ** 2.4
    return torch.where(v.abs() <= 0.04045, v / 12.92, curve)


def linear_to_srgb(u: Tensor) -> Tensor:
    """Compute g, the sRGB values of linear light: 1.055 u^(1 / 2.4) - 0.055.

    Below 0.0031308 it is 12.92 u. It is the inverse of srgb_to_linear, but for the standard's
    rounded constants, by which the two parts of the curve miss each other by 3e-8.

    Args:
        u: linear light, any shape.

    Returns:
        sRGB values of the same shape.

    Reference:
        IEC 61966-2-1. Differs from it: defined outside [0, 1].
    """
    # At 0 the power's slope is infinite, and would be NaN after where() has multiplied it by 0.
    power = u.abs().clamp(min=0.0031308) ** (1 / 2.4)
    return torch.where(u.abs() <= 0.0031308, 12.92 * u, u.sign() * (1.055 * power - 0.055))


def _check_kernels(kernels: Tensor, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless kernels (n, kh, kw) sum to 1 each and fit images (C, H, W)."""
    sums = kernels.sum(dim=(-2, -1))
    if not ((sums - 1).abs() <= SUM_TOLERANCE).all():
        raise ValueError(
            f"a kernel must sum to 1, got sums from {sums.min():.6g} to {sums.max():.6g}; "
            "divide it by its sum"
        )
    (height, width), (kh, kw) = shape[-2:], kernels.shape[-2:]
    if height <= kh // 2 or width <= kw // 2:
        raise ValueError(
            f"an image of {height}x{width} pixels is too small to be mirrored for a kernel of "
            f"{kh}x{kw}; expected at least {kh // 2 + 1}x{kw // 2 + 1} pixels or a smaller kernel"
        )


def _check_shape(shape: tuple[int, ...]) -> None:
    """Raise ValueError unless shape is that of an image, (C, H, W)."""
    if len(shape) != 3:
        raise ValueError(f"expected the shape of an image, (C, H, W), got {tuple(shape)}")


class LinearBlur(Operator):
    """Convolve each channel with one kernel: A x = k * x, mirrored at the borders.

    It is a true convolution, (k * x)[i] = sum_j k[j] x[i + o - j], with the kernel's origin at
    o = (kh // 2, kw // 2); a network's cross-correlation is that with the kernel turned by 180
    degrees. Mirroring does not repeat the border pixel.

    Args:
        kernel: (kh, kw) float that sums to 1.
        shape: (C, H, W) of the image; H > kh // 2 and W > kw // 2.

    Raises:
        ValueError: the kernel does not sum to 1, or does not fit the image.

    Reference:
        The linear case that the public aSeqDIP deblurring script runs, with a 64x64 kernel. Differs
        from it: convolution instead of cross-correlation.
    """

    assumes = "the kernel or sigma"

    def __init__(self, kernel: Tensor, shape: tuple[int, int, int]) -> None:
        if kernel.ndim != 2 or not kernel.is_floating_point():
            raise ValueError(
                f"kernel must be float of shape (kh, kw), got {kernel.dtype} {tuple(kernel.shape)}"
            )
        _check_shape(shape)
        _check_kernels(kernel[None], shape)
        super().__init__(in_shape=shape, out_shape=shape)
        self.register_buffer("kernel", kernel.clone())
        size = fft_size(shape[-2:], kernel.shape)
        self.register_buffer("transfer", torch.fft.rfft2(kernel, s=size))

    def forward(self, x: Tensor) -> Tensor:
        """Compute A x.

        Args:
            x: (B, C, H, W) float image.

        Returns:
            (B, C, H, W) float.
        """
        self.check_image(x)
        return convolve(x, self.transfer, self.kernel.shape)

    def adjoint(self, y: Tensor) -> Tensor:
        """Compute A^H y, mirroring included: what was mirrored is folded back.

        Args:
            y: (B, C, H, W) float.

        Returns:
            (B, C, H, W) float.
        """
        self.check_measurement(y)
        _, vjp = torch.func.vjp(self.forward, torch.zeros_like(y))
        return vjp(y)[0]

    def pinv(self, y: Tensor) -> Tensor:
        """Return the blurred image y itself: approximate."""
        self.check_measurement(y)
        return y


class CameraBlur(Operator):
    """Blur light as a moving camera does: A(x) = g(sum_i w_i (k_i * g^-1(x))).

    g is the sRGB curve (linear_to_srgb), so that it is light and not pixel values that adds up
    during the exposure: A is non-linear. The weights w_i let the kernel change over the image.
    k_i * is the convolution of LinearBlur. All channels are treated alike. A constant image stays
    as it is.

    Args:
        kernels: (n, kh, kw) float, each sums to 1.
        weights: (n, H, W) float, not negative, sum to 1 over n; smooth, for a blur that is.
        shape: (C, H, W) of the image; H > kh // 2 and W > kw // 2.

    Raises:
        ValueError: kernels, weights and image do not fit or do not sum to 1.

    Reference:
        None: a stand-in without trained weights for the non-linear blur of BKSE (BKSEBlur). The
        weighted sum of convolved images is that of Nagy and O'Leary, "Restoring images degraded by
        spatially variant blur", SIAM J. Sci. Comput. 1998, with smooth weights.
    """

    assumes = "the kernel or sigma"

    def __init__(self, kernels: Tensor, weights: Tensor, shape: tuple[int, int, int]) -> None:
        if kernels.ndim != 3 or not kernels.is_floating_point():
            raise ValueError(
                "kernels must be float of shape (n, kh, kw), "
                f"got {kernels.dtype} {tuple(kernels.shape)}"
            )
        _check_shape(shape)
        _check_kernels(kernels, shape)
        expected = (len(kernels), *shape[-2:])
        if tuple(weights.shape) != expected or weights.dtype != kernels.dtype:
            raise ValueError(
                f"weights must be {kernels.dtype} of shape {expected}, "
                f"got {weights.dtype} {tuple(weights.shape)}"
            )
        if not ((weights.sum(dim=0) - 1).abs() <= SUM_TOLERANCE).all() or weights.min() < 0:
            raise ValueError(
                "weights must not be negative and must sum to 1 in each pixel, got a minimum of "
                f"{weights.min():.6g} and sums from {weights.sum(dim=0).min():.6g} to "
                f"{weights.sum(dim=0).max():.6g}"
            )
        super().__init__(in_shape=shape, out_shape=shape)
        self.register_buffer("kernels", kernels.clone())
        self.register_buffer("weights", weights.clone())
        size = fft_size(shape[-2:], kernels.shape[-2:])
        self.register_buffer("transfer", torch.fft.rfft2(kernels, s=size))

    def forward(self, x: Tensor) -> Tensor:
        """Compute A(x).

        Args:
            x: (B, C, H, W) float image, sRGB values in [0, 1]; others are let pass.

        Returns:
            (B, C, H, W) float, sRGB values.
        """
        self.check_image(x)
        light = srgb_to_linear(x).unsqueeze(1)  # (B, 1, C, H, W)
        transfer = self.transfer.unsqueeze(1)  # (n, 1, ...)
        blurred = convolve(light, transfer, self.kernels.shape[-2:])  # (B, n, C, H, W)
        return linear_to_srgb((self.weights.unsqueeze(1) * blurred).sum(dim=1))

    def pinv(self, y: Tensor) -> Tensor:
        """Return the blurred image y itself: approximate."""
        self.check_measurement(y)
        return y


class BKSEBlur(Operator):
    """Blur by a trained network and an encoded kernel: A(x) = x + T(G(E(x), k)).

    A is non-linear and has no adjoint; gradients flow to x.

    Args:
        net: the trained network; it is set to eval mode, and its parameters to no gradient.
        kernel: (1, 512, H / 128, W / 128) float, the same for each image of a batch.
        shape: (3, H, W) of the image; H and W multiples of 128.

    Raises:
        ValueError: the shapes of image and kernel do not fit.

    Reference:
        Tran et al., "Explore Image Deblurring via Encoded Blur Kernel Space", CVPR 2021; as a
        measurement in DPS (Chung et al., ICLR 2023), which draws a new kernel at each call and
        clamps the result to [0, 1]. Differs from DPS: one fixed kernel, no clamp.
    """

    assumes = "the kernel or sigma"

    def __init__(self, net: BlurNet, kernel: Tensor, shape: tuple[int, int, int]) -> None:
        _check_shape(shape)
        if shape[0] != 3:
            raise ValueError(f"BKSE blurs RGB images: expected the shape (3, H, W), got {shape}")
        expected = (1, *kernel_shape(*shape[1:]))
        if tuple(kernel.shape) != expected:
            raise ValueError(
                f"expected an encoded kernel of shape {expected} for images of {shape[1]}x"
                f"{shape[2]} pixels, got {tuple(kernel.shape)}"
            )
        super().__init__(in_shape=shape, out_shape=shape)
        self.net = net.eval().requires_grad_(False)
        self.register_buffer("kernel", kernel.clone())

    def forward(self, x: Tensor) -> Tensor:
        """Compute A(x).

        Args:
            x: (B, 3, H, W) float image in [0, 1], RGB.

        Returns:
            (B, 3, H, W) float, not clamped.
        """
        self.check_image(x)
        return self.net(x, self.kernel.expand(len(x), -1, -1, -1))

    def pinv(self, y: Tensor) -> Tensor:
        """Return the blurred image y itself: approximate."""
        self.check_measurement(y)
        return y


BLURS = (LinearBlur, CameraBlur, BKSEBlur)
