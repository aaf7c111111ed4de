"""The report, against figures computed apart from it, and in a real browser."""

import html
import json
import re
import shutil

import numpy as np
import pytest
import skimage.data
from chromium import Browser
from PIL import Image
from running import as_process, call, run_folder, squeezed

import aseqdip_ct
import aseqdip_denoising
from scripts import report as script
from scripts.reporting.data import Cell, Material
from scripts.reporting.differences import differences
from scripts.reporting.page import embed, picture_side
from scripts.reporting.tables import signed

TINY = ["--width", "4", "--K", "10", "--log-every", "2", "--device", "cpu"]


def report(out):
    with pytest.MonkeyPatch.context() as patch:
        return call(patch, script, out)


def page_and_text(out):
    """Make the report; return its page without space between tags, and its text, not padded."""
    assert report(out) == 0
    page = re.sub(r">\s+<", "><", (out / "report" / "index.html").read_text())
    return page, squeezed((out / "report" / "report.md").read_text())


def read_run(folder):
    """Read a run folder, without looking at the others."""
    return Material(folder / "none").run(folder)


def line_of(text, start):
    """Return the cells of the one line of results that begins so."""
    lines = [line for line in text.splitlines() if line.startswith(f"| {start}")]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    (cells,) = [row for row in rows if len(row) == 11]
    return cells


def write_run(out, task="denoising", method="aseqdip", item="a", name="r", side=512, **facts):
    """Write a run folder by hand, as the paper's setting would leave it."""
    folder = out / "results" / task / method / item / name
    folder.mkdir(parents=True)
    settings = facts.pop("settings", {})
    flags = facts.pop("flags", {"data": "pictures"})
    figures = {
        "psnr_final": 30.0, "ssim_final": 0.9, "psnr_ema": 30.5, "psnr_oracle": 31.0,
        "step_oracle": 100, "psnr_input": 20.0, "ssim_input": 0.3,
    }  # fmt: skip
    metrics = {
        "task": task, "method": method, "item": item, "measured": False, "stop": "fixed",
        "sigma": 15.0, "seconds": 60.0, "steps": 4000, "quick": False, "device": "GPU",
        **({} if facts.get("measured") else figures), **facts,
    }  # fmt: skip
    settings = {
        "K": 2000, "N": 2, "lr": 1e-4, "lambda_ae": 1.0, "width": 64, "depth": 3, "stop": "fixed",
        "precision": "fp32", "seed": 0, "sigma": 15.0, **settings,
    }  # fmt: skip
    config = {
        "settings": settings, "flags": flags, "versions": {"torch": "9.9"}, "dirty": True,
        "commit": "0123456789abcdef",
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "config.json").write_text(json.dumps(config))
    Image.new("L", (side, side)).save(folder / "reconstruction.png")
    return folder


def write_plan(
    out, cells, name="table2_denoising", figure=None, settings=("sigma=15",), data="cbsd68",
    images=20, title="Table 2, denoising",
):  # fmt: skip
    """Write a plan of (setting, method, item, state, run folder, why); settings may have labels."""
    labels = settings if isinstance(settings, dict) else {s: s for s in settings}
    (out / "plan").mkdir(exist_ok=True)
    plan = {
        "table": name, "title": title, "task": "denoising", "quick": False,
        "note": "The noise is <ours>.", "paper_images": images,
        "settings": [{"name": s, "label": labels[s], "data": data} for s in labels],
        "methods": [{"name": m, "label": m.upper()} for m in dict.fromkeys(c[1] for c in cells)],
        "cells": [
            {
                "id": f"{name}/{setting}/{method}/{item}/seed0", "setting": setting,
                "method": method, "item": item, "seed": 0, "command": ["a.py", "--x", "<y>"],
                "run": None if run is None else str(run.relative_to(out)), "state": state,
                "why": why, "log": "logs/x.log" if state == "failed" else None,
            }
            for setting, method, item, state, run, why in cells
        ],
        "figure": figure,
    }  # fmt: skip
    (out / "plan" / f"{name}.json").write_text(json.dumps(plan))


# Figures


