"""The Radon operator against skimage, the analytic disk, numpy and autograd."""

import copy

import numpy as np
import pytest
import skimage.transform
import torch

from operators.radon import Radon, equispaced_angles

SHAPES = [(32, 32), (33, 33), (37, 31), (30, 41)]
ANGLES = {
    "one": equispaced_angles(1),
    "even": equispaced_angles(12),
    "odd": equispaced_angles(5),
    "turn": 2 * equispaced_angles(8),
    "any": torch.tensor([-4.0, 0.1, 2.9, 0.7, np.pi / 4, 100.3], dtype=torch.float64),
}
WINDOWS = ["ramp", "shepp-logan", "cosine", "hamming", "hann"]


@pytest.fixture(autouse=True)
def one_thread():
    """Small products wait longer for a second thread on a busy machine than they take."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def random_real(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=dtype, generator=generator)


def make_operator(shape, angles="any", **kwargs):
    return Radon(shape, ANGLES[angles], **{"dtype": torch.float64, **kwargs})


def skimage_radon(x, angles):
    degrees = np.rad2deg(angles.numpy())
    image = x.double().numpy()
    return skimage.transform.radon(image, degrees, circle=False, preserve_range=True).T


def relative_error(got, expected):
    return np.abs(got.numpy() - expected).max() / np.abs(expected).max()


def gaussian(shape, row, col, sigma):
    """Return a smooth spot, (row, col) from pixel (H//2, W//2)."""
    y, x = (torch.arange(n, dtype=torch.float64) - n // 2 for n in shape)
    return torch.exp(-((y[:, None] - row) ** 2 + (x - col) ** 2) / (2 * sigma**2))


def disk(size, row, col, radius, n_sub=16):
    """Return each pixel's covered area, by n_sub x n_sub points in it."""
    points = (np.arange(size * n_sub) + 0.5) / n_sub - 0.5 - size // 2
    inside = (points[:, None] - row) ** 2 + (points - col) ** 2 <= radius**2
    return torch.from_numpy(inside.reshape(size, n_sub, size, n_sub).mean(axis=(1, 3)))


def dense(A):
    """Return the operator as a matrix, column by column."""
    unit = torch.eye(np.prod(A.in_shape), dtype=torch.float64)
    return A(unit.reshape(-1, *A.in_shape)).flatten(1).T


@pytest.mark.parametrize("angles", ANGLES)
@pytest.mark.parametrize("shape", SHAPES)
def test_adjoint_is_exact(shape, angles):
    A = make_operator(shape, angles)
    x = random_real(2, 1, *shape)
    y = random_real(2, 1, len(ANGLES[angles]), int(np.ceil(np.sqrt(2) * max(shape))), seed=1)
    assert A(x).shape == y.shape
    assert A.adjoint(y).shape == A.pinv(y).shape == x.shape
    left, right = (A(x) * y).sum(), (x * A.adjoint(y)).sum()
    # The scale is that of the terms: the sum itself can be near zero.
    assert abs(left - right) <= 1e-10 * A(x).norm() * y.norm()


@pytest.mark.parametrize("shape", SHAPES)
def test_adjoint_equals_autograd(shape):
    A = make_operator(shape)
    x = random_real(2, 1, *shape).requires_grad_()
    y = random_real(2, *A.out_shape, seed=1).requires_grad_()
    A(x).backward(y.detach())
    torch.testing.assert_close(x.grad, A.adjoint(y.detach()), rtol=1e-12, atol=1e-12)
    A.adjoint(y).backward(x.detach())
    torch.testing.assert_close(y.grad, A(x.detach()), rtol=1e-12, atol=1e-12)


def test_derivatives_of_first_and_second_order():
    A = make_operator((4, 5), n_det=6)
    x, y = random_real(2, 1, 4, 5), random_real(2, 1, 6, 6, seed=1)
    for function, argument, direction in [(A, x, x + 1), (A.adjoint, y, y + 1)]:
        # This Jacobian-vector product is the derivative of the vector-Jacobian product.
        _, product = torch.autograd.functional.jvp(function, argument, direction)
        torch.testing.assert_close(product, function(direction), rtol=1e-12, atol=1e-12)
        argument = argument.requires_grad_()
        assert torch.autograd.gradcheck(function, argument)
        assert torch.autograd.gradgradcheck(lambda v, f=function: f(v) ** 2, argument)


@pytest.mark.parametrize("angles", ANGLES)
@pytest.mark.parametrize("shape", [*SHAPES, (1, 1), (2, 3), (70, 71)])
def test_agrees_with_skimage_radon(shape, angles):
    x = random_real(1, 1, *shape)
    expected = skimage_radon(x[0, 0], ANGLES[angles])
    for dtype, tolerance in [(torch.float64, 1e-12), (torch.float32, 1e-6)]:
        y = make_operator(shape, angles, dtype=dtype)(x.to(dtype))
        assert y.shape == (1, 1, *expected.shape)
        assert y.dtype == dtype
        assert relative_error(y[0, 0], expected) <= tolerance


@pytest.mark.parametrize("size", [96, 97])
def test_disk_projects_to_its_chords(size):
    row, col, radius = -7.3, 12.6, 25.4
    A = make_operator((size, size))
    y = A(disk(size, row, col, radius)[None, None])[0, 0]
    t = torch.arange(y.shape[-1]) - y.shape[-1] // 2
    cos, sin = ANGLES["any"].cos()[:, None], ANGLES["any"].sin()[:, None]
    distance = (t - (cos * col - sin * row)).abs()
    chord = 2 * (radius**2 - distance**2).clamp(min=0).sqrt()
    # Pixels and interpolation blur the chord by about a pixel, which tells at the steep rim.
    assert ((y - chord).abs() <= 0.01 * 2 * radius)[distance < radius - 2].all()
    assert ((y - chord).abs() <= 0.1 * 2 * radius).all()
    assert (y[distance > radius + 3] == 0).all()
    # Each view holds the whole mass.
    torch.testing.assert_close(
        y.sum(dim=1), torch.full((6,), np.pi * radius**2, dtype=torch.float64), rtol=1e-3, atol=0
    )


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("size", [32, 33, 70])
def test_pinv_agrees_with_skimage_iradon(size, window):
    x = random_real(1, 1, size, size)
    for name, angles in ANGLES.items():
        sinogram = skimage_radon(x[0, 0], angles)
        expected = skimage.transform.iradon(
            sinogram.T, np.rad2deg(angles.numpy()), output_size=size, filter_name=window,
            circle=False,
        )  # fmt: skip
        y = torch.from_numpy(sinogram)[None, None]
        for dtype, tolerance in [(torch.float64, 1e-10), (torch.float32, 1e-5)]:
            A = make_operator((size, size), name, filter_name=window, dtype=dtype)
            x_hat = A.pinv(y.to(dtype))
            assert x_hat.dtype == dtype
            assert relative_error(x_hat[0, 0], expected) <= tolerance


def test_pinv_of_a_smooth_image_with_many_views():
    for shape in [(64, 64), (65, 65), (61, 48)]:
        x = gaussian(shape, -5.5, 4, 6) + 0.5 * gaussian(shape, 8, -3.2, 6)
        A = Radon(shape, equispaced_angles(150), dtype=torch.float64)
        x_hat = A.pinv(A(x[None, None]))
        assert relative_error(x_hat[0, 0], x.numpy()) <= 0.01


def test_pinv_of_a_rectangle_is_cut_from_the_square():
    y = random_real(2, 1, 6, 53)
    square, rectangle = make_operator((37, 37)), make_operator((37, 31))
    expected = square.pinv(y)[..., 37 // 2 - 31 // 2 :][..., :31]
    torch.testing.assert_close(rectangle.pinv(y), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_another_detector_has_the_same_centre(shape):
    x = random_real(1, 1, *shape)
    # Interpolation carries the corners a pixel further than the default detector.
    x[..., [0, -1], :] = x[..., [0, -1]] = 0
    y = make_operator(shape)(x)
    centre = y.shape[-1] // 2
    for n_det in [1, 2, 20, 21, y.shape[-1] - 1, y.shape[-1] + 1, 80, 81]:
        A = make_operator(shape, n_det=n_det)
        padded = torch.nn.functional.pad(y, (81, 81))
        expected = padded[..., 81 + centre - n_det // 2 :][..., :n_det]
        assert A(x).shape == expected.shape
        torch.testing.assert_close(A(x), expected, rtol=1e-12, atol=1e-12)
        v = random_real(1, *A.out_shape, seed=1)
        assert abs((A(x) * v).sum() - (x * A.adjoint(v)).sum()) <= 1e-10 * x.norm() * v.norm()
        assert A.pinv(v).isfinite().all()


def test_detector_at_the_edge_of_pinv():
    # 0 and 90 degrees: each pixel column or row meets one bin, pixels beyond the detector none.
    angles = torch.tensor([0.0], dtype=torch.float64)
    A = Radon((9, 9), angles, n_det=5, dtype=torch.float64)
    x_hat = A.pinv(torch.ones(1, *A.out_shape, dtype=torch.float64))[0, 0]
    assert (x_hat == x_hat[:1]).all()
    assert (x_hat[:, 2:7] != 0).all()
    assert (x_hat[:, :2] == 0).all()
    assert (x_hat[:, 7:] == 0).all()


@pytest.mark.parametrize("shape", [(32, 32), (37, 31)])
def test_views_together_are_the_views_alone(shape):
    # Of each view come here some partners by symmetry, some a second time, and some neither.
    degrees = [0, 17, 107, -17, 17, 197, 73, 343, 20, 160, 45, 135, 225, 90, 88.1, 17 + 1e-5]
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    x = random_real(1, 1, *shape)
    for some in [angles, angles[8:10], angles[10:12], angles.flip(0), angles[:2], angles[[1, 8]]]:
        A = Radon(shape, some, dtype=torch.float64)
        alone = [Radon(shape, angle[None], dtype=torch.float64) for angle in some]
        y = torch.cat([view(x) for view in alone], dim=2)
        torch.testing.assert_close(A(x), y, rtol=1e-11, atol=1e-11)
        v = random_real(*y.shape, seed=1)
        expected = sum(view.adjoint(v[:, :, [i]]) for i, view in enumerate(alone))
        torch.testing.assert_close(A.adjoint(v), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("n_views", "offset", "share"), [(30, 0, 4), (15, 0, 2), (30, 0.1, 2), (15, 0.1, 1)]
)
def test_symmetric_views_share_a_matrix(n_views, offset, share):
    angles = equispaced_angles(n_views) + offset
    together, *alone = [
        len(Radon((96, 96), some).matrix_weights) for some in [angles, *angles[:, None]]
    ]
    assert together == pytest.approx(sum(alone) / share, rel=0.1)


@pytest.mark.parametrize("size", [90, 91, 96])  # of 128, 129 and 136 steps
def test_bright_corners_agree_with_skimage(size):
    # A ray of even length lacks one of its two last steps, which sees a corner near 45 degrees.
    x = torch.zeros(1, 1, size, size, dtype=torch.float64)
    x[..., [0, 0, -1, -1], [0, -1, 0, -1]] = torch.tensor([3.0, 4, 5, 6], dtype=torch.float64)
    angles = torch.cat([torch.arange(40, 50), torch.arange(130, 140), torch.arange(220, 230)])
    angles = torch.deg2rad(angles.double())
    y = Radon((size, size), angles, dtype=torch.float64)(x)[0, 0]
    assert relative_error(y, skimage_radon(x[0, 0], angles)) <= 1e-12


def test_rows_summed_in_order_equal_the_library_product(monkeypatch):
    A = make_operator((37, 31))
    x, y = random_real(2, 1, 37, 31), random_real(2, *make_operator((37, 31)).out_shape, seed=1)
    expected = [A(x), A.adjoint(y)]
    unseen = A(torch.ones_like(x)) == 0
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    got = [A(x), A.adjoint(y)]
    for got_item, want in zip(got, expected, strict=True):
        torch.testing.assert_close(got_item, want, rtol=1e-12, atol=1e-12)
    for again, got_item in zip([A(x), A.adjoint(y)], got, strict=True):
        assert torch.equal(again, got_item)
    # Bins in the corners see no pixel: a row of the matrix without entries gives zero.
    assert unseen.any()
    y = got[0]
    assert (y.masked_select(unseen) == 0).all() and (y.masked_select(~unseen) != 0).all()


def test_batch_is_item_by_item():
    A = make_operator((37, 31))
    x = random_real(3, 1, 37, 31)
    y = A(x)
    for i in range(3):
        assert torch.equal(y[i], A(x[i : i + 1])[0])
        assert torch.equal(A.adjoint(y)[i], A.adjoint(y[i : i + 1])[0])
        torch.testing.assert_close(A.pinv(y)[i], A.pinv(y[i : i + 1])[0], rtol=1e-12, atol=1e-12)
    assert A(x[:0]).shape == (0, *A.out_shape)
    transposed = x.transpose(2, 3).contiguous().transpose(2, 3)
    assert torch.equal(A(transposed), y)


def test_norm_is_the_largest_singular_value():
    A = make_operator((9, 7))
    expected = torch.linalg.matrix_norm(dense(A), 2).item()
    assert A.norm(200) == pytest.approx(expected, rel=1e-10)
    assert expected * 0.99 <= A.norm(n_iter=1) <= A.norm() <= expected * (1 + 1e-12)
    with pytest.raises(ValueError, match="n_iter must be at least 1, got 0"):
        A.norm(0)


def test_dtypes():
    single, double = make_operator((37, 31), dtype=torch.float32), make_operator((37, 31))
    x, y = random_real(1, 1, 37, 31), random_real(1, *double.out_shape, seed=1)
    for A in [single, copy.deepcopy(double).float()]:
        for got, want in [
            (A(x.float()), double(x)),
            (A.adjoint(y.float()), double.adjoint(y)),
            (A.pinv(y.float()), double.pinv(y)),
        ]:
            assert got.dtype == torch.float32
            assert relative_error(got, want.numpy()) <= 1e-5
    widened = copy.deepcopy(single).double()
    assert widened(x).dtype == widened.adjoint(y).dtype == widened.pinv(y).dtype == torch.float64
    left, right = (widened(x) * y).sum(), (x * widened.adjoint(y)).sum()
    assert abs(left - right) <= 1e-10 * x.norm() * y.norm()


def test_same_bits_each_time_and_one_matrix_a_geometry():
    A = make_operator((37, 31))
    x, y = random_real(1, 1, 37, 31), random_real(1, *A.out_shape, seed=1)
    expected = [A(x), A.adjoint(y), A.pinv(y)]
    assert make_operator((37, 31)).matrix_weights is A.matrix_weights
    make_operator((9, 7))
    rebuilt = make_operator((37, 31))
    assert rebuilt.matrix_weights is not A.matrix_weights
    for B in [A, rebuilt, copy.deepcopy(A)]:
        for got, want in zip([B(x), B.adjoint(y), B.pinv(y)], expected, strict=True):
            assert torch.equal(got, want)


def test_random_state_is_untouched_and_nothing_is_saved():
    states = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    A = make_operator((31, 30))
    A.pinv(A(random_real(1, 1, 31, 30)))
    A.norm()
    assert torch.equal(states[0], torch.random.get_rng_state())
    assert (states[1] == np.random.get_state()[1]).all()
    assert A.state_dict() == {}


def test_angles_are_kept_as_given():
    angles = equispaced_angles(7)
    np.testing.assert_allclose(angles.numpy(), np.deg2rad(np.arange(7) * 180 / 7), rtol=1e-15)
    A = Radon((9, 9), angles).float()
    expected = angles.clone()
    angles += 1
    assert torch.equal(A.angles, expected)
    with pytest.raises(ValueError, match="n_views must be at least 1, got 0"):
        equispaced_angles(0)


def test_wrong_shapes_and_dtypes_are_refused_with_both():
    A = make_operator((37, 31))
    for call, shape in [(A, (1, 1, 31, 37)), (A, (1, 37, 31)), (A, (1, 2, 37, 31))]:
        with pytest.raises(ValueError, match=r"expected .*\(B, 1, 37, 31\), got"):
            call(random_real(*shape))
    for call in [A.adjoint, A.pinv]:
        for shape in [(1, 1, 53, 6), (1, 6, 53), (1, 1, 6, 52)]:
            with pytest.raises(ValueError, match=r"expected .*\(B, 1, 6, 53\), got"):
                call(random_real(*shape))
    for call, shape in [(A, A.in_shape), (A.adjoint, A.out_shape), (A.pinv, A.out_shape)]:
        for dtype in [torch.float32, torch.complex128]:
            with pytest.raises(ValueError, match=r"expected .* torch.float64, got torch.*\.to\("):
                call(torch.zeros(1, *shape, dtype=dtype))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (37,)}, r"\(H, W\).*got \(37,\)"),
        ({"shape": (37, 0)}, r"\(H, W\).*got \(37, 0\)"),
        ({"angles": torch.zeros(0, dtype=torch.float64)}, r"at least one.*got torch.float64 \(0,"),
        ({"angles": torch.zeros(3)}, r"float64.*got torch.float32 \(3,\)"),
        ({"angles": torch.zeros(3, 1, dtype=torch.float64)}, r"\(n_angles,\).*got .*\(3, 1\)"),
        ({"angles": torch.tensor([np.nan, 1], dtype=torch.float64)}, "finite, got .*nan"),
        ({"n_det": 0}, "n_det must be at least 1, got 0"),
        ({"filter_name": "Hann"}, f"one of {', '.join(WINDOWS)}; got Hann"),
        ({"dtype": torch.float16}, "torch.float32 or torch.float64, got torch.float16"),
        ({"shape": (30000, 30000)}, r"2700180003 .*expected less than 2\^31.*fewer"),
        ({"n_det": 2**31}, r"expected less than 2\^31"),
    ],
)
def test_unfit_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Radon(**{"shape": (37, 31), "angles": ANGLES["one"], **arguments})
