"""--method, --set and --stop, as a user of the scripts has them."""

import csv
import fcntl
import inspect
import json
import os
import re
import signal
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import running
import skimage.data
import torch
from gaussian import write_prior
from pydicom.data import get_testdata_file
from running import call, digest, log_of, metrics, run_folder
from scipy.ndimage import uniform_filter
from skimage.transform import resize

import aseqdip_ct
import aseqdip_deblurring
import aseqdip_denoising
import aseqdip_inpainting
import aseqdip_mri
import aseqdip_superresolution
import baselines
from baselines import nlm
from utils import comparison, encoders, results, runs
from utils.cli import parse_args
from utils.errors import InputError
from utils.files import content_hash
from utils.folder import RunFolder
from utils.loop import Loop
from utils.methods import Method, converted
from utils.stopping import AtNoise

pytestmark = pytest.mark.usefixtures("gaussian_priors")
SCRIPTS = {
    "mri": aseqdip_mri,
    "ct": aseqdip_ct,
    "denoising": aseqdip_denoising,
    "inpainting": aseqdip_inpainting,
    "deblurring": aseqdip_deblurring,
    "superresolution": aseqdip_superresolution,
}
FLAGS = {
    "mri": ["--center-fraction", "0.2"],
    "ct": ["--views", "9"],
    "denoising": ["--sigma", "30"],
    "inpainting": ["--hiar", "0.2"],
    "deblurring": ["--blur", "camera"],
    "superresolution": ["--factor", "2"],
}
TINY = ["--K", "8", "--width", "4", "--log-every", "2", "--device", "cpu"]
STEPS = 16  # of K 8 and N 2
ITERATIVE = {
    "mri": [
        "vanilla_dip", "self_guided_dip", "tv_dip", "es_dip", "sgld_dip", "ref_guided_dip",
        "ugodit", "split_dip", "udig_dip",
    ],
    "ct": [
        "vanilla_dip", "self_guided_dip", "tv_dip", "es_dip", "sgld_dip", "ref_guided_dip",
        "split_dip", "udig_dip",
    ],
    "denoising": [
        "vanilla_dip", "self_guided_dip", "tv_dip", "es_dip", "sgld_dip", "rethinking_dip", "split_dip",
    ],
    "inpainting": [
        "vanilla_dip", "self_guided_dip", "tv_dip", "es_dip", "sgld_dip", "split_dip",
    ],
    "deblurring": [
        "vanilla_dip", "self_guided_dip", "sgld_dip", "ugodit", "udig_dip", "split_dip",
    ],
    "superresolution": [
        "vanilla_dip", "self_guided_dip", "tv_dip", "es_dip", "sgld_dip", "ugodit",
        "split_dip",
    ],
}  # fmt: skip
DIRECT = {
    "mri": ["zero_filled", "cg_sense", "l1_wavelet", "tv"],
    "ct": ["fbp", "sart", "tv"],
    "denoising": ["tv", "nlm", "wavelet", "bm3d"],
    "inpainting": ["biharmonic", "linear", "tv"],
    "deblurring": ["tv"],
    "superresolution": ["bicubic", "tv"],
}


SAMPLERS = {  # with a learned prior, without a network to fit
    "mri": ["dds", "score_mri"],
    "ct": ["dds", "mcg"],
    "denoising": ["dps", "ddnm"],
    "inpainting": ["dps", "ddnm"],
    "deblurring": ["dps"],
    "superresolution": ["dps", "ddnm"],
}
MEANS = {"ct": ["aseqdip_split"]}  # of the images of others
CHANNELS = {"mri": 2, "ct": 1}  # of the images, as a prior counts them; pictures have 3
WITH_ENCODER = ("mri", "deblurring", "superresolution")


def flags_of(task, folder, kspace, *more):
    """Return the flags of a small real problem, with the prior data that a method needs."""
    data, reference = folder / "item.npy", folder / "reference"
    reference.mkdir(exist_ok=True)
    if task == "mri":
        np.save(data, kspace)
        np.save(reference / "other.npy", np.roll(kspace, 1, axis=0) * 3)
    elif task == "ct":
        head = resize(skimage.data.shepp_logan_phantom(), (48, 44), anti_aliasing=True)
        np.save(data, 2000 * head - 1000)
        np.save(reference / "other.npy", 1500 * head[::-1] - 1000)
    else:
        photo = skimage.data.astronaut()[60:124, 190:254] / 255
        np.save(data, photo.astype(np.float32))
    flags = ["--data", data, "--out", folder / "out", *FLAGS[task], *TINY, *more]
    asked = " ".join(map(str, more))
    if task in ("mri", "ct") and ("ref_guided" in asked or "--method all" in asked):
        flags += ["--reference", reference]
    if task in WITH_ENCODER and ("ugodit" in asked or "--method all" in asked):
        script = SCRIPTS[task]
        net = script.make_net(script.Args(width=4, seed=5), "ugodit", torch.zeros(1, 3, 8, 8), None)
        encoders.save(folder / "encoder.pt", net, task, [], {})
        flags += ["--encoder", folder / "encoder.pt"]
    if "--method all" in asked or any(m in asked for m in ("udig_dip", *SAMPLERS[task])):
        flags += ["--prior", write_prior(folder / "prior.json", CHANNELS.get(task, 3))]
    return flags


def settings_for(method):
    """Return what lets a method do all of its work in 16 steps."""
    if method == "sgld_dip":
        return ["--set", "thin=4"]
    if method == "udig_dip":
        return ["--set", "purifications=3"]
    if any(method in names for names in SAMPLERS.values()):
        return ["--set", "n_steps=12"]
    if method == "ugodit":  # more than one input before the interruption
        return ["--set", "N=3"]
    if method == "split_dip":
        return ["--set", "parts=3", "start_iter=20"]
    return ["--set", "window=4", "patience=5"] if method == "es_dip" else []


