"""Open every file of a data folder and print a verdict on each.

    python -m scripts.check_data FOLDER

A file is `ok` if at least one task script reads it, `bad` if it should be readable and is not, and
`ignored` if no script would take it. An array is read as a sinogram if "sino" is in its file's
name, or if it is nothing else. The readers are those of the scripts, so that what is ok here does
not fail there for being unreadable. The exit status is 1 if any file is bad.
"""

import contextlib
import io
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import png
import pydicom
import tifffile
import tyro
from PIL import Image

from utils import arrays, ct_data, image_data, mri_data
from utils.errors import InputError, Status, require
from utils.files import check_file, reason
from utils.flags import cli

TEXT = {".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".yaml", ".yml", ".xml", ".html"}
SINOGRAM = "ct with --sinogram"
LEAST_BINS = 32  # of a sinogram that its name does not tell,
BELOW = -0.05  # of its largest value, the least that noise makes
PICTURES = "denoising, inpainting, deblurring, superresolution"

Reader = Callable[[Path], str]  # tells shape and dtype; raises InputError


@dataclass
class Args:
    folder: tyro.conf.Positional[Path]  # folder with data, searched with all below it


def check(folder: Path) -> Counter[str]:
    """Print the verdict on each file, and count them."""
    require(folder.is_dir(), f"{folder}: expected a folder of data files")
    files = sorted(p for p in folder.rglob("*") if not p.is_dir())
    require(len(files) > 0, f"{folder}: there is no file in it")
    counts: Counter[str] = Counter()
    for path in files:
        kind, words = verdict(path, folder)
        counts[kind] += 1
        print(f"{kind:<8} {path.relative_to(folder)}: {words}", flush=True)
    print(", ".join(f"{counts[kind]} {kind}" for kind in ("ok", "bad", "ignored")))
    return counts


def verdict(path: Path, folder: Path) -> tuple[str, str]:
    """Judge a file.

    Returns:
        `ok`, `bad` or `ignored`, and why in one line.
    """
    suffix = path.suffix.lower()
    if any(part.startswith(".") for part in path.relative_to(folder).parts):
        return "ignored", "hidden"
    if suffix in TEXT:
        return "ignored", "text"
    if path.name.upper() == "DICOMDIR" or (suffix == ".hdr" and path.with_suffix(".cfl").is_file()):
        return "ignored", "it belongs to other files"
    try:
        readers = readers_of(path)
        if not readers:
            return "ignored", f"no task reads {suffix or 'such'} files"
        return judge(path, readers)
    except InputError as error:
        return "bad", one_line(str(error), path)
    except Exception as error:  # a defect of a reader must not stop the other files
        return "bad", f"{type(error).__name__}: {reason(error)}"


def readers_of(path: Path) -> dict[str, Reader]:
    """Return the readers that a file's name, or what it holds, calls for, by task."""
    check_file(path)
    name = path.name.lower()
    if ct_data.is_dicom(path) or name.endswith(ct_data.DICOM):
        return {"ct": read_slice}
    kind = arrays.kind_of(path)
    if kind == "hdf5":
        return {"mri": read_scan, "ct": read_slice}
    if kind is not None:
        tasks = (("mri", mri_data, read_scan), ("ct", ct_data, read_slice),
                 (PICTURES, image_data, read_picture))  # fmt: skip
        fitting = {task: read for task, module, read in tasks if name.endswith(module.SUFFIXES)}
        fitting = fitting or {task: read for task, _, read in tasks}
        if "sino" in name:
            return {SINOGRAM: read_sinogram} | fitting
        return fitting | ({SINOGRAM: read_unnamed} if "ct" in fitting else {})
    if image_data.is_picture(path):
        return {PICTURES: read_picture} | ({"ct": read_slice} if name.endswith(".png") else {})
    return {}


def judge(path: Path, readers: dict[str, Reader]) -> tuple[str, str]:
    """Try all readers of a file."""
    fits: dict[str, str] = {}
    refusals: dict[str, str] = {}
    notes: list[str] = []
    for task, read in readers.items():
        if read is read_unnamed and fits:
            continue
        said = io.StringIO()
        with contextlib.redirect_stdout(said), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                fits[task] = read(path)
            except InputError as error:
                refusals[task] = str(error).removeprefix(f"{path}: ")
                continue
        said_of = [line.removeprefix("note: ") for line in said.getvalue().splitlines()]
        notes += [*said_of, *(reason(w.message) for w in caught)]
    told = "; ".join(dict.fromkeys(refusals.values()))
    if readers.get(SINOGRAM) is read_unnamed and SINOGRAM in fits:
        notes.append(f"nothing else: {told}")
    if not fits:
        return "bad", one_line(told, path)
    words = [f"{next(iter(fits.values()))}, finite, fits {', '.join(fits)}", *dict.fromkeys(notes)]
    return "ok", one_line("; ".join(words), path)


def one_line(text: str, path: Path) -> str:
    """Leave out what the line says already, and line breaks."""
    return " ".join(text.replace(f"{path}: ", "").replace(f"{path}, ", "").split())


# The readers raise InputError for what is damaged, of a wrong shape or dtype, or not finite.


def read_scan(path: Path) -> str:
    """Read all slices of k-space."""
    scan = mri_data.load_scan(path, None)
    with arrays.opened(path) as found:
        stored = found.of[found.choose("kspace", None, mri_data.is_kspace)]
    if scan.n_slices > 1:
        said = io.StringIO()
        with contextlib.redirect_stdout(said):  # what the first has said already
            for number in range(scan.n_slices):
                scan = mri_data.load_scan(path, number)
    return f"k-space {stored.shape} {stored.dtype}{gaps(scan)}"


def gaps(scan: mri_data.Scan) -> str:
    """Say whether a scan is undersampled."""
    holes = mri_data.has_holes(mri_data.acquired_points(scan.kspace))
    return ", undersampled (so with --measured)" if holes else ""


def read_slice(path: Path) -> str:
    """Read a CT slice."""
    scan = ct_data.load_slice(path, "", None)
    low, high = scan.values.min(), scan.values.max()
    unit = "HU" if scan.is_hu else "of relative attenuation"
    return f"slice {scan.values.shape} {stored_type(path)}, {low:g} to {high:g} {unit}"


def read_sinogram(path: Path) -> str:
    """Read measured line integrals, whose views may be at any angles."""
    y = arrays.load_array(path, "sinogram")
    ct_data.load_sinogram(path, str(len(y) if y.ndim else 0))
    views, bins = y.shape
    return f"sinogram of {views} views and {bins} bins, {y.dtype}"


def read_unnamed(path: Path) -> str:
    """Read line integrals whose file is not named so: of many rays, and hardly any below 0."""
    y = arrays.load_array(path, "sinogram")
    require(y.ndim == 2, "a sinogram has two axes")
    require(
        len(y) > 1 and y.shape[1] >= LEAST_BINS and y.min() > BELOW * y.max(),
        "as a sinogram it would have too few views or bins, or values below 0",
    )
    return read_sinogram(path)


def read_picture(path: Path) -> str:
    """Read a picture."""
    channels, *sides = image_data.load_picture(path, "", None).pixels.shape
    shape = (*sides, channels) if channels > 1 else tuple(sides)
    return f"picture {shape} {stored_type(path)}"


def stored_type(path: Path) -> str:
    """Return the dtype of the numbers that a readable picture or slice holds."""
    if not ct_data.is_dicom(path) and arrays.is_array(path):
        with arrays.opened(path) as found:
            name = found.choose("image", None, arrays.has_two_axes)
            return str(found.of[name].dtype.newbyteorder("="))
    if not ct_data.is_dicom(path):
        with Image.open(path) as image:
            kind = image.format
        if kind == "TIFF":
            with tifffile.TiffFile(path) as file:
                return str(file.pages[0].dtype)
        with open(path, "rb") as file:
            reader = png.Reader(file=file)
            if kind == "PNG":
                reader.preamble()
            return "uint16" if kind == "PNG" and reader.bitdepth == 16 else "uint8"
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    return f"{'int' if dataset.PixelRepresentation else 'uint'}{dataset.BitsAllocated}"


def main() -> int:
    folder = cli(Args, description=__doc__).folder
    with Status() as status:
        return int(check(folder)["bad"] > 0)
    return status.code


if __name__ == "__main__":
    sys.exit(main())
