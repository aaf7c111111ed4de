"""Kill a run at random moments, resume it, and compare the bytes with an undisturbed run.

Each trial starts the command in an empty folder, kills it (SIGKILL) at a moment drawn evenly
over the undisturbed run's time, lets the same command finish, and compares the SHA-256 of
reconstruction.npy. With --interrupt it is ended with SIGTERM while it takes its steps, so that each
trial resumes a checkpoint, however short the run.

    python scripts/kill_and_resume.py --kills 30 aseqdip_mri.py --quick --K 60
"""

import argparse
import hashlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


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


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument(
        "--interrupt", action="store_true", help="SIGTERM within a second of the first logged step"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help="a task script and its flags")
    args = parser.parse_args()
    if args.kills < 1 or not args.command:
        parser.error("give --kills of at least 1 and a command, such as aseqdip_mri.py --quick")
    moments = random.Random(args.seed)
    word, number = "killed", signal.SIGKILL
    if args.interrupt:
        word, number = "interrupted", signal.SIGTERM
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        begun = time.perf_counter()
        said, _ = start(args.command, out / "undisturbed").communicate()
        if not list(out.glob("undisturbed/*/*/*/*/metrics.json")):
            print(said)
            return 1
        length = time.perf_counter() - begun
        expected = digest(out / "undisturbed")
        print(f"undisturbed: {length:.0f} s, sha256 {expected[:16]}", flush=True)
        same = resumed = 0
        for trial in range(1, args.kills + 1):
            here = out / "killed"
            process = start(args.command, here)
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
            said, _ = start(args.command, here).communicate()
            went_on = [line for line in said.splitlines() if line.startswith("resumed")]
            resumed += bool(went_on)
            found = digest(here)
            same += found == expected
            where = went_on[0].split(" from ")[0] if went_on else "from the start or finished"
            print(f"{trial:3d}: {killed}, {where}, sha256 {found[:16]}", flush=True)
            shutil.rmtree(here)
        print(f"{same} of {args.kills} equal the undisturbed run; {resumed} resumed a checkpoint")
        return 0 if same == args.kills else 1


if __name__ == "__main__":
    sys.exit(main())
