"""The verdicts of scripts/check_data.py on whole, damaged and foreign files."""

import contextlib
import io
import shutil
import subprocess

import h5py
import numpy as np
import png
import pydicom
import pytest
import scipy.io
import skimage.data
import tifffile
from conftest import DATA, ROOT, small_kspace, write_fastmri
from PIL import Image
from pydicom.data import get_testdata_file
from running import call, refused

from scripts import check_data

PIXELS = skimage.data.astronaut()[:40, :48]
PICTURES = "fits denoising, inpainting, deblurring, superresolution"


def check(folder):
    """Return the exit status and the verdict on each file."""
    said, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(err),
    ):
        status = call(patch, check_data, folder)
    lines = said.getvalue().splitlines()
    verdicts = {}
    for line in lines[:-1]:
        kind, name_and_words = line.split(maxsplit=1)
        name, _, words = name_and_words.partition(": ")
        verdicts[name] = (kind, words)
    return status, verdicts, lines, err.getvalue()


def write_good(folder):
    """Write a file of each kind that the scripts read; return what must be said of it."""
    kspace = small_kspace(40, 36, 3)
    write_fastmri(folder / "knee.h5", np.stack([kspace, 2 * kspace]))
    np.save(folder / "kspace.npy", kspace.astype(np.complex128))
    np.savez(folder / "kspace.npz", kspace=kspace, maps=kspace)
    np.save(folder / "hu.npy", np.linspace(-1000, 900, 40 * 40).reshape(40, 40))
    np.save(folder / "my_sinogram.npy", np.tile(np.hanning(60).astype(np.float32), (18, 1)))
    np.save(folder / "rays.npy", np.tile(60 * np.hanning(60).astype(np.float32), (18, 1)))
    np.save(folder / "float.npy", (PIXELS / 255).astype(np.float32))
    shutil.copy(get_testdata_file("CT_small.dcm", download=False), folder / "slice.dcm")
    shutil.copy(get_testdata_file("CT_small.dcm", download=False), folder / "nameless")
    Image.fromarray(PIXELS).save(folder / "colour.png")
    Image.fromarray(PIXELS[..., 0]).save(folder / "grey.png")
    Image.fromarray(PIXELS).save(folder / "photo.JPG")
    tifffile.imwrite(folder / "deep.tif", PIXELS.astype(np.uint16) * 257)
    rows = (PIXELS.astype(np.uint16) * 257).reshape(40, -1)
    with open(folder / "deep.png", "wb") as file:
        png.Writer(48, 40, greyscale=False, bitdepth=16).write(file, rows)
    scipy.io.savemat(folder / "kspace.mat", {"kspace": np.moveaxis(kspace, 0, -1), "fov": 200})
    np.moveaxis(kspace, 0, -1).ravel(order="F").tofile(folder / "bart.cfl")
    (folder / "bart.hdr").write_text("# Dimensions\n40 36 1 3\n")
    write_fastmri(folder / "KNEE.H5", kspace[None])
    np.save(folder / "hollow.npy", kspace * (np.arange(36) % 2))
    tifffile.imwrite(folder / "tiff.png", PIXELS.astype(np.uint16) * 257)
    (folder / "below").mkdir()
    Image.fromarray(PIXELS).save(folder / "below" / "again.png")
    return {
        "knee.h5": ("(2, 3, 40, 36) complex64", "fits mri"),
        "kspace.npy": ("(3, 40, 36) complex128", "fits mri"),
        "kspace.npz": ("(3, 40, 36) complex64", "fits mri"),
        "kspace.mat": ("(40, 36, 3) complex64", "3 coils last; --axes changes that"),
        "bart.cfl": ("(40, 36, 3) complex64", "fits mri"),
        "KNEE.H5": ("(1, 3, 40, 36) complex64", "fits mri"),
        "hollow.npy": ("undersampled (so with --measured)", "fits mri"),
        "tiff.png": ("(40, 48, 3) uint16", PICTURES),
        "hu.npy": ("(40, 40) float64, -1000 to 900 HU", "fits ct"),
        "my_sinogram.npy": ("18 views and 60 bins, float32", "fits ct with --sinogram"),
        "rays.npy": (
            "fits ct with --sinogram; nothing else: ",
            "say with --unit which number is white",
        ),
        "float.npy": ("(40, 48, 3) float32", PICTURES),
        "slice.dcm": ("(128, 128) int16", "fits ct"),
        "nameless": ("(128, 128) int16", "fits ct"),
        "colour.png": ("(40, 48, 3) uint8", PICTURES),
        "grey.png": ("(40, 48) uint8", f"{PICTURES}, ct"),
        "photo.JPG": ("(40, 48, 3) uint8", PICTURES),
        "deep.tif": ("(40, 48, 3) uint16", PICTURES),
        "deep.png": ("(40, 48, 3) uint16", PICTURES),
        "below/again.png": ("(40, 48, 3) uint8", PICTURES),
    }


