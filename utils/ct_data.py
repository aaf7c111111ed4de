"""CT slices, sinograms, and the noise of counted photons."""

import math
import warnings
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import torch
from pydicom.data import get_testdata_file
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_rescale
from skimage.transform import resize
from torch import Tensor

from operators.radon import Radon, equispaced_angles
from utils import arrays, image_data
from utils.errors import InputError, require
from utils.files import check_file, reason
from utils.item import Item
from utils.methods import flag

MIN_SIDE = image_data.MIN_SIDE
DICOM = (".dcm", ".ima")
SUFFIXES = (*DICOM, ".png", *arrays.HDF5, *arrays.SUFFIXES)
SAMPLES = {"skull": "J2K_pixelrep_mismatch.dcm", "small": "CT_small.dcm"}  # inside pydicom
AIR_HU = -1024.0  # the lowest value of 12-bit CT; what lies below it is padding
RELATIVE_ROUNDING = 0.01  # what relative attenuation may lie beyond 0 and 1
MAX_HU = 30710.0  # the end of CT's extended scale; nothing in a body lies above it
MIN_HU_RANGE = 100.0  # from the lowest to the highest value of a slice in HU
# Words of ImageType for pictures beside the slices, for values of two energies that are not HU
# (PS3.3 C.8.15.3.1.4), and the class of pictures of a screen.
NO_SLICES = (
    "LOCALIZER", "SCOUT", "TOPOGRAM", "SCREEN SAVE", "DOSE_INFO", "PROT", "PROJECTION IMAGE", "MIP",
    "MAT_SPECIFIC", "MAT_FRACTIONAL", "MAT_VALUE_BASED", "EFF_ATOMIC_NUM", "ELECTRON_DENSITY",
)  # fmt: skip
FIRST_TAG = b"\2\0\0\0"  # of DICOM; in old files nothing stands before it
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
SCREENS = {"WSD", "SD", "SI", "DRW"}  # of ConversionType; slices of HU have others, such as DV
VACUUM_HU = -1000.0  # no attenuation
SIMILAR = 20  # groups of rays that are taken together to estimate their noise
NAMED = frozenset({"angles", "measured"})  # fields of Args that only name what is in the content
# Fields of Args that are for one kind of data alone.
OF_SLICES = (
    "sample", "resize", "axes", "slice", "unit",
    "views", "photons", "pixel_mm", "hu_range", "window",
)  # fmt: skip
OF_SINOGRAMS = ("angles", "size", "sigma", "measured")
MU_WATER = 0.0193  # attenuation of water per mm at 70 keV (NIST XCOM: 0.193 cm^2/g)


@dataclass
class Slice(Item):
    """One CT slice.

    Attributes:
        values: (H, W) float64, Hounsfield units, or relative attenuation in [0, 1].
        is_hu: whether values are Hounsfield units.
        pixel_mm: side of a pixel in mm, None if unknown.
        coarser: side of a pixel over that of the file's.
    """

    values: np.ndarray
    is_hu: bool
    pixel_mm: float | None
    coarser: float = 1.0
    named: frozenset[str] = field(default=NAMED, kw_only=True)

    @property
    def own(self) -> tuple[np.ndarray | str, ...]:
        """What tells this slice from others, the same on every machine."""
        return (self.values, f"hu {self.is_hu}, pixel {self.pixel_mm}")

    @property
    def channels(self) -> int:
        """1: attenuation."""
        return 1


@dataclass
class Units:
    """How Hounsfield units, or other values, become the numbers that are reconstructed.

    Attributes:
        low, high: the values that become 0 and 1.
        is_hu: whether they are Hounsfield units.
    """

    low: float
    high: float
    is_hu: bool

    def values(self, x: Tensor) -> Tensor:
        """Return normalised numbers in the user's units."""
        return self.low + (self.high - self.low) * x

    def normalised(self, values: np.ndarray) -> np.ndarray:
        """Return what is in the user's units as normalised numbers."""
        return (values - self.low) / (self.high - self.low)


