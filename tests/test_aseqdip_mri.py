"""The MRI script as a user runs it: outputs, resume, bad input."""

import dataclasses
import errno
import io
import os
import re
import signal
import subprocess
import sys
import time
import zipfile

import h5py
import numpy as np
import pytest
import running
import torch
from conftest import ROOT, small_kspace, write_fastmri
from reports import read_run
from running import digest, log_of, metrics, stop_half_way

import aseqdip_mri
from models.unet import UNet
from scripts.reporting.data import setting_of
from utils import loop
from utils.errors import BUSY
from utils.folder import RunFolder
from utils.loop import Loop
from utils.optim import DISTANCES

MEASURED = ["--K", "12", "--width", "4", "--lr", "1e-3", "--log-every", "4", "--device", "cpu"]
TINY = [*MEASURED, "--center-fraction", "0.2"]


@pytest.fixture
def scan(tmp_path, kspace):
    np.save(tmp_path / "scan.npy", kspace)
    return tmp_path / "scan.npy"


def call(monkeypatch, *arguments):
    """Run the script in this process; return its exit status."""
    return running.call(monkeypatch, aseqdip_mri, *arguments)


def as_process(*arguments):
    return running.as_process("aseqdip_mri.py", *arguments)


def run_folder(out, item="scan"):
    return running.run_folder(out, "mri", item)


# What a run leaves behind


def test_a_run_writes_all_its_files_and_is_not_done_twice(scan, tmp_path, monkeypatch, capsys):
    arguments = ["--data", scan, "--out", tmp_path / "out", *TINY]
    assert call(monkeypatch, *arguments) == 0
    folder = run_folder(tmp_path / "out")
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "metrics.json", "log.csv", "mask.npy", "reconstruction.npy",
        "reconstruction.png", "reconstruction_ema.npy", "reconstruction_ema.png",
        "comparison.png", "curve.png", "truth.png", "input.png",
    }  # fmt: skip
    found = metrics(folder)
    assert {
        "task", "method", "item", "psnr_final", "psnr_ema", "psnr_oracle", "ssim_final",
        "nmse_final", "psnr_input", "steps", "seconds", "n_params", "acceleration_true", "device",
    } <= found.keys()  # fmt: skip
    assert (found["task"], found["method"], found["item"]) == ("mri", "aseqdip", "scan")
    assert found["steps"] == 24 and found["acceleration_true"] == 4.0
    mask = np.load(folder / "mask.npy")
    assert mask.shape == (64, 60) and mask.any(axis=0).sum() == 15
    x_hat = np.load(folder / "reconstruction.npy")
    assert x_hat.shape == (64, 60) and x_hat.dtype == np.complex64

    rows = log_of(folder)
    assert [int(row["step"]) for row in rows] == [0, 8, 16, 24]
    assert list(rows[0]) == [
        "step", "loss", "data_term", "autoencoding_term", "psnr", "ssim", "seconds",
    ]  # fmt: skip
    for row in rows[1:]:
        total = float(row["data_term"]) + float(row["autoencoding_term"])
        assert np.isclose(float(row["loss"]), total, rtol=1e-5)
    assert float(rows[-1]["loss"]) < float(rows[1]["loss"])
    assert found["psnr_oracle"] == max(float(row["psnr"]) for row in rows[1:])
    assert np.isclose(found["psnr_final"], float(rows[-1]["psnr"]))
    assert np.isclose(found["psnr_input"], float(rows[0]["psnr"]))

    written = (folder / "metrics.json").stat().st_mtime_ns
    capsys.readouterr()
    assert call(monkeypatch, *arguments) == 0
    said = capsys.readouterr().out
    assert "finished already" in said and f"{found['psnr_final']:.2f} dB" in said
    assert str(folder) in said and (folder / "metrics.json").stat().st_mtime_ns == written
    first = digest(folder)
    assert call(monkeypatch, *arguments, "--fresh") == 0
    assert (folder / "metrics.json").stat().st_mtime_ns != written and digest(folder) == first
    (folder / "metrics.json").write_text("{")
    capsys.readouterr()
    assert call(monkeypatch, *arguments) == 2
    assert "metrics.json: damaged" in capsys.readouterr().err