def test_means_deviations_and_differences_are_those_computed_by_hand(tmp_path):
    psnr, ssim = [30.0, 32.5, 31.0], [0.90, 0.95, 0.88]
    cells = []
    for item, p, s in zip("abc", psnr, ssim):
        run = write_run(tmp_path, item=item, psnr_final=p, ssim_final=s)
        cells.append(("sigma=15", "aseqdip", item, "done", run, None))
    write_plan(tmp_path, cells)
    page, text = page_and_text(tmp_path)
    mean, std = np.mean(psnr), np.std(psnr, ddof=1)
    row = line_of(text, "ASEQDIP")
    assert row[1:4] == [
        f"{mean:.2f} ± {std:.2f}", "31.51 ± 0.34", f"−{31.51 - mean:.2f}",
    ]  # fmt: skip
    assert row[4:7] == [
        f"{np.mean(ssim):.3f} ± {np.std(ssim, ddof=1):.3f}", "0.926 ± 0.021",
        f"−{0.926 - np.mean(ssim):.3f}",
    ]  # fmt: skip
    assert row[7:10] == ["3", "60 s", "2.4 min"]
    page = page.replace("\N{NO-BREAK SPACE}", " ")
    assert f"{mean:.2f} ± {std:.2f}" in page and "paper 31.51 ± 0.34" in page


def test_devices_stand_beside_the_times_where_they_differ(tmp_path):
    cells = []
    for method, device in (("aseqdip", "GPU"), ("tv", "cpu")):
        run = write_run(tmp_path, method=method, device=device)
        cells.append(("sigma=15", method, "a", "done", run, None))
    write_plan(tmp_path, cells)
    page, text = page_and_text(tmp_path)
    assert line_of(text, "ASEQDIP")[8] == "60 s on GPU" and "<div>cpu</div>" in page
    write_plan(tmp_path, cells[:1])
    assert line_of(page_and_text(tmp_path)[1], "ASEQDIP")[8] == "60 s"


def test_a_perfect_image_is_infinite_and_has_no_difference(tmp_path):
    run = write_run(tmp_path, psnr_final=None)
    write_plan(tmp_path, [("sigma=15", "aseqdip", "a", "done", run, None)])
    _, text = page_and_text(tmp_path)
    assert line_of(text, "ASEQDIP")[1:4] == ["infinite", "31.51 ± 0.34", ""]


def test_the_image_of_a_stopping_rule_is_the_result(tmp_path):
    write_run(tmp_path, psnr_stopped=29.0, ssim_stopped=0.8, step_stopped=7, stop="es_wmv")
    _, text = page_and_text(tmp_path)
    assert line_of(text, "aseqdip")[1] == "29.00"


def test_the_oracle_is_no_headline(tmp_path):
    write_run(tmp_path, psnr_final=30.0, psnr_oracle=33.33)
    page, text = page_and_text(tmp_path)
    results = page[page.index('class="results"') : page.index("Beside the results")]
    assert (
        "33.33" not in results and '<td data-label="oracle ◊" class="oracle">33.33 at 100' in page
    )
    assert "33.33" not in " ".join(line_of(text, "aseqdip (")) and "| 33.33 at 100 |" in text


def test_both_ct_columns_stand_beside_views(tmp_path):
    write_run(tmp_path, task="ct", views=18, psnr_final=30.0)
    page, text = page_and_text(tmp_path)
    row = line_of(text, "aseqdip")
    assert row[2:4] == ["34.88 ± 0.36 or 33.09 ± 0.39", "−4.88 or −3.09"]
    assert "which more views cannot cause" in page and "which more views cannot cause" in text


@pytest.mark.parametrize(
    ("value", "text"), [(1.234, "+1.23"), (-0.5, "−0.50"), (-0.001, "0.00"), (0.0, "0.00")]
)
def test_differences_carry_their_sign(value, text):
    assert signed(value, 2) == text


# What differs from the paper


def marks_of(tmp_path, number=2, setting="sigma=15", items=20, **facts):
    cells = []
    for index in range(items):
        folder = write_run(tmp_path, item=f"i{index}", **facts)
        run = read_run(folder)
        cells.append(Cell("c", setting, facts.get("method", "aseqdip"), f"i{index}", 0, run=run))
    return differences(cells, number)


