"""k-space files, cropping, masks and sensitivity maps."""

import h5py
import nibabel
import numpy as np
import pytest
import scipy.io
import sigpy.mri
import torch
from conftest import DATA, small_kspace, write_fastmri

import aseqdip_mri
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


def test_a_file_is_no_kind_of_mask():
    with pytest.raises(ValueError, match="kind of mask .*random.* got m.npy"):
        mri_data.cartesian_mask(full(8, 64), 4, 0.08, "m.npy", generator())


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
    told = mri_data.load_scan(tmp_path / "knee.h5", 3, axes="SCHW")
    assert told.is_fastmri and (told.kspace == scan.kspace).all()


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


def test_the_noise_is_given_or_estimated(capsys):
    rng = np.random.default_rng(0)
    y = rng.normal(size=(3, 32, 32)) + 1j * rng.normal(size=(3, 32, 32))
    mask = rng.random((32, 32)) < 0.5
    size = np.sqrt(3 * mask.sum())
    assert mri_data.noise_norm(y, mask, 0.25) == pytest.approx(0.25 * size)
    assert "0.25 a point of k-space, of 1.4" in capsys.readouterr().out
    assert mri_data.noise_norm(y, mask, 0.0) == 0
    estimate = mri_data.noise_norm(y, mask, None)
    assert estimate == pytest.approx(mri_data.estimate_noise(y, mask) * size)
    assert estimate == pytest.approx(np.linalg.norm(y[:, mask]), rel=0.1)
    for wrong in (-0.1, 1.6, float("nan")):
        with pytest.raises(
            InputError, match=f"--sigma {wrong}: expected at least 0, and less than 1.4"
        ):
            mri_data.noise_norm(y, mask, wrong)


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
    with pytest.raises(InputError, match=r"--center-fraction 0\.1 or more"):  # 6 of 60
        mri_data.espirit_maps(mask * small_kspace(), mask, tmp_path)
    mask = mri_data.cartesian_mask(full(64, 60), 15, 0.06, "random", generator())  # 4 lines in all
    with pytest.raises(InputError, match=r"--accel has chosen the lines take one of at most 10"):
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


# What people bring


def test_coils_are_found_last_and_the_order_of_axes_can_be_said(tmp_path, kspace, capsys):
    np.save(tmp_path / "last.npy", np.moveaxis(kspace, 0, -1))
    np.save(tmp_path / "middle.npy", np.moveaxis(kspace, 0, 1))
    scipy.io.savemat(tmp_path / "m.mat", {"ksp": np.moveaxis(kspace, 0, -1), "fov": 220.0})
    for name in ("last.npy", "middle.npy", "m.mat"):
        scan = mri_data.load_scan(tmp_path / name, None)
        np.testing.assert_array_equal(scan.kspace, kspace, err_msg=name)
        assert "is read as H" in capsys.readouterr().out
    volume = np.stack([kspace, 2 * kspace, 3 * kspace])
    write_fastmri(tmp_path / "last.h5", np.moveaxis(volume, 1, -1))
    np.testing.assert_array_equal(mri_data.load_scan(tmp_path / "last.h5", 2).kspace, volume[2])
    assert "6 coils last" in capsys.readouterr().out
    for axes in ("SCHW", "HWCS", "WHSC"):
        np.save(tmp_path / "v.npy", np.transpose(volume, ["SCHW".index(a) for a in axes]))
        scan = mri_data.load_scan(tmp_path / "v.npy", 2, axes=axes)
        np.testing.assert_array_equal(scan.kspace, 3 * kspace, err_msg=axes)
        assert scan.item == "v_slice02" and not scan.is_fastmri
    with pytest.raises(InputError, match="rank 4.*--axes"):
        mri_data.load_scan(tmp_path / "v.npy", None)
    for axes, words in (("CHX", "expected C"), ("CHW", "names 3 axes, the array has 4")):
        with pytest.raises(InputError, match=words):
            mri_data.load_scan(tmp_path / "v.npy", None, axes=axes)
    many = np.ones((100, 90, 40), np.complex64)  # 40 coils last, or a wide array of 100?
    np.save(tmp_path / "many.npy", many)
    with pytest.raises(InputError, match="which axis .* are the coils"):
        mri_data.load_scan(tmp_path / "many.npy", None)
    assert mri_data.load_scan(tmp_path / "many.npy", None, axes="HWC").kspace.shape[0] == 40


