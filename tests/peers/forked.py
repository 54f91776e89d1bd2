"""Becomes a daemon again and again: imports it once, and forks it at each line on standard input.

Nine tenths of a daemon's start are its imports; a test of many restarts need not pay for them each time. Run as
``python forked.py FD ARGUMENT…`` with the listening socket FD to pass on, as `peers.activated` does it; for each
daemon it prints its pid, and once it has ended its exit status.
"""

from __future__ import annotations

import os
import sys

from waystation.cli import main, serve  # noqa: F401 - imported before the fork

FIRST_FD = 3


def loop(listener: int, arguments: list[str]) -> None:
    for _ in sys.stdin:
        if (pid := os.fork()) == 0:
            os.dup2(listener, FIRST_FD, inheritable=True)
            os.close(listener)
            os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "waystation.socket"}
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(2, 1)
            sys.argv[:] = ["waystation", *arguments]
            main()
        print(pid, flush=True)  # noqa: T201 - the test reads it
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)  # noqa: T201


loop(int(sys.argv[1]), sys.argv[2:])
