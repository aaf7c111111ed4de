"""The MRI operator against numpy, sigpy and autograd."""

import numpy as np
import pytest
import sigpy.mri
import torch

from operators.mri import MultiCoilMRI, fft2c, ifft2c

SHAPES = [(32, 32), (37, 31), (32, 45), (41, 36)]


def random_complex(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.complex128, generator=generator)


def make_operator(shape, n_coils=5):
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 0.4
    return MultiCoilMRI(random_complex(n_coils, *shape), mask)


@pytest.mark.parametrize("shape", SHAPES)
def test_fft_agrees_with_numpy(shape):
    x = random_complex(2, 3, *shape)
    expected = np.fft.fftshift(
        np.fft.fft2(np.fft.ifftshift(x.numpy(), axes=(-2, -1)), norm="ortho"), axes=(-2, -1)
    )
    np.testing.assert_allclose(fft2c(x).numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(ifft2c(fft2c(x)).numpy(), x.numpy(), atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_sigpy_sense(shape):
    A = make_operator(shape)
    x, y = random_complex(1, 1, *shape), random_complex(1, 5, *shape, seed=2)
    # sigpy weighs the data by the square root of its weights.
    sense = sigpy.mri.linop.Sense(A.sens_maps.numpy(), weights=A.mask.numpy().astype(float))
    assert A(x).shape == (1, 5, *shape)
    assert A.adjoint(y).shape == (1, 1, *shape)
    np.testing.assert_allclose(A(x)[0].numpy(), sense(x[0, 0].numpy()), atol=1e-12)
    np.testing.assert_allclose(A.adjoint(y)[0, 0].numpy(), sense.H(y[0].numpy()), atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_adjoint_is_exact(shape):
    A = make_operator(shape)
    x, y = random_complex(2, 1, *shape), random_complex(2, 5, *shape, seed=2)
    left = torch.vdot(A(x).flatten(), y.flatten())
    right = torch.vdot(x.flatten(), A.adjoint(y).flatten())
    assert abs(left - right) <= 1e-10 * abs(left)


def test_adjoint_equals_autograd():
    A = make_operator((37, 31))
    x = random_complex(1, 1, 37, 31).requires_grad_()
    y = random_complex(1, 5, 37, 31, seed=2)
    A(x).backward(y)
    torch.testing.assert_close(x.grad, A.adjoint(y), rtol=1e-12, atol=1e-12)


def test_norm_is_at_most_one_with_normalised_maps():
    maps = random_complex(5, 40, 36)
    maps = maps / maps.abs().square().sum(dim=0).sqrt()
    A = MultiCoilMRI(maps, torch.rand(40, 36, generator=torch.Generator().manual_seed(3)) < 0.5)
    x = random_complex(1, 1, 40, 36)
    for _ in range(30):
        x = A.adjoint(A(x))
        norm = x.norm()
        x = x / norm
    assert norm <= 1 + 1e-12
    assert A.norm() == pytest.approx(1)
    full = MultiCoilMRI(maps, torch.ones(40, 36, dtype=torch.bool))
    torch.testing.assert_close(full.pinv(full(x)), x)  # exact at full sampling
    assert MultiCoilMRI(0.01 * maps, full.mask).norm() == pytest.approx(0.01)


def test_unsampled_points_are_zero_and_ignored():
    A = make_operator((37, 31))
    y = A(random_complex(1, 1, 37, 31))
    assert (y[..., ~A.mask] == 0).all()
    dirty = torch.where(A.mask, y, 7.0)
    torch.testing.assert_close(A.adjoint(dirty), A.adjoint(y), rtol=0, atol=0)


def test_wrong_shapes_are_refused_with_both_shapes():
    A = make_operator((37, 31))
    for call, shape in [(A, (1, 1, 31, 37)), (A, (1, 37, 31)), (A, (1, 5, 37, 31)),
                        (A.adjoint, (1, 4, 37, 31)), (A.adjoint, (5, 37, 31))]:  # fmt: skip
        with pytest.raises(ValueError, match=r"expected .* 37, 31\), got"):
            call(random_complex(*shape))


def test_unfit_maps_and_masks_are_refused():
    maps, mask = random_complex(5, 37, 31), torch.ones(37, 31, dtype=torch.bool)
    for bad_maps, bad_mask in [(maps.real, mask), (maps[0], mask), (maps, mask.float()),
                               (maps, mask.T)]:  # fmt: skip
        with pytest.raises(ValueError):
            MultiCoilMRI(bad_maps, bad_mask)