def test_the_tables_of_the_scripts_name_what_this_file_tests():
    for task, script in SCRIPTS.items():
        found = {
            name: baselines.find(name).with_settings(**own)
            for name, own in script.baselines(script.Args()).items()
        }
        iterative = {name for name, method in found.items() if method.iterative}
        assert iterative == set(ITERATIVE[task])
        direct = {*DIRECT[task], *SAMPLERS[task], *MEANS.get(task, [])}
        direct |= {"varnet"} if task == "mri" else set()
        assert found.keys() - iterative == direct


@pytest.mark.parametrize(
    "task, method", [(task, method) for task, methods in DIRECT.items() for method in methods]
)
def test_a_direct_method_fills_a_run_folder(task, method, tmp_path, monkeypatch, kspace, capsys):
    if method == "bm3d":
        pytest.importorskip("bm3d", reason="the optional package bm3d is not installed")
    flags = flags_of(task, tmp_path, kspace, "--method", method)
    assert call(monkeypatch, SCRIPTS[task], *flags) == 0
    folder = run_folder(tmp_path / "out", task, "item", method)
    found = metrics(folder)
    assert found["steps"] == found["n_params"] == 0 and "psnr_oracle" not in found
    assert not (folder / "log.csv").exists() and (folder / "comparison.png").exists()
    if method not in ("zero_filled", "fbp"):
        assert found["psnr_final"] > found["psnr_input"] + 0.3
    capsys.readouterr()
    # What it does not use does not make it another run.
    assert call(monkeypatch, SCRIPTS[task], *flags, "--K", "9", "--seed", "3") == 0
    assert "finished already" in capsys.readouterr().out


