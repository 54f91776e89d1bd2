"""Who is measured: the bucket itself, Waystation, nginx and Varnish, each started anew with nothing cached."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Protocol

from peers.processes import Process, clean_environment, free_port, is_listening, wait_until
from peers.station import Station, s3_config

if TYPE_CHECKING:
    from peers.s3 import Bucket

TEMPLATES = Path(__file__).parent
DIRECT = "direct from MinIO"
WAYSTATION = "Waystation"
NGINX_CACHE = "nginx proxy_cache"
NGINX_FILES = "nginx, the file"
VARNISH = "Varnish"
FINISH_TIMEOUT_S = 120.0


class Server(Protocol):
    """One that serves the artifacts."""

    name: str

    @property
    def pid(self) -> int | None:
        """Whose processor time is counted; None: nobody's."""

    def url(self, target: str) -> str: ...

    def renew(self) -> None:
        """Start anew: running, ready, nothing cached."""

    def settle(self) -> None:
        """Wait until it does nothing more for the clients that have left."""

    def stop(self) -> None: ...


class Direct:
    """MinIO itself, perhaps behind the relay."""

    name = DIRECT
    pid = None

    def __init__(self, bucket: Bucket, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}/{bucket.name}"

    def url(self, target: str) -> str:
        return f"{self._base}/{target}"

    def renew(self) -> None:
        """Nothing is ever cached."""

    def settle(self) -> None:
        """It is done when its client is."""

    def stop(self) -> None:
        """MinIO is stopped with the ground."""


class Waystation:
    """The daemon with an S3 origin, as it is installed: metrics and access log on."""

    name = WAYSTATION

    def __init__(self, folder: Path, bucket: Bucket, port: int) -> None:
        self.station = Station(folder, s3_config(bucket, folder, endpoint_url=f"http://127.0.0.1:{port}"))

    @property
    def pid(self) -> int | None:
        return self.station.process.pid

    def url(self, target: str) -> str:
        return f"{self.station.url}/artifacts/{target}"

    def renew(self) -> None:
        self.stop()
        self.station.start()

    def settle(self) -> None:
        # Asking the daemon itself would cost it processor time that is then taken for a fetch's.
        wait_until(lambda: not self.station.spools(), "no flight is left", timeout_s=FINISH_TIMEOUT_S)

    def stop(self) -> None:
        self.station.process.kill()
        shutil.rmtree(self.station.store, ignore_errors=True)


class Proxy:
    """A server with one process, in a folder of its own, that answers below `prefix`."""

    def __init__(self, name: str, folder: Path, *, prefix: str) -> None:
        self.name = name
        self._folder = folder
        self._port = free_port()
        self._prefix = prefix
        folder.mkdir()
        self._process = Process(self._command(), log=folder / "log", environment=clean_environment(folder))

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def url(self, target: str) -> str:
        return f"http://127.0.0.1:{self._port}/{self._prefix}{target}"

    def renew(self) -> None:
        self.stop()
        self._process.start()
        self._process.wait_ready(lambda: is_listening(self._port))

    def settle(self) -> None:
        """It is done when its client is."""

    def stop(self) -> None:
        if self._process.running:
            self._process.stop()  # by its own way: a child of Varnish's survives its parent's sudden death for a moment
        self._process.kill()
        shutil.rmtree(self._folder / "cache", ignore_errors=True)

    def _command(self) -> list[str | Path]:
        raise NotImplementedError

    def _write(self, template: str, **values: object) -> Path:
        """Fill in a configuration that stands beside this file."""
        path = self._folder / template
        path.write_text(Template((TEMPLATES / template).read_text()).substitute(values))
        return path


class Nginx(Proxy):
    """nginx, by one of two configurations; `places` are what else that one names."""

    def __init__(self, name: str, template: str, folder: Path, *, prefix: str = "", **places: object) -> None:
        self._template = template
        self._places = places
        super().__init__(name, folder, prefix=prefix)

    def _command(self) -> list[str | Path]:
        # workers of root's nginx are nobody, who can't enter the bench's folder
        user = "user root;" if os.geteuid() == 0 else ""
        config = self._write(self._template, user=user, folder=self._folder, port=self._port, **self._places)
        return ["nginx", "-p", self._folder, "-c", config, "-e", "stderr"]


class Varnish(Proxy):
    """Varnish, with room for everything in memory."""

    def __init__(self, folder: Path, *, prefix: str, origin_port: int, memory_bytes: int) -> None:
        self._origin_port = origin_port
        self._memory_bytes = memory_bytes
        super().__init__(VARNISH, folder, prefix=prefix)

    def _command(self) -> list[str | Path]:
        vcl = self._write("varnish.vcl", origin_port=self._origin_port)
        storage, listen = f"malloc,{self._memory_bytes}", f"127.0.0.1:{self._port}"
        return ["varnishd", "-F", "-j", "none", "-n", self._folder / "work", "-a", listen, "-f", vcl, "-s", storage]
