"""The scripts that time and that compare schedules, on a tiny picture."""

import csv
import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from running import call, squeezed

import aseqdip_denoising
from scripts import bench, bench_memory, public_loop
from scripts.tasks import build
from studies import precision_study, schedule_study
from utils import mri_data
from utils.callback import Callback
from utils.errors import InputError
from utils.graphs import Graphed


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "face.png"
    Image.fromarray(skimage.data.astronaut()[60:92, 190:222]).save(path)
    return path


@pytest.fixture(autouse=True)
def global_state():
    yield
    Graphed.enabled = True


def test_bench_reports_what_it_timed(picture, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "setup_times", lambda task, options: {"imports alone": 1.0})
    monkeypatch.setattr(bench, "matmul_rate", lambda device, precision: 1.0)
    flags = ["denoising", "--data", picture, "--width", "4", "--device", "cpu", "--rounds", "2"]
    flags += ["--seconds", "0.01", "--logged", "12", "--out", tmp_path / "out"]
    assert call(monkeypatch, bench, *flags) == 0
    found = json.loads((tmp_path / "out" / "denoising.json").read_text())
    table = squeezed(capsys.readouterr().out)
    assert found["shape"] == [3, 32, 32] and list(found["update"])[0] == "fp32"
    for part in ("outer step, for each update", "update", "operator", "backward of upsampling"):
        for name, times in found[part].items():
            assert 0 < times["low"] <= times["median"] <= times["high"]
            assert f"| {name} | {1e3 * times['median']:.2f} |" in table
    assert list(found["update"]) == ["fp32", "bf16", "fp32, channels first"]
    for parts in found["shares of an update"].values():
        assert sum(parts.values()) == pytest.approx(1)
        assert min(parts[name] for name in ("convolution", "BatchNorm", "Adam")) > 0
    assert "| convolution |" in table
    assert 0 < found["log and checkpoints, share of a run"] < 1
    # An outer step has N = 2 updates, each a forward pass and two for its gradients, and the
    # input update; the first convolution needs no gradient of its input.
    weights = [(3, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16), (16, 16), (16, 16), (32, 16)]
    weights += [(16, 8), (16, 8), (8, 4), (8, 4), (4, 4)]
    sides = [32, 32, 16, 16, 8, 8, 4, 4, 8, 8, 16, 16, 32, 32]
    forward = [2 * 9 * a * b * side**2 for (a, b), side in zip(weights, sides, strict=True)]
    forward.append(2 * 4 * 3 * 32**2)
    expected = 7 * sum(forward) - 2 * forward[0]
    assert found["flops of an outer step"] == expected


def test_a_mode_takes_the_script_s_own_steps(picture):
    args = aseqdip_denoising.Args(data=picture, width=4, device="cpu", K=2, lr=1e-3)
    _, problem = build(aseqdip_denoising, args)
    expected = aseqdip_denoising.aseqdip(args, problem.y, problem.A, Callback())
    mode = bench.Mode(aseqdip_denoising, args, problem.y, problem.A, graph=False)
    for _ in range(args.K):
        mode.outer()
    assert torch.equal(mode.z, expected)


def test_the_radon_transform_is_timed_beside_rotation(monkeypatch, capsys):
    flags = ["radon", "--size", 33, "--views", 5, "--rounds", 1, "--seconds", "0.001"]
    assert call(monkeypatch, bench, *flags) == 0
    told = squeezed(capsys.readouterr().out)
    for name in ("Radon", "rotation, grids kept", "rotation"):
        assert float(re.search(rf"^\| {name} \| ([\d.]+) \|", told, re.MULTILINE)[1]) > 0
    difference = float(re.search(r"sinograms: (\S+) of", told)[1])
    assert 0 < difference < 1e-5  # the same points, in another order of sums


@pytest.mark.parametrize("flag", ["--size", "--width", "--rounds", "--threads", "--views"])
def test_numbers_that_cannot_be_are_refused(flag, monkeypatch, capsys):
    assert call(monkeypatch, bench, "radon", flag, 0) == 2
    assert re.fullmatch(rf"error: {flag} 0: .*\n", capsys.readouterr().err)


def test_what_is_no_checkout_is_refused(tmp_path):
    args = aseqdip_denoising.Args()
    for task, words in (("mri", "expected a checkout"), ("deblurring", "no loop to compare")):
        with pytest.raises(InputError, match=words):
            public_loop.public_loop(tmp_path, task, args, None)
    args.width = 16
    with pytest.raises(InputError, match="has --width 64"):
        public_loop.public_loop(tmp_path, "mri", args, None)


