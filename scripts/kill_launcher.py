"""Kill the launcher of a table at random moments and compare the table with an undisturbed one.

The launcher is started again after each kill (SIGKILL, to the launcher alone), and what it leaves
is looked at: a plan file that can be read, and no run that lives on. When the table is complete,
its cells' states and the bytes of their reconstructions must be those of the undisturbed table,
with one run folder a cell. If kills are left then, it begins again in an empty folder.

    python scripts/kill_launcher.py --kills 100 --longest 30 table2_inpainting --quick --images 3
"""

import argparse
import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LAUNCHER = Path(__file__).resolve().parent / "launch.py"
ORPHANS_SECONDS = 10.0  # after which a run that outlives its launcher counts as an orphan


def start(command: list[str], out: Path) -> subprocess.Popen:
    """Start the launcher; what it prints goes to a file beside `out`."""
    table, *flags = command
    with open(out.with_suffix(".txt"), "a") as said:
        return subprocess.Popen(
            [sys.executable, str(LAUNCHER), table, "--out", str(out), *flags],
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--longest", type=float, default=30, help="seconds before a kill, at most")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="a table and flags of launch.py")
    args = parser.parse_args()
    if args.kills < 1 or args.longest <= 0 or not args.command:
        parser.error("give --kills of at least 1, --longest above 0, and a table of launch.py")
    moments = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        undisturbed, killed = Path(folder) / "undisturbed", Path(folder) / "killed"
        begun = time.perf_counter()
        start(args.command, undisturbed).wait()
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
            process = start(args.command, killed)
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
                    process = start(args.command, killed)  # only the figure and the report are left
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
