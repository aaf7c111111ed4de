"""Run folders and plans written by hand, and the report made of them."""

import json
import re

import pytest
from PIL import Image
from running import call, squeezed

from scripts import report as script
from scripts.reporting.data import Material

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


def cell(run=None, method="aseqdip", item="a", setting="sigma=15", state="done", why=None):
    """Return a cell of a plan, done if not told otherwise."""
    return {
        "id": f"{setting}/{method}/{item}/seed0", "setting": setting, "method": method,
        "item": item, "seed": 0, "command": ["a.py", "--x", "<y>"], "run": run and str(run),
        "state": state, "why": why, "log": "logs/x.log" if state == "failed" else None,
    }  # fmt: skip


def shown(out, *cells, title="Table 2, denoising", images=20, figure=None, labels=None):
    """Write a plan and make the report; return page and text."""
    settings = dict.fromkeys(c["setting"] for c in cells)
    plan = {
        "table": "the table", "title": title, "task": "denoising", "quick": False,
        "note": "The noise is <ours>.", "paper_images": images, "figure": figure, "cells": cells,
        "settings": [{"name": s, "label": (labels or {}).get(s), "data": "cbsd68"}
                     for s in settings],
        "methods": [{"name": m, "label": m.upper()}
                    for m in dict.fromkeys(c["method"] for c in cells)],
    }  # fmt: skip
    (out / "plan").mkdir(exist_ok=True)
    (out / "plan" / "the_table.json").write_text(json.dumps(plan))
    return page_and_text(out)
