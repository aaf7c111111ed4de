"""Figure 7: an autoencoder's training and the reconstruction over its input."""

import csv
import inspect
import json
import signal

import numpy as np
import pytest
import torch
from conftest import small_kspace
from running import call
from torch import nn

from models.unet import UNet
from operators.mri import MultiCoilMRI
from operators.pixels import Identity
from scripts import fig7
from utils.callback import Callback
from utils.loop import Loop

TINY = ["--device", "cpu", "--width", 4, "--patch", 32, "--batch", 2, "--train-steps", 12]
TINY += ["--steps", 4, "--lambdas", 0, 1]


def run(monkeypatch, *flags):
    return call(monkeypatch, fig7, *flags)


def rows_of(folder, name):
    with open(folder / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


class Scale(nn.Module):
    """g(z) = s z."""

    def __init__(self, s):
        super().__init__()
        self.s = nn.Parameter(torch.tensor(s))

    def forward(self, z):
        return self.s * z


def randn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def small_mri():
    maps = randn(3, 16, 16, dtype=torch.complex64)
    mask = torch.rand(16, 16, generator=torch.Generator().manual_seed(1)) < 0.5
    return MultiCoilMRI(maps, mask)


def test_the_weights_stay_and_only_z_moves():
    net = fig7.keep_statistics(UNet(1, 1, width=2, depth=2)).eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    y, images = randn(1, 1, 16, 16), []

    class Watch(Callback):
        def record(self, k, x, terms):
            images.append(x)

    z0 = y.clone()
    fig7.autoencoder_reconstruction(y, Identity((1, 16, 16)), net, z0=z0, steps=3, callback=Watch())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(weight.grad is None for weight in net.parameters())
    assert torch.equal(z0, y) and not torch.equal(images[0], images[2])


def test_without_noise_and_with_g_the_identity_the_truth_is_a_fixed_point():
    A = small_mri()
    x_true = randn(1, 1, 16, 16, dtype=torch.complex64)
    found = []

    class Watch(Callback):
        def record(self, k, x, terms):
            found.append((terms["data_term"].item(), terms["autoencoding_term"].item()))

    x_hat = fig7.autoencoder_reconstruction(
        A(x_true), A, nn.Identity(), z0=x_true, steps=3, callback=Watch()
    )
    assert found == [(0, 0)] * 3 and torch.equal(x_hat, x_true)


def test_the_first_step_follows_the_gradient_of_eq_18():
    """For g(z) = s z: 2 s A^H (s A z - y) + 2 lambda (s - 1)^2 z; Adam steps by its sign."""
    A, s, lambda_a, lr = small_mri(), 0.7, 3.0, 0.01
    y = A(randn(1, 1, 16, 16, seed=2, dtype=torch.complex64))
    z0 = randn(1, 1, 16, 16, seed=3, dtype=torch.complex64)
    x_hat = fig7.autoencoder_reconstruction(
        y, A, Scale(s), z0=z0, steps=2, lr=lr, lambda_a=lambda_a
    )
    gradient = 2 * s * A.adjoint(s * A(z0) - y) + 2 * lambda_a * (s - 1) ** 2 * z0
    z1 = z0 - lr * torch.complex(gradient.real.sign(), gradient.imag.sign())
    torch.testing.assert_close(x_hat, s * z1, atol=1e-5, rtol=1e-5)


def test_it_finds_the_closed_form_for_a_linear_autoencoder():
    y, s, lambda_a = randn(1, 1, 8, 8), 0.6, 2.0
    x_hat = fig7.autoencoder_reconstruction(
        y, Identity((1, 8, 8)), Scale(s), steps=1500, lambda_a=lambda_a
    )
    z = s * y / (s**2 + lambda_a * (s - 1) ** 2)
    torch.testing.assert_close(x_hat, s * z, atol=1e-3, rtol=1e-3)


def test_the_method_knows_no_truth():
    names = inspect.signature(fig7.autoencoder_reconstruction).parameters
    assert list(names) == ["y", "A", "net", "z0", "steps", "lr", "lambda_a", "callback"]


def test_patches_are_squares_of_the_image():
    image = torch.arange(1.0, 1 + 20 * 30).reshape(1, 1, 20, 30)
    rng = torch.Generator().manual_seed(0)
    corners = set()
    for _ in range(200):
        square = fig7.patch(image, 8, rng)
        values = square.unique()
        assert square.shape == (1, 1, 8, 8) and len(values) == 64
        first = values[0]  # the window's top left pixel, whatever the turn
        window = (first + torch.arange(8)[:, None] * 30 + torch.arange(8)).flatten()
        assert torch.equal(values, window)
        corners.add(first.item())
    assert len(corners) > 100
    turned = fig7.patch(image + 0j, 20, rng)
    phases = turned / turned.abs()
    torch.testing.assert_close(phases, phases[0, 0, 0, 0].expand_as(phases))


def test_the_photographs_are_complex_images_of_maximum_1():
    images = fig7.photographs()
    assert len(images) == 6
    for image, again in zip(images, fig7.photographs()):
        assert image.dtype == torch.complex64 and image.shape[:2] == (1, 1)
        assert image.abs().max().item() == pytest.approx(1) and torch.equal(image, again)
        assert image.angle().std() > 0.1


def test_training_approaches_the_identity_on_clean_images():
    args = fig7.aseqdip_mri.Args(K=100, N=1, lr=3e-3, width=4)
    images = fig7.photographs()[:1]
    net = fig7.trainable(fig7.TASKS["mri"], args, images[0])
    crop = images[0][..., :64, :64]
    before = fig7.relative_change(net.eval(), crop)
    means = []

    class Watch(Callback):
        def record(self, k, x, terms):
            means.append(net.state_dict()["net.stem.1.running_mean"].clone())

    fig7.train(net, images, 32, 4, args, Watch())
    assert not torch.equal(means[48], means[49])  # gathered over the first half,
    assert all(torch.equal(mean, means[49]) for mean in means[50:])  # then fixed
    assert not net.training
    assert fig7.relative_change(net, crop) < 0.8 * before
    torch.testing.assert_close(  # each image by itself: no statistics of the batch
        net(torch.cat([crop, 2 * crop]))[:1], net(crop), atol=1e-5, rtol=1e-5
    )


def test_the_script_resumes_training_to_the_same_bytes(tmp_path, monkeypatch, capsys):
    flags = [*TINY, "--task", "ct", "--views", 6, "--side", 64]
    assert run(monkeypatch, *flags, "--out", tmp_path / "whole") == 0
    record = Loop.record

    def stopping(self, k, x, terms):
        if self.folder.identity["method"] == "training_ct" and k == 7:
            signal.raise_signal(signal.SIGINT)
        record(self, k, x, terms)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "record", stopping)
        assert run(patch, *flags, "--out", tmp_path / "cut") == 130
    assert not (tmp_path / "cut" / "figures").exists()
    assert run(monkeypatch, *flags, "--out", tmp_path / "cut") == 0
    assert "resumed after outer step 7" in capsys.readouterr().out
    (a,), (b,) = ((tmp_path / d).glob("fig7/*/*/*/weights.pt") for d in ("whole", "cut"))
    states = [torch.load(path, weights_only=True) for path in (a, b)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    folders = [tmp_path / d / "figures" / "fig7_ct" for d in ("whole", "cut")]
    assert (folders[0] / "table.csv").read_text() == (folders[1] / "table.csv").read_text()
    names = {path.name for path in folders[0].iterdir()}
    assert {"fig7.png", "table.md", "identity.csv", "notes.md", "settings.json"} <= names
    rows = rows_of(folders[0], "table")
    kinds = ["direct", "g(z)", "g(z)", "least squares", "SART"]
    assert [row["reconstruction"] for row in rows] == kinds
    for row in rows[1:]:
        method = {"g(z)": "trained", "least squares": "identity", "SART": "sart"}
        runs = tmp_path / "whole" / "fig7" / f"ct_{method[row['reconstruction']]}"
        psnr = [json.loads(p.read_text())["psnr_final"] for p in runs.glob("*/*/metrics.json")]
        assert float(row["PSNR"]) in psnr
    monkeypatch.setattr(fig7, "autoencoder_reconstruction", None)  # nothing is done again
    monkeypatch.setattr(fig7, "train", None)
    assert run(monkeypatch, *flags, "--out", tmp_path / "cut") == 0


def test_scans_of_a_folder_train_and_a_damaged_one_does_not_stop_the_test(
    tmp_path, monkeypatch, capsys
):
    train, test = tmp_path / "train", tmp_path / "test"
    for folder in (train, test):
        folder.mkdir()
        (folder / "broken.npy").write_bytes(b"no array")
    np.save(train / "a.npy", small_kspace(seed=1))
    np.save(test / "b.npy", small_kspace())
    flags = [*TINY, "--train", train, "--test", test, "--accel", 2, "--out", tmp_path / "out"]
    assert run(monkeypatch, *flags) == 2
    said = capsys.readouterr()
    assert said.err.count("failed: ") == 2 and "training g on 1 image(s)" in said.out
    assert said.err.strip().splitlines()[-1].startswith("error: ")
    figure = tmp_path / "out" / "figures" / "fig7_mri"
    assert {row["files"] for row in rows_of(figure, "table")} == {"1"}
    assert "1 image(s) of " in (figure / "notes.md").read_text()
    (test / "broken.npy").unlink()
    assert run(monkeypatch, *flags) == 2  # for the training's damaged one
    assert str(train / "broken.npy") in capsys.readouterr().err.splitlines()[-1]


def test_an_image_of_the_training_is_no_test(tmp_path, monkeypatch, capsys):
    np.save(tmp_path / "a.npy", small_kspace())
    np.save(tmp_path / "same.npy", small_kspace())
    flags = ["--train", tmp_path / "a.npy", "--test", tmp_path / "same.npy", "--accel", 2]
    assert run(monkeypatch, *TINY, *flags, "--out", tmp_path / "out") == 2
    assert "same.npy: it is among the training images" in capsys.readouterr().err


def test_the_table_holds_means_over_the_files_and_the_claim_its_differences():
    def figures(item, kind, lambda_a, final, oracle=None):
        found = {"item": item, "kind": kind, "lambda_a": lambda_a}
        found |= {"psnr_input": 20.0, "psnr_final": final}
        found |= {"ssim_final": 0.5}
        return found | ({} if oracle is None else {"psnr_oracle": oracle, "step_oracle": 10})

    found = [
        figures("a", "trained", 0.0, 24.0, 26.0), figures("a", "trained", 1.0, 27.0, 28.0),
        figures("a", "identity", 0.0, 23.0, 24.0), figures("a", "cg_sense", 0.0, 29.0),
        figures("b", "trained", 0.0, 26.0, 30.0), figures("b", "trained", 1.0, 28.0, 29.0),
        figures("b", "identity", 0.0, 25.0, 26.0), figures("b", "cg_sense", 0.0, 30.0),
    ]  # fmt: skip
    rows = fig7.table(found)
    assert [(r["reconstruction"], r["lambda_a"], r["PSNR"], r["oracle"]) for r in rows] == [
        ("direct", None, 20.0, None), ("g(z)", 0.0, 25.0, 28.0), ("g(z)", 1.0, 27.5, 28.5),
        ("least squares", None, 24.0, 25.0), ("CG-SENSE", None, 29.5, None),
    ]  # fmt: skip
    assert {row["files"] for row in rows} == {2} and rows[1]["std"] == pytest.approx(2**0.5)
    claim = fig7.claims(rows, "slices")[1]
    assert "27.50 dB at the best lambda_a, 1 " in claim
    for difference in ("+7.50 dB against direct", "+3.50 dB against least", "-2.00 dB against CG"):
        assert difference in claim


@pytest.mark.parametrize(
    "flags",
    [("--patch", 8), ("--patch", 4096), ("--lambdas", -1), ("--images", 0), ("--images", 2),
     ("--batch", 0), ("--steps", 0), ("--test", "missing"), ("--train", "missing.npy")],
)  # fmt: skip
def test_bad_flags_are_one_line(flags, tmp_path, monkeypatch, capsys):
    out = ("--out", tmp_path / "out")
    assert run(monkeypatch, *TINY, *flags, *out) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("error: ") and "Traceback" not in "".join(said)
    assert not (tmp_path / "out").exists()