def test_the_public_loop_of_a_checkout(tmp_path, picture, monkeypatch):
    """With a network of one factor a: the loss, its step and the next input by hand."""
    (tmp_path / "unet").mkdir()
    (tmp_path / "physics" / "radon").mkdir(parents=True)
    (tmp_path / "physics" / "radon" / "radon.py").touch()
    (tmp_path / "unet" / "medium_unet.py").touch()
    (tmp_path / "unet" / "__init__.py").write_text(
        "import torch\n"
        "class MediumUNet(torch.nn.Module):\n"
        "    def __init__(self, n_channels, n_classes):\n"
        "        super().__init__()\n"
        "        self.a = torch.nn.Parameter(torch.tensor(0.5))\n"
        "    def forward(self, z):\n"
        "        return self.a * z\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    args = aseqdip_denoising.Args(data=picture, device="cpu", lr=0.01)
    _, problem = build(aseqdip_denoising, args)
    loop = public_loop.public_loop(tmp_path, "denoising", args, problem)
    y = problem.y
    _, loss, _ = loop.update()
    assert np.isclose(loss.item(), 2 * (0.5 * y).square().mean().item())
    assert np.isclose(loop.net.a.item(), 0.51)  # Adam's first step
    loop.outer()
    assert torch.allclose(loop.z, 0.52 * y, atol=1e-4)  # made before the step in hand
    for name in [name for name in sys.modules if name.split(".")[0] in ("unet", "physics")]:
        monkeypatch.delitem(sys.modules, name)


def test_the_study_finds_the_update_that_is_as_good(picture, tmp_path, monkeypatch, capsys):
    variants = {
        "paper": schedule_study.Variant(updates=120, lr=1e-3),
        "N 10, lr 1e-2": schedule_study.Variant(N=10, lr=1e-2, updates=60),
    }
    monkeypatch.setattr(schedule_study, "VARIANTS", variants)
    flags = [f"denoising={picture}", "--width", "4", "--out", tmp_path]
    assert call(monkeypatch, schedule_study, *flags) == 0
    first = squeezed(capsys.readouterr().out)
    curves = {}
    for path in (tmp_path / "schedules").iterdir():
        with open(path, newline="") as file:
            curves["N10" in path.name] = {int(k): float(v) for k, v in csv.reader(file)}
    assert list(curves[False]) == [0, *range(20, 121, 20)]
    goal = curves[False][120]
    reached = [k for k, v in curves[True].items() if k and v >= goal]
    assert f"| {reached[0] if reached else 'not reached'} | {curves[True][60]:.2f} |" in first
    assert call(monkeypatch, schedule_study, *flags) == 0
    assert squeezed(capsys.readouterr().out).splitlines()[-4:] == first.splitlines()[-4:]


def test_a_variant_without_tricks_is_algorithm_1(picture):
    args = aseqdip_denoising.Args(data=picture, width=4, device="cpu", K=10)
    _, problem = build(aseqdip_denoising, args)
    plain = schedule_study.Variant(updates=20)
    found = schedule_study.curve(aseqdip_denoising, args, problem, plain, "")
    z_K = aseqdip_denoising.aseqdip(args, problem.y, problem.A, Callback())
    assert found[20] == pytest.approx(problem.score(z_K)["psnr"], abs=1e-9)
    still = schedule_study.Variant(updates=20, damping=0.0)
    curve = schedule_study.curve(aseqdip_denoising, args, problem, still, "")
    assert curve[20] == curve[0] == problem.score(problem.y)["psnr"]  # z_0 stays
    first, again = (schedule_study.Variant(updates=20, first=20), replace(plain, N=20))
    one, two = (
        schedule_study.curve(aseqdip_denoising, args, problem, v, "") for v in (first, again)
    )
    assert one[20] == two[20] != found[20]


def test_the_scan_whose_memory_is_measured_is_the_sample_s(tmp_path):
    bench_memory.write_scan(tmp_path / "scan.npy", 3, (320, 320))
    kspace = np.load(tmp_path / "scan.npy")
    assert kspace.shape == (3, 320, 320) and kspace.dtype == np.complex64
    # Birdcage maps have RSS 1. numpy's norm adds up in the array's own dtype: so in float64.
    norms = [
        np.linalg.norm(k.astype(complex)) for k in (kspace, mri_data.load_scan(None, None).kspace)
    ]
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


def test_the_study_of_precisions_pairs_problems_and_seeds(picture, tmp_path, monkeypatch, capsys):
    found = {("fp32", 0): 20.0, ("fp32", 1): 23.0, ("bf16", 0): 20.5, ("bf16", 1): 22.5}
    other = tmp_path / "other.png"
    other.touch()
    monkeypatch.setattr(
        precision_study, "psnr",
        lambda task, file, precision, seed, out: found[precision, seed]
        + (precision == "bf16" and file == other),
    )  # fmt: skip
    problem = f"denoising={picture}"
    problems = (problem, f"denoising={other}")
    assert call(monkeypatch, precision_study, *problems, "--out", tmp_path) == 0
    told = squeezed(capsys.readouterr().out)
    assert "| denoising, face | 0 | 20.00 | 20.50 | +0.50 |" in told
    # Differences of 0.5 and -0.5 dB, and 1.5 and 0.5 dB: seeds of one problem are averaged first.
    assert "bf16 minus fp32: +0.50 (0.50) dB over 2 problems" in told
    assert "another seed, in fp32: 3.00 dB" in told
    for wrong in ((problem, "--seeds", 0), (f"denoise={picture}",), ("denoising=x.png",)):
        assert call(monkeypatch, precision_study, *wrong) == 2


def test_the_study_of_precisions_reads_the_run_that_it_made(picture, tmp_path, monkeypatch):
    """With a script that takes no time in place of the task's."""
    calls = []

    def run(command, **options):
        calls.append(command)
        folder = tmp_path / "denoising" / "aseqdip" / "face" / command[command.index("--run") + 1]
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps({"psnr_final": 21.0}))

    monkeypatch.setattr(precision_study.subprocess, "run", run)
    assert precision_study.psnr("denoising", picture, "bf16", 1, tmp_path) == 21.0
    (command,) = calls
    assert command[command.index("--precision") + 1] == "bf16" and "--resize" in command
