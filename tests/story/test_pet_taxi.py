"""The example app as one executable: it needs nothing of the machine but a kernel and a C library."""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from peers.processes import free_port, is_listening, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
NOBODY = 65534

pytestmark = pytest.mark.timeout(900)  # the first bundling installs PyInstaller


@pytest.fixture(scope="module")
def bundle() -> Iterator[Path]:
    """The executable in a folder that any user can reach, unlike the checkout."""
    made = subprocess.run([ROOT / "scripts/bundle-example"], check=True, stdout=subprocess.PIPE, text=True)
    with tempfile.TemporaryDirectory(prefix="pet-taxi-") as folder:
        os.chmod(folder, 0o755)  # noqa: S103 - another user must get in
        yield Path(shutil.copy(made.stdout.strip(), folder))


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Where the bundle may put its temporary files; nothing may be left in it."""
    with tempfile.TemporaryDirectory(prefix="pet-taxi-") as folder:
        os.chmod(folder, 0o777)  # noqa: S103 - another user writes there
        yield Path(folder)
        assert not os.listdir(folder)


def as_nobody(environment: dict[str, str]) -> dict[str, Any]:
    """Run with these variables alone, from the root folder, as a user without any rights where we may choose one."""
    user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    return {"env": environment, "cwd": "/", "text": True, "stdin": subprocess.DEVNULL, **user}


@contextmanager
def serving(bundle: Path, environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The running app and its port, as its first line tells."""
    with subprocess.Popen([bundle], stdout=subprocess.PIPE, **as_nobody(environment)) as app:
        try:
            assert app.stdout
            match = re.search(r"http://127\.0\.0\.1:(\d+)$", app.stdout.readline().strip())
            assert match
            yield app, int(match[1])
        finally:
            app.terminate()
            app.wait(30)


def get(port: int, path: str = "/") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as response:
        body: bytes = response.read()
        return body.decode()


def test_the_bundle_is_one_executable_named_after_app_version_and_architecture(bundle: Path) -> None:
    assert bundle.name == f"app-0.1.0-{platform.machine()}"
    assert bundle.read_bytes()[:4] == b"\x7fELF"


def test_it_runs_without_any_variable_as_an_unprivileged_user(bundle: Path) -> None:
    version = subprocess.run([bundle, "--version"], check=True, stdout=subprocess.PIPE, **as_nobody({}))
    assert version.stdout == "app 0.1.0\n"


@pytest.mark.parametrize("variable", ["NOMAD_PORT_http", "PORT"])
def test_its_page_asks_for_a_series_b_on_the_port_that_the_environment_names(
    bundle: Path, scratch: Path, variable: str
) -> None:
    wanted = free_port()
    with serving(bundle, {variable: str(wanted), "TMPDIR": str(scratch)}) as (_, port):
        assert port == wanted
        assert "We need a $10M series B to write a blockchain-based pet taxi app." in get(port)
        assert get(port, "/healthz") == '{"status":"ok"}\n'


def test_sigterm_lets_a_running_request_finish(bundle: Path, scratch: Path) -> None:
    with (
        serving(bundle, {"PORT": "0", "TMPDIR": str(scratch)}) as (app, port),
        socket.create_connection(("127.0.0.1", port), timeout=30) as slow,
    ):
        slow.sendall(b"GET / HTTP/1.0\r\n")
        get(port)  # connections are accepted in order: the slow one is being read by now
        app.send_signal(signal.SIGTERM)
        wait_until(lambda: not is_listening(port), "the app no longer listens")
        slow.sendall(b"\r\n")
        with slow.makefile("rb") as answer:
            assert b"series B" in answer.read()
        assert app.wait(30) == 0


def test_a_port_that_is_none_is_refused_in_one_line(bundle: Path) -> None:
    refused = subprocess.run([bundle], check=False, capture_output=True, **as_nobody({"PORT": "http"}))
    assert refused.returncode == 1
    assert refused.stderr == "app: 'http' is not a port: set NOMAD_PORT_http or PORT to a number from 0 to 65535\n"
