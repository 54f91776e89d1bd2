"""The sockets that listen: bound as the settings say, or an error in words."""

from __future__ import annotations

import errno
import os
import socket
from urllib.parse import urlsplit

from waystation.errors import DaemonError

BACKLOG = 1024

_ADVICE = {
    errno.EADDRINUSE: "Stop what listens there (`ss -ltnp` names it), or choose another port in [mirror] listen.",
    errno.EACCES: "Ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher one in [mirror] listen.",
    errno.EADDRNOTAVAIL: "This machine has no such address; name one of its own in [mirror] listen.",
}
_OTHERWISE = "Correct the address in [mirror] listen."


def bind_all(addresses: tuple[str, ...]) -> list[socket.socket]:
    """Listen on every address, ``http://host:port``; port 0 takes a free one.

    Raises:
        DaemonError: one of them can't be had; none is held then.
    """
    listeners: list[socket.socket] = []
    try:
        for address in addresses:
            listeners.extend(_bind(address, family, where) for family, where in _resolve(address))
    except DaemonError:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def url_of(listener: socket.socket) -> str:
    """Say where a socket listens, as a URL."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"http://{host}:{port}"


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
