"""Arrays that people bring: .npy, .npz, MATLAB's .mat, HDF5, NIfTI, BART's .cfl.

The reader is chosen by what the file holds, not by its name; only .cfl has no mark of its own.
"""

import itertools
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil
import scipy.io

from utils.errors import require
from utils.files import check_file, foreign, open_hdf5

SUFFIXES = (".npy", ".npz", ".mat", ".nii", ".nii.gz", ".cfl")
HDF5 = (".h5", ".hdf5")
HDF5_MARK = b"\x89HDF\r\n\x1a\n"
MATLAB_73 = b"MATLAB 7.3"
MAT_PACKED = 15  # types of MATLAB 5's elements, and classes of its arrays
MAT_NUMBERS = {1, 2, 3, 4, 5, 6, 7, 9, 12, 13}
MAT_NUMERIC = range(6, 16)
MAX_NESTING = 4  # groups of HDF5 that are looked into
READ_WHOLE = ("npz", "mat", "mat73", "nii")  # kinds of which a part cannot be read alone
PACKED = ("npz", "mat", "nii")  # kinds whose declared size can be far from the file's:
LARGE, TIMES = 2**28, 100  # a large array that is so many times the file is no measurement
ROUNDING = 1e-4  # what float values of a mask may lie beside 0 and 1
BART_AXES = "HWDCM........S.."  # read, phase 1, phase 2, coils, maps; 13 is the slice
Index = tuple[int | slice, ...]
WHOLE: Index = (slice(None),)


@dataclass
class Variable:
    """One array of a file, not yet read.

    Attributes:
        shape, dtype: of the array.
        read: reads what an index over the leading axes chooses.
        axes: a letter for each axis where the format says what it is: C coils, H, W, S slices; of
            NIfTI (W, H, S), turned so that they run as in a DICOM slice. Complex ones, (W, H, C) or
            (W, H, S, C), stay as they are stored. None elsewhere.
        pixel_mm: side of a pixel in mm, None if the file does not tell.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[Index], np.ndarray]
    axes: str | None = None
    pixel_mm: float | None = None


def has_two_axes(variable: Variable) -> bool:
    """Tell whether an array could be an image, or several: no number and no list."""
    return sum(n > 1 for n in variable.shape) >= 2


@dataclass
class Variables:
    """The arrays of an open file.

    Attributes:
        path: the file.
        kind: npy, npz, mat, mat73, hdf5, nii or cfl.
        of: by name; a file without names has one array, of the name "".
    """

    path: Path
    kind: str
    of: dict[str, Variable]

    def choose(self, key: str, variable: str | None, fits: Callable[[Variable], bool]) -> str:
        """Choose the array that is meant.

        Args:
            key: the usual name.
            variable: the user's --variable, None to take the only array, else the one of the
                usual name, else the only one that fits.
            fits: tells whether an array could be meant.

        Returns:
            Its name.

        Raises:
            InputError: there is none, or more than one.
        """
        names = ", ".join(f"{name} {v.shape}" for name, v in self.of.items()) or "no array"
        if variable is not None:
            require(
                variable in self.of,
                f"{self.path}: no array `{variable}` in it; --variable can choose of: {names}"
                if "" not in self.of
                else f"{self.path}: --variable {variable}: this file holds one array, unnamed",
            )
            return variable
        if len(self.of) == 1 and (self.kind != "hdf5" or key in self.of):
            return next(iter(self.of))
        if key in self.of:
            return key
        fitting = [name for name, v in self.of.items() if fits(v)]
        require(
            len(fitting) == 1,
            f"{self.path}: expected one array or one named `{key}`, got {names}; name it so, or, in "
            "the file of --data or --sinogram, choose it by --variable NAME",
        )
        print(f"note: {self.path}: reading `{fitting[0]}`, one of {names}")
        return fitting[0]

    def read(self, name: str, index: Index = WHOLE) -> np.ndarray:
        """Read an array, or what an index over its leading axes chooses, in native byte order.

        Raises:
            InputError: it is damaged, or larger than the free memory.
        """
        variable = self.of[name]
        shape, dtype = variable.shape, variable.dtype
        require(math.prod(shape) > 0, f"{self.path}: an empty array, {shape}")
        index = index[: len(shape)]
        kept = [1 if isinstance(i, int) else n for i, n in zip(index, shape)]
        whole = self.kind in READ_WHOLE
        size = math.prod(shape if whole else kept + [*shape[len(index) :]]) * dtype.itemsize
        stored = self.path.stat().st_size
        require(
            self.kind not in PACKED or size <= max(LARGE, TIMES * stored),
            f"{self.path}: damaged, or made to fill the memory: it declares an array of {shape} "
            f"{dtype}, {size / 1e9:.3g} GB, in a file of {stored / 1e6:.3g} MB",
        )
        free = psutil.virtual_memory().available
        require(
            size <= free,
            f"{self.path}: damaged, or too large: an array of {shape} {dtype} "
            f"takes {size / 1e9:.3g} GB, free are {free / 1e9:.3g} GB",
        )
        with foreign(self.path, WORDS[self.kind]):
            values = variable.read(index)
            return values.astype(values.dtype.newbyteorder("="), copy=False)


WORDS = {
    "npy": ".npy or .npz file",
    "npz": ".npy or .npz file",
    "mat": ".mat file",
    "mat73": ".mat file",
    "hdf5": "HDF5 file",
    "nii": "NIfTI file",
    "cfl": "pair of .cfl and .hdr",
}


def is_array(path: Path) -> bool:
    """Tell whether a file is one of those that this module reads, by its content or its name."""
    return kind_of(path) is not None


def kind_of(path: Path) -> str | None:
    """Return npy, npz, mat, mat73, hdf5, nii or cfl, None for what is no such file."""
    name = path.name.lower()
    if name.endswith((".cfl", ".hdr")) and path.with_suffix(".cfl").is_file():
        return "cfl"
    with foreign(path, "file"), open(path, "rb") as file:
        start = file.read(1024)
    if start.startswith(b"\x93NUMPY"):
        return "npy"
    if start.startswith(b"PK\x03\x04"):
        return "npz"
    if start.startswith(HDF5_MARK) or start[512:520] == HDF5_MARK:
        return "mat73" if start.startswith(MATLAB_73) else "hdf5"
    if start[344:348] in (b"n+1\0", b"ni1\0") or start[4:8] in (b"n+2\0", b"ni2\0"):
        return "nii"
    if start.startswith(b"\x1f\x8b") and name.endswith(".nii.gz"):
        return "nii"
    if start.startswith(b"MATLAB 5.0") or start[126:128] in (b"IM", b"MI"):
        return "mat"
    # By name alone: damaged at their beginning, which their readers tell.
    by_name = {".npy": "npy", ".npz": "npz", ".mat": "mat", ".nii": "nii", ".h5": "hdf5"}
    by_name |= {".hdf5": "hdf5", ".nii.gz": "nii", ".cfl": "cfl", ".hdr": "cfl"}
    return next((kind for suffix, kind in by_name.items() if name.endswith(suffix)), None)


def stem(path: Path) -> str:
    """Return a file's name without its suffix, .nii.gz being one."""
    return path.stem[:-4] if path.name.lower().endswith(".nii.gz") else path.stem


