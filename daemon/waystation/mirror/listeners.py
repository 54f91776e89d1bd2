"""The sockets that listen: bound as the settings say or passed by systemd, or an error in words."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from waystation.config import is_loopback
from waystation.errors import ConfigError, DaemonError

if TYPE_CHECKING:
    from collections.abc import Iterable

BACKLOG = 1024

_ADVICE = {
    errno.EADDRINUSE: "Stop what listens there (`ss -ltnp` names it), or choose another port in [mirror] listen.",
    errno.EACCES: "Ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher one in [mirror] listen.",
    errno.EADDRNOTAVAIL: "This machine has no such address; name one of its own in [mirror] listen.",
}
_OTHERWISE = "Correct the address in [mirror] listen."


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that listens."""

    socket: socket.socket
    secure: bool
    """Whether TLS is spoken there."""

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self.socket.getsockname()[:2]
        shown = f"[{host}]" if self.socket.family == socket.AF_INET6 else host
        return f"{'https' if self.secure else 'http'}://{shown}:{port}"


def bind_all(addresses: tuple[str, ...]) -> list[Listener]:
    """Listen on every address, ``http://host:port`` or ``https://…``; port 0 takes a free one.

    Raises:
        DaemonError: one of them can't be had; none is held then.
    """
    listeners: list[Listener] = []
    try:
        for address in addresses:
            secure = urlsplit(address).scheme == "https"
            listeners.extend(Listener(_bind(address, family, where), secure) for family, where in _resolve(address))
    except DaemonError:
        close_all(listeners)
        raise
    return listeners


def close_all(listeners: Iterable[Listener]) -> None:
    """Listen no more."""
    for listener in listeners:
        listener.socket.close()


def refuse_unfit(listeners: Iterable[Listener], *, allow_insecure: bool, has_certificate: bool) -> None:
    """See to it that nobody but this machine is spoken to without TLS: what a socket is bound to counts, whoever did.

    Raises:
        ConfigError: others are, and ``[mirror] allow_insecure`` does not allow it; or TLS lacks its certificate.
    """
    for listener in listeners:
        if listener.secure and not has_certificate:
            raise ConfigError(
                f"systemd passes a socket for {listener.url}, and there is no certificate",
                advice="Set [mirror] tls_cert and tls_key, or disable the socket unit that opens it.",
            )
        if not (listener.secure or allow_insecure or is_loopback(listener.socket.getsockname()[0])):
            raise ConfigError(
                f"{listener.url} is open to other machines without TLS",
                advice="Listen on https:// (tls_cert, tls_key) or on 127.0.0.1, or set [mirror] allow_insecure = true.",
            )


def _resolve(address: str) -> list[tuple[socket.AddressFamily, tuple[object, ...]]]:
    parts = urlsplit(address)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise DaemonError(f"can't listen on {address}: {error.strerror}", advice=_OTHERWISE) from error
    return list(dict.fromkeys((family, where) for family, _, _, _, where in found))


def _bind(address: str, family: socket.AddressFamily, where: tuple[object, ...]) -> socket.socket:
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _refused(address, error) from error
    try:
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(where)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _refused(address, error) from error
    return listener


def _refused(address: str, error: OSError) -> DaemonError:
    number = error.errno or 0
    return DaemonError(f"can't listen on {address}: {os.strerror(number)}", advice=_ADVICE.get(number, _OTHERWISE))
