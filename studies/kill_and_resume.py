"""Kill a run at random moments, resume it, and compare the bytes with an undisturbed run.

Each trial starts the command in an empty folder, kills it (SIGKILL) at a moment drawn evenly
over the undisturbed run's time, lets the same command finish, and compares the SHA-256 of
reconstruction.npy. With --interrupt it is ended with SIGTERM while it takes its steps, so that each
trial resumes a checkpoint, however short the run.

    python -m studies.kill_and_resume --kills 30 aseqdip_mri.py --quick --K 60
"""

import hashlib
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

from utils.errors import RunFailed, exit_status, require
from utils.flags import cli
from utils.folder import ROOT


@dataclass
class Args:
    kills: int = 30  # trials
    seed: int = 0  # of the moments of the kills
    interrupt: bool = False  # SIGTERM within a second of the first logged step


def start(command: list[str], out: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *command, "--out", str(out)], cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def digest(out: Path) -> str:
    (path,) = out.glob("*/*/*/*/reconstruction.npy")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def wait_for_steps(process: subprocess.Popen, out: Path) -> None:
    """Wait until a run has logged a step, or has ended."""
    while process.poll() is None:
        if any(len(log.read_text().splitlines()) > 2 for log in out.glob("*/*/*/*/log.csv")):
            return
        time.sleep(0.02)


def trials(args: Args, command: list[str]) -> None:
    """Make the trials and print what became of each.

    Raises:
        RunFailed: the undisturbed run failed, or a trial's result is not its.
    """
    require(args.kills >= 1, f"--kills {args.kills}: expected at least 1")
    require(len(command) > 0, "give a command behind the flags, such as aseqdip_mri.py --quick")
    moments = random.Random(args.seed)
    word, number = ("interrupted", signal.SIGTERM) if args.interrupt else ("killed", signal.SIGKILL)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        begun = time.perf_counter()
        said, _ = start(command, out / "undisturbed").communicate()
        if not list(out.glob("undisturbed/*/*/*/*/metrics.json")):
            raise RunFailed(f"the undisturbed run failed: {said}")
        length = time.perf_counter() - begun
        expected = digest(out / "undisturbed")
        print(f"undisturbed: {length:.0f} s, sha256 {expected[:16]}", flush=True)
        same = resumed = 0
        for trial in range(1, args.kills + 1):
            here = out / "killed"
            process = start(command, here)
            moment = moments.uniform(0, 1 if args.interrupt else length)
            if args.interrupt:
                wait_for_steps(process, here)
            try:
                process.communicate(timeout=moment)
                killed = "ended before the kill"
            except subprocess.TimeoutExpired:
                process.send_signal(number)
                process.communicate()
                killed = f"{word} at {moment:.1f} s"
            said, _ = start(command, here).communicate()
            went_on = [line for line in said.splitlines() if line.startswith("resumed")]
            resumed += bool(went_on)
            found = digest(here)
            same += found == expected
            where = went_on[0].split(" from ")[0] if went_on else "from the start or finished"
            print(f"{trial:3d}: {killed}, {where}, sha256 {found[:16]}", flush=True)
            shutil.rmtree(here)
        print(f"{same} of {args.kills} equal the undisturbed run; {resumed} resumed a checkpoint")
    if same < args.kills:
        raise RunFailed(f"{args.kills - same} results are not that of the undisturbed run")


def main() -> int:
    given = sys.argv[1:]
    split = next((i for i, word in enumerate(given) if word.endswith(".py")), len(given))
    args = cli(
        Args, args=given[:split], description=__doc__, config=(tyro.conf.FlagCreatePairsOff,)
    )
    return exit_status(lambda: trials(args, given[split:]))


if __name__ == "__main__":
    sys.exit(main())
