"""A run's folder: settings, lock, checkpoint, results, each file whole or not there.

`results/<task>/<method>/<item>/<run>/` holds config.json from the start, log.csv and
checkpoint.pt while it runs, and metrics.json from its end. With metrics.json the run is complete
and is not done again; with a checkpoint alone the same command goes on from there.
"""

import json
import math
import os
import platform
import re
import shlex
import subprocess
import sys
import weakref
from collections.abc import Callable, Collection
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from utils import processor
from utils.errors import Busy, InputError, require
from utils.files import DAMAGED, PARTIAL, content_hash, load_torch, lock, reason, write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = (
    "torch", "numpy", "scipy", "scikit-image", "sigpy", "h5py", "pydicom", "nibabel", "pillow",
    "tifffile", "pypng", "matplotlib",
)  # fmt: skip
# Flags that do not decide the result, as do those that are paths: what files bring is in the
# settings by hash.
RUN_FLAGS = {
    "slice", "variable", "axes", "unit", "device", "deterministic", "run", "fresh", "quick", "preset",
    "method", "set", "images", "prior",
}  # fmt: skip


class RunFolder:
    """The folder of one run.

    Args:
        args: the script's Args; all fields but paths and RUN_FLAGS, and the content of the data,
            are the run's settings. A folder that holds other settings is refused.
        task, method, item: the folders below args.out.
        data: all that the user brings, None for what is absent.
        ignored: further fields that are no settings, such as those that name a file in `data`.
        hyperparameters: settings that are no fields of args: those of a method in baselines/.

    Raises:
        InputError: the folder holds a run of other settings, or cannot be written.
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
    ) -> None:
        self.identity = {"task": task, "method": method, "item": item}
        settings = {
            field.name: getattr(args, field.name)
            for field in fields(args)
            if field.name not in {*RUN_FLAGS, *ignored} and field.type not in (Path, Path | None)
        }
        settings["hyperparameters"] = hyperparameters or {}
        settings["data_sha256"] = [None if a is None else content_hash(a) for a in data]
        self.settings = json.loads(json.dumps(settings))  # as config.json will give them back
        self.flags = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(args).items()}
        require(
            args.run is None or re.fullmatch(r"\w[\w.-]{0,99}", args.run) is not None,
            f"--run {args.run}: expected a folder name of at most 100 letters, digits, '_', '.' "
            "and '-'",
        )
        self.name = args.run or content_hash(json.dumps(self.settings, sort_keys=True))[:10]
        self.path = args.out / task / method / item / self.name
        self.fresh = args.fresh
        self.unlock: Callable[[], object] = lambda: None  # lets other processes have the folder
        self._threads: int | None = None  # of the process that made the checkpoint
        for folder in (self.path, args.out / "cache"):
            above = next(path for path in (folder, *folder.parents) if path.exists())
            require(
                above.is_dir() and os.access(above, os.W_OK),
                f"{folder}: cannot be written, {above} is a file or read-only; choose another "
                "--out",
            )
        if not self.fresh:
            self._refuse_other_config()

    def finished(self) -> dict[str, Any] | None:
        """Return the figures of a complete run, None if it is not."""
        path = self.path / "metrics.json"
        if self.fresh or not path.exists():
            return None
        try:
            metrics = json.loads(path.read_text())
            if not isinstance(metrics, dict) or "steps" not in metrics:
                raise ValueError("it holds something else")
        except ValueError as error:
            raise InputError(f"{path}: damaged ({error}); repeat the run with --fresh") from error
        (self.path / "checkpoint.pt").unlink(missing_ok=True)  # a kill can leave it behind
        return metrics

    def _refuse_other_config(self) -> None:
        path = self.path / "config.json"
        try:
            config = json.loads(path.read_text())
            stored, threads = config["settings"], config.get("threads")
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise InputError(
                f"{path}: damaged ({reason(error)}); start afresh with --fresh or take another "
                "--run"
            ) from error
        self._refuse_other_settings(path, stored)
        if (self.path / "checkpoint.pt").exists():
            self._threads = threads

    def _refuse_other_settings(self, file: Path, stored: dict[str, Any]) -> None:
        for key in sorted(stored.keys() | self.settings.keys()):
            there, here = stored.get(key), self.settings.get(key)
            require(
                there == here,
                f"{file}: of another configuration ({key}: {there} there, {here} here); start "
                "afresh with --fresh or take another --run",
            )

    def open(self, device: torch.device) -> None:
        """Take the folder for this process, and write config.json if it is new.

        Raises:
            InputError: it cannot be written.
            Busy: another process is at work on it.
        """
        if device.type == "cpu":
            processor.choose_threads(self._threads)  # those of a checkpoint: to the same bits
        config = {
            **self.identity,
            "settings": self.settings,
            "flags": finite(self.flags),
            "command": shlex.join(["python", *sys.argv]),
            "device": processor.device_name(device),
            "threads": torch.get_num_threads(),
            "versions": versions(),
            **git_state(),
        }
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            held = Busy(
                f"{self.path}: another process is at work on this run; wait for it, or take "
                "another --run"
            )
            self.unlock = weakref.finalize(self, lock(self.path, held))  # it acts once
            if self.fresh:
                (self.path / "metrics.json").unlink(missing_ok=True)  # first: no longer complete
                for path in self.path.iterdir():
                    if path.is_file():
                        path.unlink()
            if not (self.path / "checkpoint.pt").exists():
                self.save_text("config.json", json.dumps(config, indent=2, default=str))
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be written ({error.strerror}); choose another --out"
            ) from error

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Write checkpoint.pt: the settings, and what load_checkpoint will give back."""
        state = {"settings": self.settings} | state
        write_atomically(self.path / "checkpoint.pt", lambda file: torch.save(state, file))

    def load_checkpoint(self) -> dict[str, Any] | None:
        """Read checkpoint.pt, None if there is none.

        Raises:
            InputError: it is damaged, or of other settings.
        """
        path = self.path / "checkpoint.pt"
        if not path.exists():
            return None
        try:
            state = load_torch(path)
            self._refuse_other_settings(path, state["settings"])
        except InputError:
            raise
        except DAMAGED as error:
            raise self.damaged_checkpoint(error) from error
        return state

    def damaged_checkpoint(self, error: Exception) -> InputError:
        """Return what the user is told of a checkpoint that something is wrong with."""
        return InputError(
            f"{self.path / 'checkpoint.pt'}: a damaged checkpoint ({reason(error)}); start afresh "
            "with --fresh"
        )

    def save_text(self, name: str, text: str) -> None:
        """Write a text file."""
        write_atomically(self.path / name, lambda file: file.write(text.encode()))

    def save_array(self, name: str, array: np.ndarray) -> None:
        """Write an array as .npy."""
        write_atomically(self.path / name, lambda file: np.save(file, array))

    def save_picture(self, name: str, pixels: np.ndarray, limits: tuple[float, float]) -> None:
        """Write (H, W) or (H, W, 3) as 8-bit .png, black to white at limits."""
        black, white = limits
        levels = np.rint(255 * ((pixels - black) / (white - black)).clip(0, 1)).astype(np.uint8)
        image = Image.fromarray(levels)
        write_atomically(self.path / name, lambda file: image.save(file, format="PNG"))

    def save_figure(self, name: str, figure: "Figure") -> None:
        """Write a figure as .png."""
        write_atomically(self.path / name, lambda file: figure.savefig(file, format="png"))

    def complete(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """Write metrics.json, which makes the run complete; return what it holds.

        A figure that is not finite becomes null, such as the PSNR of an image without any error.
        """
        record = {**self.identity, "run": self.name, **metrics}
        record = finite(record)
        self.save_text("metrics.json", json.dumps(record, indent=2, allow_nan=False))
        (self.path / "checkpoint.pt").unlink(missing_ok=True)
        for path in self.path.glob(f".*{PARTIAL}"):
            path.unlink(missing_ok=True)
        self.unlock()
        return record

    def discard(self) -> None:
        """Remove the folder of a run whose method refused to begin; none with a checkpoint."""
        if (self.path / "checkpoint.pt").exists():
            return
        for path in self.path.iterdir():
            if path.is_file():
                path.unlink()
        for folder in (self.path, *list(self.path.parents)[:3]):  # item, method, task
            if any(folder.iterdir()):
                return
            folder.rmdir()


def finite(value: Any) -> Any:
    """Return what JSON can hold of a figure, or of a list or dict of them: not NaN or Inf."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