def test_the_paper_s_own_setting_differs_in_nothing_but_the_unnamed_images(tmp_path):
    assert marks_of(tmp_path) == [
        "images of the user's choice: the paper's own 20 of CBSD68 are not named"
    ]


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"items": 6}, "6 images in place of 20"),
        ({"quick": True}, "--quick"),
        ({"side": 128}, "128x128 pixels in place of 512x512"),
        ({"flags": {"data": None}}, "a photograph inside scikit-image, not CBSD68"),
        ({"task": "mri", "flags": {"data": None}, "setting": "accel=4"}, "a simulated scan"),
        (
            {"task": "mri", "flags": {"data": "k.npy"}, "setting": "accel=4"},
            "not of a fastMRI file",
        ),
        ({"settings": {"K": 500}}, "K 500 in place of 2000"),
        ({"settings": {"N": 10}}, "N 10 in place of 2"),
        ({"settings": {"lambda_ae": 0.0}}, "lambda_ae 0 in place of 1"),
        ({"settings": {"width": 16}}, "a network of width 16; the default is 64"),
        ({"settings": {"clip": True}}, "clipped"),
        ({"settings": {"precision": "bf16"}}, "bf16"),
        ({"settings": {"stop": "es_wmv"}}, "stopped by the rule es_wmv"),
        ({"sigma": 25.0}, "the run has sigma=25"),
        (
            {
                "task": "inpainting",
                "setting": "ffhq_box_hiar=0.25",
                "number": 4,
                "settings": {"mask": "box", "hiar": 0.1},
            },
            "the run has hiar=0.1",
        ),
        (
            {"method": "tv_dip", "settings": {"hyperparameters": {"lambda_tv": 0.1}}},
            "lambda_tv 0.1 in place of 1",
        ),
        (
            {"method": "vanilla_dip", "settings": {"hyperparameters": {"steps": 100}}},
            "100 updates in place of 4000",
        ),
        (
            {"task": "ct", "setting": "views=18", "views": 18, "settings": {"z0": "fbp"}},
            "z_0 is the FBP",
        ),
        (
            {"method": "es_dip", "settings": {"hyperparameters": {"steps": 500}}},
            "500 updates at most",
        ),
        (
            {"method": "es_dip", "settings": {"lr": 5e-4, "hyperparameters": {"lr": 5e-4}}},
            "lr 0.0005 in place of 0.0001",
        ),
        ({"settings": {"damping": 0.1}}, "damping 0.1 in place of 1"),
        ({"number": None, "settings": {"damping": 0.1}}, "damping 0.1 in place of 1"),
        ({"task": "ct", "setting": "views=18", "views": 18, "photons": 1e5}, "100000 photons"),
        (
            {"task": "deblurring", "setting": "bkse", "blur": "camera blur: no BKSE weights given"},
            "camera blur in place of BKSE's network",
        ),
        (
            {"task": "deblurring", "setting": "bkse", "blur": "trajectory blur"},
            "trajectory blur in place of BKSE's network",
        ),
        ({"measured": True}, "there is no truth"),
    ],
)
def test_each_difference_is_told_from_what_the_run_recorded(facts, words, tmp_path):
    found = marks_of(tmp_path, **facts)
    assert any(words in text for text in found), found


def test_the_marks_of_a_run_that_a_script_made(tmp_path, monkeypatch):
    arguments = (
        "--method", "tv_dip", "--set", "lambda_tv=0.1", "--sample", "face", "--resize", "40",
        "--sigma", "15", "--K", "3", "--N", "2", "--width", "4", "--device", "cpu",
    )  # fmt: skip
    assert call(monkeypatch, aseqdip_denoising, *arguments, "--out", tmp_path / "results") == 0
    run = read_run(run_folder(tmp_path / "results", "denoising", "face", "tv_dip"))
    assert differences([Cell("c", "sigma=15", "tv_dip", "face", 0, run=run)], 2) == [
        "other images: the embedded sample, a photograph inside scikit-image, not CBSD68",
        "40x40 pixels in place of 512x512 (appendix C.6)",
        "a network of width 4; the default is 64",
        "6 updates in place of 4000",
        "lambda_tv 0.1 in place of 1",
        "1 image in place of 20",
    ]


def test_the_start_of_a_ct_run_is_marked(tmp_path, monkeypatch):
    arguments = ("--sample", "small", "--resize", "32", *TINY, "--out", tmp_path / "results")
    marks = {}
    for z0 in ("fbp", "adjoint"):
        assert call(monkeypatch, aseqdip_ct, *arguments, "--z0", z0, "--run", z0) == 0
        folder = tmp_path / "results" / "ct" / "aseqdip" / "small" / z0
        cell = Cell("c", "views=18", "aseqdip", "a", 0, run=read_run(folder))
        marks[z0] = differences([cell], 2)
    start = {"z_0 is the FBP, as in the public code; the text has A^T y"}
    assert set(marks["fbp"]) - set(marks["adjoint"]) == start


def test_what_has_no_network_is_not_marked_for_a_quick_one(tmp_path):
    (text,) = marks_of(tmp_path, method="tv", quick=True, steps=None)
    assert "not named" in text


def test_where_the_paper_gives_no_size_none_is_marked(tmp_path):
    run = read_run(write_run(tmp_path, side=128))
    cell = Cell("c", "ffhq", "aseqdip", "a", 0, run=run)
    assert differences([cell], 4, "ffhq", images=1) == [
        "images of the user's choice: the paper's own 20 of FFHQ are not named"
    ]
    found = marks_of(tmp_path / "blur", task="deblurring", setting="bkse", side=64, blur="BKSE")
    assert not any("pixels" in text for text in found)


