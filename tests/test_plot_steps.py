"""Figures of PSNR over the weight updates, from plans written by hand."""

import json

import numpy as np
import pytest
from PIL import Image
from running import as_process, call, squeezed

from scripts import plot_steps
from scripts.reporting.data import labels, panels


def write_plan(out, settings, methods, logs, kind="curves"):
    """Write a plan whose cells are done, with their logs of (setting, method, item)."""
    cells = []
    for index, ((setting, method, item), text) in enumerate(logs.items()):
        folder = out / "results" / str(index)
        folder.mkdir(parents=True)
        (folder / "log.csv").write_text(text)
        np.save(folder / "reconstruction.npy", np.zeros((8, 6 + index)))
        cells.append(
            {"setting": setting, "method": method, "item": item, "state": "done",
             "run": f"results/{index}"}
        )  # fmt: skip
    plan = {
        "title": "Figure 8", "quick": True, "settings": settings, "methods": methods,
        "cells": cells, "figure": {"kind": kind, "file": "figures/fig8.png"},
    }  # fmt: skip
    (out / "plan").mkdir()
    (out / "plan" / "fig8.json").write_text(json.dumps(plan))
    return out / "plan" / "fig8.json"


def test_panels_follow_from_the_labels():
    settings = {"a": "MRI, 4x / N = 1", "b": "MRI, 4x / N = 2", "c": "CT/MRI"}
    assert panels(settings, {"m": "M"}) == {
        "MRI, 4x": {"N = 1": ("a", "m"), "N = 2": ("b", "m")},
        "CT/MRI": {"M": ("c", "m")},
    }
    two = panels(settings, {"m": "M", "o": "O"})
    assert list(two["MRI, 4x"]) == ["N = 1, M", "N = 1, O", "N = 2, M", "N = 2, O"]
    assert two["CT/MRI"] == {"M": ("c", "m"), "O": ("c", "o")}


def test_what_has_no_label_is_shown_by_its_name():
    settings = [{"name": n} for n in ("accel=4", "views=18", "sigma=15", "hiar=0.1", "own")]
    settings += [{"name": "bkse", "label": None}, {"name": "sigma=30", "label": "loud"}]
    found, methods = labels({"settings": settings, "methods": [{"name": "tv"}]})
    assert list(found.values()) == [
        "4x", "18 views", "sigma 15", "HIAR 0.1", "own", "BKSE blur", "loud",
    ]  # fmt: skip
    assert methods == {"tv": "tv"}


def test_a_figure_has_the_means_over_images_and_their_table(tmp_path, monkeypatch, capsys):
    logs = {
        ("s", "m", "a"): "step,psnr\n0,5.0\n10,20.0\n20,22.0\n",
        ("s", "m", "b"): "step,psnr\n0,5.0\n10,26.0\n20,22.0\n",
        ("s", "o", "a"): "step,psnr\n10,21.0\n20,20.0\n",
    }
    methods = [{"name": "m", "label": "aSeqDIP"}, {"name": "o", "label": "a $x_1 | y"}]
    plan = write_plan(tmp_path, [{"name": "s", "label": "noise"}], methods, logs)
    assert call(monkeypatch, plot_steps, plan) == 0
    said = squeezed(capsys.readouterr().out)
    assert "| noise | aSeqDIP | 2 | 20, 22.00 +- 0.00 | 10, 23.00 |" in said
    assert "| noise | a $x_1 \\| y | 1 | 20, 20.00 | 10, 21.00 |" in said
    assert squeezed((tmp_path / "figures" / "fig8.md").read_text()) in said
    with Image.open(tmp_path / "figures" / "fig8.png") as drawn:
        assert drawn.size[0] > 600


def test_a_figure_is_not_drawn_of_runs_that_share_no_step(tmp_path, monkeypatch, capsys):
    logs = {
        ("s", "m", "a"): "step,psnr\n0,5.0\n7,20.0\n", ("s", "m", "b"): "step,psnr\n9,21.0\n",
    }  # fmt: skip
    plan = write_plan(tmp_path, [{"name": "s"}], [{"name": "m"}], logs)
    assert call(monkeypatch, plot_steps, plan) == 0
    assert "nothing to draw" in capsys.readouterr().out
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize(
    ("text", "words"), [(None, "no such file"), ("{", "damaged"), ("{}", "not of a figure")]
)
def test_a_plan_that_cannot_be_drawn_is_one_line(text, words, tmp_path):
    path = tmp_path / "t.json"
    if text is not None:
        path.write_text(text)
    done = as_process("scripts.plot_steps", path)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"error: {path}: ") and words in done.stderr
