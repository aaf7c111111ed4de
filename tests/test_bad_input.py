"""What the sibling scripts say to input that they cannot use: one clear line each."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
import running
import skimage.data
import torch
from PIL import Image
from pydicom.data import get_testdata_file
from skimage.transform import resize

import aseqdip_ct
import aseqdip_deblurring
import aseqdip_denoising
import aseqdip_inpainting
import aseqdip_superresolution


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Fill a folder with good and bad files, and make it the current one."""
    monkeypatch.chdir(tmp_path)
    pixels = resize(skimage.data.astronaut(), (48, 40), anti_aliasing=True)
    levels = np.rint(255 * pixels).astype(np.uint8)
    Image.fromarray(levels).save("good.png")
    Image.fromarray(levels).save("good.jpg")
    whole = Path("good.png").read_bytes()
    Path("cut.png").write_bytes(whole[: len(whole) // 2])
    Path("cut.jpg").write_bytes(Path("good.jpg").read_bytes()[:400])
    Path("text.png").write_text("no picture")
    Path("empty.png").write_bytes(b"")
    Path("cut.tif").write_bytes(b"II*\x00\x08\x00\x00\x00\xff")
    Path("note.txt").write_text("hello")
    Image.fromarray(levels[:20]).save("small.png")
    transparent = np.dstack((levels, np.full(levels.shape[:2], 100, np.uint8)))
    Image.fromarray(transparent).save("transparent.png")
    np.save("float.npy", pixels * 255)
    np.save("int.npy", levels.astype(np.int64))
    np.save("nan.npy", np.where(pixels > 0.9, np.nan, pixels))
    np.save("rank4.npy", pixels[None])
    np.save("five.npy", np.zeros((48, 40, 5)))
    np.save("pickle.npy", np.array([{"a": 1}], dtype=object))
    (tmp_path / "nothing").mkdir()
    return tmp_path


PICTURES = [
    *(
        (["--data", name], f"{name}: {facts}")
        for name, facts in (
            ("no.png", "no such file"),
            ("nothing", r".*\.png"),
            *((name, "not a readable") for name in ("cut.png", "cut.jpg", "cut.tif")),
            *((name, "not a readable") for name in ("text.png", "empty.png")),
            ("note.txt", r"expected .*\.png"),
            ("small.png", ".*got 20x40"),
            ("transparent.png", ".*flatten"),
            ("float.npy", ".*0 and .* 1"),
            ("int.npy", ".*got int64"),
            ("nan.npy", ".*NaN or Inf"),
            ("rank4.npy", r".*got shape \(1, 48, 40, 3\)"),
            ("five.npy", r".*got shape \(48, 40, 5\)"),
            ("pickle.npy", ".*pickled"),
        )
    ),
    (["--data", "good.png", "--resize", "16"], "--resize 16"),
    (["--data", "good.png", "--depth", "6"], "--depth 6.* 48x40"),
    (["--data", "good.png", "--K", "0"], "--K 0"),
    (["--data", "good.png", "--lr", "-1"], "--lr -1"),
    (["--data", "good.png", "--lambda-ae", "inf"], "--lambda-ae inf"),
    (["--data", "good.png", "--device", "cuda"], "--device cuda"),
    (["--data", "good.png", "--out", "good.png"], "another --out"),
    (["--data", "good.png", "--run", "a/b"], "--run a/b"),
    (["--data", "good.png", "--sample", "face"], "--sample: it names an embedded image"),
]


def refuse_all(monkeypatch, capsys, folder, script, cases):
    for arguments, facts in cases:
        arguments = ["--K", "2", "--width", "4", *arguments]
        running.refused(monkeypatch, capsys, folder, script, arguments, facts)


@pytest.mark.parametrize(
    "script",
    [aseqdip_denoising, aseqdip_inpainting, aseqdip_deblurring, aseqdip_superresolution],
)
def test_pictures(script, folder, monkeypatch, capsys):
    refuse_all(monkeypatch, capsys, folder, script, PICTURES)


def test_denoising(folder, monkeypatch, capsys):
    good = ["--data", "good.png"]
    cases = [
        (["--sigma", "0"], "--sigma 0"),
        (["--sigma", "-5"], "--sigma -5"),
        (["--sigma", "nan"], "--sigma nan"),
        (["--sigma", "300"], "--sigma 300"),
        (["--measured"], "--measured.*--data"),
        ([*good, "--measured", "--resize", "64"], "--resize.*measured"),
        ([*good, "--measured", "--clip"], "--clip.*measured"),
        ([*good, "--noise", "correlated"], "--noise correlated.*--measured"),
    ]
    refuse_all(monkeypatch, capsys, folder, aseqdip_denoising, cases)


def test_superresolution(folder, monkeypatch, capsys):
    np.save("tiny.npy", np.full((8, 7), 0.5))
    cases = [
        (["--measured"], "--measured.*--data"),
        (["--data", "good.png", "--measured", "--resize", "64"], "--resize.*measured"),
        (["--data", "tiny.npy", "--measured"], "got 8x7.*at least 8x8"),
        (["--data", "good.png", "--encoder", "no.pt"], "--encoder.*--method ugodit"),
        (["--data", "good.png", "--method", "ugodit"], "ugodit.*--encoder"),
        (["--data", "good.png", "--method", "ugodit", "--encoder", "no.pt"], "no.pt: no such file"),
    ]
    refuse_all(monkeypatch, capsys, folder, aseqdip_superresolution, cases)


def test_inpainting(folder, monkeypatch, capsys):
    good = ["--data", "good.png"]
    levels = np.asarray(Image.open("good.png"))
    mask = np.where(levels[..., 0] > 100, 255, 0).astype(np.uint8)
    Image.fromarray(mask[:, :30]).save("narrow.png")
    Image.fromarray(levels[..., 0]).save("grey.png")
    Image.fromarray(mask).save("lossy.jpg")
    Image.fromarray(np.full_like(mask, 255)).save("white.png")
    Image.fromarray(np.zeros_like(mask)).save("black.png")
    Image.fromarray(mask).save("mask.png")
    Image.fromarray(np.where(mask[..., None], (255, 0, 0), levels).astype(np.uint8)).save(
        "hollow.png"
    )
    cases = [
        ([*good, "--hiar", "0"], "--hiar 0"),
        ([*good, "--hiar", "1"], "--hiar 1"),
        ([*good, "--hiar", "nan"], "--hiar nan"),
        ([*good, "--hiar", "1e-9"], "no pixel is missing"),
        ([*good, "--mask", "random", "--missing", "1.5"], "--missing 1.5"),
        ([*good, "--mask", "random", "--missing", "0.99999"], "no pixel is known"),
        ([*good, "--missing", "0.5"], "--missing: for --mask random, not box"),
        ([*good, "--mask", "mask.png", "--hiar", "0.2"], "--hiar: for --mask box, not mask.png"),
        ([*good, "--mask", "circle"], "--mask circle: expected box, random or a file"),
        ([*good, "--mask", "nothing"], "got a folder"),
        ([*good, "--mask", "good.png"], "expected a grey"),
        ([*good, "--mask", "grey.png"], "grey.png.*black.*white"),
        ([*good, "--mask", "lossy.jpg"], "lossy.jpg.*JPEG"),
        ([*good, "--mask", "narrow.png"], "48x40, got 48x30"),
        ([*good, "--mask", "white.png"], "no pixel is missing"),
        ([*good, "--mask", "black.png"], "no pixel is known"),
        ([*good, "--mask", "cut.png"], "cut.png.*not a readable"),
        ([*good, "--measured"], "--measured.*mask"),
        ([*good, "--measured", "--mask", "random"], "--measured.*mask"),
        (["--measured", "--mask", "white.png"], "--measured.*--data"),
        (["--data", "hollow.png", "--measured", "--mask", "mask.png"], "mask.png.*inverted"),
        ([*good, "--measured", "--mask", "black.png"], "no pixel is known"),
        ([*good, "--hole-start", "nan"], "--hole-start nan"),
    ]
    refuse_all(monkeypatch, capsys, folder, aseqdip_inpainting, cases)


def test_deblurring(folder, monkeypatch, capsys):
    good = ["--data", "good.png"]
    kernel = np.ones((5, 5))
    np.save("kernel.npy", kernel)
    np.save("negative.npy", -kernel)
    np.save("zero.npy", 0 * kernel)
    np.save("line.npy", kernel[0])
    np.save("nan_kernel.npy", np.nan * kernel)
    np.save("wide.npy", np.ones((99, 99)))
    np.save("code.npy", np.zeros((1, 512, 2, 2), dtype=np.float32))
    torch.save({"feature_extractor.0.weight": torch.zeros(3)}, "weights.pth")
    torch.save([1, 2, 3], "list.pth")
    Image.fromarray(np.asarray(Image.open("good.png"))[..., 0]).save("grey.png")
    (folder / "cut.pth").write_bytes((folder / "weights.pth").read_bytes()[:-300])
    bkse = ["--resize", "128", "--blur", "bkse"]
    cases = [
        ([*bkse, "--data", "grey.png", "--bkse-weights", "weights.pth"], "got a grey one"),
        (["--blur", "bkse"], "GOPRO_wVAE.pth.*--bkse-weights"),
        ([*good, "--bkse-sha256", "abc"], "--bkse-sha256: for the file of --bkse-weights"),
        ([*bkse, "--bkse-weights", "no.pth"], "no such file"),
        ([*bkse, "--bkse-weights", "nothing"], "got a folder"),
        ([*bkse, "--bkse-weights", "cut.pth"], "cut.pth: not a readable"),
        ([*bkse, "--bkse-weights", "good.png"], "good.png: not a readable"),
        ([*bkse, "--bkse-weights", "weights.pth"], "lacks `feature_extractor.0.bias`"),
        ([*bkse, "--bkse-weights", "list.pth"], "expected a state dict"),
        ([*bkse, "--bkse-weights", "weights.pth", "--bkse-sha256", "abc"], "expected the SHA-256"),
        ([*good, "--blur", "bkse", "--bkse-weights", "weights.pth"], "multiples of 128"),
        ([*bkse, "--bkse-weights", "weights.pth", "--kernel", "kernel.npy"], r"\(1, 512, H / 128"),
        ([*good, "--blur", "camera", "--bkse-weights", "weights.pth"], "--bkse-weights.*leave one"),
        ([*good, "--blur", "camera", "--kernel", "kernel.npy"], "--kernel.*leave one"),
        ([*good, "--blur", "trajectory", "--resize", "32"], "too small to be mirrored"),
        ([*good, "--kernel", "no.npy"], "no such file"),
        ([*good, "--kernel", "nothing"], "got a folder"),
        ([*good, "--kernel", "negative.npy"], "without negative values"),
        ([*good, "--kernel", "zero.npy"], "all zeros"),
        ([*good, "--kernel", "line.npy"], r"\(kh, kw\)"),
        ([*good, "--kernel", "nan_kernel.npy"], "NaN or Inf"),
        ([*good, "--kernel", "wide.npy"], "no larger than the picture"),
        ([*good, "--kernel", "good.png"], "expected a grey"),
        ([*good, "--measured"], "--measured.*kernel"),
        (["--measured", "--kernel", "kernel.npy"], "--measured.*--data"),
    ]
    refuse_all(monkeypatch, capsys, folder, aseqdip_deblurring, cases)


def test_ct(folder, monkeypatch, capsys):
    path = get_testdata_file("CT_small.dcm", download=False)
    skull = get_testdata_file("J2K_pixelrep_mismatch.dcm", download=False)
    whole = Path(path).read_bytes()
    (folder / "good.dcm").write_bytes(whole)
    (folder / "cut.dcm").write_bytes(whole[: len(whole) // 2])
    (folder / "head.dcm").write_bytes(whole[:100])
    (folder / "skull.dcm").write_bytes(Path(skull).read_bytes()[:9000])
    dataset = pydicom.dcmread(path)
    dataset.Modality = "MR"
    dataset.save_as("mr.dcm")
    dataset.Modality = "CT"
    del dataset.PixelData
    dataset.save_as("no_image.dcm")
    hu = np.random.default_rng(0).uniform(-1000, 1000, (48, 40))
    np.save("hu.npy", hu)
    np.save("flat.npy", np.full((48, 40), 7.0))
    np.save("tiny.npy", hu[:20])
    np.save("volume.npy", hu[None])
    np.save("complex.npy", hu + 1j)
    np.save("nan.npy", np.where(hu > 900, np.nan, hu))
    np.save("relative.npy", (hu + 1000) / 2000)
    sinogram = np.random.default_rng(0).random((6, 61))
    np.save("s.npy", sinogram)
    np.save("s_nan.npy", np.full((6, 61), np.nan))
    np.save("s_zero.npy", np.zeros((6, 61)))
    np.save("s_rank.npy", sinogram[None])
    np.save("s_turned.npy", sinogram.T)
    np.save("s_negative.npy", -sinogram)
    np.save("degrees.npy", np.arange(5.0))
    np.save("degrees_nan.npy", np.full(6, np.nan))
    (folder / "degrees.txt").write_text("0 ten twenty")
    (folder / "empty.txt").write_text("# none\n")
    (folder / "table.txt").write_text("0 0\n1 30\n2 60\n")
    of = ["--sinogram", "s.npy"]
    cases = [
        (["--data", "no.dcm"], "no such file"),
        (["--data", "nothing"], r"nothing: .*\.dcm"),
        (["--data", "cut.dcm"], "cut.dcm: .*cannot be decoded"),
        (["--data", "head.dcm"], "head.dcm: not a DICOM"),
        (["--data", "skull.dcm"], "skull.dcm: cut short"),
        (["--data", "note.txt"], "note.txt: not a DICOM"),
        (["--data", "mr.dcm"], "got modality MR"),
        (["--data", "no_image.dcm"], "without an image"),
        (["--data", "flat.npy"], "every pixel is 7"),
        (["--data", "tiny.npy"], "got 20x40 pixels"),
        (["--data", "volume.npy"], r"real .*\(H, W\)"),
        (["--data", "complex.npy"], r"real .*\(H, W\)"),
        (["--data", "nan.npy"], "NaN or Inf"),
        (["--data", "good.png"], "expected a grey"),
        (["--data", "cut.png"], "cut.png.*not a readable"),
        (["--data", "hu.npy", "--views", "0"], "--views 0"),
        (["--data", "hu.npy", "--resize", "8"], "--resize 8"),
        (["--data", "hu.npy", "--hu-range", "5", "-5"], "--hu-range 5 -5"),
        (["--data", "hu.npy", "--hu-range", "2000", "3000"], "--hu-range 2000 3000"),
        (["--data", "relative.npy", "--hu-range", "0", "1"], "relative attenuation"),
        (["--data", "hu.npy", "--window", "5", "5"], "--window 5 5"),
        (["--data", "relative.npy", "--window", "0", "50"], "--window: for data in HU"),
        (["--data", "hu.npy", "--pixel-mm", "1"], "--pixel-mm: for --photons"),
        (["--data", "hu.npy", "--photons", "1e5"], "give --pixel-mm"),
        (["--data", "hu.npy", "--photons", "0", "--pixel-mm", "1"], "--photons 0"),
        (["--data", "hu.npy", "--photons", "1e5", "--pixel-mm", "0"], "--pixel-mm 0"),
        (["--data", "relative.npy", "--photons", "1e5"], "not in HU"),
        (["--data", "hu.npy", "--measured"], "with --sinogram"),
        (["--data", "hu.npy", "--angles", "6"], "--sinogram"),
        (["--data", "hu.npy", "--size", "64"], "--sinogram"),
        (["--data", "hu.npy", *of, "--angles", "6"], "--data.*--sinogram|--sinogram.*--data"),
        (of, "--angles.*views"),
        ([*of, "--angles", "5"], r"5 angles \(--angles 5\)"),
        ([*of, "--angles", "0"], "0 angles"),
        ([*of, "--angles", "61"], "transpose it"),
        ([*of, "--angles", "empty.txt"], "expected a list of angles in degrees"),
        ([*of, "--angles", "table.txt"], r"a list of angles in degrees, got float64 \(3, 2\)"),
        ([*of, "--angles", "no.txt"], "--angles no.txt.*expected.*file"),
        ([*of, "--angles", "degrees.npy"], "do not fit"),
        ([*of, "--angles", "degrees.txt"], "degrees.txt.*expected angles in degrees"),
        ([*of, "--angles", "degrees_nan.npy"], "NaN or Inf"),
        ([*of, "--angles", "6", "--size", "8"], "--size 8"),
        (["--sinogram", "no.npy", "--angles", "6"], "no such file"),
        (["--sinogram", "nothing", "--angles", "6"], "got a folder"),
        (["--sinogram", "s_nan.npy", "--angles", "6"], "NaN or Inf"),
        (
            ["--sinogram", "s_zero.npy", "--angles", "6"],
            "s_zero.npy: its sum is 0; expected line integrals",
        ),
        (["--sinogram", "s_negative.npy", "--angles", "6"], "sum is -.*is the sign wrong"),
        ([*of, "--angles", "6", "--photons", "1e4"], "--photons: for slices, not for --sinogram"),
        ([*of, "--angles", "6", "--views", "18"], "--views: for slices"),
        (["--data", "hu.npy", "--sigma", "1"], "--sigma: for measured.*noise --photons"),
        (["--sinogram", "s_rank.npy", "--angles", "6"], "real sinogram"),
        (["--sinogram", "s_turned.npy", "--angles", "61"], "61 views of 6 .*bins.*transpose it"),
    ]
    dataset = pydicom.dcmread(path)
    del dataset.RescaleIntercept
    dataset.save_as("raw.dcm")
    cases += [
        (["--data", "raw.dcm"], "raw.dcm.*RescaleSlope"),
        (["--data", "good.dcm", "--photons", "1e5", "--hu-range", "-160", "240"], "air would"),
        (["--data", "good.dcm", "--views", "100000"], r"less than 2\^31"),
        ([*of, "--angles", "9" * 20], "do not fit"),
    ]
    refuse_all(monkeypatch, capsys, folder, aseqdip_ct, cases)
