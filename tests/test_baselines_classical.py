"""The classical methods against dense algebra, analytic solutions, skimage, pywt and scipy."""

import inspect
import math
import sys

import numpy as np
import pytest
import pywt
import scipy.optimize
import sigpy.mri
import skimage.data
import skimage.transform
import torch
from PIL import Image
from skimage.restoration import denoise_tv_chambolle

from baselines.bicubic import bicubic
from baselines.biharmonic import biharmonic
from baselines.bm3d import bm3d
from baselines.cg_sense import cg_sense
from baselines.fbp import fbp
from baselines.l1_wavelet import l1_wavelet
from baselines.linear import linear
from baselines.nlm import nlm
from baselines.sart import sart
from baselines.tv import EPS, LAMBDA_PER_SIGMA, LAMBDA_TV, tv
from baselines.wavelet import wavelet
from baselines.zero_filled import zero_filled
from operators.blur import CameraBlur, LinearBlur
from operators.downsample import Downsample
from operators.mri import MultiCoilMRI, fft2c
from operators.pixels import Identity, PixelMask
from operators.radon import Radon, equispaced_angles, fourier_filter
from operators.subset import Subset
from utils import ct_data
from utils.errors import InputError
from utils.mri_data import normalise_maps

SIGMA = 25 / 255


@pytest.fixture(autouse=True)
def one_thread():
    """Small products wait longer for a second thread on a busy machine than they take."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def make_mri(shape=(24, 20), n_coils=5, sampled=1.0, dtype=torch.complex128):
    """Return A with birdcage maps and random columns; the middle column is sampled."""
    maps = normalise_maps(sigpy.mri.birdcage_maps((n_coils, *shape)))
    columns = torch.rand(shape[1], generator=seeded()) < sampled
    columns[shape[1] // 2] = True
    mask = columns.expand(shape).clone()
    return MultiCoilMRI(torch.from_numpy(maps).to(dtype), mask)


def make_radon(shape=(24, 20), n_views=9, dtype=torch.float64, **kwargs):
    return Radon(shape, equispaced_angles(n_views), dtype=dtype, **kwargs)


def make_mask(shape=(24, 20), channels=3, known=0.6):
    return PixelMask(torch.rand(shape, generator=seeded()) < known, channels)


def make_camera(shape=(24, 20), channels=3, dtype=torch.float32):
    """Return a blur that changes from left to right, of light."""
    kernels = torch.rand(2, 5, 5, generator=seeded(), dtype=dtype)
    weights = torch.linspace(0, 1, shape[1], dtype=dtype).expand(shape)
    kernels = kernels / kernels.sum(dim=(-2, -1), keepdim=True)
    return CameraBlur(kernels, torch.stack((weights, 1 - weights)), (channels, *shape))


def make_blur(shape=(24, 20), channels=3, dtype=torch.float32):
    kernel = torch.rand(5, 5, generator=seeded(), dtype=dtype)
    return LinearBlur(kernel / kernel.sum(), (channels, *shape))


def blocks(channels, height, width, dtype=torch.float64):
    """Return (1, channels, height, width) of flat parts in [0, 1]."""
    x = torch.full((1, channels, height, width), 0.2, dtype=dtype)
    x[..., height // 4 : height // 2, width // 4 : -width // 5] = 0.9
    x[..., height // 2 :, : width // 3] = 0.6
    return x * torch.linspace(1, 0.7, channels, dtype=dtype)[:, None, None]


def complex_blocks(height, width):
    """Return (1, 1, height, width) complex128 with a phase that goes round."""
    x = blocks(1, height, width)
    return torch.polar(x, torch.linspace(-3, 3, width, dtype=torch.float64).expand(x.shape).clone())


def face(channels=3, side=96):
    """Return a part of scikit-image's astronaut, (1, channels, side, side) float32."""
    x = torch.from_numpy(skimage.data.astronaut()[:side, 170 : 170 + side] / 255)
    return x.movedim(-1, 0)[None, :channels].float()


def with_noise(x, std=SIGMA):
    return x + std * torch.randn(x.shape, generator=seeded(), dtype=x.dtype)


