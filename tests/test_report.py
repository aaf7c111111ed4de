"""The report, against figures computed apart from it."""

import html
import json
import re

import numpy as np
import pytest
import skimage.data
from PIL import Image
from reports import TINY, cell, line_of, page_and_text, read_run, shown, write_run
from running import as_process, call, run_folder

import aseqdip_ct
import aseqdip_denoising
from scripts.reporting.data import Cell, Material
from scripts.reporting.differences import differences
from scripts.reporting.page import embed, error_map, open_picture, picture_side
from scripts.reporting.tables import signed


def test_means_deviations_and_differences_are_those_computed_by_hand(tmp_path):
    psnr, ssim = [30.0, 32.5, 31.0], [0.90, 0.95, 0.88]
    runs = [
        write_run(tmp_path, item=item, psnr_final=p, ssim_final=s)
        for item, p, s in zip("abc", psnr, ssim)
    ]
    page, text = shown(tmp_path, *(cell(run, item=run.parent.name) for run in runs))
    mean, std = np.mean(psnr), np.std(psnr, ddof=1)
    assert line_of(text, "ASEQDIP")[1:10] == [
        f"{mean:.2f} ± {std:.2f}", "31.51 ± 0.34", f"−{31.51 - mean:.2f}",
        f"{np.mean(ssim):.3f} ± {np.std(ssim, ddof=1):.3f}", "0.926 ± 0.021",
        f"−{0.926 - np.mean(ssim):.3f}", "3", "60 s", "2.4 min",
    ]  # fmt: skip
    page = page.replace("\N{NO-BREAK SPACE}", " ")
    assert f"{mean:.2f} ± {std:.2f}" in page and "paper 31.51 ± 0.34" in page


def test_devices_stand_beside_the_times_where_they_differ(tmp_path):
    gpu, cpu = (
        cell(write_run(tmp_path, method=method, device=device), method)
        for method, device in (("aseqdip", "GPU"), ("tv", "cpu"))
    )
    page, text = shown(tmp_path, gpu, cpu)
    assert line_of(text, "ASEQDIP")[8] == "60 s on GPU" and "<div>cpu</div>" in page
    assert line_of(shown(tmp_path, gpu)[1], "ASEQDIP")[8] == "60 s"


def test_null_stands_for_a_figure_that_is_not_finite(tmp_path):
    null = dict.fromkeys(("psnr_final", "ssim_final", "psnr_input", "psnr_oracle"))
    cells = cell(write_run(tmp_path, **null)), cell(write_run(tmp_path, item="b"), item="b")
    page, text = shown(tmp_path, *cells, cell(write_run(tmp_path, "denoising", "tv"), "tv"))
    row = line_of(text, "ASEQDIP")
    assert row[1:7] == ["-", "31.51 ± 0.34", "", "-", "0.926 ± 0.021", ""] and row[7] == "2"
    assert line_of(text, "Direct")[1] == "-" and "| - at 100 |" in text
    assert "infinite" not in text + page and "nan" not in text.lower() + page.lower()
    assert "no figure that is finite" not in text  # TV's is


def test_the_image_of_a_stopping_rule_is_the_result(tmp_path):
    write_run(tmp_path, psnr_stopped=29.0, ssim_stopped=0.8, step_stopped=7, stop="es_wmv")
    assert line_of(page_and_text(tmp_path)[1], "aSeqDIP (")[1] == "29.00"


def test_the_oracle_is_no_headline(tmp_path):
    write_run(tmp_path, psnr_final=30.0, psnr_oracle=33.33)
    page, text = page_and_text(tmp_path)
    results, beside = page.split("Beside the results</h3>")
    assert "33.33" not in results.partition('class="results"')[2]
    assert '<td data-label="oracle ◊" class="oracle">33.33 at 100' in beside
    assert "33.33" not in " ".join(line_of(text, "aSeqDIP (")) and "| 33.33 at 100 |" in text


def test_both_ct_columns_stand_beside_views(tmp_path):
    write_run(tmp_path, task="ct", views=18, psnr_final=30.0)
    page, text = page_and_text(tmp_path)
    row = line_of(text, "aSeqDIP (")
    assert row[2:4] == ["34.88 ± 0.36 or 33.09 ± 0.39", "−4.88 or −3.09"]
    assert "which more views cannot cause" in page and "which more views cannot cause" in text


