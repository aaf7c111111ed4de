"""The part of scripts/gpu.py that times the tasks, and runs at the same time."""

import functools
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from scripts.gpu_jobs import Ended, Work
from scripts.gpu_report import TIME_UP
from utils.errors import RunFailed

AT_A_TIME = (1, 2, 4)  # runs, whose updates are counted
WORTH = 1.03  # by how much more runs at a time must be quicker to be chosen
FIRST_ROWS = 5  # of a log: its head, z_0, and what warm-up and recording take


def bench(work: Work, deadline: float, against: Path | None) -> None:
    """Time the tasks one by one, alone on the device, and MRI runs at the same time."""
    work.record["bench"] = {}

    steps = [
        (task, functools.partial(bench_task, work, task, against))
        for task in work.scale.bench_sides
    ]
    steps.insert(1, ("throughput", functools.partial(throughput, work)))  # the campaign needs it
    for number, (name, action) in enumerate(steps):
        now = time.monotonic()
        # Steps may take more than their even share, but leave something for the others.
        until = min(deadline, now + 1.5 * (deadline - now) / (len(steps) - number))
        work.step("bench", name, functools.partial(action, until))


def bench_task(work: Work, task: str, against: Path | None, until: float) -> dict[str, Any]:
    """Return what bench.py measures of a task; where it fails beside the public code, without it.

    Raises:
        RunFailed: it did not end, or not in time.
    """
    why = TIME_UP
    no_graph = work.record["smoke"].get(f"{task} fp32", {}).get("no graph")
    outcomes: list[Ended] = []
    for public in ([] if against is None else [against]) + [None]:
        outcomes.clear()
        with tempfile.TemporaryDirectory() as folder:
            command = (
                "-m", "scripts.bench", task, "--size", str(work.scale.bench_sides[task]),
                "--steps-only", *(("--no-graphs",) if no_graph else ()),
                "--device", work.scale.device, *work.scale.bench_flags, *work.scale.flags,
                *(() if public is None else ("--against", str(public))), "--out", folder,
            )  # fmt: skip
            work.say(f"bench of {task}" + (" beside the public loop" if public else ""))
            work.processes.run(
                {f"bench {task}": command}, 1, until, lambda name, ended: outcomes.append(ended)
            )
            path = Path(folder) / f"{task}.json"
            if path.exists():
                lost = against is not None and public is None
                return json.loads(path.read_text()) | {"no public loop": why if lost else None}
        why = outcomes[0].why or "nothing was written" if outcomes else why
    raise RunFailed(why)


def throughput(work: Work, until: float) -> dict[str, Any]:
    """Count the updates per second of 1, 2 and 4 MRI runs in bf16 at the same time.

    Returns:
        The sums over the runs, and the best number: a larger one is not WORTH it.

    Raises:
        RunFailed: not even one run could be timed.
    """
    rates: dict[str, float] = {}
    why = None
    with tempfile.TemporaryDirectory() as folder:
        for n in AT_A_TIME:
            try:
                rates[str(n)] = updates_per_second(work, n, Path(folder), until)
            except RunFailed as error:
                why = f"{n} at a time: {error}"
                break
            finally:
                work.processes.end(grace=0)
            work.say(f"{n} at a time: {rates[str(n)]:.1f} updates per second")
    if not rates:
        raise RunFailed(why)
    best = AT_A_TIME[0]
    for n in map(int, rates):
        if rates[str(n)] > WORTH * rates[str(best)]:
            best = n
    return {"updates per second": rates, "best": best, "why": why}


def updates_per_second(work: Work, n: int, out: Path, until: float) -> float:
    """Start n runs and count their updates in a window of time in which all take steps.

    Raises:
        RunFailed: a run ended, or the time was up.
    """
    for index in range(n):
        command = (
            "aseqdip_mri.py", *work.scale.crowd_flags, *work.scale.flags, "--precision", "bf16",
            "--K", "1000000", "--device", work.scale.device, "--run", f"{n}_{index}",
            "--out", str(out),
        )  # fmt: skip
        work.processes.start(f"throughput {n} {index}", command, n)
    first: list[tuple[float, float]] = []
    begun = 0.0
    while time.monotonic() < until:
        work.processes.check_stop()
        for ended in work.processes.ended().values():
            raise RunFailed(ended.why or "a run ended before its updates were counted")
        logs = sorted(out.glob(f"mri/aseqdip/*/{n}_*/log.csv"))
        last = [last_row(path) for path in logs]
        if len(last) == n and None not in last:
            if not first:
                first, begun = last, time.monotonic()
            moved = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(first, last, strict=True)]
            if time.monotonic() > begun + work.scale.window and all(s > 0 for s, _ in moved):
                return sum(steps / seconds for steps, seconds in moved)
        time.sleep(0.1)
    raise RunFailed(TIME_UP)


def last_row(path: Path) -> tuple[float, float] | None:
    """Read the step and the seconds of a log's last row; None while it has too few."""
    lines = path.read_text().split("\n")[:-1]  # a row that is not whole has no end
    if len(lines) < FIRST_ROWS:
        return None
    row = dict(zip(lines[0].split(","), lines[-1].split(","), strict=True))
    return float(row["step"]), float(row["seconds"])
