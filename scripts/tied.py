"""Become a command that does not outlive the process that started it.

    python scripts/tied.py PARENT COMMAND...

PARENT is that process's number. On Linux the kernel kills the command when PARENT is gone, however
it went: an orphan would hold a run folder that the next launcher wants. Elsewhere it lives on.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>


def main() -> int:
    parent, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != int(parent):  # it was gone before the kernel knew
            return 1
    os.execv(command[0], command)


if __name__ == "__main__":
    sys.exit(main())
