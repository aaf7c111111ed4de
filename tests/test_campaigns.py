"""The campaigns run, on few files."""

import subprocess
import sys

from conftest import ROOT


def test_damaged_files_are_refused_in_one_line(tmp_path):
    command = [sys.executable, str(ROOT / "tests/campaigns/fuzz.py"), "--files", "40"]
    done = subprocess.run(
        [*command, "--seed", "3", "--seconds", "60", "--keep", str(tmp_path / "kept")],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "40 files" in done.stdout and "0 failures" in done.stdout
