"""Becomes the command it is given, tied to its parent: when the parent dies, however it dies, the kernel kills it.

Run as ``python -I -S leash.py PARENT_PID COMMAND [ARGUMENT…]`` by `peers.processes`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the parent died while this process was starting")
    os.execvp(command[0], command)  # noqa: S606 - becoming the command is the point


main()
