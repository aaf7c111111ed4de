"""Training a small prior: what it learns from, resuming, its file, its picture, bad input."""

import dataclasses
import re
import signal

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image
from pydicom.data import get_testdata_file
from running import call, refused
from skimage.transform import resize

import prior_train
from models.diffusion import load_prior
from prior_train import Args, Training, crops
from utils import ct_data, mri_data

CPU = torch.device("cpu")


def small(task="images", **settings):
    given = dict(size=32, batch=2, precision="fp32") | settings
    return Args(task, **given)


def noise_images(channels=1, side=40, number=2, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [torch.rand(channels, side, side + 8, generator=g) for _ in range(number)]


def write_pictures(folder, number=3, side=48):
    folder.mkdir()
    draws = np.random.default_rng(0)
    for n in range(number):
        smooth = Image.fromarray(draws.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        smooth.resize((side, side)).save(folder / f"{n}.png")
    return folder


def same_up_to_turns(crop, whole):
    """Tell whether a crop, turned and flipped in one of eight ways, is a part of an image."""
    size = crop.shape[-1]
    for flipped in (crop, crop.flip(2)):
        for turn in range(4):
            part = flipped.rot90(turn, (1, 2))
            windows = whole.unfold(1, size, 1).unfold(2, size, 1)  # (C, rows, columns, size, size)
            if bool((windows == part[:, None, None]).all(dim=(0, 3, 4)).any()):
                return True
    return False


def test_crops_are_parts_of_the_images_in_all_eight_turns():
    whole = torch.arange(3 * 36 * 34.0).reshape(3, 36, 34)
    batch = crops([whole], small(batch=60), torch.Generator().manual_seed(1))
    assert batch.shape == (60, 3, 32, 32)
    assert all(same_up_to_turns(crop, whole) for crop in batch)
    steps = {(round((c[0, 0, 1] - c[0, 0, 0]).item()), round((c[0, 1, 0] - c[0, 0, 0]).item()))
             for c in batch}  # fmt: skip
    along = {(a, 34 * b) for a in (1, -1) for b in (1, -1)}  # to the right, and down
    assert steps == along | {(down, right) for right, down in along}


def test_complex_crops_keep_their_moduli_and_take_any_phase():
    whole = torch.rand(2, 32, 32, generator=torch.Generator().manual_seed(3))
    batch = crops([whole], small("mri", batch=40), torch.Generator().manual_seed(1))
    moduli = torch.sort(batch.square().sum(1).flatten(1))[0]
    expected = torch.sort(whole.square().sum(0).flatten())[0]
    torch.testing.assert_close(moduli, expected.expand_as(moduli))
    mean = batch.mean((2, 3))
    angles = torch.atan2(mean[:, 1], mean[:, 0])
    assert (angles.cos().mean() ** 2 + angles.sin().mean() ** 2) ** 0.5 < 0.4


@pytest.mark.parametrize("levels", ["vp", "ve"])
def test_the_loss_of_an_untrained_network_is_that_of_the_wiener_filter(levels):
    # White images of variance s^2: eps_hat = sigma x / r^2 leaves E|eps_hat - eps|^2 = s^2 / r^2.
    g = torch.Generator().manual_seed(5)
    images = [0.2 * torch.randn(1, 64, 64, generator=g) for _ in range(4)]
    training = Training(small("ct", levels=levels, batch=12, lr=1e-12), images, CPU)
    assert training.data_std == pytest.approx(0.2, rel=0.03)
    losses = [training.update(0.0).item() for _ in range(2)]
    assert np.mean(losses) == pytest.approx(1, rel=0.05)  # weighted by r^2 / s^2


def test_updates_go_on_from_a_checkpoint_bit_by_bit():
    args, images = small("ct", batch=1), noise_images()
    straight, first, second = (Training(args, images, CPU) for _ in range(3))
    for _ in range(3):
        straight.update(0.1)
    first.update(0.1)
    second.restore(first.state())
    for _ in range(2):
        second.update(0.1)
    torch.testing.assert_close(second.state(), straight.state(), rtol=0, atol=0)
    assert second.step == 3


def test_training_lowers_the_loss():
    image = torch.linspace(-1, 1, 40).expand(1, 40, 40).contiguous()
    training = Training(small("ct", batch=2, lr=3e-3), [image], CPU)
    losses = [training.update(0.0).item() for _ in range(25)]
    assert np.mean(losses[-5:]) < 0.85 * np.mean(losses[:5])


def test_interrupted_then_finished_then_left_alone(tmp_path, monkeypatch, capsys):
    folder = write_pictures(tmp_path / "data")
    out = tmp_path / "p.pt"
    flags = ("images", "--data", folder, "--out", out, "--minutes", 0.03, "--size", 64,
             "--batch", 1, "--precision", "fp32", "--device", "cpu")  # fmt: skip
    monkeypatch.setattr(prior_train, "DRAW_STEPS", 4)
    measured, denoise = [], prior_train.denoise
    monkeypatch.setattr(
        prior_train, "denoise", lambda prior, *more: measured.append(prior) or denoise(prior, *more)
    )
    update = Training.update

    def interrupting(self, share):
        if self.step == 1:
            signal.raise_signal(signal.SIGINT)
        return update(self, share)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "update", interrupting)
        assert call(patch, prior_train, *flags) == 130
    assert not out.exists() and (tmp_path / "p.pt.checkpoint").exists()
    other = [*flags[:-4], "--batch", 2]
    assert call(monkeypatch, prior_train, *other) == 2
    assert "other batch" in capsys.readouterr().err

    checkpoint = tmp_path / "p.pt.checkpoint"
    kept = checkpoint.read_bytes()
    checkpoint.write_bytes(kept[: len(kept) // 2])
    assert call(monkeypatch, prior_train, *flags) == 2
    assert "p.pt.checkpoint: damaged" in capsys.readouterr().err
    checkpoint.write_bytes(kept)

    assert call(monkeypatch, prior_train, *flags[:-4], "--precision", "bf16") == 0
    said = capsys.readouterr().out
    assert "resumed after update 2" in said and "held out: " in said and "2.png" in said
    assert not (tmp_path / "p.pt.checkpoint").exists()
    with Image.open(tmp_path / "p.pt.png") as image:
        assert image.size[0] > 500
    prior = load_prior(out)
    assert [prior.tiled] + [m.tiled for m in measured] == [True, True]  # measured as it is used
    assert (prior.channels, prior.size, prior.multiple, prior.low, prior.high) == (3, 48, 8, -1, 1)
    sources = [item["source"] for item in prior.facts["items"]]
    assert sources == [str(folder / "0.png"), str(folder / "1.png")]  # not the one held out
    saved = torch.load(out, weights_only=True)
    rows = saved["denoising"]
    assert len(rows) == len(prior_train.TEST_LEVELS)
    for row in rows:  # noise of sigma in a range of width 2
        assert row["noisy"] == pytest.approx(20 * np.log10(2 / row["sigma"]), abs=0.5)
        assert f"{row['prior']:.2f}" in said

    before = out.read_bytes()
    assert call(monkeypatch, prior_train, *flags) == 0
    assert "--fresh" in capsys.readouterr().out and out.read_bytes() == before

    with monkeypatch.context() as patch:  # trained again, and interrupted
        patch.setattr(Training, "update", interrupting)
        assert call(patch, prior_train, *flags, "--fresh") == 130
    assert "without --fresh to continue" in capsys.readouterr().err
    assert out.read_bytes() == before
    assert call(monkeypatch, prior_train, *flags) == 0
    assert "resumed after update 2" in capsys.readouterr().out
    assert out.read_bytes() != before and not checkpoint.exists()


def test_embedded_images_are_none_that_the_scripts_report(monkeypatch):
    assert not {"astronaut", "coffee", "chelsea"} & {*prior_train.PHOTOGRAPHS}
    images, held_out, facts = prior_train.read(small("images"))
    assert len(images) == 10 and all(x.shape[0] == 3 for x in (*images, held_out))
    assert all(x.min() >= -1 and x.max() <= 1 for x in images)
    images, held_out, facts = prior_train.read(small("ct"))
    assert [f["source"] for f in facts] == ["pydicom's J2K_pixelrep_mismatch.dcm"]
    assert facts == [ct_data.load_slice(None, "skull", None).facts]
    assert held_out.shape == (1, 128, 128)
    assert images[0].min() == 0 and images[0].max() == 1


def test_the_embedded_scan_is_the_training_scan_and_its_end_is_held_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images, held_out, facts = prior_train.read(small("mri"))
    assert facts == [mri_data.training_scans()[0].facts]
    assert images[0].shape == (2, 85, 128) and held_out.shape == (2, 43, 128)
    whole = torch.cat((images[0], held_out), 1)
    modulus = whole.square().sum(0).sqrt()
    assert modulus.max() == pytest.approx(1, abs=1e-6)
    pixels = pydicom.dcmread(get_testdata_file("MR_small.dcm")).pixel_array
    truth = resize(pixels.astype(float), (128, 128), order=1)
    inside = modulus.numpy() > 0  # the maps' support
    error = np.abs(modulus.numpy() - truth / truth.max())[inside]
    assert np.median(error) < 0.005 and inside.mean() > 0.9


@pytest.mark.parametrize("flags, facts", [
    (("images", "--minutes", 0), "--minutes 0: expected a number above 0"),
    (("images", "--size", 36), "--size 36: expected a multiple of 8"),
    (("images", "--width", 40), "--width 40: expected a multiple of 32"),
    (("images", "--batch", 0), "--batch 0: expected"),
    (("images", "--lr", -1), "--lr -1: expected"),
    (("images", "--ema-decay", 1), "--ema-decay 1"),
    (("images", "--data", "absent"), "--data absent: expected a folder"),
    (("images", "--out", "absent/p.pt"), "--out absent/p.pt: expected a file to write"),
])  # fmt: skip
def test_bad_values_end_in_one_line(flags, facts, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    refused(monkeypatch, capsys, tmp_path, prior_train, flags, re.escape(facts))


def test_a_folder_of_one_file_is_refused(tmp_path, monkeypatch, capsys):
    folder = write_pictures(tmp_path / "data", number=1)
    flags = ("images", "--data", folder, "--out", tmp_path / "p.pt")
    refused(monkeypatch, capsys, tmp_path, prior_train, flags, "two files or more, got 1")


def test_settings_that_decide_the_weights_are_in_the_checkpoint():
    unimportant = {"data", "out", "device", "precision", "deterministic", "fresh"}
    fields = {f.name for f in dataclasses.fields(Args)}
    assert set(prior_train.settings_of(small(), [])) - {"images"} == fields - unimportant
