"""A run and its folder: steps, log, checkpoint, resume, and the record of its figures.

`results/<task>/<method>/<item>/<run>/` holds config.json from the start, log.csv and
checkpoint.pt while it runs, and metrics.json from its end. With metrics.json the run is complete
and is not done again; with a checkpoint alone the same command goes on from there.
"""

import csv
import io
import json
import math
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from utils import processor
from utils.callback import Callback
from utils.errors import InputError, Interrupted, RunFailed, require
from utils.files import DAMAGED, PARTIAL, content_hash, load_torch, reason, write_atomically

try:
    import fcntl
except ImportError:  # Windows has none: there, two processes on one run are not told apart
    fcntl = None

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = (
    "torch", "numpy", "scipy", "scikit-image", "sigpy", "h5py", "pydicom", "pillow", "tifffile",
    "pypng", "matplotlib",
)  # fmt: skip
# Flags that do not decide the result, as do those that are paths: what files bring is in the
# settings by hash.
RUN_FLAGS = {
    "slice", "device", "deterministic", "run", "fresh", "quick", "fast", "schedule", "method",
    "set",
}  # fmt: skip
CHECKPOINT_SECONDS = 5.0  # at least so long between two checkpoints,
CHECKPOINT_SHARE = 0.005  # and at most this share of the time goes into them
LABELS = {"ema": "average (EMA)"}  # of an image in the report, where it is not its name
MORE_FIGURES = {  # of some tasks
    "psnr_window": ("in the window", "dB"),
    "rmse_hu": ("RMSE", "HU"),
    "psnr_hole": ("in the hole", "dB"),
}
LONG_RUN_SECONDS = 300.0  # on a CPU, a longer run is told of --quick


