"""k-space files, cropping, masks and sensitivity maps."""

import numpy as np
import pytest
import sigpy.mri
import torch
from conftest import small_kspace, write_fastmri

from utils import mri_data
from utils.errors import InputError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def full(height, width):
    return np.ones((height, width), dtype=bool)


# Masks


@pytest.mark.parametrize("width", [180, 320, 368, 372, 396])
@pytest.mark.parametrize("accel", [2, 4, 8])
@pytest.mark.parametrize("kind", ["random", "equispaced"])
def test_sampling_rate_is_exact_and_the_centre_is_sampled(width, accel, kind):
    mask = mri_data.cartesian_mask(full(33, width), accel, 0.32 / accel, kind, generator())
    columns = mask.any(axis=0)
    assert (mask == columns).all()
    assert abs(columns.sum() - width / accel) <= 0.5
    n_center = round(width * 0.32 / accel)
    start = width // 2 - n_center // 2
    assert columns[start : start + n_center].all()
    assert mri_data.calibration_size(mask) >= min(n_center, 33)


def test_masks_follow_their_seed_alone():
    state = torch.get_rng_state()
    one, two, other = (
        mri_data.cartesian_mask(full(8, 320), 4, 0.08, "random", generator(s)) for s in (0, 0, 1)
    )
    assert (one == two).all() and (one != other).any()
    assert torch.equal(torch.get_rng_state(), state)


def test_equispaced_lines_have_even_gaps_outside_the_centre():
    mask = mri_data.cartesian_mask(full(8, 320), 4, 0.08, "equispaced", generator(3))
    columns = np.flatnonzero(mask[0])
    for side in (columns[columns < 147], columns[columns >= 173]):
        gaps = np.diff(side)
        assert len(side) >= 26 and gaps.max() - gaps.min() <= 1


def test_random_lines_reach_every_column():
    hits = sum(
        mri_data.cartesian_mask(full(1, 40), 4, 0.05, "random", generator(s))[0].astype(int)
        for s in range(300)
    )
    assert hits.min() > 0
    others = np.delete(hits, [19, 20])
    assert abs(others - 300 * 8 / 38).max() < 5 * np.sqrt(300 * 8 / 38)


def test_zero_padded_columns_are_neither_sampled_nor_counted():
    acquired = full(20, 372)
    acquired[:, :30] = acquired[:, -42:] = False
    mask = mri_data.cartesian_mask(acquired, 4, 0.08, "random", generator())
    assert not (mask & ~acquired).any()
    assert mask.any(axis=0).sum() == 75  # of 300 acquired columns


@pytest.mark.parametrize(
    "accel, fraction, message",
    [
        (0.5, 0.1, "at least 1"),
        (4, 0.0, r"in \(0, 0.25\]"),
        (4, 0.3, r"in \(0, 0.25\]"),
        (float("nan"), 0.1, "at least 1"),
        (float("inf"), None, "at least 1"),
        (400, 0.0025, "lower --accel"),
    ],
)
def test_impossible_masks_are_refused(accel, fraction, message):
    with pytest.raises(InputError, match=message):
        mri_data.cartesian_mask(full(8, 64), accel, fraction, "random", generator())


# Undersampled scans and zero padding


def test_padding_and_shutters_are_no_holes_but_undersampling_is():
    rng = np.random.default_rng(0)
    u, v = np.meshgrid(np.linspace(-1, 1, 60), np.linspace(-1, 1, 80), indexing="ij")
    padded = full(60, 80)
    padded[:, :11] = padded[:9] = False
    assert not mri_data.has_holes(full(60, 80))
    assert not mri_data.has_holes(padded)
    assert not mri_data.has_holes(u**2 + v**2 <= 1)
    every_second = full(60, 80)
    every_second[:, ::2] = False
    assert mri_data.has_holes(every_second)
    assert mri_data.has_holes(rng.random((60, 80)) < 0.5)


def test_the_box_around_samples_leaves_out_zero_padding():
    mask = np.zeros((20, 30), dtype=bool)
    mask[2:19:4, 5] = mask[2:19:4, 27] = True
    box = mri_data.bounding_box(mask)
    assert box[2:19, 5:28].all() and box.sum() == 17 * 23


def test_the_real_brain_scan_is_recognised_as_undersampled(brain_path):
    scan = mri_data.load_scan(brain_path, None)
    assert mri_data.acquired_points(scan.kspace).mean() < 0.13
    with pytest.raises(InputError, match="--measured"):
        mri_data.crop_scan(scan, None, measured=False)
    kspace, mask = mri_data.crop_scan(scan, None, measured=True)
    assert kspace is scan.kspace and mri_data.calibration_size(mask) == 24


