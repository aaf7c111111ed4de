"""The errors that a user sees, and how a script ends with them: one line, and an exit status."""

import errno
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


class InputError(ValueError):
    """A user's mistake: the message says what was got, what was expected and what to do."""


class RunFailed(RuntimeError):
    """A run that cannot go on, such as a loss that became NaN."""


class Interrupted(RuntimeError):
    """A run that was stopped by Ctrl-C or SIGTERM after saving its state."""


class CannotRun(InputError):
    """A method that is not for this problem, these data or this installation."""


class Busy(InputError):
    """Something that another process is at work on; it may be free a little later."""


INTERRUPTED = 130  # exit status after a signal
BUSY = 75  # exit status of a script that did all but what other processes are at work on


def require(condition: bool, message: str) -> None:
    """Raise InputError with the message unless the condition holds."""
    if not condition:
        raise InputError(message)


class Status:
    """Turn the failure of a block into one line on stderr and an exit status.

        with Status() as status:
            for path in paths:
                with status.each(path):  # what fails here does not stop the rest
                    ...
        return status.code

    Attributes:
        code: 0; 2 after an InputError or a file system that refused; BUSY after a Busy; 1 after a
            RunFailed, a full disk or a device out of memory; INTERRUPTED (130) after a signal. The
            first failure counts, and an interrupt over all. Any other exception is a defect: in
            one of several blocks its traceback is printed and the code is 1, else it passes
            through.
        blocks: how many blocks `each` has guarded.
        failures: name of each block that failed, and why, in one line.
    """

    def __init__(self) -> None:
        self.code = 0
        self.blocks = 0
        self.failures: list[tuple[str, str]] = []

    def __enter__(self) -> "Status":
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        return error is not None and self._tell(error)

    def _tell(self, error: BaseException) -> bool:
        """Print what the user is told of a failure; False for a defect."""
        told = told_of(error)
        if told is None:
            return False
        code, line = told
        self.code = code if code == INTERRUPTED else self.code or code
        print(line, file=sys.stderr)
        return True

    @contextmanager
    def each(self, name: object = "") -> Iterator[None]:
        """Guard one of several blocks; an interrupt passes through to the outer one."""
        self.blocks += 1
        try:
            yield
        except (Interrupted, KeyboardInterrupt):
            raise
        except Exception as error:
            self.failures.append((str(name), first_line(error)))
            if not self._tell(error):
                traceback.print_exc()
                self.code = self.code or 1


def exit_status(action: Callable[[], object]) -> int:
    """Run an action and return the exit status that it leads to, as Status does."""
    with Status() as status:
        action()
    return status.code


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its type if it says nothing."""
    return (str(error) or type(error).__name__).splitlines()[0]


def told_of(error: BaseException) -> tuple[int, str] | None:
    """Return the exit status and the line that a user is told of a failure, None for a defect."""
    if isinstance(error, Interrupted):
        return INTERRUPTED, str(error)
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "interrupted; a checkpoint, if one was written, was kept"
    if isinstance(error, InputError):
        return BUSY if isinstance(error, Busy) else 2, f"error: {error}"
    if isinstance(error, RunFailed):
        return 1, f"error: {error}"
    memory = isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)  # PyTorch, on a CPU
    )
    if memory:
        advice = "out of memory; lower --width, take a smaller image or another --device"
        return 1, f"error: {advice} ({str(error).splitlines()[0]})"
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
        return 1 if full else 2, f"error: {error.filename or 'file system'}: {error.strerror}"
    return None