def test_reconstruction_is_in_input_scale_and_zero_outside_the_support(
    scan, tmp_path, monkeypatch, kspace
):
    """Scaling the measurements scales the result: the method's own scale is undone."""
    np.save(tmp_path / "loud.npy", 1024 * kspace)  # a power of two: exact in floating point
    for name in ("scan", "loud"):
        path = tmp_path / f"{name}.npy"
        assert call(monkeypatch, "--data", path, "--out", tmp_path / "o", *TINY) == 0
    out = tmp_path / "o"
    quiet, loud = (
        np.load(run_folder(out, name) / "reconstruction.npy") for name in ("scan", "loud")
    )
    np.testing.assert_allclose(loud, 1024 * quiet, rtol=1e-3, atol=1e-3 * np.abs(loud).max())
    maps = np.load(next((tmp_path / "o" / "cache").glob("espirit_*.npz")))["maps"]
    assert (quiet[(maps == 0).all(axis=0)] == 0).all()


def test_a_measured_scan_needs_no_truth(scan, tmp_path, monkeypatch, kspace, capsys):
    columns = np.zeros(60, dtype=bool)
    columns[::3] = columns[20:40] = True  # 33 of the 58 columns from 0 to 57
    np.save(tmp_path / "measured.npy", kspace * columns)
    arguments = ["--data", tmp_path / "measured.npy", "--out", tmp_path / "out", *MEASURED]
    assert call(monkeypatch, *arguments) == 2
    assert "add --measured" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert call(monkeypatch, *arguments, "--measured") == 0
    folder = run_folder(tmp_path / "out", "measured")
    np.testing.assert_array_equal(np.load(folder / "mask.npy"), np.tile(columns, (64, 1)))
    found = metrics(folder)
    assert not [key for key in found if re.match("psnr|ssim|nmse|.*oracle", key)]
    assert found["measured"] and np.isclose(found["acceleration_true"], 58 / 33)
    assert "psnr" in log_of(folder)[0] and log_of(folder)[-1]["psnr"] == ""
    assert (folder / "comparison.png").stat().st_size > 5000
    assert (folder / "curve.png").stat().st_size > 5000


def test_the_truth_never_reaches_the_method(scan, tmp_path, monkeypatch, kspace):
    """The same measurements give the same bytes, whatever the unsampled k-space holds."""
    assert call(monkeypatch, "--data", scan, "--out", tmp_path / "a", *TINY) == 0
    folder = run_folder(tmp_path / "a")
    mask = np.load(folder / "mask.npy")
    rng = np.random.default_rng(0)
    other = np.where(mask, kspace, kspace + rng.normal(size=kspace.shape)).astype(np.complex64)
    np.save(tmp_path / "other.npy", other)
    np.save(tmp_path / "measured.npy", kspace * mask)
    assert call(monkeypatch, "--data", tmp_path / "other.npy", "--out", tmp_path / "a", *TINY) == 0
    assert call(monkeypatch, "--data", tmp_path / "measured.npy", "--out", tmp_path / "a",
                "--measured", *MEASURED) == 0  # fmt: skip
    for item in ("other", "measured"):
        again = run_folder(tmp_path / "a", item)
        assert digest(again) == digest(folder)
        assert [r["loss"] for r in log_of(again)] == [r["loss"] for r in log_of(folder)]


