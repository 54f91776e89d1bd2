"""Which connections were redirected and still run, as the kernel lists both of their ends; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from waystation.takeover.ruleset import Standing

_OVER = {"06", "07", "0A"}
"""TIME_WAIT, CLOSE and LISTEN."""
_MAPPED = "0000000000000000FFFF0000"
"""In front of an IPv4 address in a table of IPv6."""


def count_redirected(tables: Iterable[str], rules: Sequence[Standing]) -> int:
    """Count them in the text of ``/proc/net/tcp`` and ``/proc/net/tcp6`` (proc(5)).

    A client sees the bucket at the other end, and the mirror sees the client.
    """
    clients, served = set(), set()
    for line in (line for table in tables for line in table.splitlines()[1:]):
        _, local, remote, state, *_ = line.split()
        if state in _OVER:
            continue
        local, remote = local.removeprefix(_MAPPED), remote.removeprefix(_MAPPED)
        if any(_port(remote) == rule.port for rule in rules):
            clients.add(local)
        if any(_port(local) == rule.mirror_port for rule in rules):
            served.add(remote)
    return len(clients & served)


def _port(end: str) -> int:
    return int(end.rpartition(":")[2], 16)
