"""Identity and mask: shapes, adjoints, and what a mask hides."""

import pytest
import torch

from operators.pixels import Identity, PixelMask

SHAPES = [(1, 32, 32), (3, 37, 31), (3, 48, 20)]


def operators(shape):
    mask = torch.rand(shape[1:], generator=torch.Generator().manual_seed(0)) < 0.6
    return [Identity(shape), PixelMask(mask, shape[0])]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_adjoint_is_exact_and_autograd_s(shape):
    generator = torch.Generator().manual_seed(1)
    for A in operators(shape):
        x, v = torch.randn(2, 2, *shape, dtype=torch.float64, generator=generator)
        y = A(x)
        assert y.shape == (2, *A.out_shape) and A.adjoint(v).shape == x.shape
        left, right = (y * v).sum(), (x * A.adjoint(v)).sum()
        assert abs(left - right) <= 1e-10 * y.norm() * v.norm()
        _, vjp = torch.func.vjp(A, x)
        torch.testing.assert_close(vjp(v)[0], A.adjoint(v))


def test_identity_is_the_identity():
    x = torch.rand(1, 3, 8, 9)
    A = Identity((3, 8, 9))
    assert torch.equal(A(x), x) and torch.equal(A.pinv(x), x)


def test_missing_pixels_are_zero_whatever_they_hold():
    mask = torch.tensor([[True, False], [False, True]])
    A = PixelMask(mask, 1)
    x = torch.tensor([[[[0.5, float("nan")], [float("inf"), -2.0]]]])
    assert A(x).tolist() == [[[[0.5, 0.0], [0.0, -2.0]]]]
    assert A.pinv(A(x)).tolist() == A(x).tolist()


def test_wrong_shapes_are_refused():
    for A in operators((3, 8, 9)):
        for wrong in (torch.zeros(1, 3, 9, 8), torch.zeros(3, 8, 9), torch.zeros(1, 1, 8, 9)):
            for act in (A, A.adjoint, A.pinv):
                with pytest.raises(ValueError, match=r"expected .* \(B, 3, 8, 9\), got"):
                    act(wrong)
    with pytest.raises(ValueError, match="mask must be bool"):
        PixelMask(torch.ones(8, 9), 3)
    with pytest.raises(ValueError, match="mask must be bool"):
        PixelMask(torch.ones(1, 8, 9, dtype=torch.bool), 3)