@pytest.mark.usefixtures("no_figures", "shallow_unet")
def test_the_mask_of_a_run_repeats_it_from_a_file_of_any_name(scan, tmp_path, monkeypatch, capsys):
    """A mask from a file gives the bytes of the run that drew it, points as well as columns."""
    assert call(monkeypatch, "--data", scan, "--out", tmp_path / "a", *TINY) == 0
    drawn = run_folder(tmp_path / "a")
    mask = np.load(drawn / "mask.npy")
    files = {"points.npy": mask, "columns.npy": mask[0], "renamed.npy": mask[0]}
    for name, array in files.items():
        np.save(tmp_path / name, array)
    capsys.readouterr()
    told = "true 4.000x; samples in 15 of 60 columns"
    for name, expected in zip(files, (told, told, "finished already"), strict=True):
        given = ["--data", scan, "--out", tmp_path / "b", "--mask", tmp_path / name]
        assert call(monkeypatch, *given, *MEASURED) == 0
        assert expected in capsys.readouterr().out
    folders = [path.parent for path in (tmp_path / "b").rglob("metrics.json")]
    assert len(folders) == 2 and all(digest(folder) == digest(drawn) for folder in folders)
    assert {setting_of(read_run(folder)) for folder in folders} == {"mask from a file"}
    assert setting_of(read_run(drawn)) == "accel=4"


@pytest.mark.usefixtures("no_figures", "shallow_unet")
@pytest.mark.parametrize("loss", ["squares", "norms"])
def test_the_loop_is_algorithm_1(loss, scan, tmp_path, monkeypatch):
    """Replay eq. (3) to (5) in bare PyTorch, from the files of a run: same numbers."""
    K, N, lam, lr, rtol = 3, 4, 0.3, 2e-3, 1e-5
    flags = ["--K", K, "--N", N, "--lambda-ae", lam, "--lr", lr, "--log-every", 1, "--width", 8]
    flags += ["--loss", loss]
    assert call(monkeypatch, "--data", scan, "--out", tmp_path, *TINY, *flags) == 0
    folder = run_folder(tmp_path)
    mask = torch.from_numpy(np.load(folder / "mask.npy"))
    maps = torch.from_numpy(np.load(next((tmp_path / "cache").glob("*.npz")))["maps"])
    y = torch.from_numpy(np.load(scan)) * mask

    def fourier(x, inverse=False):
        transform = torch.fft.ifft2 if inverse else torch.fft.fft2
        shifted = torch.fft.ifftshift(x, dim=(-2, -1))
        return torch.fft.fftshift(transform(shifted, norm="ortho"), dim=(-2, -1))

    z0 = (maps.conj() * fourier(y, inverse=True)).sum(dim=0)
    scale = z0.abs().max()
    y, z0 = y / scale, z0 / scale
    net = UNet(2, 2, 8, 3, generator=torch.Generator().manual_seed(0))
    adam = torch.optim.Adam(net.parameters(), lr=lr, fused=True)

    def f(z):
        x = net(torch.stack((z.real, z.imag), dim=-1).movedim(-1, 0)[None])[0]
        return torch.complex(x[0], x[1])

    z, rows = z0, log_of(folder)
    for k in range(1, K + 1):
        for _ in range(N):
            x = f(z)
            data_term = ((mask * fourier(maps * x) - y).abs() ** 2).sum()
            autoencoding_term = ((x - z).abs() ** 2).sum()
            if loss == "norms":
                data_term, autoencoding_term = data_term.sqrt(), autoencoding_term.sqrt()
            adam.zero_grad()
            (data_term + lam * autoencoding_term).backward()
            adam.step()
        with torch.no_grad():
            z = f(z)
        row = rows[k]
        assert int(row["step"]) == k * N
        assert np.isclose(float(row["data_term"]), data_term.item(), rtol=rtol)
        assert np.isclose(float(row["autoencoding_term"]), autoencoding_term.item(), rtol=rtol)
        total = (data_term + lam * autoencoding_term).item()
        assert np.isclose(float(row["loss"]), total, rtol=rtol)
    expected = (z * (maps != 0).any(dim=0) * scale).numpy()
    x_hat = np.load(folder / "reconstruction.npy")
    assert np.linalg.norm(x_hat - expected) < rtol * np.linalg.norm(expected)