def psnr(x, x_true):
    return -10 * math.log10((x - x_true).abs().square().mean())


def relative_error(got, expected):
    return ((got - expected).abs().max() / expected.abs().max()).item()


def dense(A, dtype):
    """Return A's matrix, by its columns."""
    n = math.prod(A.in_shape)
    return A(torch.eye(n, dtype=dtype).view(n, *A.in_shape)).flatten(start_dim=1).T


CASES = {  # method: its settings, an operator that it takes, and a dtype of x
    zero_filled: ({}, make_mri, torch.complex64),
    cg_sense: ({"max_iter": 5}, make_mri, torch.complex64),
    l1_wavelet: ({"max_iter": 5}, make_mri, torch.complex64),
    fbp: ({}, make_radon, torch.float32),
    sart: ({"n_iter": 1}, make_radon, torch.float32),
    nlm: ({"sigma": SIGMA}, lambda dtype: Identity((3, 24, 20)), torch.float32),
    wavelet: ({"sigma": SIGMA}, lambda dtype: Identity((3, 24, 20)), torch.float32),
    bm3d: ({"sigma": SIGMA}, lambda dtype: Identity((3, 24, 20)), torch.float32),
    biharmonic: ({}, lambda dtype: make_mask(), torch.float32),
    bicubic: ({}, lambda dtype: Downsample((3, 24, 20), 4, "average").to(dtype), torch.float32),
}
TV_OPERATORS = {
    "mri": (make_mri, torch.complex64),
    "ct": (make_radon, torch.float32),
    "inpainting": (lambda dtype: make_mask(), torch.float32),
    "denoising": (lambda dtype: Identity((3, 24, 20)), torch.float32),
    "camera": (make_camera, torch.float32),
    "linear blur": (make_blur, torch.float32),
    "superresolution": (
        lambda dtype: Downsample((3, 24, 20), 4, "average").to(dtype), torch.float32
    ),
}  # fmt: skip
RUNS = [pytest.param(method, *case, id=method.__name__) for method, case in CASES.items()] + [
    pytest.param(tv, {"sigma": SIGMA, "max_iter": 5}, *case, id=f"tv-{task}")
    for task, case in TV_OPERATORS.items()
]


def skip_without_package(method):
    if method is bm3d:
        pytest.importorskip("bm3d", reason="the optional package bm3d is not installed")


# All --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method, settings, make, dtype", RUNS)
@pytest.mark.parametrize("double", [False, True])
def test_every_method_keeps_to_its_signature(method, settings, make, dtype, double):
    skip_without_package(method)
    if double:
        dtype = {torch.complex64: torch.complex128, torch.float32: torch.float64}[dtype]
    A = make(dtype=dtype)
    x_true = complex_blocks(24, 20) if dtype.is_complex else blocks(A.in_shape[0], 24, 20)
    y = A(x_true.to(dtype))
    kept, numpy_state, torch_state = y.clone(), np.random.get_state()[1], torch.get_rng_state()
    x_hat = method(y, A, **settings)
    assert x_hat.shape == (1, *A.in_shape) and x_hat.dtype == dtype
    assert x_hat.device == y.device and x_hat.isfinite().all()
    assert torch.equal(y, kept)
    assert torch.equal(x_hat, method(y, A, None, **settings))
    assert (np.random.get_state()[1] == numpy_state).all()
    assert torch.equal(torch.get_rng_state(), torch_state)


@pytest.mark.parametrize("method", [*CASES, tv])
def test_no_hyperparameter_is_positional(method):
    parameters = list(inspect.signature(method).parameters.values())
    assert [p.name for p in parameters[:4]] == ["y", "A", "net", "z0"]
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[3:])
    assert parameters[-1].name == "callback"


class Other(Identity):
    """An operator of no task of theirs, though of their shapes."""


