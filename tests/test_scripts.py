"""Scripts and studies as a user runs them."""

import csv

import numpy as np
import pytest
import skimage.data
from conftest import ROOT
from PIL import Image
from running import as_process, call, squeezed

from scripts import make_brain_scan
from scripts.tasks import SCRIPTS
from studies import kill_and_resume, stopping_study, tune_classical
from utils import mri_data

PIXELS = skimage.data.astronaut()[60:124, 190:254]


def test_make_brain_scan_fills_k_space_and_keeps_its_samples(brain_path, tmp_path, monkeypatch):
    for name in ("full", "again"):
        flags = (brain_path, tmp_path / f"{name}.npy", "--cache", tmp_path)
        assert call(monkeypatch, make_brain_scan, *flags) == 0
    scan, full = mri_data.load_scan(brain_path, None), np.load(tmp_path / "full.npy")
    assert full.shape == scan.kspace.shape
    assert not mri_data.has_holes(mri_data.acquired_points(full))
    mask = mri_data.acquired_points(scan.kspace)
    misfit = np.linalg.norm((full - scan.kspace)[:, mask]) / np.linalg.norm(scan.kspace)
    assert misfit < 0.1
    assert (tmp_path / "again.npy").read_bytes() == (tmp_path / "full.npy").read_bytes()


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        (make_brain_scan, ("no.npy", "out.npy")),
        (make_brain_scan, ("no.npy", "out.txt")),
        (make_brain_scan, ("a", "no/out.npy")),
        (kill_and_resume, ("--kills", "1")),
        (kill_and_resume, ("--kills", "0", "aseqdip_mri.py")),
        (stopping_study, ("denoise=face.png",)),
        (tune_classical, ("--tasks", "denoising")),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(script, arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, script, *arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and len(said.splitlines()) == 1


def test_a_module_runs_from_the_repository_s_root():
    done = as_process("studies.kill_and_resume", "--help")
    assert done.returncode == 0 and "--interrupt" in done.stdout, done.stderr
    assert all((ROOT / f"aseqdip_{task}.py").is_file() for task in SCRIPTS)


def test_the_stopping_study_measures_each_rule_once(tmp_path, monkeypatch, capsys):
    Image.fromarray(PIXELS[:40, :40]).save(tmp_path / "face.png")
    flags = [f"denoising={tmp_path / 'face.png'}", "--K", 10, "--width", 4, "--out", tmp_path]
    assert call(monkeypatch, stopping_study, *flags) == 0
    first = squeezed(capsys.readouterr().out)
    with open(tmp_path / "stopping" / "K10_width4_resizeNone.csv", newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["aseqdip", "vanilla_dip"]
    for row in rows.values():
        assert float(row["oracle"]) >= float(row["fixed"]) - 1e-9
        assert 0 < int(row["es_wmv_step"]) <= 20 and 0 < int(row["holdout_step"]) <= 20
        loss = float(row["fixed"]) - float(row["oracle"])
        assert f"{loss:+.2f} | " in first
    monkeypatch.setattr(stopping_study, "measure", None)  # nothing is measured again
    assert call(monkeypatch, stopping_study, *flags) == 0
    again = squeezed(capsys.readouterr().out)
    assert again.splitlines() == first.splitlines()[-6:]


def test_tuning_takes_the_first_within_a_tie_of_the_best(tmp_path, monkeypatch, capsys):
    Image.fromarray(PIXELS).save(tmp_path / "face.png")
    monkeypatch.setitem(
        tune_classical.GRIDS, "denoising", {"tv": {"lambda_per_sigma": (0.9, 0.6, 0.0001)}}
    )
    psnr = {0.9: 20.0, 0.6: 20.01, 0.0001: 19.0}
    found = []

    def scores(problems, name, lambda_per_sigma):
        found.append([(p.A.in_shape, p.known["sigma"]) for p in problems])
        return {"psnr": psnr[lambda_per_sigma]}

    monkeypatch.setattr(tune_classical, "scores", scores)
    flags = [tmp_path / "face.png", "--tasks", "denoising", "--crop", 40]
    assert call(monkeypatch, tune_classical, *flags) == 0
    told = capsys.readouterr().out
    assert "chosen: lambda_per_sigma 0.9 (the border of the grid: widen it), 20.00 dB" in told
    assert found == 3 * [[((3, 40, 40), sigma / 255) for sigma in tune_classical.SIGMAS]]