@dataclass
class Sinogram(Item):
    """Measured line integrals.

    Attributes:
        y: (n_angles, n_det) float32.
        angles: (n_angles,) float64, in radians.
    """

    y: np.ndarray
    angles: np.ndarray
    named: frozenset[str] = field(default=NAMED, kw_only=True)

    @property
    def own(self) -> tuple[np.ndarray, ...]:
        """What tells this sinogram from others."""
        return (self.y, self.angles)

    @property
    def channels(self) -> int:
        """1: attenuation."""
        return 1


# Slices -------------------------------------------------------------------------------------


def load_slice(
    path: Path | None,
    sample: str,
    side: int | None,
    variable: str | None = None,
    axes: str | None = None,
    index: int | None = None,
    unit: str | None = None,
) -> Slice:
    """Read a CT slice from a file, or take an embedded one.

    The reader is chosen by what the file holds.

    Args:
        path: None for the sample; DICOM (any transfer syntax that pydicom decodes, rescaled to
            Hounsfield units), a picture of relative attenuation, or an array in any file of
            utils/arrays.py: (H, W), or a volume. Hounsfield units below AIR_HU, which pad what
            lies outside a scanner's field of view, become AIR_HU.
        sample: key of SAMPLES.
        side: resample to side x side pixels; None leaves the size.
        variable: name of the array, where the file has several.
        axes: a letter for each axis of a volume: S slices, H rows, W columns; None takes HW, or
            what the file says.
        index: slice of a volume; None takes the middle one.
        unit: of an array: `hu`, or `relative` for attenuation in any unit; None tells it from the
            values.

    Raises:
        InputError: the file is missing, damaged or not a CT slice.
    """
    described = [("variable", variable), ("axes", axes), ("slice", index), ("unit", unit)]
    given = ", ".join(f"--{name}" for name, value in described if value is not None)
    if path is None:
        require(not given, f"{given}: they describe a file; give --data")
        name = SAMPLES[sample]
        file = get_testdata_file(name, download=False)
        require(
            file is not None,
            f"the installed pydicom lacks its test file {name}; reinstall it: "
            "pip install --force-reinstall pydicom",
        )
        scan = _load_dicom(Path(file), sample, f"pydicom's {name}")
        scan.library_file = Path(file)
    else:
        require(path.exists(), f"{path}: no such file; give --data a DICOM, .npy or .png file")
        check_file(path)
        if not is_dicom(path) and arrays.is_array(path):
            scan = _load_array(path, variable, axes, index, unit)
        else:
            require(not given, f"{given}: they describe an array, {path} is none")
            if path.suffix.lower() not in DICOM and image_data.is_picture(path):
                pixels = image_data.read_grey(path)
                scan = Slice(path.stem, str(path), pixels, is_hu=False, pixel_mm=None)
            else:
                known = path.suffix.lower() in SUFFIXES
                scan = _load_dicom(path, path.stem if known else path.name, str(path))
    values = scan.values
    require(
        min(values.shape) >= MIN_SIDE,
        f"{scan.source}: got {values.shape[0]}x{values.shape[1]} pixels; at least "
        f"{MIN_SIDE}x{MIN_SIDE} are needed",
    )
    if scan.is_hu:
        scan.values = values = np.maximum(values, AIR_HU)
        if values.max() > MAX_HU:
            print(
                f"note: {scan.source}: {values.max():g} HU is no tissue and no metal, perhaps "
                "padding; it becomes white, and all else dark, unless --hu-range says otherwise"
            )
    require(
        values.max() > values.min(),
        f"{scan.source}: every pixel is {values.max():g}; there is nothing to reconstruct",
    )
    if side is not None:
        require(side >= MIN_SIDE, f"--resize {side}: expected at least {MIN_SIDE} pixels")
        height, width = values.shape
        if height != width:
            print(f"note: {scan.source}: {height}x{width} pixels are squeezed into {side}x{side}")
        scan.coarser = max(values.shape) / side
        if scan.pixel_mm is not None:
            scan.pixel_mm *= scan.coarser
        scan.values = resize(values, (side, side), order=1, anti_aliasing=True)
    scan.path = path
    return scan