@pytest.mark.parametrize("method", CASES)
def test_an_operator_of_another_task_is_refused(method):
    settings, make, dtype = CASES[method]
    own = make(dtype=dtype)
    operators = [make_mri(), make_radon(), make_mask(), Identity((3, 24, 20))]
    others = [A for A in operators if type(A) is not type(own)]
    assert len(others) >= 3
    for A in others:
        y = torch.zeros(1, *A.out_shape)
        with pytest.raises(ValueError, match=f"expected an operator {type(own).__name__}, got "):
            method(y, A, **settings)


def test_tv_refuses_an_operator_that_it_does_not_know():
    A = make_mask()
    part = Subset(A, torch.ones(A.out_shape, dtype=torch.bool))
    with pytest.raises(ValueError, match="got Subset"):
        tv(torch.zeros(1, *A.out_shape), part, lambda_tv=0.1)


@pytest.mark.parametrize("method, settings, make, dtype", RUNS)
def test_only_one_image_of_the_right_shape_is_taken(method, settings, make, dtype):
    A = make(dtype=dtype)
    with pytest.raises(ValueError, match="of one image, got 2"):
        method(torch.zeros(2, *A.out_shape, dtype=dtype), A, **settings)
    with pytest.raises(ValueError, match="expected measurement y of shape"):
        method(torch.zeros(1, *A.out_shape[:-1], 7, dtype=dtype), A, **settings)


# MRI --------------------------------------------------------------------------------------------


def test_zero_filled_is_the_combination_of_numpys_coil_images():
    A = make_mri(sampled=0.5)
    y = A(complex_blocks(24, 20))
    coil_images = np.fft.fftshift(
        np.fft.ifft2(np.fft.ifftshift(y[0].numpy(), axes=(1, 2)), norm="ortho"), axes=(1, 2)
    )
    expected = (A.sens_maps.numpy().conj() * coil_images).sum(axis=0)
    assert relative_error(zero_filled(y, A)[0, 0], torch.from_numpy(expected)) < 1e-12


@pytest.mark.parametrize("method, setting", [(cg_sense, "lambda_l2"), (l1_wavelet, "lambda_l1")])
def test_full_sampling_without_a_penalty_gives_the_image_back(method, setting):
    A = make_mri()
    x_true = complex_blocks(24, 20) * A.support
    x_hat = method(A(x_true), A, **{setting: 0.0})
    assert relative_error(x_hat, x_true) < 1e-6  # phase included; the maps are in single precision


@pytest.mark.parametrize("lambda_l2", [0.0, 0.05])
def test_cg_sense_solves_the_normal_equations(lambda_l2):
    A = make_mri((8, 6), n_coils=4, sampled=0.6)
    assert 0 < A.mask.sum() < A.mask.numel()
    y = A(complex_blocks(8, 6)) + 0.1 * torch.randn(A.out_shape, dtype=torch.complex128)
    matrix = dense(A, torch.complex128)
    left = matrix.mH @ matrix + lambda_l2 * torch.eye(48)
    expected = torch.linalg.solve(left, matrix.mH @ (A.mask * y).flatten())
    x_hat = cg_sense(y, A, lambda_l2=lambda_l2, max_iter=300)
    assert relative_error(x_hat.flatten(), expected) < 1e-5


def test_l1_wavelet_of_one_coil_is_soft_thresholding():
    mask = torch.ones(32, 32, dtype=torch.bool)
    A = MultiCoilMRI(torch.ones(1, 32, 32, dtype=torch.complex128), mask)
    image = complex_blocks(32, 32)
    noise = torch.randn(image.shape, dtype=torch.complex128, generator=seeded())
    image = image + 0.1 * noise
    x_hat = l1_wavelet(fft2c(image), A, lambda_l1=0.2)
    array, slices = pywt.coeffs_to_array(pywt.wavedecn(image[0, 0].numpy(), "db4", mode="zero"))
    array = pywt.threshold(array, 0.2, "soft")
    coefficients = pywt.array_to_coeffs(array, slices, output_format="wavedecn")
    expected = pywt.waverecn(coefficients, "db4", mode="zero")
    assert relative_error(x_hat[0, 0], torch.from_numpy(expected)) < 1e-9


