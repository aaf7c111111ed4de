"""Running a script as a user does, and reading what it left."""

import csv
import hashlib
import importlib
import json
import re
import signal
import subprocess
import sys

import torch
from conftest import ROOT

from utils.loop import Loop


def call(monkeypatch, script, *arguments):
    """Run a script's module in this process; return its exit status."""
    monkeypatch.setattr(sys, "argv", [f"{script.__name__}.py", *map(str, arguments)])
    return script.main()


def as_process(name, *arguments):
    """Run a script, a file or a module such as scripts.report, as a process of its own."""
    what = [str(ROOT / name)] if name.endswith(".py") else ["-m", name]
    command = [sys.executable, *what, *map(str, arguments)]
    cwd = None if name.endswith(".py") else ROOT
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


def squeezed(text):
    """Return text whose runs of spaces are one: what a padded table says."""
    return re.sub(" +", " ", text)


def load(name):
    """Return a script under scripts/ as a module, for calls in this process."""
    return importlib.import_module(f"scripts.{name}")


def run_folder(out, task, item, method="aseqdip"):
    (folder,) = (out / task / method / item).iterdir()
    return folder


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def log_of(folder):
    with open(folder / "log.csv") as file:
        return list(csv.DictReader(file))


def digest(folder):
    return hashlib.sha256((folder / "reconstruction.npy").read_bytes()).hexdigest()


def stop_half_way(monkeypatch, script, arguments, k_stop=6):
    """Run until outer step k_stop and save there, as Ctrl-C does."""
    record = Loop.record

    def stopping(self, k, x, terms):
        if k == k_stop:
            signal.raise_signal(signal.SIGINT)
        record(self, k, x, terms)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "record", stopping)
        assert call(patch, script, *arguments) == 130


def refused(monkeypatch, capsys, folder, script, arguments, facts):
    """Check that a call writes nothing and ends with status 2 and one line.

    Args:
        facts: a regular expression of what the line must tell: the flag or the file, what was got,
            what was expected.
    """
    if torch.cuda.is_available() and "cuda" in arguments:
        return  # there it is no mistake
    before = sorted(folder.rglob("*"))
    capsys.readouterr()
    status = call(monkeypatch, script, *arguments)
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert status == 2, (arguments, captured)
    assert len(lines) == 1 and lines[0].startswith("error: "), (arguments, captured.err)
    assert re.search(facts, lines[0]), (arguments, facts, lines[0])
    assert sorted(folder.rglob("*")) == before, arguments
