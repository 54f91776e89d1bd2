"""A real nginx that serves a folder: the static server that an http origin is likely to be."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from string import Template
from typing import TYPE_CHECKING

import pytest

from peers.processes import Process, clean_environment, free_port, is_listening

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CONFIGURATION = Template("""
daemon off;
master_process off;
pid $folder/nginx.pid;
error_log $folder/error.log;
events { }
http {
    access_log $folder/access.log;
    client_body_temp_path $folder/body;
    proxy_temp_path $folder/proxy;
    fastcgi_temp_path $folder/fastcgi;
    uwsgi_temp_path $folder/uwsgi;
    scgi_temp_path $folder/scgi;
    default_type application/octet-stream;
    gzip on;
    gzip_types application/octet-stream;
    gzip_min_length 1;
    server {
        listen 127.0.0.1:$port;
        etag $etag;
        location / { root $files; }
        $more
    }
}
""")


class Nginx:
    """One server of `files`; `more` is configuration inside of its server block."""

    def __init__(self, folder: Path, files: Path, *, etag: bool = True, more: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.access_log = folder / "access.log"
        configuration = folder / "nginx.conf"
        configuration.write_text(
            _CONFIGURATION.substitute(
                folder=folder, files=files, port=self.port, etag="on" if etag else "off", more=more
            )
        )
        program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
        if program is None:
            pytest.skip("nginx is not here (Debian: nginx-light)")
        self.process = Process(
            [program, "-p", folder, "-c", configuration, "-e", folder / "error.log"],
            log=folder / "nginx.log",
            environment=clean_environment(folder),
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process.start()
        self.process.wait_ready(lambda: is_listening(self.port))


@contextmanager
def running_nginx(folder: Path, files: Path, *, etag: bool = True, more: str = "") -> Iterator[Nginx]:
    """A started server, killed at the end."""
    server = Nginx(folder, files, etag=etag, more=more)
    with server.process:
        server.start()
        yield server
