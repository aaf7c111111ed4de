"""Where processes run: on this machine, or on a Ray cluster."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from utils.loop import handled_signals
from utils.processor import own_cores

ROOT = Path(__file__).resolve().parent.parent
RETRIES = 5  # of a job whose node is lost
# What a process does before its command: on Linux the kernel kills it when its parent, of the given
# number, is gone, however it went. An orphan would hold a run folder that the next runner wants.
TIED = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG, SIGKILL
    if os.getppid() != int(sys.argv[1]):  # it was gone before the kernel knew
        sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


@contextlib.contextmanager
def caught_signals() -> Iterator[list[int]]:
    """Catch SIGINT, SIGTERM and SIGHUP while the block runs; give it the list of those that came."""
    came: list[int] = []
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)  # under nohup it is ignored, and stays so
    with handled_signals(came.append, numbers):
        yield came


def spawn(command: Sequence[str], log: Path, environment: dict[str, str]) -> subprocess.Popen:
    """Start a process of Python, which the kernel ends if this one dies.

    It has a session of its own, so that Ctrl-C reaches it once, by way of its executor: the second
    signal would make it drop its checkpoint.

    Args:
        command: a script, relative to the repository, and its flags.
        log: the file that takes what it prints.
        environment: what differs there from this process's.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w") as file:
        return subprocess.Popen(
            [sys.executable, "-ISc", TIED, str(os.getpid()), sys.executable, *command],
            cwd=ROOT, env=os.environ | {"PYTHONUNBUFFERED": "1"} | environment,
            stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def why_failed(status: int, log: str) -> str:
    """Say in one line why a process failed: by which signal, or what it printed last."""
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else f"exit status {status}, nothing printed"


class LocalExecutor:
    """Run jobs on this machine, `workers` on each of its GPUs, or on the CPU without one.

    Attributes:
        slots: how many run at a time.
        place: where, for people.
    """

    def __init__(self, workers: int) -> None:
        gpus = visible_gpus()
        environment: list[dict[str, str]] = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus] or [{}]
        if not gpus and workers > 1 and "OMP_NUM_THREADS" not in os.environ:
            # All threads in each of several runs would get in one another's way.
            environment = [{"OMP_NUM_THREADS": str(max(len(own_cores()) // workers, 1))}]
        self.place = f"{len(gpus)} GPUs" if gpus else "the CPU"
        self._free = workers * environment
        self.slots = len(self._free)
        self._running: dict[str, tuple[subprocess.Popen, dict[str, str]]] = {}

    def start(self, name: str, command: Sequence[str], log: Path) -> None:
        """Begin a job, as for spawn; called while fewer than `slots` run."""
        environment = self._free.pop(0)
        self._running[name] = spawn(command, log, environment), environment

    def ended(self) -> list[tuple[str, int]]:
        """Return the names of the jobs that have ended since the last call, with their exit status.

        The status of one that a signal ended is minus the signal's number.
        """
        found = []
        for name, (process, environment) in list(self._running.items()):
            if process.poll() is not None:
                del self._running[name]
                self._free.append(environment)
                found.append((name, process.returncode))
        return found

    def stop(self) -> None:
        """Ask all jobs to save their state and end; a second time, to end at once."""
        for process, _ in self._running.values():
            process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """Nothing is held."""


def visible_gpus() -> list[str]:
    """Return what CUDA_VISIBLE_DEVICES calls the GPUs that PyTorch sees here."""
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(index) for index in range(count)]


class RayExecutor:
    """Run jobs on a Ray cluster, as LocalExecutor does on this machine.

    It is that of RAY_ADDRESS, one begun on this machine, or a new one. All nodes see the repository
    and the results under the same paths. A job whose node is lost begins anew on another one, where
    the task script goes on from its checkpoint.
    """

    def __init__(self, gpus_per_run: float) -> None:
        import ray  # of requirements-cluster.txt; the local executor does without

        self._ray: Any = ray
        ray.init(log_to_driver=False, logging_level="warning")
        self._gpus_per_run = gpus_per_run
        self._has_gpus = ray.cluster_resources().get("GPU", 0) > 0
        self.place = f"a Ray cluster of {len(ray.nodes())} nodes"
        self._run = ray.remote(run_on_node).options(
            num_cpus=1, num_gpus=gpus_per_run if self._has_gpus else 0, max_retries=RETRIES
        )
        self._running: dict[Any, str] = {}
        self._stopped = False

    @property
    def slots(self) -> int:
        """Count what the nodes that are there now can run."""
        resources = self._ray.cluster_resources()
        slots = resources.get("CPU", 0)
        if self._has_gpus:
            slots = min(slots, resources.get("GPU", 0) / self._gpus_per_run)
        return max(int(slots), 1)

    def start(self, name: str, command: Sequence[str], log: Path) -> None:
        self._running[self._run.remote(command, log)] = name

    def ended(self) -> list[tuple[str, int]]:
        if not self._running:
            return []
        ready, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        return [(self._running.pop(ref), self._status(ref)) for ref in ready]

    def _status(self, ref: Any) -> int:
        try:
            return self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            if not self._stopped:
                print(f"note: Ray gave up a run: {str(error).splitlines()[0]}", file=sys.stderr)
            return -signal.SIGKILL

    def stop(self) -> None:
        for ref in self._running:
            self._ray.cancel(ref, force=self._stopped)
        self._stopped = True

    def close(self) -> None:
        self._ray.shutdown()


def run_on_node(command: Sequence[str], log: Path) -> int:
    """Run a job in a Ray worker; ray.cancel raises KeyboardInterrupt in it."""
    # A runner in the background of a script ignores SIGINT, and so would its workers.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = spawn(command, log, {})
    try:
        while process.poll() is None:
            time.sleep(0.2)  # and not wait(), which KeyboardInterrupt would not end
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
    return process.returncode
