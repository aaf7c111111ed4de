"""What the scripts of all tasks have in common, each on its own operator."""

import dataclasses
import json
import re
import sys

import numpy as np
import png
import pytest
import skimage.data
import torch
import torch.nn.functional as F
from reports import read_run
from running import call, digest, log_of, metrics, run_folder
from skimage.transform import radon, resize

import aseqdip_ct
import aseqdip_deblurring
import aseqdip_denoising
import aseqdip_inpainting
import aseqdip_superresolution
from models.unet import UNet
from operators.bkse import BlurNet
from scripts.reporting.data import setting_of
from utils import cli, ct_data, image_data
from utils.loop import Loop

SIBLINGS = {
    "ct": aseqdip_ct,
    "denoising": aseqdip_denoising,
    "inpainting": aseqdip_inpainting,
    "deblurring": aseqdip_deblurring,
    "superresolution": aseqdip_superresolution,
}
TINY = ["--K", "6", "--width", "4", "--lr", "1e-3", "--log-every", "2", "--device", "cpu"]
FLAGS = {  # of a small problem of each task
    "ct": ["--views", "9"],
    "denoising": ["--sigma", "30"],
    "inpainting": ["--hiar", "0.2"],
    "deblurring": ["--blur", "camera"],
    "superresolution": ["--factor", "4"],
}
LOSSES = {
    "squares": lambda d: (d**2).sum(),
    "norms": lambda d: (d**2).sum().sqrt(),
    "means": lambda d: (d**2).mean(),
}
FILES = {
    "ct": {"sinogram.npy", "angles.npy"},
    "denoising": {"measurement.npy"},
    "inpainting": {
        "measurement.npy", "mask.npy", "reconstruction_composite.npy",
        "reconstruction_composite.png",
    },
    "deblurring": {"measurement.npy", "kernel.npy"},
    "superresolution": {"measurement.npy"},
}  # fmt: skip


def write_png(path, pixels, depth=8):
    """Write (H, W) or (H, W, 3) of integers as a .png of this bit depth."""
    grey = pixels.ndim == 2
    height, width = pixels.shape[:2]
    writer = png.Writer(width, height, greyscale=grey, bitdepth=depth)
    with open(path, "wb") as file:
        writer.write(file, pixels.reshape(height, -1).tolist())
    return path


@pytest.fixture
def item(tmp_path, request):
    """Return a small file for the test's `task`: an astronaut of 48x40, a CT slice of 44x44."""
    if request.node.callspec.params["task"] == "ct":
        hu = resize(ct_data.load_slice(None, "small", None).values, (44, 44), anti_aliasing=True)
        np.save(tmp_path / "item.npy", hu)
        return tmp_path / "item.npy"
    pixels = resize(skimage.data.astronaut(), (48, 40), anti_aliasing=True)
    return write_png(tmp_path / "item.png", np.rint(255 * pixels).astype(int))


@pytest.fixture
def arguments(task, item, tmp_path):
    return ["--data", item, "--out", tmp_path / "out", *TINY, *FLAGS[task]]


@pytest.mark.parametrize("task", SIBLINGS)
def test_a_run_writes_all_its_files_and_is_not_done_twice(
    task, arguments, tmp_path, monkeypatch, capsys
):
    assert call(monkeypatch, SIBLINGS[task], *arguments) == 0
    folder = run_folder(tmp_path / "out", task, "item")
    assert {path.name for path in folder.iterdir()} == FILES[task] | {
        "config.json", "metrics.json", "log.csv", "reconstruction.npy", "reconstruction.png",
        "reconstruction_ema.npy", "reconstruction_ema.png", "comparison.png", "curve.png",
        "truth.png", "input.png",
    }  # fmt: skip
    found = metrics(folder)
    assert (found["task"], found["method"], found["item"]) == (task, "aseqdip", "item")
    assert {
        "psnr_input", "psnr_final", "psnr_ema", "psnr_oracle", "ssim_final", "ssim_uniform7_final",
        "nmse_final", "steps", "seconds", "n_params", "device", "source", "measured",
    } <= found.keys()  # fmt: skip
    rows = log_of(folder)
    assert [int(row["step"]) for row in rows] == [0, 4, 8, 12]
    assert found["psnr_final"] == pytest.approx(float(rows[-1]["psnr"]))
    assert found["psnr_oracle"] == max(float(row["psnr"]) for row in rows[1:])
    written = (folder / "metrics.json").stat().st_mtime_ns
    capsys.readouterr()
    assert call(monkeypatch, SIBLINGS[task], *arguments) == 0
    assert "finished already" in capsys.readouterr().out
    assert (folder / "metrics.json").stat().st_mtime_ns == written
    first = digest(folder)
    assert call(monkeypatch, SIBLINGS[task], *arguments, "--fresh") == 0
    assert (folder / "metrics.json").stat().st_mtime_ns != written and digest(folder) == first