def test_best_and_second_best_are_those_on_the_images_that_all_methods_have(tmp_path):
    found = {"aseqdip": (30.0, 32.0), "tv": (31.0, 10.0), "nlm": (29.0, 33.0), "bm3d": (40.0,)}
    cells = [
        cell(write_run(tmp_path, method=method, item=item, psnr_final=psnr), method, item)
        for method, values in found.items()
        for item, psnr in zip("ab", values)
    ]
    page, text = shown(tmp_path, *cells)
    named = {
        m: line_of(text, f"{m} ")[1].partition(", ")[2] for m in ("ASEQDIP", "TV", "NLM", "BM3D")
    }
    assert named == {"ASEQDIP": "", "TV": "second best", "NLM": "", "BM3D": "best"}  # on a
    (line,) = [x for x in text.splitlines() if x.startswith("| Table 2, denoising, sigma 15 |")]
    cells_of_line = [word.strip() for word in line.split("|")[2:-1]]
    assert cells_of_line == ["1 of 2", "20.00", "40.00 BM3D", "31.00 TV", "31.51"]
    assert "the images that all methods have, 1 of 2." in text and text.index(line) < text.index(
        "## T"
    )
    assert page.index('id="summary"') < page.index('<table class="results')
    assert page.count('<div class="ours best">40.00') == 1
    assert "difference −" in page


def test_equal_figures_share_a_place_and_a_method_alone_has_none(tmp_path):
    cells = [
        cell(write_run(tmp_path, method=method, psnr_final=psnr), method)
        for method, psnr in (("aseqdip", 30.001), ("tv", 29.999), ("nlm", 28.0))
    ]
    _, text = shown(tmp_path, *cells)
    places = [line_of(text, name)[1] for name in ("ASEQDIP", "TV (", "NLM")]
    assert places == ["30.00, best", "30.00, best", "28.00, second best"]
    assert "30.00 ASEQDIP, TV | 28.00 NLM" in text
    _, text = shown(tmp_path, cells[0])
    assert line_of(text, "ASEQDIP")[1] == "30.00" and "| 30.00 ASEQDIP |" in text


def test_methods_of_different_images_have_no_places(tmp_path):
    cells = [
        cell(write_run(tmp_path, method=method, item=item), method, item)
        for method, item in (("aseqdip", "a"), ("tv", "b"))
    ]
    _, text = shown(tmp_path, *cells)
    assert line_of(text, "ASEQDIP")[1] == "30.00" and "no image that all methods have" in text


def test_the_direct_reconstruction_is_the_mean_over_images_not_over_runs(tmp_path):
    for method, items in (("aseqdip", "ab"), ("tv", "a")):
        for item in items:
            direct = {"psnr_input": {"a": 20.0, "b": 23.0}[item], "ssim_input": 0.4}
            write_run(tmp_path, method=method, item=item, **direct)
    row = line_of(page_and_text(tmp_path)[1], "Direct reconstruction")
    assert row[1] == f"21.50 ± {np.std([20, 23], ddof=1):.2f}" and row[4] == "0.400 ± 0.000"
    assert row[7] == "2" and row[10] == ""


def test_an_error_map_is_five_times_the_mean_error_of_the_channels():
    truth, image = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 3), np.uint8)
    image[0, 0], image[0, 1], truth[1, 0] = (3, 6, 0), 255, (0, 0, 9)
    error = error_map(Image.fromarray(image), Image.fromarray(truth))
    assert np.asarray(error).tolist() == [[15, 255], [15, 0]]
    grey = Image.fromarray(image[..., 0])
    assert error_map(grey, Image.fromarray(truth)) is None and error_map(grey, None) is None


def test_the_images_shown_are_those_of_the_most_methods(tmp_path):
    for item in "abcdefgh":
        for method in ("aseqdip", "tv") if item == "h" else ("aseqdip",):
            write_run(tmp_path, method=method, item=item, side=16)
    page, _ = page_and_text(tmp_path)
    shown_items = re.findall(r"<h4>sigma 15, (\w)</h4>", page)
    assert shown_items == list("habcde") and "At most 6 images are shown" in page
    assert "Images: a, b, c, d, e, f and 2 more" in page


