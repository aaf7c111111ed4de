"""The blur operators against scipy, skimage and dense matrices."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from skimage import color
from test_operators_bkse import make_net

from operators.blur import BKSEBlur, CameraBlur, LinearBlur, linear_to_srgb, srgb_to_linear

SHAPES = [(3, 36, 36), (1, 37, 31), (3, 37, 31), (1, 36, 45)]
KERNELS = [(5, 5), (4, 4), (8, 3), (1, 6), (64, 60), (1, 1)]


def random(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def make_kernel(*shape, seed=5):
    kernel = random(*shape, seed=seed)
    return kernel / kernel.sum(dim=(-2, -1), keepdim=True)


def make_camera(shape, kernel_size=(5, 4), n=3):
    weights = random(n, *shape[1:], seed=6) + 0.1
    return CameraBlur(make_kernel(n, *kernel_size), weights / weights.sum(dim=0), shape)


def scipy_blur(x, kernel):
    """Convolve a (..., H, W) array; scipy's `mirror` does not repeat the border pixel."""
    images = x.reshape(-1, *x.shape[-2:])
    blurred = [ndimage.convolve(image, kernel, mode="mirror") for image in images]
    return np.stack(blurred).reshape(x.shape)


# One linear kernel


@pytest.mark.parametrize("kernel_size", KERNELS)
@pytest.mark.parametrize("shape", SHAPES)
def test_linear_blur_agrees_with_scipy(shape, kernel_size):
    kernel, x = make_kernel(*kernel_size), random(2, *shape)
    A = LinearBlur(kernel, shape)
    y = A(x)
    assert y.shape == x.shape and y.dtype == x.dtype
    np.testing.assert_allclose(y.numpy(), scipy_blur(x.numpy(), kernel.numpy()), atol=1e-12)


def test_linear_blur_is_the_public_script_with_the_kernel_turned():
    kernel, x = make_kernel(64, 64), random(1, 3, 64, 80)
    padded = F.pad(x, (31, 32, 31, 32), mode="reflect")
    expected = F.conv2d(padded, kernel.expand(3, 1, 64, 64), groups=3)
    y = LinearBlur(kernel.flip(0, 1), (3, 64, 80))(x)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kernel_size", KERNELS)
@pytest.mark.parametrize("shape", SHAPES)
def test_adjoint_is_exact(shape, kernel_size):
    A = LinearBlur(make_kernel(*kernel_size), shape)
    x, y = random(2, *shape), random(2, *shape, seed=2) - 0.5
    assert A.adjoint(y).shape == x.shape
    left, right = (A(x) * y).sum(), (x * A.adjoint(y)).sum()
    assert abs(left - right) <= 1e-10 * abs(left)
    x.requires_grad_()
    A(x).backward(y)
    torch.testing.assert_close(x.grad, A.adjoint(y), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kernel_size", [(3, 3), (4, 5), (10, 2)])
def test_adjoint_is_the_transposed_matrix(kernel_size):
    height, width = 7, 6
    kernel = make_kernel(*kernel_size)
    units = np.eye(height * width).reshape(-1, height, width)
    matrix = scipy_blur(units, kernel.numpy()).reshape(len(units), -1).T
    y = random(1, 1, height, width)
    expected = matrix.T @ y.numpy().ravel()
    x = LinearBlur(kernel, (1, height, width)).adjoint(y)
    np.testing.assert_allclose(x.numpy().ravel(), expected, atol=1e-12)


def test_adjoint_works_without_and_with_gradients():
    A = LinearBlur(make_kernel(4, 5), (1, 9, 8))
    y = random(1, 1, 9, 8)
    with torch.no_grad():
        x = A.adjoint(y)
    assert not x.requires_grad
    A.adjoint(y.requires_grad_()).backward(x)
    torch.testing.assert_close(y.grad, A(x), rtol=0, atol=1e-12)


def test_single_precision_is_kept():
    kernel, x = make_kernel(64, 64), random(1, 3, 128, 128)
    A = LinearBlur(kernel.float(), (3, 128, 128))
    y = A(x.float())
    assert y.dtype == A.adjoint(y).dtype == torch.float32
    expected = LinearBlur(kernel, (3, 128, 128))(x)
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=1e-6)


# The sRGB curve


def test_the_curve_is_that_of_skimage():
    v = np.linspace(0, 1, 2001)
    grey = np.repeat(v[:, None], 3, axis=1)
    # The luminance of a grey is its linear light; skimage keeps only six digits of the matrix.
    luminance = color.rgb2xyz(grey)[:, 1]
    np.testing.assert_allclose(srgb_to_linear(torch.from_numpy(v)).numpy(), luminance, atol=1e-6)
    back = color.xyz2rgb(v[:, None] * color.rgb2xyz(np.ones((1, 3)))).mean(axis=1)
    np.testing.assert_allclose(linear_to_srgb(torch.from_numpy(v)).numpy(), back, atol=1e-5)


