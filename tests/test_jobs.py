"""The runner of tables, with a task script in miniature, and with a real one."""

import fcntl
import importlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, small_kspace
from running import as_process, call

from baselines import chosen
from scripts import executors, jobs
from utils.cli import parse_args
from utils.errors import InputError
from utils.paper import paper_figures

FIG8 = "aseqdip,self_guided_dip,es_dip,rethinking_dip,tv_dip,sgld_dip,vanilla_dip"
LINE = "sigma={0}: python aseqdip_denoising.py --sigma {0} --method {1} --list data/cbsd68.txt"
TABLE = LINE.format(30, FIG8)
SCRIPTS = [
    "fig4", "fig8", "fig9", "fig10", "table2_ct", "table2_deblurring", "table2_denoising",
    "table2_inpainting", "table2_mri", "table3", "table4", "visuals",
]  # fmt: skip
REPORT = """
import json, pathlib, sys
out = pathlib.Path(sys.argv[1])
(out / "report").mkdir(exist_ok=True)
titles = [json.loads(path.read_text())["title"] for path in (out / "plan").glob("*.json")]
parts = [f"## {title}\\n\\nour figures and theirs\\n\\n" for title in [*titles, "Another"]]
(out / "report" / "report.md").write_text("# Report\\n\\n" + "".join(parts))
"""
PLOT = """
import json, pathlib, sys
path = pathlib.Path(sys.argv[1])
figure = path.parent.parent / json.loads(path.read_text())["figure"]["file"]
figure.parent.mkdir(exist_ok=True)
figure.write_text("curves")
"""


@pytest.fixture
def toy(tmp_path):
    """Make a repository whose denoising script is tests/toy_task.py, and a folder of two images."""
    root = tmp_path / "repository"
    shutil.copytree(ROOT / "scripts", root / "scripts")
    for name in ("utils", "baselines", "operators", "models", "aseqdip_mri.py"):
        (root / name).symlink_to(ROOT / name)
    (root / "real_denoising.py").symlink_to(ROOT / "aseqdip_denoising.py")
    shutil.copy(ROOT / "tests" / "toy_task.py", root / "aseqdip_denoising.py")
    (root / "scripts" / "report.py").write_text(REPORT)
    (root / "scripts" / "plot_steps.py").write_text(PLOT)
    (tmp_path / "images").mkdir()
    for name in ("a", "b"):
        (tmp_path / "images" / f"{name}.png").write_text(name)
    return tmp_path


def begin(toy, *arguments, lines=TABLE, name="fig8", environment=None):
    """Start the runner as `command &` in a script does, which makes it ignore SIGINT at first."""
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts.jobs", "Figure 8", "--name", name, "--data", "../images",
         "--out", toy / "out", *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=toy / "repository", env=os.environ | (environment or {}),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )  # fmt: skip
    process.stdin.write(lines)
    process.stdin.close()
    process.stdin = None
    return process


def finish(process):
    said, errors = process.communicate(timeout=200)
    return process.returncode, said, errors


def plan_of(toy, name="fig8"):
    return json.loads((toy / "out" / "plan" / f"{name}.json").read_text())


def states(toy, item):
    return [cell["state"] for cell in plan_of(toy)["cells"] if cell["item"] == item]