def test_bart_s_k_space_is_read_by_its_header(tmp_path, kspace):
    np.moveaxis(kspace, 0, -1).ravel(order="F").tofile(tmp_path / "k.cfl")
    (tmp_path / "k.hdr").write_text("# Dimensions\n64 60 1 6 1 1 1 1 1 1 1 1 1 1 1 1\n")
    scan = mri_data.load_scan(tmp_path / "k.cfl", None)
    np.testing.assert_array_equal(scan.kspace, kspace)
    assert scan.item == "k"
    other = mri_data.load_scan(tmp_path / "k.hdr", None)
    assert other.path == scan.path and (other.kspace == scan.kspace).all()


def test_the_content_and_capital_suffixes_decide(tmp_path, kspace):
    write_fastmri(tmp_path / "A.H5", kspace[None])
    write_fastmri(tmp_path / "b.npy", kspace[None])
    for name in ("A.H5", "b.npy"):
        scan = mri_data.load_scan(tmp_path / name, None)
        np.testing.assert_array_equal(scan.kspace, kspace)
        assert scan.is_fastmri


@pytest.mark.parametrize("axes", [(-2, -1), (-1,), (-2,)])
@pytest.mark.parametrize("shape", [(64, 60), (61, 51)])
def test_zero_frequency_in_the_corner_is_moved_to_the_centre(tmp_path, axes, shape, capsys):
    kspace = small_kspace(*shape)
    np.save(tmp_path / "centred.npy", kspace)
    np.save(tmp_path / "corner.npy", np.fft.ifftshift(kspace, axes=axes))
    centred = mri_data.load_scan(tmp_path / "centred.npy", None)
    assert capsys.readouterr().out == ""
    moved = mri_data.load_scan(tmp_path / "corner.npy", None)
    assert "not in the centre" in capsys.readouterr().out
    np.testing.assert_array_equal(moved.kspace, centred.kspace)


@pytest.mark.parametrize("corner", [True, False])
@pytest.mark.parametrize("shape", [(64, 60), (61, 51)])
def test_images_whose_origin_is_a_corner_are_moved_into_the_middle(tmp_path, corner, shape, capsys):
    """As numpy's fft2 of the coil images makes k-space, with and without fftshift."""
    images = mri_data.ifft2c(small_kspace(*shape))
    kspace = np.fft.fft2(images, norm="ortho")
    np.save(tmp_path / "x.npy", kspace if corner else np.fft.fftshift(kspace, axes=(1, 2)))
    found = mri_data.load_scan(tmp_path / "x.npy", None)
    said = capsys.readouterr().out
    assert "half a field of view off along H and W" in said
    np.testing.assert_allclose(mri_data.ifft2c(found.kspace), images, atol=1e-5)


@pytest.mark.parametrize("shape", [(64, 60), (61, 51)])
def test_maps_are_moved_with_the_images_if_they_fit_then(tmp_path, shape, capsys):
    maps = sigpy.mri.birdcage_maps((6, *shape), dtype=np.complex64)
    off = np.fft.fft2(mri_data.ifft2c(small_kspace(*shape)), norm="ortho")
    np.save(tmp_path / "off.npy", off)
    scan = mri_data.load_scan(tmp_path / "off.npy", None)
    assert scan.moved == (0, 1)
    np.save(tmp_path / "as_made.npy", maps)
    np.save(tmp_path / "as_seen.npy", np.fft.fftshift(maps, axes=(1, 2)))
    capsys.readouterr()
    for name, said in (("as_made", ""), ("as_seen", "the maps are moved with the images")):
        path = tmp_path / f"{name}.npy"
        np.testing.assert_array_equal(mri_data.load_maps(path, scan), maps)
        assert said in capsys.readouterr().out