def test_all_methods_are_compared_and_one_that_fails_stops_none(
    tmp_path, monkeypatch, kspace, capsys
):
    def broken(*arguments, **more):
        raise RuntimeError("a broken | method")

    broken.__signature__ = inspect.signature(nlm.nlm)
    method = Method("nlm", "non-local means", broken, takes=("sigma",))
    monkeypatch.setattr(nlm, "METHOD", method)
    drawn = []
    draw = comparison.psnr_figure
    monkeypatch.setattr(
        comparison, "psnr_figure", lambda *a, **k: drawn.append((a, k)) or draw(*a, **k)
    )
    flags = flags_of("denoising", tmp_path, kspace, "--set", "thin=4")
    methods = "aseqdip,aseqdip_lambda0,vanilla_dip,nlm,tv,sgld_dip"
    assert call(monkeypatch, aseqdip_denoising, *flags, "--method", methods) == 2
    said = capsys.readouterr()
    assert "nlm failed" in said.err and "broken" in said.err
    (folder,) = (tmp_path / "out" / "denoising" / "comparison" / "item").iterdir()
    files = {path.name for path in folder.iterdir()}
    assert files == {"comparison.png", "psnr.png", "table.csv", "table.md"}
    with open(folder / "table.csv", newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    (((panels, _), options),) = drawn  # curves of those with updates, level lines of the others
    (curves,) = panels.values()
    assert set(curves) == {"aSeqDIP", "aSeqDIP, lambda 0", "Vanilla DIP", "SGLD-DIP"}
    assert options["results"]["aSeqDIP"] == pytest.approx(float(rows["aseqdip"]["psnr_final"]))
    assert options["levels"] == {
        label: pytest.approx(float(rows[name]["psnr_final"]))
        for label, name in (("noisy", "noisy"), ("TV", "tv"))
    }
    assert list(rows) == ["noisy", *methods.split(",")]
    assert rows["nlm"]["failure"] == "a broken | method" and not rows["nlm"]["psnr_final"]
    for name in ("aseqdip", "vanilla_dip", "tv"):
        found = metrics(run_folder(tmp_path / "out", "denoising", "item", name))
        assert float(rows[name]["psnr_final"]) == found["psnr_final"]
        assert f"{found['psnr_final']:.2f} / {found['ssim_final']:.3f}" in said.out
    table = (folder / "table.md").read_text()
    assert table in said.out and "nlm failed: a broken | method" in table
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(rows) and len({line.count(" | ") for line in lines}) == 1
    same = [
        json.loads((run_folder(tmp_path / "out", "denoising", "item", name) / "config.json")
                   .read_text())["settings"]["data_sha256"]
        for name in ("aseqdip", "tv")
    ]  # fmt: skip
    assert same[0] == same[1]


@pytest.mark.parametrize("task", SCRIPTS)
def test_all_is_what_fits_the_task(task, tmp_path, monkeypatch, kspace):
    short = ["--set", "thin=4", "dps.n_steps=12"][: 3 if SAMPLERS[task][0] == "dps" else 2]
    flags = flags_of(task, tmp_path, kspace, "--method", "all", *short)
    methods = ["aseqdip", "aseqdip_lambda0", *ITERATIVE[task], *DIRECT[task], *SAMPLERS[task]]
    methods += (["varnet"] if task == "mri" else []) + MEANS.get(task, [])
    script = SCRIPTS[task]
    monkeypatch.setattr(sys, "argv", ["script", *map(str, flags)])
    args = parse_args(script.Args, script.PRESETS, "")
    found = [method.name for method in baselines.chosen(args, script.baselines(args))]
    assert sorted(found) == sorted(methods)
    if task != "deblurring":  # one task is enough to see that all of them run
        return
    assert call(monkeypatch, script, *flags) == 0
    (folder,) = (tmp_path / "out" / task / "comparison" / "item").iterdir()
    with open(folder / "table.csv", newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert list(rows)[1:] == found and not any(row["failure"] for row in rows.values())


def test_a_mean_takes_the_images_of_the_methods_before_it(tmp_path, monkeypatch, kspace, capsys):
    parts, mean = ("aseqdip", "split_dip"), "aseqdip_split"
    flags = flags_of("ct", tmp_path, kspace, *settings_for("split_dip"), "--method")
    assert call(monkeypatch, aseqdip_ct, *flags, mean) == 2
    assert "aseqdip,split_dip,aseqdip_split" in capsys.readouterr().err
    whole = ",".join((*parts, mean))
    assert call(monkeypatch, aseqdip_ct, *flags, whole) == 0
    folders = {m: run_folder(tmp_path / "out", "ct", "item", m) for m in (*parts, mean)}
    arrays = {m: np.load(folder / "reconstruction.npy") for m, folder in folders.items()}
    expected = (arrays["aseqdip"] + arrays["split_dip"]) / 2
    np.testing.assert_allclose(arrays[mean], expected, atol=1e-3)  # of some 2000 HU
    found = {m: metrics(folder) for m, folder in folders.items()}
    assert found[mean]["steps"] == 0
    assert found[mean]["seconds"] > sum(found[m]["seconds"] for m in parts)
    assert call(monkeypatch, aseqdip_ct, *flags, whole) == 0
    assert capsys.readouterr().out.count("finished already") == 3
    # Where a part is another run, so is the mean: by its settings, which name its seed, too.
    assert call(monkeypatch, aseqdip_ct, *flags, whole, "--seed", "1") == 0
    runs = folders[mean].parent.iterdir()
    configs = [json.loads((run / "config.json").read_text())["settings"] for run in runs]
    assert {config["seed"] for config in configs} == {0, 1}
    assert len({tuple(config["data_sha256"]) for config in configs}) == 2
    (folders[parts[0]] / "reconstruction.npy").unlink()
    capsys.readouterr()
    assert call(monkeypatch, aseqdip_ct, *flags, whole) == 2
    assert "reconstruction.npy: missing or damaged; repeat the run" in capsys.readouterr().err


def test_a_mean_takes_what_a_rule_has_chosen_of_a_sinogram(tmp_path, monkeypatch, kspace):
    flags = flags_of("ct", tmp_path, kspace, "--method", "fbp")
    assert call(monkeypatch, aseqdip_ct, *flags) == 0
    folder = run_folder(tmp_path / "out", "ct", "item", "fbp")
    flags = ["--sinogram", folder / "sinogram.npy", "--angles", folder / "angles.npy", *TINY]
    flags += ["--stop", "es_wmv", "--method", "aseqdip,split_dip,aseqdip_split", "--size", 48]
    flags += [*settings_for("split_dip"), "--out", tmp_path / "again"]
    assert call(monkeypatch, aseqdip_ct, *flags) == 0
    folders = [
        run_folder(tmp_path / "again", "ct", "sinogram", name)
        for name in ("aseqdip", "split_dip", "aseqdip_split")
    ]
    *chosen, mean = (
        np.load(folder / name)
        for folder, name in zip(
            folders, ["reconstruction_stopped.npy"] * 2 + ["reconstruction.npy"], strict=True
        )
    )
    np.testing.assert_allclose(mean, sum(chosen) / 2, atol=1e-5 * np.abs(mean).max())
    found = [metrics(folder) for folder in folders]
    assert found[-1]["stop"] == "those of its parts"
    assert found[-1]["parts"] == {part["method"]: part["run"] for part in found[:2]}
    for part in found[:2]:  # so few updates miss the measurements
        assert f"{part['method']}: {part['doubts'][0]}" in found[-1]["doubts"]


def test_a_mean_is_left_out_where_a_part_fails(tmp_path, monkeypatch, kspace, capsys):
    flags = flags_of("ct", tmp_path, kspace, *settings_for("split_dip"), "--lr", "1e30")
    assert call(monkeypatch, aseqdip_ct, *flags, "--method", "aseqdip,split_dip,aseqdip_split") == 2
    said = capsys.readouterr()
    assert "aseqdip failed" in said.err
    assert "not run: it needs the image of aseqdip and of split_dip" in said.out


@pytest.mark.parametrize("task", SCRIPTS)
def test_building_a_problem_changes_nothing_of_its_item(task, tmp_path, monkeypatch, kspace):
    """Methods are told apart by the content of their item, before and after it is built."""
    script = SCRIPTS[task]
    flags = flags_of(task, tmp_path, kspace)
    if task == "ct":  # photons are not counted behind less than vacuum
        values = np.load(tmp_path / "item.npy") - 100
        np.save(tmp_path / "item.npy", values)
        flags += ["--photons", "1e5", "--pixel-mm", "1"]
    args = parse_args(script.Args, script.PRESETS, "", list(map(str, flags)))
    item = script.load(args, args.data)
    before = [None if a is None else content_hash(a) for a in item.content]
    script.build_problem(args, item, torch.device("cpu"))
    assert [None if a is None else content_hash(a) for a in item.content] == before


def test_nothing_of_a_method_or_an_item_outlives_it(tmp_path, monkeypatch, kspace):
    """Neither its network, nor its problem, nor the lock on its folder."""
    seen, alive, locked = [], [], []
    place, opened = aseqdip_denoising.place, RunFolder.open

    def placed(net, device, precision):
        seen.append(weakref.ref(net))
        return place(net, device, precision)

    def opening(self, device):
        alive.append(sum(reference() is not None for reference in seen))
        locked.extend(folder for folder in folders if not free(folder))
        folders.append(self.path)
        opened(self, device)

    def free(folder):
        lock = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(lock)
        return True

    folders = []
    monkeypatch.setattr(aseqdip_denoising, "place", placed)
    monkeypatch.setattr(RunFolder, "open", opening)
    flags = flags_of("denoising", tmp_path, kspace, "--lr", "1e30")  # aSeqDIP fails
    flags += ["--method", "aseqdip,vanilla_dip,nlm"]
    assert call(monkeypatch, aseqdip_denoising, *flags) == 2
    assert len(seen) == 2 and alive == [0, 0, 0] and not locked


def test_measured_data_are_compared_without_figures(tmp_path, monkeypatch, kspace, capsys):
    flags = flags_of("denoising", tmp_path, kspace, "--measured")
    flags = [f for f in flags if f not in ("--sigma", "30")]
    assert call(monkeypatch, aseqdip_denoising, *flags, "--method", "aseqdip,tv,nlm") == 0
    (folder,) = (tmp_path / "out" / "denoising" / "comparison" / "item").iterdir()
    assert {path.name for path in folder.iterdir()} == {"comparison.png", "table.csv", "table.md"}
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert lines[0].split() == ["|", "method", "|", "misfit", "|", "time", "|", "updates", "|"]
    misfits = [line.split("|")[2] for line in lines[2:]]
    assert len(misfits) == 4 and all(misfit.strip().endswith("%") for misfit in misfits)
    # Methods that know sigma are given what was estimated.
    found = metrics(run_folder(tmp_path / "out", "denoising", "item", "nlm"))
    assert found["sigma"] > 0 and found["sigma_source"] == "estimated by skimage"


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("shape", [(64, 64, 3), (57, 64)])
def test_split_dip_is_told_how_neighbours_share_the_noise(shape, tmp_path, monkeypatch):
    photo = skimage.data.astronaut()[60 : 60 + shape[0], 190 : 190 + shape[1]] / 255
    photo = 0.1 + 0.8 * (photo if len(shape) == 3 else photo[..., 0])
    noise = uniform_filter(np.random.default_rng(0).normal(0, 0.1, shape), (3, 3, 1)[: len(shape)])
    np.save(tmp_path / "item.npy", (photo + noise).clip(0, 1).astype(np.float32))
    flags = ["--data", tmp_path / "item.npy", "--measured", "--width", 4, "--depth", 2, "--K", 2]
    flags += ["--device", "cpu", "--method", "split_dip,nlm"]
    seen = {}
    for name, more in (
        ("white", ["--sigma", 10]),
        ("correlated", ["--sigma", 10, "--noise", "correlated"]),
        ("estimated", ["--noise", "correlated"]),
    ):
        out = tmp_path / name
        assert call(monkeypatch, aseqdip_denoising, *flags, *more, "--out", out) == 0
        folders = [run_folder(out, "denoising", "item", m) for m in ("split_dip", "nlm")]
        seen[name] = [digest(folder) for folder in folders]
    assert seen["white"][0] != seen["correlated"][0] and seen["white"][1] == seen["correlated"][1]
    found = metrics(folders[1])
    assert found["sigma_source"] == "estimated from coarser detail"
    assert 0.6 * noise.std() < found["sigma"] / 255 < 1.5 * noise.std()


@pytest.mark.usefixtures("no_figures")
def test_no_method_knows_the_truth(tmp_path, monkeypatch, kspace):
    """From the measurements alone, without a truth, every method makes the same image."""
    methods = [*ITERATIVE["denoising"], "tv", "nlm", "wavelet", "dps", "ddnm"]
    flags = flags_of("denoising", tmp_path, kspace, "--method", ",".join(methods))
    flags += ["--set", "thin=4", "n_steps=12"]
    assert call(monkeypatch, aseqdip_denoising, *flags, "--out", tmp_path / "known") == 0
    folders = {m: run_folder(tmp_path / "known", "denoising", "item", m) for m in methods}
    measurement = folders["tv"] / "measurement.npy"
    flags += ["--data", measurement, "--measured"]
    assert call(monkeypatch, aseqdip_denoising, *flags) == 0
    for method in methods:
        again = run_folder(tmp_path / "out", "denoising", "measurement", method)
        assert digest(again) == digest(folders[method]), method
        assert "psnr_final" not in metrics(again)


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    "task, methods", [("mri", ["score_mri"]), ("ct", ["udig_dip", "dds", "mcg"])]
)
def test_no_method_with_a_prior_looks_at_the_truth(task, methods, tmp_path, monkeypatch, kspace):
    """With another truth each makes the same image."""
    flags = flags_of(task, tmp_path, kspace, "--method", ",".join(methods))
    flags += ["--set", "n_steps=6", *(["purifications=3"] if task == "ct" else [])]
    assert call(monkeypatch, SCRIPTS[task], *flags) == 0
    build = SCRIPTS[task].build_problem

    def falsified(*arguments):
        problem = build(*arguments)
        score = problem.score
        problem.x_true.add_(1)
        problem.score = lambda x: {name: value / 2 for name, value in score(x).items()}
        return problem

    monkeypatch.setattr(SCRIPTS[task], "build_problem", falsified)
    assert call(monkeypatch, SCRIPTS[task], *flags, "--out", tmp_path / "other") == 0
    for method in methods:
        one, other = (run_folder(tmp_path / out, task, "item", method) for out in ("out", "other"))
        assert digest(one) == digest(other), method
        assert metrics(one)["psnr_final"] != metrics(other)["psnr_final"]


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    "task, rule",
    [("ct", "es_wmv"), ("mri", "holdout"), ("denoising", "es_wmv"), ("deblurring", "holdout")],
)
def test_a_stopping_rule_keeps_an_iterate_of_its_own(task, rule, tmp_path, monkeypatch, kspace):
    flags = flags_of(task, tmp_path, kspace, "--stop", rule, "--K", "60", "--log-every", "1")
    assert call(monkeypatch, SCRIPTS[task], *flags) == 0
    folder = run_folder(tmp_path / "out", task, "item")
    found = metrics(folder)
    step = found["step_stopped"]
    assert found["stop"] == rule
    assert 0 < step <= found["steps"] and (folder / "reconstruction_stopped.npy").exists()
    rows = {int(row["step"]): row for row in log_of(folder)}
    assert float(rows[step]["psnr"]) == pytest.approx(found["psnr_stopped"], abs=1e-3)


