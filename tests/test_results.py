"""The tables of docs/results.md, the pictures of the pages, and Split DIP without its ingredients."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from running import call
from skimage.transform import radon

from baselines import split_dip
from models.unet import UNet
from operators.downsample import Downsample
from operators.radon import Radon
from scripts import results, score_real, take_picture
from scripts.reporting import records
from scripts.reporting.data import Run, setting_label, setting_of
from scripts.reporting.records import without_folders
from scripts.tasks import SCRIPTS
from studies import ingredients
from utils.errors import InputError


def write_run(out, variant, task, name, item, psnr, settings, seed=0, **more):
    folder = out / variant / task / name / item / f"run{seed}{settings}"
    folder.mkdir(parents=True)
    figures = {"psnr_input": 20.0, "ssim_input": 0.5, "psnr_final": psnr, "ssim_final": 0.9}
    metrics = {"task": task, "method": name, "item": item, "device": "cpu", "seconds": 60.0}
    metrics |= {"images": ["input", "final"], **figures, **more}
    config = {"settings": {"seed": seed, **settings}, "flags": {}, "versions": {}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "config.json").write_text(json.dumps(config | {"command": "c", "commit": "d"}))
    return folder


def test_pictures_are_averaged_and_paired(tmp_path):
    found = {"split_dip": (30.0, 31.0, 35.0), "tv": (28.0, 30.0, 31.0), "nlm": (27.0, None, None)}
    for name, values in found.items():
        for item, psnr in zip("abc", values):
            if psnr is not None:
                write_run(tmp_path, "best", "denoising", name, item, psnr, {"sigma": 25.0})
    write_run(tmp_path, "best", "denoising", "split_dip", "a", 32.0, {"sigma": 25.0}, seed=1)
    text = results.tables(results.read(tmp_path))["denoising"]
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if "|" in line}
    # a counts once, with the mean of its two seeds
    assert "32.33 ± 2.31 / 0.900" in rows["**best: Split DIP**"]
    assert "`best` on a with 2 seeds: 31.00 ± 1.41 dB." in text and "`best` on b" not in text
    # 3, 1 and 4 dB: their mean, and the standard deviation 1.528 over the root of 3
    assert "29.67 ± 1.53" in rows["TV"] and "+2.67 ± 0.88" in rows["TV"]
    assert "| 1 " in rows["non-local means"] and "+4.00" in rows["non-local means"]
    assert "20.00" in rows["direct image"]
    # The image before the last step is a row where that step changed a figure.
    for name, psnr in (("tv_dip", 25.0), ("vanilla_dip", 27.0)):
        before = {"psnr_unfinished": 25.0, "ssim_unfinished": 0.9}
        write_run(tmp_path, "best", "denoising", name, "a", psnr, {"sigma": 25.0}, **before)
    text = results.tables(results.read(tmp_path))["denoising"]
    assert "before the last step (Vanilla DIP)" in text and "step (TV-DIP)" not in text


def test_scans_are_columns_and_seeds_one_cell(tmp_path):
    for seed, psnr in enumerate((30.0, 31.0)):
        write_run(tmp_path, "best", "mri", "split_dip", "a", psnr, {"accel": 4}, seed)
    write_run(tmp_path, "paper", "mri", "aseqdip", "b", 25.0, {"accel": 8})
    for item in "ab":  # the direct image once more
        write_run(
            tmp_path, "best", "mri", "zero_filled", item, 20.0, {"accel": 4 if item == "a" else 8},
            ssim_final=0.5,
        )  # fmt: skip
    text = results.tables(results.read(tmp_path))["mri"]
    assert "a, 4x" in text and "b, 8x" in text and "aSeqDIP, paper" in text
    assert "30.50 ± 0.71, 2 seeds / 0.900" in text
    assert "zero-filled" not in text
    # Methods may have the same figures; a last step that changes nothing is no row.
    for name in ("cg_sense", "tv"):
        more = {"psnr_unfinished": 27.0, "ssim_unfinished": 0.9}
        write_run(tmp_path, "best", "mri", name, "a", 27.0, {"accel": 4}, **more)
    text = results.tables(results.read(tmp_path))["mri"]
    assert "| CG-SENSE" in text and "| TV" in text and "step (TV)" not in text


def test_noise_makes_another_column(tmp_path):
    write_run(tmp_path, "best", "ct", "split_dip", "a", 30.0, {"views": 30})
    write_run(tmp_path, "best", "ct", "split_dip", "a", 25.0, {"views": 30}, 1, photons=20000.0)
    head, _, *lines = results.tables(results.read(tmp_path))["ct"].splitlines()
    assert [cell.strip() for cell in head.split("|")[2:4]] == [
        "a, 30 views", "a, 30 views, 20000 photons",
    ]  # fmt: skip
    assert [cell.strip()[:5] for cell in lines[-1].split("|")[2:4]] == ["30.00", "25.00"]


def test_the_best_with_noise_is_the_mean_of_two_methods(tmp_path):
    write_run(tmp_path, "best", "ct", "split_dip", "a", 30.0, {"views": 30})
    for name, psnr in (("tv", 24.0), ("split_dip", 25.0), ("aseqdip_split", 26.0)):
        write_run(tmp_path, "best", "ct", name, "a", psnr, {"views": 30}, 1, photons=20000.0)
    without, line = results.summary(results.read(tmp_path))
    assert without.best == ("Split DIP", 30.0)
    assert line.best == ("aSeqDIP + Split DIP", 26.0)
    assert line.classical == ("TV", 24.0) and results.signed(line.gain) == "+2.00"
    text = results.tables(results.read(tmp_path))["ct"]
    assert (
        "**Split DIP, best without noise**" in text
        and "**aSeqDIP + Split DIP, best with noise**" in text
    )


def test_the_summary_compares_means_of_the_same_items(tmp_path, monkeypatch, capsys):
    found = {
        ("best", "split_dip"): (30.0, 31.0), ("best", "tv"): (28.0, 30.0), ("best", "nlm"): (35.0, None),
        ("paper", "aseqdip"): (25.0, 26.0), ("paper", "vanilla_dip"): (40.0, 40.0),
        ("full width", "split_dip"): (31.0, 33.0), ("full width", "tv"): (50.0, 50.0),
    }  # fmt: skip
    for (variant, name), values in found.items():
        for item, psnr in zip("ab", values):
            if psnr is not None:
                write_run(tmp_path, variant, "denoising", name, item, psnr, {"sigma": 25.0})
    write_run(tmp_path, "best", "ct", "tv", "c", 30.0, {"views": 18})  # without the best method
    (line,) = results.summary(results.read(tmp_path))
    assert (line.items, line.direct, line.classical) == (2, 20.0, ("TV", 29.0))
    assert (line.paper, line.best) == (25.5, ("Split DIP", 30.5))
    assert results.signed(line.gain) == "+1.50 ± 0.50"
    assert line.full_width == 32.0
    picture = tmp_path / "summary.png"
    assert call(monkeypatch, results, tmp_path, "--figure", picture) == 0
    assert capsys.readouterr().out.startswith("## Summary") and picture.stat().st_size > 5000


def test_runs_without_any_are_told(tmp_path, monkeypatch, capsys):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    told = {"": "no finished runs", "none": "no such", "other.csv": "expected the CSV file"}
    for name, message in told.items():
        assert call(monkeypatch, results, tmp_path / name) == 2
        assert capsys.readouterr().err.startswith(f"error: {tmp_path / name}: {message}")


def test_runs_are_kept_and_fill_a_page(tmp_path, monkeypatch, capsys):
    out, kept, page = tmp_path / "out", tmp_path / "runs.csv", tmp_path / "page.md"
    for name, psnr in (("split_dip", 30.123456), ("tv", 28.0)):
        facts = {"psnr_unfinished": 29.0, "ssim_unfinished": 0.8, "psnr_oracle": 99.0}
        write_run(out, "best", "denoising", name, "a, b", psnr, {"sigma": 25.0}, **facts)
    assert call(monkeypatch, results, out, "--record", kept) == 0
    first = records.read(kept)
    assert [record.method for record in first] == ["split_dip", "tv"]
    assert first[0].figures["psnr_final"] == 30.1235 and first[0].item == "a, b"
    assert first[0].facts["commit"] == "d" and "psnr_oracle" not in first[0].figures
    # Runs that were made again take the place of the old ones, the others stay.
    write_run(tmp_path / "again", "best", "denoising", "tv", "a, b", 29.0, {"sigma": 25.0})
    assert call(monkeypatch, results, tmp_path / "again", "--record", kept) == 0
    assert [r.figures["psnr_final"] for r in records.read(kept)] == [30.1235, 29.0]
    page.write_text("before\n<!-- table: denoising -->\nold\n<!-- end -->\nafter\n")
    assert call(monkeypatch, results, kept, "--page", page) == 0
    text = page.read_text()
    assert text.startswith("before\n<!-- table: denoising -->") and text.endswith("-->\nafter\n")
    assert "old" not in text and "30.12 / 0.900" in text and "+1.12" in text
    assert results.filled(text, results.tables(records.read(kept))) == text
    for wrong, told in (
        ("<!-- table: mri -->\n<!-- end -->\n", "there are summary, denoising"),
        ("no marks", "the page has 0"),
        ("<!-- table: summary --> <!-- table: denoising -->\n<!-- end -->\n", "and 1 of `<!-- end"),
    ):
        page.write_text(wrong)
        assert call(monkeypatch, results, kept, "--page", page) == 2
        assert told in capsys.readouterr().err and page.read_text() == wrong


def test_two_runs_that_nothing_tells_apart_are_refused(tmp_path, monkeypatch, capsys):
    for K, psnr in ((40, 30.0), (200, 20.0)):
        write_run(tmp_path, "best", "denoising", "split_dip", "a", psnr, {"sigma": 25.0, "K": K})
    assert call(monkeypatch, results, tmp_path) == 2
    assert "two runs of one method on one problem with one seed" in capsys.readouterr().err


def test_a_sampler_s_seed_is_a_seed(tmp_path):
    for seed, psnr in ((0, 30.0), (1, 31.0)):
        own = {"seed": seed, "n_steps": 20}
        settings = {"views": 18, "hyperparameters": own}
        folder = write_run(
            tmp_path, "best", "ct", "dds", "a", psnr, settings, seed, hyperparameters=own
        )
        config = json.loads((folder / "config.json").read_text())
        del config["settings"]["seed"]  # which only a run that fits weights has there
        (folder / "config.json").write_text(json.dumps(config))
    assert [record.seed for record in results.read(tmp_path)] == [0, 1]


def test_a_command_is_kept_without_folders():
    command = "python a.py --out /home/me/o --data=/home/me/a.npy --run=b --prior /p.pt --hiar 0.1"
    assert without_folders(command) == "python a.py --data=a.npy --prior p.pt --hiar 0.1"


def test_a_picture_comes_small_with_its_figures_and_without_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(take_picture, "IMAGES", tmp_path)
    folder = write_run(tmp_path, "best", "mri", "tv", "a", 30.0, {})
    config = json.loads((folder / "config.json").read_text())
    config["command"] = "python aseqdip_mri.py --data /home/me/scan.npy --out /home/me/out --K 3"
    (folder / "config.json").write_text(json.dumps(config))
    noise = np.random.default_rng(0).integers(0, 256, (500, 800, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "comparison.png")
    more = tmp_path / "more.json"
    more.write_text('{"psnr_nlm": 29.0}')
    assert call(monkeypatch, take_picture, folder, "shown", "--more", more) == 0
    assert 100_000 < (tmp_path / "shown.png").stat().st_size <= take_picture.LARGEST
    record = json.loads((tmp_path / "shown.json").read_text())
    assert (record["psnr_final"], record["psnr_nlm"]) == (30.0, 29.0)
    assert record["command"] == "python aseqdip_mri.py --data scan.npy --K 3"
    assert call(monkeypatch, take_picture, tmp_path, "shown") == 2


def test_the_picture_of_a_comparison_comes_with_the_psnr_of_each_method(tmp_path, monkeypatch):
    monkeypatch.setattr(take_picture, "IMAGES", tmp_path)
    folder = write_run(tmp_path, "best", "mri", "tv", "a", 30.0, {})
    compared = tmp_path / "compared"
    compared.mkdir()
    Image.new("RGB", (40, 40)).save(compared / "comparison.png")
    (compared / "table.csv").write_text(
        "method,psnr_final,psnr_stopped,steps\nzero-filled,20.0,,\ntv,30.0,,0\ndip,31.0,32.0,9\n"
        "dps,,,\n"
    )
    file = compared / "comparison.png"
    assert call(monkeypatch, take_picture, folder, "shown", "--file", file) == 0
    record = json.loads((tmp_path / "shown.json").read_text())
    assert (record["psnr_tv"], record["psnr_dip"]) == (30.0, 32.0)
    assert not {"psnr_zero-filled", "psnr_dps"} & set(record)


@pytest.mark.parametrize("task", SCRIPTS)
def test_what_is_left_out_is_put_back(task):
    names = ("part", "classical", "norm", "MEMORY", "orientations")
    before = [getattr(split_dip, name) for name in names]
    changed = set()
    for variant in ingredients.variants(task):
        with ingredients.left_out(variant) as settings:
            now = [getattr(split_dip, name) for name in names]
        changed |= {name for name, a, b in zip(names, before, now) if a is not b}
        assert settings in ({}, {"parts": 1}, {"members": 1}, {"data_weight": 1.0})
        assert [getattr(split_dip, name) for name in names] == before
    assert {"norm", "MEMORY"} <= changed


def test_the_direct_image_of_a_small_picture_has_no_holes():
    A, x = Downsample((3, 24, 24), 4, "average"), torch.full((1, 3, 24, 24), 0.5)
    unseen = (torch.rand(6, 6, generator=torch.Generator().manual_seed(0)) < 0.3).expand(3, 6, 6)
    assert unseen.any()
    assert ingredients.direct(A(x), A, 10, unseen).allclose(x)


def test_split_dip_runs_on_direct_images():
    A = Radon((24, 24), torch.arange(6, dtype=torch.float64))
    y = A(torch.rand(1, 1, 24, 24, generator=torch.Generator().manual_seed(0)))
    with ingredients.left_out("the classical image: the direct one") as settings:
        net = UNet(1, 1, 4, 2, 0.02, torch.Generator().manual_seed(0))
        x = split_dip.split_dip(y, A, net, parts=2, start_iter=5, steps=2, **settings)
    assert x.shape == (1, 1, 24, 24) and x.isfinite().all()


def test_without_held_out_measurements_nothing_is_unseen():
    y = torch.rand(1, 4, 8, 8)
    A = SimpleNamespace(out_shape=(4, 8, 8))
    with ingredients.left_out("held-out measurements"):
        part = split_dip.part(y, A, 0.2, None, 0.5, torch.Generator())
    assert part.left_out is None and part.unseen.shape == A.out_shape and not part.unseen.any()
    assert torch.equal(part.measured, y) and torch.equal(part.target, y)


def test_what_is_left_out_is_measured_anew_with_other_settings(tmp_path, monkeypatch, capsys):
    measured = []
    monkeypatch.setattr(
        ingredients, "measured", lambda *a: measured.append(a[2:]) or {"psnr": 20.0, "ssim": 0.5}
    )
    flags = ["--sample", "face", "--resize", "48", "--out", str(tmp_path), "--width", "4"]
    n = len(ingredients.variants("denoising"))
    for more, expected in (([], n), ([], n), (["--K", "3"], 2 * n), (["--data-seed", "2"], 3 * n),
                           (["--set", "lr=0.01"], 4 * n)):  # fmt: skip
        ingredients.study("denoising", [*flags, *more])
        assert len(measured) == expected, more
    assert measured[-1][0].settings["lr"] == 0.01
    capsys.readouterr()
    log = tmp_path / "ingredients.csv"
    log.write_text("task,problem,left_out,psnr,ssim\n")
    with pytest.raises(InputError, match="of an earlier version; move it away"):
        ingredients.study("denoising", flags)


def test_a_blurs_noise_is_in_its_setting(tmp_path):
    for sigma, psnr in ((0.0, 40.0), (12.75, 20.0), (2.55, 30.0)):
        facts = {"blur": "camera blur", "sigma": sigma}
        write_run(tmp_path, "best", "deblurring", "split_dip", f"{psnr}", psnr, {}, **facts)
    titles = [line.title for line in results.summary(results.read(tmp_path))]
    noisy = [f"Deblurring: camera blur, sigma {sigma}" for sigma in (2.55, 12.75)]
    assert titles == ["Deblurring: camera blur", *noisy]
    assert setting_label("bkse, sigma 2.55") == "BKSE blur, sigma 2.55"


def test_sinograms_of_other_views_are_other_problems():
    labels = [
        setting_label(setting_of(Run(ROOT, {"task": "ct", "measured": True, "views": views}, {})))
        for views in (30, 60)
    ]
    assert labels == ["measured, 30 views, no truth", "measured, 60 views, no truth"]


def test_a_real_picture_is_scored_beside_its_reference(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    reference = rng.integers(50, 200, (40, 48), dtype=np.uint8)
    measured = reference + 16  # the centre of 24 x 32 is reconstructed, with half of that error
    for name, image in (("reference", reference), ("measured", measured)):
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / f"{name}.png")
    folder = tmp_path / "real" / "deblurring" / "tv" / "item" / "run"
    folder.mkdir(parents=True)
    x = (reference[8:32, 8:40] + 8) / 255
    x[0] = 0  # in the border
    np.save(folder / "reconstruction.npy", x.astype(np.float32))
    record = tmp_path / "real.json"
    flags = [tmp_path / "reference.png", "--measured", tmp_path / "measured.png"]
    other = tmp_path / "real" / "deblurring" / "vanilla_dip" / "item" / "run"
    other.mkdir(parents=True)
    np.save(other / "reconstruction.npy", x.astype(np.float32) + 0.1)
    drawn, draw = {}, score_real.comparison

    def spy(pictures, captions, truth, *more, **named):
        drawn.update(pictures=[*pictures], captions=captions, truth=truth, best=named["best"])
        return draw(pictures, captions, truth, *more, **named)

    monkeypatch.setattr(score_real, "comparison", spy)
    picture = tmp_path / "real.png"
    more = ["--border", 2, "--record", record, "--picture", picture, "--reference-title", "sharp"]
    assert call(monkeypatch, score_real, tmp_path / "real", *flags, *more) == 0
    found = json.loads(record.read_text())
    assert found["psnr_measured"] == pytest.approx(20 * np.log10(255 / 16), abs=1e-3)
    assert found["psnr_tv"] == pytest.approx(20 * np.log10(255 / 8), abs=1e-3)
    assert drawn["pictures"] == ["sharp", "measured", "Vanilla DIP", "TV"]
    assert (drawn["truth"], drawn["best"]) == ("sharp", "TV")
    assert drawn["captions"]["TV"] == f"{found['psnr_tv']:.2f} dB"
    assert picture.stat().st_size > 5000
    assert call(monkeypatch, score_real, tmp_path / "real", *flags, *more, "--omit", "tv") == 0
    assert drawn["pictures"] == ["sharp", "measured", "Vanilla DIP"]
    capsys.readouterr()
    for omitted in (["tv", "vanilla_dip"], ["tvv"]):
        omit = ["--omit", *omitted]
        assert call(monkeypatch, score_real, tmp_path / "real", *flags, *more, *omit) == 2
        assert "expected some of tv, vanilla_dip, and not all" in capsys.readouterr().err
    assert call(monkeypatch, score_real, tmp_path, *flags) == 2
    assert "no finished runs" in capsys.readouterr().err


def test_an_array_is_scored_in_its_own_range(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "real" / "ct" / "tv" / "item" / "run"
    folder.mkdir(parents=True)
    reference = np.linspace(-1, 4, 900, dtype=np.float32).reshape(30, 30)
    np.save(tmp_path / "reference.npy", reference)
    np.save(folder / "reconstruction.npy", reference[None, None] + 0.04)
    flags = [tmp_path / "real", tmp_path / "reference.npy"]
    assert call(monkeypatch, score_real, *flags) == 0
    assert "real, tv: 40.00 dB" in capsys.readouterr().out
    np.save(tmp_path / "reference.npy", reference[:20])
    assert call(monkeypatch, score_real, *flags) == 2
    assert "expected at least the shape (30, 30) of the" in capsys.readouterr().err


def test_a_slice_is_scored_by_views_that_it_was_not_made_of(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "real" / "ct" / "tv" / "item" / "run"
    folder.mkdir(parents=True)
    angles = np.arange(12) * 15.0
    truth = np.zeros((32, 32), dtype=np.float32)
    truth[10:22, 12:18] = 1
    views = radon(truth, angles, circle=False).T.astype(np.float32)
    np.save(tmp_path / "all.npy", views)
    np.save(tmp_path / "reference.npy", truth)
    np.save(folder / "reconstruction.npy", 0.9 * truth)
    np.save(folder / "angles.npy", angles[::4])
    flags = [tmp_path / "real", tmp_path / "reference.npy", "--sinogram", tmp_path / "all.npy"]
    assert call(monkeypatch, score_real, *flags) == 0
    (found,) = re.findall(r"tv: (\S+) % off the views", capsys.readouterr().out)
    assert float(found) == pytest.approx(10, abs=0.01)
    views[::4] = 7  # those that it was made of do not count
    np.save(tmp_path / "all.npy", views)
    assert call(monkeypatch, score_real, *flags) == 0
    assert f"tv: {found} % off the views" in capsys.readouterr().out
    np.save(folder / "angles.npy", angles)
    assert call(monkeypatch, score_real, *flags) == 2
    assert "tv got all of its views" in capsys.readouterr().err
    np.save(tmp_path / "all.npy", views[:-1])
    assert call(monkeypatch, score_real, *flags) == 2
    assert "11 views over 180 degrees are not at the angles that tv got" in capsys.readouterr().err


def test_the_page_of_results_is_that_of_its_runs():
    page = (ROOT / "docs" / "results.md").read_text()
    assert page.count("<!-- table: ") == page.count("<!-- end -->") > 0
    assert results.filled(page, results.tables(records.read(ROOT / "docs" / "runs.csv"))) == page