# Cropping


@pytest.mark.parametrize(
    "shape, crop", [((96, 73), 40), ((61, 50), 37), ((50, 61), 37), ((50, 34), 40)]
)
def test_cropping_cuts_the_centre_of_the_coil_images(shape, crop):
    rng = np.random.default_rng(0)
    kspace = rng.normal(size=(2, 3, *shape)).astype(np.float32)
    kspace = kspace[0] + 1j * kspace[1]
    scan = mri_data.Scan("x", "x", kspace, is_fastmri=True)
    cropped, acquired = mri_data.crop_scan(scan, crop, measured=False)
    h, w = (min(side, crop) for side in shape)
    expected = sigpy.resize(sigpy.ifft(kspace, axes=(-2, -1)), (3, h, w))
    np.testing.assert_allclose(mri_data.ifft2c(cropped), expected, atol=1e-5)
    assert cropped.dtype == np.complex64 and acquired.shape == (h, w) and acquired.all()
    kept, _ = mri_data.crop_scan(scan, 0, measured=False)
    assert kept is kspace


def test_cropping_keeps_the_share_of_zero_padding():
    scan = mri_data.Scan("x", "x", np.ones((2, 64, 372), np.complex64), is_fastmri=True)
    scan.kspace[:, :, :36] = scan.kspace[:, :, -36:] = 0
    _, acquired = mri_data.crop_scan(scan, None, measured=False)
    assert acquired.shape == (64, 320)
    columns = np.flatnonzero(acquired.any(axis=0))
    assert abs(len(columns) - 300 * 320 / 372) <= 1
    assert abs(columns[0] + columns[-1] - 319) <= 1


def test_measured_columns_survive_a_readout_crop():
    rng = np.random.default_rng(0)
    kspace = rng.normal(size=(2, 80, 50)).astype(np.complex64)
    columns = rng.random(50) < 0.3
    scan = mri_data.Scan("x", "x", kspace * columns)
    cropped, mask = mri_data.crop_scan(scan, 40, measured=True)
    assert cropped.shape == (2, 40, 50) and (mask == columns).all()
    scan.kspace = kspace * (rng.random((80, 50)) < 0.3)
    with pytest.raises(InputError, match="--crop 0"):
        mri_data.crop_scan(scan, 40, measured=True)


# Files


def test_fastmri_volumes_are_read_slice_by_slice(tmp_path):
    volume = np.stack([small_kspace(48, 37, 3, seed) for seed in range(4)])
    rss = np.sqrt((np.abs(mri_data.ifft2c(volume)) ** 2).sum(axis=1))
    write_fastmri(tmp_path / "knee.h5", volume, rss)
    scan = mri_data.load_scan(tmp_path / "knee.h5", 3)
    np.testing.assert_array_equal(scan.kspace, volume[3])
    assert scan.item == "knee_slice03" and scan.is_fastmri
    assert mri_data.rss_difference(scan, scan.kspace) < 1e-6
    middle = mri_data.load_scan(tmp_path / "knee.h5", None)
    np.testing.assert_array_equal(middle.kspace, volume[2])
    assert mri_data.rss_difference(middle, volume[0]) > 1e-3


def test_npy_and_npz_are_read(tmp_path, kspace):
    np.save(tmp_path / "a.npy", kspace.astype(np.complex128))
    np.savez(tmp_path / "b.npz", only=kspace)
    np.savez(tmp_path / "c.npz", other=np.zeros(3), kspace=kspace)
    for name in ("a.npy", "b.npz", "c.npz"):
        scan = mri_data.load_scan(tmp_path / name, None)
        np.testing.assert_array_equal(scan.kspace, kspace)
        assert scan.kspace.dtype == np.complex64 and scan.item == name[0]


# Noise and maps


@pytest.mark.parametrize("std", [0.02, 0.1])
def test_the_noise_is_estimated_from_the_sampled_points_alone(std):
    kspace = small_kspace(96, 80)  # with noise of its own: 0.003 in each part
    mask = mri_data.cartesian_mask(full(96, 80), 4, 0.08, "random", generator())
    y = mri_data.add_noise(kspace, mask, std, generator(1))
    expected = np.hypot(std, 0.003 * np.sqrt(2))
    assert np.isclose(mri_data.estimate_noise(y, mask), expected, rtol=0.1)


