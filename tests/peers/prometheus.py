"""A real Prometheus that scrapes one station every second, with the project's rules made impatient."""

from __future__ import annotations

import json
import re
import shutil
import urllib.parse
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from peers.processes import Process, clean_environment, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = shutil.which("prometheus")

_CONFIG = """\
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: waystation
    static_configs: [{{targets: ["{target}"]}}]
"""


class Prometheus:
    """Asked over its HTTP API."""

    def __init__(self, folder: Path, target: str, rules: Path) -> None:
        folder.mkdir()
        self.port = free_port()
        impatient = folder / "rules.yml"
        impatient.write_text(re.sub(r"(?m)^(\s+for: ).*$", r"\g<1>1s", rules.read_text()))
        config = folder / "prometheus.yml"
        config.write_text(_CONFIG.format(rules=impatient, target=target))
        if PROGRAM is None:
            raise FileNotFoundError("prometheus is not on PATH")
        self.process = Process(
            [
                PROGRAM,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            log=folder / "prometheus.log",
            environment=clean_environment(folder),
        )

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an instant query."""
        return self._ask("query?" + urllib.parse.urlencode({"query": expression}))["result"]  # type: ignore[no-any-return]

    def firing(self) -> set[str]:
        """The alerts that fire now."""
        alerts = self._ask("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def answers(self) -> bool:
        """Whether it is up and has scraped its target."""
        try:
            return bool(self.query("up == 1"))
        except OSError:
            return False

    def _ask(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}", timeout=10) as response:
            return json.load(response)["data"]


@contextmanager
def running_prometheus(folder: Path, target: str, rules: Path) -> Iterator[Prometheus]:
    """A started Prometheus that has scraped `target` (host and port) once, killed at the end."""
    prometheus = Prometheus(folder, target, rules)
    with prometheus.process:
        prometheus.process.start()
        prometheus.process.wait_ready(prometheus.answers)
        yield prometheus