@pytest.mark.parametrize("method", [cg_sense, l1_wavelet, tv], ids=lambda method: method.__name__)
def test_mri_methods_beat_zero_filling_and_keep_the_phase(method):
    A = make_mri((64, 60), n_coils=8, sampled=0.45)
    x_true = complex_blocks(64, 60) * A.support
    noise = torch.randn(A.out_shape, dtype=torch.complex128, generator=seeded())
    y = A(x_true) + 0.01 * A.mask * noise
    scale = 1 / A.adjoint(y).abs().max()
    x_hat = method(scale * y, A, **({"max_iter": 200} if method is tv else {})) / scale
    gain = psnr(x_hat * A.support, x_true) - psnr(A.pinv(y), x_true)  # of complex differences
    assert gain > 5


# Total variation --------------------------------------------------------------------------------


def tv_objective(x, y, A, norm, lambda_tv, smooth=0.0):
    """Return the objective of tv's docstring; a smooth one for a solver that needs slopes."""
    above, left = torch.zeros_like(x), torch.zeros_like(x)
    above[..., 1:, :] = x[..., 1:, :] - x[..., :-1, :]
    left[..., :, 1:] = x[..., :, 1:] - x[..., :, :-1]
    lengths = (above.abs().square() + left.abs().square() + smooth).sqrt()
    return (A(x) - y).abs().square().sum() / (2 * norm**2) + lambda_tv * lengths.sum()


def minimise_with_scipy(y, A, norm, lambda_tv, dtype, rounding=0.0):
    """Minimise the smoothed objective by L-BFGS, ever less smooth, down to `rounding`."""
    shape = (1, *A.in_shape)

    def as_image(values):
        tensor = torch.from_numpy(values)
        return tensor.view(*shape, 2).contiguous() if dtype.is_complex else tensor.view(shape)

    def value_and_slope(values, smooth):
        parts = as_image(values).clone().requires_grad_()
        x = torch.view_as_complex(parts) if dtype.is_complex else parts
        value = tv_objective(x, y, A, norm, lambda_tv, smooth)
        value.backward()
        return value.item(), parts.grad.flatten().numpy()

    values = np.full(math.prod(shape) * (2 if dtype.is_complex else 1), 0.3)
    for smooth in (rounding,) if rounding else (1e-3, 1e-5, 1e-7, 1e-9):
        options = {"maxiter": 2000, "maxfun": 4000, "ftol": 1e-13, "gtol": 1e-9}
        values = scipy.optimize.minimize(
            value_and_slope, values, (smooth,), method="L-BFGS-B", jac=True, options=options
        ).x
    parts = as_image(values)
    return torch.view_as_complex(parts) if dtype.is_complex else parts


@pytest.mark.parametrize("task", TV_OPERATORS)
def test_tv_finds_the_minimum_that_scipy_finds(task):
    shape = (6, 5)
    A, x_true = {
        "mri": (make_mri(shape, sampled=0.6), complex_blocks(*shape)),
        "ct": (make_radon(shape, n_views=4), blocks(1, *shape)),
        "inpainting": (make_mask(shape, channels=2), blocks(2, *shape)),
        "denoising": (Identity((2, *shape)), blocks(2, *shape)),
        "camera": (make_camera(shape, 2, torch.float64), blocks(2, *shape)),
        "linear blur": (make_blur(shape, 2, torch.float64), blocks(2, *shape)),
        "superresolution": (Downsample((2, 8, 4), 2, "average").double(), blocks(2, 8, 4)),
    }[task]
    rounding = EPS**2 if task in ("camera", "linear blur") else 0.0
    y = A(with_noise(x_true, 0.1))
    singular_values = torch.linalg.svdvals(dense(A, x_true.dtype))
    # For MRI the bound that the maps give, 1; of blurs it is not needed.
    norm = singular_values.max().item() if task == "ct" else 1.0
    lambda_tv = 0.03 if task != "ct" else 0.003
    x_hat = tv(y, A, lambda_tv=lambda_tv, max_iter=3000)
    expected = minimise_with_scipy(y, A, norm, lambda_tv, x_true.dtype, rounding)
    found, lowest = (
        tv_objective(x, y, A, norm, lambda_tv, rounding).item() for x in (x_hat, expected)
    )
    assert abs(found / lowest - 1) < 1e-3 and found < lowest * (1 + 1e-5)
    if task in ("mri", "denoising"):  # elsewhere the minimum is flat
        assert relative_error(x_hat, expected) < 0.02
    start = tv_objective(A.pinv(y), y, A, norm, lambda_tv, rounding).item()
    assert start > 1.05 * lowest


