"""The launcher of tables, with a task script in miniature, and with a real one."""

import argparse
import csv
import dataclasses
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, small_kspace

sys.path.insert(0, str(ROOT / "scripts"))

import cells
import executors
import launch
import plot_steps
from tables import TABLES

from utils.cli import parse_args
from utils.errors import InputError
from utils.methods import choose

FIG8 = [
    "aseqdip", "self_guided_dip", "es_dip", "rethinking_dip", "tv_dip", "sgld_dip", "vanilla_dip",
]  # fmt: skip


REPORT = """
import json, pathlib, sys
out = pathlib.Path(sys.argv[1])
(out / "report").mkdir(exist_ok=True)
titles = [json.loads(path.read_text())["title"] for path in (out / "plan").glob("*.json")]
parts = [f"## {title}\\n\\nour figures and theirs\\n\\n" for title in [*titles, "Another"]]
(out / "report" / "report.md").write_text("# Report\\n\\n" + "".join(parts))
"""


@pytest.fixture
def toy(tmp_path):
    """Make a repository whose denoising script is tests/toy_task.py, and a folder of two images."""
    root = tmp_path / "repository"
    shutil.copytree(ROOT / "scripts", root / "scripts")
    for name in ("utils", "baselines", "operators", "models", "aseqdip_mri.py"):
        (root / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "tests" / "toy_task.py", root / "aseqdip_denoising.py")
    (root / "scripts" / "report.py").write_text(REPORT)
    (tmp_path / "images").mkdir()
    for name in ("a", "b"):
        (tmp_path / "images" / f"{name}.png").write_text(name)
    return tmp_path


def begin(toy, *arguments, table="fig8", environment=None):
    """Start the launcher as `command &` in a script does, which makes it ignore SIGINT at first.

    fig8 is seven methods at one setting.
    """
    command = [
        sys.executable, toy / "repository" / "scripts" / "launch.py", table,
        "--data", toy / "images", "--out", toy / "out", *arguments,
    ]  # fmt: skip
    return subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | (environment or {}),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )  # fmt: skip


def finish(process):
    said, errors = process.communicate(timeout=200)
    return process.returncode, said, errors


def plan_of(toy, table="fig8"):
    return json.loads((toy / "out" / "plan" / f"{table}.json").read_text())


def states(toy, item):
    return [cell["state"] for cell in plan_of(toy)["cells"] if cell["item"] == item]


