"""Takes over the origin's address on this machine, and gives it back."""

from __future__ import annotations

import asyncio
import pwd
import socket
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from waystation.errors import TakeoverError
from waystation.takeover.connections import count_redirected
from waystation.takeover.decision import Daemon, decide, endpoint_of
from waystation.takeover.ruleset import release, removal, script

if TYPE_CHECKING:
    from collections.abc import Mapping

    from waystation.model import Match
    from waystation.takeover.decision import Endpoint
    from waystation.takeover.nft import Nft
    from waystation.takeover.ruleset import Address, Redirect

PROC = Path("/proc")
PATIENCE_S = 30.0
"""For downloads that run when the address is given back: without our table the kernel would lose them."""
LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Answering:
    """The daemon that would answer, as its admin socket shows it."""

    pid: int
    listen: tuple[str, ...]
    covers_origin: bool
    """Whether its certificate has the origin's name."""

    @classmethod
    def of(cls, status: Mapping[str, Any]) -> Self:
        """Read a `StationStatus` as JSON has it."""
        certificate = status["certificate"] or {}
        return cls(int(status["pid"]), tuple(status["listen"]), certificate.get("covers_origin") is True)


async def plan(own_base: str | None, answering: Answering, match: Match) -> Redirect:
    """Work out what redirects the origin's address to this daemon.

    Raises:
        TakeoverError: it would lead in a circle, or nobody would answer.
    """
    endpoint = endpoint_of(own_base)
    addresses = await resolve(endpoint)
    user, cgroup = await asyncio.to_thread(_process, PROC / str(answering.pid))
    daemon = Daemon(user, cgroup, answering.listen, answering.covers_origin)
    return decide(endpoint, addresses, frozenset(filter(is_own, addresses)), daemon, match, user=_uid(match))


async def take_over(redirect: Redirect, nft: Nft) -> None:
    """Let it stand, replacing what stood before in one step.

    Raises:
        TakeoverError: nft refuses; nothing changed.
    """
    await nft.load(script(redirect))


async def give_back(nft: Nft) -> bool:
    """Lead nobody away any more, let those finish who were (for `PATIENCE_S` at most), and remove our table whole.

    False where none stood.

    Raises:
        TakeoverError: nft refuses.
    """
    try:
        rules = await nft.standing()
    except TakeoverError:
        rules = []  # it holds what is none of ours; it goes all the same
    if rules is None:
        return False
    if rules:
        await nft.load(release())
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while count_redirected(await asyncio.to_thread(_tables), rules):  # noqa: ASYNC110 - the kernel's news
                    await asyncio.sleep(LOOK_S)
    await nft.load(removal())
    return True


async def resolve(endpoint: Endpoint) -> frozenset[Address]:
    """Look up every address of the origin.

    Raises:
        TakeoverError: its name has none.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise TakeoverError(
            f"the origin's name {endpoint.host} has no address: {error.strerror}",
            advice="Correct the name in [origin], or the machine's DNS.",
        ) from error
    return frozenset(ip_address(where[0]) for _, _, _, _, where in found)


def is_own(address: Address) -> bool:
    """Whether this machine itself has the address: a socket can be bound to it."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def _tables() -> list[str]:
    """The kernel's lists of TCP connections; one is missing where there is no IPv6."""
    return [table.read_text() for table in (PROC / "net/tcp", PROC / "net/tcp6") if table.exists()]


def _process(folder: Path) -> tuple[int, str]:
    """A process's user and its cgroup (v2; the line of proc(5) that begins with ``0::``)."""
    try:
        uid = folder.stat().st_uid
        lines = (folder / "cgroup").read_text().splitlines()
    except OSError as error:
        raise TakeoverError(f"the daemon's process {folder.name} is gone", advice="Start it again.") from error
    return uid, next((line[len("0::/") :] for line in lines if line.startswith("0::/")), "")


def _uid(match: Match) -> int | None:
    if match.user is None:
        return None
    try:
        return int(match.user) if match.user.isdigit() else pwd.getpwnam(match.user).pw_uid
    except KeyError as error:
        raise TakeoverError(
            f"there is no user {match.user} on this machine", advice="Correct [takeover] match."
        ) from error