def measured_again(task, folder):
    """Return the flags that give a run's measurements to the script as a user's own."""
    if task == "ct":
        return ["--sinogram", folder / "sinogram.npy", "--angles", folder / "angles.npy",
                "--size", "44"]  # fmt: skip
    flags = ["--measured", "--data", folder / "measurement.npy"]
    if task == "inpainting":
        np.save(folder / "known.npy", np.load(folder / "mask.npy").astype(np.uint8))
        flags += ["--mask", folder / "known.npy"]
    if task == "deblurring":
        flags += ["--kernel", folder / "kernel.npy"]
    return flags


@pytest.mark.parametrize("task", SIBLINGS)
def test_the_truth_never_reaches_the_method(task, arguments, tmp_path, monkeypatch):
    """From the measurements alone, without a truth, the loss takes the same values."""
    if task == "deblurring":  # the camera's kernels have no place in one --kernel
        arguments = [*arguments[:-2], "--blur", "trajectory", "--resize", "64"]
    assert call(monkeypatch, SIBLINGS[task], *arguments) == 0
    folder = run_folder(tmp_path / "out", task, "item")
    flags = measured_again(task, folder)
    again = ["--out", tmp_path / "again", *TINY, *flags]
    assert call(monkeypatch, SIBLINGS[task], *again) == 0
    item = "sinogram" if task == "ct" else "measurement"
    measured = run_folder(tmp_path / "again", task, item)
    found = metrics(measured)
    assert found["measured"]
    assert not [key for key in found if re.match("psnr|ssim|nmse|rmse|.*oracle", key)]
    assert (measured / "comparison.png").stat().st_size > 3000
    known, unknown = log_of(folder), log_of(measured)
    assert [row["psnr"] for row in unknown] == [""] * 4
    for a, b in zip(known, unknown, strict=True):
        for term in ("loss", "data_term", "autoencoding_term"):
            # A kernel is divided by its sum again, which can change its last bit.
            rel = 1e-2 if task == "deblurring" else 0
            assert a[term] == b[term] or float(a[term]) == pytest.approx(float(b[term]), rel=rel)
    if task in ("denoising", "inpainting", "superresolution"):
        assert digest(measured) == digest(folder)


