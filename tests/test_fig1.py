"""Figure 1: inputs made of the truth, and what is read from their runs."""

import csv
import json

import numpy as np
import pytest
import torch
from conftest import small_kspace
from running import call

from scripts import fig1, figure_files
from utils.errors import InputError

TINY = ["--device", "cpu", "--accel", 2, "--width", 4, "--steps", 20, "--levels", 0, 0.5]


def run(monkeypatch, *flags):
    return call(monkeypatch, fig1, *flags)


def rows_of(folder):
    with open(folder / "figures" / "fig1" / "table.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def scans(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    for seed in range(2):
        np.save(folder / f"{seed}.npy", small_kspace(seed=seed))
    return folder


def test_the_input_is_the_truth_and_scaled_noise():
    x_true = torch.randn(1, 1, 200, 200, dtype=torch.complex64)
    peak = x_true.abs().max()
    near, far = (fig1.network_input(x_true, "truth", sigma, 3) for sigma in (0.1, 0.4))
    torch.testing.assert_close(far - x_true, 4 * (near - x_true), atol=1e-4, rtol=1e-4)
    noise = fig1.network_input(x_true, "noise", 0.1, 3)
    torch.testing.assert_close(near - x_true, noise, atol=1e-5, rtol=1e-5)
    for part in (noise.real, noise.imag):
        assert abs(part.std().item() / (0.1 * peak.item()) - 1) < 0.02
        assert abs(part.mean().item()) < 0.03 * part.std().item()
    assert torch.equal(fig1.network_input(x_true, "truth", 0.0, 3), x_true)
    assert not torch.equal(noise, fig1.network_input(x_true, "noise", 0.1, 4))


def test_the_best_psnr_is_that_of_the_log(scans, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert run(monkeypatch, "--data", scans, *TINY, "--out", out) == 0
    best, inputs = {}, []
    for folder in (out / "fig1" / "oracle_input").glob("*/*"):
        figures = json.loads((folder / "metrics.json").read_text())
        with open(folder / "log.csv", newline="") as file:
            psnr = [float(row["psnr"]) for row in csv.DictReader(file)]
        assert figures["psnr_oracle"] == pytest.approx(max(psnr))
        best.setdefault((figures["input"], figures["sigma"]), []).append(max(psnr))
        inputs.append(figures["psnr_input"])
        if figures["input"] == "truth":  # two real parts of sigma max|x_true| each
            assert (figures["distance"] == 0) == (figures["sigma"] == 0)
    rows = rows_of(out)
    assert [(r["input"], r["sigma"]) for r in rows] == [
        ("x_true + noise", "0.0"), ("x_true + noise", "0.5"), ("noise alone", "0.5"),
    ]  # fmt: skip
    for row, key in zip(rows, [("truth", 0), ("truth", 0.5), ("noise", 0.5)]):
        assert len(best[key]) == int(row["scans"]) == 2
        assert float(row["best PSNR (oracle)"]) == pytest.approx(np.mean(best[key]))
        assert float(row["std"]) == pytest.approx(np.std(best[key], ddof=1))
    names = {path.name for path in (out / "figures" / "fig1").iterdir()}
    assert names == {"fig1.png", "table.csv", "table.md", "notes.md", "settings.json"}
    monkeypatch.setattr(fig1, "vanilla_dip", None)  # levels that are done are not done again
    assert run(monkeypatch, "--data", scans, *TINY, "--out", out) == 0
    assert rows_of(out) == rows


def test_all_levels_get_the_same_measurements(scans, tmp_path, monkeypatch):
    seen = []

    def watch(y, A, net, *, z0, **settings):
        seen.append((y.clone(), z0.clone(), [w.clone() for w in net.parameters()]))
        raise InputError("seen")

    monkeypatch.setattr(fig1, "vanilla_dip", watch)
    for levels in ([0], [0.5]):
        flags = ["--data", scans / "0.npy", *TINY[:-2], *levels, "--out", tmp_path / "out"]
        assert run(monkeypatch, *flags) == 2
    (y, z, weights), (other_y, other_z, other_weights) = seen
    assert torch.equal(y, other_y) and not torch.equal(z, other_z)
    assert all(torch.equal(a, b) for a, b in zip(weights, other_weights))


def test_a_damaged_scan_does_not_stop_the_others(scans, tmp_path, monkeypatch, capsys):
    (scans / "0.npy").write_bytes(b"no array")
    assert run(monkeypatch, "--data", scans, *TINY, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "failed: " in said and said.strip().splitlines()[-1].startswith("error: ")
    assert {row["scans"] for row in rows_of(tmp_path / "out")} == {"1"}


def test_the_table_takes_the_best_and_keeps_the_last_apart():
    found = [
        {"item": item, "input": "truth", "sigma": 0.1, "distance": 0.2, "psnr_oracle": best,
         "psnr_final": last, "step_oracle": 50}
        for item, best, last in (("a", 33.0, 30.0), ("b", 35.0, 28.0))
    ]  # fmt: skip
    (row,) = fig1.table(found)
    assert row["best PSNR (oracle)"] == 34 and row["last PSNR"] == 29 and row["scans"] == 2
    assert row["std"] == pytest.approx(2**0.5)


def test_the_claims_are_counted():
    def scan(item, truth, noise):
        levels = (0.0, 0.1, 1.0)
        return [
            {"item": item, "input": kind, "sigma": sigma, "psnr_oracle": psnr}
            for kind, values in (("truth", truth), ("noise", noise))
            for sigma, psnr in list(zip(levels, values))[kind == "noise" :]
        ]

    found = scan("a", (40.0, 35.0, 30.0), (0.0, 28.0, 27.0))
    found += scan("b", (40.0, 41.0, 32.0), (0.0, 30.0, 30.0))
    notes = fig1.claims(found)
    assert "in 1 of 2 scans" in notes[1] and "by 9.00 dB" in notes[1]
    assert "by -0.50 dB" in notes[2]


@pytest.mark.parametrize(
    "flags",
    [("--levels",), ("--levels", -1), ("--images", 0), ("--data", "missing.npy"), ("--steps", 0),
     ("--accel", 0.5), ("--device", "tpu")],
)  # fmt: skip
def test_bad_flags_are_one_line(flags, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    assert run(monkeypatch, *TINY, *flags, "--out", out) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and len(said.splitlines()) == 1
    assert not out.exists()


def test_a_part_is_made_once_and_told_from_others(tmp_path):
    calls = []

    def make():
        calls.append(1)
        return {"value": len(calls)}

    for settings, expected in (({"a": 1}, 1), ({"a": 1}, 1), ({"a": 2}, 2), ({"a": 1}, 1)):
        assert figure_files.kept(tmp_path, "part", settings, make) == {"value": expected}
    with pytest.raises(InputError, match="damaged"):
        for path in tmp_path.iterdir():
            path.write_text("{}")
        figure_files.kept(tmp_path, "part", {"a": 1}, make)


def test_tables_are_markdown_with_the_numbers_of_the_csv(tmp_path):
    rows = [{"name": "a", "psnr": 30.123456, "std": None}, {"name": "b", "psnr": 2, "std": 0.5}]
    figure_files.save_table(tmp_path, "table", rows)
    assert (tmp_path / "table.csv").read_text() == "name,psnr,std\na,30.123456,\nb,2,0.5\n"
    assert (tmp_path / "table.md").read_text() == (
        "| name | psnr  | std |\n| ---- | ----- | --- |\n"
        "| a    | 30.12 |     |\n| b    | 2     | 0.5 |\n"
    )
