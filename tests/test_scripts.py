"""What a person runs under scripts/."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from utils import mri_data


def call(script, *arguments):
    command = [sys.executable, str(ROOT / "scripts" / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_make_brain_scan_fills_k_space_and_keeps_its_samples(brain_path, tmp_path):
    done = call("make_brain_scan.py", brain_path, tmp_path / "full.npy", "--cache", tmp_path)
    assert done.returncode == 0, done.stderr
    scan, full = mri_data.load_scan(brain_path, None), np.load(tmp_path / "full.npy")
    assert full.shape == scan.kspace.shape
    assert not mri_data.has_holes(mri_data.acquired_points(full))
    mask = mri_data.acquired_points(scan.kspace)
    misfit = np.linalg.norm((full - scan.kspace)[:, mask]) / np.linalg.norm(scan.kspace)
    assert misfit < 0.1
    call("make_brain_scan.py", brain_path, tmp_path / "again.npy", "--cache", tmp_path)
    assert (tmp_path / "again.npy").read_bytes() == (tmp_path / "full.npy").read_bytes()


@pytest.mark.parametrize(
    "arguments", [("no.npy", "out.npy"), ("no.npy", "out.txt"), ("a", "no/out.npy")]
)
def test_make_brain_scan_refuses_what_it_cannot_do(arguments, tmp_path):
    done = call("make_brain_scan.py", *(tmp_path / a for a in arguments))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1


def test_kill_and_resume_needs_a_command():
    done = call("kill_and_resume.py", "--kills", "1")
    assert done.returncode == 2 and "Traceback" not in done.stderr