def test_a_mask_of_columns_is_no_mask_of_slices(tmp_path, capsys):
    k = np.ones((4, 32, 16), np.complex64)
    sampled = np.arange(16) % 2 == 0
    found = mri_data.only_sampled(tmp_path, k * sampled, sampled, slices=(16, 3))
    assert capsys.readouterr().out == ""
    np.testing.assert_array_equal(found, k * sampled)


def test_two_legs_with_air_between_them_stay(tmp_path, capsys):
    rows, columns = np.ogrid[:96, :96]
    legs = sum(
        share * ((rows - 48) ** 2 + (columns - at) ** 2 < 14**2)
        for share, at in ((1, 16), (0.6, 80))
    )
    maps = sigpy.mri.birdcage_maps((4, 96, 96), dtype=np.complex64)
    k = mri_data.fft2c((maps * legs).astype(np.complex64))
    np.save(tmp_path / "legs.npy", k)
    found = mri_data.load_scan(tmp_path / "legs.npy", None)
    assert "half a field of view" not in capsys.readouterr().out
    np.testing.assert_array_equal(found.kspace, k)


def test_images_with_bright_borders_stay(tmp_path, capsys):
    images = np.ones((2, 64, 60), np.complex64)
    images[:, :, 15:45] = 0.4  # two arms, near the borders
    images[:, :, [0, 1, 2, 3, -4, -3, -2, -1]] = 0
    np.save(tmp_path / "arms.npy", mri_data.fft2c(images))
    mri_data.load_scan(tmp_path / "arms.npy", None)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "name", ["brain_gre_16coil", "brain_t1_8coil", "heart_6simulated_coils", "phantom_4coil"]
)
def test_real_scans_are_moved_if_their_images_are_off_alone(name, tmp_path, capsys):
    path = DATA / "mri" / f"{name}.npy"
    if not path.exists():
        pytest.skip(f"needs {path}")
    kspace = mri_data.load_scan(path, None).kspace
    assert "half a field of view" not in capsys.readouterr().out
    images = np.fft.ifftshift(mri_data.ifft2c(kspace), axes=(1, 2))
    np.save(tmp_path / "off.npy", mri_data.fft2c(images))
    back = mri_data.load_scan(tmp_path / "off.npy", None).kspace
    assert "off along H and W" in capsys.readouterr().out
    assert np.abs(back - kspace).max() < 1e-5 * np.abs(kspace).max()


def test_nifti_k_space_and_maps_stay_as_they_are_stored(tmp_path, kspace):
    nibabel = pytest.importorskip("nibabel")
    stored = kspace.transpose(2, 1, 0)[:, :, None]  # x, y, one slice, coils
    for name in ("k.nii", "maps.nii"):
        nibabel.save(nibabel.Nifti1Image(stored, np.diag([1.0, 1, 1, 1])), tmp_path / name)
    nibabel.save(nibabel.Nifti1Image(stored[:, :, 0], np.eye(4)), tmp_path / "flat.nii")
    np.testing.assert_array_equal(mri_data.load_scan(tmp_path / "k.nii", None).kspace, kspace)
    scan = mri_data.load_scan(tmp_path / "flat.nii", None)
    np.testing.assert_array_equal(scan.kspace, kspace)
    for name in ("maps.nii", "flat.nii"):
        np.testing.assert_array_equal(mri_data.load_maps(tmp_path / name, scan), kspace)