def test_a_center_fraction_belongs_to_the_problem(tmp_path):
    for accel, share in ((4, None), (8, 0.1)):
        settings = {"center_fraction": share}
        write_run(tmp_path, "mri", name=f"{accel}", accel=accel, settings=settings)
    assert set(Material(tmp_path).tables[0].methods.values()) == {"aSeqDIP"}


def test_problems_of_one_item_are_never_averaged(tmp_path):
    """Other draws and seeds are repetitions; other kinds and files of a mask are problems."""
    n = iter(range(99))

    def run(task, item="a", method="aseqdip", hashes=("x",), **settings):
        settings |= {"data_sha256": list(hashes)}
        facts = {"accel": 4} if task == "mri" else {"mask": "m.npy"}
        write_run(tmp_path, task, method, item, f"{next(n)}", settings=settings, **facts)

    for item in "ab":
        run("mri", item, mask="random")
    run("mri", mask="random", seed=1)
    run("mri", mask="equispaced")
    run("mri", mask="random", center_fraction=0.2)
    run("inpainting", "a", hashes=("a", "lines"))  # the hashes of the picture and of its mask
    run("inpainting", "a", hashes=("a", "box"))
    run("inpainting", "b", hashes=("b", "box"))
    run("inpainting", "b", hashes=("b", "box"), seed=1)
    run("inpainting", "b", hashes=("b", "other draw"), data_seed=1)
    run("inpainting", "b", "aseqdip_split", ("b", "box", "of a part", "of another"))
    run("superresolution", "a", hashes=("one",))
    run("superresolution", "a", hashes=("another of this name",))
    found = {}
    for table in Material(tmp_path).tables:
        for one in table.cells:
            key = re.sub("^.*?, ", "", table.settings[one.setting], count=1)
            found.setdefault(key, []).append(one.item)
    assert {key: "".join(sorted(items)) for key, items in found.items()} == {
        "center_fraction None, mask random": "aab",
        "center_fraction None, mask equispaced": "a",
        "center_fraction 0.2, mask random": "a",
        "files 1": "a",
        "files 2": "abbb",
        "files 3": "b",
        "image 1": "a",
        "image 2": "a",
    }


def test_differences_carry_their_sign():
    assert [signed(x, 2) for x in (1.234, -0.5, -0.001, 0.0)] == ["+1.23", "−0.50", "0.00", "0.00"]


# What differs from the paper


def marks_of(tmp_path, number=2, setting="sigma=15", items=20, **facts):
    cells = []
    for index in range(items):
        run = read_run(write_run(tmp_path, item=f"i{index}", **facts))
        cells.append(Cell("c", setting, facts.get("method", "aSeqDIP ("), f"i{index}", 0, run=run))
    return differences(cells, number)


def own(method, **hyperparameters):
    return {"method": method, "settings": {"hyperparameters": hyperparameters}}


def with_prior(network, **facts):
    """Say what a run records of the weights that it was given."""
    of_file = {"file": "p.pt", "network": network, "n_params": 1234, "sha256": "0123456789abcdef"}
    return {"method": "dps", "prior": "a/p.pt", "prior_facts": of_file | facts}


