"""What a person runs under scripts/."""

import csv
import subprocess
import sys

import numpy as np
import pytest
import skimage.data
from conftest import ROOT
from PIL import Image
from running import squeezed

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


def test_the_stopping_study_measures_each_rule_once(tmp_path):
    pixels = skimage.data.astronaut()[60:124, 190:254]
    Image.fromarray(pixels).save(tmp_path / "face.png")
    arguments = [f"denoising={tmp_path / 'face.png'}", "--K", "30", "--width", "4"]
    first = call("stopping_study.py", *arguments, "--out", tmp_path)
    assert first.returncode == 0, first.stderr
    with open(tmp_path / "stopping" / "K30_width4_resizeNone.csv", newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["aseqdip", "vanilla_dip"]
    for row in rows.values():
        assert float(row["oracle"]) >= float(row["fixed"]) - 1e-9
        assert 0 < int(row["es_wmv_step"]) <= 60 and 0 < int(row["holdout_step"]) <= 60
        loss = float(row["fixed"]) - float(row["oracle"])
        assert f"{loss:+.2f} | " in squeezed(first.stdout)
    again = call("stopping_study.py", *arguments, "--out", tmp_path)
    assert again.stdout.endswith("\n".join(first.stdout.splitlines()[-6:]) + "\n")
    assert "it/s" not in again.stderr  # nothing was measured again
    wrong = call("stopping_study.py", "denoise=face.png", "--out", tmp_path)
    assert wrong.returncode == 2 and "expected TASK=FILE" in wrong.stderr
