"""Becomes the command it is given, with sockets passed to it as systemd does (sd_listen_fds(3)).

Run as ``python -I -S activated.py NAME:FD[,NAME:FD…] COMMAND [ARGUMENT…]`` by `peers.manager`.
"""

from __future__ import annotations

import fcntl
import os
import sys

FIRST_FD = 3


def main() -> None:
    passed = [one.partition(":") for one in sys.argv[1].split(",")]
    # Out of the way first, since a descriptor may have the number that another one is to get.
    held = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, FIRST_FD + len(passed)) for _, _, fd in passed]
    for _, _, inherited in passed:
        os.close(int(inherited))
    for number, fd in enumerate(held, start=FIRST_FD):
        os.dup2(fd, number, inheritable=True)
        os.close(fd)
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["LISTEN_FDS"] = str(len(passed))
    os.environ["LISTEN_FDNAMES"] = ":".join(name for name, _, _ in passed)
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - becoming the command is the point


main()