class Run(Callback):
    """Carry one reconstruction through its outer steps, whatever happens to the process.

    It is the callback of the method that reconstructs. Who runs the method opens the run first
    and completes it with finish:

        run = Run(args, ...)
        if not run.finished():
            run.open(score, y, A)
            x_hat = method(y, A, net, callback=run)
            run.finish(figures)

    Args:
        args: the script's Args; all fields but paths and RUN_FLAGS, and the content of the data,
            are the run's settings. A folder that holds other settings is refused.
        task, method, item: the folders below args.out.
        data: all that the user brings, None for what is absent.
        ignored: further fields that are no settings, such as those that name a file in `data`.
        hyperparameters: settings that are no fields of args: those of a method in baselines/.
        inner: weight updates in one outer step.

    Raises:
        InputError: the folder holds a run of other settings.
    """

    def __init__(
        self,
        args: Any,
        task: str,
        method: str,
        item: str,
        data: tuple[np.ndarray | str | None, ...],
        ignored: Collection[str] = (),
        hyperparameters: dict[str, Any] | None = None,
        inner: int = 1,
    ) -> None:
        self.args = args
        self.inner = inner
        self.identity = {"task": task, "method": method, "item": item}
        self.settings = {
            field.name: getattr(args, field.name)
            for field in fields(args)
            if field.name not in {*RUN_FLAGS, *ignored} and field.type not in (Path, Path | None)
        }
        self.settings["hyperparameters"] = hyperparameters or {}
        self.settings["data_sha256"] = [None if a is None else content_hash(a) for a in data]
        self.settings = json.loads(json.dumps(self.settings))  # as config.json will give them back
        require(
            args.run is None or re.fullmatch(r"\w[\w.-]{0,99}", args.run) is not None,
            f"--run {args.run}: expected a folder name of at most 100 letters, digits, '_', '.' "
            "and '-'",
        )
        self.name = args.run or content_hash(json.dumps(self.settings, sort_keys=True))[:10]
        self.folder = args.out / task / method / item / self.name
        self.fresh = args.fresh
        for folder in (self.folder, args.out / "cache"):
            above = next(path for path in (folder, *folder.parents) if path.exists())
            require(
                above.is_dir() and os.access(above, os.W_OK),
                f"{folder}: cannot be written, {above} is a file or read-only; choose another "
                "--out",
            )
        if not self.fresh:
            self._refuse_other_config()

    # Before the first step ------------------------------------------------------------------

    def finished(self) -> bool:
        """Tell whether the run is complete; if so, print its figures and where they lie."""
        path = self.folder / "metrics.json"
        if self.fresh or not path.exists():
            return False
        try:
            metrics = json.loads(path.read_text())
        except ValueError as error:
            raise InputError(f"{path}: damaged ({error}); repeat the run with --fresh") from error
        self._path("checkpoint.pt").unlink(missing_ok=True)  # a kill can leave it behind
        print("this run is finished already (--fresh repeats it)")
        print_report(metrics, self.folder)
        return True

    def open(self, score: Callable[[Tensor], dict[str, float]], y: Tensor, A: nn.Module) -> None:
        """Open the run folder for a method that is about to work on y and A.

        Args:
            score: maps an image to its figures against the truth, {} without a truth. It is
                called for the log, and nothing but the log and the oracle depends on it.
            y, A: the measurements and the operator: their device is the run's, and they tell when
                a checkpoint was made of others (maps that another machine computed differ in
                their last bits).

        Raises:
            InputError: the folder cannot be written.
        """
        self.score = score
        self.device = y.device
        self.k = self.K = 0
        self.state: dict[str, Any] = {}
        self.z: Tensor | None = None
        self.ema: Tensor | None = None
        self.rows: list[dict[str, float]] = []
        self.oracle: dict[str, float] = {}
        self._pending: list[dict[str, Tensor]] = []
        self._latest: dict[str, float] | None = None
        self._seconds_before = 0.0
        self._checkpoint_cost = 0.0
        self._stopped_by: int | None = None
        self._chosen: dict[str, int] = {}
        problem = (y, *A.parameters(), *A.buffers())
        self._conditions = {  # what else decides the bits of the result
            "device": processor.device_name(self.device),
            "PyTorch": version("torch"),
            "commit": git_state()["commit"],
            "problem": content_hash(*(t.cpu().numpy() for t in problem))[:12],
        }
        self._open_folder()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self._started = time.perf_counter()
        self._ended: float | None = None

    def start(self, z0: Tensor | None = None, **state: Any) -> Tensor | None:
        """Begin the log; where the folder holds a checkpoint, take everything back to it.

        Raises:
            InputError: the checkpoint is damaged.
        """
        self.state, self.z = state, z0
        if self._path("checkpoint.pt").exists():
            self._load_checkpoint(self._path("checkpoint.pt"))
            print(f"resumed after outer step {self.k} from {self._path('checkpoint.pt')}")
        elif z0 is not None:
            self._add_row({"step": 0}, self.score(z0))
        self._write_log()
        return self.z

    def _path(self, name: str) -> Path:
        return self.folder / name

    def _refuse_other_config(self) -> None:
        try:
            config = json.loads(self._path("config.json").read_text())
            stored, threads = config["settings"], config.get("threads")
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise InputError(
                f"{self._path('config.json')}: damaged ({reason(error)}); start afresh with "
                "--fresh or take another --run"
            ) from error
        self._refuse_other_settings("config.json", stored)
        if self._path("checkpoint.pt").exists():
            processor.choose_threads(threads)  # to go on to the same bits

    def _refuse_other_settings(self, file: str, stored: dict[str, Any]) -> None:
        for key in sorted(stored.keys() | self.settings.keys()):
            there, here = stored.get(key), self.settings.get(key)
            require(
                there == here,
                f"{self._path(file)}: of another configuration ({key}: {there} there, {here} "
                "here); start afresh with --fresh or take another --run",
            )

    def _open_folder(self) -> None:
        flags = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self.args).items()}
        config = {
            **self.identity,
            "settings": self.settings,
            "flags": flags,
            "command": shlex.join(["python", *sys.argv]),
            "device": processor.device_name(self.device),
            "threads": torch.get_num_threads(),
            "versions": versions(),
            **git_state(),
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock_folder()
            if self.fresh:
                self._path("metrics.json").unlink(missing_ok=True)  # first: no longer complete
                for path in self.folder.iterdir():
                    if path.is_file():
                        path.unlink()
            if not self._path("checkpoint.pt").exists():
                self._save_text("config.json", json.dumps(config, indent=2))
        except OSError as error:
            raise InputError(
                f"{self.folder}: cannot be written ({error.strerror}); choose another --out"
            ) from error

    def _lock_folder(self) -> None:
        """Keep other processes out of the folder until this one ends or is killed."""
        self._unlock: Callable[[], object] = lambda: None
        if fcntl is None:
            return
        lock = os.open(self.folder, os.O_RDONLY)
        self._unlock = weakref.finalize(self, os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._unlock()
            raise InputError(
                f"{self.folder}: another process is at work on this run; wait for it, or take "
                "another --run"
            ) from error

    # The loop -------------------------------------------------------------------------------

    def outer(self, K: int) -> Iterator[int]:
        """Yield the outer steps that are left of 1..K, with a progress bar.

        Ctrl-C and SIGTERM let the outer step in hand end, save a checkpoint and raise
        Interrupted; a second one stops at once.
        """
        self.K = K
        self._started = self._last_checkpoint = time.perf_counter()
        first = self.k + 1
        with (
            tqdm(total=K, initial=self.k, unit="step", dynamic_ncols=True,
                 mininterval=0.5 if sys.stderr.isatty() else 10.0) as self._bar,
            _Signals(self._on_signal),
        ):  # fmt: skip
            for k in range(first, K + 1):
                yield k
                self._bar.update()
                if k == first + 4:
                    self._tell_long_run(5)
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
        if self.ema is None:
            self.ema = torch.zeros_like(x)
        self.ema.mul_(self.args.ema_decay).add_(x, alpha=1 - self.args.ema_decay)
        self._pending.append(terms)
        # Methods with other inner steps log at the same updates.
        log_due = k * self.inner % (self.args.log_every * self.args.N) == 0 or k == self.K
        since = time.perf_counter() - self._last_checkpoint
        save_due = since > max(CHECKPOINT_SECONDS, self._checkpoint_cost / CHECKPOINT_SHARE)
        save_due = save_due or stopped_by is not None or k == self.K
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
        self._chosen = {"step_final": k * self.inner}

    def _interrupted(self, number: int) -> Interrupted:
        same = "the same command without --fresh" if self.args.fresh else "the same command"
        return Interrupted(
            f"stopped by {signal.Signals(number).name} after outer step {self.k} of {self.K}; "
            f"{same} goes on from {self._path('checkpoint.pt')}"
        )

    def averaged(self) -> Tensor:
        """Return the exponential moving average of z_1..z_k, free of the bias of its start."""
        return self.ema / (1 - self.args.ema_decay**self.k)

    def seconds(self) -> float:
        """Return the time that the method took, earlier parts of a resumed run included."""
        now = time.perf_counter() if self._ended is None else self._ended
        return self._seconds_before + now - self._started

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

    def _read_terms(self) -> None:
        """Bring the terms since the last reading to the host; keep those of step k."""
        pending, self._pending = self._pending, []
        names = list(pending[-1])
        table = torch.stack([torch.stack([t[name] for name in names]) for t in pending]).cpu()
        bad = (~table.isfinite().all(dim=1)).nonzero()
        k_bad = self.k - len(pending) + 1 + int(bad[0]) if len(bad) else self.k
        if len(bad) or not bool(torch.isfinite(self.z).all()):
            raise RunFailed(
                f"the loss or the image became NaN or Inf at step {k_bad * self.inner} "
                f"(outer step {k_bad}); lower the learning rate. The last good checkpoint, if "
                f"one was written, stays in {self.folder}"
            )
        self._latest = dict(zip(names, table[-1].tolist()))

    def _log(self, terms: dict[str, float]) -> None:
        figures = self.score(self.z)
        step = self.k * self.inner
        if figures and figures["psnr"] > self.oracle.get("psnr", -math.inf):
            self.oracle = {"psnr": figures["psnr"], "step": step}
        columns = self._columns()
        self._add_row({"step": step} | terms, figures)
        if self._columns() != columns:
            self._write_log()  # the first terms: the head of the table changes
        else:
            with open(self._path("log.csv"), "a", newline="") as file:
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

    def _write_log(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        self._save_text("log.csv", text.getvalue())

    def _tell_long_run(self, steps: int) -> None:
        whole = (time.perf_counter() - self._started) / steps * self.K
        if self.device.type == "cpu" and whole > LONG_RUN_SECONDS:
            if self.args.quick:
                advice = "--quick takes two minutes for the sample; larger data take longer."
            else:
                advice = (
                    "--quick shows a result within two minutes, with a smaller network and fewer "
                    "updates; a GPU runs the full setting."
                )
            self._bar.write(
                f"On this CPU the {self.K * self.inner} updates take about {duration(whole)}. "
                f"{advice}",
                file=sys.stderr,
            )

    def _on_signal(self, number: int) -> None:
        if self._stopped_by is not None:
            raise KeyboardInterrupt
        self._stopped_by = number
        self._bar.write("stopping after this outer step ...", file=sys.stderr)

    # Checkpoints ----------------------------------------------------------------------------

    def _save_checkpoint(self) -> None:
        begun = time.perf_counter()
        state = {
            "settings": self.settings,
            "conditions": self._conditions,
            "k": self.k,
            "seconds": self.seconds(),
            "z": self.z,
            "ema": self.ema,
            "rows": self.rows,
            "oracle": self.oracle,
            "latest": self._latest,
            "state": {name: _state_of(part) for name, part in self.state.items()},
        }
        write_atomically(self._path("checkpoint.pt"), lambda file: torch.save(state, file))
        self._last_checkpoint = time.perf_counter()
        self._checkpoint_cost = self._last_checkpoint - begun

    def _load_checkpoint(self, path: Path) -> None:
        try:
            state = load_torch(path)
            self._refuse_other_settings(path.name, state["settings"])
            for name, part in self.state.items():
                _restore(part, state["state"][name])
            self.k, self._seconds_before = state["k"], state["seconds"]
            self.z, self.ema = state["z"].to(self.device), state["ema"].to(self.device)
            self.rows, self.oracle = state["rows"], state["oracle"]
            self._latest = state["latest"]
            conditions = state["conditions"]
        except InputError:
            raise
        except DAMAGED as error:
            raise InputError(
                f"{path}: a damaged checkpoint ({reason(error)}); start afresh with --fresh"
            ) from error
        for name, here in self._conditions.items():
            if conditions.get(name) != here:
                print(
                    f"note: {name} {conditions.get(name)} made the checkpoint, {here} goes on; "
                    "the result will not be equal to the bit to that of an undisturbed run"
                )

    # After the last step --------------------------------------------------------------------

    def save_array(self, name: str, array: np.ndarray) -> None:
        """Write an array into the run folder as .npy."""
        write_atomically(self._path(name), lambda file: np.save(file, array))

    def save_picture(self, name: str, pixels: np.ndarray, limits: tuple[float, float]) -> None:
        """Write (H, W) or (H, W, 3) into the run folder as 8-bit .png, black to white at limits."""
        black, white = limits
        levels = np.rint(255 * ((pixels - black) / (white - black)).clip(0, 1)).astype(np.uint8)
        write_atomically(
            self._path(name), lambda file: Image.fromarray(levels).save(file, format="PNG")
        )

    def save_figure(self, name: str, figure: Figure) -> None:
        """Write a figure into the run folder as .png."""
        write_atomically(self._path(name), lambda file: figure.savefig(file, format="png"))

    def discard(self) -> None:
        """Remove the folder of a run whose method refused to begin; of others nothing."""
        if self.k > 0 or self._path("checkpoint.pt").exists():
            return
        for path in self.folder.iterdir():
            path.unlink()
        self._unlock()
        for folder in (self.folder, *list(self.folder.parents)[:3]):  # item, method, task
            if any(folder.iterdir()):
                return
            folder.rmdir()

    def _save_text(self, name: str, text: str) -> None:
        write_atomically(self._path(name), lambda file: file.write(text.encode()))

    def finish(self, metrics: dict[str, Any]) -> None:
        """Write metrics.json, which makes the run complete, and print its figures.

        Args:
            metrics: the task's own figures; what every run has is added.
        """
        record = {
            **self.identity,
            "run": self.name,
            "hyperparameters": self.settings["hyperparameters"],
            **metrics,
            **{f"{name}_oracle": value for name, value in self.oracle.items()},
            **self._chosen,
            "steps": self.k * self.inner,
            "seconds": self.seconds(),
            "n_params": sum(p.numel() for p in self.state["net"].parameters())
            if "net" in self.state
            else 0,
            "device": processor.device_name(self.device),
            "quick": self.args.quick,
        }
        if self.device.type == "cuda":
            # Reserved: what a graph uses counts as free in what is allocated.
            record["peak_memory_gib"] = torch.cuda.max_memory_reserved(self.device) / 2**30
        if self.rows:
            self._write_log()
        # JSON has no infinity, the PSNR of an image without any error.
        record = {k: None if v == math.inf else v for k, v in record.items()}
        self._save_text("metrics.json", json.dumps(record, indent=2, allow_nan=False))
        self._path("checkpoint.pt").unlink(missing_ok=True)
        for path in self.folder.glob(f".*{PARTIAL}"):
            path.unlink(missing_ok=True)
        self._unlock()
        print_report(record, self.folder)


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
            "this run was begun on another kind of device, whose random numbers are others; go on "
            "there, or start afresh with --fresh",
        )
        part.set_state(saved)
    else:
        part.load_state_dict(saved)


class _Signals:
    """Hand SIGINT and SIGTERM to a function while the block runs."""

    def __init__(self, handler: Callable[[int], None]) -> None:
        self.handler = handler
        self.before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.before[number] = signal.signal(number, lambda n, frame: self.handler(n))

    def __exit__(self, *exception: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


def print_report(metrics: dict[str, Any], folder: Path) -> None:
    """Print a complete run's figures and where its files lie."""
    if "psnr_final" in metrics:
        for name in metrics["images"]:
            psnr = metrics[f"psnr_{name}"]
            step = metrics.get(f"step_{name}")  # of an image that is not the last one's
            more = [] if step is None else [f"   step {step}"]
            more += [
                f"   {label} {metrics[f'{key}_{name}']:.2f} {unit}"
                for key, (label, unit) in MORE_FIGURES.items()
                if metrics.get(f"{key}_{name}") is not None
            ]
            print(
                f"  {LABELS.get(name, name):<14} PSNR {math.inf if psnr is None else psnr:6.2f} dB"
                f"   SSIM {metrics[f'ssim_{name}']:.4f}   NMSE {metrics[f'nmse_{name}']:.5f}"
                + "".join(more)
            )
        if "psnr_oracle" in metrics:
            print(
                f"  {'oracle':<14} PSNR {metrics['psnr_oracle']:6.2f} dB   the best iterate by "
                f"the truth, step {metrics['step_oracle']}: not a result"
            )
    work = f"{metrics['steps']} updates of {metrics['n_params']:,} weights in "
    print(
        f"  {work if metrics['steps'] else ''}{duration(metrics['seconds'])} on {metrics['device']}"
    )
    print(f"  pictures, reconstruction and figures: {folder}")


def duration(seconds: float) -> str:
    """Write a time for people: 4.5 s, 45 s, 12 min, 3.4 h."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries."""
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def git_state() -> dict[str, Any]:
    """Return the commit of this code and whether files differ from it; None without git."""
    try:
        commit, status = (
            subprocess.run(
                ["git", "-C", str(ROOT), *command], capture_output=True, text=True, check=True
            ).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "-uno"])
        )
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": bool(status)}
