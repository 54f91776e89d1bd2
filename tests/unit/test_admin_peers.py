"""Who may use the admin socket, decided without one."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from waystation.admin.peers import Peer, check, group_of, peer_of
from waystation.errors import NotAllowed

if TYPE_CHECKING:
    from pathlib import Path

OWN_UID, SOCKET_GID = 990, 980


@pytest.mark.parametrize(
    "peer",
    [
        Peer(1, uid=0, gid=0),
        Peer(1, uid=OWN_UID, gid=7),
        Peer(1, uid=1000, gid=SOCKET_GID),
        Peer(1, uid=1000, gid=1000, groups=frozenset({4, SOCKET_GID})),
    ],
    ids=["root", "the daemon's own user", "the group", "a further group"],
)
def test_root_the_own_user_and_the_sockets_group_pass(peer: Peer) -> None:
    check(peer, own_uid=OWN_UID, socket_gid=SOCKET_GID)


@pytest.mark.parametrize("socket_gid", [SOCKET_GID, None])
def test_anybody_else_is_refused_in_words(socket_gid: int | None) -> None:
    with pytest.raises(NotAllowed, match="user 1000 is neither root") as caught:
        check(Peer(1, uid=1000, gid=1000, groups=frozenset({4})), own_uid=OWN_UID, socket_gid=socket_gid)
    assert "group" in caught.value.advice


def test_without_a_group_to_compare_the_group_0_is_nobodys_way_in() -> None:
    with pytest.raises(NotAllowed):
        check(Peer(1, uid=1000, gid=0), own_uid=OWN_UID, socket_gid=None)


class OldKernel:
    """One that knows who connected, and not in which groups."""

    def __init__(self, real: socket.socket) -> None:
        self.real = real

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes:
        if optname == socket.SO_PEERCRED:
            return self.real.getsockopt(level, optname, buflen)
        raise OSError(34, "Numerical result out of range")


def test_whose_groups_the_kernel_does_not_tell_counts_by_the_own_one() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert peer_of(OldKernel(ours)) == Peer(*(getattr(peer_of(ours), part) for part in ("pid", "uid", "gid")))


def test_a_socket_that_is_gone_has_no_group(tmp_path: Path) -> None:
    assert group_of(tmp_path / "absent") is None
