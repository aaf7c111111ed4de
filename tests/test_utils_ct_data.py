"""CT slices in Hounsfield units, sinograms, photons."""

import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pydicom
import pytest
import running
import scipy.io
import torch
from conftest import DATA
from pydicom.data import get_testdata_file
from pydicom.uid import JPEG2000Lossless, RLELossless
from skimage.transform import radon

import aseqdip_ct
from utils import ct_data
from utils.ct_data import (
    Units,
    attenuation,
    load_sinogram,
    load_slice,
    make_units,
    photon_noise,
    physical,
    pixel_size,
)  # fmt: skip
from utils.errors import InputError
from utils.flags import grouped


def small():
    return pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))


def test_the_samples_are_in_hounsfield_units():
    scan, dataset = load_slice(None, "small", None), small()
    expected = dataset.pixel_array * dataset.RescaleSlope + dataset.RescaleIntercept
    np.testing.assert_array_equal(scan.values, expected)
    assert scan.is_hu and scan.values.shape == (128, 128)
    assert scan.pixel_mm == pytest.approx(0.661468)
    skull = load_slice(None, "skull", None)
    assert skull.values.shape == (512, 512)
    assert skull.values.min() == ct_data.AIR_HU  # -2000 outside the scanner's field of view


def test_compressed_slices_and_other_slopes_are_read(tmp_path):
    dataset = small()
    expected = dataset.pixel_array * 0.5 - 500.0
    dataset.RescaleSlope, dataset.RescaleIntercept = 0.5, -500
    dataset.compress(RLELossless)
    dataset.save_as(tmp_path / "a.IMA")
    np.testing.assert_array_equal(load_slice(tmp_path / "a.IMA", "", None).values, expected)
    skull = pydicom.dcmread(get_testdata_file("J2K_pixelrep_mismatch.dcm", download=False))
    assert skull.file_meta.TransferSyntaxUID == JPEG2000Lossless


def test_a_real_slice_is_read():
    path = DATA / "ct" / "abdomen_512.dcm"
    if not path.exists():
        pytest.skip(f"the real CT slice is not there: {path}")
    scan = load_slice(path, "", 256)
    assert scan.values.shape == (256, 256) and scan.is_hu
    assert -1024 <= scan.values.min() < -900 and 900 < scan.values.max() < 1300
    whole = load_slice(path, "", None)
    assert scan.pixel_mm == pytest.approx(2 * whole.pixel_mm)
    assert whole.item == "abdomen_512"


def test_arrays_are_in_hounsfield_units_unless_they_lie_in_0_to_1(tmp_path):
    values = np.random.default_rng(0).random((40, 50))
    np.save(tmp_path / "relative.npy", values)
    np.save(tmp_path / "hu.npy", (2000 * values - 3000).astype(np.int16))
    assert not load_slice(tmp_path / "relative.npy", "", None).is_hu
    scan = load_slice(tmp_path / "hu.npy", "", None)
    assert scan.is_hu and scan.values.min() == ct_data.AIR_HU and scan.pixel_mm is None


def test_units_go_there_and_back():
    scan = load_slice(None, "small", None)
    units = make_units(scan, None)
    assert (units.low, units.high) == (-896.0, 1167.0)
    assert units.values(torch.tensor([0.0, 1.0])).tolist() == [-896.0, 1167.0]
    assert make_units(scan, (-160.0, 240.0)) == Units(-160.0, 240.0, True)
    for bad in ((240.0, -160.0), (3000.0, 4000.0), (0.0, 0.0), (0.0, float("inf"))):
        with pytest.raises(InputError, match="--hu-range"):
            make_units(scan, bad)


def test_attenuation_is_that_of_water_at_0_hu():
    low, high = attenuation(Units(-1000.0, 0.0, is_hu=True), pixel_mm=2.0)
    assert low == 0 and high == pytest.approx(2 * ct_data.MU_WATER)


