"""Multi-coil k-space: the embedded sample, files, cropping, masks and sensitivity maps."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import torch
from pydicom.data import get_testdata_file
from skimage.transform import resize

from operators import mri
from utils import arrays
from utils.errors import InputError, require
from utils.files import content_hash, write_atomically
from utils.item import Item
from utils.methods import flag
from utils.noise import told_norm

SUFFIXES = (*arrays.HDF5, *arrays.SUFFIXES)
MIN_SIDE = 32  # pixels; three poolings leave 4
MIN_CALIBRATION_LINES = 6
FASTMRI_CROP = 320  # section 4.1
ROUNDING = 1e-6  # of the largest value: what lies below it was not sampled
LOST = 0.05  # share of signal outside the maps that is told
MASKED = 1e-4  # of the largest value: what a file's mask may leave where it is zero
OF_COLUMNS = ("accel", "center_fraction")  # fields of Args
OF_SIMULATION = ("mask", *OF_COLUMNS)
PATTERNS = ("random", "equispaced")  # of --mask
SAMPLE_SIZE = 320
SAMPLE_COILS = 15
SAMPLE_NOISE = 0.01  # standard deviation of the complex noise, of the image's maximum


@dataclass
class Scan(Item):
    """One slice of multi-coil k-space.

    Attributes:
        kspace: (n_coils, H, W) complex64, zero frequency at (H // 2, W // 2), phase encoding
            along W.
        noise_std: standard deviation of complex Gaussian noise that is to be added to sampled
            entries; 0 for measured k-space, which has its own.
        is_fastmri: from a fastMRI file, whose images are cropped to 320 by default.
        rss: (h, w) the file's own root-sum-of-squares image, if it has one.
        n_slices: of the file.
        moved: axes (0 H, 1 W) along which load_scan has moved the images by half a field of view.
        recipe: for a simulated scan, what it is made of. Its k-space has been through an FFT,
            whose last bits are not those of every processor.
        sampled: the user's mask, as load_mask reads it, None for none.
        beside: the user's sensitivity maps, None for none, and mask.
    """

    kspace: np.ndarray
    noise_std: float = 0.0
    is_fastmri: bool = False
    rss: np.ndarray | None = None
    n_slices: int = 1
    moved: tuple[int, ...] = ()
    recipe: tuple[np.ndarray | str, ...] = ()
    sampled: np.ndarray | None = None
    beside: tuple[np.ndarray | None, ...] = field(default=(None,), kw_only=True)

    def __post_init__(self) -> None:
        self.kspace = np.ascontiguousarray(self.kspace, dtype=np.complex64)

    @property
    def own(self) -> tuple[np.ndarray | str, ...]:
        """What tells this scan from others, the same on every machine."""
        return self.recipe or (self.kspace,)

    @property
    def channels(self) -> int:
        """2: real and imaginary part."""
        return 2


def fft2c(x: np.ndarray) -> np.ndarray:
    """Compute operators.mri.fft2c of an array."""
    return mri.fft2c(torch.from_numpy(x)).numpy()


def ifft2c(k: np.ndarray) -> np.ndarray:
    """Compute operators.mri.ifft2c of an array."""
    return mri.ifft2c(torch.from_numpy(k)).numpy()


# The embedded sample ------------------------------------------------------------------------


def load_sample() -> Scan:
    """Simulate a 15-coil 320x320 scan of the abdominal MR slice that ships with pydicom.

    The magnitude image (300x484, 0.72 mm, Siemens) is padded to a square and resampled; a smooth
    phase and sigpy's birdcage maps make coil images. It is a simulation: no off-resonance, no
    motion, no correlated noise, and the magnitude has been through a scanner's reconstruction.
    """
    path = get_testdata_file("examples_overlay.dcm", download=False)
    require(
        path is not None,
        "the installed pydicom lacks its test file examples_overlay.dcm; "
        "reinstall it: pip install --force-reinstall pydicom",
    )
    pixels = pydicom.dcmread(path).pixel_array  # (300, 484)
    image = pixels.astype(np.float64)
    missing = image.shape[1] - image.shape[0]
    image = np.pad(image, ((missing // 2, missing - missing // 2), (0, 0)))
    image = resize(image, (SAMPLE_SIZE, SAMPLE_SIZE), order=1, anti_aliasing=True)
    image /= image.max()
    return _simulate(
        "sample",
        "simulated: pydicom examples_overlay.dcm, 15 birdcage coils",
        image,
        (pixels, f"sample 1: {SAMPLE_SIZE} pixels, {SAMPLE_COILS} coils, {SAMPLE_NOISE}"),
    )


def training_scans() -> list[Scan]:
    """Simulate four scans for UGoDIT of another slice than the sample's: pydicom's MR_small.dcm.

    It is one slice of 64x64 pixels, resampled to 128x128 and seen as it is and turned by 90, 180
    and 270 degrees, by the coils and with the phase of the sample.
    """
    path = get_testdata_file("MR_small.dcm", download=False)
    require(
        path is not None,
        "the installed pydicom lacks its test file MR_small.dcm; reinstall it: "
        "pip install --force-reinstall pydicom",
    )
    pixels = pydicom.dcmread(path).pixel_array  # (64, 64)
    image = resize(pixels.astype(np.float64), (128, 128), order=1)
    image /= image.max()
    return [
        _simulate(
            f"small_{90 * quarter}",
            f"simulated: pydicom MR_small.dcm turned by {90 * quarter} degrees, 15 birdcage coils",
            np.rot90(image, quarter),
            (pixels, f"training 1: turned {quarter}, {SAMPLE_COILS} coils, {SAMPLE_NOISE}"),
        )
        for quarter in range(4)
    ]


def _simulate(
    item: str, source: str, image: np.ndarray, recipe: tuple[np.ndarray | str, ...]
) -> Scan:
    """Let birdcage coils see a square image of maximum 1, with a smooth phase."""
    import sigpy.mri  # not at the top: it takes a second

    side = len(image)
    u, v = np.meshgrid(*[np.linspace(-1, 1, side)] * 2, indexing="ij")
    phase = 0.8 * np.pi * (0.5 * u + 0.3 * v + 0.6 * u * v - 0.5 * u**2 + 0.4 * v**2)
    maps = sigpy.mri.birdcage_maps((SAMPLE_COILS, side, side), dtype=np.complex64)
    return Scan(
        item=item,
        source=source,
        kspace=fft2c(maps * (image * np.exp(1j * phase)).astype(np.complex64)),
        noise_std=SAMPLE_NOISE,
        recipe=recipe,
    )


# Files --------------------------------------------------------------------------------------


def load_scan(
    path: Path | None,
    slice_index: int | None,
    variable: str | None = None,
    axes: str | None = None,
) -> Scan:
    """Read one slice of k-space from a file, or make the embedded sample.

    What the file does not say is told from the array itself, and printed: coils that come last
    (the only axis under MIN_SIDE), zero frequency in the corner (where the energy is), and images
    that lie half a field of view off.

    Args:
        path: None for the sample; fastMRI multi-coil .h5 (`kspace`: (slices, coils, H, W)), or
            one complex array (coils, H, W) in any file of utils/arrays.py. A `mask` beside it,
            (W,), (H,) or (H, W), says which points were sampled.
        slice_index: slice of a volume; None takes the middle one.
        variable: name of the array, where there are several; None takes `kspace`.
        axes: a letter for each axis of the array: C coils, H readout, W phase encoding, S slices;
            None takes CHW, SCHW, or what the file says.

    Raises:
        InputError: the file is missing, damaged or not of such a form.
    """
    if path is None:
        require(slice_index is None, "--slice chooses a slice of a volume; give --data one")
        require(
            variable is None and axes is None,
            "--variable, --axes: they describe a file; give --data",
        )
        return load_sample()
    require(path.exists(), f"{path}: no such file; give --data one of {', '.join(SUFFIXES)}")
    if path.suffix == ".hdr" and path.with_suffix(".cfl").exists():  # the data of the pair
        path = path.with_suffix(".cfl")
    with arrays.opened(path) as found:
        name = found.choose("kspace", variable, is_kspace)
        stored = found.of[name]
        require(
            stored.dtype.kind == "c" or len(stored.shape) < 3,
            f"{path}: expected complex k-space, got {stored.dtype}",
        )
        whole = letters = check_axes(path, stored.shape, axes or stored.axes, found.kind)
        item, source, index, n_slices = arrays.stem(path), str(path), arrays.WHOLE, 1
        if "S" in letters:
            at, n_slices = letters.index("S"), stored.shape[letters.index("S")]
            chosen = n_slices // 2 if slice_index is None else slice_index
            require(
                0 <= chosen < n_slices,
                f"{path}: --slice {chosen} is out of range; it has slices 0 to {n_slices - 1}",
            )
            index = (*[slice(None)] * at, chosen)
            item, source = f"{item}_slice{chosen:02d}", f"{path}, slice {chosen} of {n_slices}"
            letters = letters.replace("S", "")
        else:
            require(
                slice_index is None, f"{path}: --slice chooses a slice of a volume; it holds one"
            )
        k = found.read(name, index)
        rss, sampled = None, None
        slices = (n_slices, index[-1]) if index != arrays.WHOLE else None
        # fastMRI's own figure and mask, where the k-space is the one that they belong to.
        if "reconstruction_rss" in found.of and letters == "CHW" and index[0] != slice(None):
            shape = found.of["reconstruction_rss"].shape
            if len(shape) == 3 and shape[0] == n_slices:
                rss = found.read("reconstruction_rss", index)
        if "mask" in found.of and name != "mask":
            sampled = found.read("mask")
    require(np.iscomplexobj(k), f"{path}: expected complex k-space, got {k.dtype}")  # a real .mat
    k = np.transpose(k, [letters.index(a) for a in "CHW"])
    require(
        k.shape[0] > 1,
        f"{path}: got a single coil of shape {k.shape}; multi-coil k-space (coils, H, W) is needed",
    )
    require(
        min(k.shape[1:]) >= MIN_SIDE,
        f"{path}: got {k.shape[1]}x{k.shape[2]} pixels; at least {MIN_SIDE}x{MIN_SIDE} are needed",
    )
    with np.errstate(over="ignore"):  # what single precision cannot hold becomes Inf, and is told
        k = np.ascontiguousarray(k, dtype=np.complex64)
    require(bool(np.isfinite(k).all()), f"{path}: k-space holds NaN or Inf; repair or drop it")
    require(bool((k != 0).any()), f"{path}: k-space is all zeros; nothing was measured")
    if sampled is not None:
        k = only_sampled(path, k, sampled, slices)
    k, moved = origin_in_the_middle(path, centred(path, k))
    k = without_rounding(k)
    is_fastmri = found.kind == "hdf5" and name == "kspace" and whole == "SCHW"
    return Scan(
        item, source, k, is_fastmri=is_fastmri, rss=rss, n_slices=n_slices, moved=moved, path=path
    )


def is_kspace(variable: arrays.Variable) -> bool:
    """Tell whether an array of a file could be k-space of several coils."""
    return len(variable.shape) > 2 and variable.dtype.kind == "c"


def check_axes(path: Path, shape: tuple[int, ...], axes: str | None, kind: str) -> str:
    """Return a letter for each axis of k-space: C, H, W, and S for slices.

    Raises:
        InputError: the user's do not fit the array, or the array does not tell.
    """
    what = f"k-space of shape (coils, H, W){' or (slices, coils, H, W)' if kind == 'hdf5' else ''}"
    if axes is None:
        require(
            len(shape) in (3, 4),
            f"{path}: expected {what}, got rank {len(shape)}, shape {shape}",
        )
        if kind == "hdf5":
            require(
                len(shape) == 4,
                f"{path}: expected `kspace` of shape (slices, coils, H, W), got rank "
                f"{len(shape)}, shape {shape}; single-coil files do not fit; of another order "
                "of axes, say it with --axes, such as CHW",
            )
            return "S" + _place_of_coils(path, shape[1:])
        require(
            len(shape) == 3,
            f"{path}: expected k-space of shape (coils, H, W), got rank {len(shape)}, shape "
            f"{shape}; say the order of its axes with --axes, such as SCHW (S slices)",
        )
        return _place_of_coils(path, shape)
    letters = axes.upper()
    require(
        set("CHW") <= set(letters) <= set("CHWS") and len(set(letters)) == len(letters),
        f"--axes {axes}: expected C (coils), H (readout), W (phase encoding) and, of a volume, S "
        "(slices), each once, such as HWC",
    )
    require(
        len(letters) == len(shape),
        f"{path}: --axes {axes} names {len(letters)} axes, the array has {len(shape)}: {shape}",
    )
    return letters


def _place_of_coils(path: Path, shape: tuple[int, ...]) -> str:
    narrow = [axis for axis, n in enumerate(shape) if 1 < n < MIN_SIDE]
    if narrow in ([1], [2]):
        letters = {1: "HCW", 2: "HWC"}[narrow[0]]
        print(
            f"note: {path}: {shape} is read as {letters}, {shape[narrow[0]]} coils "
            f"{'last' if letters == 'HWC' else 'in the middle'}; --axes changes that"
        )
        return letters
    require(
        shape[0] <= 2 * min(shape[1:]) or min(shape[1:]) < MIN_SIDE,
        f"{path}: which axis of {shape} are the coils? Say it with --axes, such as HWC",
    )
    if shape[0] >= MIN_SIDE:
        print(f"note: {path}: {shape} is read as CHW, {shape[0]} coils; --axes says otherwise")
    return "CHW"


def only_sampled(
    path: Path, k: np.ndarray, sampled: np.ndarray, slices: tuple[int, int] | None = None
) -> np.ndarray:
    """Set what a file's own mask calls unsampled to zero.

    Args:
        path: for messages.
        k: (coils, H, W) complex64.
        sampled: the file's `mask`: of the columns, the rows, or all points; of each slice or of
            each coil, if it says so by an axis more.
        slices: of a volume how many slices it has, and which this is.

    Returns:
        k itself where the mask is of another kind, which is told: it has another shape, or there
        is more than rounding where it is zero.
    """
    points = np.squeeze(sampled) != 0
    height, width = k.shape[1:]
    if slices is not None and slices[0] > 1 and points.ndim > 1 and points.shape[0] == slices[0]:
        points = np.squeeze(points[slices[1]])
    if points.ndim == 3 and len(points) == len(k):
        points = points.any(axis=0)
    if points.shape == (width,):
        points = np.broadcast_to(points, (height, width))
    elif points.shape == (height,):
        points = np.broadcast_to(points[:, None], (height, width))
    if points.shape != (height, width) or not points.any():
        print(f"note: {path}: its `mask` {sampled.shape} does not fit this k-space; not used")
        return k
    magnitude = np.abs(k).max(axis=0)
    if magnitude[~points].max(initial=0) > MASKED * magnitude.max():
        print(f"note: {path}: its `mask` is not used: it is zero where k-space is not")
        return k
    return k * points


def centred(path: Path, k: np.ndarray) -> np.ndarray:
    """Bring zero frequency to (H // 2, W // 2) where it lies in a corner; tell it.

    An image has most of its energy near zero frequency, so the window of an eighth of each side
    that holds most tells where that is; it must hold four times as much as the centre.

    Args:
        path: for messages.
        k: (coils, H, W) complex64.
    """
    energy = np.zeros(k.shape[1:])
    for coil in k:
        energy += np.abs(coil.astype(np.complex128)) ** 2
    shape = energy.shape
    half = [max(n // 16, 1) for n in shape]

    def inside(place: tuple[int, int]) -> float:
        around = [np.arange(c - h, c + h + 1) for c, h in zip(place, half)]
        return float(energy.take(around[0], 0, mode="wrap").take(around[1], 1, mode="wrap").sum())

    centre = (shape[0] // 2, shape[1] // 2)
    places = [(r, c) for r in (centre[0], 0) for c in (centre[1], 0)]
    best = max(places, key=inside)
    if best != centre and inside(best) > 4 * inside(centre):
        axes = [axis for axis in (0, 1) if best[axis] == 0]
        print(
            f"note: {path}: zero frequency lies at {best}, not in the centre {centre}; moved there"
        )
        return np.fft.fftshift(k, axes=[axis + 1 for axis in axes])
    peak = tuple(int(i) for i in np.unravel_index(energy.argmax(), shape))
    if inside(peak) > 4 * inside(centre):
        print(
            f"note: {path}: zero frequency is expected at {centre}, but the strongest point of "
            f"k-space lies at {peak}"
        )
    return k


def origin_in_the_middle(path: Path, k: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """Turn the phase of k-space where its images lie half a field of view off; tell it.

    numpy.fft.fft2 of images as they are makes such k-space: their origin is a corner. Then a strip
    at the border, an eighth of the image, holds the body, and one in the middle air. The images
    are moved where along one axis the former has four times the energy of the latter; along the
    other it must have more, too. Along one of these axes the border must cut the body: both
    outermost lines hold at least 0.3 of the energy of the strongest one. So two legs that the
    border does not cut stay.

    Args:
        path: for messages.
        k: (coils, H, W) complex64, zero frequency in the centre.

    Returns:
        k, and the axes (0 H, 1 W) along which its images were moved.
    """
    energy = np.zeros(k.shape[1:])
    for coil in k:
        energy += np.abs(ifft2c(coil)).astype(np.float64) ** 2
    outer = []  # the border's energy as a multiple of the middle's
    cut = []  # the outermost lines' as a share of the strongest line's
    for axis, n in enumerate(energy.shape):
        line, strip = energy.sum(axis=1 - axis), max(n // 16, 1)
        middle = line[n // 2 - strip : n // 2 + strip].sum()
        outer.append((line[:strip].sum() + line[-strip:].sum()) / max(middle, 1e-30))
        cut.append(min(line[0], line[-1]) / line.max())
    axes = tuple(axis for axis in (0, 1) if outer[axis] > 1)
    if max(outer) <= 4 or all(cut[axis] < 0.3 for axis in axes):
        return k, ()
    where = " and ".join("HW"[axis] for axis in axes)
    print(f"note: {path}: its images lie half a field of view off along {where}; moved back")
    for axis in axes:
        n = energy.shape[axis]
        phase = 2j * np.pi * (np.arange(n) - n // 2) * (n // 2) / n
        k = k * np.exp(np.expand_dims(phase, 1 - axis)).astype(np.complex64)
    return k, axes


def without_rounding(k: np.ndarray) -> np.ndarray:
    """Set points that are zero but for rounding to zero: ROUNDING of the maximum in no coil.

    Args:
        k: (coils, H, W) complex64.
    """
    magnitude = np.abs(k).max(axis=0)
    return k * (magnitude > ROUNDING * magnitude.max())


def load_maps(path: Path, scan: Scan | None = None) -> np.ndarray:
    """Read a user's sensitivity maps.

    Args:
        path: one complex array (coils, H, W), or the one named `maps`, in any file of
            utils/arrays.py. Coils that come last are seen as in k-space.
        scan: whose maps they are. Where its images were moved, so are the maps if they fit it
            better then; this is told. None leaves them as they are.

    Raises:
        InputError: the file is missing or damaged, or holds something else.
    """
    with arrays.opened(path) as found:
        name = found.choose("maps", None, lambda v: _is_of_coils(v.shape) and v.dtype.kind == "c")
        letters, maps = found.of[name].axes, found.read(name)
    if letters == "WHSC" and maps.shape[2] == 1:
        letters, maps = "WHC", maps[:, :, 0]
    require(
        maps.ndim == 3 and np.iscomplexobj(maps),
        f"{path}: expected complex maps (coils, H, W), got {maps.dtype} {maps.shape}",
    )
    letters = check_axes(path, maps.shape, letters, "npy")
    maps = np.transpose(maps, [letters.index(a) for a in "CHW"])
    require(bool(np.isfinite(maps).all()), f"{path}: the maps hold NaN or Inf")
    require(bool((maps != 0).any()), f"{path}: the maps are all zeros")
    if scan is not None and scan.moved and maps.shape == scan.kspace.shape:
        moved = np.fft.ifftshift(maps, axes=[axis + 1 for axis in scan.moved])
        sampled = acquired_points(scan.kspace)
        lost = [
            share_outside(normalise_maps(m.astype(np.complex64)), scan.kspace, sampled)
            for m in (maps, moved)
        ]
        if lost[1] < lost[0]:
            print(f"note: {path}: the maps are moved with the images")
            return moved
    return maps


def load_mask(args: Any) -> np.ndarray | None:
    """Read the mask that --mask names, of columns (W,) or (1, W), rows (H, 1) or points (H, W).

    Args:
        args: of aseqdip_mri.py. Its mask is of PATTERNS, or a file of utils/arrays.py with an
            array of zeros and ones, or with one named `mask`.

    Returns:
        The mask as bool, with one or two axes; None for a pattern.

    Raises:
        InputError: the file is missing or damaged, or holds something else, or a flag would be of
            no use beside it.
    """
    if args.mask in PATTERNS:
        return None
    path = Path(args.mask).expanduser()
    require(
        path.exists(),
        f"--mask {args.mask}: expected {', '.join(PATTERNS)} or a file; there is no such file",
    )
    for name in OF_COLUMNS:
        require(
            name not in args.changed,
            f"{flag(name)}: the file of --mask says which points are sampled; omit {flag(name)}",
        )
    with arrays.opened(path) as found:
        require(
            found.kind != "nii",
            f"{path}: NIfTI turns a mask otherwise than k-space; give a .npy or a .mat",
        )
        name = found.choose("mask", None, lambda v: len(v.shape) < 3)
        letters, mask = found.of[name].axes, found.read(name)
    if letters == "H":  # BART's rows
        mask = mask[:, None]
    while mask.ndim > 2 and 1 in (mask.shape[0], mask.shape[-1]):
        mask = mask[0] if mask.shape[0] == 1 else mask[..., 0]
    if np.iscomplexobj(mask) and not mask.imag.any():  # BART has no other numbers
        mask = mask.real
    require(
        mask.ndim in (1, 2) and mask.dtype.kind in "buif",
        f"{path}: expected a mask of zeros and ones, of columns (W,), rows (H, 1) or points (H, W), "
        f"got {mask.dtype} {mask.shape}",
    )
    return arrays.two_values(path, mask)


def _is_of_coils(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 or (len(shape) == 4 and shape[2] == 1)  # NIfTI's slices


# Cropping and sampling ----------------------------------------------------------------------


def center_crop(x: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Cut the centre of the last two axes; index n // 2 stays the centre."""
    (height, width), (h, w) = x.shape[-2:], shape
    top, left = height // 2 - h // 2, width // 2 - w // 2
    return x[..., top : top + h, left : left + w]


def acquired_points(kspace: np.ndarray) -> np.ndarray:
    """Return (H, W) bool: where any coil holds a sample. Zero padding is not a sample."""
    return (kspace != 0).any(axis=0)


def bounding_box(mask: np.ndarray) -> np.ndarray:
    """Return (H, W) bool: the smallest rectangle around all sampled points."""
    box = np.zeros_like(mask)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return box


def has_holes(acquired: np.ndarray) -> bool:
    """Tell whether k-space was undersampled, rather than padded with zeros at its edges.

    Args:
        acquired: (H, W) bool. Every row and column of a fully sampled scan is one run of
            samples, also behind an elliptical shutter or with a partial echo. One percent of
            gaps is let pass, for samples that happen to be zero.
    """
    gaps = 0
    for lines in (acquired, acquired.T):
        before = np.logical_or.accumulate(lines, axis=1)
        behind = np.logical_or.accumulate(lines[:, ::-1], axis=1)[:, ::-1]
        gaps = max(gaps, np.count_nonzero(before & behind & ~lines))
    return gaps > 0.01 * np.count_nonzero(acquired)


def phase_encoding(acquired: np.ndarray) -> tuple[int, ...]:
    """Return the axes along which a scan that was not sampled everywhere cannot be cropped.

    Args:
        acquired: (H, W) bool.

    Returns:
        (1,) where whole columns are sampled, or all; (0,) where whole rows are; else (0, 1), as
        behind an elliptical shutter.
    """
    if (acquired == acquired.any(axis=0)).all():
        return (1,)
    return (0,) if (acquired == acquired.any(axis=1, keepdims=True)).all() else (0, 1)


def crop_scan(scan: Scan, crop: int | None, measured: bool) -> tuple[np.ndarray, np.ndarray]:
    """Crop a scan's coil images and transform them back to k-space.

    Args:
        scan: the scan.
        crop: side in pixels, 0 for none, None for the default: FASTMRI_CROP for fastMRI files,
            none for others. Sides that are smaller stay.
        measured: the scan was undersampled; then only the readout axis can be cropped, and only
            where whole lines along it were sampled.

    Returns:
        k-space (coils, h, w) complex64 and its acquired points (h, w) bool; on a coarser grid
        those whose nearest point of the old grid was acquired.

    Raises:
        InputError: the scan was undersampled but not declared so, or cannot be cropped so.
    """
    acquired = acquired_points(scan.kspace)
    require(
        measured or not has_holes(acquired),
        f"{scan.source}: the scan itself is undersampled, only {acquired.mean():.1%} of its "
        "k-space holds samples, so there is no truth to compare with; add --measured, without --accel, "
        "--mask and --center-fraction",
    )
    require(crop is None or crop == 0 or crop >= MIN_SIDE,
            f"--crop {crop}: expected 0 (none) or at least {MIN_SIDE} pixels")  # fmt: skip
    height, width = acquired.shape
    side = crop if crop is not None else FASTMRI_CROP if scan.is_fastmri else 0
    shape = (min(height, side or height), min(width, side or width))
    if measured:
        axes = phase_encoding(acquired)
        if axes == (0,):
            print(f"note: {scan.source}: whole rows are sampled, so its phase encoding is along H")
        require(
            len(axes) == 1 or crop is None or shape[0] == height,
            f"--crop {crop}: this scan was not sampled in whole lines, so its images "
            "cannot be cropped before they are reconstructed; use --crop 0",
        )
        shape = (height if 0 in axes else shape[0], width if 1 in axes else shape[1])
    if shape == acquired.shape:
        return scan.kspace, acquired
    nearest = []
    for old, new in zip(acquired.shape, shape):
        frequency = (np.arange(new) - new // 2) * old / new
        nearest.append(np.clip(np.rint(frequency).astype(int) + old // 2, 0, old - 1))
    cropped = fft2c(center_crop(ifft2c(scan.kspace), shape))
    return cropped, acquired[np.ix_(*nearest)]


def load_magnitude(path: Path, args: Any, scan: Scan, mask: np.ndarray) -> np.ndarray:
    """Read the image of a fully sampled scan that is the reference for another, (H, W) float32.

    It is the root of the sum of squares, cropped as the other scan is. Where the two differ in
    size, it is cropped as it would be by itself, but not along the phase encoding of a measured scan.

    Args:
        path: as for load_scan.
        args: of aseqdip_mri.py, for the other scan.
        scan: the other one.
        mask: (h, w) bool, where that is sampled after crop_scan.

    Raises:
        InputError: the file is no such scan.
    """
    other = load_scan(path, args.slice, args.variable, args.axes)
    require(
        not has_holes(acquired_points(other.kspace)),
        f"{path}: the scan is undersampled, so it cannot be the --reference; give a fully sampled one",
    )
    shape = list(crop_scan(other, args.crop, measured=False)[0].shape[1:])
    for axis, length in enumerate(other.kspace.shape[1:]):
        if length == scan.kspace.shape[1 + axis]:
            shape[axis] = mask.shape[axis]
        elif args.measured and axis in phase_encoding(mask):
            shape[axis] = length
    images = center_crop(ifft2c(other.kspace), tuple(shape))
    return np.sqrt((np.abs(images) ** 2).sum(axis=0))


def rss_difference(scan: Scan, kspace: np.ndarray) -> float | None:
    """Compare the cropped coil images with the file's own root-sum-of-squares image.

    Args:
        scan: the scan, with `rss` from the file or None.
        kspace: (coils, h, w) after cropping.

    Returns:
        ||rss - file's rss|| / ||file's rss||, None where there is none of that size. Rounding
        where the file was made by our Fourier convention and crop; a large one tells that it
        was not.
    """
    if scan.rss is None or scan.rss.shape != kspace.shape[1:]:
        return None
    rss = np.sqrt((np.abs(ifft2c(kspace)) ** 2).sum(axis=0))
    return float(np.linalg.norm(rss - scan.rss) / np.linalg.norm(scan.rss))


def cartesian_mask(
    acquired: np.ndarray,
    acceleration: float,
    center_fraction: float | None,
    kind: str,
    generator: torch.Generator,
) -> np.ndarray:
    """Choose the phase-encoding columns that an accelerated scan would sample.

    Of the acquired columns, 1/acceleration (to the nearest line) is sampled: the calibration
    lines around zero frequency, and the rest at random or evenly spaced among the others.

    Args:
        acquired: (H, W) bool, where k-space was acquired.
        acceleration: acquired columns per sampled column, at least 1.
        center_fraction: share of the acquired columns that are calibration lines; None takes
            0.32 / acceleration: 0.08 at 4x, 0.04 at 8x.
        kind: `random` or `equispaced` (with a random offset).
        generator: CPU generator of the random choice.

    Returns:
        (H, W) bool mask, constant along H within the acquired points.

    Raises:
        InputError: acceleration or center_fraction do not fit the width.
        ValueError: there is no such kind.
    """
    if kind not in PATTERNS:
        raise ValueError(f"expected a kind of mask of {PATTERNS}, got {kind}")
    columns = np.flatnonzero(acquired.any(axis=0))
    require(
        1 <= acceleration < math.inf, f"--accel {acceleration:g}: expected a number of at least 1"
    )
    if center_fraction is None:
        center_fraction = 0.32 / acceleration
    require(
        0 < center_fraction <= 1 / acceleration,
        f"--center-fraction {center_fraction:g}: expected a number in (0, {1 / acceleration:g}], "
        f"at most 1/accel",
    )
    n_sampled = round(len(columns) / acceleration)
    n_center = min(round(len(columns) * center_fraction), n_sampled)
    require(
        n_center >= 1,
        f"--accel {acceleration:g}, --center-fraction {center_fraction:g}: too few of the "
        f"{len(columns)} acquired columns would be left, {n_sampled} with {n_center} in the "
        "centre; lower --accel",
    )
    start = acquired.shape[1] // 2 - n_center // 2
    center = np.arange(start, start + n_center)
    require(
        bool(np.isin(center, columns).all()),
        "the centre of k-space was not acquired: zero frequency is expected in the middle "
        f"column {acquired.shape[1] // 2}",
    )
    others = np.setdiff1d(columns, center)
    n_others = n_sampled - n_center
    if kind == "random":
        chosen = torch.randperm(len(others), generator=generator)[:n_others].numpy()
    else:
        offset = torch.rand((), generator=generator).item()
        chosen = ((np.arange(n_others) + offset) * len(others) / max(n_others, 1)).astype(int)
    mask = np.zeros(acquired.shape[1], dtype=bool)
    mask[center] = True
    mask[others[chosen]] = True
    return mask & acquired


def own_mask(scan: Scan, acquired: np.ndarray, kind: str) -> np.ndarray:
    """Lay the user's mask over the acquired points.

    Args:
        scan: whose `sampled` it is.
        acquired: (H, W) bool, where k-space was acquired, after crop_scan.
        kind: --mask, for messages.

    Returns:
        (H, W) bool: sampled and acquired. A mask whose zero frequency lies in the corner, as
        numpy.fft has it, is moved to the middle; this is told.

    Raises:
        InputError: it has another shape, or leaves no point.
    """
    height, width = acquired.shape
    sampled, source = scan.sampled, f"--mask {kind}"
    require(
        sampled.shape in ((width,), (1, width), (height, 1), (height, width)),
        f"{source}: expected a mask of {width} columns ({width},), {height} rows ({height}, 1) or "
        f"{height}x{width} points, got {sampled.shape}"
        + ("; --crop 0 takes one of the scan before it is cropped"
           if (height, width) != scan.kspace.shape[1:] else ""),
    )  # fmt: skip
    mask = np.broadcast_to(sampled, acquired.shape)
    moved, side = np.fft.fftshift(mask), MIN_CALIBRATION_LINES
    if calibration_size(moved) >= side and center_crop(mask, (side, side)).mean() < 0.5:
        print(f"note: {source}: zero frequency lies in its corner; moved to the middle")
        mask = moved
    mask = mask & acquired
    require(bool(mask.any()), f"{source}: it samples no point that was acquired")
    return mask


def add_noise(
    kspace: np.ndarray, mask: np.ndarray, std: float, generator: torch.Generator
) -> np.ndarray:
    """Add complex Gaussian noise of standard deviation std to the sampled entries.

    Args:
        kspace: (coils, H, W) complex64.
        mask: (H, W) bool, True where sampled; other entries come back as zero.
        std: E|noise|^2 = std^2, in units of k-space (orthonormal, so also of coil images).
        generator: CPU generator.
    """
    noise = torch.randn(kspace.shape, dtype=torch.complex64, generator=generator).numpy()
    return mask * (kspace + np.float32(std) * noise)


# Sensitivity maps ---------------------------------------------------------------------------


def calibration_size(mask: np.ndarray) -> int:
    """Return the side of the largest fully sampled square around zero frequency.

    Args:
        mask: (H, W) bool.
    """
    side = 0
    while side < min(mask.shape) and center_crop(mask, (side + 1, side + 1)).all():
        side += 1
    return side


def normalise_maps(maps: np.ndarray) -> np.ndarray:
    """Scale maps so that the sum over coils of |S|^2 is 1 in their support and 0 outside.

    Args:
        maps: (coils, H, W) complex; the support is where their root sum of squares exceeds
            1e-3 of its maximum.
    """
    rss = np.sqrt((np.abs(maps) ** 2).sum(axis=0))
    support = rss > 1e-3 * rss.max()
    maps = np.where(support, maps / np.where(support, rss, 1), 0)
    return np.ascontiguousarray(maps, dtype=np.complex64)  # sigpy's are in Fortran order


def fit_maps(maps: np.ndarray, scan: Scan, shape: tuple[int, int]) -> np.ndarray:
    """Crop a user's maps like the scan and normalise them.

    Args:
        maps: (coils, H, W) complex, of the scan's size or of its size after cropping.
        scan: the scan before cropping.
        shape: (h, w) after cropping.

    Returns:
        (coils, h, w) complex64.

    Raises:
        InputError: the maps are of another size.
    """
    whole, cropped = scan.kspace.shape, (scan.kspace.shape[0], *shape)
    require(
        maps.shape in (whole, cropped),
        f"--maps: expected the scan's shape {whole}"
        + (f" or, cropped, {cropped}" if cropped != whole else "")
        + f", got {maps.shape}",
    )
    return normalise_maps(center_crop(maps, shape).astype(np.complex64))


def espirit_maps(y: np.ndarray, mask: np.ndarray, cache: Path) -> np.ndarray:
    """Estimate sensitivity maps by ESPIRiT from the calibration square that the mask samples.

    The maps of one calibration square are computed once and kept in `cache` under the hash of
    everything that they depend on.

    Args:
        y: (coils, H, W) complex64 k-space.
        mask: (H, W) bool, where it is sampled.
        cache: folder of computed maps, made if needed.

    Returns:
        (coils, H, W) complex64, sum over coils of |S|^2 = 1 in the support, 0 outside.

    Raises:
        InputError: too few calibration lines, or no map comes out of them.

    Reference:
        Uecker et al., ESPIRiT, MRM 71:990-1001 (2014), as in sigpy.mri.app.EspiritCalib; the
        eigenvalue crop of 0.8 is that of BART's ecalib, which the paper's maps come from.
    """
    lines, columns = min(24, calibration_size(mask)), mask.shape[1]
    sampled, needed = mask.any(axis=0).sum(), MIN_CALIBRATION_LINES
    advice = (
        f"take one of at most {columns // needed}" if sampled < needed
        else f"take --center-fraction {needed / columns:.2g} or more, at most 1/accel"
    )  # fmt: skip
    require(
        lines >= MIN_CALIBRATION_LINES,
        f"ESPIRiT needs a fully sampled centre of at least {MIN_CALIBRATION_LINES} lines, got "
        f"{lines}; give maps with --maps, or where --accel has chosen the lines {advice}",
    )
    import sigpy.mri  # not at the top: it takes a second

    settings = {"calib_width": lines, "kernel_width": min(6, lines // 2), "crop": 0.8}
    calibration = center_crop(y, (lines, lines))
    key = content_hash(calibration, f"{y.shape} {sorted(settings.items())} {sigpy.__version__}")
    path = cache / f"espirit_{key[:32]}.npz"  # a .npz has checksums
    maps = cached_maps(path, key)
    if maps is not None and maps.shape == y.shape:
        return maps
    app = sigpy.mri.app.EspiritCalib(y, show_pbar=False, **settings)
    maps = app.run()
    require(
        bool(np.isfinite(maps).all() and (maps != 0).any()),
        f"ESPIRiT found no sensitivity maps from {lines} calibration lines; raise "
        "--center-fraction or bring maps with --maps",
    )
    maps = normalise_maps(maps)
    cache.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: np.savez(file, maps=maps, key=np.array(key)))
    return maps


def cached_maps(path: Path, key: str) -> np.ndarray | None:
    """Read computed maps, None where the file is missing, damaged, or of another key."""
    if not path.exists():
        return None
    try:
        with arrays.opened(path) as found:
            if found.of.keys() != {"maps", "key"} or str(found.read("key", ())) != key:
                return None
            return found.read("maps")
    except InputError:
        return None


# What a script does with them ---------------------------------------------------------------


def check_flags(args: Any) -> None:
    """Refuse flags of simulated undersampling beside --measured.

    Args:
        args: of aseqdip_mri.py.

    Raises:
        InputError: a flag would be of no use.
    """
    for name in OF_SIMULATION:
        own = name == "mask" and args.mask not in PATTERNS  # also of Args that were made in Python
        require(
            not args.measured or not (own or name in args.changed),
            f"{flag(name)}: --measured takes the scan's own samples; omit {flag(name)}, or "
            "--measured if the scan is fully sampled",
        )


def measure(
    scan: Scan,
    kspace: np.ndarray,
    acquired: np.ndarray,
    measured: bool,
    acceleration: float,
    center_fraction: float | None,
    kind: str,
    generator: torch.Generator,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Undersample a scan, or take it as it is; say how.

    Args:
        scan: where it comes from.
        kspace, acquired: of crop_scan.
        measured: it is undersampled already.
        acceleration, center_fraction, kind, generator: of cartesian_mask, own_mask and add_noise.

    Returns:
        The measurements (n_coils, H, W); their mask (H, W) bool; the acceleration reached.
    """
    if measured:
        mask, y = acquired, acquired * kspace
        acquired = bounding_box(mask)
        if not has_holes(mask):
            print(
                f"note: {scan.source}: --measured, but this scan is fully sampled; omit "
                "--measured to undersample it and score the result"
            )
    else:
        if scan.sampled is None:
            mask = cartesian_mask(acquired, acceleration, center_fraction, kind, generator)
        else:
            mask = own_mask(scan, acquired, kind)
        y = add_noise(kspace, mask, scan.noise_std, generator)
    reached = np.count_nonzero(acquired) / np.count_nonzero(mask)
    print(f"{scan.source}: {len(y)} coils, {mask.shape[0]}x{mask.shape[1]}")
    simulated = f"requested {acceleration:g}x" if scan.sampled is None else f"as in {kind}"
    requested = "measured" if measured else simulated
    where = f"{1 / reached:.0%} of the points"
    for axis, name in ((1, "rows"), (0, "columns")):
        lines = mask.any(axis=axis, keepdims=True)
        if np.array_equal(mask, lines & acquired):
            where = f"{np.count_nonzero(lines)} of {lines.size} {name}"
    print(f"acceleration {requested}, true {reached:.3f}x; samples in {where}")
    return y, mask, reached


def noise_norm(y: np.ndarray, mask: np.ndarray, sigma: float | None) -> float:
    """Return the expected norm of the noise in sampled k-space, and print its level.

    Args:
        y, mask: of measure.
        sigma: --sigma, root of E|n|^2 of the complex noise n in the unit of y; None estimates it.

    Raises:
        InputError: sigma is below 0, or the noise would be larger than y.
    """
    sampled = torch.from_numpy(y[:, mask])
    estimate = estimate_noise(y, mask) * math.sqrt(sampled.numel())
    return told_norm(sampled, sigma, estimate, "point of k-space")


def estimate_noise(y: np.ndarray, mask: np.ndarray) -> float:
    """Estimate the standard deviation of the complex noise in k-space.

    From the 5 % of the sampled points that are farthest from zero frequency, where an image has
    hardly anything: the modulus of complex Gaussian noise has the median std sqrt(ln 2).

    Args:
        y: (n_coils, H, W) complex k-space.
        mask: (H, W) bool, where it is sampled.

    Returns:
        Root of the mean squared modulus, in units of y.
    """
    ky, kx = (np.abs(np.arange(n) - n // 2) / max(n // 2, 1) for n in mask.shape)
    radius = np.hypot(ky[:, None], kx)[mask]
    far = np.argsort(radius, kind="stable")[-max(len(radius) // 20, 1) :]
    return float(np.median(np.abs(y[:, mask][:, far])) / math.sqrt(math.log(2)))


def make_operator(scan: Scan, y: np.ndarray, mask: np.ndarray, cache: Path) -> mri.MultiCoilMRI:
    """Build the operator, with the user's maps or those that ESPIRiT finds.

    Args:
        scan: whose maps are taken, if the user has brought some.
        y, mask: of measure.
        cache: folder in which ESPIRiT's maps are kept.
    """
    maps = scan.beside[0]
    if maps is None:
        print("sensitivity maps by ESPIRiT from the calibration lines ...", flush=True)
        maps = espirit_maps(y, mask, cache=cache)
    else:
        maps = fit_maps(maps, scan, mask.shape)
    lost = share_outside(maps, y, mask)
    if lost > LOST:
        advice = "raise --center-fraction, lower --accel, or give --maps"
        if scan.sampled is not None:
            advice = "let --mask sample more of the centre, or give --maps"
        if scan.beside[0] is not None:
            advice = "check that --maps fits this scan"
        print(
            f"note: the maps explain only part of the object: {lost:.0%} of the signal of the "
            "calibration lines lies outside them, and is lost in every image, the truth too; "
            + advice
        )
    return mri.MultiCoilMRI(torch.from_numpy(maps), torch.from_numpy(mask))


def share_outside(maps: np.ndarray, y: np.ndarray, mask: np.ndarray) -> float:
    """Return the share of the calibration area's energy that the maps do not explain.

        1 - ||sum_c conj(S_c) x_c||^2 / sum_c ||x_c||^2

    with x_c the coil images of the fully sampled square around zero frequency, tapered by a
    Hann window so that little rings into the background. The energy of the noise, as
    estimate_noise finds it, is taken away from both.

    Args:
        maps: (coils, H, W), sum over coils of |S|^2 1 or 0.
        y: (coils, H, W) complex64 k-space.
        mask: (H, W) bool, where it is sampled.
    """
    side = calibration_size(mask)
    if side < MIN_CALIBRATION_LINES:
        return 0.0
    window = np.hanning(side + 2)[1:-1]
    taper = np.zeros(mask.shape, dtype=np.float32)
    center_crop(taper, (side, side))[:] = np.outer(window, window)
    x = ifft2c((y * taper).astype(np.complex64))
    energy = estimate_noise(y, mask) ** 2 * float((taper**2).mean())  # of noise, a coil, a pixel
    support = (maps != 0).any(axis=0)
    combined = (np.abs((maps.conj() * x).sum(axis=0)) ** 2).sum() - energy * support.sum()
    whole = (np.abs(x) ** 2).sum() - energy * x.size
    return float(1 - combined / whole) if whole > 0 else 0.0
