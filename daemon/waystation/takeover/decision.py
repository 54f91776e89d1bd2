"""Decides what may be taken over: from the origin's address and the mirror's sockets to a redirect, or a refusal."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from waystation.errors import TakeoverError
from waystation.takeover.ruleset import Redirect

if TYPE_CHECKING:
    from collections.abc import Iterable

    from waystation.model import Match
    from waystation.takeover.ruleset import Address

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where jobs reach the bucket: what is to be taken over."""

    scheme: str
    host: str
    port: int


def endpoint_of(own_base: str | None) -> Endpoint:
    """Read what stands in front of each key in the URLs of jobs that ask the origin itself.

    Raises:
        TakeoverError: nothing does, or no path: the mirror's root is its own.
    """
    parts = urlsplit(own_base or "")
    if parts.hostname is None:
        raise TakeoverError(
            "the origin has no address of its own to take over: it is a folder, or a bucket without an endpoint_url",
            advice="Takeover is for servers at a site's own address; let jobs name the mirror otherwise.",
        )
    if not parts.path.strip("/"):
        raise TakeoverError(
            f"targets lie at the root of {own_base}, where the mirror has paths of its own",
            advice="Let them lie in a folder there that [origin] url names; or let jobs name the mirror.",
        )
    return Endpoint(parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme])


@dataclass(frozen=True, slots=True)
class Daemon:
    """The daemon that would answer, as it says of itself."""

    user: int
    cgroup: str
    """Its path in cgroup v2, without the first slash."""
    listen: tuple[str, ...]
    """URLs."""
    covers_origin: bool = False
    """Whether its certificate has the origin's name."""


def decide(
    endpoint: Endpoint,
    addresses: frozenset[Address],
    own: frozenset[Address],
    daemon: Daemon,
    match: Match,
    *,
    user: int | None,
) -> Redirect:
    """Say what is to be redirected; `own` are this machine's addresses among them, `user` is the match's uid.

    An address family for which the mirror does not listen on loopback is left to the bucket.

    Raises:
        TakeoverError: it would lead in a circle, or nobody would answer.
    """
    if match.cgroup is not None and _within(daemon.cgroup, match.cgroup):
        raise TakeoverError(
            f"the daemon runs in the matched cgroup {match.cgroup}: it would be sent to itself",
            advice="Run the daemon in a unit of its own, or name another cgroup in [takeover] match.",
        )
    if user is not None and user == daemon.user:
        raise TakeoverError(
            f"the daemon runs as the matched user {match.user}: it would be sent to itself",
            advice="Run the daemon as a user of its own, or match Nomad's cgroup.",
        )
    sockets = [_socket(url) for url in daemon.listen]
    if any(address in own and port == endpoint.port for address in addresses for _, _, port in sockets):
        raise TakeoverError(
            f"the origin {endpoint.host}:{endpoint.port} is this mirror itself: a request would go in a circle",
            advice="Name the bucket's own address in [origin] endpoint_url, or the hub's in url.",
        )
    ports = {version: _port(sockets, endpoint.scheme, version) for version in (4, 6)}
    served = frozenset(address for address in addresses if ports[address.version] is not None)
    if not served:
        raise TakeoverError(
            f"the mirror does not speak {endpoint.scheme} on 127.0.0.1 or [::1], as the origin's address needs",
            advice=f'Add "{endpoint.scheme}://127.0.0.1:PORT" to [mirror] listen (https needs tls_cert and tls_key).',
        )
    if endpoint.scheme == "https" and not daemon.covers_origin:
        raise TakeoverError(
            f"the mirror's certificate does not have the name {endpoint.host}: every job would refuse it",
            advice="Have one issued with that name for [mirror] tls_cert, and reload the daemon.",
        )
    return Redirect(served, endpoint.port, {v: port for v, port in ports.items() if port is not None}, match)


def _within(path: str, cgroup: str) -> bool:
    return path == cgroup or path.startswith(f"{cgroup}/")


def _socket(url: str) -> tuple[str, Address, int]:
    parts = urlsplit(url)
    return parts.scheme, ip_address(parts.hostname or ""), parts.port or _PORTS[parts.scheme]


def _port(sockets: Iterable[tuple[str, Address, int]], scheme: str, version: int) -> int | None:
    """The port at which the mirror speaks `scheme` where nft's redirect leads: loopback of that family."""
    return next(
        (
            port
            for spoken, address, port in sockets
            if spoken == scheme and address.version == version and (address.is_loopback or address.is_unspecified)
        ),
        None,
    )
