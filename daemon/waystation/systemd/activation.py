"""The sockets that systemd opened and passed on (sd_listen_fds(3)): they stay open when the daemon ends."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from waystation.errors import DaemonError

if TYPE_CHECKING:
    from collections.abc import MutableMapping

FIRST_FD = 3
"""SD_LISTEN_FDS_START."""
_ADVICE = "Let the .socket unit have ListenStream= with an address and a port, or an address alone, and nothing else."
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


@dataclass(frozen=True, slots=True)
class Passed:
    """A socket, and what its unit calls it: ``FileDescriptorName=``, else the unit's own name."""

    socket: socket.socket
    name: str


def take_sockets(
    environment: MutableMapping[str, str], *, pid: int | None = None, first_fd: int = FIRST_FD
) -> list[Passed]:
    """Take what was passed to this process, and the variables that say so: no child must take them for its own.

    Raises:
        DaemonError: one of them is not a TCP socket that listens.
    """
    for_whom, count, names = (environment.pop(variable, "") for variable in _VARIABLES)
    if for_whom != str(pid or os.getpid()):
        return []
    fds = range(first_fd, first_fd + int(count or "0"))
    called = dict(zip(fds, names.split(":"), strict=False))
    return [Passed(_take(fd, name), name) for fd, name in ((fd, called.get(fd) or "unnamed") for fd in fds)]


def _take(fd: int, name: str) -> socket.socket:
    os.set_inheritable(fd, False)
    try:
        passed = socket.socket(fileno=fd)
    except OSError as error:
        raise DaemonError(f"descriptor {fd} ('{name}'), which systemd passed, is no socket", advice=_ADVICE) from error
    is_tcp = passed.type == socket.SOCK_STREAM and passed.family in (socket.AF_INET, socket.AF_INET6)
    if not is_tcp or not passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        passed.close()
        raise DaemonError(f"'{name}', which systemd passed, is no TCP socket that listens", advice=_ADVICE)
    passed.setblocking(False)
    return passed
