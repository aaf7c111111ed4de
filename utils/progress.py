"""How far a run is: a bar on a terminal, a line now and then in a log; times for people."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TextIO

from tqdm import tqdm

SHARE = 0.1  # of all steps between two lines of a log,
SECONDS = 2.0  # at least so long apart,
SILENCE = 60.0  # and a line at the latest after so long


def progress(total: int, done: int, what: str = "step") -> "tqdm | Lines":
    """Return what tells of `total` steps on stderr, `done` of which were taken earlier."""
    if sys.stderr.isatty():
        return tqdm(total=total, initial=done, unit=what, dynamic_ncols=True, mininterval=0.5)
    return Lines(total, done, what)


class Lines:
    """Print a line at each tenth of the steps, and each minute; understand what tqdm does.

    Args:
        total: how many steps there are.
        done: how many of them were taken by an earlier process.
        what: what one is called.
    """

    def __init__(self, total: int, done: int, what: str = "step") -> None:
        self.total, self.done, self.first, self.what = total, done, done, what
        self.shown: dict[str, str] = {}
        self.begun = self.told_at = time.monotonic()
        self.told = done

    def __enter__(self) -> "Lines":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def set_postfix(self, shown: dict[str, str], refresh: bool = True) -> None:
        """Take what the next line tells besides the step."""
        self.shown = shown

    def update(self) -> None:
        """Take note of one more step; print a line if it is time."""
        self.done += 1
        silent = time.monotonic() - self.told_at
        share = (self.done - self.told) / self.total
        if self.done == self.total or silent >= SILENCE or (share >= SHARE and silent >= SECONDS):
            self._print()

    def _print(self) -> None:
        now = time.monotonic()
        self.told, self.told_at = self.done, now
        facts = [f"{self.what} {self.done} of {self.total}"]
        facts += [f"{name} {value}" for name, value in self.shown.items()]
        self.shown = {}  # which would be old in the next line
        seconds = now - self.begun
        facts.append(duration(seconds))
        left = seconds / (self.done - self.first) * (self.total - self.done)
        if left > 0:
            facts.append(f"about {duration(left)} left")
        self.write(", ".join(facts), sys.stderr)

    def write(self, text: str, file: TextIO) -> None:
        """Print a line of another's."""
        print(text, file=file, flush=True)


@contextmanager
def at_work(what: str) -> Iterator[None]:
    """Tell each minute how long the block has been at work, where its end is not known.

    Args:
        what: is at work.
    """
    ended, begun = threading.Event(), time.monotonic()

    def tell() -> None:
        while not ended.wait(SILENCE):
            passed = duration(time.monotonic() - begun)
            print(f"{what}: at work for {passed}", file=sys.stderr, flush=True)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def duration(seconds: float) -> str:
    """Write a time for people: 4.5 s, 45 s, 12 min, 3.4 h."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