def test_the_curve_by_hand():
    v = torch.tensor([0, 0.04045, 0.5, 1, -0.5, -1, 2], dtype=torch.float64)
    power = [((a + 0.055) / 1.055) ** 2.4 for a in (0.5, 2)]
    expected = torch.tensor(
        [0, 0.04045 / 12.92, power[0], 1, -power[0], -1, power[1]], dtype=torch.float64
    )
    torch.testing.assert_close(srgb_to_linear(v), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(linear_to_srgb(expected), v, rtol=0, atol=1e-7)


def test_the_curves_undo_each_other_and_have_finite_slopes():
    special = torch.tensor([-1e3, -1e-30, -0.0, 1e-30, 1e3], dtype=torch.float64)
    v = torch.cat((torch.linspace(-3, 3, 6001, dtype=torch.float64), special))
    torch.testing.assert_close(linear_to_srgb(srgb_to_linear(v)), v, rtol=1e-12, atol=1e-7)
    for curve, low, high in ((srgb_to_linear, 1 / 12.92, 5e4), (linear_to_srgb, 1e-3, 12.93)):
        points = v.clone().requires_grad_()
        curve(points).sum().backward()
        assert points.grad.min() >= low - 1e-12 and points.grad.max() <= high


# The camera


@pytest.mark.parametrize("kernel_size", [(5, 5), (4, 7), (20, 24)])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 37, 31)])
def test_camera_blur_is_its_formula(shape, kernel_size):
    A = make_camera(shape, kernel_size)
    x = random(2, *shape)
    x[0, 0, :5] = 0.01  # the straight part of the curve
    light = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    total = sum(w * scipy_blur(light, k) for w, k in zip(A.weights.numpy(), A.kernels.numpy()))
    expected = np.where(total <= 0.0031308, 12.92 * total, 1.055 * total ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(A(x).numpy(), expected, atol=1e-10)


def test_camera_blur_of_one_kernel_is_a_linear_blur_of_light():
    shape = (3, 37, 31)
    kernel, x = make_kernel(6, 5), random(2, *shape)
    A = CameraBlur(kernel[None], torch.ones(1, 37, 31, dtype=torch.float64), shape)
    B = LinearBlur(kernel, shape)
    torch.testing.assert_close(srgb_to_linear(A(x)), B(srgb_to_linear(x)), rtol=0, atol=1e-7)
    assert (A(0.1 * x) - 0.1 * A(x)).abs().max() > 0.01  # not linear
    assert (A(x) - B(x)).abs().max() > 0.01


def test_a_constant_image_stays_and_channels_are_alike():
    A = make_camera((3, 37, 31))
    for value in (-0.3, 0.0, 0.02, 0.5, 1.0, 1.7):
        x = torch.full((1, 3, 37, 31), value, dtype=torch.float64)
        torch.testing.assert_close(A(x), x, rtol=0, atol=1e-7)
    x = random(1, 3, 37, 31)
    torch.testing.assert_close(A(x.flip(1)), A(x).flip(1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("low, high", [(-2, -1), (0, 0), (-0.1, 0.1), (0, 1), (1, 3)])
def test_gradients_are_finite_wherever_a_network_may_be(low, high):
    A = make_camera((1, 16, 15)).float()
    x = (low + (high - low) * random(1, 1, 16, 15, dtype=torch.float32)).requires_grad_()
    y = A(x)
    y.square().sum().backward()
    assert y.isfinite().all() and x.grad.isfinite().all()
    assert high == 0 or x.grad.abs().max() > 0


def test_gradients_are_right():
    A = make_camera((1, 6, 5), (3, 4), n=2)
    x = 0.2 + 0.7 * random(1, 1, 6, 5)
    for inputs in (x, -x, 0.02 * x, 1 + x):
        assert torch.autograd.gradcheck(A, inputs.clone().requires_grad_())


# BKSE


def test_bkse_blur_is_its_network_with_one_kernel_for_all():
    net = make_net().train()
    kernel = torch.randn(1, 512, 1, 1, generator=torch.Generator().manual_seed(3))
    A = BKSEBlur(net, kernel, (3, 128, 128))
    assert not net.training and not any(p.requires_grad for p in A.parameters())
    x = random(2, 3, 128, 128, dtype=torch.float32).requires_grad_()
    y = A(x)
    assert y.shape == x.shape
    expected = torch.cat([net(x[:1], kernel), net(x[1:], kernel)])
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(A(x), y)
    y.square().sum().backward()
    assert x.grad.abs().max() > 0 and all(p.grad is None for p in net.parameters())
    assert not hasattr(A, "adjoint")


# All


def make_operators():
    return [
        LinearBlur(make_kernel(4, 5), (3, 37, 31)),
        make_camera((3, 37, 31)),
        BKSEBlur(make_net(), torch.zeros(1, 512, 1, 1), (3, 128, 128)),
    ]


def test_the_direct_reconstruction_is_the_measurement_and_wrong_shapes_are_refused():
    for A in make_operators():
        y = random(2, *A.out_shape, dtype=torch.float32)
        assert A.in_shape == A.out_shape and A.pinv(y) is y
        calls = [A, A.pinv] + ([A.adjoint] if hasattr(A, "adjoint") else [])
        for call in calls:
            what = "image x" if call is A else "measurement y"
            for shape in [(1, 1, *A.in_shape[1:]), A.in_shape, (1, *A.in_shape[::-1])]:
                with pytest.raises(ValueError, match=f"expected {what} of shape .* got"):
                    call(torch.zeros(shape))


def test_operators_keep_what_they_were_made_of():
    kernel, weights = make_kernel(2, 4, 5), torch.full((2, 12, 11), 0.5, dtype=torch.float64)
    x = random(1, 1, 12, 11)
    operators = [LinearBlur(kernel[0], (1, 12, 11)), CameraBlur(kernel, weights, (1, 12, 11))]
    before = [(A(x), copy.deepcopy(A.state_dict())) for A in operators]
    kernel[:], weights[:] = 0, 0
    for A, (y, state) in zip(operators, before):
        assert torch.equal(A(x), y)
        assert all(torch.equal(value, state[name]) for name, value in A.state_dict().items())


def test_unfit_kernels_weights_and_sizes_are_refused():
    kernel, weights = make_kernel(2, 8, 4), torch.full((2, 12, 11), 0.5, dtype=torch.float64)
    bad_sum = kernel.clone()
    bad_sum[1] *= 1.01
    not_a_number = kernel.clone()
    not_a_number[0, 0, 0] = torch.nan
    image = (1, 12, 11)
    for match, bad, shape in [
        (r"\(kh, kw\), got .* \(2, 8, 4\)", kernel, image),
        ("must be float", torch.ones(1, 1, dtype=torch.int64), image),
        ("sum to 1", bad_sum[1], image),
        ("sum to 1", not_a_number[0], image),
        (r"4x11 .* 8x4; expected at least 5x3", kernel[0], (1, 4, 11)),
        (r"12x2 .* at least 5x3", kernel[0], (1, 12, 2)),
        (r"\(C, H, W\), got \(12, 11\)", kernel[0], (12, 11)),
    ]:
        with pytest.raises(ValueError, match=match):
            LinearBlur(bad, shape)
    negative = weights.clone()
    negative[0, 3, 4], negative[1, 3, 4] = -0.1, 1.1
    for match, bad, bad_weights, shape in [
        (r"\(n, kh, kw\), got .* \(8, 4\)", kernel[0], weights, image),
        ("sum to 1", bad_sum, weights, image),
        ("sum to 1", not_a_number, weights, image),
        ("at least 5x3", kernel, weights[:, :4], (1, 4, 11)),
        (r"of shape \(2, 12, 11\), got .* \(1, 12, 11\)", kernel, weights[:1], image),
        ("float64 of shape .* got torch.float32", kernel, weights.float(), image),
        ("minimum of -0.1", kernel, negative, image),
        ("to 1.2", kernel, 1.2 * weights, image),
        ("to nan", kernel, torch.nan * weights, image),
    ]:
        with pytest.raises(ValueError, match=match):
            CameraBlur(bad, bad_weights, shape)
    net = make_net()
    for match, shape, size in [
        (r"expected .* \(1, 512, 1, 2\) .* got \(1, 512, 2, 1\)", (3, 128, 256), (1, 512, 2, 1)),
        (r"expected .* \(1, 512, 1, 1\) .* got \(2, 512, 1, 1\)", (3, 128, 128), (2, 512, 1, 1)),
        ("multiples of 128 pixels, got 128x100", (3, 128, 100), (1, 512, 1, 1)),
        (r"\(3, H, W\), got \(1, 128, 128\)", (1, 128, 128), (1, 512, 1, 1)),
    ]:
        with pytest.raises(ValueError, match=match):
            BKSEBlur(net, torch.zeros(size), shape)
