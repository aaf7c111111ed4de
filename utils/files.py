"""Reading foreign arrays and writing files that are whole or not there."""

import errno
import functools
import hashlib
import io
import os
import pickle
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch

from utils.errors import InputError, Interrupted, require

if TYPE_CHECKING:
    import h5py

try:
    import fcntl
except ImportError:  # Windows has none: there, two processes at one work are not told apart
    fcntl = None

PARTIAL = ".partial"
DAMAGED = (  # what reading a damaged file of torch.save, and looking into it, can raise
    OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError,
    AssertionError, struct.error, pickle.UnpicklingError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def check_file(path: Path) -> None:
    """Raise InputError unless a path is a file."""
    require(path.exists(), f"{path}: no such file")
    got = "a folder" if path.is_dir() else "a pipe or a device"
    require(path.is_file(), f"{path}: expected a file, got {got}")


@contextmanager
def foreign(path: Path, what: str, advice: str = "") -> Iterator[None]:
    """Turn whatever a library raises on a foreign file into one line.

    Libraries raise errors of all kinds on bytes that somebody else wrote, so only calls of them
    belong in such a block.

    Args:
        path: the file.
        what: what it should have been, such as "picture".
        advice: what the user can do.

    Raises:
        InputError: the block raised, and not for Ctrl-C.
    """
    try:
        yield
    except (InputError, Interrupted):
        raise
    except PermissionError as error:
        raise InputError(f"{path}: you may not read it; change its permissions") from error
    except Exception as error:
        raise InputError(
            f"{path}: not a readable {what}, damaged or cut short ({reason(error)}){advice}"
        ) from error


def files_of(path: Path, suffixes: tuple[str, ...], also: Callable[[Path], bool]) -> list[Path]:
    """List the files that a path stands for: itself, or those of a folder, by name.

    Raises:
        InputError: the folder holds none.
    """
    if not path.is_dir():
        return [path]
    # Hidden files are no work, such as the ._x that macOS writes beside x; DICOMDIR is a list.
    seen = [p for p in path.iterdir() if p.name[0] != "." and p.name.upper() != "DICOMDIR"]
    files = [p for p in seen if not p.is_dir()]
    found = sorted(p for p in files if p.name.lower().endswith(suffixes) or also(p))
    require(bool(found), f"{path}: a folder without {', '.join(suffixes)} files")
    return found


def load_torch(path: Path) -> Any:
    """Read what torch.save wrote, on the CPU, after a look at its checksums; run nothing of it.

    Files of before PyTorch 1.6 are no zip archives and have no checksums.

    Raises:
        One of DAMAGED: it is no such file, or damaged.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load does not look at checksums
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged} does not fit its checksum")
    return torch.load(path, map_location="cpu", weights_only=True)


def encoded(text: str) -> bytes:
    """Return a text as UTF-8; the bytes of a file name that are not UTF-8 are written as \\xNN."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace").encode()


def content_hash(*parts: np.ndarray | str) -> str:
    """Return the SHA-256 of arrays (shape, dtype and bytes) and strings, in hexadecimal."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            digest.update(part.encode(errors="surrogateescape"))
        else:
            digest.update(f"{part.shape} {part.dtype}".encode())
            digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def reason(error: Exception) -> str:
    """Return the start of what an error says, for a message of one line."""
    return (str(error) or type(error).__name__).splitlines()[0][:80]


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal.

    Raises:
        InputError: it is not a file.
    """
    check_file(path)
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        for block in iter(lambda: file.read(2**20), b""):
            digest.update(block)
    return digest.hexdigest()


def tree_hash(path: Path) -> str:
    """Return the SHA-256 of a file, or of all files directly in a folder by name, in hexadecimal.

    Raises:
        InputError: there is no such file or folder.
    """
    if not path.is_dir():
        return file_hash(path)
    files = sorted(p for p in path.iterdir() if p.is_file())
    return content_hash(*(f"{p.name} {file_hash(p)}" for p in files))


def lock(path: Path, held: InputError) -> Callable[[], object]:
    """Keep other processes away from a file or folder until this one ends, however it ends.

    Args:
        path: the file or folder, which is there.
        held: what is raised if another process has it.

    Returns:
        What lets others have it earlier.
    """
    if fcntl is None:
        return lambda: None
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise held from error
    except OSError as error:  # such as Lustre and NFS, mounted without locks
        _tell_no_locks(error.strerror)
    return lambda: os.close(descriptor)


@functools.cache
def _tell_no_locks(why: str) -> None:
    print(
        f"note: this file system has no locks ({why}); start no second process on the same run",
        file=sys.stderr,
    )


def open_hdf5(path: Path) -> "h5py.File":
    """Open an HDF5 file for reading; on a file system without locks, without one.

    Raises:
        InputError: another program is writing to it.
        OSError: it cannot be read.
    """
    import h5py  # not at the top: most scripts do without

    try:
        return h5py.File(path, "r")
    except OSError as error:
        held = isinstance(error, BlockingIOError) or error.errno in (errno.EAGAIN, errno.EACCES)
        if "unable to lock file" not in str(error):
            raise
        require(not held, f"{path}: another program has it open for writing; close it there first")
        return h5py.File(path, "r", locking=False)


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that a reader sees all of it or nothing, also after a crash.

    Args:
        path: the file; an existing one is replaced.
        write: called with a binary file to write to. It fills memory first: torch.save and
            np.save hide why a disk refuses.

    Raises:
        InputError: there is a folder of this name.
    """
    require(not path.is_dir(), f"{path}: expected the name of a file, got a folder")
    content = io.BytesIO()
    write(content)
    # Of this process alone, so that two runs may fill one cache; a kill leaves at most this file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with open(temporary, "wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