def starts(toy, item):
    """Return, for each method's run on an image, the step from which each of its starts went on."""
    folder = toy / "out" / "starts"
    return {
        method: [int(line) for line in path.read_text().split()]
        for method in FIG8
        if (path := folder / f"{method}_{item}_30").exists()
    }


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def processes(toy):
    """Return the processes of the toy's task script that are alive."""
    found = []
    for path in os.listdir("/proc"):
        try:
            with open(f"/proc/{path}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        if b"aseqdip_denoising.py" in words and str(toy / "out" / "results").encode() in words:
            found.append(path)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, and the kernel to end orphans")
def test_a_table_survives_a_corrupt_image_a_signal_and_a_kill(toy):
    (toy / "images" / "b.png").write_text("corrupt")
    first = begin(toy)
    wait_for(lambda: (toy / "out" / "plan" / "fig8.json").exists())
    status, _, errors = finish(begin(toy))  # a second launcher of the same table
    assert status == 2 and "another launcher is at work" in errors and "Traceback" not in errors
    status, said, errors = finish(first)
    assert status == 1 and "Traceback" not in errors
    assert states(toy, "a") == ["done"] * 7 and states(toy, "b") == ["failed"] * 7
    failed = plan_of(toy)["cells"][-1]
    assert "not a readable picture" in failed["why"]
    assert "not a readable picture" in (toy / "out" / failed["log"]).read_text()
    assert "7 done, 7 failed, 0 left" in said
    assert said.count("our figures and theirs") == 1 and "## Figure 8" in said

    (toy / "images" / "b.png").write_text("slow")
    stopped = begin(toy, "--workers", "2")
    wait_for(lambda: len(starts(toy, "b")) >= 2)
    assert len(processes(toy)) <= 2
    stopped.send_signal(signal.SIGTERM)
    status, _, errors = finish(stopped)
    assert status == 130 and "same command goes on" in errors
    assert not processes(toy)
    assert len(list(toy.glob("out/results/denoising/*/b/*/checkpoint.pt"))) == 2
    assert set(states(toy, "b")) == {"waiting"}

    killed = begin(toy, "--workers", "2")
    wait_for(lambda: len(starts(toy, "b")) >= 4)
    killed.kill()
    finish(killed)
    wait_for(lambda: not processes(toy), seconds=5)

    status, said, errors = finish(begin(toy, "--workers", "2"))
    assert status == 0, errors
    assert states(toy, "a") == states(toy, "b") == ["done"] * 7
    assert starts(toy, "a") == {method: [0] for method in FIG8}  # nothing finished is done again
    again = [steps for steps in starts(toy, "b").values() if len(steps) > 1]
    assert len(again) >= 2 and sum(steps[-1] > 0 for steps in again) >= 2  # from the checkpoints
    assert len(list(toy.glob("out/results/*/*/*/*/metrics.json"))) == 14
    assert not list(toy.glob("out/plan/.*partial"))
    assert (toy / "out" / "figures" / "fig8.png").stat().st_size > 10000
    assert "| denoising, sigma 30 | aSeqDIP | 2 | 4, 24.00 +- 0.00 | 4, 24.00 |" in said


def test_a_run_that_another_process_holds_is_put_off_and_changed_data_are_run_again(toy):
    launcher = toy / "repository" / "scripts" / "launch.py"
    launcher.write_text(launcher.read_text().replace("BUSY_SECONDS = 10.0", "BUSY_SECONDS = 0.5"))
    (toy / "images" / "a.png").unlink()
    (toy / "images" / "b.png").write_text("slow")
    other = subprocess.Popen(
        [sys.executable, "aseqdip_denoising.py", "--sigma", "25", "--resize", "512", "--method",
         "es_dip", "--seed", "0", "--data", toy / "images" / "b.png", "--out",
         toy / "out" / "results"], cwd=toy / "repository", stdout=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for(lambda: list(toy.glob("out/results/denoising/es_dip/b/*/checkpoint.pt")))
    other.send_signal(signal.SIGSTOP)
    launched = begin(toy, table="visuals_denoising")
    plan = toy / "out" / "plan" / "visuals_denoising.json"
    wait_for(lambda: plan.exists() and plan.read_text().count('"done"') == 3)
    other.send_signal(signal.SIGCONT)
    status, said, errors = finish(launched)
    assert other.wait() == 0
    assert status == 0, errors
    assert "put off: sigma=25/es_dip/b" in said
    assert (toy / "out" / "starts" / "es_dip_b_25").read_text() == "0\n"
    plan = plan_of(toy, "visuals_denoising")
    assert [c["state"] for c in plan["cells"]] == ["not run"] + ["done"] * 4
    (picture,) = plan["figure"]["files"]
    assert (toy / "out" / picture).read_text() == "rethinking_dip,es_dip,self_guided_dip,aseqdip"

    shutil.rmtree(toy / "out" / "results" / "denoising" / "comparison")
    (toy / "images" / "b.png").write_text("changed")
    status, said, errors = finish(begin(toy, table="visuals_denoising"))
    assert status == 0, errors
    assert (toy / "out" / "starts" / "es_dip_b_25").read_text() == "0\n0\n"


def test_a_script_of_the_paper_s_runs_a_real_task(toy):
    kspace = toy / "images" / "knee.npy"
    np.save(kspace, small_kspace())
    out = toy / "out"
    here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # as if activated
    done = subprocess.run(
        ["bash", toy / "repository" / "scripts" / "table3.sh", "--data", kspace, "--out", out,
         "--quick", "--", "--K", "2", "--width", "4", "--center-fraction", "0.1"],
        capture_output=True, text=True, env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "PATH": here},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    plan = plan_of(toy, "table3")
    assert [(c["method"], c["state"]) for c in plan["cells"]] == [
        ("e2e_varnet_8000", "not run"), ("e2e_varnet_3000", "not run"), ("aseqdip", "done"),
    ]  # fmt: skip
    folder = out / plan["cells"][-1]["run"]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["quick"] and metrics["steps"] == 20
    assert f"{metrics['psnr_final']:.2f} dB" in done.stdout


def test_a_lost_node_of_a_ray_cluster_loses_no_cell(toy):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    for name in ("a", "b"):
        (toy / "images" / f"{name}.png").write_text("slow")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        lost = cluster.add_node(num_cpus=2)
        environment = {"RAY_ADDRESS": cluster.address}
        stopped = begin(toy, "--executor", "ray", environment=environment)
        wait_for(lambda: len(starts(toy, "a")) >= 2)
        stopped.send_signal(signal.SIGTERM)
        status, said, errors = finish(stopped)
        assert status == 130, said + errors
        assert "stopped: sigma=30/" in said and not processes(toy)
        before = sum(len(steps) for item in "ab" for steps in starts(toy, item).values())
        launched = begin(toy, "--executor", "ray", environment=environment)
        wait_for(lambda: sum(map(len, starts(toy, "a").values())) >= before + 3)
        cluster.remove_node(lost, allow_graceful=False)
        status, said, errors = finish(launched)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert status == 0, said + errors
    assert states(toy, "a") == states(toy, "b") == ["done"] * 7
    assert len(list(toy.glob("out/results/*/*/*/*/metrics.json"))) == 14
    every = [steps for item in "ab" for steps in starts(toy, item).values()]
    assert any(steps[-1] > 0 for steps in every)  # from a checkpoint
    # Again are begun the three that the signal stopped and the two of the lost node, no others.
    assert 14 < sum(map(len, every)) <= 14 + 3 + 2
    assert "3 at a time on a Ray cluster of 2 nodes" in said


def test_runs_are_spread_over_the_gpus_that_there_are(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setattr(executors.torch.cuda, "device_count", lambda: 2)
    executor = executors.LocalExecutor(workers=2)
    assert executor.slots == 4
    show = "import os, sys; print(os.environ['CUDA_VISIBLE_DEVICES']); sys.exit(3)"
    jobs = [executors.Job(("-c", show), tmp_path / f"{n}.log") for n in range(4)]
    for job in jobs:
        executor.start(job)
    ended = []
    wait_for(lambda: ended.extend(executor.ended()) or len(ended) == 4)
    assert {status for _, status in ended} == {3}
    assert sorted(job.log.read_text() for job in jobs) == ["3\n", "3\n", "5\n", "5\n"]


def request(table, data=None, images=2, given=None, flags=(), seeds=(0,), quick=False):
    return cells.Request(
        table, TABLES[table], ROOT / "nowhere", data, images, seeds, quick, given or {}, flags
    )


def test_every_command_of_every_table_is_one_that_its_script_takes(monkeypatch, tmp_path):
    given = {"reference": tmp_path, "bkse_weights": tmp_path}
    seen = set()
    for name in TABLES:
        for quick in (False, True):
            for asked in ({}, given):
                for cell in cells.make_cells(request(name, given=asked, quick=quick)):
                    if cell.state == "not run":
                        assert cell.why and not cell.command
                        continue
                    seen.add(tuple(cell.command))
    assert len(seen) > 100
    for command in seen:
        script = importlib.import_module(command[0].removesuffix(".py"))
        monkeypatch.setattr(sys, "argv", list(command))
        args = parse_args(script.Args, script.QUICK, script.FAST_SCHEDULE, "")
        (method,) = choose(args, script.baselines(args))
        assert method == args.method


def test_the_tables_have_the_paper_s_rows_and_columns():
    path = ROOT / "scripts" / "paper_tables.csv"
    if not path.exists():
        pytest.skip("the paper's figures are not there")
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    rows = list(csv.DictReader(lines))
    assert len(rows) > 70
    for row in rows:
        name = f"table{row['table']}" + (f"_{row['task']}" if row["table"] == "2" else "")
        table = TABLES[name]
        tasks = {setting.name: setting.task for setting in table.settings}
        assert tasks[row["setting"]] == row["task"], row
        assert row["method"] in [method.name for method in table.methods], row


def test_what_is_missing_is_told_in_the_cell():
    made = cells.make_cells(request("table2_deblurring"))
    why = {(c.setting, c.method): c.why for c in made}
    assert why["bkse", "aseqdip"].startswith("needs the weights")
    assert why["camera", "aseqdip"] is None
    made = cells.make_cells(request("table2_deblurring", given={"bkse_weights": ROOT / "LICENSE"}))
    assert {c.setting for c in made} == {"bkse"}
    assert f"--bkse-weights {ROOT / 'LICENSE'}" in " ".join(made[-1].command)
    why = {c.method: c.why for c in cells.make_cells(request("table2_mri"))}
    assert "score network" in why["score_mri"] and "--reference" in why["ref_guided_dip"]


def test_the_images_are_the_first_by_name_of_the_folder_that_is_meant(tmp_path):
    for name in ("cbsd68/c.png", "cbsd68/a.png", "cbsd68/b.png", "cbsd68/notes.txt", "ct/x.npy"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    whole = cells.make_cells(request("fig8", tmp_path, seeds=(0, 3)))
    assert [(c.item, c.seed) for c in whole[:3]] == [("a", 0), ("a", 3), ("a", 0)]
    assert {c.item for c in whole} == {"a", "b"} and len(whole) == 28
    assert cells.make_cells(request("fig8", tmp_path / "cbsd68", seeds=(0, 3))) == whole
    figure = cells.make_cells(request("fig4", tmp_path))
    assert [c.item for c in figure if c.task == "ct"] == ["x"] * 4
    (why,) = {c.why for c in figure if c.task == "mri"}
    assert "no folder fastmri or mri in" in why
    for data, table, words in (
        (tmp_path / "cbsd68", "fig4", "several kinds of data"),
        (tmp_path / "no", "fig8", "no such file"),
        (tmp_path / "ct", "table2_mri", None),
        (tmp_path / "cbsd68", "table2_mri", "a folder without .h5"),
    ):
        if words is None:
            assert cells.make_cells(request(table, data))  # .npy can hold k-space too
            continue
        with pytest.raises(InputError, match=words):
            cells.make_cells(request(table, data))


def test_flags_after_the_dashes_go_to_every_run_but_not_those_that_make_the_table():
    made = cells.make_cells(request("fig8", flags=("--resize", "64", "--ema_decay=0.5")))
    assert all("--resize 64 --ema-decay 0.5" in " ".join(c.command) for c in made)
    assert all("512" not in c.command for c in made)
    for flag in ("--sigma", "--out", "--method"):
        with pytest.raises(InputError, match=flag):
            cells.make_cells(request("fig8", flags=(flag, "1")))
    with pytest.raises(InputError, match="expected a flag"):
        cells.make_cells(request("fig8", flags=("64",)))
    with pytest.raises(InputError, match="--widht: no flag of aseqdip_denoising.py; --help"):
        cells.make_cells(request("fig8", flags=("--widht", "8")))


def test_the_listed_images_come_first_and_those_that_lack_are_told(tmp_path, capsys):
    for number in (0, 2, 3, 47):
        (tmp_path / f"{number:04d}.png").write_text("x")
    (tmp_path / "aaa.png").write_text("x")

    def names(images):
        made = cells.make_cells(request("fig8", data=tmp_path, images=images))
        return list(dict.fromkeys(cell.item for cell in made))

    assert names(1) == ["0000"] and not capsys.readouterr().out
    assert names(3) == ["0000", "0002", "0003"]
    said = capsys.readouterr().out
    assert "1 of the 3 images that data/cbsd68.txt names are not there (0001)" in said
    assert "taken are 0000.png, 0002.png, 0003.png" in said
    assert names(30) == ["0000", "0002", "0003", "0047", "aaa"]


def test_flags_after_the_dashes_go_to_the_scripts_that_have_them():
    made = cells.make_cells(request("fig4", flags=("--resize", "64", "--width", "8")))
    for cell in made:
        given = cells.read_flags(cell.command[1:])
        assert given["--width"] == ["8"]
        assert given.get("--resize") == {"mri": None, "ct": ["64"]}[cell.task]
    assert {cell.task for cell in made} == {"mri", "ct"}


def test_a_cell_stays_done_only_while_nothing_it_depends_on_changes(tmp_path):
    image = tmp_path / "a.png"
    image.write_text("a")
    asked = dataclasses.replace(request("fig8", image), out=tmp_path / "out")
    (tmp_path / "out" / "plan").mkdir(parents=True)
    plan = cells.Plan(asked)
    cell = plan.cells[0]
    cell.state, cell.run = "done", "results/run"
    plan.cells[1].state, plan.cells[1].run = "done", "results/lost"
    plan.cells[2].state = "failed"
    plan.cells[3].state = "running"
    plan.save()
    (tmp_path / "out" / "results" / "run").mkdir(parents=True)
    (tmp_path / "out" / "results" / "run" / "metrics.json").touch()

    def taken_over(asked):
        again = cells.Plan(asked)
        again.take_over()
        return [cell.state for cell in again.cells]

    assert taken_over(asked) == ["done"] + ["waiting"] * 6
    assert taken_over(dataclasses.replace(asked, flags=("--width", "8"))) == ["waiting"] * 7
    image.write_text("another")
    assert taken_over(asked) == ["waiting"] * 7
    plan.path.write_text("{")
    with pytest.raises(InputError, match="damaged"):
        taken_over(asked)


def test_a_mean_curve_weighs_images_alike_and_ends_with_the_first_run():
    logs = {
        "a": [{10: 20.0, 20: 22.0, 30: 30.0}, {10: 22.0, 20: 24.0}],
        "b": [{10: 25.0, 20: 29.0, 30: 31.0}],
    }
    curve = plot_steps.mean_curve(logs)
    np.testing.assert_array_equal(curve.steps, [10, 20])
    np.testing.assert_allclose(curve.mean, [23.0, 26.0])
    np.testing.assert_allclose(curve.std, [4 / 2**0.5, 6 / 2**0.5])
    assert curve.images == 2


def test_a_figure_is_not_drawn_of_runs_that_share_no_step(tmp_path, capsys):
    logs = {"a": "step,psnr\n0,5.0\n7,20.0\n", "b": "step,psnr\n0,5.0\n9,21.0\n"}
    table_cells = []
    for item, text in logs.items():
        (tmp_path / item).mkdir()
        (tmp_path / item / "log.csv").write_text(text)
        table_cells.append(
            {"setting": "s", "method": "m", "state": "done", "item": item, "run": item}
        )
    (tmp_path / "plan").mkdir()
    curve = {"label": "m", "setting": "s", "method": "m"}
    figure = {"kind": "curves", "file": "f.png", "panels": [{"title": "p", "curves": [curve]}]}
    plan = {"title": "t", "quick": False, "cells": table_cells, "figure": figure}
    (tmp_path / "plan" / "t.json").write_text(json.dumps(plan))
    plot_steps.main(argparse.Namespace(plan=tmp_path / "plan" / "t.json"))
    assert "nothing to draw" in capsys.readouterr().out and not (tmp_path / "f.png").exists()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--images", "0"), "--images 0: expected a whole number of at least 1"),
        (("--seeds", "1", "1"), "--seeds 1 1: expected different numbers"),
        (("--data", "/no"), "--data /no: no such file or folder"),
        (("--reference", "/no"), "--reference /no: no such file"),
        (("--workers", "0"), "--workers 0: expected a whole number of at least 1"),
        (("--gpus-per-run", "0.5"), "--gpus-per-run: of use to --executor ray only"),
        (("--executor", "ray", "--workers", "2"), "--workers: of use to --executor local only"),
        (("--", "--sigma", "1"), "--sigma: fig8 sets it, or it stands before the --"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(arguments, words, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["launch.py", "fig8", "--out", str(out), *arguments])
    assert launch.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and words in line
    assert not out.exists()


def test_the_scripts_beside_it_refuse_what_they_cannot_do(tmp_path):
    nothing = tmp_path / "no.json"
    for arguments in (("plot_steps.py", nothing), ("kill_launcher.py", "--kills", "1")):
        done = subprocess.run(
            [sys.executable, ROOT / "scripts" / arguments[0], *arguments[1:]],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert "error: " in done.stderr.splitlines()[-1]
