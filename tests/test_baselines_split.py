"""Split DIP: what its parts do not see, what they are filled with, what it learns of it."""

import numpy as np
import pytest
import torch
from conftest import small_kspace
from scipy.ndimage import correlate1d

from baselines.linear import linear
from baselines.split_dip import (
    choose,
    classical,
    orientations,
    part,
    recorrupted,
    reordered,
    split_dip,
)
from baselines.tv import tv
from baselines.vanilla_dip import vanilla_dip
from models import members
from models.members import with_shuffled_weights
from models.unet import UNet
from operators.blur import LinearBlur
from operators.downsample import Downsample
from operators.mri import MultiCoilMRI
from operators.pixels import Identity, PixelMask
from operators.radon import Radon
from operators.subset import Subset
from utils import mri_data
from utils.callback import Callback


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def mri():
    kspace = small_kspace(32, 36, n_coils=3)
    mask = mri_data.cartesian_mask(np.ones((32, 36), bool), 3, 0.2, "random", rng())
    maps = mri_data.normalise_maps(mri_data.ifft2c(kspace))
    A = MultiCoilMRI(torch.from_numpy(maps), torch.from_numpy(mask))
    return A, torch.from_numpy(mask * kspace)[None]


def ct():
    return Radon((24, 24), torch.arange(10, dtype=torch.float64) * torch.pi / 10)


def box(side=40, hole=12):
    mask = torch.ones(side, side, dtype=torch.bool)
    mask[10 : 10 + hole, 14 : 14 + hole] = False
    return PixelMask(mask, 3)


def scattered(share=0.1, side=40):
    return PixelMask(torch.rand(side, side, generator=rng(3)) < share, 3)


def test_held_out_columns_lie_outside_the_centre():
    A, _ = mri()
    held = choose(A, 0.2, rng())
    columns = held[0].any(dim=0)
    assert held.shape == A.out_shape and torch.equal(held[0], A.mask & columns)
    assert 0 < columns.sum() < A.mask.any(dim=0).sum() / 2
    assert not columns[14:22].any()


def test_of_a_large_hole_a_moved_copy_is_held_out():
    A = box()
    shapes = set()
    for seed in range(4):
        held = choose(A, 0.2, rng(seed))
        assert held.shape == A.out_shape and not (held & ~A.mask).any()
        assert 0 < held[0].sum() <= (~A.mask).sum()
        shapes.add(tuple(held[0].nonzero()[0].tolist()))
    assert len(shapes) > 1


def test_of_scattered_pixels_a_share_is_held_out():
    A = scattered()
    held = choose(A, 0.3, rng())
    assert not (held & ~A.mask).any()
    assert held[0].sum() == round(0.3 * A.mask.sum().item())


def test_of_ct_whole_views_are_held_out():
    A = ct()
    held = choose(A, 0.2, rng())
    assert held.shape == A.out_shape
    assert (held == held[:, :, :1]).all() and held[0, :, 0].sum() == 2


def test_what_is_seen_weighs_as_it_is_told_to():
    A = ct()
    y = A(torch.rand(1, *A.in_shape, generator=rng(5)))

    class Spy(Callback):
        def record(self, k, x, terms):
            found.append([float(terms[name]) for name in ("loss", "unseen_term", "data_term")])

    for weight in (1.0, 0.3, 0.0):
        found = []
        net = UNet(1, 1, 4, 2, 0.02, rng())
        split_dip(y, A, net, parts=3, start_iter=5, data_weight=weight, steps=3, callback=Spy())
        loss, unseen, data = np.array(found).T
        np.testing.assert_allclose(loss, unseen + weight * data, rtol=1e-6)
        assert (data > 0).all() and len(loss) == 3


def small():
    return Downsample((3, 48, 48), 4, "average")


def test_of_super_resolution_small_pixels_are_held_out():
    held = choose(small(), 0.25, rng())
    assert held.shape == (3, 12, 12) and torch.equal(held[0], held[2])
    assert held[0].sum() == 36


@pytest.mark.parametrize("task", ["mri", "ct", "box", "scattered", "small"])
def test_a_part_is_filled_without_what_it_does_not_see(task):
    A = {"mri": mri, "ct": ct, "box": box, "scattered": scattered, "small": small}[task]()
    A, y = A if task == "mri" else (A, A(torch.rand(1, *A.in_shape, generator=rng(5))))
    held = choose(A, 0.2, rng())
    z = classical(y, A, 20, held)
    assert torch.equal(z, classical(torch.where(held, 7, y), A, 20, held))
    assert not torch.equal(z, classical(y, A, 20))