FACE, SCENES = with_prior("ADM, FFHQ"), with_prior("ADM, ImageNet")
SMALL = with_prior("small ADM of prior_train.py, images", items=[{"source": "1.png"}, {}])
VARNET = {"method": "varnet", "varnet": "a/v.pt", "varnet_seen": "trained on validation files"}
CT = {"task": "ct", "setting": "views=18", "views": 18}
BLUR = {"task": "deblurring", "setting": "bkse"}
MRI = {"task": "mri", "setting": "accel=4"}
BOX = {"task": "inpainting", "setting": "ffhq_box_hiar=0.25", "number": 4}


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"items": 6}, "6 images in place of 20"),
        ({"quick": True}, "--quick"),
        ({"side": 128}, "128x128 pixels in place of 512x512"),
        ({"flags": {"data": None}}, "a photograph inside scikit-image, not CBSD68"),
        (MRI | {"flags": {"data": None}}, "a simulated scan"),
        (MRI | {"flags": {"data": "k.npy"}}, "not of a fastMRI file"),
        ({"settings": {"K": 500}}, "K 500 in place of 2000"),
        ({"settings": {"N": 10}}, "N 10 in place of 2"),
        ({"settings": {"lambda_ae": 0.0}}, "lambda_ae 0 in place of 1"),
        ({"settings": {"width": 16}}, "a network of width 16; the default is 64"),
        ({"settings": {"clip": True}}, "clipped"),
        ({"settings": {"precision": "bf16"}}, "bf16"),
        ({"stop": "es_wmv"}, "stopped by the rule es_wmv"),
        ({"sigma": 25.0}, "the run has sigma=25"),
        (BOX | {"settings": {"mask": "box", "hiar": 0.1}}, "the run has hiar=0.1"),
        (own("tv_dip", lambda_tv=0.1), "lambda_tv 0.1 in place of 1"),
        (own("vanilla_dip", steps=100), "100 updates in place of 4000"),
        (CT | {"settings": {"z0": "fbp"}}, "z_0 is the FBP"),
        (own("es_dip", steps=500), "500 updates at most"),
        ({"method": "es_dip", "settings": {"lr": 5e-4, "hyperparameters": {"lr": 5e-4}}},
         "lr 0.0005 in place of 0.0001"),
        ({"settings": {"loss": "norms"}}, "loss norms in place of squares"),
        ({"number": None, "settings": {"finish": "consistency"}}, "finish consistency in place of none"),
        (CT | {"photons": 1e5}, "100000 photons"),
        (BLUR | {"blur": "camera blur: no weights"}, "camera blur in place of BKSE's network"),
        (BLUR | {"blur": "BKSE blur", "sigma": 2.55}, "noise of sigma 2.55; the paper names none"),
        (BLUR | {"blur": "trajectory blur"}, "trajectory blur in place of BKSE's network"),
        ({"measured": True}, "there is no truth"),
        (FACE, "the prior p.pt (ADM, FFHQ, 1,234 parameters, SHA-256 0123456789ab) in place of ADM, "
         "ImageNet"),
        (SCENES | {"number": 4, "setting": "ffhq"}, "in place of ADM, FFHQ"),
        (SMALL, "a small prior of the user's own, p.pt (small ADM of prior_train.py, images, 1,234 "
         "parameters, SHA-256 0123456789ab), that learned from 2 images"),
        (SMALL | {"number": None}, "a small prior of the user's own"),
        (MRI | VARNET | {"number": 3}, "weights of v.pt; trained on validation files"),
    ],
)  # fmt: skip
def test_each_difference_is_told_from_what_the_run_recorded(facts, words, tmp_path):
    found = marks_of(tmp_path, **facts)
    assert any(words in text for text in found), found


@pytest.mark.parametrize(
    "facts",
    [{}, BLUR | {"blur": "BKSE blur", "side": 64, "sigma": 0.0}, {"method": "tv", "quick": True, "steps": None},
     {"number": None, "settings": {"lambda_ae": 0.5, "K": 5000}}],
)  # fmt: skip
def test_the_paper_s_own_setting_differs_in_nothing_but_the_unnamed_images(facts, tmp_path):
    assert marks_of(tmp_path, **facts) == [
        "images of the user's choice: the paper's own 20 of CBSD68 are not named"
    ]


def test_of_ffhq_the_paper_gives_no_size(tmp_path):
    run = read_run(write_run(tmp_path, side=128))
    assert differences([Cell("c", "ffhq", "aseqdip", "a", 0, run=run)], 4, "ffhq", images=1) == [
        "images of the user's choice: the paper's own 20 of FFHQ are not named"
    ]


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
        run = read_run(tmp_path / "results" / "ct" / "aseqdip" / "small" / z0)
        marks[z0] = set(differences([Cell("c", "views=18", "aseqdip", "a", 0, run=run)], 2))
    start = {"z_0 is the FBP, as in the public code; the text has A^T y"}
    assert marks["fbp"] - marks["adjoint"] == start


