"""Who is on the other end of the admin socket, as the kernel says, and whether they may use it."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from waystation.errors import NotAllowed

if TYPE_CHECKING:
    from pathlib import Path

_UCRED = struct.Struct("=iII")  # struct ucred of linux/socket.h: pid, uid, gid
_SO_PEERGROUPS = 59  # asm-generic/socket.h, Linux 4.13; the socket module does not know it
_GROUPS_BYTES = 1024  # as much as getsockopt of CPython takes: 256 groups
_ROOT = 0


class Socket(Protocol):
    """As much of a socket as is asked."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Peer:
    """A process, as it was when it connected."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int] = frozenset()
    """Its supplementary groups."""


def peer_of(connection: Socket) -> Peer:
    """Ask the kernel who connected (unix(7), SO_PEERCRED and SO_PEERGROUPS).

    Who is in more than 256 groups counts by the own one alone: fewer rights, never more.
    """
    pid, uid, gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    raw = b""
    with suppress(OSError):
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES)
    return Peer(pid, uid, gid, frozenset(struct.unpack(f"={len(raw) // 4}I", raw)))


def group_of(path: Path) -> int | None:
    """Look up whose group the socket is: an operator may give it to another one while the daemon runs."""
    try:
        return path.stat().st_gid
    except OSError:
        return None


def check(peer: Peer, *, own_uid: int, socket_gid: int | None) -> None:
    """Let root, the daemon's own user and the socket's group pass, whatever the socket's mode has become.

    Raises:
        NotAllowed: it is none of them.
    """
    if peer.uid in (_ROOT, own_uid) or (socket_gid is not None and socket_gid in (peer.gid, *peer.groups)):
        return
    raise NotAllowed(f"user {peer.uid} is neither root, nor the daemon's own user, nor in the socket's group")
