"""The daemon itself, as its users have it: a process with a configuration file, asked over HTTP."""

from __future__ import annotations

import json
import re
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peers.processes import Process, clean_environment, free_port
from secrecy import search

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from peers.s3 import Bucket, Keys

Config = dict[str, Any]
"""Sections of keys; a list of them for a section that may be there several times."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, whole."""

    code: int
    headers: Mapping[str, str]
    body: bytes


class Station:
    """One daemon in `folder`: its configuration, its store, its log; started as often as wanted on one port."""

    def __init__(self, folder: Path, config: Config, *, host: str = "127.0.0.1", port: int | None = None) -> None:
        self.folder = folder
        self.host = host
        folder.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.store = folder / "store"
        self.config: Config = {
            "mirror": {"listen": [self.url]},
            "store": {"path": str(self.store), "min_free": "0"},
            "admin": {"socket": str(folder / "admin.sock")},
        }
        for section, values in config.items():
            if isinstance(values, list):
                self.config[section] = values
            else:
                self.config.setdefault(section, {}).update(values)
        self.config_file = folder / "waystation.toml"
        self.environment = clean_environment(folder, PYTHONUNBUFFERED="1")
        self.process = Process(
            [sys.executable, "-m", "waystation", "serve", "--config", self.config_file],
            log=folder / "waystation.log",
            environment=self.environment,
            folder=folder,
        )

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def start(self, *, ready: bool = True) -> None:
        """Write the configuration and start; `ready`: wait until it can serve, else until it answers."""
        self.config_file.write_text(to_toml(self.config))
        self.process.start()
        self.process.wait_ready(lambda: self._answers("/readyz" if ready else "/healthz"))

    def stop(self) -> int:
        return self.process.stop()

    def get(self, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None) -> Answer:
        """Ask the mirror, whatever the answer's code."""
        request = urllib.request.Request(self.url + path, method=method, headers=dict(headers or {}))  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
                answer = Answer(response.status, dict(response.headers.items()), response.read())
        except urllib.error.HTTPError as error:
            with error:
                answer = Answer(error.code, dict(error.headers.items()), error.read())
        if answer.headers.get("Content-Type") != "application/octet-stream":
            search(answer.body, path)
        return answer

    def artifact(self, target: str, **options: Any) -> Answer:
        return self.get(f"/artifacts/{target}", **options)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels."""
        total = 0.0
        for line in self.get("/metrics").body.decode().splitlines():
            match = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
            if match and match[1] == name:
                found = dict(re.findall(r'(\w+)="([^"]*)"', match[2] or ""))
                if labels.items() <= found.items():
                    total += float(match[3])
        return total

    def log_lines(self, event: str | None = None) -> list[dict[str, Any]]:
        """What it logged, over all its starts."""
        lines = [json.loads(line) for line in self.process.output().splitlines() if line.startswith("{")]
        return [line for line in lines if event is None or line["event"] == event]

    def blobs(self) -> list[Path]:
        """Every file that counts as a blob or its pieces."""
        return [path for path in (self.store / "blobs").rglob("*") if path.is_file()]

    def spools(self) -> list[Path]:
        """Every file that is arriving, or was left half-way."""
        return list((self.store / "spool").iterdir())

    def _answers(self, path: str) -> bool:
        try:
            return self.get(path).code == 200
        except OSError:
            return False


@contextmanager
def running_station(folder: Path, config: Config, *, ready: bool = True) -> Iterator[Station]:
    """A started daemon, killed at the end."""
    station = Station(folder, config)
    with station.process:
        station.start(ready=ready)
        yield station


def s3_config(bucket: Bucket, folder: Path, *, keys: Keys | None = None, endpoint_url: str | None = None) -> Config:
    """The configuration of a daemon that reads this bucket."""
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "origin": {
            "url": f"s3://{bucket.name}",
            "endpoint_url": endpoint_url or bucket.server.endpoint_url,
            "region": "us-east-1",
            "credentials_file": str((keys or bucket.server.keys).write(folder / "credentials")),
        }
    }


def to_toml(config: Config) -> str:
    lines = []
    for section, values in config.items():
        for table in values if isinstance(values, list) else [values]:
            lines.append(f"[[{section}]]" if isinstance(values, list) else f"[{section}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"