def test_a_reference_has_the_field_of_view_of_the_scan(tmp_path):
    """Measured, the scan is cropped along its readout alone."""
    full_scan = small_kspace(96, 64, n_coils=3)
    write_fastmri(tmp_path / "other.h5", full_scan[None])
    image = np.sqrt((np.abs(mri_data.ifft2c(full_scan)) ** 2).sum(axis=0))
    scan = mri_data.Scan("x", "x", full_scan)
    columns = np.arange(64) % 3 == 0
    rows = np.arange(96)[:, None] % 3 == 0
    for mask, measured, expected in (
        (full(64, 64), False, image[16:80]),
        (np.broadcast_to(columns, (64, 64)), True, image[16:80]),
        (np.broadcast_to(rows, (96, 64)), True, image),
    ):
        args = aseqdip_mri.Args(crop=64, measured=measured)
        found = mri_data.load_magnitude(tmp_path / "other.h5", args, scan, mask)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    # Of another size it is cropped by itself, but not along the phase encoding.
    wider = mri_data.Scan("x", "x", small_kspace(96, 60, n_coils=3))
    mask = np.broadcast_to(np.arange(60) % 3 == 0, (48, 60))
    args = aseqdip_mri.Args(crop=48, measured=True)
    found = mri_data.load_magnitude(tmp_path / "other.h5", args, wider, mask)
    np.testing.assert_allclose(found, image[24:72], atol=1e-5)


def test_zero_frequency_elsewhere_is_told_and_noise_has_none(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.roll(small_kspace(), 17, axis=-1))
    mri_data.load_scan(tmp_path / "x.npy", None)
    assert "the strongest point of k-space lies at (32, 47)" in capsys.readouterr().out
    noise = np.random.default_rng(0).normal(size=(2, 4, 64, 60))
    np.save(tmp_path / "x.npy", noise[0] + 1j * noise[1])
    mri_data.load_scan(tmp_path / "x.npy", None)
    assert capsys.readouterr().out == ""


def test_what_is_zero_but_for_rounding_was_not_sampled(tmp_path):
    columns = np.random.default_rng(0).random(60) < 0.3
    columns[24:36] = True
    kspace = small_kspace() * columns
    filled = np.fft.fft2(np.fft.ifft2(kspace).astype(np.complex64)).astype(np.complex64)
    assert (filled != 0).all()
    np.save(tmp_path / "x.npy", filled)
    scan = mri_data.load_scan(tmp_path / "x.npy", None)
    assert (mri_data.acquired_points(scan.kspace) == columns).all()
    with pytest.raises(InputError, match="--measured"):
        mri_data.crop_scan(scan, None, measured=False)


@pytest.mark.parametrize("form", ["columns", "rows", "points", "fastmri"])
def test_a_mask_beside_the_k_space_says_what_was_sampled(tmp_path, form, capsys):
    kspace = small_kspace()
    points = np.zeros((64, 60), dtype=bool)
    if form == "rows":
        points[::3] = points[26:38] = True
    else:
        points[:, ::3] = points[:, 24:36] = True
    mask = {"columns": points[0], "rows": points[:, 0], "points": points,
            "fastmri": points[0].astype(np.float32)[None, None, :, None]}[form]  # fmt: skip
    leak = 3e-5 * np.abs(kspace).max()  # more than rounding
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["kspace"], file["mask"] = (kspace * points + leak * ~points)[None], mask
    scan = mri_data.load_scan(tmp_path / "x.h5", None)
    np.testing.assert_array_equal(mri_data.acquired_points(scan.kspace), points)
    assert capsys.readouterr().out == ""
    with h5py.File(tmp_path / "x.h5", "r+") as file:  # a mask still to be applied, or of a brain
        file["kspace"][...] = kspace[None]
    assert mri_data.acquired_points(mri_data.load_scan(tmp_path / "x.h5", None).kspace).all()
    assert "is not used" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["columns", "points", "points of coils"])
def test_a_mask_of_each_slice_belongs_to_that_slice(tmp_path, form, capsys):
    kspace = small_kspace()
    points = np.zeros((2, 64, 60), dtype=bool)
    points[:, :, 24:36] = points[0, :, ::3] = points[1, :, ::5] = True
    mask = {"columns": points[:, 0], "points": points[:, None],
            "points of coils": np.repeat(points[:, None], len(kspace), axis=1)}[form]  # fmt: skip
    leak = 3e-5 * np.abs(kspace).max()
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["kspace"] = [kspace * p + leak * ~p for p in points]
        file["mask"] = mask
    for number in (0, 1):
        scan = mri_data.load_scan(tmp_path / "x.h5", number)
        np.testing.assert_array_equal(mri_data.acquired_points(scan.kspace), points[number])
    assert capsys.readouterr().out == ""