@pytest.mark.usefixtures("no_figures")
def test_methods_are_told_the_noise_of_a_sinogram(tmp_path, monkeypatch, kspace, capsys):
    seen, reconstruct = [], Method.__call__

    def spy(self, y, *others, **given):
        seen.append(given["sigma"] * y.numel() ** 0.5 / y.norm().item())
        return reconstruct(self, y, *others, **given)

    monkeypatch.setattr(Method, "__call__", spy)
    flags = flags_of("ct", tmp_path, kspace, "--method", "tv,split_dip", *settings_for("split_dip"))
    assert call(monkeypatch, aseqdip_ct, *flags, "--photons", 300, "--pixel-mm", 1) == 0
    folder = run_folder(tmp_path / "out", "ct", "item", "tv")
    y = np.load(folder / "sinogram.npy")
    share = metrics(folder)["noise_norm"] / np.linalg.norm(y)
    assert seen == pytest.approx([share, share], rel=1e-4) and share > 0.01
    seen.clear()
    tv = baselines.find("tv")  # aSeqDIP starts from its image
    monkeypatch.setattr(aseqdip_ct, "tv", lambda y, A, **given: spy(tv, y, A, None, None, **given))
    flags = flags_of("ct", tmp_path, kspace, "--z0", "tv", "--photons", 300, "--pixel-mm", 1)
    assert call(monkeypatch, aseqdip_ct, *flags) == 0 and seen == pytest.approx([share], rel=1e-4)

    sinogram = ["--sinogram", folder / "sinogram.npy", "--angles", len(y), "--size", 48]
    sinogram += ["--out", tmp_path / "measured", "--method", "tv", *TINY]
    for sigma, expected in ((0, 0.0), (2.5, 2.5 * y.size**0.5 / np.linalg.norm(y))):
        seen.clear()
        assert call(monkeypatch, aseqdip_ct, *sinogram, "--sigma", sigma) == 0
        assert seen == pytest.approx([expected], rel=1e-4)
    capsys.readouterr()
    for sigma in (-1, "nan", "inf", 1e6):
        assert call(monkeypatch, aseqdip_ct, *sinogram, "--sigma", sigma) == 2
        assert f"--sigma {float(sigma)}: expected at least 0, and" in capsys.readouterr().err
    assert call(monkeypatch, aseqdip_ct, *flags[:-4], "--sigma", 1) == 2
    assert "--sigma: for measured line integrals" in capsys.readouterr().err