def test_tv_denoising_equals_chambolles_algorithm():
    y = with_noise(blocks(3, 24, 20))
    x_hat = tv(y, Identity((3, 24, 20)), lambda_tv=0.1, max_iter=2000)
    # scikit-image takes differences to the pixels below and to the right.
    turned = y[0].flip(-2, -1).numpy()
    expected = denoise_tv_chambolle(
        turned, weight=0.1, eps=1e-14, max_num_iter=5000, channel_axis=0
    )
    expected = torch.from_numpy(expected.copy()).flip(-2, -1)[None]
    assert relative_error(x_hat, expected) < 3e-3


def test_tv_moves_two_halves_towards_each_other():
    y = torch.zeros(1, 1, 10, 16, dtype=torch.float64)
    y[..., 6:] = 1.0
    x_hat = tv(y, Identity((1, 10, 16)), lambda_tv=0.3, max_iter=2000)
    expected = torch.where(y == 0, 0.3 / 6, 1 - 0.3 / 10)  # weight over the half's width
    assert (x_hat - expected).abs().max() < 1e-4


@pytest.mark.parametrize("task", ["mri", "ct", "denoising", "camera"])
def test_tv_of_hardly_any_weight_is_least_squares(task):
    A, x_true = {
        "mri": (make_mri(), complex_blocks(24, 20)),
        "ct": (make_radon((8, 7), n_views=30), blocks(1, 8, 7)),
        "denoising": (Identity((3, 24, 20)), blocks(3, 24, 20)),
        "camera": (make_camera(dtype=torch.float64), blocks(3, 24, 20)),
    }[task]
    if task == "mri":
        x_true = x_true * A.support
    x_hat = tv(A(x_true), A, lambda_tv=1e-6, max_iter=1000)
    assert psnr(x_hat, x_true) > 50


def test_tv_takes_the_weight_of_the_task():
    for make, dtype in TV_OPERATORS.values():
        A = make(dtype=dtype)
        y = A(blocks(A.in_shape[0], 24, 20).to(dtype))
        per_sigma = LAMBDA_PER_SIGMA.get(type(A))
        sigma = 1 if isinstance(A, Radon) else 0.1
        noise = sigma * (np.sqrt(A.out_shape[1]) / A.norm() ** 2 if isinstance(A, Radon) else 1)
        weight = LAMBDA_TV[type(A)] if per_sigma is None else per_sigma * noise
        x_hat = tv(y, A, sigma=sigma, max_iter=3)
        assert torch.equal(x_hat, tv(y, A, lambda_tv=float(weight), max_iter=3))
        if not isinstance(A, Identity):  # without noise
            x_hat = tv(y, A, sigma=0.0, max_iter=3)
            assert torch.equal(x_hat, tv(y, A, lambda_tv=LAMBDA_TV[type(A)], max_iter=3))


def test_the_noise_of_views_in_a_pixel_is_about_what_tv_takes_it_for():
    A = TV_OPERATORS["ct"][0](dtype=torch.float32)
    noise = 0.3 * torch.randn(400, *A.out_shape, generator=torch.Generator().manual_seed(0))
    inside = (..., slice(6, -6), slice(6, -6))  # each view sees these pixels
    found = (A.adjoint(noise) / A.norm() ** 2)[inside].std().item()
    assert found == pytest.approx(0.3 * np.sqrt(A.out_shape[1]) / A.norm() ** 2, rel=0.3)


def test_tv_starts_to_fill_a_hole_from_the_mean():
    A = make_mask()
    y = A(blocks(3, 24, 20))
    assert torch.equal(tv(y, A, max_iter=0), torch.where(A.mask, y, y[..., A.mask].mean()))