def test_photons_scatter_around_the_line_integral_as_poisson_says():
    """100 mm of water: p = 1.93, variance of log(counts) close to 1 / counts."""
    p = torch.full((200, 200), 100 * ct_data.MU_WATER)
    noisy, starved = photon_noise(p, 1e5, torch.Generator().manual_seed(0))
    assert starved == 0 and noisy.shape == p.shape and noisy.dtype == p.dtype
    assert noisy.mean().item() == pytest.approx(1.93, abs=5e-4)
    assert noisy.std().item() == pytest.approx((1e5 * np.exp(-1.93)) ** -0.5, rel=0.02)
    assert torch.equal(noisy, photon_noise(p, 1e5, torch.Generator().manual_seed(0))[0])


def test_a_ray_without_photons_counts_one():
    noisy, starved = photon_noise(torch.full((3, 4), 1e4), 1e3, torch.Generator().manual_seed(0))
    assert starved == 12
    assert noisy.allclose(torch.tensor(np.log(1e3)).float())


def test_nothing_attenuates_less_than_vacuum(tmp_path):
    np.save(tmp_path / "hu.npy", np.linspace(-1024, 1000, 1600).reshape(40, 40))
    scan = load_slice(tmp_path / "hu.npy", "", None)
    assert physical(scan, None, 1e5).values.min() == -1000
    assert scan.values.min() == -1024 and physical(scan, None, None) is scan
    with pytest.raises(InputError, match="air would attenuate"):
        physical(scan, (-160.0, 240.0), 1e5)


def test_raw_values_without_a_rescale_slope_are_not_taken_for_hu(tmp_path):
    dataset = small()
    del dataset.RescaleSlope
    dataset.save_as(tmp_path / "raw.dcm")
    with pytest.raises(InputError, match="no RescaleSlope"):
        load_slice(tmp_path / "raw.dcm", "", None)


def test_dicom_files_need_no_suffix(tmp_path):
    small().save_as(tmp_path / "IM000001")
    (tmp_path / "README").write_text("no DICOM")
    assert ct_data.is_dicom(tmp_path / "IM000001") and not ct_data.is_dicom(tmp_path / "README")
    assert load_slice(tmp_path / "IM000001", "", None).item == "IM000001"


def test_photons_need_hounsfield_units_and_a_pixel_size(tmp_path):
    np.save(tmp_path / "hu.npy", 1000 * np.random.default_rng(0).random((40, 50)))
    scan = load_slice(tmp_path / "hu.npy", "", None)
    with pytest.raises(InputError, match="give --pixel-mm"):
        pixel_size(scan, None)
    assert pixel_size(scan, 0.7) == 0.7
    for own in (None, 0.661468):  # of the file's pixels, before they were resampled
        assert pixel_size(load_slice(None, "small", 64), own) == pytest.approx(2 * 0.661468)


def test_all_flags_of_slices_are_refused_beside_a_sinogram():
    groups = grouped(aseqdip_ct.Args)
    (of_slices,) = (names for heading, names in groups.items() if "(of slices)" in heading)
    assert set(of_slices) <= set(ct_data.OF_SLICES)
    assert {*ct_data.OF_SLICES, *ct_data.OF_SINOGRAMS} <= {f.name for f in fields(aseqdip_ct.Args)}
    for given in ({"photons": 1e4}, {"hu_range": (0.0, 1.0)}, {"data": Path("slice.npy")}):
        with pytest.raises(InputError, match=f"{next(iter(given)).replace('_', '-')}|--data"):
            ct_data.check_flags(aseqdip_ct.Args(sinogram=Path("s.npy"), **given))
    with pytest.raises(InputError, match="--sigma: for measured"):
        ct_data.check_flags(aseqdip_ct.Args(sigma=0.0))