def test_the_noise_of_k_space_is_told(tmp_path, monkeypatch, kspace, capsys):
    flags = flags_of("mri", tmp_path, kspace, "--method", "zero_filled", "--sigma", 0.002)
    assert call(monkeypatch, aseqdip_mri, *flags) == 0
    folder = run_folder(tmp_path / "out", "mri", "item", "zero_filled")
    sampled = kspace[:, np.load(folder / "mask.npy")]
    share = 0.002 * sampled.size**0.5 / np.linalg.norm(sampled)
    assert metrics(folder)["noise"] == pytest.approx(share, rel=1e-4)
    capsys.readouterr()
    assert call(monkeypatch, aseqdip_mri, *flags[:-1], 1e9) == 2
    assert "--sigma 1000000000.0: expected at least 0" in capsys.readouterr().err


def test_pictures_of_inpainting_show_the_hole(tmp_path, monkeypatch, kspace):
    seen, draw = [], comparison.comparison

    def spy(*given, focus, **more):
        seen.append(focus)
        return draw(*given, focus=focus, **more)

    for module in (comparison, results):
        monkeypatch.setattr(module, "comparison", spy)
    flags = flags_of("inpainting", tmp_path, kspace, "--method", "linear,tv")
    assert call(monkeypatch, aseqdip_inpainting, *flags) == 0
    known = np.load(run_folder(tmp_path / "out", "inpainting", "item", "tv") / "mask.npy")
    assert len(seen) == 3 and all(np.array_equal(focus, ~known) for focus in seen)


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("result", ["last", "average"])
def test_a_run_ends_where_its_result_is_at_the_noise(result, tmp_path, monkeypatch, kspace, capsys):
    shares, rules, saved = [], [], []

    class Spy(AtNoise):
        def see(self, k, x):
            super().see(k, x)
            rules.append(self)
            shares.append(torch.tensor([self.value, self.limit]) / self.y.norm())

    def spy(folder, loop, images, *others):
        saved.append(images["final"])
        return save(folder, loop, images, *others)

    save = runs.save_results
    monkeypatch.setattr(runs, "AtNoise", Spy)
    monkeypatch.setattr(runs, "save_results", spy)
    flags = flags_of("ct", tmp_path, kspace, "--stop", "noise", "--loss", "norms", "--lr", "1e-2")
    flags += ["--tau", 0.95, "--K", "150", "--result", result, "--ema-decay", "0.8"]
    assert call(monkeypatch, aseqdip_ct, *flags, "--photons", 30, "--pixel-mm", 1) == 0
    folder = run_folder(tmp_path / "out", "ct", "item")
    found = metrics(folder)
    assert found["stop"] == "noise" and 2 < found["steps"] < 300
    assert (
        f"stopped at the noise (tau 0.95), after {found['steps']} updates"
        in capsys.readouterr().out
    )
    misfits, noise = torch.stack(shares).T
    assert misfits[-1] <= noise[0] < misfits[-2] and len(misfits) == found["steps"] / 2
    true = found["noise_norm"] / np.linalg.norm(np.load(folder / "sinogram.npy"))
    assert noise[0].item() == pytest.approx(0.95 * true, rel=1e-4)
    rule = rules[0]  # what it judged is what was saved
    assert rule.value == pytest.approx((rule.A(saved[0]) - rule.y).norm().item(), rel=1e-5)
    assert call(monkeypatch, aseqdip_ct, *flags) == 0
    assert "no noise is known, so all updates are made" in capsys.readouterr().out
    photons = ["--stop", "noise", "--photons", 1e5, "--pixel-mm", 1]
    for more, said in (
        (["--K", "2"], r"after 4 updates the misfit is \S+ times the noise, above --tau 1;"),
        (["--method", "tv"], "tv has no updates, so --stop noise is not used"),
    ):
        assert (
            call(monkeypatch, aseqdip_ct, *flags_of("ct", tmp_path, kspace, *photons, *more)) == 0
        )
        assert re.search(said, capsys.readouterr().out)


