"""A real toxiproxy in front of a peer: latency, resets, slow closes, slicers and timeouts, on and off at will."""

from __future__ import annotations

import http.client
import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from peers import provide
from peers.processes import PeerFailed, Process, clean_environment, free_port, is_listening, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

Stream = Literal["upstream", "downstream"]


@dataclass(frozen=True, slots=True)
class Proxy:
    """One listening port in front of one peer."""

    control_port: int
    name: str
    port: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def endpoint_url(self) -> str:
        return f"http://{self.address}"

    @contextmanager
    def toxic(
        self, kind: str, *, stream: Stream = "downstream", toxicity: float = 1.0, **attributes: int
    ) -> Iterator[None]:
        """Poison the connections for the length of a block: ``latency``, ``bandwidth``, ``slow_close``, ``timeout``,
        ``reset_peer``, ``slicer``, ``limit_data``, with toxiproxy's own attributes.
        """
        path = f"/proxies/{self.name}/toxics"
        toxic = {"name": kind, "type": kind, "stream": stream, "toxicity": toxicity, "attributes": attributes}
        _ask(self.control_port, "POST", path, toxic)
        try:
            yield
        finally:
            _ask(self.control_port, "DELETE", f"{path}/{kind}")

    @contextmanager
    def down(self) -> Iterator[None]:
        """Refuse connections, and cut those that are open, for the length of a block."""
        _ask(self.control_port, "POST", f"/proxies/{self.name}", {"enabled": False})
        wait_until(lambda: not is_listening(self.port), f"{self.address} refuses connections")
        try:
            yield
        finally:
            _ask(self.control_port, "POST", f"/proxies/{self.name}", {"enabled": True})


class Toxiproxy:
    """One server with as many proxies as wanted."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._proxies = 0
        self.process = Process(
            [provide.binary(provide.TOXIPROXY), "-host", "127.0.0.1", "-port", str(self.port)],
            log=folder / "toxiproxy.log",
            environment=clean_environment(folder),
        )

    def start(self) -> None:
        self.process.start()
        self.process.wait_ready(self._ready)

    def proxy(self, target_port: int) -> Proxy:
        """Open a new port in front of 127.0.0.1:`target_port`."""
        self._proxies += 1
        proxy = Proxy(self.port, f"proxy-{self._proxies}", free_port())
        wanted = {"name": proxy.name, "listen": proxy.address, "upstream": f"127.0.0.1:{target_port}", "enabled": True}
        _ask(self.port, "POST", "/proxies", wanted)
        return proxy

    def _ready(self) -> bool:
        try:
            _ask(self.port, "GET", "/version")
        except OSError:
            return False
        return True


@contextmanager
def running_toxiproxy(folder: Path) -> Iterator[Toxiproxy]:
    """A started server, killed at the end."""
    server = Toxiproxy(folder)
    with server.process:
        server.start()
        yield server


def _ask(port: int, method: str, path: str, body: Mapping[str, Any] | None = None) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body=json.dumps(body) if body is not None else None)
        response = connection.getresponse()
        answer = response.read().decode(errors="replace")
        if response.status >= http.client.BAD_REQUEST:
            raise PeerFailed(f"toxiproxy: {method} {path}: {response.status} {answer}")
    finally:
        connection.close()