@pytest.mark.parametrize("lambda_tv", [0.0, -1.0, math.inf, math.nan])
def test_tv_refuses_a_weight_that_is_none(lambda_tv):
    with pytest.raises(ValueError, match="lambda_tv above 0, got"):
        tv(torch.zeros(1, 3, 24, 20), Identity((3, 24, 20)), lambda_tv=lambda_tv)


def test_tv_denoising_needs_a_weight_or_the_noise():
    with pytest.raises(ValueError, match="lambda_tv or sigma"):
        tv(torch.zeros(1, 3, 24, 20), Identity((3, 24, 20)))


# Super-resolution ---------------------------------------------------------------------------------


def test_bicubic_interpolation_is_pillows():
    x = blocks(3, 40, 48)
    A = Downsample((3, 40, 48), 4, "average").double()
    small = A(x)[0] / 4
    x_hat = bicubic(A(x), A)
    for channel, expected in zip(x_hat[0], small, strict=True):
        image = Image.fromarray(expected.float().numpy())
        expected = torch.from_numpy(np.array(image.resize((48, 40), Image.Resampling.BICUBIC)))
        torch.testing.assert_close(channel, expected.double(), atol=1e-6, rtol=0)


# CT ---------------------------------------------------------------------------------------------


def ct_slice(side=64, n_views=18):
    """Return y, A and x_true of pydicom's small slice, scaled as aseqdip_ct.py does."""
    values = ct_data.load_slice(None, "small", side).values
    x_true = torch.from_numpy((values - values.min()) / np.ptp(values))[None, None].float()
    A = Radon((side, side), equispaced_angles(n_views))
    y = A(x_true)
    scale = 1 / A.pinv(y).max()
    return scale * y, A, scale * x_true


@pytest.mark.parametrize("filter_name", ["ramp", "hann"])
def test_fbp_of_the_whole_band_is_pinv_and_skimages_iradon(filter_name):
    A = make_radon((33, 33), n_views=12, filter_name=filter_name)
    y = A(blocks(1, 33, 33))
    x_hat = fbp(y, A, filter_name=filter_name, cutoff=1.0)
    assert torch.equal(x_hat, A.pinv(y))
    expected = skimage.transform.iradon(
        y[0, 0].numpy().T, A.angles.rad2deg().numpy(), output_size=33, circle=False,
        filter_name=filter_name,
    )  # fmt: skip
    assert relative_error(x_hat[0, 0], torch.from_numpy(expected)) < 1e-9


def test_the_cut_off_squeezes_the_window_and_leaves_the_ramp():
    n_det, size = 100, 256
    f = np.fft.fftfreq(size)
    whole, half = (fourier_filter(n_det, "ramp", c).numpy() for c in (1.0, 0.5))
    assert np.array_equal(half, np.where(np.abs(f) <= 0.25, whole, 0))
    assert np.abs(whole - 2 * np.abs(f)).max() < 5e-3
    hann = fourier_filter(n_det, "hann", 0.5).numpy()
    window = np.where(np.abs(f) <= 0.25, np.cos(np.pi * f / 0.5) ** 2, 0)
    assert np.abs(hann - whole * window).max() < 5e-3
    assert hann[np.abs(f) <= 0.12].max() > 0.1


def test_fbp_lets_pass_what_lies_below_the_cut_off_and_nothing_above():
    A = make_radon((64, 64), n_views=90)
    row = torch.arange(64, dtype=torch.float64) - 32
    spot = torch.exp(-(row[:, None] ** 2 + row**2) / (2 * 8**2))
    for frequency, expected in ((0.08, 1.0), (0.22, 0.0)):  # cycles a pixel; the cut-off is 0.15
        wave = (spot * torch.cos(2 * math.pi * frequency * row))[None, None]
        x_hat = fbp(A(wave), A, filter_name="ramp", cutoff=0.3)
        assert (x_hat - expected * wave).abs().max() < 0.08


