"""Kill the runner of a table at random moments and compare the table with an undisturbed one.

The table's script is started again after each kill (SIGKILL, to scripts/jobs.py alone, which takes
the place of the shell), and what it leaves is looked at: a plan file that can be read, and no run
that lives on. When the table is complete, its cells' states and the bytes of their reconstructions
must be those of the undisturbed table, with one run folder a cell. If kills are left then, it
begins again in an empty folder.

    python -m studies.kill_table scripts/table2_inpainting.sh --kills 100 -- --quick --images 3

What follows a lone -- goes to the script.
"""

import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from utils.flags import cli

ORPHANS_SECONDS = 10.0  # after which a run that outlives its runner counts as an orphan


# fmt: off
@dataclass
class Args:
    script: tyro.conf.Positional[Path]  # of a table, such as scripts/table2_inpainting.sh
    kills: int = 100  # how many, in one table or several
    longest: float = 30  # seconds before a kill, at most
    seed: int = 0  # of the moments of the kills
# fmt: on


def start(script: Path, flags: list[str], out: Path) -> subprocess.Popen:
    """Start a table's script; what it prints goes to a file beside `out`."""
    with open(out.with_suffix(".txt"), "a") as said:
        return subprocess.Popen(
            ["bash", str(script), "--out", str(out), *flags],
            stdout=said, stderr=subprocess.STDOUT,
        )  # fmt: skip


def killed_at(moment: float, process: subprocess.Popen) -> bool:
    """Kill a process so many seconds from now; False if it has ended by then."""
    try:
        process.wait(timeout=moment)
        return False
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True


def gone(out: Path) -> bool:
    """Wait for the end of what works below a folder; False if it lives on."""
    deadline = time.monotonic() + ORPHANS_SECONDS
    while orphans(out) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not orphans(out)


def table_of(out: Path) -> dict[str, tuple[str, str | None]]:
    """Return the state of each cell and the SHA-256 of its reconstruction; {} without a plan."""
    found = {}
    cells = [c for path in out.glob("plan/*.json") for c in json.loads(path.read_text())["cells"]]
    for cell in cells:
        digest = None
        if cell["state"] == "done":
            content = (out / cell["run"] / "reconstruction.npy").read_bytes()
            digest = hashlib.sha256(content).hexdigest()
        found[cell["id"]] = cell["state"], digest
    return found


def orphans(out: Path) -> list[str]:
    """Return the processes that work below a folder, on Linux; none where /proc is missing."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it has just ended
            continue
        if str(out / "results") in words:
            found.append(path.parent.name)
    return found


def check(out: Path, expected: dict[str, tuple[str, str | None]]) -> bool:
    """Compare a complete table with the undisturbed one; say where they differ."""
    found = table_of(out)
    runs = len(list(out.glob("results/*/*/*/*/metrics.json")))
    done = sum(state == "done" for state, _ in expected.values())
    differing = [name for name in expected if found.get(name) != expected[name]]
    for name in differing:
        print(f"  differs: {name}: {found.get(name)} instead of {expected[name]}")
    if runs != done:
        print(f"  {runs} run folders for {done} cells")
    return found.keys() == expected.keys() and not differing and runs == done


def main() -> int:
    words = sys.argv[1:]
    split = words.index("--") if "--" in words else len(words)
    args, flags = cli(Args, args=words[:split], description=__doc__), words[split + 1 :]
    if args.kills < 1 or args.longest <= 0 or not args.script.is_file():
        print(
            "error: give a table's script, --kills of at least 1, --longest above 0",
            file=sys.stderr,
        )
        return 2
    moments = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        undisturbed, killed = Path(folder) / "undisturbed", Path(folder) / "killed"
        begun = time.perf_counter()
        start(args.script, flags, undisturbed).wait()
        expected = table_of(undisturbed)
        if not expected:
            print(undisturbed.with_suffix(".txt").read_text())
            return 1
        done = sum(state == "done" for state, _ in expected.values())
        print(
            f"undisturbed: {done} of {len(expected)} cells done in "
            f"{time.perf_counter() - begun:.0f} s", flush=True,
        )  # fmt: skip
        kills = tables = good = left_behind = 0
        complete = False
        while kills < args.kills or not complete:
            process = start(args.script, flags, killed)
            if kills < args.kills:
                moment = moments.uniform(0, args.longest)
                if killed_at(moment, process):
                    kills += 1
                    left_behind += not gone(killed)
                    planned = table_of(killed)
                    ready = sum(state == "done" for state, _ in planned.values())
                    print(f"{kills:3d}: killed at {moment:.1f} s, {ready} cells done", flush=True)
                    states = {state for state, _ in planned.values()}
                    complete = bool(states) and not states & {"waiting", "running"}
                    if not complete:
                        continue
                    process = start(
                        args.script, flags, killed
                    )  # only the figure and the report are left
            process.wait()
            complete = True
            tables += 1
            good += check(killed, expected)
            shutil.rmtree(killed, ignore_errors=True)  # an early error leaves none
    print(
        f"{kills} kills: {good} of {tables} tables equal the undisturbed one, "
        f"{left_behind} times a run lived on"
    )
    return 0 if good == tables and not left_behind else 1


if __name__ == "__main__":
    sys.exit(main())