def test_intensities_in_place_of_line_integrals_are_noted(tmp_path, capsys):
    line_integrals = radon(np.pad(np.ones((8, 8)), 8), np.arange(6) * 30.0).T
    for name, y, noted in (
        ("line integrals", line_integrals, False),
        ("intensities", 1e4 * np.exp(-line_integrals), True),
        ("constant", np.ones((6, 24)), False),
    ):
        np.save(tmp_path / "s.npy", y)
        ct_data.load_sinogram(tmp_path / "s.npy", "6")
        assert ("intensities I, make line integrals" in capsys.readouterr().out) == noted, name


def test_sinograms_come_with_a_number_of_views_or_a_file_of_angles(tmp_path):
    y = np.random.default_rng(0).random((4, 61))
    np.save(tmp_path / "s.npy", y)
    degrees = np.array([0.0, 10.0, 45.0, 100.0])
    np.save(tmp_path / "a.npy", degrees)
    np.savetxt(tmp_path / "a.txt", degrees)
    for angles in (tmp_path / "a.npy", tmp_path / "a.txt"):
        scan = load_sinogram(tmp_path / "s.npy", str(angles))
        np.testing.assert_allclose(scan.angles, np.deg2rad(degrees))
    scan = load_sinogram(tmp_path / "s.npy", "4")
    np.testing.assert_allclose(scan.angles, np.pi / 4 * np.arange(4))
    text = ", ".join(f"{degree!r}" for degree in degrees.tolist())
    (tmp_path / "b.txt").write_text(f"# degrees\n{text}  # all\n\n")
    scan = load_sinogram(tmp_path / "s.npy", str(tmp_path / "b.txt"))
    np.testing.assert_allclose(scan.angles, np.deg2rad(degrees))
    np.testing.assert_array_equal(scan.y, y.astype(np.float32))
    np.save(tmp_path / "t.npy", y.T)
    with pytest.raises(InputError, match="transpose it"):
        load_sinogram(tmp_path / "t.npy", "4")


@pytest.mark.parametrize("views", [18, 60])
def test_the_noise_of_counted_photons_is_known_from_the_measurements(views):
    args = aseqdip_ct.Args(sample="small", views=views, photons=1e5, pixel_mm=2.0)
    problem = aseqdip_ct.build_problem(args, aseqdip_ct.load(args, None), torch.device("cpu"))
    true = torch.linalg.vector_norm(problem.A(problem.x_true) - problem.y).item()
    assert problem.noise_norm == pytest.approx(true, rel=0.15)
    assert problem.title == f"small, {views} views, 100000 photons a ray, shown -160 to 240 HU"


@pytest.mark.parametrize("sample, photons, high", [
    ("small", 2e5, 1.25), ("small", 2e4, 1.15), ("skull", 2e5, 1.1), ("skull", 2e4, 1.1),
])  # fmt: skip
def test_the_noise_of_measured_line_integrals_is_estimated(sample, photons, high):
    args = aseqdip_ct.Args(sample=sample, views=18, photons=photons, pixel_mm=0.5)
    problem = aseqdip_ct.build_problem(args, aseqdip_ct.load(args, None), torch.device("cpu"))
    true = torch.linalg.vector_norm(problem.A(problem.x_true) - problem.y).item()
    assert 0.9 * true < ct_data.estimate_noise(problem.y) < high * true


def test_noise_that_is_the_same_everywhere_is_estimated():
    smooth = torch.sin(torch.linspace(0, 3, 200)).expand(1, 1, 30, 200)
    noise = 0.01 * torch.randn(smooth.shape, generator=torch.Generator().manual_seed(0))
    estimate, true = ct_data.estimate_noise(smooth + noise), torch.linalg.vector_norm(noise).item()
    assert estimate == pytest.approx(true, rel=0.05)