def test_what_has_been_seen_counts_less_in_mri_and_in_ct_with_noise():
    given, file = {"preset": "best"}, Path("sinogram.npy")
    for more, expected in (
        ({}, None),
        ({"photons": 1e4}, 0.3),
        ({"sinogram": file}, 0.3),
        ({"sinogram": file, "sigma": 0.2}, 0.3),
        ({"sinogram": file, "sigma": 0.0}, None),
    ):
        own = aseqdip_ct.baselines(aseqdip_ct.Args(**given, **more))["split_dip"]
        assert own.get("data_weight") == expected, more
    for preset in ("best", "quick"):
        own = aseqdip_mri.baselines(aseqdip_mri.Args(preset=preset))["split_dip"]
        assert own["data_weight"] == 0.3


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("task", SCRIPTS)
def test_what_is_held_out_never_reaches_the_method(task, tmp_path, monkeypatch, kspace):
    """Neither in y, nor in what A makes of any image."""
    given = []

    def spy(args, y, A, run, *more):
        given.append((y, A(torch.ones_like(A.pinv(y)))))
        return aseqdip(args, y, A, run, *more)

    aseqdip = SCRIPTS[task].aseqdip
    monkeypatch.setattr(SCRIPTS[task], "aseqdip", spy)
    for rule in ("fixed", "holdout"):
        flags = flags_of(task, tmp_path, kspace, "--stop", rule, "--hold-out", "0.2")
        flags = flags if rule == "holdout" else flags[:-2]
        assert call(monkeypatch, SCRIPTS[task], *flags) == 0
    (y, _), (y_kept, ones_kept) = given
    held = (y_kept == 0) & (y != 0)
    assert 0.05 < held.sum() / (y != 0).sum() < 0.4
    assert (ones_kept[held] == 0).all() and torch.equal(y_kept[~held], y[~held])


def test_settings_are_changed_and_checked(tmp_path, monkeypatch, kspace, capsys):
    flags = flags_of("denoising", tmp_path, kspace)
    script = aseqdip_denoising
    changed = [*flags, "--method", "vanilla_dip,tv_dip", "--set", "lr=0.002", "tv_dip.lambda_tv=3"]
    assert call(monkeypatch, script, *changed) == 0
    for name in ("vanilla_dip", "tv_dip"):
        folder = run_folder(tmp_path / "out", "denoising", "item", name)
        settings = json.loads((folder / "config.json").read_text())["settings"]
        settings = settings["hyperparameters"]
        assert settings["lr"] == 0.002 and settings["steps"] == STEPS
        assert metrics(folder)["hyperparameters"]["lr"] == 0.002
    assert settings["lambda_tv"] == 3.0
    for arguments, facts in (
        (["--method", "vanila_dip"], "vanilla_dip, tv_dip"),
        (["--method", "tv_dip,tv_dip"], "tv_dip,tv_dip.*twice"),
        (["--method", "tv_dip", "--set", "lambda=3"], "--set lambda=3.*tv_dip"),
        (["--method", "tv_dip", "--set", "lambda_tv"], "--set lambda_tv: expected name=value"),
        (["--method", "tv_dip", "--set", "lambda_tv=much"], "lambda_tv=much: expected a number"),
        (["--method", "tv_dip", "--set", "es_dip.lr=1"], "--set es_dip.lr=1.*--method"),
        (["--method", "es_dip", "--set", "variant=new"], "variant=new: .*wmv, emv"),
        (["--method", "tv_dip", "--set", "steps=3"], "--set steps=3: tv_dip.*lr"),
        (["--method", "nlm", "--set", "patch_size=-3"], "patch_size=-3: .*at least 1"),
        (["--method", "sgld_dip", "--set", "thin=5000"], "sgld_dip.*no step"),
        (["--method", "sgld_dip", "--set", "thin=0"], "thin=0: .*of at least 1"),
        (["--method", "sgld_dip", "--set", "burn_in=-3"], "burn_in=-3: .*at least 0 and at most 1"),
        (["--method", "self_guided_dip", "--set", "n_draws=0"], "n_draws=0: .*of at least 1"),
        (
            ["--method", "rethinking_dip", "--set", "ste_decay=2"],
            "ste_decay=2: .*at least 0 and below 1",
        ),
        (["--method", "tv_dip", "--lambda-ae", "2"], "for aseqdip only"),
        (["--method", "tv_dip", "--loss", "norms"], "for aseqdip only"),
        (["--method", "split_dip", "--lr", "0.002"], "for aseqdip only"),
        (["--method", "aseqdip_lambda0", "--lambda-ae", "2"], "--lambda-ae 2: aseqdip_lambda0"),
        (["--set", "lr=3"], "--set lr=3.*aSeqDIP"),
        (["--hold-out", "0.1"], "--hold-out 0.1.*--stop holdout"),
        (["--stop", "holdout", "--hold-out", "0.7"], "--hold-out 0.7.*at most 0.5"),
        (["--tau", "0.9"], "--tau 0.9: for --stop noise only"),
        (["--stop", "noise", "--tau", "0"], "--tau 0.0: expected a number above 0"),
    ):
        flags = flags_of("denoising", tmp_path, kspace)
        running.refused(monkeypatch, capsys, tmp_path, script, [*flags, *arguments], facts)


