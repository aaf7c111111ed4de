"""Measurements that are held out: which ones, and that nothing of them is used any more."""

import numpy as np
import pytest
import torch
from skimage.data import shepp_logan_phantom
from skimage.transform import resize
from test_operators_bkse import make_net
from test_operators_blur import make_camera, make_kernel

from operators.blur import BKSEBlur, LinearBlur
from operators.mri import MultiCoilMRI
from operators.pixels import Identity, PixelMask
from operators.radon import Radon, equispaced_angles
from operators.subset import Subset
from utils.holdout import central_columns, central_square, hold_out, without
from utils.mri_data import calibration_size, cartesian_mask

SHAPES = [(32, 32), (37, 31), (30, 41)]
SHARE = 0.2


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=generator(seed))


def line_mask(shape, kind="random", acquired=None, acceleration=3, seed=0):
    acquired = np.ones(shape, dtype=bool) if acquired is None else acquired
    mask = cartesian_mask(acquired, acceleration, 0.15, kind, generator(seed))
    return torch.from_numpy(mask)


def point_mask(shape, side=8, seed=0):
    mask = torch.rand(shape, generator=generator(seed)) < 0.3
    top, left = (n // 2 - side // 2 for n in shape)
    mask[top : top + side, left : left + side] = True
    return mask


def make_mri(mask, n_coils=3):
    return MultiCoilMRI(random(n_coils, *mask.shape, dtype=torch.complex128), mask)


def operators(shape):
    """Return an operator of each kind that has an adjoint, with its images' dtype."""
    mask = torch.rand(shape, generator=generator()) < 0.6
    angles = equispaced_angles(7)
    return {
        "identity": Identity((3, *shape)),
        "pixels": PixelMask(mask, 3),
        "blur": LinearBlur(make_kernel(4, 5), (3, *shape)),
        "radon": Radon(shape, angles, dtype=torch.float64),
        "mri lines": make_mri(line_mask(shape)),
        "mri points": make_mri(point_mask(shape)),
    }


NAMES = list(operators(SHAPES[0]))


def make(name, shape=SHAPES[1]):
    A = operators(shape)[name]
    held = hold_out(A, SHARE, generator(1))
    dtype = torch.complex128 if name.startswith("mri") else torch.float64
    return A, held, dtype


# What is left


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_the_adjoint_is_exact_and_autograd_s(name, shape):
    A, held, dtype = make(name, shape)
    B = without(A, held)
    assert (B.in_shape, B.out_shape) == (A.in_shape, A.out_shape)
    x = random(2, *A.in_shape, dtype=dtype)
    y = random(2, *A.out_shape, dtype=dtype, seed=2)
    assert B(x).shape == y.shape and B.adjoint(y).shape == x.shape
    left, right = (B(x).conj() * y).sum(), (x.conj() * B.adjoint(y)).sum()
    assert abs(left - right) <= 1e-10 * B(x).norm() * y.norm()
    _, vjp = torch.func.vjp(B, x)
    torch.testing.assert_close(vjp(y)[0], B.adjoint(y), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_the_rest_is_measured_as_before(name):
    A, held, dtype = make(name)
    x = random(1, *A.in_shape, dtype=dtype)
    y = without(A, held)(x)
    assert held.any() and not held.all()
    assert torch.equal(y[:, ~held], A(x)[:, ~held]) and (y[:, held] == 0).all()
    if name != "radon":  # some of its rays miss the image
        assert (A(x)[:, held] != 0).all()  # all that is held out had been measured


@pytest.mark.parametrize("name", NAMES)
def test_held_out_values_have_no_influence(name):
    A, held, dtype = make(name)
    B = without(A, held)
    y = A(random(1, *A.in_shape, dtype=dtype))
    # MultiCoilMRI's mask multiplies, so that it ignores only finite values.
    other = torch.where(held, 1e6 if name.startswith("mri") else torch.nan, y)
    for reconstruct in (B.adjoint, B.pinv):
        assert torch.equal(reconstruct(y), reconstruct(other))
        assert reconstruct(y).isfinite().all()
    x = random(1, *A.in_shape, dtype=dtype).requires_grad_()
    residuals = [B(x) - torch.where(held, 0, measured) for measured in (y, other)]
    gradients = [torch.autograd.grad(r.abs().square().sum(), x)[0] for r in residuals]
    assert torch.equal(gradients[0], gradients[1])


def test_masks_shrink_and_others_become_subsets():
    for name in NAMES:
        A, held, _ = make(name)
        B = without(A, held)
        if name == "pixels" or name.startswith("mri"):
            assert type(B) is type(A) and torch.equal(B.mask, A.mask & ~held[0])
        else:
            assert type(B) is Subset and B.A is A and torch.equal(B.keep, ~held)


def test_operators_without_an_adjoint_can_be_parted():
    camera = make_camera((3, 37, 31))
    bkse = BKSEBlur(make_net(), torch.zeros(1, 512, 1, 1), (3, 128, 128))
    for A, dtype in ((camera, torch.float64), (bkse, torch.float32)):
        held = hold_out(A, SHARE, generator())
        B = without(A, held)
        x = torch.rand(1, *A.in_shape, dtype=dtype, generator=generator())
        assert torch.equal(B(x), torch.where(held, 0, A(x)))
        assert B.pinv(x).shape == x.shape
        with pytest.raises(AttributeError):
            B.adjoint(x)


def test_gaps_are_closed_along_the_last_axis():
    nan = torch.nan
    y = torch.tensor([[[[nan, nan, 1.0, nan, nan, 7.0, nan]], [[nan] * 7], [[2.0] * 7]]])
    keep = y[0].isfinite()
    B = Subset(Identity((3, 1, 7)), keep)
    expected = [[1.0, 1.0, 1.0, 3.0, 5.0, 7.0, 7.0], [0.0] * 7, [2.0] * 7]
    assert B.pinv(y)[0, :, 0].tolist() == expected
    assert B.pinv(torch.cat([y, 2 * y]))[1, :, 0].tolist() == (2 * np.array(expected)).tolist()
    complex_row = torch.where(keep, 1j * y, nan)
    assert B.pinv(complex_row)[0, 0, 0].imag.tolist() == expected[0]


def test_filtered_back_projection_hardly_loses():
    x = torch.from_numpy(resize(shepp_logan_phantom(), (128, 128), anti_aliasing=True))[None, None]
    A = Radon((128, 128), equispaced_angles(18), dtype=torch.float64)
    y = A(x)
    held = hold_out(A, 0.05, generator())

    def psnr(x_hat):
        return -10 * torch.log10((x_hat - x).square().mean()).item()

    assert psnr(without(A, held).pinv(y)) > psnr(A.pinv(y)) - 0.1
    assert psnr(A.pinv(torch.where(held, 0, y))) < psnr(A.pinv(y)) - 5  # without closing the gaps


# What is held out


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1, 0.5])
@pytest.mark.parametrize("name", NAMES)
def test_the_share_is_as_asked_for_and_the_same_in_all_channels(name, share):
    A = operators((37, 31))[name]
    held = hold_out(A, share, generator(3))
    assert held.shape == A.out_shape and held.dtype == torch.bool and held.device.type == "cpu"
    assert torch.equal(held, held[:1].expand(A.out_shape))
    positions = held[0]
    if name == "mri lines":
        columns = A.mask.any(dim=0)
        n = int((columns & ~central_columns(columns)).sum())
        assert positions.any(dim=0).sum() == max(1, round(share * n))
    elif name == "mri points":
        n = int((A.mask & ~central_square(A.mask)).sum())
        assert positions.sum() == round(share * n)
    else:
        n = int(A.mask.sum()) if name == "pixels" else positions.numel()
        assert positions.sum() == round(share * n)


