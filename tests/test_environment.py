"""Machines as people have them: no home folder, a notebook's backend, ASCII streams, no locks."""

import ast
import errno
import json
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
import skimage.data
from conftest import ROOT
from PIL import Image

from utils import environment, files
from utils.errors import InputError

TINY = ["--K", "2", "--width", "4", "--depth", "2", "--device", "cpu"]
PIXELS = skimage.data.astronaut()[60:92, 190:222]


def script(*arguments, **variables):
    """Run the denoising script in another environment; bytes are bytes of the command line."""
    words = [a if isinstance(a, bytes) else str(a).encode() for a in (*arguments, *TINY)]
    command = [sys.executable.encode(), bytes(ROOT / "aseqdip_denoising.py"), *words]
    kept = {k: v for k, v in os.environ.items() if k not in ("MPLBACKEND", "OMP_WAIT_POLICY")}
    return subprocess.run(command, env=kept | variables, capture_output=True)


def test_a_name_that_is_no_utf_8_a_notebook_s_backend_and_ascii_streams(tmp_path):
    name = bytes(tmp_path) + b"/caf\xe9.png"
    with open(name, "wb") as file:
        Image.fromarray(PIXELS).save(file, format="PNG")
    done = script(
        "--data", name, "--out", tmp_path / "out", "--method", "aseqdip,nlm",
        PYTHONIOENCODING="ascii", MPLBACKEND="module://matplotlib_inline.backend_inline",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert rb"caf\udce9.png" in done.stdout
    assert len(list(tmp_path.glob("out/*/*/*/*/metrics.json"))) == 2
    assert len(list(tmp_path.glob("out/*/*/*/*/comparison.png"))) == 3


def test_without_a_home_the_caches_lie_where_no_other_user_can_write(tmp_path):
    code = "import utils.environment, os, sigpy, matplotlib; print(os.environ['NUMBA_CACHE_DIR'])"
    home = {"HOME": str(tmp_path / "nowhere"), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:matplotlib", "-c", code], cwd=ROOT,
        env=os.environ | home, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and not done.stderr, done.stderr
    folder = tmp_path / f"aseqdip-{os.getuid()}"
    assert done.stdout.strip() == str(folder) and folder.stat().st_mode & 0o777 == 0o700


def test_a_cache_that_others_can_write_to_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    own = environment._own_folder()
    assert environment._own_folder() == own
    own.chmod(0o777)
    assert environment._own_folder() != own


def test_threads_that_wait_sleep_before_torch_is_there():
    code = (
        "import scripts, studies, os, sys; print('torch' in sys.modules, "
        "os.environ['OMP_WAIT_POLICY'])"
    )
    kept = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=kept, capture_output=True, text=True)
    assert done.stdout == "False passive\n", done.stderr
    for path in [*ROOT.glob("aseqdip_*.py"), ROOT / "ugodit_train.py"]:
        imports = [node for node in ast.parse(path.read_text()).body if "Import" in str(type(node))]
        assert imports[0].names[0].name == "utils.environment", path


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_of_and_used(number, tmp_path, monkeypatch, capsys):
    def refuse(descriptor, operation):
        raise OSError(number, os.strerror(number))

    files._tell_no_locks.cache_clear()
    monkeypatch.setattr(files.fcntl, "flock", refuse)
    unlock = files.lock(tmp_path, InputError("held"))
    unlock()
    assert "no locks" in capsys.readouterr().err


def test_a_lock_of_another_process_is_still_respected(tmp_path):
    unlock = files.lock(tmp_path, InputError("held"))
    with pytest.raises(InputError, match="held"):
        files.lock(tmp_path, InputError("held"))
    unlock()
    files.lock(tmp_path, InputError("held"))()


def test_an_hdf5_file_that_another_program_has_open_is_not_called_damaged(tmp_path):
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file["kspace"] = np.ones(3)
        read = (
            "import sys; from pathlib import Path; from utils.files import open_hdf5\n"
            "try: print(sum(open_hdf5(Path(sys.argv[1]))['kspace'][()]))\n"
            "except Exception as error: print(type(error).__name__, error)"
        )
        command = [sys.executable, "-c", read, str(path)]
        held = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    assert held.startswith("InputError") and "another program" in held
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout == "3.0\n"


def test_an_hdf5_file_is_read_without_a_lock_where_there_are_none(tmp_path, monkeypatch):
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file["kspace"] = np.ones(3)
    opened = h5py.File

    def without_locks(path, mode, locking=None):
        if locking is None:
            raise OSError(errno.ENOLCK, "unable to lock file, errno = 37")
        return opened(path, mode, locking=locking)

    monkeypatch.setattr(h5py, "File", without_locks)
    with files.open_hdf5(path) as file:
        assert json.dumps(file["kspace"][()].tolist()) == "[1.0, 1.0, 1.0]"
