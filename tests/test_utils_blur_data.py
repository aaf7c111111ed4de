"""Drawn blurs, and the files of kernels and weights, good and bad."""

import hashlib
import math

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data, transform
from test_operators_bkse import public_shapes, random_state

from utils import blur_data
from utils.errors import InputError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def global_random_state_stays():
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()
    yield
    assert torch.equal(torch.get_rng_state(), torch_state)
    for before, after in zip(numpy_state, np.random.get_state()):
        assert np.array_equal(before, after)


# Drawn kernels


@pytest.mark.parametrize("size, n_steps", [(64, 40), (33, 40), (13, 5), (6, 1), (3, 40)])
def test_motion_kernels_are_centred_paths(size, n_steps):
    for seed in range(20):
        kernel = blur_data.motion_kernel(size, generator(seed), n_steps)
        assert kernel.shape == (size, size) and kernel.dtype == torch.float32
        assert kernel.min() >= 0 and abs(kernel.sum() - 1) < 1e-6
        kernel = kernel.double().numpy()
        index = np.arange(size)
        centre = kernel.sum(axis=1) @ index, kernel.sum(axis=0) @ index
        np.testing.assert_allclose(centre, size // 2, atol=1e-4)
        rows, columns = np.nonzero(kernel)
        side = max(np.ptp(rows), np.ptp(columns))
        # A path that does not fit around its centre is shorter; each end touches two pixels.
        assert 0.25 * size - 1 <= side <= size / 2 + 2


def test_a_motion_kernel_is_the_walk_step_by_step():
    size, n_steps = 21, 7
    draws = torch.rand(15, generator=generator(4), dtype=torch.float64).tolist()
    vy, vx = (math.sqrt(2) * f(2 * math.pi * draws[0]) for f in (math.sin, math.cos))
    y = x = 0.0
    points = []
    for step in range(n_steps):
        vy += 0.5 * (2 * draws[1 + 2 * step] - 1)
        vx += 0.5 * (2 * draws[2 + 2 * step] - 1)
        for part in range(size):
            points.append((y + vy * (part + 0.5) / size, x + vx * (part + 0.5) / size))
        y, x = y + vy, x + vx
    points = np.array(points)
    points = (points - points.mean(axis=0)) * (size / 2) / np.ptp(points, axis=0).max() + size // 2
    expected = np.zeros((size, size))
    for y, x in points:
        i, j = math.floor(y), math.floor(x)
        for di, wy in ((0, 1 - (y - i)), (1, y - i)):
            for dj, wx in ((0, 1 - (x - j)), (1, x - j)):
                expected[i + di, j + dj] += wy * wx / len(points)
    kernel = blur_data.motion_kernel(size, generator(4), n_steps)
    np.testing.assert_allclose(kernel.numpy(), expected, atol=1e-7)


def test_motion_kernels_follow_their_seed_and_turn():
    one, two, other = (blur_data.motion_kernel(64, generator(s)) for s in (0, 0, 1))
    assert torch.equal(one, two) and not torch.equal(one, other)
    spreads = []
    for turn in (0.0, 0.5):
        kernel = blur_data.motion_kernel(64, generator(2), turn=turn).double().numpy()
        i, j = np.mgrid[-32:32, -32:32]
        covariance = np.array([[(kernel * a * b).sum() for a in (i, j)] for b in (i, j)])
        spreads.append(np.linalg.eigvalsh(covariance)[0])
    assert spreads[0] < 0.3 < spreads[1]  # pixels squared, across the path
    for size, n_steps in ((2, 40), (64, 0)):
        with pytest.raises(ValueError, match=f"got {size} and {n_steps}"):
            blur_data.motion_kernel(size, generator(), n_steps)


def test_weights_are_smooth_and_sum_to_one():
    weights = blur_data.smooth_weights((96, 130), 5, generator())
    assert weights.shape == (5, 96, 130) and weights.dtype == torch.float32
    assert weights.min() >= 0
    torch.testing.assert_close(weights.sum(dim=0), torch.ones(96, 130), rtol=0, atol=1e-6)
    for dim, side in ((1, 96), (2, 130)):
        steps = weights.diff(dim=dim)
        assert steps.abs().max() < 8 / side
        assert steps.diff(dim=dim).abs().max() < 80 / side**2
    assert (weights.amax(dim=(1, 2)) - weights.amin(dim=(1, 2))).min() > 0.2


@pytest.mark.parametrize("side", [128, 256, 512])
def test_a_camera_blur_is_strong_but_leaves_something(side):
    photo = transform.resize(data.astronaut() / 255, (side, side), anti_aliasing=True)
    x = torch.from_numpy(photo.transpose(2, 0, 1)[None].copy()).float()
    for seed in range(3):
        y = blur_data.camera_blur((3, side, side), generator(seed))(x)
        assert 20 < -10 * (y - x).square().mean().log10() < 25


def test_camera_blurs_follow_their_seed():
    shape = (1, 60, 45)
    one, two, other = (blur_data.camera_blur(shape, generator(s)) for s in (0, 0, 1))
    x = torch.rand(1, *shape, generator=generator())
    assert torch.equal(one(x), two(x)) and not torch.equal(one(x), other(x))
    A = blur_data.camera_blur(shape, generator(), n_kernels=2, kernel_size=8)
    assert A.kernels.shape == (2, 8, 8) and A.weights.shape == (2, 60, 45)
    assert (A.kernels[0] != A.kernels[1]).any()


def test_bkse_kernels_are_those_of_numpys_global_seed():
    state = np.random.get_state()
    np.random.seed(0)
    expected = torch.from_numpy(np.random.randn(1, 512, 2, 2) * 1.2).float()
    np.random.set_state(state)
    kernel = blur_data.bkse_kernel((3, 256, 256), 0)
    assert kernel.dtype == torch.float32 and torch.equal(kernel, expected)
    assert abs(kernel[0, 0, 0, 0] - 1.2 * 1.764052346) < 1e-6
    assert blur_data.bkse_kernel((3, 128, 384), 1).shape == (1, 512, 1, 3)
    for match, shape, seed in [("128 pixels, got 256x200", (3, 256, 200), 0),
                               ("seed 4294967296", (3, 128, 128), 2**32)]:  # fmt: skip
        with pytest.raises(InputError, match=match):
            blur_data.bkse_kernel(shape, seed)


# Kernel files


def write_picture(path, pixels, mode=None):
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(path)


def test_kernels_are_read_from_arrays_and_pictures(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (5, 8)).astype(np.uint8)
    expected = torch.from_numpy(values / values.sum()).float()
    np.save(tmp_path / "a.npy", values.astype(np.float64) * 1e305)
    np.savez(tmp_path / "b.npz", kernel=values, other=np.zeros(3))
    write_picture(tmp_path / "c.png", values)
    write_picture(tmp_path / "d.png", values, "RGB")
    write_picture(tmp_path / "e.png", values, "P")
    write_picture(tmp_path / "f.png", values, "LA")
    write_picture(tmp_path / "g.png", values.astype(np.uint16) * 257)
    write_picture(tmp_path / "h.TIF", values.astype(np.float32) / 255)
    for path in sorted(tmp_path.iterdir()):
        kernel = blur_data.load_kernel(path)
        assert kernel.dtype == torch.float32 and abs(kernel.sum() - 1) < 1e-6
        torch.testing.assert_close(kernel, expected, rtol=1e-6, atol=1e-9, msg=path.name)


def test_unfit_kernels_are_refused(tmp_path):
    good = np.ones((4, 4))
    negative, nan = good.copy(), good.copy()
    negative[1, 2], nan[1, 2] = -1, np.nan
    for match, array in [
        (r"more than 1x1, got shape \(4, 4, 4\)", np.ones((4, 4, 4))),
        (r"more than 1x1, got shape \(1, 1\)", good[:1, :1]),
        (r"an empty array, \(0, 4\)", good[:0]),
        ("minimum of -1", negative),
        ("NaN or Inf", nan),
        ("NaN or Inf", good * np.inf),
        ("all zeros", 0 * good),
        ("real numbers, got complex128", good + 0j),
        ("real numbers, got <U1", good.astype(str).astype("<U1")),
    ]:
        np.save(tmp_path / "bad.npy", array)
        with pytest.raises(InputError, match=match):
            blur_data.load_kernel(tmp_path / "bad.npy")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.npy").mkdir()
    (tmp_path / "text.png").write_text("not a picture")
    np.savez(tmp_path / "two.npz", a=good, b=good)
    write_picture(tmp_path / "zero.png", np.zeros((4, 4), np.uint8))
    write_picture(tmp_path / "colour.png", np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    write_picture(tmp_path / "clear.png", np.full((4, 4, 4), 7, np.uint8))
    noise = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    write_picture(tmp_path / "whole.png", noise)
    np.save(tmp_path / "whole.npy", noise)
    for name in ("whole.png", "whole.npy"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name.replace("whole", "cut")).write_bytes(whole[: len(whole) // 2])
        (tmp_path / name.replace("whole", "empty")).write_bytes(b"")
    for match, name in [
        ("no such file", "none.npy"), ("no such file", "none.png"), ("got a folder", "folder.png"),
        ("got a folder", "folder.npy"), ("not a readable", "text.png"),
        ("one named `kernel`", "two.npz"), ("all zeros", "zero.png"), ("coloured", "colour.png"),
        ("transparent", "clear.png"), ("not a readable", "cut.png"), ("not a readable", "cut.npy"),
        ("not a readable", "empty.png"), ("not a readable", "empty.npy"),
    ]:  # fmt: skip
        with pytest.raises(InputError, match=match) as caught:
            blur_data.load_kernel(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)


def test_bkse_kernels_are_read_and_unfit_ones_are_refused(tmp_path):
    kernel = blur_data.bkse_kernel((3, 128, 256), 3)
    np.save(tmp_path / "a.npy", kernel.double().numpy())
    torch.save(kernel, tmp_path / "b.pth")
    torch.save(kernel.double(), tmp_path / "c.pth", _use_new_zipfile_serialization=False)
    for name in ("a.npy", "b.pth", "c.pth"):
        loaded = blur_data.load_bkse_kernel(tmp_path / name)
        assert loaded.dtype == torch.float32 and torch.equal(loaded, kernel)
    nan = kernel.clone()
    nan[0, 5] = torch.nan
    for match, value in [
        (r"H / 128, W / 128\), got \(512, 1, 2\)", kernel[0]),
        (r"got \(1, 256, 1, 2\)", kernel[:, :256].clone()),
        (r"\(1, 512, 0, 2\)", kernel[:, :, :0].clone()),
        ("NaN or Inf", nan),
    ]:
        np.save(tmp_path / "bad.npy", value.numpy())
        torch.save(value, tmp_path / "bad.pth")
        for name in ("bad.npy", "bad.pth"):
            with pytest.raises(InputError, match=match):
                blur_data.load_bkse_kernel(tmp_path / name)
    np.save(tmp_path / "huge.npy", kernel.double().numpy() * 1e300)
    torch.save({"kernel": kernel}, tmp_path / "dict.pth")
    torch.save(kernel.long(), tmp_path / "long.pth")
    np.save(tmp_path / "long.npy", kernel.long().numpy())
    whole = (tmp_path / "b.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    flipped = bytearray(whole)
    flipped[whole.index(kernel.numpy().tobytes()) + 9] ^= 1
    (tmp_path / "flipped.pth").write_bytes(flipped)
    for match, name in [
        ("no such file", "none.pth"), ("got a folder", ""), ("got dict", "dict.pth"),
        ("NaN or Inf", "huge.npy"), ("got torch.int64", "long.pth"), ("got int64", "long.npy"),
        ("damaged or cut short", "cut.pth"), ("damaged", "flipped.pth"),
    ]:  # fmt: skip
        with pytest.raises(InputError, match=match):
            blur_data.load_bkse_kernel(tmp_path / name)


# Weights


def thin_state():
    """Return weights of the right names and shapes that take no room in a file."""
    return {name: torch.zeros(1).expand(shape) for name, shape in public_shapes().items()}


def test_weights_come_from_the_file_without_its_kernel_extractor(tmp_path):
    state = random_state()
    extractor = {f"kernel_extractor.model.{i}.weight": torch.zeros(3, 3) for i in (1, 4)}
    path = tmp_path / "weights.pth"
    torch.save({**extractor, **state}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    net = blur_data.load_bkse_weights(path, digest.upper())
    assert not net.training and not any(p.requires_grad for p in net.parameters())
    loaded = net.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], weight) for name, weight in state.items())
    path.unlink()  # 95 MB


def test_weights_that_do_not_fit_are_refused_by_name(tmp_path):
    path = tmp_path / "weights.pth"
    name = "adapter.model.submodule.up.1.weight"
    whole = thin_state()
    torch.save(whole, path)
    assert blur_data.load_bkse_weights(path, None).adapter.model.up[1].weight.shape[0] == 128
    part = {n: weight for n, weight in whole.items() if n.startswith("recon_trunk.")}
    for match, state in [
        (f"lacks `{name}`, 1 in all", {n: w for n, w in whole.items() if n != name}),
        (f"lacks `feature_extractor.0.weight`, {len(whole) - len(part)} in all", part),
        (f"lacks .* {len(whole)} in all", {f"module.{n}": w for n, w in whole.items()}),
        ("unknown `extra.bias`, 1 in all", {**whole, "extra.bias": torch.zeros(3)}),
        ("unknown `kernel_extractor_2.weight`, 1", {**whole, "kernel_extractor_2.weight": 0}),
        (rf"`{name}` to be .* \(256, 64, 4, 4\), got .* \(64, 256, 4, 4\)",
         {**whole, name: whole[name].transpose(0, 1)}),
        (f"`{name}` to be .* got torch.float64", {**whole, name: whole[name].double()}),
        (f"`{name}` to be .* got int", {**whole, name: 3}),
        (f"`{name}` holds NaN", {**whole, name: whole[name] * torch.nan}),
        ("state dict .* got dict", {0: torch.zeros(3)}),
        ("state dict .* got torch.float32", torch.zeros(3)),
    ]:  # fmt: skip
        torch.save(state, path)
        with pytest.raises(InputError, match=match):
            blur_data.load_bkse_weights(path, None)


def test_damaged_and_foreign_weight_files_are_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(thin_state(), path)
    whole = path.read_bytes()
    digest = hashlib.sha256(whole).hexdigest()
    with pytest.raises(InputError, match=f"expected the SHA-256 {'0' * 64}, got {digest}"):
        blur_data.load_bkse_weights(path, "0" * 64)
    torch.save(thin_state(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert blur_data.load_bkse_weights(tmp_path / "old.pth", None)
    old = (tmp_path / "old.pth").read_bytes()
    bad = tmp_path / "bad.pth"
    contents = [content[: len(content) * part // 10] for content in (whole, old)
                for part in (0, 1, 5, 9)]  # fmt: skip
    for content in [*contents, whole[:-1], old[:-1], b"<html>quota exceeded</html>"]:
        bad.write_bytes(content)
        with pytest.raises(InputError, match="damaged or cut short") as caught:
            blur_data.load_bkse_weights(bad, None)
        assert "\n" not in str(caught.value)
    for match, name in [("no such file", "none.pth"), ("got a folder", "")]:
        with pytest.raises(InputError, match=match):
            blur_data.load_bkse_weights(tmp_path / name, digest)