def test_many_coils_are_told_since_they_could_be_rows(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.ones((40, 64, 48), np.complex64))
    assert mri_data.load_scan(tmp_path / "x.npy", None).kspace.shape == (40, 64, 48)
    assert "is read as CHW, 40 coils" in capsys.readouterr().out


def test_phase_encoding_along_the_rows_is_cropped_along_the_columns(capsys):
    rng = np.random.default_rng(0)
    rows = rng.random((50, 1)) < 0.3
    scan = mri_data.Scan("x", "x", rng.normal(size=(2, 50, 80)).astype(np.complex64) * rows)
    cropped, mask = mri_data.crop_scan(scan, 40, measured=True)
    assert cropped.shape == (2, 50, 40) and (mask == rows).all()
    assert "phase encoding is along H" in capsys.readouterr().out
    turned = mri_data.Scan("x", "x", scan.kspace.transpose(0, 2, 1))
    expected, _ = mri_data.crop_scan(turned, 40, measured=True)
    np.testing.assert_allclose(cropped.transpose(0, 2, 1), expected, atol=1e-5)


def read_mask(path):
    return mri_data.load_mask(aseqdip_mri.Args(mask=str(path)))


def test_a_mask_of_columns_rows_or_points_is_read_from_any_file(tmp_path):
    """Rows and columns stay what they are in all formats, also where both are as many."""
    rng = generator(1)
    line, points = (torch.rand(n, generator=rng).numpy() < 0.4 for n in ((64,), (64, 64)))
    for expected, arrays in (
        (np.tile(line, (64, 1)), (line, line[None], line[None, None])),
        (np.tile(line[:, None], 64), (line[:, None], line[None, :, None], line[:, None, None])),
        (points, (points, points[None], points[..., None])),
    ):
        for k, array in enumerate(arrays):
            for dtype in (bool, np.float32, np.complex128):  # of sigpy.mri.poisson
                np.save(tmp_path / "a.npy", array.astype(dtype))
                np.testing.assert_array_equal(
                    np.broadcast_to(read_mask(tmp_path / "a.npy"), (64, 64)), expected, str(k)
                )
        bart = arrays[0] if arrays[0].ndim == 2 else arrays[1]
        dims = " ".join(map(str, [*bart.shape, *[1] * 14]))
        (tmp_path / "b.hdr").write_text(f"# Dimensions\n{dims}\n")
        bart.astype("<c8").ravel(order="F").tofile(tmp_path / "b.cfl")
        read = read_mask(tmp_path / "b.cfl")
        np.testing.assert_array_equal(np.broadcast_to(read, (64, 64)), expected)
    nibabel.save(nibabel.Nifti1Image(points.astype(np.uint8), np.eye(4)), tmp_path / "c.nii")
    with pytest.raises(InputError, match="NIfTI turns a mask"):
        read_mask(tmp_path / "c.nii")


def test_a_mask_in_the_order_of_numpy_s_fft_is_moved_and_told(capsys):
    mask = mri_data.cartesian_mask(full(64, 61), 3, 0.15, "random", generator())
    points = torch.rand((64, 61), generator=generator()).numpy() < 0.3
    points[26:38, 24:37] = True
    for expected in (mask, points):
        for sampled, told in ((expected, False), (np.fft.ifftshift(expected), True)):
            for given in (sampled, sampled[0]) if expected is mask else (sampled,):
                scan = mri_data.Scan("x", "x", np.ones((1, 64, 61)), sampled=given)
                found = mri_data.own_mask(scan, full(64, 61), "m.npy")
                np.testing.assert_array_equal(found, expected)
                assert ("moved to the middle" in capsys.readouterr().out) == told
    without_centre = np.arange(61) != 30  # with maps of one's own it is as good as any
    scan = mri_data.Scan("x", "x", np.ones((1, 64, 61)), sampled=without_centre)
    assert not mri_data.own_mask(scan, full(64, 61), "m.npy")[:, 30].any()


