"""Downsampling: against block means, Pillow and PyTorch; adjoint, pseudo-inverse and norm."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from operators.downsample import Downsample

CASES = [
    ((1, 32, 32), 4, "average"), ((3, 36, 28), 2, "average"), ((3, 33, 27), 3, "average"),
    ((1, 32, 32), 4, "bicubic"), ((3, 36, 28), 2, "bicubic"), ((3, 33, 27), 3, "bicubic"),
]  # fmt: skip
every_case = pytest.mark.parametrize("shape, factor, kernel", CASES)


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, dtype=torch.float64, generator=generator)


@every_case
def test_the_adjoint_is_exact_and_autograd_s(shape, factor, kernel):
    A = Downsample(shape, factor, kernel).double()
    x, v = random(2, *shape) - 0.5, random(2, *A.out_shape, seed=1) - 0.5
    y = A(x)
    assert y.shape == v.shape and A.adjoint(v).shape == x.shape
    left, right = (y * v).sum(), (x * A.adjoint(v)).sum()
    assert abs(left - right) <= 1e-10 * y.norm() * v.norm()
    _, vjp = torch.func.vjp(A, x)
    torch.testing.assert_close(vjp(v)[0], A.adjoint(v))


@every_case
def test_the_pseudo_inverse_is_that_of_the_matrix(shape, factor, kernel):
    A = Downsample((1, *shape[1:]), factor, kernel).double()
    y = random(1, *A.out_shape)
    matrix = torch.func.jacrev(A)(torch.zeros(1, 1, *shape[1:], dtype=torch.float64))
    matrix = matrix.reshape(y.numel(), -1)
    expected = torch.linalg.lstsq(matrix, y.flatten(), driver="gelsd").solution
    torch.testing.assert_close(A.pinv(y).flatten(), expected, atol=1e-6, rtol=0)
    if kernel == "average":
        torch.testing.assert_close(A.pinv(y), A.adjoint(y), atol=1e-6, rtol=0)
    norm = torch.linalg.matrix_norm(matrix, ord=2).item()
    assert norm == pytest.approx(1, abs=1e-6 if kernel == "average" else 0.02)
    assert A.norm() == pytest.approx(norm, rel=1e-6)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_average_is_the_mean_of_blocks(factor):
    x = random(1, 3, 24, 36).float()
    small = Downsample((3, 24, 36), factor, "average")(x) / factor
    torch.testing.assert_close(small, F.avg_pool2d(x, factor))


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_bicubic_is_pillow_s_and_pytorch_s(factor):
    x = random(1, 1, 36, 24).float()
    small = Downsample((1, 36, 24), factor, "bicubic")(x) / factor
    size = (36 // factor, 24 // factor)
    expected = F.interpolate(x, size=size, mode="bicubic", antialias=True, align_corners=False)
    torch.testing.assert_close(small, expected, atol=1e-5, rtol=0)
    pillow = Image.fromarray(x[0, 0].numpy()).resize(size[::-1], Image.Resampling.BICUBIC)
    np.testing.assert_allclose(small[0, 0].numpy(), np.asarray(pillow), atol=1e-5)


def test_a_constant_picture_stays_constant_and_comes_back():
    for shape, factor, kernel in CASES:
        A = Downsample(shape, factor, kernel)
        x = torch.full((1, *shape), 0.3)
        torch.testing.assert_close(A(x) / factor, torch.full((1, *A.out_shape), 0.3))
        if kernel == "average":
            torch.testing.assert_close(A.pinv(A(x)), x)


def test_what_does_not_fit_is_refused():
    for shape, factor in (((3, 32, 30), 4), ((3, 30, 32), 4), ((3, 32, 32), 1)):
        with pytest.raises(ValueError, match="divides both sides"):
            Downsample(shape, factor, "average")
    with pytest.raises(ValueError, match="shape of an image"):
        Downsample((32, 32), 2, "average")
    A = Downsample((3, 8, 12), 2, "bicubic")
    with pytest.raises(ValueError, match=r"image x of shape \(B, 3, 8, 12\), got"):
        A(torch.zeros(1, 3, 12, 8))
    for act in (A.adjoint, A.pinv):
        with pytest.raises(ValueError, match=r"measurement y of shape \(B, 3, 4, 6\), got"):
            act(torch.zeros(1, 3, 8, 12))