def test_updates_improve_the_image_over_the_untrained_network(scan, tmp_path, monkeypatch):
    arguments = ["--data", scan, "--out", tmp_path, *TINY, "--K", "60", "--width", "16"]
    assert call(monkeypatch, *arguments, "--log-every", "1", "--lr", "3e-3") == 0
    rows = log_of(run_folder(tmp_path))
    assert float(rows[-1]["psnr"]) > float(rows[1]["psnr"]) + 3
    assert float(rows[-1]["data_term"]) < 0.2 * float(rows[1]["data_term"])


def test_own_maps_are_used_and_never_espirit(scan, tmp_path, monkeypatch, kspace):
    maps = np.ones_like(kspace)
    maps[:, :20] = 0  # nothing can be seen there with these maps
    np.save(tmp_path / "maps.npy", maps)
    assert call(monkeypatch, "--data", scan, "--maps", tmp_path / "maps.npy",
                "--out", tmp_path / "out", *TINY) == 0  # fmt: skip
    assert not (tmp_path / "out" / "cache").exists()
    folder = run_folder(tmp_path / "out")
    assert metrics(folder)["sens_maps"].endswith("maps.npy")
    x_hat = np.load(folder / "reconstruction.npy")
    assert (x_hat[:20] == 0).all() and (x_hat[20:] != 0).all()