def test_noise_has_its_level_and_stays_inside_the_mask():
    mask = np.random.default_rng(0).random((64, 64)) < 0.5
    state = torch.get_rng_state()
    y = mri_data.add_noise(np.zeros((8, 64, 64), np.complex64), mask, 0.3, generator())
    assert torch.equal(torch.get_rng_state(), state)
    assert (y[:, ~mask] == 0).all() and y.dtype == np.complex64
    assert abs(np.sqrt((np.abs(y[:, mask]) ** 2).mean()) - 0.3) < 0.005
    kspace = small_kspace()
    np.testing.assert_array_equal(
        mri_data.add_noise(kspace, mask[:64, :60], 0.0, generator()), mask[:64, :60] * kspace
    )


def test_espirit_finds_the_coils_that_made_the_data(tmp_path):
    shape = (8, 96, 90)
    kspace = small_kspace(96, 90, 8)
    mask = mri_data.cartesian_mask(full(96, 90), 4, 0.2, "random", generator())
    maps = mri_data.espirit_maps(mask * kspace, mask, tmp_path)
    truth = sigpy.mri.birdcage_maps(shape, dtype=np.complex64)
    image = np.sqrt((np.abs(mri_data.ifft2c(kspace)) ** 2).sum(axis=0))
    bright = image > 0.2 * image.max()
    power = (np.abs(maps) ** 2).sum(axis=0)
    support = power > 0
    np.testing.assert_allclose(power[support], 1, atol=1e-5)
    assert support[bright].mean() > 0.99
    # Maps are known up to one phase a pixel, which their inner product does not see.
    alignment = np.abs((maps.conj() * truth).sum(axis=0))[bright & support]
    # At the image's border, where the arms touch it, the birdcage maps are not periodic.
    assert np.median(alignment) > 0.999 and (alignment > 0.97).mean() > 0.98


def test_maps_are_cached_by_content_and_never_mixed_up(tmp_path, monkeypatch):
    mask = mri_data.cartesian_mask(full(64, 60), 2, 0.3, "random", generator())
    first, second = (mask * small_kspace(seed=seed) for seed in (0, 1))
    maps = mri_data.espirit_maps(first, mask, tmp_path)
    calls = []
    calibrate = sigpy.mri.app.EspiritCalib
    monkeypatch.setattr(
        sigpy.mri.app, "EspiritCalib", lambda *a, **k: calls.append(1) or calibrate(*a, **k)
    )
    np.testing.assert_array_equal(mri_data.espirit_maps(first, mask, tmp_path), maps)
    assert calls == []
    assert (mri_data.espirit_maps(second, mask, tmp_path) != maps).any()
    assert len(calls) == 1 and len(list(tmp_path.glob("espirit_*.npz"))) == 2
    for path in tmp_path.glob("espirit_*.npz"):  # a damaged entry is made again
        path.write_bytes(path.read_bytes()[:200])
    np.testing.assert_array_equal(mri_data.espirit_maps(first, mask, tmp_path), maps)


def test_too_few_calibration_lines_are_refused(tmp_path):
    mask = mri_data.cartesian_mask(full(64, 60), 8, 0.04, "random", generator())
    with pytest.raises(InputError, match="--center-fraction"):
        mri_data.espirit_maps(mask * small_kspace(), mask, tmp_path)


def test_user_maps_are_cropped_and_normalised():
    maps = 3 * sigpy.mri.birdcage_maps((4, 50, 40), dtype=np.complex64)
    maps[:, :25] = 0
    scan = mri_data.Scan("x", "x", np.ones((4, 50, 40), np.complex64))
    fitted = mri_data.fit_maps(maps, scan, (38, 36))
    assert fitted.shape == (4, 38, 36)
    power = (np.abs(fitted) ** 2).sum(axis=0)
    np.testing.assert_allclose(power[19:], 1, atol=1e-5)
    assert (fitted[:, :19] == 0).all()
    with pytest.raises(InputError, match=r"\(4, 50, 40\) or, cropped, \(4, 38, 36\)"):
        mri_data.fit_maps(maps[:3], scan, (38, 36))


def test_the_embedded_sample_is_what_the_readme_says():
    scan = mri_data.load_sample()
    assert scan.kspace.shape == (15, 320, 320) and scan.kspace.dtype == np.complex64
    image = np.sqrt((np.abs(mri_data.ifft2c(scan.kspace)) ** 2).sum(axis=0))
    assert abs(image.max() - 1) < 1e-4 and scan.noise_std == mri_data.SAMPLE_NOISE