@pytest.mark.parametrize("sample, most", [("skull", 5e-4), ("small", 2e-3)])
def test_a_slice_without_noise_passes_for_one_of_little_noise(sample, most):
    args = aseqdip_ct.Args(sample=sample, views=18)
    problem = aseqdip_ct.build_problem(args, aseqdip_ct.load(args, None), torch.device("cpu"))
    assert ct_data.estimate_noise(problem.y) < most * torch.linalg.vector_norm(problem.y)


def test_noise_cannot_be_estimated_from_four_bins():
    assert ct_data.estimate_noise(torch.rand(1, 1, 9, 4)) == 0
    assert ct_data.estimate_noise(torch.rand(1, 1, 9, 5)) > 0


# What people bring


def test_rounding_beyond_0_and_1_makes_no_hounsfield_units(tmp_path, capsys):
    values = np.random.default_rng(0).random((40, 50))
    values[0, 0], values[0, 1] = -1e-9, 1 + 1e-7
    np.save(tmp_path / "a.npy", values)
    assert not load_slice(tmp_path / "a.npy", "", None).is_hu and capsys.readouterr().out == ""
    np.save(tmp_path / "a.npy", 1.8 * values)  # per centimetre: neither
    with pytest.raises(InputError, match="--unit hu or --unit relative"):
        load_slice(tmp_path / "a.npy", "", None)
    for unit, is_hu in (("relative", False), ("hu", True)):
        scan = load_slice(tmp_path / "a.npy", "", None, unit=unit)
        assert scan.is_hu == is_hu
        np.testing.assert_array_equal(scan.values, 1.8 * values)
    np.save(tmp_path / "a.npy", 4095 * values.clip(0, 1))
    assert load_slice(tmp_path / "a.npy", "", None).is_hu
    assert "read as Hounsfield units" in capsys.readouterr().out


def test_a_volume_is_read_slice_by_slice_in_the_order_of_its_axes(tmp_path):
    volume = np.random.default_rng(0).uniform(-1000, 1000, (3, 40, 50))
    np.save(tmp_path / "shw.npy", volume)
    np.save(tmp_path / "hws.npy", np.moveaxis(volume, 0, -1))
    scipy.io.savemat(tmp_path / "whs.mat", {"ct": volume.transpose(2, 1, 0), "mm": 0.7})
    for path in tmp_path.iterdir():
        for index, expected in ((None, 1), (0, 0), (2, 2)):
            scan = load_slice(path, "", None, axes=path.stem, index=index)
            np.testing.assert_array_equal(scan.values, volume[expected], err_msg=path.name)
            assert scan.item == f"{path.stem}_slice{expected:02d}"
        with pytest.raises(InputError, match="slices 0 to 2"):
            load_slice(path, "", None, axes=path.stem, index=3)
        with pytest.raises(InputError, match="--axes, such as SHW or HWS"):
            load_slice(path, "", None)