@pytest.mark.usefixtures("no_figures")
def test_flags_that_do_nothing_are_told(tmp_path, monkeypatch, kspace, capsys):
    flags = flags_of("mri", tmp_path, kspace, "--lr", "0.5", "--result", "last", "--method")
    for method, why in (
        ("tv", "has no updates"), ("split_dip", "takes its own average"),
        ("es_dip", "stops by its own rule"),
    ):  # fmt: skip
        assert call(monkeypatch, aseqdip_mri, *flags, method, *settings_for(method)) == 0
        said = capsys.readouterr().out
        assert f"{method} {why}, so --result last is not used" in said
        assert ("--lr 0.5 is not used: tv takes no rate" in said) == (method == "tv")


def test_udig_dip_takes_the_objective_of_aseqdip():
    flags = ["--method", "udig_dip", "--lambda-ae", "0.5", "--loss", "norms", "--prior", __file__]
    args = parse_args(aseqdip_ct.Args, aseqdip_ct.PRESETS, "", flags)
    (method,) = baselines.chosen(args, aseqdip_ct.baselines(args))
    assert (method.settings["lambda_ae"], method.settings["loss"]) == (0.5, "norms")


@pytest.mark.parametrize("flags, steps", [
    ([], 3000), (["--K", "5"], 50), (["--K=120"], 1200), (["--N", "2"], 240), (["--quick"], 1200),
])  # fmt: skip
def test_split_dip_has_more_updates_than_aseqdip_in_the_best_of_ct(flags, steps):
    preset = [] if flags == ["--quick"] else ["--preset", "best"]
    args = parse_args(aseqdip_ct.Args, aseqdip_ct.PRESETS, "", [*preset, *flags])
    (method,) = baselines.chosen(args, aseqdip_ct.baselines(args))
    assert method.name == "split_dip" and method.settings["steps"] == steps
    assert (5 if "--K" in flags else 120) == args.K


@pytest.mark.parametrize("flags, names", [
    ([], ["split_dip"]), (["--photons", "1e4"], ["aseqdip", "split_dip", "aseqdip_split"]),
    (["--sinogram", "y.npy"], ["aseqdip", "split_dip", "aseqdip_split"]),
    (["--sinogram", "y.npy", "--sigma", "0"], ["split_dip"]),
    (["--photons", "1e4", "--method", "tv"], ["tv"]),
    (["--photons", "1e4", "--method", "tv, fbp"], ["tv", "fbp"]),
])  # fmt: skip
def test_the_best_of_ct_with_noise_is_the_mean_of_two_methods(flags, names):
    args = parse_args(aseqdip_ct.Args, aseqdip_ct.PRESETS, "", ["--preset", "best", *flags])
    assert [m.name for m in baselines.chosen(args, aseqdip_ct.baselines(args))] == names
    quick = parse_args(aseqdip_ct.Args, aseqdip_ct.PRESETS, "", ["--quick", *flags])
    assert quick.method == (flags[-1] if "--method" in flags else "split_dip")


def test_where_nothing_can_be_held_out_it_is_said(tmp_path, monkeypatch, kspace, capsys):
    flags = flags_of("mri", tmp_path, kspace, "--stop", "holdout", "--accel", "1")
    (tmp_path / "out" / "cache").mkdir(parents=True)
    assert call(monkeypatch, aseqdip_mri, *flags) == 2
    assert "--stop holdout: nothing can be held out" in capsys.readouterr().err
    assert not (tmp_path / "out" / "mri").exists()


def test_a_reference_is_asked_for_and_never_the_scan_itself(tmp_path, monkeypatch, kspace, capsys):
    flags = flags_of("ct", tmp_path, kspace)
    running.refused(
        monkeypatch, capsys, tmp_path, aseqdip_ct, [*flags, "--method", "ref_guided_dip"],
        "needs prior data: --reference names them",
    )  # fmt: skip
    arguments = ["--method", "ref_guided_dip", "--reference", tmp_path / "item.npy"]
    running.refused(
        monkeypatch, capsys, tmp_path, aseqdip_ct, [*flags, *arguments], "no reference for itself"
    )
    arguments[-1] = tmp_path / "nothing"
    running.refused(monkeypatch, capsys, tmp_path, aseqdip_ct, [*flags, *arguments], "no such file")
    # Of two it takes the one whose own reconstruction is nearer, whatever its scale.
    reference = tmp_path / "reference"
    np.save(reference / "far.npy", 1000 * np.random.default_rng(0).random((48, 44)) - 1000)
    arguments[-1] = reference
    assert call(monkeypatch, aseqdip_ct, *flags, *arguments) == 0
    found = metrics(run_folder(tmp_path / "out", "ct", "item", "ref_guided_dip"))
    assert found["reference"].endswith("other.npy")