def test_marks_stand_in_the_row_or_where_they_hold(tmp_path):
    cells = [
        cell(
            write_run(tmp_path, name=f"{sigma}", sigma=sigma, quick=quick), setting=f"sigma={sigma}"
        )
        for sigma, quick in ((15, True), (30, False))
    ]
    page, text = shown(tmp_path, *cells)
    quick = re.search(r"\((\w)\) --quick", text)[1]
    common = re.search(r"\((\w)\) 1 image in place of 20", text)[1]
    first, second = (line for line in text.splitlines() if line.startswith("| ASEQDIP ("))
    assert f"({quick})" in first and f"({quick})" not in second
    assert f"({common})" in first and f"({common})" in second
    assert f'<sup class="marks">{quick}</sup>' in page


# What is missing


def test_what_was_not_run_or_failed_says_why(tmp_path):
    page, text = shown(
        tmp_path,
        cell(method="dps", state="not run", why="needs a pre-trained network"),
        cell(method="es_dip", state="failed", why="out of memory"),
        cell(write_run(tmp_path)),
        cell(item="b", state="waiting"),
        cell(item="c", state="running"),
    )
    for told in (page, text):
        assert "not run: needs a pre-trained network" in told
        assert "failed: out of memory (log: logs/x.log)" in told
        assert "1 of 3 running" in told and "1 of 3 waiting" in told
        assert "5 runs: 1 done, 1 failed, 2 left, 1 not run" in told
    assert line_of(text, "DPS†")[2] == "31.02 ± 0.25"
    assert "a.py --x '<y>'" in html.unescape(page)


def test_the_paper_s_methods_that_were_not_asked_for_stand_in_its_order(tmp_path):
    run = write_run(tmp_path)
    cells = [cell(run, method) for method in ("tv", "aseqdip", "vanilla_dip")]
    page, text = shown(tmp_path, *cells)
    table = text[text.index("| Method ") :]
    assert line_of(table, "Direct reconstruction")[1:5] == ["20.00", "", "", "0.300"]
    names = re.findall(r"^\| ([^|]+?)(?: \(.*)? \|", table, re.MULTILINE)
    assert names[3:12] == [
        "DPS†", "VANILLA_DIP", "SGLD-DIP", "TV-DIP", "Rethinking DIP", "ES-DIP",
        "Self-Guided DIP", "ASEQDIP", "TV",
    ]  # fmt: skip
    assert line_of(text, "ES-DIP")[2] == "31.11 ± 0.23"
    assert line_of(text, "ES-DIP")[10] == "not run: not asked for"
    assert line_of(text, "DPS")[10] == "not run: not asked for"
    assert '<div class="status">not run: not asked for</div>' in page
    assert "3 runs: 3 done." in text  # they are no cells of ours
    for more in ({"title": "Figure 2"}, {"images": None}):
        text = shown(tmp_path, *cells, **more)[1]
        assert "ES-DIP" not in text and line_of(text, "ASEQDIP")[2] == ""
    assert "in place of 20" not in text  # of a plan that rebuilds nothing of the paper's
    mri = cell(write_run(tmp_path, task="mri", accel=4), setting="accel=4")
    row = line_of(shown(tmp_path, mri, title="Table 3")[1], "E2E VarNet, 8000 scans†")
    assert row[2] == "34.89" and "needs a network trained on 8000 fastMRI scans" in row[10]


def test_the_weights_of_each_row_are_named(tmp_path):
    own, public = (
        write_run(tmp_path, item=item, **prior)
        for item, prior in (("a", SMALL), ("b", with_prior("ADM, ImageNet", file="net.pt")))
    )
    cells = [cell(own, "dps"), cell(public, "dps", item="b"), cell(write_run(tmp_path))]
    page, text = shown(tmp_path, *cells)
    named = (
        "Weights trained elsewhere: DPS with p.pt (small ADM of prior_train.py, images, 1,234 "
        "parameters, SHA-256 0123456789ab); DPS with net.pt (ADM, ImageNet, 1,234 parameters, "
        "SHA-256 0123456789ab)."
    )
    assert named in text and named in html.unescape(page)
    assert "elsewhere" not in shown(tmp_path, cells[2])[1]


