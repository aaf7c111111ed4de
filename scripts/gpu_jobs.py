"""What the parts of scripts/gpu.py share: the record of figures, and processes that are timed."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.executors import spawn, why_failed
from scripts.gpu_report import TIME_UP, summary, targets
from scripts.tasks import SCRIPTS, size_field
from utils.errors import Interrupted
from utils.files import reason, write_atomically
from utils.precision import Precision
from utils.processor import own_cores

POLL_SECONDS = 0.2  # between two looks at the processes
GRACE_SECONDS = 8.0  # for a checkpoint, between the request to end and the kill


@dataclass(frozen=True)
class Scale:
    """How large the steps are: those of a GPU, or of a dry run.

    Args:
        device, flags: what all runs get.
        smoke_sides: flags that set the size of each task's images in smoke.
        smoke_side: of the images in graph_equals_eager.py.
        precisions: that smoke tries.
        other_modes: tasks that it tries in more than the first precision.
        resumed: how often a run is interrupted and resumed, and which.
        bench_sides: of the images of each task that is timed.
        bench_flags: of bench.py.
        crowd_flags: of the runs whose throughput is measured.
        window: seconds in which their updates are counted.
        campaign_flags: what a task's runs get beside their own flags.
        whole_campaign: False for one run of each task.
    """

    device: str
    flags: tuple[str, ...]
    smoke_sides: dict[str, tuple[str, ...]]
    smoke_side: int
    precisions: tuple[Precision, ...]
    other_modes: tuple[str, ...]
    resumed: tuple[str, ...]
    bench_sides: dict[str, int]
    bench_flags: tuple[str, ...]
    crowd_flags: tuple[str, ...]
    window: float
    campaign_flags: dict[str, tuple[str, ...]]
    whole_campaign: bool


GPU = Scale(
    device="cuda",
    flags=(),
    smoke_sides={t: (f"--{size_field(t)}", "128") for t in SCRIPTS},
    smoke_side=128,
    precisions=("fp32", "tf32", "bf16"),
    other_modes=tuple(SCRIPTS),
    resumed=("--kills", "2", "aseqdip_mri.py", "--crop", "128", "--K", "400"),
    bench_sides={"mri": 320, "ct": 512, "denoising": 512},
    bench_flags=("--rounds", "5", "--seconds", "0.2"),
    crowd_flags=("--crop", "320"),
    window=4.0,
    campaign_flags={},
    whole_campaign=True,
)
DRY = Scale(
    device="cpu",
    flags=("--width", "4"),
    # 80 columns have the six calibration lines that ESPIRiT needs.
    smoke_sides={t: (f"--{size_field(t)}", "80" if t == "mri" else "48") for t in SCRIPTS},
    smoke_side=80,
    precisions=("fp32", "bf16"),
    other_modes=("mri", "denoising"),
    resumed=("--kills", "1", "aseqdip_denoising.py", "--resize", "48", "--K", "200"),
    bench_sides={"mri": 80, "ct": 48, "denoising": 48},
    bench_flags=("--rounds", "1", "--seconds", "0.01"),
    crowd_flags=("--crop", "80"),
    window=1.0,
    campaign_flags={
        t: ("--K", "30", *(("--crop", "80", "--center-fraction", "0.2") if t == "mri" else
                           ("--resize", "48"))) for t in SCRIPTS
    },
    whole_campaign=False,
)  # fmt: skip


@dataclass
class Ended:
    """What became of a process.

    Args:
        status: its exit status; None where it was ended before its time.
        seconds: how long it ran.
        log: what it printed.
    """

    status: int | None
    seconds: float
    log: str

    @property
    def why(self) -> str | None:
        """Say in one line why it failed, None if it did not."""
        if self.status is None:
            return f"cut, {TIME_UP}"
        return why_failed(self.status, self.log) if self.status else None


class Processes:
    """Runs commands as processes, each with a log file and a group of its own.

    Args:
        logs: folder of the log files.
        stop: the signals that came, each asking for the end of everything.
    """

    def __init__(self, logs: Path, stop: list[int]) -> None:
        self.logs, self.stop = logs, stop
        self.cores = len(own_cores())
        self._running: dict[str, tuple[subprocess.Popen, float, Path]] = {}

    def start(self, name: str, command: tuple[str, ...], at_a_time: int) -> None:
        """Start a command that shares the cores with as many others."""
        log = self.logs / (re.sub(r"[^\w.=-]+", "_", name) + ".log")
        threads = {}
        if "OMP_NUM_THREADS" not in os.environ:
            threads = {"OMP_NUM_THREADS": str(max(self.cores // at_a_time, 1))}
        self._running[name] = spawn(command, log, threads), time.monotonic(), log

    def ended(self, cut: bool = False) -> dict[str, Ended]:
        """Return the processes that have ended since the last call, by name.

        Args:
            cut: they were asked to end.
        """
        found = {}
        for name, (process, begun, log) in list(self._running.items()):
            if process.poll() is not None:
                del self._running[name]
                _send(process, signal.SIGKILL)  # to children that it left
                text = log.read_text(errors="replace").replace("\r", "\n")
                status = None if cut and process.returncode else process.returncode
                found[name] = Ended(status, time.monotonic() - begun, text)
        return found

    def end(self, grace: float) -> dict[str, Ended]:
        """End all that run, with SIGTERM and after the grace with SIGKILL."""
        found = self.ended()
        for process, _, _ in self._running.values():
            _send(process, signal.SIGTERM)
        deadline = time.monotonic() + grace
        while self._running and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            found |= self.ended(cut=True)
        for process, _, _ in self._running.values():
            _send(process, signal.SIGKILL)
            process.wait()
        return found | self.ended(cut=True)

    def run(
        self,
        commands: dict[str, tuple[str, ...]],
        at_a_time: int,
        deadline: float,
        report: Callable[[str, Ended], None],
        last_start: float | None = None,
    ) -> None:
        """Run commands in their order, and end what still runs at the deadline.

        Args:
            commands: by name.
            at_a_time: how many run at the same time.
            deadline: on the clock of time.monotonic.
            report: is told of each process when it has ended.
            last_start: nothing is started after it; None for the deadline.

        Raises:
            Interrupted: a signal came; all processes have ended.
        """
        waiting = list(commands)
        last_start = deadline if last_start is None else last_start
        try:
            while time.monotonic() < deadline:
                self.check_stop()
                while waiting and len(self._running) < at_a_time and time.monotonic() < last_start:
                    name = waiting.pop(0)
                    self.start(name, commands[name], at_a_time)
                if not self._running:
                    break
                time.sleep(POLL_SECONDS)
                for name, ended in self.ended().items():
                    report(name, ended)
        finally:
            for name, ended in self.end(GRACE_SECONDS).items():
                report(name, ended)

    def check_stop(self) -> None:
        """Raise Interrupted if a signal came."""
        if self.stop:
            name = signal.Signals(self.stop[-1]).name
            raise Interrupted(f"stopped by {name}; what was measured is kept")


def _send(process: subprocess.Popen, number: int) -> None:
    """Send a signal to a process and to its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