def is_dicom(path: Path) -> bool:
    """Tell whether a file, whatever its name, is marked as DICOM."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def _load_array(
    path: Path, variable: str | None, axes: str | None, index: int | None, unit: str | None
) -> Slice:
    with arrays.opened(path) as found:
        name = found.choose("slice", variable, arrays.has_two_axes)
        stored = found.of[name]
        letters = (axes or stored.axes or "HW").upper()
        require(
            sorted(letters) in (["H", "W"], ["H", "S", "W"]) and len(letters) == len(stored.shape),
            f"{path}: expected a real CT slice (H, W), got {stored.dtype} {stored.shape}"
            + (f" and --axes {axes}" if axes else "; of a volume give --axes, such as SHW or HWS"),
        )
        item, source, chosen = arrays.stem(path), str(path), arrays.WHOLE
        if "S" in letters:
            at, n_slices = letters.index("S"), stored.shape[letters.index("S")]
            number = n_slices // 2 if index is None else index
            require(
                0 <= number < n_slices,
                f"{path}: --slice {number} is out of range; it has slices 0 to {n_slices - 1}",
            )
            chosen = (*[slice(None)] * at, number)
            letters = letters.replace("S", "")
            item, source = f"{item}_slice{number:02d}", f"{path}, slice {number} of {n_slices}"
        else:
            require(index is None, f"{path}: --slice chooses a slice of a volume; it holds one")
        values = found.read(name, chosen)
    require(
        values.dtype.kind in "iuf" or (found.kind == "mat" and np.isrealobj(values)),
        f"{path}: expected a real CT slice (H, W), got {values.dtype} {values.shape}",
    )
    values = np.transpose(values, [letters.index(a) for a in "HW"]).astype(np.float64)
    require(bool(np.isfinite(values).all()), f"{path}: the slice holds NaN or Inf; repair it")
    is_hu = unit == "hu" if unit else _is_hu(path, values)
    return Slice(item, source, values, is_hu=is_hu, pixel_mm=stored.pixel_mm if is_hu else None)


def _is_hu(path: Path, values: np.ndarray) -> bool:
    """Tell Hounsfield units from relative attenuation, and say what is guessed.

    A slice of a body spans hundreds of Hounsfield units, with air below 0.

    Raises:
        InputError: the values are neither.
    """
    low, high = values.min(), values.max()
    if low >= -RELATIVE_ROUNDING and high <= 1 + RELATIVE_ROUNDING:
        return False
    require(
        high - low >= MIN_HU_RANGE or high == low,
        f"{path}: {low:.4g} to {high:.4g} are neither Hounsfield units nor relative attenuation "
        "from 0 to 1; give --unit hu or --unit relative",
    )
    if low >= 0:
        print(
            f"note: {path}: {low:.4g} to {high:.4g} are read as Hounsfield units, although no "
            "value is below 0, as air is; confirm with --unit hu, or give --unit relative"
        )
    return True


def _load_dicom(path: Path, item: str, source: str) -> Slice:
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            dataset = pydicom.dcmread(path, force=_lacks_preamble(path))
    except InvalidDicomError as error:
        raise InputError(
            f"{path}: not a DICOM file; give --data a CT slice as DICOM, an array or .png"
        ) from error
    except PermissionError as error:
        raise InputError(f"{path}: you may not read it; change its permissions") from error
    except Exception as error:  # of any kind, from bytes that are no DICOM
        raise _undecodable(path, error) from error
    for warning in said:
        message = str(warning.message)
        require("End of file" not in message, f"{path}: cut short ({message[:80]})")
        print(f"note: {path}: {' '.join(message.split())[:200]}")
    try:
        _refuse_other_than_slices(path, dataset)
        raw = dataset.pixel_array
        values = np.asarray(apply_rescale(raw, dataset), dtype=np.float64)
        padding = _padding(dataset, raw)
        spacing = [float(mm) for mm in np.atleast_1d(dataset.get("PixelSpacing") or ())]
        if len(spacing) != 2 or not all(0 < mm < math.inf for mm in spacing):
            spacing = []  # it says nothing
        pixel_mm = spacing[0] if spacing else None
    except InputError:
        raise
    except RuntimeError as error:
        require("Unable to decompress" in str(error), f"{path}: damaged ({reason(error)})")
        raise InputError(
            f"{path}: no decoder for its compression, {dataset.file_meta.TransferSyntaxUID.name}; "
            "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg, or decompress it"
        ) from error
    except Exception as error:
        raise _undecodable(path, error) from error
    require(values.ndim == 2, f"{path}: expected a grey slice (H, W), got pixels of {values.shape}")
    require(
        bool(np.isfinite(values).all()), f"{path}: damaged, its Hounsfield units are not finite"
    )
    if padding.any() and values[padding].max() > AIR_HU:
        print(
            f"note: {path}: {padding.mean():.1%} of the pixels are padding "
            f"({values[padding].max():g} HU by the file's own tag), which becomes air"
        )
    values[padding] = AIR_HU
    if spacing and not math.isclose(*spacing, rel_tol=0.01):
        print(
            f"note: {path}: its pixels are {spacing[0]:g} mm high and {spacing[1]:g} mm wide; they "
            "are taken for squares"
        )
    return Slice(item, source, values, is_hu=True, pixel_mm=pixel_mm)


def _lacks_preamble(path: Path) -> bool:
    with open(path, "rb") as file:
        start = file.read(132)
    return start[128:] != b"DICM" and start.startswith(FIRST_TAG)


def _undecodable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path}: this DICOM file cannot be decoded, damaged or cut short ({reason(error)})"
    )


def _refuse_other_than_slices(path: Path, dataset: pydicom.Dataset) -> None:
    """Raise InputError unless a DICOM file holds one slice in Hounsfield units."""
    modality = dataset.get("Modality", "none")
    require(modality == "CT", f"{path}: expected a CT slice, got modality {modality}")
    kind = [str(word).upper() for word in dataset.get("ImageType") or ()]
    other = next((word for word in kind if word in NO_SLICES), None)
    require(other is None, f"{path}: a {other} of CT (ImageType), no slice; leave it out")
    sop_class = str(dataset.get("SOPClassUID", ""))
    require(
        not sop_class.startswith(SECONDARY_CAPTURE)
        and dataset.get("ConversionType") not in SCREENS,
        f"{path}: a secondary capture, a picture of a screen; leave it out",
    )
    frames = int(dataset.get("NumberOfFrames") or 1)
    require(frames == 1, f"{path}: expected a single slice, got {frames} frames")
    require("PixelData" in dataset, f"{path}: a DICOM file without an image")
    colours = str(dataset.get("PhotometricInterpretation", "MONOCHROME2"))
    require(colours.startswith("MONOCHROME"), f"{path}: expected a grey slice, got {colours}")
    require(
        dataset.get("RescaleSlope") is not None and dataset.get("RescaleIntercept") is not None,
        f"{path}: no RescaleSlope and RescaleIntercept in it, so its Hounsfield units are not "
        "known; save the slice in HU as .npy",
    )
    # Of a CT image without it, the standard says HU (PS3.3 C.8.2.1).
    rescaled = str(dataset.get("RescaleType") or "HU").strip().upper()
    require(
        rescaled in ("HU", "HU_MOD"),
        f"{path}: its values are {rescaled} (RescaleType), not Hounsfield units; leave it out",
    )
    size = int(dataset.get("Rows") or 0) * int(dataset.get("Columns") or 0)
    require(size <= image_data.MAX_PIXELS, f"{path}: damaged, it declares {size} pixels")


def _padding(dataset: pydicom.Dataset, raw: np.ndarray) -> np.ndarray:
    """Return (H, W) bool: pixels outside the scanner's field of view, by the file's own tag.

    The tag may be written signed where the pixels are not, or the other way round.
    """
    if dataset.get("PixelPaddingValue") is None:
        return np.zeros(raw.shape, dtype=bool)
    first = int(dataset.PixelPaddingValue)
    last = dataset.get("PixelPaddingRangeLimit")
    last = first if last is None else int(last)
    around = 2 ** int(dataset.BitsAllocated)
    stored = raw.astype(np.int64)
    low, high = min(first, last), max(first, last)
    return np.any(
        [(low + n <= stored) & (stored <= high + n) for n in (-around, 0, around)], axis=0
    )


def physical(
    scan: Slice | Sinogram, hu_range: tuple[float, float] | None, photons: float | None
) -> Slice | Sinogram:
    """Return the scan that photons can be counted behind.

    What lies below vacuum, -1000 HU, would make photons: it is raised to it. Measured line
    integrals, and slices without photons to count, stay as they are.

    Raises:
        InputError: hu_range would turn air into something that attenuates.
    """
    if photons is None or isinstance(scan, Sinogram):
        return scan
    require(
        hu_range is None or hu_range[0] <= VACUUM_HU,
        f"--photons: air would attenuate like the lower end of --hu-range; take one from "
        f"{VACUUM_HU:g} HU on, or none",
    )
    return replace(scan, values=np.maximum(scan.values, VACUUM_HU)) if scan.is_hu else scan


def make_units(scan: Slice | Sinogram, hu_range: tuple[float, float] | None) -> Units:
    """Choose what becomes 0 and 1: the slice's minimum and maximum, or a range of HU.

    Measured line integrals stay as they are.

    Raises:
        InputError: the range is empty, lies beside the slice, or the slice is not in HU.
    """
    if isinstance(scan, Sinogram):
        return Units(0.0, 1.0, is_hu=False)
    if hu_range is None:
        return Units(float(scan.values.min()), float(scan.values.max()), scan.is_hu)
    low, high = hu_range
    require(
        scan.is_hu, f"--hu-range: {scan.source} is not in HU but in relative attenuation, 0 to 1"
    )
    require(
        -math.inf < low < high < math.inf,
        f"--hu-range {low:g} {high:g}: expected a lower and a higher number of HU",
    )
    require(
        low < scan.values.max() and high > scan.values.min(),
        f"--hu-range {low:g} {high:g}: the slice has {scan.values.min():g} to "
        f"{scan.values.max():g} HU; choose a range that meets it",
    )
    return Units(low, high, is_hu=True)


def check_window(window: tuple[float, float], given: bool, units: Units) -> None:
    """Raise InputError unless a window is a lower and a higher number of HU, for data in HU.

    Args:
        window: of --window.
        given: the user gave it.
        units: of the data.
    """
    low, high = window
    require(units.is_hu or not given, "--window: for data in HU, which these are not; omit it")
    require(
        -math.inf < low < high < math.inf,
        f"--window {low:g} {high:g}: expected a lower and a higher number of HU",
    )


def load_relative(path: Path, units: Units) -> np.ndarray:
    """Read a slice, (H, W) float64, as the numbers that another slice's units make of it.

    Args:
        path: as for load_slice.
        units: of the other slice; what lies outside becomes 0 or 1.

    Raises:
        InputError: the file is no slice, or not in Hounsfield units where the other one is.
    """
    scan = load_slice(path, "", None)
    require(
        scan.is_hu or not units.is_hu,
        f"{path}: a picture; the reference for a slice in Hounsfield units must be in them too",
    )
    if not units.is_hu:
        return (scan.values - scan.values.min()) / np.ptp(scan.values)
    return units.normalised(scan.values).clip(0, 1)


def pixel_size(scan: Slice, pixel_mm: float | None) -> float:
    """Return the side of a pixel in mm, for --photons.

    Args:
        scan: the slice.
        pixel_mm: of the user's file, None to take the slice's own.

    Raises:
        InputError: it is not known, or the slice is not in HU.
    """
    require(
        scan.is_hu,
        f"--photons: {scan.source} is not in HU, so its attenuation is not known; give one in HU",
    )
    size = scan.pixel_mm if pixel_mm is None else scan.coarser * pixel_mm
    require(
        size is not None,
        f"--photons: {scan.source} does not say how large its pixels are; give --pixel-mm",
    )
    require(0 < size < math.inf, f"--pixel-mm {size:g}: expected a number of mm above 0")
    return size


# Measured sinograms -------------------------------------------------------------------------


def check_flags(args: Any) -> None:
    """Refuse flags of slices beside a sinogram, and of sinograms without one.

    Args:
        args: of aseqdip_ct.py.

    Raises:
        InputError: a flag would be of no use.
    """
    given = {*args.changed}  # and of Args that were made in Python, what differs from None or False
    for f in fields(args):
        if f.default in (None, False) and getattr(args, f.name) is not f.default:
            given.add(f.name)
    require(
        args.photons is not None or "pixel_mm" not in given,
        "--pixel-mm: for --photons; without them the size of a pixel does not matter; omit it",
    )
    if args.sinogram is not None:
        require("data" not in given, "--sinogram: it takes the place of --data; give one of them")
        for name in OF_SLICES:
            require(name not in given, f"{flag(name)}: for slices, not for --sinogram; omit it")
        return
    for name in OF_SINOGRAMS:
        require(
            name not in given,
            f"{flag(name)}: for measured line integrals; give them with --sinogram, or omit the flag "
            "(a slice's views are --views, its noise --photons)",
        )


def load_sinogram(path: Path, angles: str | None, variable: str | None = None) -> Sinogram:
    """Read measured line integrals and their angles.

    Args:
        path: (n_angles, n_det) real, in any file of utils/arrays.py; the rotation axis projects onto detector bin
            n_det // 2.
        angles: a number of views, equispaced over 180 degrees, or a text file or array of
            angles in degrees. What can only be radians is taken so, and told.
        variable: name of the sinogram, where the file has several arrays.

    Raises:
        InputError: a file is missing or damaged, or the two do not fit.
    """
    y = arrays.load_array(path, "sinogram", variable)
    y = y.real if y.dtype.kind == "c" and not y.imag.any() else y
    require(
        y.ndim == 2 and y.dtype.kind in "iuf",
        f"{path}: expected a real sinogram (angles, detector bins), got {y.dtype} {y.shape}",
    )
    require(bool(np.isfinite(y).all()), f"{path}: the sinogram holds NaN or Inf; repair it")
    require(
        angles is not None,
        "--angles: say how many views over 180 degrees --sinogram holds, or "
        "give a file of angles in degrees",
    )
    if angles.isdecimal():
        count, degrees = int(angles), np.arange(len(y)) * 180 / len(y)
    else:
        degrees = _load_degrees(Path(angles).expanduser())
        count = len(degrees)
    require(
        count == len(y),
        f"{path}: {count} angles (--angles {angles}) do not fit a sinogram of "
        f"{y.shape[0]} angles x {y.shape[1]} detector bins"
        + ("; transpose it" if count == y.shape[1] else ""),
    )
    with np.errstate(over="ignore"):
        y = y.astype(np.float32)
    require(
        bool(np.isfinite(y).all()), f"{path}: line integrals beyond single precision; scale them"
    )
    total = y.sum(dtype=np.float64)
    require(
        total > 0,
        f"{path}: its sum is {total:g}; expected line integrals of attenuation, whose sum is above 0: "
        "is the sign wrong, or is it empty?",
    )
    quarter = y.shape[1] // 4
    edges = y[:, [0, -1]].mean(dtype=np.float64)
    middle = y[:, quarter : y.shape[1] - quarter].mean(dtype=np.float64)
    if edges > middle:
        print(
            f"note: {path}: its outer rays have larger values than its inner ones; if it holds "
            "intensities I, make line integrals of them: -log(I / I0)"
        )
    return Sinogram(path.stem, str(path), y, np.deg2rad(degrees))


def _load_degrees(path: Path) -> np.ndarray:
    require(path.is_file(), f"--angles {path}: expected a number of views or a file")
    if arrays.is_array(path):
        degrees = arrays.load_array(path, "angles", fits=lambda v: max(v.shape, default=0) > 1)
        degrees = degrees.reshape(-1) if max(degrees.shape, default=0) == degrees.size else degrees
    else:
        try:
            lines = [line.partition("#")[0] for line in path.read_text().splitlines()]
            lines = [line.replace(",", " ") for line in lines if line.strip()]
            degrees = np.loadtxt(lines, ndmin=1) if lines else np.empty(0)
        except (ValueError, UnicodeDecodeError, OSError) as error:
            raise InputError(
                f"{path}: expected angles in degrees as text ({reason(error)})"
            ) from error
    require(
        degrees.ndim == 1 and len(degrees) > 0 and degrees.dtype.kind in "iuf",
        f"{path}: expected a list of angles in degrees, got {degrees.dtype} {degrees.shape}",
    )
    require(bool(np.isfinite(degrees).all()), f"{path}: the angles hold NaN or Inf")
    degrees = degrees.astype(np.float64)
    whole = bool((degrees == np.rint(degrees)).all())
    if not whole and np.abs(degrees).max() <= 2.01 * np.pi and np.ptp(degrees) > 1:
        print(
            f"note: {path}: angles from {degrees.min():.3g} to {degrees.max():.3g} are read as "
            "radians; if they are degrees, add 360 to each"
        )
        return np.rad2deg(degrees)
    return degrees


def is_noisy(args: Any) -> bool:
    """Tell whether the measurements have noise: photons are counted, or they are real ones.

    Args:
        args: of aseqdip_ct.py; --sigma 0 says that a sinogram has none.
    """
    return bool(args.photons) or (args.sinogram is not None and args.sigma != 0)


# Measuring ----------------------------------------------------------------------------------


def make_operator(scan: Slice | Sinogram, views: int, size: int | None, filter_name: str) -> Radon:
    """Build the Radon transform of a slice, or of measured line integrals.

    Args:
        scan: what is reconstructed.
        views: of a slice, equispaced over 180 degrees.
        size: side of the image of a sinogram, in detector bins; None for all of them.
        filter_name: of the FBP.

    Raises:
        InputError: there are too few views or pixels, or too many.
    """
    if isinstance(scan, Sinogram):
        n_det = scan.y.shape[1]
        side = n_det if size is None else size
        require(
            size is not None or n_det >= MIN_SIDE,
            f"{scan.source}: {len(scan.y)} views of {n_det} detector bins; expected at least "
            f"{MIN_SIDE} bins. If it is (bins, views), transpose it; else give --size",
        )
        require(side >= MIN_SIDE, f"--size {side}: expected at least {MIN_SIDE} pixels")
        shape, angles = (side, side), torch.from_numpy(scan.angles)
    else:
        require(views >= 1, f"--views {views}: expected a whole number of at least 1")
        n_det, shape, angles = None, scan.values.shape, equispaced_angles(views)
    try:
        A = Radon(shape, angles, n_det, filter_name)
    except ValueError as error:  # too many views of too many pixels
        raise InputError(str(error)) from error
    first, last = torch.rad2deg(angles).aminmax()
    print(
        f"{scan.source}: {shape[0]}x{shape[1]} pixels, {A.out_shape[1]} views from {first:.4g} to "
        f"{last:.4g} degrees, of {A.out_shape[2]} bins"
    )
    return A


def measure(
    scan: Slice, A: Radon, units: Units, photons: float | None, pixel_mm: float | None,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, dict[str, Any]]:  # fmt: skip
    """Simulate the line integrals of a slice.

    Args:
        scan, A, units: the slice, the operator, what becomes 0 and 1.
        photons: I0 sent per ray, counted with noise; None for none.
        pixel_mm: side of a pixel in mm for it; None takes the file's.
        generator: CPU generator of the noise.

    Returns:
        The sinogram, (1, 1, n_angles, n_det); the slice, (1, 1, H, W) from 0 to 1; what
        metrics.json is to hold.
    """
    x_true = torch.from_numpy(units.normalised(scan.values).clip(0, 1))[None, None].float()
    x_true = x_true.to(next(A.buffers()).device)
    sinogram = A(x_true)
    facts = {"low": units.low, "high": units.high, "is_hu": units.is_hu}
    if units.is_hu:
        print(f"{units.low:g} HU is 0, {units.high:g} HU is 1")
    if photons is None:
        return sinogram, x_true, facts
    mu_0, mu_1 = attenuation(units, pixel_size(scan, pixel_mm))
    background = mu_0 * A(torch.ones_like(x_true))
    p, n_starved = photon_noise(background + (mu_1 - mu_0) * sinogram, photons, generator)
    print(f"{photons:g} photons per ray; {n_starved} of {sinogram.numel()} rays lost all of them")
    # A count of n has the variance n, its logarithm 1 / n.
    noise_norm = (p.double().exp().sum() / photons).sqrt().item() / (mu_1 - mu_0)
    facts |= {
        "photons": photons, "rays_without_photons": n_starved, "noise_norm": noise_norm,
    }  # fmt: skip
    return (p - background) / (mu_1 - mu_0), x_true, facts


def title(
    scan: Slice | Sinogram, A: Radon, photons: float | None, window: tuple[float, float] | None
) -> str:
    """Say in one line what a picture is of.

    Args:
        scan, A: what is reconstructed, and the operator.
        photons: sent per ray, None for no noise.
        window: HU shown as black and white, None where there are none.

    Returns:
        Such as "abdomen, 30 views, 20000 photons a ray, shown -160 to 240 HU".
    """
    words = [scan.item, f"{A.out_shape[1]} views"]
    words += [f"{photons:.10g} photons a ray"] if photons else []
    words += ["shown {:g} to {:g} HU".format(*window)] if window else []
    return ", ".join(words)


# Noise --------------------------------------------------------------------------------------


def attenuation(units: Units, pixel_mm: float) -> tuple[float, float]:
    """Return the attenuation per pixel of the Hounsfield units that are 0 and 1.

        mu = MU_WATER (1 + HU / 1000)

    Args:
        units: in Hounsfield units.
        pixel_mm: side of a pixel in mm.
    """
    low, high = (MU_WATER * pixel_mm * (1 + hu / 1000) for hu in (units.low, units.high))
    return low, high


def estimate_noise(sinogram: Tensor) -> float:
    """Estimate the norm of the noise in measured line integrals.

    From fourth differences along the detector, which hold little of an object but its edges; of
    independent noise they have 70 times its variance (1 + 16 + 36 + 16 + 1). The noise of counted
    photons depends on the line integral alone. So rays of similar integrals are taken together, and
    their noise is told by the median difference, which few edges do not move: of normal noise it is
    0.6745 of the standard deviation.

    Args:
        sinogram: (1, 1, n_angles, n_det).

    Returns:
        The norm in units of the sinogram; 0 where fewer than five bins tell nothing.
    """
    if sinogram.shape[-1] < 5:
        return 0.0
    rays = sinogram[0].double().cpu()
    differences = rays.diff(n=4, dim=-1).abs().flatten()
    order = torch.nn.functional.avg_pool1d(rays, 5, stride=1).flatten().argsort(stable=True)
    groups = differences[order].chunk(SIMILAR)
    variances = [(group.median() / 0.6745) ** 2 / 70 for group in groups]
    total = sum(len(group) * variance for group, variance in zip(groups, variances))
    return (total / len(differences) * sinogram.numel()).sqrt().item()


def photon_noise(p: Tensor, photons: float, generator: torch.Generator) -> tuple[Tensor, int]:
    """Count photons behind the object and take the logarithm again.

        counts ~ Poisson(I0 exp(-p)),    noisy p = log(I0 / max(counts, 1))

    A ray that no photon passes is given one, as scanners do before their logarithm.

    Args:
        p: integrals of the attenuation along the rays, any shape, without unit.
        photons: I0, sent per ray.
        generator: CPU generator.

    Returns:
        noisy p of the same shape and dtype, and the number of rays without a photon.

    Raises:
        InputError: photons is not a number above 0.

    Reference:
        aSeqDIP (Alkhouri et al., NeurIPS 2024), section 4.1: y_i = I0 exp(-[A x]_i).
    """
    require(0 < photons < math.inf, f"--photons {photons:g}: expected a number of photons above 0")
    counts = torch.poisson(photons * torch.exp(-p.double().cpu()), generator=generator)
    noisy = torch.log(photons / counts.clamp(min=1))
    return noisy.to(p), int((counts == 0).sum())