def test_an_embedded_slice_is_no_reference_for_itself(tmp_path, monkeypatch, capsys):
    reference = get_testdata_file("CT_small.dcm", download=False)
    flags = ["--sample", "small", "--resize", "32", "--out", tmp_path / "out", *TINY]
    flags += ["--method", "ref_guided_dip", "--reference", reference]
    running.refused(monkeypatch, capsys, tmp_path, aseqdip_ct, flags, "no reference for itself")


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("task", ["mri", "ct"])
def test_in_a_folder_no_item_is_its_own_reference(task, tmp_path, monkeypatch, kspace):
    flags = flags_of(task, tmp_path, kspace)
    folder = tmp_path / "both"
    folder.mkdir()
    first = np.load(tmp_path / "item.npy")
    np.save(folder / "one.npy", first)
    np.save(folder / "two.npy", first[..., ::-1])
    np.save(folder / "copy_of_one.npy", first)
    data = folder if task == "ct" else folder / "one.npy"  # of a folder of scans .h5 are taken
    flags += ["--method", "ref_guided_dip,vanilla_dip", "--data", data, "--reference", folder]
    assert call(monkeypatch, SCRIPTS[task], *flags) == 0
    found = metrics(run_folder(tmp_path / "out", task, "one", "ref_guided_dip"))
    assert found["reference"].endswith("two.npy")
    assert "reference" not in metrics(run_folder(tmp_path / "out", task, "one", "vanilla_dip"))
    if task == "ct":
        found = metrics(run_folder(tmp_path / "out", task, "two", "ref_guided_dip"))
        assert "one.npy" in found["reference"]


def test_settings_of_one_name_are_told_apart(tmp_path, monkeypatch, kspace):
    """CT's window of HU, and the window of es_dip's running variance."""
    flags = flags_of("ct", tmp_path, kspace, "--method", "es_dip", *settings_for("es_dip"))
    for window in ("-160", "240"), ("0", "900"):
        assert call(monkeypatch, aseqdip_ct, *flags, "--window", *window) == 0
    assert len(list((tmp_path / "out" / "ct" / "es_dip" / "item").iterdir())) == 2


def test_what_a_method_does_not_use_is_no_setting_of_it(tmp_path, monkeypatch, kspace):
    flags = flags_of("ct", tmp_path, kspace, "--method", "sart")
    for more in ([], ["--stop", "holdout"], ["--K", "9"], ["--precision", "bf16"]):
        assert call(monkeypatch, aseqdip_ct, *flags, *more) == 0
    found = metrics(run_folder(tmp_path / "out", "ct", "item", "sart"))
    assert found["stop"] == "fixed"


def test_a_method_with_a_damaged_run_stops_none(tmp_path, monkeypatch, kspace, capsys):
    flags = flags_of("denoising", tmp_path, kspace, "--method", "tv,nlm")
    assert call(monkeypatch, aseqdip_denoising, *flags) == 0
    folder = run_folder(tmp_path / "out", "denoising", "item", "tv")
    (folder / "metrics.json").write_text("{")
    assert call(monkeypatch, aseqdip_denoising, *flags) == 2
    captured = capsys.readouterr()
    assert "| nlm" in captured.out and "tv failed" in captured.out
    assert captured.err.splitlines()[-1].startswith("error: tv failed, as said above")


def test_ctrl_c_after_the_last_step_is_heard_and_nothing_is_lost(tmp_path, monkeypatch, kspace):
    """A rule ends the steps between two rows of the log; the signal comes during the last."""
    same = flags_of("denoising", tmp_path, kspace, "--method", "es_dip", "--log-every", "3")
    same += ["--set", "window=3", "patience=2"]
    for seed in range(
        20
    ):  # where it ends depends on the last bits, which differ between processors
        flags, whole = [*same, "--data-seed", seed], tmp_path / f"whole{seed}"
        assert call(monkeypatch, aseqdip_denoising, *flags, "--out", whole) == 0
        expected = run_folder(whole, "denoising", "item", "es_dip")
        last = metrics(expected)["steps"]
        if last < STEPS and last % 6 != 0:
            break
    assert last < STEPS and last % 6 != 0
    record = Loop.record

    def signalled(self, k, x, terms):
        record(self, k, x, terms)
        if k == last:  # the rule has decided; the callback has looked for a signal already
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "record", signalled)
        assert call(patch, aseqdip_denoising, *flags) == 130
    assert call(monkeypatch, aseqdip_denoising, *flags) == 0
    resumed = run_folder(tmp_path / "out", "denoising", "item", "es_dip")
    assert digest(resumed) == digest(expected)
    for key in ("steps", "psnr_oracle", "step_oracle", "step_final"):
        assert metrics(resumed)[key] == metrics(expected)[key]
    assert [row["step"] for row in log_of(resumed)] == [row["step"] for row in log_of(expected)]


def test_an_undersampled_reference_is_refused(tmp_path, monkeypatch, kspace, capsys):
    flags = flags_of("mri", tmp_path, kspace, "--method", "ref_guided_dip")
    holes = kspace.copy()
    holes[:, :, 1::3] = 0
    np.save(tmp_path / "reference" / "other.npy", holes)
    assert call(monkeypatch, SCRIPTS["mri"], *flags) == 2
    assert "it cannot be the --reference; give a fully sampled one" in capsys.readouterr().err
    assert not list(tmp_path.glob("out/mri/**/*.*"))


def test_es_dip_tells_which_step_its_image_is_of(tmp_path, monkeypatch, kspace, capsys):
    arguments = ["--method", "es_dip", "--log-every", "1", *settings_for("es_dip")]
    flags = flags_of("denoising", tmp_path, kspace, *arguments)
    assert call(monkeypatch, SCRIPTS["denoising"], *flags) == 0
    folder = run_folder(tmp_path / "out", "denoising", "item", "es_dip")
    found = metrics(folder)
    rows = {int(row["step"]): float(row["psnr"]) for row in log_of(folder)}
    assert found["psnr_final"] == pytest.approx(rows[found["step_final"]], abs=1e-3)
    assert f"step {found['step_final']}\n" in capsys.readouterr().out


def test_values_are_read_by_their_annotation():
    assert converted("3", int, "") == 3 and converted("1e-3", float, "") == 1e-3
    assert converted("None", float | None, "") is None and converted("2", float | None, "") == 2.0
    assert converted("False", bool, "") is False
    for text, hint in (("1.5", int), ("yes", bool), ("x", float), ("nan?", float | None)):
        with pytest.raises(InputError):
            converted(text, hint, "--set a=b")