def forward_of(task, folder):
    """Return A of a run as bare PyTorch, from the run's files and skimage, and y and z_0."""
    if task == "ct":
        degrees = np.load(folder / "angles.npy")
        basis = np.eye(44 * 44).reshape(-1, 44, 44)
        matrix = np.stack([radon(e, degrees, circle=False).T.ravel() for e in basis], axis=1)
        matrix = torch.from_numpy(matrix).float()
        y = torch.from_numpy(np.load(folder / "sinogram.npy"))
        return lambda x: (matrix @ x.flatten()).reshape(y.shape), y
    y = np.load(folder / "measurement.npy")
    y = torch.from_numpy(np.moveaxis(y, -1, 0))[None]
    if task == "denoising":
        return lambda x: x, y
    if task == "inpainting":
        mask = torch.from_numpy(np.load(folder / "mask.npy"))
        return lambda x: x * mask, y
    if task == "superresolution":  # of norm 1
        return lambda x: 4 * F.avg_pool2d(x, 4), 4 * y
    kernel = torch.from_numpy(np.load(folder / "kernel.npy")).flip(0, 1)  # conv2d correlates
    (kh, kw), channels = kernel.shape, 3
    weights = kernel.expand(channels, 1, kh, kw)
    pad = ((kw - 1) // 2, kw // 2, (kh - 1) // 2, kh // 2)
    return lambda x: F.conv2d(F.pad(x, pad, mode="reflect"), weights, groups=channels), y


@pytest.mark.usefixtures("no_figures", "shallow_unet")
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("task", SIBLINGS)
def test_the_loop_is_algorithm_1(task, loss, arguments, tmp_path, monkeypatch):
    """Replay eq. (3) to (5) in bare PyTorch, from the files of a run: same numbers."""
    K, N, lr, rel = 3, 4, 2e-3, 1e-5
    lam = 300 if task == "ct" and loss != "norms" else 0.3  # the former as ||A||^2 is large
    flags = ["--K", K, "--N", N, "--lambda-ae", lam, "--lr", lr, "--log-every", 1, "--width", 8]
    more = {"deblurring": ["--blur", "trajectory", "--resize", 64], "ct": ["--z0", "adjoint"]}
    more = [*more.get(task, []), "--loss", loss]
    weight = lam
    assert call(monkeypatch, SIBLINGS[task], *arguments, *flags, *more) == 0
    folder = run_folder(tmp_path / "out", task, "item")
    A, y = forward_of(task, folder)
    z = y
    if task == "superresolution":
        z = F.interpolate(y / 4, scale_factor=4, mode="nearest")
    if task == "ct":  # A^T y / ||A||^2, with y scaled to a maximum of 1 of the FBP
        sinogram = torch.from_numpy(np.load(folder / "sinogram.npy"))
        angles = torch.from_numpy(np.deg2rad(np.load(folder / "angles.npy")))
        fbp = aseqdip_ct.Radon((44, 44), angles).pinv(sinogram[None, None])
        y = sinogram / fbp.max()
        matrix = torch.func.jacrev(A)(torch.zeros(1, 1, 44, 44)).reshape(y.numel(), -1)
        z = (matrix.T @ y.flatten()).reshape(1, 1, 44, 44)
        z = z / torch.linalg.matrix_norm(matrix, ord=2) ** 2
        weight = lam * (torch.linalg.matrix_norm(matrix, ord=2) if loss == "norms" else 1)
    channels = z.shape[1]
    net = UNet(channels, channels, 8, 3, generator=torch.Generator().manual_seed(0))
    adam = torch.optim.Adam(net.parameters(), lr=lr, fused=True)
    level = 0.0
    if task in ("deblurring", "superresolution"):
        level = z.mean()
    if task == "inpainting":
        level = y[..., torch.from_numpy(np.load(folder / "mask.npy"))].mean()

    def f(z):
        return level + net(z - level)

    rows = log_of(folder)
    for k in range(1, K + 1):
        for _ in range(N):
            x = f(z)
            data_term, autoencoding_term = LOSSES[loss](A(x) - y), LOSSES[loss](x - z)
            adam.zero_grad()
            (data_term + weight * autoencoding_term).backward()
            adam.step()
        with torch.no_grad():
            z = f(z)
        row = rows[k]
        assert int(row["step"]) == k * N
        assert float(row["data_term"]) == pytest.approx(data_term.item(), rel=rel)
        assert float(row["autoencoding_term"]) == pytest.approx(autoencoding_term.item(), rel=rel)
        total = (data_term + weight * autoencoding_term).item()
        assert float(row["loss"]) == pytest.approx(total, rel=rel)
    x_hat = np.load(folder / "reconstruction.npy")
    expected = z[0].movedim(0, -1).numpy()
    if task == "ct":
        found = metrics(folder)
        expected = found["low"] + (found["high"] - found["low"]) * (z * fbp.max())[0, 0].numpy()
    assert np.linalg.norm(x_hat - expected) < rel * np.linalg.norm(expected)


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("task", SIBLINGS)
def test_a_folder_is_done_file_by_file_and_a_bad_one_stops_nothing(
    task, arguments, item, tmp_path, monkeypatch, capsys
):
    (tmp_path / "many").mkdir()
    for name in ("a", "c"):
        (tmp_path / "many" / f"{name}{item.suffix.upper()}").write_bytes(item.read_bytes())
    (tmp_path / "many" / f"b{item.suffix}").write_bytes(item.read_bytes()[:300])
    (tmp_path / "many" / "notes.txt").write_text("not one of them")
    flags = [*arguments, "--data", tmp_path / "many"]
    assert call(monkeypatch, SIBLINGS[task], *flags) == 2
    error = capsys.readouterr().err
    assert len(re.findall("^error: .*/b[.]", error, re.MULTILINE)) == 1
    done = {path.name for path in (tmp_path / "out" / task / "aseqdip").iterdir()}
    assert done == {"a", "c"}


@pytest.mark.parametrize("task", SIBLINGS)
def test_help_explains_every_flag(task, monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        call(monkeypatch, SIBLINGS[task], "--help")
    said = capsys.readouterr().out
    assert end.value.code == 0
    for field in dataclasses.fields(SIBLINGS[task].Args):
        assert f"--{field.name.replace('_', '-')}" in said
    assert "--changed" not in said  # which is no flag
    assert said.count(f"python aseqdip_{task}.py") == 3


@pytest.mark.parametrize("task", SIBLINGS)
def test_the_paper_s_values_are_the_defaults(task):
    args = SIBLINGS[task].Args()
    assert (args.K, args.N, args.lr, args.lambda_ae, args.width) == (2000, 2, 1e-4, 1.0, 64)
    assert (args.loss, args.result, args.finish) == ("squares", "last", "none")
    assert args.preset == "paper"


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("task, other", [("denoising", "alpha=1"), ("ct", "share=0.4")])
def test_best_is_a_preset(task, other, arguments, tmp_path, monkeypatch):
    script = SIBLINGS[task]
    flags = ["--width", 4, "--log-every", 2, "--data", arguments[1], "--device", "cpu"]
    one = ["--set", "members=1", "parts=2", "start_iter=2"]
    preset = script.BEST
    left = ("K", *script.Args.only_aseqdip)
    spelled = [f"--{k}={v}" for k, v in preset.items() if k not in left]
    found = []
    for name, more in (
        ("paper", []),
        ("spelled", [*spelled, *one]),
        ("preset", ["--preset=best", *one]),
        ("overruled", ["--preset", "best", *one, other]),
    ):
        out = tmp_path / name
        assert call(monkeypatch, SIBLINGS[task], *flags, "--K", 1, *more, "--out", out) == 0
        folder = run_folder(out, task, "item", "aseqdip" if name == "paper" else preset["method"])
        found.append((folder.name, digest(folder)))
    assert found[1] == found[2]
    assert len({name for name, _ in found}) == len({bits for _, bits in found}) == 3
    monkeypatch.setattr(sys, "argv", ["script", "--preset", "best"])
    args = cli.parse_args(script.Args, script.PRESETS, "")
    assert {name: getattr(args, name) for name in preset} == preset


# What one task has alone


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("task", SIBLINGS)
def test_quick_changes_the_defaults_and_flags_still_win(task, tmp_path, monkeypatch):
    flags = ["--quick", "--K", "1", "--N", "1", "--device", "cpu", "--out", tmp_path]
    quick = SIBLINGS[task].PRESETS["quick"]
    if quick.get("method") == "split_dip":
        flags += ["--set", "start_iter=1"]
    assert call(monkeypatch, SIBLINGS[task], *flags) == 0
    (folder,) = (tmp_path / task / quick.get("method", "aseqdip")).glob("*/*")
    config = json.loads((folder / "config.json").read_text())["flags"]
    for name, value in quick.items():
        if name not in ("K", "N", "precision"):  # auto is written down as what it found
            assert config[name] == value
    assert metrics(folder)["steps"] == 1 and metrics(folder)["quick"]


@pytest.mark.parametrize("task", ["deblurring"])
def test_noise_is_added_to_the_blurred_picture(task, item, tmp_path, monkeypatch):
    flags = ["--data", item, "--blur", "camera", *TINY]
    blurred = {}
    for sigma in (0, 12.75):
        out = tmp_path / str(sigma)
        assert call(monkeypatch, aseqdip_deblurring, *flags, "--sigma", sigma, "--out", out) == 0
        folder = run_folder(out, task, "item")
        blurred[sigma] = np.load(folder / "measurement.npy")
        assert metrics(folder)["sigma"] == sigma
    noise = blurred[12.75] - blurred[0]
    assert noise.std() == pytest.approx(0.05, rel=0.05) and abs(noise.mean()) < 0.005


def test_the_noise_of_a_blurred_picture_is_estimated(tmp_path, monkeypatch, capsys):
    soft = np.linspace(0.2, 0.8, 96)[:, None] * np.ones((1, 96))
    noise = np.random.default_rng(0).normal(0, 0.02, (96, 96))
    np.save(tmp_path / "item.npy", (soft + noise).astype(np.float32))
    np.save(tmp_path / "kernel.npy", np.ones((3, 3)))
    flags = ["--data", tmp_path / "item.npy", "--measured", "--kernel", tmp_path / "kernel.npy"]
    flags += [*TINY, "--out", tmp_path / "out"]
    assert call(monkeypatch, aseqdip_deblurring, *flags) == 0
    found = metrics(run_folder(tmp_path / "out", "deblurring", "item"))
    assert found["sigma"] == pytest.approx(0.02 * 255, rel=0.1)
    assert found["sigma_source"] == "estimated by skimage"
    np.save(tmp_path / "large.npy", np.ones((97, 3)))
    assert call(monkeypatch, aseqdip_deblurring, *flags, "--kernel", tmp_path / "large.npy") == 2
    assert "96x96 pixels, got 97x3" in capsys.readouterr().err
    for sigma in ("-1", "256", "nan"):
        assert call(monkeypatch, aseqdip_deblurring, *flags, "--sigma", sigma) == 2
        assert "expected a number of grey levels from 0 to 255" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["inpainting"])
def test_the_composite_keeps_known_pixels_and_the_hole_is_scored(
    task, arguments, item, tmp_path, monkeypatch
):
    assert call(monkeypatch, aseqdip_inpainting, *arguments, "--hole-start", "0.4") == 0
    folder = run_folder(tmp_path / "out", task, "item")
    found, mask = metrics(folder), np.load(folder / "mask.npy")
    x_true = image_data.read_pixels(item)
    raw, composite = (np.load(folder / f"reconstruction{name}.npy") for name in ("", "_composite"))
    np.testing.assert_allclose(composite[mask], x_true[mask], atol=1e-6)
    np.testing.assert_array_equal(composite[~mask], raw[~mask])
    mse = ((raw.clip(0, 1) - x_true)[~mask] ** 2).mean()
    assert found["psnr_hole_final"] == pytest.approx(-10 * np.log10(mse), abs=1e-3)
    assert found["psnr_hole_composite"] == found["psnr_hole_final"]
    assert found["psnr_composite"] > found["psnr_final"]
    assert found["missing_true"] == pytest.approx(1 - mask.mean())
    z0 = np.where(mask[..., None], x_true, 0.4)
    first = -10 * np.log10(((z0 - x_true) ** 2).mean())
    assert float(log_of(folder)[0]["psnr"]) == pytest.approx(first, abs=1e-3)


@pytest.mark.parametrize("task", ["inpainting"])
def test_a_mask_may_move_without_making_another_run(task, arguments, tmp_path, monkeypatch, capsys):
    mask = np.random.default_rng(0).random((48, 40)) < 0.7
    arguments = [word for word in arguments if word not in FLAGS[task]]
    (tmp_path / "sub").mkdir()
    for path in (tmp_path / "m.npy", tmp_path / "sub" / "other.npy"):
        np.save(path, mask)
        assert call(monkeypatch, aseqdip_inpainting, *arguments, "--mask", path) == 0
    assert "finished already" in capsys.readouterr().out
    folder = run_folder(tmp_path / "out", task, "item")  # there is one
    assert setting_of(read_run(folder)) == "mask from a file"


@pytest.mark.parametrize("task", ["denoising"])
def test_noise_has_its_level_and_is_not_the_weights(task, arguments, item, tmp_path, monkeypatch):
    first = {}

    def start(self, z0, **state):
        first["weights"] = state["net"].stem[0].weight.detach().flatten().clone()
        return original(self, z0, **state)

    original = Loop.start
    monkeypatch.setattr(Loop, "start", start)
    assert call(monkeypatch, aseqdip_denoising, *arguments) == 0
    folder = run_folder(tmp_path / "out", task, "item")
    noise = np.load(folder / "measurement.npy") - image_data.read_pixels(item)
    assert 255 * noise.std() == pytest.approx(30, rel=0.03)
    assert (np.load(folder / "measurement.npy") < 0).any()
    weights = first["weights"].numpy()
    channels_first = np.moveaxis(noise, -1, 0).ravel()[: len(weights)]
    assert abs(np.corrcoef(weights, channels_first)[0, 1]) < 0.4
    assert call(monkeypatch, aseqdip_denoising, *arguments, "--clip", "--run", "clipped") == 0
    clipped = np.load(folder.with_name("clipped") / "measurement.npy")
    assert clipped.min() == 0 and clipped.max() == 1


@pytest.mark.parametrize("task", ["denoising"])
def test_the_noise_of_a_measured_picture_is_estimated(task, arguments, tmp_path, monkeypatch):
    assert call(monkeypatch, aseqdip_denoising, *arguments) == 0
    noisy = run_folder(tmp_path / "out", task, "item") / "measurement.npy"
    flags = ["--data", noisy, "--measured", "--out", tmp_path / "out", *TINY]
    assert call(monkeypatch, aseqdip_denoising, *flags) == 0
    found = metrics(run_folder(tmp_path / "out", task, "measurement"))
    assert found["sigma_source"] == "estimated by skimage"
    assert found["sigma"] == pytest.approx(30, rel=0.2)


@pytest.mark.parametrize("task", ["ct"])
def test_hounsfield_units_are_kept(task, arguments, item, tmp_path, monkeypatch):
    flags = ["--hu-range", "-500", "500", "--window", "-100", "300"]
    assert call(monkeypatch, aseqdip_ct, *arguments, *flags) == 0
    folder = run_folder(tmp_path / "out", task, "item")
    found, hu = metrics(folder), np.load(folder / "reconstruction.npy")
    hu_true = np.load(item).clip(-500, 500)
    assert (found["low"], found["high"]) == (-500, 500)
    rmse = np.sqrt(((hu - hu_true) ** 2).mean())
    assert found["rmse_hu_final"] == pytest.approx(rmse, rel=1e-3)
    assert found["psnr_final"] == pytest.approx(20 * np.log10(1000 / rmse), abs=1e-2)
    mse = ((hu.clip(-100, 300) - hu_true.clip(-100, 300)) ** 2).mean()
    assert found["psnr_window_final"] == pytest.approx(10 * np.log10(400**2 / mse), abs=1e-2)


@pytest.mark.parametrize("task", ["ct"])
def test_photons_make_the_sinogram_noisy_and_many_of_them_do_not(
    task, arguments, tmp_path, monkeypatch
):
    sinograms = []
    for photons in ("1e3", "1e12", None):
        flags = ["--photons", photons, "--pixel-mm", "2"] if photons else []
        name = f"photons_{photons}"
        assert call(monkeypatch, aseqdip_ct, *arguments, *flags, "--run", name) == 0
        sinograms.append(np.load(tmp_path / "out" / task / "aseqdip/item" / name / "sinogram.npy"))
    few, many, none = sinograms
    scale = np.abs(none).max()
    assert np.abs(many - none).max() < 2e-3 * scale < np.abs(few - none).max()


@pytest.mark.parametrize("task", ["ct"])
def test_a_measured_sinogram_is_reconstructed_on_all_of_its_detector(task, tmp_path, monkeypatch):
    hu = ct_data.load_slice(None, "small", 48).values
    disk = np.hypot(*np.indices((48, 48)) - 24) < 23
    image = np.where(disk, hu + 1000, 0.0) / 1000
    np.save(tmp_path / "s.npy", radon(image, np.arange(0, 180, 10.0)).T)  # 48 bins, circle=True
    flags = ["--sinogram", tmp_path / "s.npy", "--angles", "18", "--out", tmp_path / "out"]
    assert call(monkeypatch, aseqdip_ct, *flags, *TINY) == 0
    folder = run_folder(tmp_path / "out", task, "s")
    assert np.load(folder / "reconstruction.npy").shape == (48, 48)
    A = aseqdip_ct.Radon((48, 48), torch.arange(18, dtype=torch.float64) * torch.pi / 18, 48)
    y = torch.from_numpy(np.load(tmp_path / "s.npy"))[None, None].float()
    x = torch.from_numpy(image)[None, None].float()
    assert (A(x) - y).norm() < 1e-3 * y.norm()


@pytest.mark.parametrize("task", ["deblurring"])
def test_the_paper_s_blur_runs_with_its_weights(task, tmp_path, monkeypatch, capsys):
    net = BlurNet()
    state = net.state_dict() | {"kernel_extractor.model.1.weight": torch.zeros(3)}
    torch.save(state, tmp_path / "weights.pth")
    flags = ["--bkse-weights", tmp_path / "weights.pth", "--resize", "128", "--out", tmp_path]
    assert call(monkeypatch, aseqdip_deblurring, *flags, *TINY, "--K", "1", "--N", "1") == 0
    assert capsys.readouterr().out.startswith("BKSE blur;")
    folder = run_folder(tmp_path, task, "astronaut")
    kernel = np.load(folder / "kernel.npy")
    np.testing.assert_array_equal(
        kernel, (1.2 * np.random.RandomState(0).randn(1, 512, 1, 1)).astype(np.float32)
    )
    x_true = torch.from_numpy(image_data.load_picture(None, "astronaut", 128).pixels)[None]
    with torch.no_grad():
        y = net(x_true, torch.from_numpy(kernel))[0].movedim(0, -1).numpy()
    np.testing.assert_allclose(np.load(folder / "measurement.npy"), y, atol=1e-4)


@pytest.mark.parametrize("task", ["deblurring"])
def test_the_stand_in_says_what_it_is(task, item, tmp_path, monkeypatch, capsys):
    flags = ["--data", item, "--out", tmp_path / "out", *TINY]
    assert call(monkeypatch, aseqdip_deblurring, *flags) == 0
    assert capsys.readouterr().out.startswith("camera blur: no BKSE weights given;")
    assert "no BKSE weights given" in metrics(run_folder(tmp_path / "out", task, "item"))["blur"]


@pytest.mark.parametrize("task", ["superresolution"])
@pytest.mark.parametrize("factor, kernel", [(2, "average"), (3, "bicubic")])
def test_the_small_picture_is_saved_and_sides_are_cut_to_whole_blocks(
    task, factor, kernel, arguments, item, tmp_path, monkeypatch
):
    flags = ["--factor", factor, "--kernel", kernel, "--resize", 41, "--K", 1]
    assert call(monkeypatch, aseqdip_superresolution, *arguments, *flags) == 0
    folder = run_folder(tmp_path / "out", task, "item")
    side = 41 - 41 % factor
    assert np.load(folder / "reconstruction.npy").shape == (side, side, 3)
    x_true = torch.from_numpy(image_data.load_picture(item, "", 41).pixels)[None]
    mode = {"average": "area", "bicubic": "bicubic"}[kernel]
    x_true, size = x_true[..., :side, :side], (side // factor,) * 2
    small = F.interpolate(x_true, size=size, mode=mode, antialias=kernel == "bicubic")
    expected = small[0].movedim(0, -1).numpy()
    np.testing.assert_allclose(np.load(folder / "measurement.npy"), expected, atol=1e-5)
    assert metrics(folder)["factor"] == factor and metrics(folder)["kernel"] == kernel
