"""CT slices in Hounsfield units, sinograms, photons."""

import numpy as np
import pydicom
import pytest
import torch
from conftest import DATA
from pydicom.data import get_testdata_file
from pydicom.uid import JPEG2000Lossless, RLELossless

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
    assert pixel_size(load_slice(None, "small", 64), None) == pytest.approx(2 * 0.661468)


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


def test_the_noise_of_measured_line_integrals_is_estimated_rather_too_high():
    smooth = torch.sin(torch.linspace(0, 3, 200)).expand(1, 1, 30, 200)
    noise = 0.01 * torch.randn(smooth.shape, generator=torch.Generator().manual_seed(0))
    estimate, true = ct_data.estimate_noise(smooth + noise), torch.linalg.vector_norm(noise).item()
    assert true * 0.97 < estimate < 1.2 * true
