"""The part of scripts/gpu.py that tries everything once, however small."""

import importlib.util
import json
import re
import tempfile
from pathlib import Path
from typing import Any

from baselines import chosen
from scripts.gpu_jobs import Ended, Scale, Work
from scripts.gpu_report import TIME_UP
from scripts.tasks import SCRIPTS
from utils.methods import Method

MOST_AT_A_TIME = 12  # each takes half a GiB of the GPU before it begins
STEPS = 8  # outer steps of two updates; a CUDA graph is recorded at the fourth call
# Either can stand behind a progress bar that has no end of line yet.
NO_GRAPH = re.compile(r"note: no CUDA graph can be made \((.+)\); each kernel")
FAILED = re.compile(r"(?:^|\])(\w+) failed: (.+)$", re.MULTILINE)
UNDISTURBED = re.compile(r"^undisturbed: .* sha256 (\w+)$", re.MULTILINE)
TRIAL = re.compile(r"^ *\d+: .*, (resumed after|from the start).* sha256 (\w+)$", re.MULTILINE)


def smoke(work: Work, deadline: float) -> None:
    """Run every task script in every mode, and the checks of graphs and of resuming."""
    record = work.record["smoke"] = {}
    with tempfile.TemporaryDirectory() as folder:
        others = checks(work.scale)
        commands = others | task_commands(work.scale, Path(folder))
        if importlib.util.find_spec("pytest") is None:
            del commands["tests"]
            record["tests"] = {"ok": None, "why": "skipped: no pytest"}
        at_a_time = min(max(work.processes.cores * 3 // 4, 1), MOST_AT_A_TIME)
        work.say(f"smoke: {len(commands)} processes, {at_a_time} at a time")

        def report(name: str, ended: Ended) -> None:
            if name in others:
                found = {"ok": ended.status == 0, "why": ended.why, **read_check(name, ended.log)}
            else:
                found = read_task(ended, Path(folder) / name.replace(" ", "_"))
            record[name] = {"status": ended.status, "seconds": ended.seconds, **found}
            work.save()
            work.say(f"{name}: {found['why'] or 'ok'}, {ended.seconds:.0f} s")

        work.processes.run(commands, at_a_time, deadline, report)
    for name in commands:
        record.setdefault(name, {"ok": None, "why": f"not begun, {TIME_UP}"})


def checks(scale: Scale) -> dict[str, tuple[str, ...]]:
    """Return the commands that are no task scripts, by name, the longest first."""
    own = ("--device", scale.device, *scale.flags)
    commands = {
        "resume": (
            "-m", "studies.kill_and_resume", "--interrupt", *scale.resumed, "--deterministic", *own,
        ),
        "tests": (
            "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "cuda",
            "tests/test_utils_graphs.py",
        ),
    }  # fmt: skip
    for task in ("mri", "ct"):
        equal = ("-m", "scripts.graph_equals_eager", task, "--size", str(scale.smoke_side), *own)
        commands[f"graph equals eager, {task}"] = (*equal, "--deterministic")
        commands[f"graph equals eager, {task}, any order of sums"] = equal
    return commands


def task_commands(scale: Scale, out: Path) -> dict[str, tuple[str, ...]]:
    """Return the commands of the task scripts, by task and mode, each with a folder of its own.

    In the first precision all methods run, in the other modes those that have a network.
    """
    first = scale.precisions[0]
    modes = {p: ("--precision", p) for p in scale.precisions}
    modes["deterministic"] = ("--deterministic",)
    commands = {}
    for mode, flags in modes.items():
        for task in SCRIPTS if mode == first else scale.other_modes:
            methods, asked = methods_of(task), "all"
            if mode != first:
                methods = {name: m for name, m in methods.items() if m.iterative}
                asked = ",".join(methods)
            # Fewer iterations; and SGLD-DIP has no sample in so few updates.
            changes = [
                f"{name}.{key}={value}"
                for name, method in methods.items()
                for key, value in (("thin", 1), ("max_iter", 20))
                if key in method.settings
            ]
            commands[f"{task} {mode}"] = (
                f"aseqdip_{task}.py", *scale.smoke_sides[task], *scale.flags, *flags,
                "--K", str(STEPS), "--device", scale.device, "--method", asked,
                "--set", *changes, "--out", str(out / f"{task}_{mode}"),
            )  # fmt: skip
    return commands


def methods_of(task: str) -> dict[str, Method]:
    """Return the methods of a task that need no prior data."""
    script = SCRIPTS[task]
    args = script.Args(method="all")
    methods = chosen(args, script.baselines(args))
    return {method.name: method for method in methods if method.needs is None}


def read_task(ended: Ended, out: Path) -> dict[str, Any]:
    """Read what became of a task script's methods."""
    failed = dict(FAILED.findall(ended.log))
    missing = [name for name, why in failed.items() if "is not installed" in why]
    failed = {name: why for name, why in failed.items() if name not in missing}
    only_missing = bool(missing) and not failed and ended.status == 2
    no_graph = NO_GRAPH.search(ended.log)
    return {
        "ok": ended.status == 0 or only_missing,
        "why": None if only_missing else ended.why,
        "done": sorted({path.parents[2].name for path in out.glob("*/*/*/*/metrics.json")}),
        "failed": failed,
        "not installed": missing,
        "no graph": no_graph[1] if no_graph else None,
    }


def read_check(name: str, log: str) -> dict[str, Any]:
    """Read the figures of a check."""
    lines = log.strip().splitlines()
    if name == "tests":
        return {"said": lines[-1] if lines else ""}
    if name == "resume":
        expected, trials = UNDISTURBED.search(log), TRIAL.findall(log)
        return {
            "trials": len(trials),
            "resumed": sum(how == "resumed after" for how, _ in trials),
            "equal": sum(expected is not None and found == expected[1] for _, found in trials),
        }
    found = [json.loads(line) for line in lines if line.startswith("{")]
    return found[-1] if found else {}