def starts(toy, item):
    """Return, for each method's run on an image, the step from which each of its starts went on."""
    folder = toy / "out" / "starts"
    return {
        method: [int(line) for line in path.read_text().split()]
        for method in FIG8.split(",")
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
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
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
    first.send_signal(signal.SIGSTOP)
    status, _, errors = finish(begin(toy))  # a second runner of the same table
    first.send_signal(signal.SIGCONT)
    assert status == 2 and "another process is at work" in errors and "Traceback" not in errors
    status, said, errors = finish(first)
    assert status == 1 and "Traceback" not in errors
    assert states(toy, "a") == ["done"] * 7 and states(toy, "b") == ["failed"] * 7
    assert "not a readable picture" in plan_of(toy)["cells"][-1]["why"]
    assert "7 done, 7 failed, 0 left" in said and "b.png: not a readable picture" in said
    assert said.count("our figures and theirs") == 1 and "## Figure 8" in said

    (toy / "images" / "b.png").write_text("slow")
    stopped = begin(toy, "--workers", "2")
    wait_for(lambda: len(starts(toy, "b")) >= 2)
    assert len(processes(toy)) <= 2
    stopped.send_signal(signal.SIGTERM)
    status, _, errors = finish(stopped)
    assert status == 130 and "repeat the command to continue" in errors
    assert not processes(toy)
    assert len(list(toy.glob("out/results/denoising/*/b/*/checkpoint.pt"))) == 2
    assert set(states(toy, "b")) == {"waiting"}

    killed = begin(toy, "--workers", "2")
    wait_for(lambda: len(starts(toy, "b")) >= 4)
    killed.kill()
    finish(killed)
    wait_for(lambda: not processes(toy), seconds=5)
    assert states(toy, "a") == ["done"] * 7 and "running" in states(toy, "b")
    (toy / "out" / "plan" / "fig8.json").write_text("{")  # nothing is read back from it
    (toy / "out" / "plan" / ".fig8.json.1.partial").touch()

    status, said, errors = finish(begin(toy, "--workers", "2", "--curves"))
    assert status == 0, errors
    assert states(toy, "a") == states(toy, "b") == ["done"] * 7
    assert all(steps == [0] for steps in starts(toy, "a").values())  # nothing is done again
    again = [steps for steps in starts(toy, "b").values() if len(steps) > 1]
    assert len(again) >= 2 and sum(steps[-1] > 0 for steps in again) >= 2  # from the checkpoints
    assert len(list(toy.glob("out/results/*/*/*/*/metrics.json"))) == 14
    assert not list(toy.glob("out/plan/.*partial"))
    assert (toy / "out" / plan_of(toy)["figure"]["file"]).read_text() == "curves"


def test_a_run_that_another_process_holds_is_put_off_and_changed_data_are_run_again(toy):
    script = toy / "repository" / "scripts" / "jobs.py"
    script.write_text(script.read_text().replace("BUSY_SECONDS = 10.0", "BUSY_SECONDS = 0.5"))
    (toy / "images" / "a.png").unlink()
    table = dict(lines=LINE.format(25, "es_dip,tv_dip,aseqdip"), name="pictures")
    assert finish(begin(toy, **table))[0] == 0
    (held,) = toy.glob("out/results/denoising/es_dip/b/*")
    (held / "metrics.json").unlink()
    lock = os.open(held, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    runner = begin(toy, "--pictures", **table)
    put_off = ["waiting", "done", "done"]
    wait_for(lambda: [c["state"] for c in plan_of(toy, "pictures")["cells"]] == put_off)
    os.close(lock)
    status, said, errors = finish(runner)
    assert status == 0, errors
    assert "put off: sigma=25/es_dip/b" in said
    assert (toy / "out" / "starts" / "es_dip_b_25").read_text() == "0\n0\n"
    assert (toy / "out" / "starts" / "tv_dip_b_25").read_text() == "0\n"
    (picture,) = plan_of(toy, "pictures")["figure"]["files"]
    assert (toy / "out" / picture).read_text() == "es_dip,tv_dip,aseqdip"

    (toy / "images" / "b.png").write_text("changed")
    status, said, errors = finish(begin(toy, **table))
    assert status == 0, errors
    assert (toy / "out" / "starts" / "tv_dip_b_25").read_text() == "0\n0\n"


def test_a_script_of_the_paper_s_runs_a_real_task(toy):
    kspace = toy / "images" / "knee.npy"
    np.save(kspace, small_kspace())
    here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # as if activated
    done = subprocess.run(
        ["bash", toy / "repository" / "scripts" / "table3.sh", "--data", kspace, "--out",
         toy / "out", "--quick", "--", "--K", "2", "--width", "4", "--center-fraction", "0.1"],
        capture_output=True, text=True, env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "PATH": here},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    plan = plan_of(toy, "table3")
    varnet, cell = plan["cells"]
    assert varnet["why"] == "needs prior data: --varnet-weights names them"
    assert cell["state"] == "done" and plan["quick"] and plan["paper_images"] == 20
    metrics = json.loads((toy / "out" / cell["run"] / "metrics.json").read_text())
    assert metrics["steps"] == 20 and f"{metrics['psnr_final']:.2f} dB" in done.stdout
    assert "## Table 3" in done.stdout


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
    logs = [tmp_path / f"{n}.log" for n in range(4)]
    for log in logs:
        executor.start(log.name, ("-c", show), log)
    ended = []
    wait_for(lambda: ended.extend(executor.ended()) or len(ended) == 4)
    assert sorted(ended) == [(log.name, 3) for log in logs]
    assert sorted(log.read_text() for log in logs) == ["3\n", "3\n", "5\n", "5\n"]


def plan(*arguments, lines=TABLE, title="Figure 8"):
    """Make the plan of lines in this process."""
    args, further = jobs.read_arguments([title, *map(str, arguments)])
    return jobs.make_plan(args, lines, further)


def plans(script, folder, *arguments):
    """Return the plans of a shell script: another `python` writes down what it asks for."""
    stand_in = folder / "bin" / "python"
    stand_in.parent.mkdir(exist_ok=True)
    stand_in.write_text("#!/bin/bash\nprintf '\\036'; printf '%s\\037' \"${@:3}\"; cat\n")
    stand_in.chmod(0o755)
    path = f"{stand_in.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", ROOT / "scripts" / f"{script}.sh", "--out", folder / "out", *arguments],
        capture_output=True, text=True, check=True, env=os.environ | {"PATH": path},
    )  # fmt: skip
    asked = [record.split("\037") for record in done.stdout.split("\036")[1:]]
    return [plan(*words, lines=lines, title=title) for title, *words, lines in asked]