def test_a_blur_by_bkse_is_the_paper_s(tmp_path):
    found = marks_of(tmp_path, task="deblurring", setting="bkse", blur="BKSE blur")
    assert len(found) == 1 and "not named" in found[0]


def test_settings_of_a_figure_vary_by_design(tmp_path):
    found = marks_of(tmp_path, number=None, settings={"lambda_ae": 0.5, "K": 5000})
    assert not any("in place" in text for text in found)


def test_marks_stand_in_the_row_or_where_they_hold(tmp_path):
    cells = []
    for setting, value, quick in (("sigma=15", 15.0, True), ("sigma=30", 30.0, False)):
        run = write_run(tmp_path, name=setting[-2:], sigma=value, quick=quick)
        cells.append((setting, "aseqdip", "a", "done", run, None))
    write_plan(tmp_path, cells, settings=("sigma=15", "sigma=30"))
    page, text = page_and_text(tmp_path)
    quick = re.search(r"\((\w)\) --quick", text)[1]
    common = re.search(r"\((\w)\) 1 image in place of 20", text)[1]
    first, second = (line for line in text.splitlines() if line.startswith("| ASEQDIP ("))
    assert f"({quick})" in first and f"({quick})" not in second
    assert f"({common})" in first and f"({common})" in second
    assert f'<sup class="marks">{quick}</sup>' in page


# What is missing


def test_what_was_not_run_or_failed_says_why(tmp_path):
    run = write_run(tmp_path)
    write_plan(
        tmp_path,
        [
            ("sigma=15", "dps", "a", "not run", None, "needs a pre-trained network"),
            ("sigma=15", "es_dip", "a", "failed", None, "out of memory"),
            ("sigma=15", "aseqdip", "a", "done", run, None),
            ("sigma=15", "aseqdip", "b", "waiting", None, None),
            ("sigma=15", "aseqdip", "c", "running", None, None),
        ],
    )
    page, text = page_and_text(tmp_path)
    for shown in (page, text):
        assert "not run: needs a pre-trained network" in shown
        assert "failed: out of memory (log: logs/x.log)" in shown
        assert "1 of 3 running" in shown and "1 of 3 waiting" in shown
        assert "5 runs: 1 done, 1 failed, 2 left, 1 not run" in shown
    assert line_of(text, "DPS†")[2] == "31.02 ± 0.25"
    assert "a.py --x '<y>'" in html.unescape(page)


def test_the_paper_s_methods_that_were_not_asked_for_stand_in_its_order(tmp_path):
    run = write_run(tmp_path)
    cells = [("sigma=15", m, "a", "done", run, None) for m in ("tv", "aseqdip", "vanilla_dip")]
    write_plan(tmp_path, cells)
    page, text = page_and_text(tmp_path)
    table = text[text.index("| Method ") :]
    names = re.findall(r"^\| ([^|]+?)(?: \(.*)? \|", table, re.MULTILINE)
    assert names[2:11] == [
        "DPS†", "VANILLA_DIP", "SGLD-DIP", "TV-DIP", "Rethinking DIP", "ES-DIP",
        "Self-Guided DIP", "ASEQDIP", "TV",
    ]  # fmt: skip
    assert line_of(text, "ES-DIP")[2] == "31.11 ± 0.23"
    assert line_of(text, "ES-DIP")[10] == "not run: not asked for"
    assert line_of(text, "DPS")[10] == "not run: needs a pre-trained score network"
    assert '<div class="status">not run: not asked for</div>' in page
    assert "3 runs: 3 done." in text  # they are no cells of ours
    for title, images in (("Figure 2", 20), ("Table 2, denoising", None)):
        write_plan(tmp_path, cells, title=title, images=images)
        text = page_and_text(tmp_path)[1]
        assert "ES-DIP" not in text and line_of(text, "ASEQDIP")[2] == ""
    assert "in place of 20" not in text  # of a plan that rebuilds nothing of the paper's


def test_supervised_networks_say_what_they_need(tmp_path):
    run = write_run(tmp_path, task="mri", accel=4)
    cells = [("accel=4", "aseqdip", "a", "done", run, None)]
    write_plan(tmp_path, cells, "table3", settings=("accel=4",), title="Table 3, supervised")
    row = line_of(page_and_text(tmp_path)[1], "E2E VarNet, 8000 scans†")
    assert row[2] == "34.89" and "needs a network trained on 8000 fastMRI scans" in row[10]