def test_the_weight_of_total_variation_in_ct_follows_the_noise():
    """Of the views that are kept, for each input and for that of the whole."""
    A, seen = ct(), []
    y = A(torch.rand(1, 1, 24, 24, generator=rng(5)))
    held = choose(A, 0.2, rng())
    kept = ~held[0, :, 0]
    few = Radon((24, 24), A.angles[kept], A.out_shape[-1])
    expected = tv(y[:, :, kept], few, sigma=3.0, max_iter=20)
    assert torch.equal(classical(y, A, 20, held, sigma=3.0), expected)
    assert not torch.allclose(expected, classical(y, A, 20, held), rtol=0.01)

    class Start(Callback):
        def start(self, z0=None, **state):
            seen.append(z0)
            return z0

    net = UNet(1, 1, 4, 2, 0.02, rng())
    split_dip(y, A, net, sigma=3.0, parts=2, start_iter=20, steps=1, callback=Start())
    assert torch.equal(seen[0], tv(y, A, sigma=3.0, max_iter=20))


def test_it_learns_to_fill_holes_from_the_picture_itself():
    """Stripes: an interpolation cannot know them, a network that has seen others can."""
    row, column = torch.meshgrid(*[torch.arange(48.0)] * 2, indexing="ij")
    x_true = (0.5 + 0.4 * torch.sin(row * 1.3 + 0.2 * column)).expand(1, 3, 48, 48)
    A = box(48, 8)
    y = A(x_true)
    net = UNet(3, 3, 8, 2, 0.02, rng())

    x = split_dip(y, A, net, parts=24, steps=250, lr=5e-3)

    hole = ~A.mask
    error, filled = ((image - x_true)[..., hole].square().mean() for image in (x, linear(y, A)))
    assert error < 0.5 * filled


def test_it_denoises_beyond_half_of_the_noise_without_a_stop():
    row, column = torch.meshgrid(*[torch.arange(48.0)] * 2, indexing="ij")
    x_true = (0.5 + 0.3 * torch.sin(row * 0.3 + 0.2 * column)).expand(1, 3, 48, 48)
    sigma = 0.1
    y = x_true + sigma * torch.randn(x_true.shape, generator=rng(1))
    net = UNet(3, 3, 8, 2, 0.02, rng())
    x = split_dip(y, Identity((3, 48, 48)), net, sigma=sigma, steps=250, lr=5e-3)
    assert (x - x_true).square().mean().sqrt() < 0.35 * sigma


def test_the_two_images_of_a_noisy_one_have_independent_noise():
    x_true, sigma, alpha = torch.zeros(1, 1, 400, 400), 0.2, 0.5
    y = x_true + sigma * torch.randn(x_true.shape, generator=rng(1))
    draw, _ = recorrupted(y, sigma, alpha, rng(2))
    z, unseen, target = draw()
    assert unseen.all()
    assert z.var().item() == pytest.approx((1 + alpha**2) * sigma**2, rel=0.02)
    assert target.var().item() == pytest.approx((1 + 1 / alpha**2) * sigma**2, rel=0.02)
    assert abs((z * target).mean().item()) < 0.01 * sigma**2 * 2.5


def test_the_two_images_are_independent_where_neighbours_share_the_noise_too():
    """The noise is drawn with another library; with white noise added, neighbours would correlate."""
    h = torch.zeros(1, 1, 4, 4)
    h[0, 0, 0, :2] = 0.5**0.5  # each pixel and its right neighbour
    white = 0.2 * torch.randn(1, 1, 400, 400, generator=rng(1))
    y = torch.from_numpy(correlate1d(white.numpy(), [0.5**0.5, 0.5**0.5], origin=0, mode="wrap"))
    for noise_filter, correlation in ((h, 0.0), (None, 0.5)):
        draw, _ = recorrupted(y, 0.2, 0.5, rng(2), noise_filter)
        z, _, target = draw()
        assert z.var().item() == pytest.approx(1.25 * 0.2**2, rel=0.03)
        apart = (z * target.roll(1, -1)).mean().item() / 0.2**2
        assert apart == pytest.approx(correlation, abs=0.03)


def soft(side=48, channels=3):
    kernel = torch.ones(5, 5) / 25
    return LinearBlur(kernel, (channels, side, side))


def test_the_two_measurements_of_a_blurred_picture_have_independent_noise():
    A, sigma, alpha = soft(200, 1), 0.2, 0.5
    y = sigma * torch.randn(1, *A.out_shape, generator=rng(1))
    piece = part(y, A, 0.2, sigma, alpha, rng(2))
    assert piece.left_out is None and piece.unseen.all()
    assert piece.measured.var().item() == pytest.approx((1 + alpha**2) * sigma**2, rel=0.03)
    assert piece.target.var().item() == pytest.approx((1 + 1 / alpha**2) * sigma**2, rel=0.03)
    assert abs((piece.measured * piece.target).mean().item()) < 0.02 * sigma**2 * 2.5


