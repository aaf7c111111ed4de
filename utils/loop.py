"""The loop's callback: progress, log, checkpoints, resume, the average over iterates."""

import csv
import io
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from utils import processor
from utils.averages import added, average
from utils.callback import Callback
from utils.errors import InputError, Interrupted, RunFailed, require
from utils.files import DAMAGED, content_hash
from utils.folder import RunFolder, git_state
from utils.progress import duration, progress

CHECKPOINT_SECONDS = 5.0  # at least so long between two checkpoints,
CHECKPOINT_SHARE = 0.005  # and at most this share of the time goes into them
LONG_RUN_SECONDS = 300.0  # on a CPU, a longer run is told of
WARM_UP_SECONDS = 5.0  # in a longer first step, what the libraries prepare in it does not count
HOURS_AHEAD = 7200.0  # that a run will take so long is told before its first step ends


class Loop(Callback):
    """Carry a method through its outer steps, whatever happens to the process.

    It is opened before the method begins, is its callback, and is closed after it:

        loop = Loop(folder, args, score, y, A)
        x_hat = method(y, A, net, callback=loop)
        loop.close()

    Args:
        folder: opened for this process here.
        args: the script's Args: N, log_every, ema_decay, preset, stop.
        score: maps an image to its figures against the truth, {} without a truth. It is called
            for the log, and nothing but the log and the oracle depends on it.
        y, A: the measurements and the operator: their device is the run's, and they tell when a
            checkpoint was made of others (maps that another machine computed differ in their
            last bits).
        inner: weight updates in one outer step.

    Attributes:
        rows: of log.csv.
        oracle: `psnr` and `step` of the best iterate that was logged or that a rule chose, {} without
            a truth.

    Raises:
        InputError: the folder cannot be written.
        Busy: another process is at work on it.
    """

    def __init__(
        self,
        folder: RunFolder,
        args: Any,
        score: Callable[[Tensor], dict[str, float]],
        y: Tensor,
        A: nn.Module,
        inner: int = 1,
    ) -> None:
        self.folder, self.args, self.score, self.inner = folder, args, score, inner
        self.device = y.device
        self.k = self.K = 0
        self.prepared = 0
        self.state: dict[str, Any] = {}
        self.z: Tensor | None = None
        self.ema: Tensor | None = None
        self.rows: list[dict[str, float]] = []
        self.oracle: dict[str, float] = {}
        self.chosen_step: int | None = None
        self._pending: list[dict[str, Tensor]] = []
        self._latest: dict[str, float] | None = None
        self._seconds_before = 0.0
        self._checkpoint_cost = 0.0
        self._stopped_by: int | None = None
        self._told_long_run = False
        folder.open(self.device)
        problem = (y, *A.parameters(), *A.buffers())
        self._conditions = {  # what else decides the bits of the result
            "device": processor.device_name(self.device),
            "PyTorch": version("torch"),
            "commit": git_state()["commit"],
            "problem": content_hash(*(t.cpu().numpy() for t in problem))[:12],
        }
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self._started = time.perf_counter()
        self._ended: float | None = None

    # What a method calls --------------------------------------------------------------------

    def start(self, z0: Tensor | None = None, **state: Any) -> Tensor | None:
        """Begin the log; where the folder holds a checkpoint, take everything back to it.

        Raises:
            InputError: the checkpoint is damaged.
        """
        self.state, self.z = state, z0
        saved = self.folder.load_checkpoint()
        if saved is not None:
            self._restore(saved)
            where = f"after outer step {self.k}" if self.k else "before the first step"
            print(f"resumed {where} from {self.folder.path / 'checkpoint.pt'}")
        elif z0 is not None:
            self._add_row({"step": 0}, self.score(z0))
        self.write_log()
        return self.z

    def prepare(self, n: int, what: str) -> Iterator[int]:
        """Yield what is left of the preparations 0..n-1, with their progress; save in time.

        Ctrl-C and SIGTERM let the one in hand end, as in `outer`.
        """
        if self.prepared >= n:
            return
        self._last_checkpoint = time.perf_counter()
        with (
            progress(n, self.prepared, what) as self._bar,
            handled_signals(self._on_signal, (signal.SIGINT, signal.SIGTERM)),
        ):
            for i in range(self.prepared, n):
                yield i
                self.prepared = i + 1
                self._bar.update()
                stopped_by = self._stopped_by  # read once: a signal can come at any moment
                if self._save_due() or stopped_by is not None:
                    self._save_checkpoint()
                if stopped_by is not None:
                    raise self._interrupted(stopped_by, f"{what} {i + 1} of {n}")

    def outer(self, n: int) -> Iterator[int]:
        """Yield the outer steps that are left of 1..n, with their progress.

        Ctrl-C and SIGTERM let the outer step in hand end, save a checkpoint and raise
        Interrupted; a second one stops at once.
        """
        self.K = n
        self._begun = self._last_checkpoint = time.perf_counter()
        first = self.k + 1
        with (
            progress(n, self.k) as self._bar,
            handled_signals(self._on_signal, (signal.SIGINT, signal.SIGTERM)),
            self._watched_first_step(n - self.k),
        ):
            for k in range(first, n + 1):
                yield k
                self._bar.update()
                self._tell_long_run(k - first + 1)
            if self._stopped_by is not None:  # during the last record, after it had looked
                raise self._interrupted(self._stopped_by)

    def record(self, k: int, x: Tensor, terms: dict[str, Tensor]) -> None:
        """Take note of outer step k, its iterate and the terms of its loss; log and save in time.

        The terms of the loss are read from the device at logging steps only.

        Raises:
            RunFailed: the loss or the iterate became NaN or Inf; the last checkpoint stays.
            Interrupted: Ctrl-C or SIGTERM came; the state is saved.
        """
        stopped_by = self._stopped_by  # read once: a signal can come at any moment
        self.k, self.z = k, x
        self.ema = added(self.ema, x, self.args.ema_decay)
        self._pending.append(terms)
        # Methods with other inner steps log at the same updates.
        log_due = k * self.inner % (self.args.log_every * self.args.N) == 0 or k == self.K
        save_due = self._save_due() or stopped_by is not None or k == self.K
        if log_due or save_due:
            self._read_terms()
            if log_due:
                self._log(self._latest)
            if save_due:
                self._save_checkpoint()
        if stopped_by is not None:
            raise self._interrupted(stopped_by)

    def chose(self, k: int) -> None:
        """Take note that the method's result is the image of step k."""
        self.chosen_step = k * self.inner

    # What its caller asks -------------------------------------------------------------------

    def close(self) -> None:
        """Take note that the method has returned; log its last step if it is not logged yet.

        Raises:
            RunFailed: the loss or the iterate became NaN or Inf in the last steps.
            Interrupted: a signal came when the method had taken its last step already.
        """
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self._ended = time.perf_counter()
        if self._pending:
            self._read_terms()
        if self._stopped_by is not None:
            self._save_checkpoint()
            raise self._interrupted(self._stopped_by)
        logged = self.rows[-1]["step"] if self.rows else 0
        if self._latest is not None and logged < self.k * self.inner:  # it ended in between
            self._log(self._latest)

    def compare_with_oracle(self, x: Tensor, step: int) -> dict[str, float]:
        """Take an image as the oracle's if the truth says that it is the best; return its figures.

        Besides the iterates that are logged these are what a rule has chosen among all.
        """
        figures = self.score(x)
        if figures and figures["psnr"] > self.oracle.get("psnr", -math.inf):
            self.oracle = {"psnr": figures["psnr"], "step": step}
        return figures

    def averaged(self) -> Tensor:
        """Return the exponential moving average of z_1..z_k, free of the bias of its start."""
        return average(self.ema, self.args.ema_decay, self.k)

    def seconds(self) -> float:
        """Return the time that the method took, earlier parts of a resumed run included."""
        now = time.perf_counter() if self._ended is None else self._ended
        return self._seconds_before + now - self._started

    def figures(self) -> dict[str, Any]:
        """Return what metrics.json holds of every run."""
        chosen = {} if self.chosen_step is None else {"step_final": self.chosen_step}
        net = self.state.get("net")
        figures = {
            **{f"{name}_oracle": value for name, value in self.oracle.items()},
            **chosen,
            "steps": self.k * self.inner,
            "seconds": self.seconds(),
            "n_params": sum(p.numel() for p in net.parameters()) if net is not None else 0,
            "device": processor.device_name(self.device),
            "quick": self.args.preset == "quick",
        }
        if self.device.type == "cuda":
            # Reserved: what a graph uses counts as free in what is allocated.
            figures["peak_memory_gib"] = torch.cuda.max_memory_reserved(self.device) / 2**30
        return figures

    def write_log(self) -> None:
        """Write log.csv anew."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        self.folder.save_text("log.csv", text.getvalue())

    # Log ------------------------------------------------------------------------------------

    def _read_terms(self) -> None:
        """Bring the terms since the last reading to the host; keep those of step k."""
        pending, self._pending = self._pending, []
        names = list(pending[-1])
        table = torch.stack([torch.stack([t[name] for name in names]) for t in pending]).cpu()
        bad = (~table.isfinite().all(dim=1)).nonzero()
        k_bad = self.k - len(pending) + 1 + int(bad[0]) if len(bad) else self.k
        if len(bad) or not bool(torch.isfinite(self.z).all()):
            advice = "; lower the learning rate" if "net" in self.state else ""
            raise RunFailed(
                f"the loss or the image became NaN or Inf at step {k_bad * self.inner} "
                f"(outer step {k_bad}){advice}. The last good checkpoint, if one was written, stays "
                f"in {self.folder.path}"
            )
        self._latest = dict(zip(names, table[-1].tolist()))

    def _log(self, terms: dict[str, float]) -> None:
        step = self.k * self.inner
        figures = self.compare_with_oracle(self.z, step)
        columns = self._columns()
        self._add_row({"step": step} | terms, figures)
        if self._columns() != columns:
            self.write_log()  # the first terms: the head of the table changes
        else:
            with open(self.folder.path / "log.csv", "a", newline="") as file:
                csv.DictWriter(file, columns, lineterminator="\n").writerow(self.rows[-1])
        shown = {"loss": f"{terms['loss']:.4g}"}
        if figures:
            shown = {"PSNR": f"{figures['psnr']:.2f} dB"} | shown
        self._bar.set_postfix(shown, refresh=False)

    def _add_row(self, values: dict[str, float], figures: dict[str, float]) -> None:
        seconds = self.seconds() if self.k else 0.0
        shown = {name: figures[name] for name in ("psnr", "ssim") if name in figures}
        self.rows.append(values | shown | {"seconds": seconds})

    def _columns(self) -> list[str]:
        terms = dict.fromkeys(name for row in self.rows for name in row)
        shown = ["psnr", "ssim", "seconds"]
        return ["step", *(name for name in terms if name not in ("step", *shown)), *shown]

    @contextmanager
    def _watched_first_step(self, left: int) -> Iterator[None]:
        """Say so while the first step is still at work, if its time so far makes hours of all."""
        seconds = max(HOURS_AHEAD / max(left, 1), WARM_UP_SECONDS)

        def tell() -> None:
            self._tell_time(f"more than {duration(seconds * left)}", left)

        self._watch = threading.Timer(seconds, tell)
        self._watch.daemon = True
        self._watch.start()
        try:
            yield
        finally:
            self._watch.cancel()
            self._watch.join()
            del self._watch  # it holds the loop, and so the folder's lock

    def _tell_long_run(self, steps: int) -> None:
        """Estimate the time of a run from its first steps, and tell of a long one, once.

        Args:
            steps: how many were taken. The first counts by itself where it took so long that
                its warm-up does not matter; else five are awaited.
        """
        self._watch.cancel()
        seconds, left = time.perf_counter() - self._begun, self.K - self.k
        if steps == 1:
            self._first_step = seconds
        due = seconds > WARM_UP_SECONDS if steps == 1 else steps == 5
        if not due or self._told_long_run:
            return
        self._told_long_run = True
        each = seconds if steps == 1 else (seconds - self._first_step) / (steps - 1)
        if each * left > LONG_RUN_SECONDS:
            sooner = "at most " if self.args.stop == "noise" else ""  # it may end before
            self._tell_time(f"{sooner}about {duration(each * left)}", left)

    def _tell_time(self, whole: str, left: int) -> None:
        if self.device.type != "cpu":
            return
        advice = "A smaller image or a GPU takes less."
        if self.args.preset != "quick" and "net" in self.state:  # it does nothing for a sampler
            advice = (
                "--quick takes a smaller network and fewer updates; a GPU runs the full setting."
            )
        updates = f"{left * self.inner} updates that are left take {whole}"
        self._bar.write(f"On this CPU the {updates}. {advice}", file=sys.stderr)

    # Signals and checkpoints ----------------------------------------------------------------

    def _on_signal(self, number: int) -> None:
        if self._stopped_by is not None:
            raise KeyboardInterrupt
        self._stopped_by = number
        self._bar.write("stopping after this step; once more stops at once ...", file=sys.stderr)

    def _interrupted(self, number: int, after: str = "") -> Interrupted:
        same = "the command without --fresh" if self.args.fresh else "the command"
        step = "step" if self.inner == 1 else "outer step"
        after = after or f"{step} {self.k} of {self.K}"
        return Interrupted(
            f"stopped by {signal.Signals(number).name} after {after}; repeat {same} to continue from "
            f"{self.folder.path / 'checkpoint.pt'}"
        )

    def _save_due(self) -> bool:
        since = time.perf_counter() - self._last_checkpoint
        return since > max(CHECKPOINT_SECONDS, self._checkpoint_cost / CHECKPOINT_SHARE)

    def _save_checkpoint(self) -> None:
        begun = time.perf_counter()
        self.folder.save_checkpoint(
            {
                "conditions": self._conditions,
                "prepared": self.prepared,
                "k": self.k,
                "seconds": self.seconds(),
                "z": self.z,
                "ema": self.ema,
                "rows": self.rows,
                "oracle": self.oracle,
                "latest": self._latest,
                "state": {name: _state_of(part) for name, part in self.state.items()},
            }
        )
        self._last_checkpoint = time.perf_counter()
        self._checkpoint_cost = self._last_checkpoint - begun

    def _restore(self, saved: dict[str, Any]) -> None:
        try:
            for name, part in self.state.items():
                _restore(part, saved["state"][name])
            self.k, self._seconds_before = saved["k"], saved["seconds"]
            self.prepared = saved.get("prepared", 0)
            self.z = saved["z"].to(self.device)
            self.ema = saved["ema"].to(self.device) if self.k else None
            self.rows, self.oracle = saved["rows"], saved["oracle"]
            self._latest = saved["latest"]
            conditions = saved["conditions"]
        except InputError:
            raise
        except DAMAGED as error:
            raise self.folder.damaged_checkpoint(error) from error
        for name, here in self._conditions.items():
            if conditions.get(name) != here:
                print(
                    f"note: the checkpoint is of {name} {conditions.get(name)}, this run of {here}; the "
                    "result will not have the bits of an undisturbed run"
                )


def _state_of(part: Any) -> Any:
    """Return what a checkpoint holds of a part of a method's state."""
    if isinstance(part, Tensor):
        return part
    return part.get_state() if isinstance(part, torch.Generator) else part.state_dict()


def _restore(part: Any, saved: Any) -> None:
    """Bring a part of a method's state back to what a checkpoint holds."""
    if isinstance(part, Tensor):
        with torch.no_grad():
            part.copy_(saved)
    elif isinstance(part, torch.Generator):
        require(
            saved.numel() == part.get_state().numel(),
            "this run was begun on another kind of device, which draws other random numbers; "
            "continue there, or start afresh with --fresh",
        )
        part.set_state(saved)
    else:
        part.load_state_dict(saved)


@contextmanager
def handled_signals(handler: Callable[[int], object], numbers: Iterable[int]) -> Iterator[None]:
    """Hand signals to a function while the block runs; only the main thread can."""
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in numbers:
            before[number] = signal.signal(number, lambda n, frame: handler(n))
    try:
        yield
    finally:
        for number, handled_before in before.items():
            signal.signal(number, handled_before)