def test_a_folder_is_done_file_by_file_and_a_bad_one_stops_nothing(tmp_path, monkeypatch, capsys):
    for name, seed in (("a", 0), ("c", 1)):
        volume = np.stack([small_kspace(64, 61, 4, seed + s) for s in range(2)])
        write_fastmri(tmp_path / f"{name}.h5", volume)
    (tmp_path / "b.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:5000])
    status = call(monkeypatch, "--data", tmp_path, "--slice", "1", "--out", tmp_path / "out", *TINY)
    assert status == 2
    error = capsys.readouterr().err
    assert re.search(r"^error: .*b\.h5: not a readable HDF5 file", error, re.MULTILINE)
    items = {path.name for path in (tmp_path / "out" / "mri" / "aseqdip").iterdir()}
    assert items == {"a_slice01", "c_slice01"}
    for item in items:
        assert metrics(run_folder(tmp_path / "out", item))["psnr_final"] > 0


@pytest.mark.usefixtures("no_figures")
def test_flags_and_the_top_of_the_file_are_the_same_thing(scan, tmp_path, monkeypatch):
    shared = ["--data", scan, "--width", "4", "--device", "cpu", "--center-fraction", "0.2"]
    flags = ["--K", "6", "--lr", "5e-4", "--lambda-ae", "2"]
    assert call(monkeypatch, "--out", tmp_path / "a", *shared, *flags) == 0
    text = (ROOT / "aseqdip_mri.py").read_text()
    for line in ("K: int = 2000", "lr: float = 1e-4", "lambda_ae: float = 1.0"):
        assert text.count(line) == 1
    text = text.replace("K: int = 2000", "K: int = 6")
    text = text.replace("lr: float = 1e-4", "lr: float = 5e-4")
    text = text.replace("lambda_ae: float = 1.0", "lambda_ae: float = 2")
    (tmp_path / "edited.py").write_text(text)
    command = [sys.executable, tmp_path / "edited.py", "--out", tmp_path / "b", *shared]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([str(c) for c in command], env=environment, check=True, capture_output=True)
    assert run_folder(tmp_path / "a").name == run_folder(tmp_path / "b").name
    assert digest(run_folder(tmp_path / "a")) == digest(run_folder(tmp_path / "b"))


# Interruption


def wait_for(process, seen):
    """Wait until seen() holds while the process runs."""
    for _ in range(1200):
        if seen():
            return
        assert process.poll() is None
        time.sleep(0.05)
    raise TimeoutError


def test_ctrl_c_and_sigkill_resume_to_the_same_bytes(scan, tmp_path, monkeypatch):
    # The same script with a checkpoint at every outer step.
    launcher = (
        "import sys; from utils import loop; loop.CHECKPOINT_SECONDS = 0; "
        "loop.CHECKPOINT_SHARE = 1e9; import aseqdip_mri; sys.exit(aseqdip_mri.main())"
    )
    arguments = ["--data", scan, *TINY, "--K", "25"]
    out = tmp_path / "b"
    said = tmp_path / "said.txt"

    def launch():
        command = [sys.executable, "-u", "-c", launcher, *map(str, arguments), "--out", str(out)]
        with open(said, "w") as file:
            return subprocess.Popen(
                command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=file, stderr=file
            )

    assert call(monkeypatch, *arguments, "--out", tmp_path / "a") == 0
    folder = run_folder(tmp_path / "a")

    process = launch()
    wait_for(process, lambda: list(out.glob("mri/aseqdip/*/*/checkpoint.pt")))
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert "stopped by SIGINT" in said.read_text()
    assert "repeat the command to continue" in said.read_text()
    assert not (run_folder(out) / "metrics.json").exists()

    process = launch()
    wait_for(process, lambda: "resumed after outer step" in said.read_text())
    process.kill()
    process.wait()

    assert launch().wait() == 0
    assert "resumed after outer step" in said.read_text()
    resumed = run_folder(out)
    for name in ("reconstruction.npy", "reconstruction_ema.npy", "mask.npy"):
        assert (resumed / name).read_bytes() == (folder / name).read_bytes()
    for a, b in zip(log_of(folder), log_of(resumed), strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}
    same = {"seconds", "device"}
    assert {k: v for k, v in metrics(folder).items() if k not in same} == {
        k: v for k, v in metrics(resumed).items() if k not in same
    }
    left = {path.name for path in resumed.iterdir()}
    assert "checkpoint.pt" not in left and not [n for n in left if n.endswith(".partial")]


def test_a_damaged_or_foreign_checkpoint_is_said_so(scan, tmp_path, monkeypatch, capsys):
    arguments = ["--data", scan, "--out", tmp_path / "out", "--run", "mine", *TINY]
    stop_half_way(monkeypatch, aseqdip_mri, arguments)
    checkpoint = tmp_path / "out/mri/aseqdip/scan/mine/checkpoint.pt"
    whole = checkpoint.read_bytes()
    capsys.readouterr()

    assert call(monkeypatch, *arguments, "--lr", "1e-2") == 2
    assert re.search("lr.*0.001.*0.01.*--fresh", capsys.readouterr().err)
    with zipfile.ZipFile(checkpoint) as archive:
        largest = max(archive.infolist(), key=lambda record: record.file_size)
        content = archive.read(largest)
    flipped = bytearray(whole)
    flipped[whole.index(content) + len(content) // 2] ^= 0x10
    tensor = io.BytesIO()
    torch.save(torch.zeros(1, 512, 1, 1), tensor)
    for damaged in (
        whole[:-200], whole[: len(whole) // 2], b"", b"not a checkpoint", flipped, tensor.getvalue()
    ):  # fmt: skip
        checkpoint.write_bytes(damaged)
        assert call(monkeypatch, *arguments) == 2
        error = capsys.readouterr().err
        assert "damaged checkpoint" in error and "--fresh" in error
        assert checkpoint.read_bytes() == damaged
    config = checkpoint.with_name("config.json")
    kept = config.read_text()
    config.write_text(kept[:50])
    assert call(monkeypatch, *arguments) == 2
    assert "config.json: damaged" in capsys.readouterr().err
    config.write_text(kept)
    assert call(monkeypatch, *arguments, "--fresh") == 0
    assert metrics(checkpoint.parent)["steps"] == 24


def test_a_loss_that_is_not_finite_stops_the_run_with_its_step(scan, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(loop, "CHECKPOINT_SHARE", 1e9)
    sqnorm, calls = DISTANCES["squares"], []

    def poisoned(a, b):  # two terms an update, two updates an outer step
        calls.append(1)
        return sqnorm(a, b) * (float("nan") if len(calls) > 4 * 6 else 1)

    monkeypatch.setitem(DISTANCES, "squares", poisoned)
    assert call(monkeypatch, "--data", scan, "--out", tmp_path / "out", *TINY) == 1
    error = capsys.readouterr().err
    assert re.search(r"^error: .*NaN or Inf at step 14 \(outer step 7\)", error, re.MULTILINE)
    folder = run_folder(tmp_path / "out")
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert state["k"] == 6 and torch.isfinite(state["z"]).all()
    assert not (folder / "metrics.json").exists()


# Bad input


def bad_inputs(folder, kspace):
    """Yield arguments that must end in one clear line, and a regular expression of its facts."""

    def npy(name, array):
        np.save(folder / name, array)
        return folder / name

    def h5(name, **datasets):
        with h5py.File(folder / name, "w") as file:
            for key, value in datasets.items():
                file[key] = value
        return folder / name

    good = npy("good.npy", kspace)
    volume = h5("volume.h5", kspace=np.stack([kspace, kspace]))
    (folder / "empty").mkdir()
    (folder / "cut.h5").write_bytes(volume.read_bytes()[:3000])
    (folder / "text.h5").write_text("no HDF5")
    (folder / "cut.npy").write_bytes(good.read_bytes()[:5000])
    (folder / "scan.txt").write_text("hello")
    (folder / "taken").mkdir()
    (folder / "taken" / "cache").write_text("a file")
    with zipfile.ZipFile(folder / "bytes.npz", "w") as archive:
        archive.writestr("kspace", b"no array")
    np.savez(folder / "two.npz", a=kspace, b=kspace)
    nan, inf = kspace.copy(), kspace.copy()
    nan[0, 3, 4], inf[0, 3, 4] = np.nan, np.inf
    pickled = np.array([{"a": 1}], dtype=object)

    tiny = npy("tiny.npy", 1e-60 * kspace.astype(complex))
    (folder / "volumes").mkdir()
    (folder / "volumes" / "volume.h5").write_bytes(volume.read_bytes())
    long = "x" * 300
    for data, facts in (
        (folder / "no.h5", r"no\.h5.*no such file"),
        (folder / "empty", r"empty.*without .*\.h5.* \.npy, \.npz"),
        (folder / "cut.h5", r"cut\.h5.*not a readable HDF5"),
        (folder / "text.h5", r"text\.h5.*not a readable HDF5"),
        (folder / "cut.npy", r"cut\.npy.*not a readable"),
        (npy("pickle.npy", pickled), "pickle.npy.*pickled"),
        (folder / "scan.txt", r"scan\.txt.*expected.* \.npy, \.npz.* \.h5"),
        (folder / "two.npz", "two.npz.*`kspace`, got a .*, b .*--variable"),
        (folder / "bytes.npz", "bytes.npz.*got no array"),
        (npy("big.npy", 1e45 * kspace.astype(complex)), "big.npy.*Inf"),
        (tiny, "tiny.npy.*zeros"),
        (h5("x.h5", image=np.ones(3)), "x.h5.*`kspace`, got image"),
        (h5("r3.h5", kspace=kspace), "got rank 3"),
        (npy("r2.npy", kspace[0]), "got rank 2"),
        (npy("real.npy", kspace.real), "expected complex"),
        (npy("one.npy", kspace[:1]), "single coil"),
        (npy("nan.npy", nan), "nan.npy.*NaN or Inf"),
        (npy("inf.npy", inf), "inf.npy.*NaN or Inf"),
        (npy("zero.npy", 0 * kspace), "zero.npy.*zeros"),
        (npy("small.npy", kspace[:, :31]), "32x32"),
        (f"{long}.npy", "x.npy: "),
    ):
        yield ["--data", data], facts
    for maps, facts in (
        (folder / "empty", "empty.*got a folder"),
        (folder / "no.npy", r"no\.npy.*no such file"),
        (npy("m1.npy", kspace[:, 1:]), "expected"),
        (npy("m2.npy", kspace[1:]), "expected"),
        (npy("m3.npy", kspace.real), "complex maps"),
        (npy("m4.npy", nan), "m4.npy.*NaN or Inf"),
        (npy("m5.npy", 0 * kspace), "m5.npy.*zeros"),
    ):
        yield ["--data", good, "--maps", maps], facts
    yield ["--data", folder / "volumes", "--maps", good], "--maps.*--data"
    for number in (2, -1):
        yield ["--data", volume, "--slice", number], "slices 0 to 1"
    yield ["--data", good, "--slice", "0"], "--slice"
    yield ["--slice", "0"], "--slice"
    for flag, value in (("--accel", "4"), ("--mask", "random"), ("--center-fraction", "0.2")):
        yield ["--data", good, "--measured", flag, value], f"{flag}: --measured takes"
    yield ["--data", good, "--accel", "8", "--center-fraction", "0.04"], "--center-fraction"
    yield ["--data", good, "--accel", "1000", "--center-fraction", "0.001"], "lower --accel"
    for flag, value, expected in (
        *(("--accel", value, "at least 1") for value in ("0.5", "0", "inf")),
        *(("--center-fraction", value, r"in \(0, 0.25\]") for value in ("0", "0.3")),
        *(("--device", value, "expected auto, cpu") for value in ("tpu", "cpu:")),
        *(("--out", out, "another --out") for out in (good, good / "x", folder / "taken")),
        *(("--run", name, "at most 100") for name in ("a/b", "..", long)),
        ("--depth", "7", "too deep"), ("--device", "cuda", "--device cuda"),
    ):  # fmt: skip
        yield ["--data", good, flag, value], expected
    yield ["--data", good, "--crop", "32", "--depth", "5"], "--depth 5.* 32x32"
    for flag, values in (
        ("--crop", ("16", "-1")), ("--seed", ("9" * 20,)), ("--data-seed", ("-1",)), ("--K", ("0",)),
        ("--N", ("0",)), ("--lr", ("0", "nan")), ("--lambda-ae", ("-1",)), ("--width", ("0",)),
        ("--ema-decay", ("1",)), ("--init-std", ("0",)), ("--log-every", ("0",)),
    ):  # fmt: skip
        for value in values:
            yield ["--data", good, flag, value], f"{flag} {value}.*expected"


def test_bad_input_ends_in_one_clear_line(tmp_path, kspace, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for arguments, facts in list(bad_inputs(tmp_path, kspace)):
        arguments = ["--K", "2", "--width", "4", "--center-fraction", "0.2", *arguments]
        running.refused(monkeypatch, capsys, tmp_path, aseqdip_mri, arguments, facts)


def test_one_wrong_flag_is_said_once_for_a_whole_folder(tmp_path, monkeypatch, capsys):
    for name in "abc":
        (tmp_path / f"{name}.h5").write_bytes(b"")
    assert call(monkeypatch, "--data", tmp_path, "--K", "0") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_two_processes_never_share_a_run(scan, tmp_path, monkeypatch, capsys):
    arguments = ["--data", scan, "--out", tmp_path / "out", "--run", "mine", *TINY]
    record = Loop.record

    def disturbed(self, k, x, terms):
        if k == 3:
            with monkeypatch.context() as patch:
                patch.setattr(Loop, "record", record)
                assert call(patch, *arguments) == BUSY
        record(self, k, x, terms)

    monkeypatch.setattr(Loop, "record", disturbed)
    monkeypatch.setattr(sys, "argv", ["aseqdip_mri.py", *map(str, arguments)])
    assert aseqdip_mri.main() == 0
    assert "another process is at work" in capsys.readouterr().err
    assert metrics(run_folder(tmp_path / "out"))["steps"] == 24


def test_ctrl_c_in_the_last_step_loses_nothing(scan, tmp_path, monkeypatch, capsys):
    arguments = ["--data", scan, "--out", tmp_path, *TINY]
    stop_half_way(monkeypatch, aseqdip_mri, arguments, k_stop=12)
    assert "after outer step 12 of 12" in capsys.readouterr().err
    assert call(monkeypatch, *arguments) == 0
    assert metrics(run_folder(tmp_path))["steps"] == 24

    save = RunFolder.save_checkpoint  # a signal that comes while the last checkpoint is written

    def signalled(self, state):
        save(self, state)
        signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_checkpoint", signalled)
        assert call(patch, *arguments, "--fresh") == 130
    assert "without --fresh to continue" in capsys.readouterr().err
    assert call(monkeypatch, *arguments) == 0


def test_a_full_disk_and_too_little_memory_are_one_line(scan, tmp_path, monkeypatch, capsys):
    arguments = ["--data", scan, "--out", tmp_path, *TINY]

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        assert call(patch, *arguments) in (1, 2)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and "No space left" in error

    def too_large(self, z):
        return torch.empty(2**60)

    monkeypatch.setattr(UNet, "forward", too_large)
    assert call(monkeypatch, *arguments) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: out of memory")


def test_a_long_run_on_a_cpu_says_so_after_a_few_updates(scan, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop, "LONG_RUN_SECONDS", 0.0)
    assert call(monkeypatch, "--data", scan, "--out", tmp_path, *TINY) == 0
    said = capsys.readouterr().err
    assert "updates that are left take about" in said and "--quick takes" in said
    flags = ["--preset", "quick", "--method", "aseqdip", "--z0", "adjoint", "--precision", "fp32"]
    assert call(monkeypatch, "--data", scan, "--out", tmp_path, *flags, *TINY) == 0
    said = capsys.readouterr().err
    assert "updates that are left take about" in said and "--quick" not in said


@pytest.mark.parametrize(
    "mask, flags, facts",
    [
        ("spiral", [], "--mask spiral: expected random, equispaced or a file"),
        (".", [], "got a folder"),
        (np.ones(64), [], r"60 columns \(60,\), 64 rows \(64, 1\) or 64x60 points, got \(64,\)$"),
        (np.ones(60), ["--crop", "32"], r"32x32 points, got \(60,\); --crop 0"),
        (np.ones((2, 64, 60)), [], r"zeros and ones.*got float64 \(2, 64, 60\)"),
        (np.linspace(0, 1, 60), [], r"0 \(black.*60 values"),
        (np.full(60, 1j), [], "zeros and ones.*complex128"),
        (np.zeros(60, bool), [], "samples no point"),
        (np.arange(60) % 4 == 0, [], "fully sampled centre.*--maps"),
        (np.ones(60), ["--accel", "4"], "--accel: the file of --mask"),
        (np.ones(60), ["--center-fraction", "0.2"], "--center-fraction: the file of --mask"),
        (np.ones(60), ["--measured"], "--mask: --measured takes"),
    ],
)
def test_a_mask_that_does_not_fit_is_told(mask, flags, facts, scan, tmp_path, monkeypatch, capsys):
    if not isinstance(mask, str):
        np.save(tmp_path / "mask.npy", mask)
        mask = tmp_path / "mask.npy"
    given = ["--data", scan, "--out", tmp_path / "out", "--mask", mask, *MEASURED, *flags]
    assert call(monkeypatch, *given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(facts, line)
    assert not list((tmp_path / "out").rglob("config.json"))


def test_a_file_name_is_never_a_formula(tmp_path, monkeypatch, kspace):
    np.save(tmp_path / "a$b_$^.npy", kspace)
    assert call(monkeypatch, "--data", tmp_path / "a$b_$^.npy", "--out", tmp_path, *TINY) == 0


def test_unknown_flags_and_types_exit_with_status_2(monkeypatch, capsys):
    for arguments in (["--acel", "4"], ["--K", "many"], ["--loss", "cubes"]):
        with pytest.raises(SystemExit) as end:
            call(monkeypatch, *arguments)
        assert end.value.code == 2 and arguments[0] in capsys.readouterr().err


def test_help_explains_every_flag():  # as a process: as wide as where nobody looks
    process = as_process("--help")
    assert process.returncode == 0
    for field in dataclasses.fields(aseqdip_mri.Args):
        assert f"--{field.name.replace('_', '-')}" in process.stdout
    assert "section 4.1" in process.stdout
