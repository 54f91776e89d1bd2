"""The admin socket's file: made with its mode before anyone can connect, and never in the place of something else."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from waystation.errors import DaemonError

if TYPE_CHECKING:
    from pathlib import Path

SOCKET_MODE = 0o660
FOLDER_MODE = 0o750
_PROBE_S = 1.0


def bind(path: Path) -> socket.socket:
    """Make the socket, not yet listening.

    Raises:
        DaemonError: another daemon answers there, something else is there, or it can't be made.
    """
    try:
        path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        _clear(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(path))
            path.chmod(SOCKET_MODE)  # nobody can connect yet: it does not listen
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise DaemonError(
            f"the admin socket {path} can't be made: {error.strerror or error}",
            advice="Set [admin] socket to a short path in a folder that this user may write to.",
        ) from error
    return listener


def _clear(path: Path) -> None:
    """Remove a socket that a daemon left behind; one that somebody answers on is not ours, nor is any other file."""
    if not path.exists() and not path.is_symlink():
        return
    if not path.is_socket() or path.is_symlink():
        raise DaemonError(
            f"{path} is there and is no socket", advice="Remove that file, or set [admin] socket to another path."
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_S)
        try:
            probe.connect(str(path))
        except OSError as error:
            if error.errno not in (errno.ECONNREFUSED, errno.ENOENT):
                raise
        else:
            raise DaemonError(
                f"another daemon answers on {path}",
                advice="Stop it, or give this one an [admin] socket of its own.",
            )
    path.unlink(missing_ok=True)