def flags_of(cell):
    return jobs.read_flags(cell.command[1:])


def test_every_command_of_every_table_is_one_that_its_script_takes(tmp_path):
    given = ("--reference", tmp_path, "--bkse-weights", ROOT / "LICENSE", "--quick")
    varnet = ("--", "--varnet-weights", ROOT / "LICENSE")
    seen = {}
    for name in SCRIPTS:
        for asked in ((), (*given, *varnet) if name == "table3" else given):
            for made in plans(name, tmp_path, *asked):
                for cell in made.cells:
                    assert (cell.state == "not run") == (not cell.command) == bool(cell.why)
                    lacking = ("bm3d", "--prior", "fastmri")
                    assert not cell.why or not asked or any(w in cell.why for w in lacking)
                    seen[tuple(cell.command)] = cell
    assert len(seen) > 100
    # Of those that differ in values alone the plan itself has read each; one is enough here.
    each = {(c[0], *(w for w in c if w[:2] == "--"), cell.method): (c, cell)
            for c, cell in seen.items() if c}  # fmt: skip
    for command, cell in each.values():
        script = importlib.import_module(command[0].removesuffix(".py"))
        args = parse_args(script.Args, script.PRESETS, "", command[1:])
        (method,) = chosen(args, script.baselines(args))
        assert method.name == cell.method and args.seed == 0
        assert args.preset == ("quick" if "--preset" in command else "paper")
    ks = {flags_of(cell)["--K"][0] for cell in seen.values() if "--lambda-ae" in cell.command}
    assert ks == {"5000", "125"}


@pytest.mark.parametrize("preset, updates", [
    ("paper", 10000), ("best", 10000), ("public", 10000), ("quick", 1250),
])  # fmt: skip
def test_figure_9_has_its_updates_with_every_preset(preset, updates, tmp_path):
    (made,) = plans("fig9", tmp_path, "--preset", preset)
    for cell in made.cells:
        script = importlib.import_module(cell.command[0].removesuffix(".py"))
        args = parse_args(script.Args, script.PRESETS, "", cell.command[1:])
        assert updates == args.K * args.N


def test_the_tables_have_the_paper_s_rows_and_columns(tmp_path):
    found = {}
    for name in SCRIPTS:
        for made in plans(name, tmp_path) if name.startswith("table") else ():
            for cell in made.cells:
                found.setdefault((name, cell.task, cell.setting), set()).add(cell.method)
    assert len(paper_figures()) > 70
    for row in paper_figures():
        name = f"table{row.table}" + (f"_{row.task}" if row.table == 2 else "")
        methods = found[name, row.task, row.setting]
        # DDNM is for linear problems, and VarNet's weights are not the paper's.
        no_ddnm = row.method == "ddnm" and row.task == "deblurring"
        assert row.method in methods or no_ddnm or row.method.startswith("e2e_varnet_")
    assert "varnet" in found["table3", "mri", "accel=4"]


def test_what_is_missing_is_told_in_the_cell(tmp_path):
    (made,) = plans("table2_deblurring", tmp_path)
    why = {(c.setting, c.method): c.why for c in made.cells}
    assert why["bkse", "aseqdip"].startswith("needs the weights")
    assert why["camera", "aseqdip"] is None
    (made,) = plans("table2_deblurring", tmp_path, "--bkse-weights", ROOT / "LICENSE")
    assert {c.setting for c in made.cells} == {"bkse"}
    assert f"--bkse-weights {ROOT / 'LICENSE'}" in " ".join(made.cells[-1].command)
    (made,) = plans("table2_mri", tmp_path)
    why = {c.method: c.why for c in made.cells}
    assert "--reference" in why["ref_guided_dip"] and why["aseqdip"] is None
    assert why["score_mri"] == "needs prior data: --prior names them"
    made = {c.method: c for c in plans("table2_mri", tmp_path, "--", "--prior", "p.pt")[0].cells}
    assert made["score_mri"].why is None and "--prior p.pt" in " ".join(made["score_mri"].command)
    assert "--prior" not in made["aseqdip"].command
    assert [s.label for s in plans("table2_ct", tmp_path)[0].settings] == ["18 views", "30 views"]


