"""What must never end a folder's other items: figures without a value, failures, what cannot run."""

import csv
import json
import math
import re
import typing

import numpy as np
import pytest
import running
import skimage.data
import torch
from PIL import Image

import aseqdip_deblurring
import aseqdip_denoising
import aseqdip_inpainting
from baselines import NAMES, find
from utils import metrics
from utils.figures import percent
from utils.folder import finite
from utils.results import grey_limits, oracle_is_better
from utils.tables import shown

TINY = ["--K", "2", "--width", "4", "--depth", "2", "--device", "cpu"]
PIXELS = skimage.data.astronaut()[60:108, 190:238]


@pytest.fixture
def pictures(tmp_path):
    """Fill a folder with a black picture and a good one."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(np.zeros_like(PIXELS)).save(folder / "a_black.png")
    Image.fromarray(PIXELS).save(folder / "b_good.png")
    return folder


@pytest.mark.parametrize(
    ("task", "script"),
    [("denoising", aseqdip_denoising), ("inpainting", aseqdip_inpainting)],
)  # fmt: skip
def test_a_black_picture_has_no_nmse_and_the_next_is_done(
    task, script, pictures, monkeypatch, capsys
):
    out = pictures.parent / "out"
    assert running.call(monkeypatch, script, "--data", pictures, "--out", out, *TINY) == 0
    said = running.squeezed(capsys.readouterr().out)
    assert "NMSE -" in said and "== 2 of 2 done, 0 failed" in said
    black, good = (running.run_folder(out, task, item) for item in ("a_black", "b_good"))
    text = (black / "metrics.json").read_text()
    assert json.loads(text)["nmse_final"] is None and "NaN" not in text and "Infinity" not in text
    psnrs = [json.loads((f / "metrics.json").read_text())["psnr_final"] for f in (black, good)]
    if None not in psnrs:
        mean, std = np.mean(psnrs), np.std(psnrs, ddof=1)
        assert f"| aseqdip | 2 | {mean:.2f} \N{PLUS-MINUS SIGN} {std:.2f} |" in said
    else:  # inpainting's black picture has no error
        assert f"| aseqdip | 2 | {psnrs[1]:.2f} (n = 1) |" in said
    misfits = [json.loads((f / "metrics.json").read_text())["misfit_final"] for f in (black, good)]
    missed = np.mean([misfit for misfit in misfits if misfit is not None])
    assert f"| {percent(missed)} |" in said


def test_an_item_that_fails_in_a_way_nobody_foresaw_does_not_end_the_rest(
    pictures, monkeypatch, capsys
):
    load = aseqdip_denoising.load

    def broken(args, path):
        if path.stem == "a_black":
            raise ZeroDivisionError("nobody foresaw this\nand a second line")
        return load(args, path)

    monkeypatch.setattr(aseqdip_denoising, "load", broken)
    flags = ["--data", pictures, "--out", pictures.parent / "out", "--method", "wavelet", *TINY]
    assert running.call(monkeypatch, aseqdip_denoising, *flags) == 1
    said = capsys.readouterr()
    assert "== 1 of 2 done, 1 failed" in said.out
    assert re.search(r"  failed: \S*a_black.png: nobody foresaw this\n", said.out)
    assert running.metrics(
        running.run_folder(pictures.parent / "out", "denoising", "b_good", "wavelet")
    )


def test_noise_that_cannot_be_estimated_is_a_dash_and_methods_that_need_it_say_so(
    pictures, monkeypatch, capsys
):
    black, out = pictures / "a_black.png", pictures.parent / "out"
    flags = ["--data", black, "--measured", "--out", out, *TINY]
    assert running.call(monkeypatch, aseqdip_denoising, *flags) == 0
    assert "noise of standard deviation - of 255" in capsys.readouterr().out
    assert running.metrics(running.run_folder(out, "denoising", "a_black"))["sigma"] is None
    assert running.call(monkeypatch, aseqdip_denoising, *flags, "--method", "nlm") == 2
    assert "give it with --sigma" in capsys.readouterr().err


def test_of_all_methods_those_that_cannot_run_are_named_and_the_status_is_0(
    pictures, monkeypatch, capsys
):
    script, out = aseqdip_denoising, pictures.parent / "out"
    monkeypatch.setattr(
        script, "baselines",
        lambda args: {"wavelet": {}, "bm3d": {}, "ref_guided_dip": {}},
    )  # fmt: skip
    monkeypatch.setattr("utils.methods.importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(script.Args, "reference", None, raising=False)
    flags = ["--data", pictures / "b_good.png", "--out", out, *TINY]
    assert running.call(monkeypatch, script, *flags, "--method", "all") == 0
    said = running.squeezed(capsys.readouterr().out)
    assert "not run: the package bm3d is not installed" in said and "| bm3d | not run |" in said
    (folder,) = out.glob("denoising/comparison/b_good/*")
    assert "bm3d not run: the package" in (folder / "table.md").read_text()
    with open(folder / "table.csv", newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert rows["bm3d"]["not_run"] and rows["ref_guided_dip"]["not_run"].startswith("needs prior")
    assert rows["wavelet"]["psnr_final"] and not rows["wavelet"]["not_run"]
    assert running.call(monkeypatch, script, *flags, "--method", "bm3d") == 2
    assert "bm3d: the package bm3d is not installed" in capsys.readouterr().err


def test_an_image_with_nan_is_no_result(pictures, monkeypatch, capsys):
    def broken(y, A, net=None, *, sigma, callback=None):
        return torch.full_like(y, math.nan)

    method = find("wavelet")
    monkeypatch.setattr(
        "baselines.wavelet.METHOD", type(method)("wavelet", "w", broken, takes=("sigma",))
    )
    flags = ["--data", pictures, "--out", pictures.parent / "out", "--method", "wavelet", *TINY]
    assert running.call(monkeypatch, aseqdip_denoising, *flags) == 1
    assert "== 0 of 2 done, 2 failed" in capsys.readouterr().out
    assert not list(pictures.parent.glob("out/*/*/*/*/metrics.json"))


def test_psnr_where_it_is_not_defined():
    x, everything = torch.ones(1, 4, 5), torch.ones(4, 5, dtype=torch.bool)
    assert metrics.psnr(x, x, everything, 1.0) == math.inf
    assert math.isnan(metrics.psnr(x, 0 * x, everything, 0.0))
    assert math.isnan(metrics.psnr(math.inf * x, x, everything, 1.0))
    assert math.isnan(metrics.psnr(x, x, ~everything, 1.0))


def test_figures_are_written_so_that_json_and_people_can_read_them():
    record = {"a": math.nan, "b": [1.0, math.inf], "c": {"d": -math.inf}, "e": "nan", "f": 3}
    found = finite(record)
    assert found == {"a": None, "b": [1.0, None], "c": {"d": None}, "e": "nan", "f": 3}
    assert [shown(v, 2) for v in (None, math.nan, math.inf, 2.345)] == ["-", "-", "-", "2.35"]
    black, white = grey_limits({"truth": np.zeros((3, 3)), "final": np.zeros((3, 3))})
    assert black == 0 < white


OUT_OF_RANGE = [
    ("tv", "max_iter", "-10", "of at least 1"), ("tv", "lambda_tv", "0", "above 0"),
    ("nlm", "patch_size", "0", "of at least 1"), ("nlm", "h_per_sigma", "-1", "above 0"),
    ("split_dip", "share", "0.7", "at most 0.5"), ("sgld_dip", "burn_in", "1.5", "at most 1"),
    ("rethinking_dip", "ste_decay", "1", "below 1"), ("es_dip", "alpha", "1", "below 1"),
    ("vanilla_dip", "lr", "-0.1", "above 0"), ("wavelet", "levels", "0", "of at least 1"),
    ("es_dip", "window", "1", "of at least 2"), ("tv_dip", "lambda_tv", "nan", "finite"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "setting", "value", "expected"), OUT_OF_RANGE)
def test_a_setting_out_of_its_range_is_refused_before_the_run(
    method, setting, value, expected, pictures, monkeypatch, capsys
):
    flags = ["--data", pictures, "--out", pictures.parent / "out", "--method", method, *TINY]
    flags += ["--set", f"{setting}={value}"]
    facts = f"--set {setting}={value}: expected .*{expected}"
    running.refused(monkeypatch, capsys, pictures.parent, aseqdip_denoising, flags, facts)


def test_every_number_that_can_be_set_has_a_range_and_a_default_within():
    for name in NAMES:
        method = find(name)
        hints = typing.get_type_hints(method.function, include_extras=True)
        for setting, value in method.settings.items():
            if setting in ("seed", "steps") or not isinstance(value, (int, float)):
                continue
            assert typing.get_origin(hints[setting]) is typing.Annotated, (name, setting)
            assert value in typing.get_args(hints[setting])[1], (name, setting)


@pytest.mark.parametrize("words", [("--data", ""), ("--data=",), ("--out", "")])
def test_an_empty_value_is_no_folder(words, pictures, monkeypatch, capsys):
    monkeypatch.chdir(pictures)
    with pytest.raises(SystemExit) as end:
        running.call(monkeypatch, aseqdip_denoising, *words, *TINY)
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {words[0].rstrip('=')}: got an empty value")
    assert len(list(pictures.iterdir())) == 2


def test_the_oracle_is_never_below_the_image_of_a_rule(pictures, monkeypatch):
    out = pictures.parent / "out"
    flags = ["--data", pictures / "b_good.png", "--out", out, "--stop", "holdout", "--N", 1]
    flags += [*TINY, "--K", 40, "--log-every", 100, "--lr", 0.02]
    assert running.call(monkeypatch, aseqdip_denoising, *flags) == 0
    found = running.metrics(running.run_folder(out, "denoising", "b_good"))
    assert found["psnr_oracle"] >= found["psnr_stopped"]
    assert found["step_stopped"] < 40  # so it is not logged
    assert found["step_oracle"] in (found["step_stopped"], 40)
    assert oracle_is_better(found) == (found["psnr_oracle"] > found["psnr_stopped"])


def test_a_missing_file_of_weights_says_where_to_get_it(pictures, monkeypatch, capsys):
    flags = ["--data", pictures, "--out", pictures.parent / "out", "--bkse-weights", "no.pth"]
    for words in (["--blur", "bkse"], flags[4:]):
        assert running.call(monkeypatch, aseqdip_deblurring, *flags[:4], *words, *TINY) == 2
        assert "https://github.com/VinAIResearch" in capsys.readouterr().err