def test_prior_data_are_marked_where_no_table_of_the_paper_is_rebuilt(tmp_path):
    cells = cell(write_run(tmp_path)), cell(method="dps", state="not run", why="no weights")
    figure = {"kind": "pictures", "files": []}
    text = shown(tmp_path, *cells, title="Figures 5 and 16", figure=figure, images=1)[1]
    assert line_of(text, "DPS†")[1:4] == ["", "", ""] and "in place of 20" not in text


def test_a_launcher_killed_before_its_note_loses_nothing(tmp_path):
    _, text = shown(tmp_path, cell(write_run(tmp_path), state="running"))
    assert line_of(text, "ASEQDIP")[1] == "30.00" and "1 done" in text


def test_damaged_files_are_named_and_the_rest_is_shown(tmp_path):
    good, cut, foreign, gone, bare = runs = [write_run(tmp_path, item=i) for i in "abcde"]
    whole = (cut / "metrics.json").read_text()
    (cut / "metrics.json").write_text(whole[: len(whole) // 2])
    (foreign / "metrics.json").write_text('["no", "object"]')
    (gone / "metrics.json").unlink()
    (bare / "config.json").write_bytes(b"\xff\x00")
    (bare / "reconstruction.png").write_bytes(b"no picture")
    (good / "log.csv").write_text("step,psnr\n0,20\n2,")
    (bare / "log.csv").write_text("step,psnr\n0,twenty\n")
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "table3.json").write_text('{"table": "table3"}')
    page, text = shown(tmp_path, *(cell(run, item=run.parent.name) for run in runs))
    for told in (page, text):
        for name in ("b/r/metrics.json", "c/r/metrics.json", "e/r/config.json", "e/r/log.csv"):
            assert f"results/denoising/aseqdip/{name}: damaged" in told
        assert "plan/table3.json: not a plan" in told
    assert page.count("a damaged picture") == 1
    assert line_of(text, "ASEQDIP")[7] == "2" and "3 of 5 failed" in line_of(text, "ASEQDIP")[10]


@pytest.mark.parametrize("damage", ['"psnr_final": "30"', '"psnr_final": NaN', '"seconds": null'])
def test_figures_that_are_no_numbers_are_refused(damage, tmp_path):
    path = write_run(tmp_path) / "metrics.json"
    path.write_text(re.sub(rf"{damage.split(':')[0]}: [\d.]+", damage, path.read_text()))
    material = Material(tmp_path)
    assert not material.tables and len(material.problems) == 1


def test_without_a_plan_runs_stand_by_task_and_configurations_apart(tmp_path):
    write_run(tmp_path, psnr_final=20.0)
    write_run(tmp_path, name="s", psnr_final=30.0, settings={"width": 16})
    write_run(tmp_path, item="b", psnr_final=22.0)
    write_run(tmp_path, method="comparison")  # no method
    (write_run(tmp_path, item="c") / "metrics.json").unlink()
    material = Material(tmp_path)
    (table,) = material.tables
    assert list(table.settings.values()) == ["sigma 15"] and len(table.cells) == 3
    assert set(table.methods.values()) == {"aSeqDIP (width 16)", "aSeqDIP (width 64)"}
    assert material.problems == [
        "results/denoising/aseqdip/c/r: no metrics.json, so the run is not finished"
    ]
    row = line_of(page_and_text(tmp_path)[1], "aSeqDIP (width 64)")
    assert row[1:3] == [f"21.00 ± {np.std([20, 22], ddof=1):.2f}, second best", "31.51 ± 0.34"]


def test_runs_of_two_seeds_are_one_configuration(tmp_path):
    def write(name, seed, lambda_tv, psnr):
        settings = own("tv_dip", steps=4000, lambda_tv=lambda_tv, seed=seed)["settings"]
        settings |= {"seed": seed}
        write_run(tmp_path, method="tv_dip", name=name, psnr_final=psnr, settings=settings)

    write("a", 0, 1.0, 30.0)
    write("b", 1, 1.0, 32.0)
    row = line_of(page_and_text(tmp_path)[1], "TV-DIP (")
    assert row[1] == "31.00" and row[7] == "1 x 2 seeds"
    write("c", 0, 0.5, 30.0)
    text = page_and_text(tmp_path)[1]
    assert "TV-DIP (lambda_tv 0.5)" in text and "TV-DIP (lambda_tv 1.0)" in text


def test_a_task_that_the_paper_has_not_stands_beside_the_others(tmp_path):
    write_run(tmp_path, "superresolution", factor=4, psnr_final=22.5)
    write_run(tmp_path, "superresolution", "ugodit", factor=4, prior_measurements={})
    write_run(tmp_path, "superresolution", "ugodit_train", "faces")  # no reconstruction
    page, text = page_and_text(tmp_path)
    assert "## Super-resolution" in text and "### factor 4" in text and "ugodit_train" not in page
    assert line_of(text, "aSeqDIP (a)")[1:3] == ["22.50, second best", ""]
    assert line_of(text, "UGoDIT (prior measurements)† (a)")[1] == "30.00, best"
    assert "- (a) a task that the paper does not have" in text


def test_runs_of_no_plan_are_counted(tmp_path):
    write_run(tmp_path, item="b")
    page, _ = shown(tmp_path, cell(write_run(tmp_path)))
    assert "1 finished run under results/ belongs to none" in page


def test_a_folder_that_holds_the_tasks_is_a_folder_of_results(tmp_path):
    write_run(tmp_path)
    assert line_of(page_and_text(tmp_path / "results")[1], "aSeqDIP (")[1] == "30.00"


def test_a_figure_over_the_updates_has_the_panels_of_the_paper_s(tmp_path):
    cells = []
    labels = {"one": "of denoising / N is 1", "two": "of denoising / N is 2", "3": "of inpainting"}
    for index, setting in enumerate(labels):
        run = write_run(tmp_path, name=f"r{index}")
        (run / "log.csv").write_text(f"step,psnr\n0,9\n1,{20 + index}\n2,{30 + index}\n")
        cells.append(cell(run, setting=setting))
    plan = {
        "figure": {"kind": "curves", "file": "figures/10.png"}, "title": "Figure 10",
        "labels": labels,
    }  # fmt: skip
    page, text = shown(tmp_path, *cells, **plan)
    first, second = (part.split("</figure>")[0] for part in page.split('"chart">')[1:])
    assert "<figcaption>of denoising</figcaption>" in first and "N is 2, 31.00" in first
    assert "of denoising: N is 1 ends at 30.00 dB, N is 2 ends at 31.00 dB" in first
    assert "<figcaption>of inpainting</figcaption>" in second and "N is 2" not in second
    assert "ASEQDIP, 32.00" in second
    assert "The noise is &lt;ours&gt;." in page and "The noise is <ours>." in text
    assert "10.png" not in text  # it was not drawn
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "10.png").write_bytes(b"")
    assert "![Figure 10](../figures/10.png)" in shown(tmp_path, *cells, **plan)[1]


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