@dataclass
class Work:
    """What is to be measured, and what has been: OUT/gpu.json and OUT/gpu.md.

    Args:
        data, out: the user's folders.
        scale: how large the steps are.
        processes: where commands run.
        end: when the time is up, on the clock of time.monotonic.
        record: what gpu.json holds.
    """

    data: Path
    out: Path
    scale: Scale
    processes: Processes
    end: float
    record: dict[str, Any]

    def save(self) -> None:
        """Replace both files."""
        self.record["targets"] = targets(self.record)
        text = json.dumps(self.record, indent=1) + "\n"
        write_atomically(self.out / "gpu.json", lambda file: file.write(text.encode()))
        page = summary(self.record)
        write_atomically(self.out / "gpu.md", lambda file: file.write(page.encode()))

    def say(self, text: str) -> None:
        """Print a line with the time that is left."""
        print(f"[{max(self.end - time.monotonic(), 0):4.0f} s left] {text}", flush=True)

    def step(self, part: str, name: str, action: Callable[[], dict[str, Any]]) -> None:
        """Take a step of a part and keep what it gives, or why it failed.

        Raises:
            Interrupted: a signal came.
        """
        try:
            found = action()
        except Interrupted:
            raise
        except Exception as error:  # whatever it is, the next step is to be taken
            found = {"failed": reason(error)}
            self.say(f"{name} failed: {found['failed']}")
        self.record[part][name] = found
        self.save()