def test_a_full_scan_that_is_called_measured_is_told(kspace, capsys):
    scan = mri_data.Scan("x", "x", kspace)
    mri_data.measure(scan, kspace, full(64, 60), True, 4, None, "random", generator())
    assert "this scan is fully sampled" in capsys.readouterr().out


def test_what_was_sampled_is_told_in_columns_rows_or_points(kspace, capsys):
    scan = mri_data.Scan("x", "x", kspace)
    columns = np.broadcast_to(np.arange(60) % 3 == 0, (64, 60))
    rows = np.broadcast_to(np.arange(64)[:, None] % 4 == 0, (64, 60))
    points = np.add.outer(np.arange(64), np.arange(60)) % 4 == 0
    for mask, told in (
        (columns, "20 of 60 columns"), (rows, "16 of 64 rows"), (points, "25% of the points"),
    ):  # fmt: skip
        mri_data.measure(scan, kspace, mask, True, 4, None, "random", generator())
        assert f"samples in {told}" in capsys.readouterr().out
    acquired = np.broadcast_to(np.arange(64)[:, None] >= 12, (64, 60))  # a partial echo
    mri_data.measure(scan, kspace, acquired, False, 4, None, "random", generator())
    assert "samples in 15 of 60 columns" in capsys.readouterr().out


def test_maps_that_lose_a_part_of_the_object_are_told_with_its_share(capsys):
    """Birdcage maps cut off on one side: the share is that of the blurred image's energy."""
    shape = (6, 64, 60)
    truth = sigpy.mri.birdcage_maps(shape, dtype=np.complex64)
    image = np.zeros(shape[1:], np.float32)
    image[16:48, 15:45] = 1.0
    maps = mri_data.normalise_maps(truth)
    k = mri_data.fft2c(maps * image)
    mask = mri_data.cartesian_mask(full(64, 60), 2, 0.4, "random", generator())
    y = mask * k
    whole = mri_data.share_outside(maps, y, mask)
    assert abs(whole) < 0.01
    cut = maps.copy()
    cut[:, :24] = 0  # a quarter of the square
    assert mri_data.share_outside(cut, y, mask) == pytest.approx(0.25, abs=0.03)
    for given, told in ((maps, False), (cut, True)):
        scan = mri_data.Scan("x", "x", k, beside=(given,))
        mri_data.make_operator(scan, y, mask, None)
        out = capsys.readouterr().out
        assert ("of the signal of the calibration lines lies outside" in out) == told
        assert ("--maps fits" in out) == told


def test_the_small_brain_at_4x_is_told_to_lose_signal_and_at_3x_is_not(tmp_path, capsys):
    path = DATA / "mri" / "brain_gre_16coil.npy"
    if not path.exists():
        pytest.skip(f"real k-space is not there: {path}")
    scan = mri_data.load_scan(path, None)
    for accel, fraction, told in ((4, 0.08, True), (3, 0.17, False)):
        mask = mri_data.cartesian_mask(full(96, 96), accel, fraction, "random", generator())
        for sampled, advice in ((None, "raise --center-fraction"), (mask, "let --mask sample")):
            scan.sampled = sampled
            mri_data.make_operator(scan, mask * scan.kspace, mask, tmp_path)
            assert (advice in capsys.readouterr().out) == told


def test_a_damaged_or_foreign_cache_is_made_again(tmp_path):
    maps = np.ones((2, 4, 4), np.complex64)
    path = tmp_path / "x.npz"
    np.savez(path, maps=maps, key=np.array("right"))
    np.testing.assert_array_equal(mri_data.cached_maps(path, "right"), maps)
    assert mri_data.cached_maps(path, "other") is None
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        data = bytearray(whole)
        data[at] ^= 4
        path.write_bytes(data)
        read = mri_data.cached_maps(path, "right")
        assert read is None or np.array_equal(read, maps), at
