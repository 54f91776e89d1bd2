"""Where it was measured: the machine in general words, and the versions of all that took part."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

from peers import provide

_MEMORY = re.compile(r"MemTotal:\s+(\d+) kB")


def describe(folder: Path) -> list[tuple[str, str]]:
    """What stands above the tables, line by line."""
    return [
        ("machine", f"{os.cpu_count()} cores ({platform.machine()}), {_memory_gib():.0f} GiB of memory"),
        ("kernel", f"{platform.system()} {platform.release().split('-')[0]}"),
        ("filesystem", _filesystem(folder)),
        ("Waystation", f"{_commit()}, Python {platform.python_version()}"),
        ("MinIO", _pinned(provide.MINIO)),
        ("go-getter", _pinned(provide.GO_GETTER)),
        ("nginx", _said(["nginx", "-v"], r"nginx/(\S+)")),
        ("Varnish", _said(["varnishd", "-V"], r"varnish-(\S+)")),
        ("curl", _said(["curl", "--version"], r"curl (\S+)")),
        ("wrk", _said(["wrk", "-v"], r"wrk (?:debian/)?(\d[\d.]*)")),
    ]


def _memory_gib() -> float:
    match = _MEMORY.search(Path("/proc/meminfo").read_text())
    return int(match[1]) / 1024**2 if match else 0.0


def _filesystem(folder: Path) -> str:
    """The type of what is mounted nearest above the folder."""
    found, deepest = "unknown", -1
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mounted, kind, *_ = line.split()
        if folder.resolve().is_relative_to(mounted) and len(mounted) > deepest:
            found, deepest = kind, len(mounted)
    return found


def _commit() -> str:
    commit = _said(["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"], r"(\w+)")
    return f"{version('waystation')} ({commit})"


def _pinned(pin: provide.Pin) -> str:
    match = re.search(r"-(\d{4})(\d\d)(\d\d)\d{6}-", pin.version)
    return "-".join(match.groups()) if match else pin.version.lstrip("v")


def _said(command: list[str], pattern: str) -> str:
    """The version that a program tells."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return "not installed"
    match = re.search(pattern, done.stdout + done.stderr)
    return match[1].rstrip(",)") if match else "unknown"
