"""The last step towards the measurements, against the normal equations solved as they stand."""

import numpy as np
import pytest
import sigpy.mri
import torch

from operators.blur import CameraBlur, LinearBlur
from operators.mri import MultiCoilMRI
from operators.pixels import Identity, PixelMask
from operators.radon import Radon
from operators.subset import Subset
from utils.consistency import EXACT_MU, MU, consistent, proximal


def random(shape, seed, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def operators():
    maps = random((3, 8, 6), 1, torch.complex128)
    maps = maps / maps.abs().square().sum(dim=0).sqrt()
    mask = torch.rand(8, 6, generator=torch.Generator().manual_seed(2)) < 0.4
    return {
        "mri": MultiCoilMRI(maps, mask),
        "ct": Radon(
            (10, 10), torch.arange(4, dtype=torch.float64) * torch.pi / 4, dtype=torch.float64
        ),
        "inpainting": PixelMask(mask, 3),
        "denoising": Identity((3, 8, 6)),
    }


def matrix(A, dtype):
    """Return A as a matrix, column by column."""
    n = int(np.prod(A.in_shape))
    unit = torch.eye(n, dtype=dtype).view(n, *A.in_shape)
    return A(unit).reshape(n, -1).T


@pytest.mark.parametrize("task", operators())
def test_noise_and_error_are_weighed_by_their_variances(task):
    A = operators()[task]
    dtype = torch.complex128 if task == "mri" else torch.float64
    x_true, x = (random((1, *A.in_shape), seed, dtype) for seed in (3, 4))
    y = A(x_true)
    misfit = torch.linalg.vector_norm(A(x) - y).item()

    u = consistent(x, y, A, 0.6 * misfit)

    # u - x = A^H w, and mu w = y - A u.
    M = matrix(A, dtype)
    step, rest = (u - x).flatten(), (y - A(u)).flatten()
    back = M.mH @ rest
    mu = torch.linalg.vecdot(step, back).real / torch.linalg.vecdot(step, step).real
    assert torch.allclose(back, mu * step, atol=1e-4 * back.abs().max().item())
    power = M.abs().square().sum(dim=1)  # of the row of each measurement
    expected = 0.6**2 / (1 - 0.6**2) * power[power > 0].mean().item()
    assert mu.item() == pytest.approx(expected, rel=1e-6 if task == "denoising" else 0.3)


def noisy_scan():
    """Return A, an image, what is wrong with it, and noise of its measurements."""
    maps = torch.from_numpy(sigpy.mri.birdcage_maps((12, 32, 32), dtype=np.complex128))
    maps = maps / maps.abs().square().sum(dim=0).sqrt()
    columns = torch.rand(32, generator=torch.Generator().manual_seed(2)) < 0.3
    A = MultiCoilMRI(maps, columns.expand(32, 32))
    x_true, error = (random((1, *A.in_shape), seed, torch.complex128) for seed in (3, 4))
    noise = 0.5 * random((1, *A.out_shape), 5, torch.complex128) * A.mask
    return A, x_true, error, noise


def test_no_other_weight_gives_a_better_image():
    A, x_true, error, noise = noisy_scan()
    x, y = x_true + error, A(x_true) + noise

    def wrong(u):
        return torch.linalg.vector_norm(u - x_true).item()

    reached = wrong(consistent(x, y, A, torch.linalg.vector_norm(noise).item()))
    others = [wrong(proximal(x, y, A, mu)) for mu in np.geomspace(1e-3, 1e2, 26)]
    assert reached < 1.005 * min(others) and min(others) < 0.9 * wrong(x)


def test_noise_that_is_taken_as_too_low_is_fitted_less_than_by_the_discrepancy_principle():
    A, x_true, error, noise = noisy_scan()
    x, y = x_true + 0.1 * error, A(x_true) + noise  # the image is nearly right
    told = 0.94 * torch.linalg.vector_norm(noise).item()
    u = consistent(x, y, A, told)
    # The discrepancy principle takes the largest mu that explains the measurements.
    tried = (proximal(x, y, A, mu) for mu in np.geomspace(10, 1e-3, 30))
    fitted = next(v for v in tried if torch.linalg.vector_norm(A(v) - y) <= told)
    wrong = [torch.linalg.vector_norm(v - x_true).item() for v in (x, u, fitted)]
    assert wrong[0] < wrong[1] < 0.7 * wrong[2]


@pytest.mark.parametrize("task", operators())
def test_without_noise_the_smallest_mu_is_taken(task):
    A = operators()[task]
    dtype = torch.complex128 if task == "mri" else torch.float64
    x_true, x = (random((1, *A.in_shape), seed, dtype) for seed in (3, 4))
    y = A(x_true)
    M = matrix(A, dtype)
    norm = torch.linalg.matrix_norm(M, 2)
    normal = M.mH @ M + MU * norm**2 * torch.eye(M.shape[1], dtype=dtype)
    expected = x.flatten() + torch.linalg.solve(normal, M.mH @ (y - A(x)).flatten())

    u = consistent(x, y, A, 0.0)

    assert torch.allclose(u.flatten(), expected, rtol=0.02, atol=0.02)
    next_to_none = 1e-4 * torch.linalg.vector_norm(y).item()
    assert torch.equal(consistent(x, y, A, next_to_none), u)


def test_what_the_operator_cannot_explain_counts_as_noise():
    A, x_true, error, noise = noisy_scan()
    x, y = x_true + error, A(x_true) + noise
    unexplained = torch.linalg.vector_norm(A(proximal(x, y, A, MU)) - y).item()
    assert torch.allclose(consistent(x, y, A, 0.0), consistent(x, y, A, unexplained))
    told = consistent(x, y, A, torch.linalg.vector_norm(noise).item())
    wrong = [torch.linalg.vector_norm(u - x_true).item() for u in (told, consistent(x, y, A, 0.0))]
    assert wrong[1] < 1.05 * wrong[0]


def test_where_the_operator_explains_nothing_more_the_image_stays():
    A = operators()["inpainting"]
    x = random((1, *A.in_shape), 5)
    y = A(x) + ~A.mask  # off only where nothing is measured
    assert consistent(x, y, A, 0.0) is x


def test_an_image_that_explains_the_measurements_stays_as_it_is():
    A = operators()["inpainting"]
    x = random((1, *A.in_shape), 5)
    noise = random((1, *A.out_shape), 6)
    y = A(x + noise)
    assert consistent(x, y, A, torch.linalg.vector_norm(A(noise)).item() * 1.001) is x


def test_a_part_of_the_measurements_is_linear_as_the_whole_is():
    for A in (camera(), operators()["denoising"]):
        x_true, x = (0.5 + 0.1 * random((1, *A.in_shape), seed) for seed in (3, 4))
        part = Subset(A, torch.ones(A.out_shape, dtype=torch.bool))
        for exact in (False, True):
            u, v = (consistent(x, A(x_true), B, 0.0, exact) for B in (part, A))
            assert torch.allclose(u, v)


def test_known_pixels_come_back_and_missing_ones_stay():
    A = operators()["inpainting"]
    x_true, x = (random((1, *A.in_shape), seed) for seed in (3, 4))
    u = consistent(x, A(x_true), A, 0.0)
    assert torch.allclose(u[..., A.mask], x_true[..., A.mask], atol=0.01)
    assert torch.equal(u[..., ~A.mask], x[..., ~A.mask])


def camera():
    kernels = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights = torch.linspace(0, 1, 8, dtype=torch.float64).expand(8, 8)
    kernels = kernels / kernels.sum(dim=(-2, -1), keepdim=True)
    return CameraBlur(kernels, torch.stack((weights, 1 - weights)), (1, 8, 8))


def test_where_the_operator_is_not_linear_the_slope_of_the_objective_vanishes():
    A = camera()
    x_true, x = (0.5 + 0.1 * random((1, 1, 8, 8), seed) for seed in (3, 4))
    y = A(x_true)
    u = consistent(x, y, A, 0.0).requires_grad_()
    value = (A(u) - y).square().sum() + MU * (u - x).square().sum()
    (slope,) = torch.autograd.grad(value, u)
    start = x.clone().requires_grad_()
    (before,) = torch.autograd.grad((A(start) - y).square().sum(), start)
    assert slope.norm() < 1e-3 * before.norm()
    assert (u - x_true).norm() < 0.5 * (x - x_true).norm()


def test_of_exact_measurements_what_a_blur_damps_comes_back():
    kernel = torch.tensor([[1, 3, 1], [3, 9, 3], [1, 3, 1]], dtype=torch.float64) / 25
    A = LinearBlur(kernel, (1, 8, 8))
    x_true, x = (random((1, 1, 8, 8), seed) for seed in (3, 4))
    y = A(x_true)
    M = matrix(A, torch.float64)

    def solved(mu):
        normal = M.T @ M + mu * torch.eye(M.shape[1], dtype=torch.float64)
        return x.flatten() + torch.linalg.solve(normal, M.T @ (y - A(x)).flatten())

    u = consistent(x, y, A, 0.0, exact=True)
    assert torch.allclose(u.flatten(), solved(EXACT_MU), atol=1e-3)
    held = consistent(x, y, A, 0.0)  # measured: its noise may have been taken as too low
    assert torch.allclose(held.flatten(), solved(MU), atol=0.01)
    assert (u - x_true).norm() < 0.1 * (held - x_true).norm()


def test_of_exact_measurements_a_wide_blur_takes_many_steps():
    kernel = torch.outer(*2 * [torch.hann_window(7, dtype=torch.float64)])
    A = LinearBlur(kernel / kernel.sum(), (1, 40, 40))
    x_true, x = (random((1, 1, 40, 40), seed) for seed in (3, 4))
    y = A(x_true)
    u = consistent(x, y, A, 0.0, exact=True)
    few = proximal(x, y, A, EXACT_MU, at_most=100)
    assert (u - x_true).norm() < 0.8 * (few - x_true).norm()


def test_where_the_operator_is_not_linear_noise_is_weighed_too():
    A = camera()
    x_true, x = (0.5 + 0.1 * random((1, 1, 8, 8), seed) for seed in (3, 4))
    noise = 0.02 * random((1, *A.out_shape), 5)
    y, noise_norm = A(x_true) + noise, torch.linalg.vector_norm(noise).item()
    wrong = [
        torch.linalg.vector_norm(consistent(x, y, A, told) - x_true) for told in (0.0, noise_norm)
    ]
    assert wrong[1] < 0.95 * wrong[0] and wrong[1] < 0.9 * torch.linalg.vector_norm(x - x_true)


def test_bad_arguments_are_refused():
    A = operators()["denoising"]
    x = random((1, *A.in_shape), 5)
    with pytest.raises(ValueError, match="image x"):
        consistent(x[0], x, A, 0.0)
    with pytest.raises(ValueError, match="noise_norm.*-1"):
        consistent(x, x, A, -1.0)
