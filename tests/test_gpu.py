"""The measurement on a GPU: its commands are the scripts', its processes are stand-ins."""

import io
import json
import signal
import sys
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import skimage.data
import torch
from conftest import ROOT
from PIL import Image
from running import call, squeezed

from baselines import chosen
from scripts import (
    bench,
    gpu,
    gpu_bench,
    gpu_campaign,
    gpu_jobs,
    gpu_report,
    gpu_smoke,
    graph_equals_eager,
)
from scripts.executors import spawn
from scripts.tasks import SCRIPTS
from studies import kill_and_resume
from utils.cli import check_method, parse_args
from utils.errors import Interrupted, exit_status
from utils.graphs import Graphed

TOY = ROOT / "tests" / "toy_gpu.py"


@pytest.fixture
def toys(monkeypatch):
    """Let stand-ins take the place of all processes, and the clock begin now."""
    monkeypatch.setattr(
        gpu_jobs, "spawn", lambda command, *more: spawn((str(TOY), *command), *more)
    )
    monkeypatch.setattr(gpu_jobs, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(gpu_bench, "AT_A_TIME", (1, 2))
    monkeypatch.setattr(gpu, "BEGUN", time.monotonic())


def measured(tmp_path, **more):
    """Call the dry run in this process; return its status and what it wrote."""
    (tmp_path / "data").mkdir(exist_ok=True)
    args = gpu.Args(data=tmp_path / "data", out=tmp_path / "out", dry_run=True, **more)
    status = exit_status(lambda: gpu.measure(args))
    page = (tmp_path / "out" / "gpu.md").read_text()
    return status, json.loads((tmp_path / "out" / "gpu.json").read_text()), page


def processes(tmp_path):
    stop = []
    return gpu_jobs.Processes(tmp_path / "logs", stop), stop


def test_all_parts_and_then_only_what_is_left(toys, tmp_path, capsys, monkeypatch):
    status, record, page = measured(tmp_path)
    assert status == 0, capsys.readouterr().err
    assert {part: p["state"] for part, p in record["parts"].items()} == dict.fromkeys(
        gpu.PARTS, "done"
    )
    assert record["smoke"]["denoising fp32"]["done"] == ["aseqdip", "tv_dip"]
    assert record["smoke"]["denoising fp32"]["not installed"] == ["bm3d"]
    assert all(found["ok"] for found in record["smoke"].values())
    reached = {t["target"]: t["reached"] for t in record["targets"]}
    assert sum(reached.values()) == len(reached) - 3  # fp32 is 1.5 times as quick, in three tasks
    assert "| 24.0 s | reached |" in squeezed(page)  # 2000 outer steps of two updates at 6 ms
    assert record["bench"]["throughput"]["best"] == 2
    runs = record["campaign"]["runs"]
    assert [run["state"] for run in runs] == ["done"] * 5 and record["campaign"]["at a time"] == 2
    assert len(record["campaign"]["notes"]) == sum(
        s.file is not None for s in gpu_campaign.SETTINGS
    )
    assert "| MRI 4x, sample: aseqdip | done | 20.00 | 30.00 |" in squeezed(page)
    assert len(page.splitlines()) <= gpu_report.MAX_LINES

    # A fresh machine that has the archive only: nothing of the campaign is begun again, and what
    # the parts that are not asked for have measured stays.
    for path in (tmp_path / "out" / "results").rglob("*"):
        if path.is_file():
            path.unlink()
    (tmp_path / "out" / "results").rename(tmp_path / "elsewhere")
    monkeypatch.setattr(gpu_jobs, "spawn", lambda command, *more: pytest.fail(f"begun: {command}"))
    status, again, _ = measured(tmp_path, parts=("campaign",))
    assert status == 0 and again["campaign"]["runs"] == runs
    assert again["bench"] == record["bench"] and again["smoke"] == record["smoke"]
    assert "runs.tar.gz was unpacked" in capsys.readouterr().out


def test_a_failure_stops_nothing_that_comes_after_it(toys, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TOY_FAILS", "aseqdip_ct.py;scripts.bench ct")
    status, record, page = measured(tmp_path)
    assert status == 1 and "steps failed: " in capsys.readouterr().err
    assert record["smoke"]["ct fp32"]["why"] == "as it was told"
    assert record["smoke"]["mri fp32"]["ok"]
    assert record["bench"]["ct"] == {"failed": "as it was told"}
    assert "update" in record["bench"]["denoising"]
    states = {run["name"]: run["state"] for run in record["campaign"]["runs"]}
    assert states["CT 18 views, sample: aseqdip"] == "failed"
    assert states["denoising 15, sample: aseqdip"] == "done"
    assert "| CT 18 views, sample: aseqdip | failed: as it was told |" in squeezed(page)
    monkeypatch.setattr(gpu, "smoke", lambda work, deadline: 1 / 0)
    status, record, _ = measured(tmp_path, parts=("smoke", "campaign"))
    assert status == 1 and record["parts"]["smoke"]["state"] == "failed: division by zero"
    assert record["parts"]["campaign"]["state"] == "done"


def test_what_the_time_cut_off_did_not_fail():
    bench = {"mri": {"failed": "cut, the time was up"}, "ct": {"failed": "the time was up"}}
    bench |= {"denoising": {"failed": "killed"}, "inpainting": {"ms": 1.0}}
    record = {"smoke": {}, "bench": bench, "campaign": {}, "parts": {}}
    assert gpu_report.failures(record) == ["bench denoising"]


def test_when_the_time_is_up_runs_are_cut_and_go_on_with_the_next_call(toys, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_STEPS", "100000")
    status, record, page = measured(tmp_path, parts=("campaign",), minutes=3 / 60)
    assert status == 0 and record["parts"]["campaign"]["state"] == "cut, the time was up"
    states = [run["state"] for run in record["campaign"]["runs"]]
    assert states == ["interrupted", *["waiting"] * 4] and "cut, the time was up" in page
    with tarfile.open(tmp_path / "out" / "runs.tar.gz") as archive:
        assert any(name.endswith("checkpoint.pt") for name in archive.getnames())
    monkeypatch.delenv("TOY_STEPS")
    monkeypatch.setattr(gpu, "BEGUN", time.monotonic())
    status, record, _ = measured(tmp_path, parts=("campaign",))
    assert {run["state"] for run in record["campaign"]["runs"]} == {"done"}
    assert "resumed after" in (tmp_path / "out/logs/MRI_4x_sample_aseqdip.log").read_text()


def test_a_process_and_its_child_end_with_the_time_or_a_signal(toys, tmp_path):
    found = {}
    work, stop = processes(tmp_path)
    work.run({"a": ("sleep",)}, 1, time.monotonic() + 0.5, found.__setitem__)
    assert found["a"].status is None and found["a"].why == "cut, the time was up"
    status = Path(f"/proc/{found['a'].log.strip()}/status")  # of its child
    if sys.platform == "linux":
        assert not status.exists() or "Z (zombie)" in status.read_text()
    stop.append(signal.SIGTERM)
    with pytest.raises(Interrupted, match="SIGTERM"):
        work.run({"b": ("sleep",)}, 1, time.monotonic() + 60, found.__setitem__)
    assert "b" not in found


def test_what_fails_beside_the_public_code_is_timed_without_it(toys, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_FAILS", "--against")
    work = gpu_jobs.Work(
        tmp_path, tmp_path, gpu_jobs.DRY, processes(tmp_path)[0], time.monotonic() + 60,
        {part: {} for part in gpu.PARTS},
    )  # fmt: skip
    found = gpu_bench.bench_task(work, "mri", tmp_path, time.monotonic() + 60)
    assert found["no public loop"] == "as it was told" and "update" in found


def test_failures_and_notes_are_found_behind_a_progress_bar(tmp_path):
    log = "  0%|   | 3/8 [00:00<?, ?step/s]note: no CUDA graph can be made (not permitted); each kernel\n"
    log += " 50%|   | 4/8 [00:01<?, ?step/s]tv_dip failed: wrong shape\nerror: tv_dip failed, as said\n"
    found = gpu_smoke.read_task(gpu_jobs.Ended(2, 1.0, log), tmp_path)
    assert found["failed"] == {"tv_dip": "wrong shape"} and found["no graph"] == "not permitted"
    assert found["why"] == "tv_dip failed, as said" and not found["ok"]


def test_without_cuda_it_is_refused_in_one_line(tmp_path, capsys):
    if torch.cuda.is_available():
        pytest.skip("this case needs a machine without CUDA")
    assert exit_status(lambda: gpu.measure(gpu.Args(data=tmp_path, out=tmp_path / "out"))) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "sees no CUDA device" in line and "--dry-run" in line and not (tmp_path / "out").exists()


def distinct(*commands):
    """Return the commands but for those whose method and whose other flags others have, too."""
    seen = set()
    for command in commands:
        at = command.index("--method")
        parts = {(command[0], command[at + 1]), (command[0], *command[1:at])}
        if not parts <= seen:
            seen |= parts
            yield command


def test_the_scripts_take_every_command(tmp_path, monkeypatch):
    """All flags, methods and settings of smoke and campaign, on either scale."""
    for file in {setting.file for setting in gpu_campaign.SETTINGS} - {None}:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    for scale in (gpu_jobs.GPU, gpu_jobs.DRY):
        work = SimpleNamespace(scale=scale, data=tmp_path, out=tmp_path)
        commands, notes = gpu_campaign.campaign_commands(work, "bf16")
        assert not notes and len(commands) > (100 if scale.whole_campaign else 4)
        for command in distinct(
            *commands.values(), *gpu_smoke.task_commands(scale, tmp_path).values()
        ):
            monkeypatch.setattr(sys, "argv", list(command))
            script = SCRIPTS[command[0].removeprefix("aseqdip_").removesuffix(".py")]
            args = parse_args(script.Args, script.PRESETS, "")
            check_method(args)
            names = [method.name for method in chosen(args, script.baselines(args))]
            assert "aseqdip" in names or args.method in gpu_campaign.METHODS
    first = list(commands)[0]
    assert first == "MRI 4x, T1 brain: aseqdip"


def test_a_run_of_the_campaign_for_real(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "BEGUN", time.monotonic())
    monkeypatch.setattr(
        gpu_campaign,
        "SETTINGS",
        [s for s in gpu_campaign.SETTINGS if s.name == "denoising 15, 0010"],
    )
    picture = tmp_path / "data" / "cbsd68" / "0010.png"
    picture.parent.mkdir(parents=True)
    Image.fromarray(skimage.data.astronaut()[60:140, 190:270]).save(picture)
    status, record, _ = measured(tmp_path, parts=("campaign",), precision="fp32")
    (run,) = record["campaign"]["runs"]
    assert status == 0 and run["state"] == "done" and run["steps"] == 60 and run["psnr_final"] > 0
    with tarfile.open(tmp_path / "out" / "runs.tar.gz") as archive:
        packed = {name.rpartition("/")[2] for name in archive.getnames()}
    assert packed == {*gpu_campaign.PACKED, "denoising_15_0010_aseqdip.log"}


def test_graphs_and_kernels_are_compared_for_real(monkeypatch, capsys):
    flags = ["ct", "--size", 32, "--width", 4, "--steps", 2, "--device", "cpu"]
    assert call(monkeypatch, graph_equals_eager, *flags) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["graph equals eager"] and found["eager equals eager"] and found["finite"]
    assert not found["graphs"]  # on a CPU there are none
    Graphed.enabled = True


def test_the_bench_of_steps_alone_for_real(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "matmul_rate", lambda device, precision: 1.0)
    flags = ["denoising", "--size", "32", "--width", "4", "--device", "cpu", "--rounds", "1"]
    flags += ["--seconds", "0.01", "--steps-only", "--out", tmp_path]
    assert call(monkeypatch, bench, *flags) == 0
    found = json.loads((tmp_path / "denoising.json").read_text())
    part = {part: {} for part in gpu.PARTS}
    lines = gpu_report.bench_lines(part | {"bench": {"denoising": found}})
    assert f"| fp32 | {1e3 * found['update']['fp32']['median']:.3f} |" in squeezed("\n".join(lines))
    assert "set-up, seconds" not in found and "imports" not in capsys.readouterr().out


def test_an_interrupted_run_resumes_a_checkpoint(monkeypatch, capsys):
    monkeypatch.setenv("TOY_STEPS", "150")
    flags = ["--interrupt", "--kills", "1", TOY, "aseqdip_mri.py"]
    status = call(monkeypatch, kill_and_resume, *flags)
    said = capsys.readouterr().out
    assert gpu_smoke.read_check("resume", said) == {"trials": 1, "resumed": 1, "equal": 1}
    assert status == 0


def test_the_summary_is_short_however_many_runs():
    part = {part: {} for part in gpu.PARTS}
    run = {"state": "failed", "why": "a | b"}
    record = part | {"dry run": False, "device": "H100", "driver": "1", "cuda": "13", "torch": "2",
                     "cores": 16, "commit": "abc", "dirty": True, "parts": {}, "pack": {}}  # fmt: skip
    record["campaign"] = {"precision": "bf16", "at a time": 2, "notes": ["left out"],
                          "runs": [{"name": f"run {k}", **run} for k in range(500)]}  # fmt: skip
    record["targets"] = gpu_report.targets(record)
    lines = gpu_report.summary(record).splitlines()
    assert len(lines) == gpu_report.MAX_LINES and "more" in lines[-1]
    assert "| run 0 | failed: a \\| b |" in squeezed("\n".join(lines))


def test_the_archive_keeps_what_fits_and_is_unpacked_safely(tmp_path, monkeypatch):
    out = tmp_path / "out"
    for run, files in {"a": ("metrics.json", "comparison.png"), "b": ("checkpoint.pt",)}.items():
        folder = out / "results" / "mri" / "aseqdip" / "item" / run
        folder.mkdir(parents=True)
        for name in ("config.json", "log.csv", *files):
            (folder / name).write_bytes(np.random.default_rng(0).bytes(100))
    monkeypatch.setattr(gpu_campaign, "PACKED_BYTES", 400)
    packed = gpu_campaign.pack(out)
    assert packed["files"] == 4 and packed["bytes"] == 400
    assert {path.split("/")[-2] for path in packed["left out"]} == {"b"}
    assert gpu_campaign.unpack(out) is None  # the results are there
    (out / "results").rename(tmp_path / "results")
    assert gpu_campaign.unpack(out) == "runs.tar.gz was unpacked"
    assert len(list((out / "results").rglob("*.*"))) == 4
    (out / "results").rename(tmp_path / "again")
    with tarfile.open(out / "runs.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../outside"), io.BytesIO())
    assert "could not be unpacked" in gpu_campaign.unpack(out)
    assert not (tmp_path / "outside").exists()
    (out / "runs.tar.gz").write_bytes(b"no archive")
    assert "could not be unpacked" in gpu_campaign.unpack(out)