@contextmanager
def opened(path: Path) -> Iterator[Variables]:
    """Open a file of arrays, whatever its suffix.

    Raises:
        InputError: it is missing, damaged, or holds no arrays.
    """
    check_file(path)
    kind = kind_of(path)
    require(kind is not None, f"{path}: expected a file of arrays: {', '.join(SUFFIXES + HDF5)}")
    manager = OPENERS[kind](path)
    with foreign(path, WORDS[kind]):
        found = manager.__enter__()
    try:
        yield Variables(path, kind, found)
    finally:
        manager.__exit__(None, None, None)


def load_array(
    path: Path,
    key: str,
    variable: str | None = None,
    fits: Callable[[Variable], bool] = has_two_axes,
) -> np.ndarray:
    """Read one array from a file, without running anything of it.

    Args:
        path: one of SUFFIXES or HDF5.
        key, variable, fits: as for Variables.choose.

    Raises:
        InputError: the file is missing, damaged, or holds no such array.
    """
    with opened(path) as found:
        name = found.choose(key, variable, fits)
        axes, values = found.of[name].axes, found.read(name)
    if axes is None:
        return values
    # What the format names stands in the order in which the other formats have it.
    return np.transpose(values, [axes.index(a) for a in "SCHW" if a in axes])


def numeric(dtype: np.dtype[Any]) -> bool:
    """Tell whether a dtype is boolean, whole, real or complex."""
    return dtype.kind in "buifc"


def two_values(path: Path, mask: np.ndarray, hint: str = "") -> np.ndarray:
    """Return a mask as bool, True where it is white.

    Args:
        path, hint: for messages, the latter at their end.
        mask: of two values: 0 (black), and 1, 255 or 65535 (white); float ones to ROUNDING.

    Raises:
        InputError: it holds other values.
    """
    values = np.unique(mask)
    white = values[-1]
    known = np.isclose(mask, white, rtol=ROUNDING, atol=0)
    require(
        bool((known | (np.abs(mask) <= ROUNDING * white)).all())
        and any(np.isclose(white, w) for w in (0, 1 / 65535, 1 / 255, 1, 255, 65535)),
        f"{path}: a mask holds 0 (black, missing) and 1 (white, known) only, got {len(values)} "
        f"values from {values[0]:.3g} to {white:.3g}{hint}",
    )
    return known & (mask != 0)