def test_nifti_volumes_have_their_order_and_their_pixels(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    volume = np.random.default_rng(0).uniform(-1000, 1000, (3, 40, 50))
    image = nibabel.Nifti1Image(volume.transpose(2, 1, 0), np.diag([-0.7, -0.7, 5, 1]))
    nibabel.save(image, tmp_path / "x.nii.gz")
    scan = load_slice(tmp_path / "x.nii.gz", "", None, index=2)
    np.testing.assert_array_equal(scan.values, volume[2])
    assert scan.item == "x_slice02" and scan.pixel_mm == pytest.approx(0.7)
    image = nibabel.Nifti1Image(volume.transpose(2, 1, 0)[..., None], image.affine)
    nibabel.save(image, tmp_path / "one_moment.nii")
    scan = load_slice(tmp_path / "one_moment.nii", "", None, index=2)
    np.testing.assert_array_equal(scan.values, volume[2])


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("limit", [False, True])
def test_padding_becomes_air_wherever_its_value_lies(tmp_path, signed, limit, capsys):
    """The tag may be written unsigned where the pixels are signed, and the other way round."""
    dataset = small()
    raw = dataset.pixel_array.astype(np.int64).clip(0, 2000)
    outside = np.hypot(*np.indices(raw.shape) - 63.5) > 62
    for name in ("SmallestImagePixelValue", "LargestImagePixelValue"):
        if name in dataset:
            del dataset[name]
    for tag in (63536, 32767, -2000):
        pixels = np.where(outside, tag, raw)
        if limit:
            pixels[0, 0] = tag - 5
        stored = pixels.astype(np.uint16)  # the same bits, signed or not
        dataset.PixelRepresentation = int(signed)
        vr = "SS" if tag < 0 else "US"
        for keyword, value in (("PixelPaddingValue", tag), ("PixelPaddingRangeLimit", tag - 5)):
            if keyword in dataset:
                del dataset[keyword]
            if keyword == "PixelPaddingValue" or limit:
                dataset.add_new(keyword, vr, value)
        dataset.add_new("PixelData", "OW", stored.tobytes())
        dataset.save_as(tmp_path / "a.dcm")
        values = load_slice(tmp_path / "a.dcm", "", None).values
        assert (values[outside] == ct_data.AIR_HU).all()
        np.testing.assert_array_equal(values[~outside], raw[~outside] - 1024)
    assert "padding" in capsys.readouterr().out


@pytest.mark.parametrize(
    "keyword, value, words",
    [
        ("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"], "a LOCALIZER of CT"),
        ("ImageType", ["DERIVED", "SECONDARY", "SCREEN SAVE"], "a SCREEN SAVE of CT"),
        ("ImageType", ["DERIVED", "PRIMARY", "AXIAL", "EFF_ATOMIC_NUM"], "a EFF_ATOMIC_NUM of CT"),
        ("RescaleType", "US", r"values are US \(RescaleType\)"),
        ("RescaleType", "Z_EFF", r"values are Z_EFF \(RescaleType\)"),
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.7", "secondary capture"),
        ("ConversionType", "WSD", "secondary capture"),
        ("PhotometricInterpretation", "PALETTE COLOR", "got PALETTE COLOR"),
        ("Modality", "MR", "modality MR"),
    ],
)
def test_what_is_no_slice_in_hounsfield_units_is_refused_in_a_series_too(
    keyword, value, words, tmp_path, monkeypatch, capsys
):
    dataset = small()
    (tmp_path / "ct").mkdir()
    dataset.save_as(tmp_path / "ct" / "b.dcm")
    setattr(dataset, keyword, value)
    dataset.save_as(tmp_path / "ct" / "a.dcm")
    with pytest.raises(InputError, match=words):
        load_slice(tmp_path / "ct" / "a.dcm", "", None)
    flags = ["--data", tmp_path / "ct", "--method", "fbp", "--views", 4, "--out", tmp_path / "o"]
    assert running.call(monkeypatch, aseqdip_ct, *flags) == 2
    assert len([*(tmp_path / "o" / "ct" / "fbp").iterdir()]) == 1  # b was done
    assert re.search(words, capsys.readouterr().err)


def test_values_that_nothing_in_a_body_has_are_told(tmp_path, capsys):
    values = np.linspace(-1000, 1000, 1600).reshape(40, 40)
    np.save(tmp_path / "a.npy", values)
    load_slice(tmp_path / "a.npy", "", None)
    assert capsys.readouterr().out == ""
    np.save(tmp_path / "a.npy", np.where(values < -900, 62512, values))
    load_slice(tmp_path / "a.npy", "", None)
    assert "62512 HU is no tissue" in capsys.readouterr().out


def test_pixels_that_are_no_squares_are_told(tmp_path, capsys):
    dataset = small()
    dataset.PixelSpacing = [0.5, 1.0]
    dataset.save_as(tmp_path / "a.dcm")
    load_slice(tmp_path / "a.dcm", "", None)
    assert "0.5 mm high and 1 mm wide" in capsys.readouterr().out