def write_bad(folder):
    """Write files that a script would refuse; return a word of the reason for each."""
    kspace = small_kspace(40, 36, 3)
    for name in ("knee.h5", "colour.png", "photo.JPG", "slice.dcm", "kspace.npy", "kspace.npz"):
        whole = (folder / name).read_bytes()
        (folder / f"cut_{name}").write_bytes(whole[: int(len(whole) * 0.6)])
    broken = np.stack([kspace, kspace, kspace])
    broken[2, 0, 3, 4] = np.nan  # not in the slice that a script takes by default
    write_fastmri(folder / "nan_slice.h5", broken)
    with h5py.File(folder / "single.h5", "w") as file:
        file["kspace"] = kspace
    nan = np.ones((40, 40))
    nan[3, 3] = np.nan
    np.save(folder / "nan.npy", nan)
    np.save(folder / "kernel.npy", np.full((5, 5), 2.0))
    np.save(folder / "colour.npy", np.full((40, 64, 3), 2.0))
    np.save(folder / "below.npy", np.linspace(-0.2, 1.1, 1600).reshape(40, 40))
    np.save(folder / "objects.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    Image.fromarray(PIXELS[:20, :20]).save(folder / "tiny.png")
    (folder / "empty.png").touch()
    shutil.copy(get_testdata_file("MR_small.dcm", download=False), folder / "mr.dcm")
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    localizer = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
    localizer.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    localizer.save_as(folder / "localizer.dcm")
    scipy.io.savemat(folder / "several.mat", {"a": kspace, "b": kspace})
    (folder / "alone.cfl").write_bytes(bytes(800))
    return {
        "cut_knee.h5": "not a readable HDF5 file", "cut_colour.png": "damaged or cut short",
        "cut_photo.JPG": "damaged or cut short", "cut_slice.dcm": "", "cut_kspace.npy": "damaged",
        "cut_kspace.npz": "damaged", "nan_slice.h5": "NaN or Inf", "single.h5": "expected `kspace`",
        "nan.npy": "NaN or Inf", "kernel.npy": "too few views or bins",
        "colour.npy": "a sinogram has two axes",
        "below.npy": "values below 0", "objects.npy": "pickled", "tiny.png": "at least 32x32",
        "empty.png": "damaged", "mr.dcm": "modality MR", "gone.png": "no such file",
        "localizer.dcm": "a LOCALIZER of CT", "several.mat": "--variable NAME",
        "alone.cfl": "alone.hdr: no such file",
    }  # fmt: skip


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    good = write_good(folder)
    bad = write_bad(folder)
    (folder / ".hidden.png").touch()
    (folder / "ids.txt").write_text("0000\n")
    (folder / "data.zip").write_bytes(b"PK")
    (folder / "DICOMDIR").write_bytes((folder / "slice.dcm").read_bytes())
    return good, bad, check(folder)


def test_whole_files_are_ok_with_shape_dtype_and_task(verdicts):
    good, _, (_, found, _, _) = verdicts
    for name, (shape, task) in good.items():
        kind, words = found[name]
        assert kind == "ok" and shape in words and words.endswith(task), (name, words)
        assert "finite" in words


def test_damaged_files_are_bad_with_a_reason_and_stop_nothing(verdicts):
    good, bad, (status, found, lines, err) = verdicts
    for name, word in bad.items():
        kind, words = found[name]
        assert kind == "bad" and word in words, (name, words)
    assert status == 1 and err == ""
    assert lines[-1] == f"{len(good)} ok, {len(bad)} bad, 5 ignored"
    assert len(lines) == len(good) + len(bad) + 5 + 1  # one line a file


def test_hidden_and_text_files_are_named_as_ignored(verdicts):
    _, _, (_, found, _, _) = verdicts
    assert found[".hidden.png"] == ("ignored", "hidden")
    assert found["ids.txt"] == ("ignored", "text")
    assert found["DICOMDIR"] == found["bart.hdr"] == ("ignored", "it belongs to other files")
    assert found["data.zip"] == ("ignored", "no task reads .zip files")


def test_a_folder_of_whole_files_passes(tmp_path, monkeypatch, capsys):
    good = write_good(tmp_path)
    assert call(monkeypatch, check_data, tmp_path) == 0
    assert capsys.readouterr().out.endswith(f"{len(good)} ok, 0 bad, 1 ignored\n")


@pytest.mark.parametrize("name", ["missing", "file.png", "empty"])
def test_a_wrong_argument_is_an_error(name, tmp_path, monkeypatch, capsys):
    (tmp_path / "file.png").touch()
    (tmp_path / "empty").mkdir()
    refused(monkeypatch, capsys, tmp_path, check_data, [tmp_path / name], str(tmp_path / name))


def test_a_scan_that_was_undersampled_is_said_to_be_so(brain_path, monkeypatch, capsys):
    assert call(monkeypatch, check_data, brain_path.parent) == 0
    assert "undersampled (so with --measured)" in capsys.readouterr().out


# The lists of what the tables use


@pytest.mark.parametrize("name", ["fastmri", "aapm", "cbsd68", "ffhq"])
def test_each_list_names_twenty_files_once(name):
    lines = (ROOT / "data" / f"{name}.txt").read_text().splitlines()
    ids = [line for line in lines if not line.startswith("#")]
    assert len(ids) == len(set(ids)) == 20 and ids == sorted(ids)
    assert all(line.strip() == line and "." not in line for line in ids)
    assert f"[{name}.txt]({name}.txt)" in (ROOT / "data" / "README.md").read_text()


def test_the_pictures_of_cbsd68_s_list_are_there():
    if not (DATA / "cbsd68").is_dir():
        pytest.skip(f"CBSD68 is not there: {DATA / 'cbsd68'}")
    found = sorted(path.stem for path in (DATA / "cbsd68").glob("*.png"))
    lines = (ROOT / "data" / "cbsd68.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == found[:20]


def test_git_takes_the_lists_and_no_data():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    names = ["data/README.md", "data/ffhq.txt", "data/cbsd68/0000.png", "data/file1000000.h5"]
    command = ["git", "-C", str(ROOT), "check-ignore", "--no-index", *names]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.split() == names[2:]