# One opener for each kind of file -----------------------------------------------------------


@contextmanager
def _npy(path: Path) -> Iterator[dict[str, Variable]]:
    with open(path, "rb") as file:
        shape, dtype = _npy_header(file)
        stored = path.stat().st_size - file.tell()
        size = math.prod(shape) * dtype.itemsize
        require(
            size <= stored,
            f"{path}: not a readable .npy or .npz file, damaged or cut short: {shape} {dtype} are "
            f"{size} bytes, it holds {stored}",
        )

        def read(index: Index) -> np.ndarray:
            return np.array(np.load(path, mmap_mode="r", allow_pickle=False)[index])

        yield {"": Variable(shape, dtype, read)}


def _npy_header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        read = np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it holds pickled objects, which are not read")
    return shape, dtype


@contextmanager
def _npz(path: Path) -> Iterator[dict[str, Variable]]:
    with zipfile.ZipFile(path) as archive, np.load(path, allow_pickle=False) as loaded:
        found = {}
        for member in archive.namelist():
            if not member.endswith(".npy"):
                continue
            with archive.open(member) as file:
                shape, dtype = _npy_header(file)
            size = archive.getinfo(member).file_size
            if math.prod(shape) * dtype.itemsize > size:
                raise ValueError(f"{member}: {shape} {dtype} in {size} bytes")
            name = member.removesuffix(".npy")
            found[name] = Variable(shape, dtype, lambda index, name=name: loaded[name][index])
        yield found


@contextmanager
def _mat(path: Path) -> Iterator[dict[str, Variable]]:
    """MATLAB's format up to version 7; structures, cells and text in it are passed over."""
    dtypes = {"single": "c8", "double": "c16", "logical": "?"}  # they may be complex
    dtypes |= {f"{u}int{bits}": f"{u}int{bits}" for u in ("", "u") for bits in (8, 16, 32, 64)}

    if path.read_bytes()[124:128] in (b"\0\1IM", b"\1\0MI"):  # version 4 has no such mark
        _check_mat(path)

    def read(name: str, index: Index) -> np.ndarray:
        return scipy.io.loadmat(path, variable_names=[name])[name][index]

    yield {
        name: Variable(
            tuple(shape), np.dtype(dtypes[kind]), lambda index, name=name: read(name, index)
        )
        for name, shape, kind in scipy.io.whosmat(path)
        if kind in dtypes and min(shape, default=0) >= 0
    }


def _check_mat(path: Path) -> None:
    """Raise ValueError where the numbers of a MATLAB 5 file are of a type that there is not.

    scipy 1.17 looks such a type up behind the end of its table, and crashes.
    """
    data = path.read_bytes()
    order = "<" if data[126:128] == b"IM" else ">"
    at = 128
    while at + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        body = memoryview(data)[at + 8 : at + 8 + size]
        at += 8 + size
        if kind == MAT_PACKED:
            free = psutil.virtual_memory().available
            body = memoryview(zlib.decompressobj().decompress(body, free))[8:]
        elements = _mat_elements(body, order)
        _, flags = next(elements, (0, b""))
        if len(flags) >= 4 and struct.unpack(f"{order}I", flags[:4])[0] & 255 in MAT_NUMERIC:
            for kind, _ in itertools.islice(elements, 2, None):  # behind its shape and its name
                if kind not in MAT_NUMBERS:
                    raise ValueError(f"numbers of the unknown type {kind}")