def test_a_size_of_pixels_that_says_nothing_is_unknown(tmp_path):
    dataset = small()
    for spacing in ([0.5, 0.5, 1.0], [0.5], [0.0, 0.0], [-1.0, -1.0]):
        dataset.PixelSpacing = spacing
        dataset.save_as(tmp_path / "a.dcm")
        assert load_slice(tmp_path / "a.dcm", "", None).pixel_mm is None


def test_a_slice_that_is_no_square_is_squeezed_and_told(tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.linspace(-900, 900, 80 * 40).reshape(80, 40))
    scan = load_slice(tmp_path / "a.npy", "", 40)
    assert scan.values.shape == (40, 40) and pixel_size(scan, 0.5) == 1.0
    assert "80x40 pixels are squeezed into 40x40" in capsys.readouterr().out


def test_old_dicom_files_begin_with_their_tags(tmp_path):
    small().save_as(tmp_path / "a.dcm", enforce_file_format=True)
    whole = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "b.dcm").write_bytes(whole[132:])  # the preamble is 128 bytes and DICM
    one, two = (load_slice(tmp_path / name, "", None) for name in ("a.dcm", "b.dcm"))
    np.testing.assert_array_equal(one.values, two.values)


def test_line_integrals_beyond_single_precision_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.full((4, 40), 1e300))
    with pytest.raises(InputError, match="beyond single precision"):
        load_sinogram(tmp_path / "a.npy", "4")


def test_the_range_of_the_angles_is_printed(tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.ones((4, 40)))
    ct_data.make_operator(load_sinogram(tmp_path / "a.npy", "4"), 4, None, "ramp")
    assert "4 views from 0 to 135 degrees" in capsys.readouterr().out


def test_files_beside_the_slices_are_no_work(tmp_path, monkeypatch, capsys):
    ct = tmp_path / "ct"
    ct.mkdir()
    small().save_as(ct / "a.dcm")
    (ct / "._a.dcm").write_bytes(b"\0\5\x16\7" + bytes(4000))
    (ct / "DICOMDIR").write_bytes((ct / "a.dcm").read_bytes()[:132])
    flags = ["--data", ct, "--method", "fbp", "--views", 4, "--out", tmp_path / "o"]
    assert running.call(monkeypatch, aseqdip_ct, *flags) == 0
    assert capsys.readouterr().err == ""


def test_what_can_only_be_radians_is_taken_so_and_told(tmp_path, capsys):
    y = np.random.default_rng(0).random((30, 61))
    np.save(tmp_path / "s.npy", y)
    radians = np.arange(30) * np.pi / 30
    for angles, expected, told in (
        (radians, radians, True),
        (2 * radians, 2 * radians, True),
        (np.rad2deg(radians), radians, False),
        (np.arange(30) % 6, np.deg2rad(np.arange(30) % 6), False),
        (360 + radians, np.deg2rad(360 + radians), False),
        (np.arange(30) * 0.1 / 3, np.deg2rad(np.arange(30) * 0.1 / 3), False),
    ):
        np.save(tmp_path / "a.npy", angles)
        scan = load_sinogram(tmp_path / "s.npy", str(tmp_path / "a.npy"))
        np.testing.assert_allclose(scan.angles, expected, atol=1e-12)
        assert ("read as radians" in capsys.readouterr().out) == told


def test_a_sinogram_and_its_angles_come_as_mat_too(tmp_path):
    y, degrees = np.random.default_rng(0).random((4, 61)), [[0.0, 10.0, 45.0, 100.0]]
    scipy.io.savemat(tmp_path / "s.mat", {"sinogram": y, "angles": degrees})
    scan = load_sinogram(tmp_path / "s.mat", str(tmp_path / "s.mat"))
    np.testing.assert_array_equal(scan.y, y.astype(np.float32))
    np.testing.assert_allclose(scan.angles, np.deg2rad(degrees[0]))