def test_fbp_widens_the_band_with_the_views():
    for n_views, side, cutoff in ((6, 64, 3.2 * 6 / 64), (40, 20, 1.0)):
        A = make_radon((side, side - 3), n_views=n_views)
        y = A(blocks(1, side, side - 3))
        assert torch.equal(fbp(y, A), fbp(y, A, cutoff=cutoff))


@pytest.mark.parametrize(
    "settings, message",
    [({"cutoff": 0.0}, "cutoff"), ({"cutoff": 1.1}, "cutoff"), ({"filter_name": "no"}, "one of")],
)
def test_fbp_refuses_other_windows_and_cut_offs(settings, message):
    A = make_radon()
    with pytest.raises(ValueError, match=message):
        fbp(torch.zeros(1, *A.out_shape, dtype=torch.float64), A, **settings)


@pytest.mark.parametrize("shape", [(48, 48), (37, 51), (50, 33)])
@pytest.mark.parametrize("n_det", [None, 70, 71])
def test_sart_puts_a_disk_where_it_is(shape, n_det):
    A = make_radon(shape, n_views=24, n_det=n_det)
    rows, columns = np.indices(shape)
    row, column = shape[0] // 2 - 9, shape[1] // 2 + 7
    disk = ((rows - row) ** 2 + (columns - column) ** 2 <= 16).astype(float)
    y = A(torch.from_numpy(disk)[None, None])
    x_hat = sart(y, A, n_iter=5)[0, 0].numpy()
    x_hat = np.where(x_hat > 0.3, x_hat, 0)  # without the streaks
    assert abs((rows * x_hat).sum() / x_hat.sum() - row) < 0.1
    assert abs((columns * x_hat).sum() / x_hat.sum() - column) < 0.1
    assert abs(x_hat[disk > 0].mean() - 1) < 0.15


def test_sart_of_a_narrow_detector_leaves_the_rest_empty():
    A = make_radon((48, 40), n_views=24, n_det=31)
    x_hat = sart(A(blocks(1, 48, 40)), A, n_iter=3)[0, 0]
    rows, columns = np.indices((48, 40))
    outside = np.hypot(rows - 24, columns - 20) > 31 // 2 + 1
    assert (x_hat[outside] == 0).all() and (x_hat[24, 10:30] > 0.1).all()


def test_sart_with_no_pass_is_refused():
    A = make_radon()
    with pytest.raises(ValueError, match="n_iter of at least 1, got 0"):
        sart(torch.zeros(1, *A.out_shape, dtype=torch.float64), A, n_iter=0)


def test_sart_solves_the_equations_of_many_views():
    A = make_radon((24, 24), n_views=60)
    x_true = blocks(1, 24, 24)
    assert psnr(sart(A(x_true), A, n_iter=10), x_true) > 29


def test_tuned_methods_beat_fbp_on_a_real_slice_of_18_views():
    y, A, x_true = ct_slice()
    plain, tuned = psnr(A.pinv(y), x_true), psnr(fbp(y, A), x_true)
    algebraic, sparse = psnr(sart(y, A), x_true), psnr(tv(y, A), x_true)
    assert plain + 1 < tuned < algebraic < sparse


def test_tv_has_settled_on_a_real_slice():
    y, A, _ = ct_slice()
    values = [
        tv_objective(tv(y, A, max_iter=n), y, A, A.norm(), LAMBDA_TV[Radon]).item()
        for n in (1000, 3000)  # the first is the default
    ]
    assert inspect.signature(tv).parameters["max_iter"].default == 1000
    assert values[0] < 1.003 * values[1]


# Pictures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("method", [tv, nlm, wavelet, bm3d], ids=lambda m: m.__name__)
def test_denoisers_gain_3_db(method, channels):
    skip_without_package(method)
    x_true = face(channels)
    y = with_noise(x_true)
    x_hat = method(y, Identity(tuple(x_true.shape[1:])), sigma=SIGMA)
    assert psnr(x_hat, x_true) > psnr(y, x_true) + 3