@pytest.mark.parametrize("name", NAMES)
def test_the_choice_is_the_generators_alone(name):
    A = operators((37, 31))[name]
    state = torch.get_rng_state()
    first, again, other = (hold_out(A, SHARE, generator(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_every_position_is_held_out_at_some_time_and_none_more_often():
    A = Identity((2, 5, 4))
    g = generator()
    counts = sum(hold_out(A, 0.25, g)[0].double() for _ in range(2000)) / 2000
    assert (counts - 0.25).abs().max() < 0.05


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["random", "equispaced"])
@pytest.mark.parametrize("shape", [(40, 64), (41, 63)])
def test_of_lines_whole_columns_outside_the_calibration_lines_are_held_out(shape, kind, seed):
    A = make_mri(line_mask(shape, kind, seed=seed))
    held = hold_out(A, 0.3, generator(seed))[0]
    columns = held.any(dim=0)
    assert torch.equal(held, columns.expand(shape)) and columns.sum() >= 1
    assert (A.mask & held).equal(held)
    before, left = A.mask.numpy(), without(A, held.expand(A.out_shape)).mask.numpy()
    assert calibration_size(left) == calibration_size(before) >= 6
    run = central_columns(A.mask[0])
    assert run[shape[1] // 2] and not (columns & run).any()


@pytest.mark.parametrize("shape", [(40, 64), (41, 63)])
def test_where_rows_are_sampled_rows_are_held_out(shape):
    turned = line_mask(shape[::-1])
    A = make_mri(turned.T)
    held = hold_out(A, 0.3, generator(3))[0]
    expected = hold_out(make_mri(turned), 0.3, generator(3))[0]
    assert torch.equal(held, expected.T) and torch.equal(
        held, held.any(dim=1, keepdim=True) & A.mask
    )


def test_columns_that_are_cut_off_are_still_columns():
    row, column = np.ogrid[-20:20, -30:30]
    ellipse = (row / 20) ** 2 + (column / 30) ** 2 < 1
    echo = np.ones((40, 60), dtype=bool)
    echo[:13] = False
    for acquired in (ellipse, echo):
        A = make_mri(line_mask((40, 60), acquired=acquired))
        held = hold_out(A, 0.3, generator())[0]
        assert torch.equal(held, held.any(dim=0) & A.mask)


@pytest.mark.parametrize("shape", [(40, 64), (41, 63), (64, 40)])
@pytest.mark.parametrize("side", [6, 7, 24])
def test_of_points_single_ones_outside_the_calibration_square_are_held_out(shape, side):
    A = make_mri(point_mask(shape, side))
    held = hold_out(A, 0.5, generator())
    assert (A.mask & held[0]).equal(held[0])
    before, left = A.mask.numpy(), without(A, held).mask.numpy()
    assert calibration_size(left) == calibration_size(before) >= side
    columns = held[0].any(dim=0)
    assert not torch.equal(held[0], columns & A.mask)


def test_columns_that_rows_in_the_centre_cross_are_points():
    cross = np.zeros((40, 60), dtype=bool)
    cross[:, ::3] = cross[12:28] = True
    A = make_mri(torch.from_numpy(cross))
    held = hold_out(A, 0.3, generator())[0]
    outside = A.mask & ~central_square(A.mask)
    assert (held & outside).equal(held) and held.sum() == round(0.3 * int(outside.sum()))


def test_rows_of_samples_are_not_columns():
    A = make_mri(line_mask((64, 40)).T.contiguous())
    held = hold_out(A, 0.2, generator())[0]
    assert held.any(dim=0).sum() > 1 and not torch.equal(held, held.any(dim=0) & A.mask)
    assert not (held & central_square(A.mask)).any()


def test_the_centre_is_that_of_the_calibration():
    for shape in [(12, 12), (13, 11), (10, 15)]:
        for seed in range(20):
            mask = torch.rand(shape, generator=generator(seed)) < 0.97
            side = calibration_size(mask.numpy())
            square = central_square(mask)
            if side < min(shape):
                top, left = (n // 2 - side // 2 for n in shape)
                expected = torch.zeros(shape, dtype=torch.bool)
                expected[top : top + side, left : left + side] = True
                assert torch.equal(square, expected)
    columns = torch.tensor([1, 0, 1, 1, 1, 1, 0, 1]).bool()
    assert central_columns(columns).int().tolist() == [0, 0, 1, 1, 1, 1, 0, 0]
    columns = torch.tensor([1, 1, 1, 0, 1]).bool()
    assert central_columns(columns).int().tolist() == [1, 1, 1, 0, 0]
    columns = torch.tensor([1, 1, 0, 1, 1, 0]).bool()
    assert central_columns(columns).int().tolist() == [0, 0, 0, 1, 1, 0]
    assert not central_columns(columns[:-1]).any()
    assert central_columns(torch.ones(5).bool()).all()
    assert central_square(torch.ones(4, 6).bool()).all()


def test_at_least_one_is_held_out():
    columns = torch.zeros(40, dtype=torch.bool)
    columns[[5, 18, 19, 20, 21, 22]] = True
    A = make_mri(columns.expand(30, 40))
    held = hold_out(A, 0.01, generator())
    assert held[0].any(dim=0).nonzero().flatten().tolist() == [5]
    assert hold_out(Identity((1, 4, 4)), 0.01, generator()).sum() == 1


def test_what_cannot_be_held_out_is_refused():
    for share in (0, -0.1, 0.51, 1, float("nan")):
        with pytest.raises(ValueError, match=r"share to hold out must lie in \(0, 0.5\], got"):
            hold_out(Identity((1, 4, 4)), share, generator())
    full = torch.ones(20, 20, dtype=torch.bool)
    disc = torch.hypot(*torch.meshgrid(2 * [torch.arange(20) - 10.0], indexing="ij")) < 9
    centre = torch.zeros(20, 20, dtype=torch.bool)
    centre[8:12, 8:12] = True
    empty = torch.zeros(20, 20, dtype=torch.bool)
    for A in (make_mri(full), make_mri(disc), make_mri(centre), PixelMask(empty, 3)):
        with pytest.raises(ValueError, match="nothing can be held out"):
            hold_out(A, 0.1, generator())
    for name in NAMES:
        A, held, _ = make(name)
        for wrong in (held[0], held.float(), held[:, :-1]):
            with pytest.raises(ValueError, match="selection of measurements, bool of .* got"):
                without(A, wrong)
    for name in ("pixels", "mri points"):
        A, held, _ = make(name)
        uneven = held.clone()
        uneven[0] = False
        with pytest.raises(ValueError, match="channels that differ"):
            without(A, uneven)
    with pytest.raises(ValueError, match="keeps nothing|False everywhere"):
        Subset(Identity((1, 1, 1)), torch.zeros(1, 1, 1, dtype=torch.bool))


def test_a_subset_can_be_parted_again():
    A = Identity((2, 9, 8))
    first = hold_out(A, 0.5, generator(1))
    B = without(A, first)
    second = hold_out(B, 0.5, generator(2))
    assert second.sum() == 2 * 18 and not (first & second).any()
    x = random(1, 2, 9, 8)
    assert torch.equal(without(B, second)(x), torch.where(first | second, 0, x))


def test_the_norm_is_that_of_the_whole():
    A, held, _ = make("radon")
    x = random(1, *A.in_shape)
    B = without(A, held)
    assert B.norm() == A.norm()
    assert B(x).norm() <= B.norm() * x.norm()
    keep = torch.ones(3, 8, 8, dtype=torch.bool)
    assert Subset(Identity((3, 8, 8)), keep).norm() == 1  # which has no norm()


def test_a_subset_moves_as_a_whole():
    A = Radon((16, 16), equispaced_angles(4))
    held = hold_out(A, SHARE, generator())
    for B in (without(A, held).to("meta"), without(A.to("meta"), held)):
        assert {b.device.type for b in B.buffers()} == {"meta"}
