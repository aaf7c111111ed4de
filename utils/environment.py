"""What must be settled before the libraries load: waiting threads, folders for caches, streams.

Every script imports this module first; nothing else is to be done with it. What the user has set
stays.
"""

import contextlib
import os
import stat
import sys
import tempfile
from pathlib import Path


def _settle() -> None:
    # A thread that waits sleeps, instead of keeping a core from other work. OpenMP's library reads
    # this when torch loads it.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if "IPython" not in sys.modules:  # a notebook's child inherits a backend that it may not have
        os.environ["MPLBACKEND"] = "agg"
    if not _home_is_writable():
        folder = str(_own_folder())
        os.environ.setdefault("NUMBA_CACHE_DIR", folder)  # without one, sigpy cannot be imported
        os.environ.setdefault("MPLCONFIGDIR", folder)
    for stream in (sys.stdout, sys.stderr):  # file names need not fit the stream's encoding
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _home_is_writable() -> bool:
    """Tell whether libraries can keep their caches and settings in the home folder."""
    home = Path(os.path.expanduser("~"))  # stays "~" where there is none
    folders = [home, *(home / name for name in (".cache", ".config") if (home / name).exists())]
    return home.is_absolute() and all(f.is_dir() and os.access(f, os.W_OK) for f in folders)


def _own_folder() -> Path:
    """Return a folder for temporary files that no other user can write to: caches are executed."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"aseqdip-{user}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    own = status.st_uid == user and stat.S_IMODE(status.st_mode) == 0o700
    if not stat.S_ISDIR(status.st_mode) or (hasattr(os, "getuid") and not own):
        return Path(tempfile.mkdtemp(prefix="aseqdip-"))
    return folder


_settle()