def test_no_run_at_all_is_said_in_a_line_and_no_folder_is_an_error(tmp_path):
    for told in page_and_text(tmp_path):
        assert "There is no finished run yet." in told
    done = as_process("scripts.report", tmp_path / "no")
    assert done.returncode == 2 and done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1 and not (tmp_path / "no").exists()


def test_names_cannot_break_the_page(tmp_path):
    run = write_run(tmp_path, item="<i>|", device="<b>&", method="<s>")
    (run / "log.csv").write_text("step,psnr\n1,20\n2,21\n")
    page, text = shown(tmp_path, cell(run, "<s>", "<i>|", "<q>"), title="<u>")
    for tag in ("i", "b", "u", "S", "q"):
        assert f"<{tag}>" not in page and f"&lt;{tag}&gt;" in page
    assert "Images: <i>\\|." in text


def test_six_images_and_eight_methods_fit_into_15_mb(tmp_path):
    noise = 30 * np.random.default_rng(0).normal(size=(512, 512, 3))
    noisy = (skimage.data.astronaut() + noise).clip(0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(tmp_path / "noisy.png")  # larger as JPEG than what is restored
    for settings in (1, 2, 10):
        count = settings * 6 * (8 + 2)
        noisy = open_picture(tmp_path / "noisy.png")
        side = picture_side(2 * count)
        picture, error = embed(noisy, side), embed(noisy.convert("L"), side)
        assert picture.startswith("data:image/jpeg;base64,")
        assert count * (len(picture) + len(error)) < 15e6
    assert open_picture(tmp_path / "missing.png") is None and embed(None, 100) is None