@pytest.mark.parametrize("method", [tv, nlm, wavelet, bm3d], ids=lambda m: m.__name__)
def test_denoisers_smooth_by_the_noise_they_are_told(method):
    skip_without_package(method)
    y = with_noise(face(side=48))
    A = Identity((3, 48, 48))
    changes = [(method(y, A, sigma=s) - y).abs().mean() for s in (0.02, 0.05, 0.1, 0.2)]
    assert all(less < more for less, more in zip(changes, changes[1:]))


def test_nlm_averages_what_repeats():
    """A pattern of period 8 has many equal patches: the noise goes, the pattern stays."""
    x_true = torch.rand(1, 1, 8, 8, generator=seeded()).repeat(1, 1, 8, 8)
    y = with_noise(x_true, 0.05)
    x_hat = nlm(y, Identity((1, 64, 64)), sigma=0.05, patch_size=7, h_per_sigma=0.6)
    assert psnr(x_hat, x_true) > psnr(y, x_true) + 6


def test_wavelet_denoising_keeps_a_flat_picture_flat_and_its_colour():
    x_true = torch.tensor([0.9, 0.2, 0.5]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    x_hat = wavelet(with_noise(x_true, 0.05), Identity((3, 64, 64)), sigma=0.05)
    assert (x_hat.mean(dim=(-2, -1)) - x_true[..., 0, 0]).abs().max() < 0.005
    assert x_hat.std(dim=(-2, -1)).max() < 0.025


def test_bm3d_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "bm3d", None)
    with pytest.raises(InputError, match="pip install bm3d.*non-commercial"):
        bm3d(torch.zeros(1, 3, 24, 20), Identity((3, 24, 20)), sigma=SIGMA)


def test_bm3d_of_two_channels_is_refused():
    with pytest.raises(ValueError, match="1 or 3 channels, got 2"):
        bm3d(torch.zeros(1, 2, 24, 20), Identity((2, 24, 20)), sigma=SIGMA)


def test_biharmonic_continues_a_ramp():
    ramp = torch.linspace(0.1, 0.5, 24)[:, None] + torch.linspace(0, 0.4, 20)
    x_true = torch.stack([ramp, 1 - ramp, 0.5 * ramp])[None]
    mask = torch.ones(24, 20, dtype=torch.bool)
    mask[8:15, 6:13] = False
    A = PixelMask(mask, 3)
    x_hat = biharmonic(A(x_true), A)
    assert (x_hat - x_true).abs().max() < 1e-5
    assert torch.equal(x_hat[..., mask], x_true[..., mask])


def test_biharmonic_bends_as_a_thin_plate():
    """In one dimension the biharmonic equation's solution is the cubic through both ends."""
    x = torch.linspace(-1, 1, 24, dtype=torch.float64)
    cubic = (x**3 - 0.5 * x).expand(1, 1, 20, 24).clone()
    mask = torch.ones(20, 24, dtype=torch.bool)
    mask[:, 9:14] = False
    x_hat = biharmonic(PixelMask(mask, 1)(cubic), PixelMask(mask, 1))
    assert (x_hat - cubic).abs()[..., 4:-4, :].max() < 0.02


def test_linear_interpolation_recovers_a_plane():
    A = PixelMask(torch.rand(40, 40, generator=torch.Generator().manual_seed(3)) < 0.1, 3)
    row, column = torch.meshgrid(*[torch.arange(40.0)] * 2, indexing="ij")
    plane = torch.stack([row, column, 2 * row - column])[None] / 100
    filled = linear(A(plane), A)
    assert torch.equal(filled[..., A.mask], plane[..., A.mask])
    middle = (slice(None), slice(None), slice(8, 32), slice(8, 32))  # inside their convex hull
    assert torch.allclose(filled[middle], plane[middle], atol=1e-4)
    assert filled.isfinite().all()


def test_linear_interpolation_of_pixels_on_one_line_takes_the_nearest():
    mask = torch.zeros(6, 6, dtype=torch.bool)
    mask[2] = True
    picture = torch.rand(1, 1, 6, 6)
    A = PixelMask(mask, 1)
    assert torch.equal(linear(A(picture), A), picture[:, :, 2:3].expand(1, 1, 6, 6))
