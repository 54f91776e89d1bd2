"""Who is at the other end of a Unix socket, as the kernel says (unix(7): SO_PEERCRED, SO_PEERGROUPS)."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from socket import SO_PEERCRED, SOL_SOCKET
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from socket import socket

_SO_PEERGROUPS = 59
_UCRED = struct.Struct("3i")
_GID = struct.Struct("I")
_MAX_GROUPS_BYTES = 1024  # as much as Python lets getsockopt return


@dataclass(frozen=True, slots=True)
class Peer:
    """The process that connected, at the time when it did."""

    pid: int
    uid: int
    groups: frozenset[int]

    def may_administer(self, group: int) -> bool:
        """Root, the daemon's own user, and whoever is in the socket's group."""
        return self.uid in (0, os.geteuid()) or group in self.groups


def peer_of(connected: socket) -> Peer:
    """Ask the kernel about the peer of a connected Unix socket."""
    pid, uid, gid = _UCRED.unpack(connected.getsockopt(SOL_SOCKET, SO_PEERCRED, _UCRED.size))
    try:
        groups = connected.getsockopt(SOL_SOCKET, _SO_PEERGROUPS, _MAX_GROUPS_BYTES)
    except OSError:  # it is in more groups than that: only its own one counts
        groups = b""
    return Peer(pid, uid, frozenset((gid, *(group for (group,) in _GID.iter_unpack(groups)))))