def test_it_deblurs_better_than_the_image_that_it_starts_from():
    """A texture that total variation flattens."""
    row, column = torch.meshgrid(*[torch.arange(48.0)] * 2, indexing="ij")
    x_true = (0.5 + 0.3 * torch.sin(row * 0.7 + 0.5 * column)).expand(1, 3, 48, 48)
    A, sigma = soft(), 0.02
    y = A(x_true) + sigma * torch.randn(x_true.shape, generator=rng(1))
    net = UNet(3, 3, 8, 2, 0.02, rng())
    x = split_dip(y, A, net, sigma=sigma, parts=8, start_iter=40, steps=600, lr=7e-3)
    error, start = (
        (image - x_true).square().mean()
        for image in (x, classical(y, A, 100, lambda_tv=0.15 * sigma))
    )
    assert error < 0.7 * start


@pytest.mark.parametrize("shape", [(5, 5), (4, 7)])
def test_all_orientations_are_there_and_lead_back(shape):
    there, back = orientations(shape, torch.device("cpu"))
    x = torch.rand(1, 2, *shape, generator=rng())
    turned = [reordered(x, order) for order in there]
    assert torch.equal(turned[0], x)
    assert torch.equal(turned[len(there) // 2], x.flip(-1))
    square = shape[0] == shape[1]
    assert torch.equal(turned[1], torch.rot90(x, 1 if square else 2, (-2, -1)))
    assert len({image.numpy().tobytes() for image in turned}) == (8 if square else 4)
    for image, order in zip(turned, back, strict=True):
        assert torch.equal(reordered(image, order), x)


def test_a_regular_mask_is_split_too():
    """Moved by one row, every second row would hide all that is known."""
    mask = torch.zeros(40, 40, dtype=torch.bool)
    mask[::2] = True
    held = choose(PixelMask(mask, 3), 0.2, rng())
    assert 0 < held[0].sum() <= mask.sum() / 2 and not (held[0] & ~mask).any()


def test_bad_arguments_are_refused():
    y = torch.zeros(1, 3, 40, 40)
    with pytest.raises(ValueError, match="needs all measurements in this task"):
        split_dip(y, Subset(box(), torch.ones(3, 40, 40, dtype=torch.bool)), None)
    few = torch.zeros(40, 40, dtype=torch.bool)
    few[0, :3] = True
    with pytest.raises(ValueError, match="4 known pixels, got 3"):
        split_dip(y, PixelMask(few, 3), None)
    with pytest.raises(ValueError, match="two views"):
        split_dip(torch.zeros(1, 1, 1, 12), Radon((8, 8), torch.zeros(1).double()), None)
    with pytest.raises(ValueError, match="sigma and alpha above 0.* None"):
        split_dip(y, Identity((3, 40, 40)), None)
    with pytest.raises(ValueError, match="sigma and alpha above 0.* -1"):
        split_dip(y, soft(40), None, sigma=-1.0)
    with pytest.raises(ValueError, match="parts.* at least 1, got 0"):
        split_dip(y, box(), None, parts=0)


def test_each_network_begins_with_the_weights_of_the_first_in_another_order():
    net = UNet(3, 3, 8, 2, 0.02, rng())
    before = [w.clone() for w in net.parameters()]
    other = with_shuffled_weights(net, rng(1))
    for w, first, shuffled in zip(net.parameters(), before, other.parameters(), strict=True):
        assert torch.equal(w, first)
        assert torch.equal(w.flatten().sort().values, shuffled.flatten().sort().values)
    z = torch.rand(1, 3, 16, 16, generator=rng(2))
    assert not torch.allclose(net(z), other(z), rtol=0.1)


@pytest.mark.parametrize("method", [split_dip, vanilla_dip])
def test_the_image_is_the_mean_of_the_networks_own(monkeypatch, method):
    """Networks that put out their number, and do not learn, have a mean that is known."""

    class Constant(torch.nn.Module):
        in_channels = 3

        def __init__(self, value):
            super().__init__()
            self.value = torch.nn.Parameter(torch.tensor(value))

        def forward(self, z):
            return self.value.expand_as(z)

    numbers = iter((0.5, 0.9))
    monkeypatch.setattr(members, "with_shuffled_weights", lambda net, rng: Constant(next(numbers)))
    A = box(40, 8)
    x = method(A(torch.rand(1, 3, 40, 40)), A, Constant(0.1), members=3, steps=1, lr=1e-9)
    torch.testing.assert_close(x, torch.full_like(x, 0.5))