def test_a_launcher_killed_before_its_note_loses_nothing(tmp_path):
    run = write_run(tmp_path)
    write_plan(tmp_path, [("sigma=15", "aseqdip", "a", "running", run, None)])
    _, text = page_and_text(tmp_path)
    assert line_of(text, "ASEQDIP")[1] == "30.00" and "1 done" in text


def test_damaged_files_are_named_and_the_rest_is_shown(tmp_path):
    good, cut, foreign, gone, bare = (write_run(tmp_path, item=i) for i in "abcde")
    whole = (cut / "metrics.json").read_text()
    (cut / "metrics.json").write_text(whole[: len(whole) // 2])
    (foreign / "metrics.json").write_text('["no", "object"]')
    (gone / "metrics.json").unlink()
    (bare / "config.json").write_bytes(b"\xff\x00")
    (bare / "reconstruction.png").write_bytes(b"no picture")
    (good / "log.csv").write_text("step,psnr\n0,20\n2,")
    (bare / "log.csv").write_text("step,psnr\n0,twenty\n")
    cells = [
        ("sigma=15", "aseqdip", item, "done", run, None)
        for item, run in zip("abcde", (good, cut, foreign, gone, bare))
    ]
    write_plan(tmp_path, cells)
    (tmp_path / "plan" / "table3.json").write_text('{"table": "table3"}')
    page, text = page_and_text(tmp_path)
    for shown in (page, text):
        assert "results/denoising/aseqdip/b/r/metrics.json: damaged" in shown
        assert "results/denoising/aseqdip/c/r/metrics.json: damaged" in shown
        assert "results/denoising/aseqdip/e/r/config.json: damaged" in shown
        assert "results/denoising/aseqdip/e/r/log.csv: damaged" in shown
        assert "plan/table3.json: not a plan" in shown
    assert page.count("a damaged picture") == 1
    assert line_of(text, "ASEQDIP")[7] == "2" and "3 of 5 failed" in line_of(text, "ASEQDIP")[10]


@pytest.mark.parametrize("damage", ['"psnr_final": "30"', '"psnr_final": NaN', '"seconds": null'])
def test_figures_that_are_no_numbers_are_refused(damage, tmp_path):
    folder = write_run(tmp_path)
    name = damage.split(":")[0]
    text = re.sub(rf"{name}: [\d.]+", damage, (folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(text)
    material = Material(tmp_path)
    assert not material.tables and len(material.problems) == 1


def test_without_a_plan_runs_stand_by_task_and_configurations_apart(tmp_path):
    write_run(tmp_path, psnr_final=20.0)
    write_run(tmp_path, name="s", psnr_final=30.0, settings={"width": 16})
    write_run(tmp_path, item="b", psnr_final=22.0)
    write_run(tmp_path, method="comparison")  # no method
    unfinished = write_run(tmp_path, item="c")
    (unfinished / "metrics.json").unlink()
    material = Material(tmp_path)
    (table,) = material.tables
    assert list(table.settings.values()) == ["sigma 15"] and len(table.cells) == 3
    assert list(table.methods.values()) == ["aseqdip (width 16)", "aseqdip (width 64)"] or list(
        table.methods.values()
    ) == ["aseqdip (width 64)", "aseqdip (width 16)"]
    assert material.problems == [
        "results/denoising/aseqdip/c/r: no metrics.json, so the run is not finished"
    ]
    _, text = page_and_text(tmp_path)
    assert line_of(text, "aseqdip (width 64)")[1] == f"21.00 ± {np.std([20, 22], ddof=1):.2f}"
    assert line_of(text, "aseqdip (width 64)")[2] == "31.51 ± 0.34"


def test_a_task_that_the_paper_has_not_stands_beside_the_others(tmp_path):
    write_run(tmp_path, "superresolution", factor=4, psnr_final=22.5)
    write_run(tmp_path, "superresolution", "ugodit", factor=4, prior_measurements={})
    write_run(tmp_path, "superresolution", "ugodit_train", "faces")  # no reconstruction
    page, text = page_and_text(tmp_path)
    assert "## Super-resolution" in text and "### factor 4" in text and "ugodit_train" not in page
    assert line_of(text, "aseqdip (a)")[1:3] == ["22.50", ""]
    assert line_of(text, "ugodit† (a)")[1] == "30.00"
    assert "- (a) a task that the paper does not have" in text


def test_runs_of_no_plan_are_counted(tmp_path):
    run = write_run(tmp_path)
    write_run(tmp_path, item="b")
    write_plan(tmp_path, [("sigma=15", "aseqdip", "a", "done", run, None)])
    page, _ = page_and_text(tmp_path)
    assert "1 finished run under results/ belongs to none" in page


def test_a_figure_over_the_updates_has_the_panels_of_the_paper_s(tmp_path):
    cells = []
    settings = {
        "one": "of denoising / N is 1", "two": "of denoising / N is 2", "three": "of inpainting",
    }  # fmt: skip
    for index, setting in enumerate(settings):
        run = write_run(tmp_path, name=f"r{index}")
        (run / "log.csv").write_text(f"step,psnr\n0,9\n1,{20 + index}\n2,{30 + index}\n")
        cells.append((setting, "aseqdip", "a", "done", run, None))
    figure = {"kind": "curves", "file": "figures/fig10.png"}
    write_plan(tmp_path, cells, "fig10", figure, settings, title="Figure 10")
    page, text = page_and_text(tmp_path)
    first, second = page.split('<figure class="chart">')[1:]
    assert "<figcaption>of denoising</figcaption>" in first and "N is 2, 31.00 dB</text>" in first
    assert "of denoising: N is 1 ends at 30.00 dB, N is 2 ends at 31.00 dB" in first
    assert "<figcaption>of inpainting</figcaption>" in second
    assert "N is 2" not in second.partition("</figure>")[0]
    assert "ASEQDIP, 32.00 dB</text>" in second
    assert "The noise is &lt;ours&gt;." in page and "The noise is <ours>." in text
    assert "fig10.png" not in text  # it was not drawn
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "fig10.png").write_bytes(b"")
    assert "![Figure 10](../figures/fig10.png)" in page_and_text(tmp_path)[1]


def test_prior_data_are_marked_where_no_table_of_the_paper_is_rebuilt(tmp_path):
    run = write_run(tmp_path)
    cells = [("sigma=15", "aseqdip", "a", "done", run, None)]
    cells += [("sigma=15", "dps", "a", "not run", None, "no weights")]
    figure = {"kind": "pictures", "files": []}
    write_plan(
        tmp_path, cells, "visuals_denoising", figure, images=1, title="Figures 5 and 16, denoising"
    )
    text = page_and_text(tmp_path)[1]
    assert line_of(text, "DPS†")[1:4] == ["", "", ""] and "in place of 20" not in text


def test_runs_of_two_seeds_are_one_configuration(tmp_path):
    for seed, psnr in ((0, 30.0), (1, 32.0)):
        own = {"steps": 4000, "lambda_tv": 1.0, "seed": seed}
        write_run(
            tmp_path, method="tv_dip", name=f"s{seed}", psnr_final=psnr,
            settings={"seed": seed, "hyperparameters": own},
        )  # fmt: skip
    row = line_of(page_and_text(tmp_path)[1], "tv_dip (")
    assert row[1] == "31.00" and row[7] == "1 x 2 seeds"
    own = {"steps": 4000, "lambda_tv": 0.5, "seed": 0}
    write_run(tmp_path, method="tv_dip", name="t", settings={"hyperparameters": own})
    text = page_and_text(tmp_path)[1]
    assert "tv_dip (lambda_tv 0.5)" in text and "tv_dip (lambda_tv 1.0)" in text


def test_a_folder_that_holds_the_tasks_is_a_folder_of_results(tmp_path):
    write_run(tmp_path)
    row = line_of(page_and_text(tmp_path / "results")[1], "aseqdip (")
    assert row[1] == "30.00"


def test_drawn_figures_stand_with_their_notes_and_tables(tmp_path):
    folder = tmp_path / "figures" / "fig7_mri"
    folder.mkdir(parents=True)
    Image.new("RGB", (40, 20), "red").save(folder / "fig7.png")
    (folder / "table.csv").write_text("input,PSNR\n<b>,20.123456\ny,7\n")
    (folder / "notes.md").write_text("- It is <below> the direct one.\n")
    settings = {"command": "python fig7.py --quick", "commit": "0123456789abcdef"}
    (folder / "settings.json").write_text(json.dumps(settings))
    page, text = page_and_text(tmp_path)
    assert "There is no finished run" not in page + text
    assert '<h3>Figure 7 (mri)</h3><figure class="drawn"><img alt="Figure 7 (mri)" ' in page
    assert 'src="data:image/jpeg;base64,' in page
    assert "<td>&lt;b&gt;</td><td>20.12</td>" in page and "<td>y</td><td>7</td>" in page
    assert "It is &lt;below&gt; the direct one." in page
    assert "<code>python fig7.py --quick</code>, commit 0123456789<" in page
    assert "![Figure 7 (mri)](../figures/fig7_mri/fig7.png)" in text
    assert "| y | 7 |" in text and "- It is <below> the direct one." in text
    (folder / "fig7.png").write_bytes(b"no picture")
    (folder / "settings.json").write_text("{")
    (folder / "table.csv").write_bytes(b"\xff\xfe")
    page, _ = page_and_text(tmp_path)
    assert "a damaged picture" in page
    for name in ("settings.json", "table.csv"):
        assert f"figures/fig7_mri/{name}: damaged" in page


def test_no_run_at_all_is_said_in_a_line(tmp_path):
    page, text = page_and_text(tmp_path)
    assert "There is no finished run yet." in page and "There is no finished run yet." in text


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    done = as_process("scripts.report", tmp_path / "no")
    assert done.returncode == 2 and done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1 and not (tmp_path / "no").exists()


def test_names_cannot_break_the_page(tmp_path):
    run = write_run(tmp_path, item="<i>|", device="<b>&")
    write_plan(tmp_path, [("sigma=15", "aseqdip", "<i>|", "done", run, None)])
    plan = tmp_path / "plan" / "table2_denoising.json"
    plan.write_text(plan.read_text().replace("Table 2", "<u>").replace("ASEQDIP", "<s>"))
    page, text = page_and_text(tmp_path)
    for tag in ("i", "b", "u", "s"):
        assert f"<{tag}>" not in page and f"&lt;{tag}&gt;" in page
    assert "Images: <i>\\|." in text


# Curves and pictures


def test_six_images_and_eight_methods_fit_into_15_mb(tmp_path):
    noise = 30 * np.random.default_rng(0).normal(size=(512, 512, 3))
    noisy = (skimage.data.astronaut() + noise).clip(0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(tmp_path / "noisy.png")  # larger as JPEG than what is restored
    for settings in (1, 2, 10):
        count = settings * 6 * (8 + 2)
        uri = embed(tmp_path / "noisy.png", picture_side(count))
        assert uri.startswith("data:image/jpeg;base64,") and count * len(uri) < 15e6
    assert embed(tmp_path / "missing.png", 100) is None


# In a browser


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Return a folder with real runs on two pictures, without a plan."""
    out = tmp_path_factory.mktemp("real")
    (out / "pictures").mkdir()
    for name, left in (("face", 190), ("flag", 0)):
        pixels = skimage.data.astronaut()[60:92, left : left + 32]
        Image.fromarray(pixels).save(out / "pictures" / f"{name}.png")
    methods = ["--method", "aseqdip,aseqdip_lambda0,tv"]
    arguments = ["--sigma", "15", "--out", out / "results", *TINY]
    with pytest.MonkeyPatch.context() as patch:
        data = ["--data", out / "pictures"]
        assert call(patch, aseqdip_denoising, *data, *methods, *arguments) == 0
        data = ["--data", out / "pictures" / "face.png", "--measured"]
        assert call(patch, aseqdip_denoising, *data, *arguments) == 0
    assert report(out) == 0
    return out


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


def test_real_runs_make_a_whole_page(real):
    text = squeezed((real / "report" / "report.md").read_text())
    page = (real / "report" / "index.html").read_text()
    for method in ("aseqdip", "aseqdip_lambda0", "tv"):
        values = []
        for path in (real / "results" / "denoising" / method).glob("*/*/metrics.json"):
            found = json.loads(path.read_text())
            values += [] if found["measured"] else [found["psnr_final"]]
        assert len(values) == 2
        shown = f"| {np.mean(values):.2f} ± {np.std(values, ddof=1):.2f} |"
        section = text[text.index("### sigma 15") :]
        (line,) = [x for x in section.splitlines() if x.startswith(f"| {method} (") and "±" in x]
        assert shown in line
    assert "no truth to compare with" in page and "### measured, no truth" in text
    assert "weight updates</text>" in page and page.count("data:image/jpeg") == 2 * (2 + 3) + 2
    assert not re.search(r'(?:src|href)="(?!data:|#)|url\((?!#)', page)
    versions = json.loads(next((real / "results").glob("denoising/tv/*/*/config.json")).read_text())
    assert versions["commit"][:10] in page and f"torch {versions['versions']['torch']}" in page


@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_fits_its_window_and_asks_for_nothing(real, browser, width):
    page = real / "report" / "index.html"
    browser.open(page, width)
    assert browser.value("document.documentElement.clientWidth") == width
    assert browser.value("document.documentElement.scrollWidth") == width
    assert browser.value("document.body.scrollWidth") <= width
    loaded = "[...document.images].filter(i => i.complete && i.naturalWidth > 0).length"
    assert browser.value(loaded) == browser.value("document.images.length") > 0
    assert browser.value("[...document.images].every(i => i.alt.length > 10)")
    sizes = "[...document.querySelectorAll('td, figcaption, p, label')].map(e => parseFloat("
    assert min(browser.value(f"{sizes}getComputedStyle(e).fontSize))")) >= 11
    assert browser.complaints() == []
    assert {url for url in browser.requests() if not url.startswith("data:")} == {page.as_uri()}


SHOWN = "[...document.querySelectorAll('.pictures')].pop().querySelector('.shot.shown')"
NAME = f"{SHOWN}.dataset.key"
BYTES = f"{SHOWN}.querySelector('img').src"
CHOICES = "[...document.querySelectorAll('.pictures')].pop().querySelectorAll('label')"


def test_touch_and_keys_change_the_picture_that_is_shown(real, browser):
    browser.open(real / "report" / "index.html", 400)
    visible = "[...document.querySelectorAll('.grid figure')].every(f => [...f.querySelectorAll("
    one_each = f"{visible}'img')].filter(i => i.checkVisibility()).length === 1)"
    assert browser.value(one_each) and browser.value(NAME) == "aseqdip"
    browser.tap(f"{CHOICES}[0]")
    truth, picture = browser.value(BYTES), browser.picture()
    assert browser.value(NAME) == "truth" and browser.value(one_each)
    browser.press("ArrowRight")
    assert browser.value(NAME) == "input" and browser.value(BYTES) != truth
    assert browser.picture() != picture
    browser.press("ArrowLeft")
    assert browser.value(NAME) == "truth" and browser.value(BYTES) == truth


def test_print_and_no_script_show_all_pictures(real, browser, tmp_path):
    browser.open(real / "report" / "index.html", 1400)
    visible = "[...document.images].filter(i => i.checkVisibility()).length"
    total = browser.value("document.images.length")
    assert browser.value(visible) < total
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert browser.value(visible) == total
    browser.call("Emulation.setEmulatedMedia", media="")
    page = (real / "report" / "index.html").read_text()
    (tmp_path / "bare.html").write_text(re.sub(r"<script>.*</script>", "", page, flags=re.S))
    browser.open(tmp_path / "bare.html", 1400)
    assert browser.value(visible) == total


def test_dark_and_light_are_both_legible(real, browser):
    browser.open(real / "report" / "index.html", 1400)
    for scheme in ("light", "dark"):
        browser.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )
        ground = luminance(browser.value("getComputedStyle(document.body).backgroundColor"))
        for selector in ("td", ".notes", ".paper", "nav a", ".caption"):
            element = f"document.querySelector('{selector}')"
            text = luminance(browser.value(f"getComputedStyle({element}).color"))
            high, low = max(text, ground), min(text, ground)
            # By the Web Content Accessibility Guidelines, level AA.
            assert (high + 0.05) / (low + 0.05) >= 4.5, selector
        assert (ground > 0.5) == (scheme == "light")
        chart = [
            luminance(browser.value(f"getComputedStyle(document.querySelector('{e}')).{what}"))
            for e, what in ((".chart svg", "backgroundColor"), (".chart text", "fill"))
        ]
        assert chart == [1, 0]


def luminance(colour):
    """Return the relative luminance of a CSS colour (WCAG 2.1)."""
    levels = np.array([int(n) for n in re.findall(r"\d+", colour)[:3]]) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_an_empty_page_and_one_of_problems_work_in_a_browser(real, browser, tmp_path):
    folder = write_run(tmp_path, item="x" * 120)
    shutil.copy(folder / "config.json", folder / "metrics.json")
    assert report(tmp_path) == 0
    browser.open(tmp_path / "report" / "index.html", 400)
    assert browser.value("document.documentElement.scrollWidth") == 400
    assert browser.complaints() == []


def test_a_table_that_is_too_wide_scrolls_and_the_page_does_not(browser, tmp_path):
    for sigma in range(15, 45, 5):
        write_run(tmp_path, name=str(sigma), sigma=float(sigma))
    assert report(tmp_path) == 0
    browser.open(tmp_path / "report" / "index.html", 800)
    table = "document.querySelector('.wide')"
    assert browser.value(f"{table}.scrollWidth > {table}.clientWidth + 100")
    assert browser.value("document.documentElement.scrollWidth") == 800
    browser.open(tmp_path / "report" / "index.html", 400)  # there, it is stacked
    assert browser.value(f"{table}.scrollWidth === {table}.clientWidth")