def _mat_elements(body: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Yield type and content of the elements of an array."""
    at = 0
    while at + 8 <= len(body):
        kind, size = struct.unpack_from(f"{order}II", body, at)
        if kind >> 16:  # up to four bytes stand in the place of the size
            yield kind & 0xFFFF, body[at + 4 : at + 4 + (kind >> 16)]
            at += 8
        else:
            yield kind, body[at + 8 : at + 8 + size]
            at += 8 + size + -size % 8


@contextmanager
def _hdf5(path: Path) -> Iterator[dict[str, Variable]]:
    is_matlab = kind_of(path) == "mat73"
    with open_hdf5(path) as file:
        datasets = _datasets(file, "", MAX_NESTING)
        variables = {name: _dataset(item, is_matlab) for name, item in datasets}
        yield {name: variable for name, variable in variables.items() if variable is not None}


def _datasets(group: h5py.Group, above: str, levels: int) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield the datasets of a group and of those in it, without what links lead to."""
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue
        item = group[name]
        if isinstance(item, h5py.Dataset):
            yield f"{above}{name}", item
        elif isinstance(item, h5py.Group) and levels > 1:
            yield from _datasets(item, f"{above}{name}/", levels - 1)


def _dataset(item: h5py.Dataset, is_matlab: bool) -> Variable | None:
    """Return a dataset's array, None for one that holds no numbers."""
    if item.shape is None:
        return None
    dtype, pair = item.dtype, None
    if dtype.names is not None and len(dtype.names) == 2:  # MATLAB's complex numbers
        pair, (real, _) = dtype.names, (dtype[name] for name in dtype.names)
        ends = [at + part.itemsize for part, at in dtype.fields.values()]
        starts = [at for _, at in dtype.fields.values()]
        if max(ends) > dtype.itemsize or min(ends) > max(starts):
            raise ValueError("numbers that overlap")  # HDF5 crashes on reading them
        dtype = np.result_type(real, np.complex64) if real.kind == "f" else dtype
    if not numeric(dtype) or item.attrs.get("MATLAB_class") in (b"char", b"cell"):
        return None

    def read(index: Index) -> np.ndarray:
        values = item[()] if is_matlab else item[index]
        if pair is not None:
            values = (values[pair[0]] + 1j * values[pair[1]]).astype(dtype)
        return np.transpose(values)[index] if is_matlab else values

    shape = item.shape[::-1] if is_matlab else item.shape
    return Variable(shape, dtype, read)


@contextmanager
def _nifti(path: Path) -> Iterator[dict[str, Variable]]:
    try:
        import nibabel  # only these files need it
        from nibabel import orientations
    except ImportError:
        require(False, f"{path}: NIfTI files are read by nibabel; pip install nibabel")
    image = nibabel.load(path)
    shape, affine = image.shape, image.affine
    dtype = image.get_data_dtype()
    slope = tuple(image.header.get_slope_inter())
    if slope not in ((None, None), (1.0, 0.0)):
        dtype = np.result_type(dtype, np.float64)
    if len(shape) < 2 or not numeric(np.dtype(dtype)):
        raise ValueError(f"an image of {shape} {dtype}")
    # To x leftwards, y backwards, z upwards: as columns, rows and slices of DICOM run. What is
    # complex is k-space or maps, and stays as it is stored.
    lps = orientations.axcodes2ornt("LPS")
    stored = lps if np.dtype(dtype).kind == "c" else orientations.io_orientation(affine)
    turn = orientations.ornt_transform(stored, lps)
    zooms = [float(z) for z in image.header.get_zooms()[:3]]

    def read(index: Index) -> np.ndarray:
        values = np.asanyarray(image.dataobj)
        values = values.reshape(*shape, *[1] * (3 - len(shape)))
        values = orientations.apply_orientation(values, turn)
        return values.reshape(turned)[index]

    if set(shape[3:]) == {1}:
        shape = shape[:3]
    spatial = [*shape, 1][:3]
    order = np.argsort(turn[:, 0])
    turned = (*(spatial[i] for i in order), *shape[3:])
    mm = [[*zooms, 1.0][:3][i] for i in order]
    turned = turned[:2] if len(shape) == 2 else turned
    axes = {2: "WH", 3: "WHC" if np.dtype(dtype).kind == "c" else "WHS", 4: "WHSC"}.get(len(turned))
    yield {"": Variable(turned, np.dtype(dtype), read, axes, mm[0])}


@contextmanager
def _cfl(path: Path) -> Iterator[dict[str, Variable]]:
    header, data = path.with_suffix(".hdr"), path.with_suffix(".cfl")
    check_file(header)
    check_file(data)
    lines = header.read_text(encoding="utf-8")[:10000].splitlines()
    at = next((i for i, line in enumerate(lines) if line.strip().lower() == "# dimensions"), None)
    if at is None or at + 1 == len(lines):
        raise ValueError("no `# Dimensions` in the .hdr")
    dims = [int(word) for word in lines[at + 1].split()]
    size = math.prod(dims)
    if not 2 <= len(dims) <= len(BART_AXES) or min(dims) < 1 or 8 * size != data.stat().st_size:
        raise ValueError(f"dimensions {dims} do not fit {data.stat().st_size} bytes")
    kept = [i for i, n in enumerate(dims) if n > 1]
    axes = "".join(BART_AXES[i] for i in kept)
    if axes.count("D") and "H" not in axes:  # a slice across the readout
        axes = axes.replace("W", "H").replace("D", "W")
    elif axes.count("D") and "W" not in axes:
        axes = axes.replace("D", "W")
    shape = tuple(dims[i] for i in kept)

    def read(index: Index) -> np.ndarray:
        return np.array(np.memmap(data, "<c8", "r", shape=shape, order="F")[index])

    known = set(axes) <= set("HWCS") and len(set(axes)) == len(axes)
    yield {"": Variable(shape, np.dtype("c8"), read, axes if known else None)}


OPENERS: dict[str, Callable[[Path], Any]] = {
    "npy": _npy, "npz": _npz, "mat": _mat, "mat73": _hdf5, "hdf5": _hdf5, "nii": _nifti, "cfl": _cfl,
}  # fmt: skip
