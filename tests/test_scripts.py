"""Scripts and studies as a user runs them."""

import csv
import importlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import skimage.data
from conftest import ROOT
from PIL import Image
from running import as_process, call, squeezed

from baselines import chosen
from scripts import make_brain_scan
from scripts.tasks import SCRIPTS, tasks_and_files
from studies import kill_and_resume, stopping_study, tune
from utils import mri_data
from utils.cli import check_method, parse_args
from utils.errors import InputError
from utils.flags import cli

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
        (tune, ("--tasks", "denoising")),
        (tune, ("--tasks", "ct", "--methods", "vanila_dip")),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(script, arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, script, *arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and len(said.splitlines()) == 1


def test_files_of_one_name_are_told_apart(tmp_path):
    names = [tmp_path / folder / "x.png" for folder in "ab"]
    for name in names:
        name.parent.mkdir()
        name.touch()
    with pytest.raises(InputError, match="the same name; rename one"):
        tasks_and_files(tuple(f"denoising={name}" for name in names))
    both = (f"denoising={names[0]}", f"inpainting={names[1]}")
    assert [file for _, file in tasks_and_files(both)] == names


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


@pytest.mark.parametrize(
    ("levels", "chosen"),
    [
        ((1, 3, 5), r"level 3, name x, -1\.00 dB"),
        ((0, 1, 2), r"level 2 \(the border of the grid.*\), name x"),
        ((1, 3.1, 3, 5), "level 3.1, "),  # -1.01 dB: the first within a tie
        ((1, 3.17, 3, 5), "level 3, "),  # -1.03 dB
    ],
)
def test_tuning_takes_the_best_mean_and_tells_of_a_border(
    levels, chosen, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(
        tune, "scores",
        lambda task, problems, options, method, level, name: {0: {"psnr": -1 - (level - 3) ** 2}},
    )  # fmt: skip
    options, grid = tune.Args(log=tmp_path / "log.csv"), {"level": levels, "name": ("x",)}
    tune.tune("denoising", [], options, "wavelet", grid)
    said = capsys.readouterr().out
    assert re.search(f"chosen: {chosen}", said)
    monkeypatch.setattr(tune, "scores", None)  # what the log holds is not measured again
    tune.tune("denoising", [], options, "wavelet", grid)
    assert re.search(f"chosen: {chosen}", capsys.readouterr().out)


def test_inpainting_is_tuned_by_the_hole(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        tune, "scores",
        lambda task, problems, options, method, level: {0: {"psnr": -level, "psnr_hole": level}},
    )  # fmt: skip
    options = tune.Args(log=tmp_path / "log.csv")
    tune.tune("inpainting", [], options, "tv", {"level": (1, 2, 3)})
    assert "chosen: level 3 (the border" in capsys.readouterr().out
    assert "in the hole" in options.log.read_text()


def test_what_is_tuned_is_the_mean_over_the_pictures_and_their_noises(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "face.png")
    options = tune.Args(pictures=(tmp_path / "face.png",), crop=40)
    problems = tune.denoising_problems(options)
    assert [p.known["sigma"] * 255 for p in problems] == pytest.approx(options.sigmas)
    assert {p.A.in_shape for p in problems} == {(3, 40, 40)}
    each = [
        tune.scores("denoising", [p], options, "wavelet", levels=1)[0]["psnr"] for p in problems
    ]
    mean = tune.scores("denoising", problems, options, "wavelet", levels=1)[0]["psnr"]
    assert mean == pytest.approx(np.mean(each)) and len(set(each)) == 3
    for p in tune.inpainting_problems(options):
        assert p.A.in_shape == (3, 40, 40)  # the mask is the centre's


@pytest.mark.parametrize("name", ["aseqdip", "split_dip"])
def test_networks_are_tuned_too(name, tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "face.png")
    options = tune.Args(pictures=(tmp_path / "face.png",), crop=32, width=4, steps=4)
    problems = tune.denoising_problems(options)[:1]
    low, high = (
        tune.scores("denoising", problems, options, name, lr=lr)[4]["psnr"] for lr in (1e-6, 1e-2)
    )
    assert low != high and np.isfinite([low, high]).all()


def test_the_number_of_updates_is_chosen_with_the_rest(tmp_path, monkeypatch, capsys):
    rising = {50: 20.0, 100: 25.0, 150: 24.0}
    monkeypatch.setattr(
        tune, "scores",
        lambda *args, lr: {n: {"psnr": psnr - abs(lr - 2)} for n, psnr in rising.items()},
    )  # fmt: skip
    options, grid = tune.Args(log=tmp_path / "log.csv", steps=150), {"lr": (1, 2, 3)}
    for _ in range(2):
        tune.tune("denoising", [], options, "vanilla_dip", grid)
        assert "chosen: lr 2, 100 updates, 25.00 dB" in capsys.readouterr().out
        monkeypatch.setattr(tune, "scores", None)  # what the log holds is not measured again


def test_figures_are_those_of_a_run_with_as_many_updates(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "face.png")
    short = tune.Args(pictures=(tmp_path / "face.png",), crop=64, width=4, steps=50, sigmas=(25,))
    (problem,) = tune.denoising_problems(short)
    longer = replace(short, steps=100)
    for name, settings in (("aseqdip", {"lr": 1e-2}), ("vanilla_dip", {"lr": 1e-2})):
        alone = tune.scores("denoising", [problem], short, name, **settings)
        within = tune.scores("denoising", [problem], longer, name, **settings)
        assert list(alone) == [50] and list(within) == [50, 100]
        assert alone[50]["psnr"] == pytest.approx(within[50]["psnr"], abs=0.05)


def test_no_list_of_a_table_names_a_picture_of_the_development_half():
    lines = (
        line.partition("#")[0].split() for line in (ROOT / "data/split.txt").read_text().split("\n")
    )
    halves = {(kind, name): half for half, kind, name in filter(None, lines)}
    assert set(halves.values()) == {"development", "test"}
    ((first, last),) = (
        name.split("-") for (kind, name), half in halves.items()
        if kind == "pictures" and half == "development"
    )  # fmt: skip
    listed = (ROOT / "data/cbsd68.txt").read_text().split("\n")
    assert not {f"{n:04d}" for n in range(int(first), int(last) + 1)} & set(listed)


RECORDER = """#!{python} -I
import json, os, pathlib, sys
words = sys.argv[1:]
if words[0] == "-c":
    os.execv(sys.executable, [sys.executable, *words])
with open(os.environ["RECORDED"], "a") as file:
    file.write(json.dumps(words) + chr(10))
value = lambda flag, other: words[words.index(flag) + 1] if flag in words else other
for flag in {{"--picture", "--record"}} & set(words):
    pathlib.Path(value(flag, "")).touch()
if words[0].startswith("aseqdip_"):
    task = pathlib.Path(value("--out", "results"), words[0][8:-3])
    item = pathlib.Path(value("--data", value("--sinogram", "sample"))).stem
    folders = [task / "comparison" / item / "hash"]
    for method in value("--method", "split_dip" if "best" in words else "aseqdip").split(","):
        folders.append(task / method / item / value("--run", "hash"))
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("metrics.json", "comparison.png", "curve.png", "reconstruction.npy"):
            (folder / name).touch()
"""


@pytest.mark.parametrize(
    "name, files, least",
    [("best", 4, 100), ("real", 6, 4), ("readme_pictures", 1, 7), ("docs_tasks", 3, 12),
     ("docs_methods", 4, 5)],
)  # fmt: skip
def test_the_programs_take_all_commands_of_a_shell_script(name, files, least, tmp_path):
    """Nothing is run: a stand-in for Python writes the commands down."""
    (tmp_path / "python").write_text(RECORDER.format(python=sys.executable))
    (tmp_path / "python").chmod(0o755)
    recorded = tmp_path / "recorded"
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "RECORDED": recorded}
    given = [tmp_path / f"{i}.npy" for i in range(files)]
    done = subprocess.run(
        ["bash", ROOT / "scripts" / f"{name}.sh", *given, tmp_path / "out"],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and "ls:" not in done.stderr, done.stderr
    commands = [json.loads(line) for line in recorded.read_text().splitlines()]
    assert len(commands) >= least
    kinds = {kind(command): command for command in commands}  # each is read once
    for program, *words in kinds.values():
        if program == "-m":
            module = importlib.import_module(words[0])
            given = cli(module.Args, args=words[1:])
            for needed in ("file", "more"):
                path = getattr(given, needed, None)
                assert path is None or (given.run / path).is_file(), (needed, words)
        elif program != "-":
            script = importlib.import_module(program.removesuffix(".py"))
            args = parse_args(script.Args, script.PRESETS, "", words)
            check_method(args)
            assert chosen(args, script.baselines(args))


def kind(command):
    """Return what commands share that differ in numbers and files alone."""
    if command[0] == "-m":
        return tuple(command)
    decide, kept, flag = ("--method", "--set", "--preset", "--stop", "--run"), [command[0]], ""
    for word in command[1:]:
        flag = word if word.startswith("--") else flag
        kept += [word] if word == flag or flag in decide else []
    return tuple(kept)