def test_the_images_are_the_first_by_name_of_the_folder_that_is_meant(tmp_path):
    for name in ("cbsd68/c.png", "cbsd68/a.png", "cbsd68/b.png", "cbsd68/notes.txt", "ct/x.npy"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def cells(script, data):
        asked = ("--data", data, "--images", "2", "--seeds", "0", "3")
        return plans(script, tmp_path, *asked)[0].cells

    whole = cells("fig8", tmp_path)
    assert [(c.item, c.seed) for c in whole[:3]] == [("a", 0), ("a", 3), ("a", 0)]
    assert {c.item for c in whole} == {"a", "b"} and len(whole) == 28
    assert cells("fig8", tmp_path / "cbsd68") == whole
    figure = cells("fig4", tmp_path)
    assert [c.item for c in figure if c.task == "ct"] == ["x"] * 8
    (why,) = {c.why for c in figure if c.task == "mri"}
    assert "needs data: no folder fastmri or mri in" in why
    assert cells("table2_mri", tmp_path / "ct")  # .npy can hold k-space too
    for data, script, words in (
        ("cbsd68", "fig4", "several kinds of data"),
        ("no", "fig8", "no such file"),
        ("cbsd68", "table2_mri", "a folder without .h5"),
    ):
        with pytest.raises(InputError, match=words):
            cells(script, tmp_path / data)


def test_the_listed_images_come_first_and_those_that_lack_are_told(tmp_path, capsys):
    for name in ("0000", "0002", "0003", "0047", "aaa"):
        (tmp_path / f"{name}.png").write_text("x")

    def names(images):
        made = plan("--data", tmp_path, "--images", images)
        return list(dict.fromkeys(cell.item for cell in made.cells))

    assert names(1) == ["0000"] and not capsys.readouterr().out
    assert names(3) == ["0000", "0002", "0003"]
    assert "1 of the 3 names in" in (said := capsys.readouterr().out) and "(0001)" in said
    assert names(30) == ["0000", "0002", "0003", "0047", "aaa"]


def test_flags_after_the_dashes_go_to_the_scripts_that_have_them(tmp_path):
    made = plan("--quick", "--", "--resize", "64", "--ema_decay=0.5")
    assert all("--resize 64 --ema-decay 0.5" in " ".join(c.command) for c in made.cells)
    (made,) = plans("fig4", tmp_path, "--", "--resize", "64", "--width", "8", "--lambda-ae", "2")
    for cell in made.cells:
        flags = flags_of(cell)
        assert flags["--width"] == ["8"]
        assert flags.get("--resize") == {"mri": None, "ct": ["64"]}[cell.task]
        assert ("--lambda-ae" in flags) == (cell.method == "aseqdip")  # of no use to the others


@pytest.mark.parametrize(
    "arguments, facts",
    [
        (("--quick", "--preset", "best"), "--quick.*--preset best"),
        (("--images", "0"), "--images 0: expected .*at least 1"),
        (("--seeds", "1", "1"), "--seeds 1 1: expected different numbers"),
        (("--data", "/no"), "--data /no: no such file"),
        (("--reference", "/no"), "--reference /no: no such file"),
        (("--workers", "0"), "--workers 0: expected .*at least 1"),
        (("--gpus-per-run", "0.5"), "--gpus-per-run: .*ray.*--workers"),
        (("--executor", "ray", "--workers", "2"), "--workers: .*local.*--gpus-per-run"),
        (("--", "--sigma", "1"), "--sigma: Figure 8 sets it"),
        (("--", "--out", "1"), "--out: Figure 8 sets it"),
        (("--", "64"), "64: expected a flag"),
        (("--", "--widht", "8"), "--widht: no flag of aseqdip_denoising.py"),
        (("--", "--K", "0"), "--K 0: expected .*at least 1"),
        ("a=1: python aseqdip_no.py", "no aseqdip_no.py"),
        ("python aseqdip_mri.py", "expected NAME: python aseqdip_TASK.py FLAGS"),
        ("a: python aseqdip_mri.py --method bm3d", "--method bm3d: not of mri"),
        ("a: python aseqdip_ct.py --method aseqdip_split", "each job has one method"),
        ("a: python aseqdip_ct.py --method tv --set x=1", "--set x=1: none of tv"),
        ("", "stdin: expected NAME"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(arguments, facts, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    lines = arguments if isinstance(arguments, str) else TABLE
    arguments = () if isinstance(arguments, str) else arguments
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    assert call(monkeypatch, jobs, "Figure 8", "--out", out, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and re.search(facts, line)
    assert not out.exists()


def test_the_script_that_kills_the_runner_needs_a_table():
    done = as_process("studies.kill_table", "--kills", "1")
    assert done.returncode == 2 and "Traceback" not in done.stderr
