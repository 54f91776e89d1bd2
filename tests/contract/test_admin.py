"""The admin socket, server and client together over a real catalog."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import stat
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
import structlog

from admins import running_admin
from waystation.admin.client import AdminClient
from waystation.errors import CallRefused, DaemonError, NoDaemon, NotAllowed
from waystation.telemetry.logs import log_level

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "app/app-1-x86_64"


async def ask(path: Path, raw: bytes) -> tuple[int, dict[str, str]]:
    """Say exactly these bytes to the socket."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(raw)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await writer.wait_closed()
    return int(answer.split(b" ")[1]), json.loads(answer.partition(b"\r\n\r\n")[2])


def post(body: bytes, verb: bytes = b"/catalog/forget") -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (verb, len(body), body)


async def test_the_status_is_the_stations(tmp_path: Path) -> None:
    async with running_admin(tmp_path) as (admin, world):
        await world.ask("/artifacts/app/absent")
        await world.until_counted(code="404")
        status = await admin.status()
    assert status["listen"] == list(world.mirror.urls)
    assert status["refusals"][0]["reason"] == "unknown_target"


async def test_a_changed_target_is_served_again_once_it_is_forgotten(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as lines:
        async with running_admin(tmp_path) as (admin, world):
            world.put(NAME, b"one")
            assert (await world.ask(f"/artifacts/{NAME}")).body == b"one"
            world.put(NAME, b"two!")
            assert (await world.ask(f"/artifacts/{NAME}")).code == 502
            assert await admin.forget(NAME) is True
            assert (await world.ask(f"/artifacts/{NAME}")).body == b"two!"
            assert await admin.forget("app/never-seen") is False
    forgotten = [line for line in lines if line.get("verb") == "/catalog/forget"]
    assert [json.loads(line["arguments"])["target"] for line in forgotten] == [NAME, "app/never-seen"]
    assert all((line["event"], line["log_level"]) == ("admin_call", "info") for line in forgotten)
    assert all((line["uid"], line["pid"]) == (os.getuid(), os.getpid()) for line in forgotten)


async def test_only_its_owner_and_group_may_use_the_socket(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "folder" / "admin.sock"
    async with running_admin(tmp_path, path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750
    assert not path.exists()


async def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with running_admin(tmp_path, path) as (admin, _):
        assert (await admin.status())["ready"]


async def test_a_socket_that_somebody_answers_on_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    async with running_admin(tmp_path / "first", path) as (admin, _):
        with pytest.raises(DaemonError, match=str(path)):
            async with running_admin(tmp_path / "second", path):
                pass
        assert (await admin.status())["ready"]


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
async def test_what_is_no_socket_is_never_removed(tmp_path: Path, kind: str) -> None:
    path, other = tmp_path / "admin.sock", tmp_path / "other"
    other.write_text("precious")
    if kind == "file":
        path.write_text("precious")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(other)
    with pytest.raises(DaemonError, match="no socket"):
        async with running_admin(tmp_path / "world", path):
            pass
    assert path.is_symlink() or path.exists()
    assert other.read_text() == "precious"


async def test_a_path_too_long_for_a_socket_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(DaemonError, match="can't be made") as caught:
        async with running_admin(tmp_path / "world", tmp_path / ("x" * 120)):
            pass
    assert "[admin] socket" in caught.value.advice


@pytest.mark.parametrize(
    ("raw", "code", "reason"),
    [
        (post(b'{"target": "../etc/passwd"}'), 400, "bad_target"),
        (post(b'{"target": 7}'), 400, "malformed_call"),
        (post(b'{"target": "a\\u0000b"}'), 400, "bad_target"),
        (post(b"[]"), 400, "malformed_call"),
        (post(b"nonsense"), 400, "malformed_call"),
        (post(b"[" * 60_000), 400, "malformed_call"),
        (post(b'{"target": "%s"}' % (b"x" * 70_000)), 413, "request"),
        (post(b"{}", b"/nowhere"), 404, "request"),
        (b"GET /catalog/forget HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405, "request"),
    ],
)
async def test_a_wrong_call_is_answered_with_reason_message_and_advice(
    tmp_path: Path, raw: bytes, code: int, reason: str
) -> None:
    path = tmp_path / "admin.sock"
    async with running_admin(tmp_path, path):
        answered, body = await ask(path, raw)
    assert (answered, body["reason"]) == (code, reason)
    assert body["message"]
    assert body["advice"]


# --- who calls -----------------------------------------------------------------------------------

NOBODY, STAFF = 65534, 50


async def ask_as(path: Path, *groups: int) -> subprocess.CompletedProcess[str]:
    """Ask with the rights of another user."""
    command = ["curl", "-s", "--unix-socket", str(path), "http://waystation/status"]
    return await asyncio.to_thread(
        subprocess.run,
        command,
        user=NOBODY,
        group=NOBODY,
        extra_groups=groups,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=20,
    )


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter."""
    with TemporaryDirectory(prefix="ws-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask as somebody else")
async def test_who_is_not_of_the_group_is_refused_even_where_the_socket_lets_them_in(
    tmp_path: Path, open_folder: Path
) -> None:
    path = open_folder / "admin.sock"
    with structlog.testing.capture_logs() as lines:
        async with running_admin(tmp_path, path) as (_, world):
            os.chown(path, 0, STAFF)
            path.chmod(0o666)
            refused = await ask_as(path)
            allowed = await ask_as(path, STAFF)
            counted = world.metrics.admin_requests.labels("/status", "not_allowed")._value.get()
            path.chmod(0o660)
            shut_out = await ask_as(path)
    told = json.loads(refused.stdout)
    assert told["reason"] == "not_allowed"
    assert f"user {NOBODY}" in told["message"]
    assert "group" in told["advice"]
    assert json.loads(allowed.stdout)["ready"] is True
    assert (shut_out.returncode, shut_out.stdout) == (7, "")
    (line,) = [line for line in lines if line["event"] == "admin_call_refused"]
    assert (line["uid"], line["gid"], line["verb"], line["reason"]) == (NOBODY, NOBODY, "/status", "not_allowed")
    assert counted == 1


async def test_calls_are_counted_by_verb_and_reason(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    async with running_admin(tmp_path, path) as (admin, world):
        await admin.status()
        await ask(path, post(b"[]"))
        await ask(path, post(b"{}", b"/nowhere"))
        text = world.metrics.render().decode()
    assert 'waystation_admin_requests_total{reason="ok",verb="/status"} 1.0' in text
    assert 'waystation_admin_requests_total{reason="malformed_call",verb="/catalog/forget"} 1.0' in text
    assert 'waystation_admin_requests_total{reason="request",verb="none"} 1.0' in text


# --- the client ----------------------------------------------------------------------------------


async def test_without_a_daemon_the_client_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoDaemon, match="there is no socket") as caught:
        await AdminClient(tmp_path / "absent.sock").status()
    assert "waystation serve" in caught.value.advice


async def test_a_socket_that_nobody_answers_on_is_named(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with pytest.raises(NoDaemon, match="nobody answers"):
        await AdminClient(path).status()


async def test_what_answers_nonsense_is_an_error_in_words(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi")
        writer.close()

    async with await asyncio.start_unix_server(babble, str(path)):
        with pytest.raises(DaemonError, match="can't be asked"):
            await AdminClient(path).status()


async def test_a_refusal_reaches_the_caller_in_the_daemons_words(tmp_path: Path) -> None:
    async with running_admin(tmp_path) as (admin, _):
        with pytest.raises(DaemonError, match="no empty") as caught:
            await admin.forget("a//b")
    assert "<app>/<file>" in caught.value.advice


async def test_a_socket_that_is_not_open_to_this_user_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(asyncio.get_running_loop(), "create_unix_connection", denied)
    with pytest.raises(NotAllowed, match="not open to this user"):
        await AdminClient(tmp_path / "admin.sock").status()


async def test_a_log_level_that_is_none_changes_nothing_and_names_those_that_are(tmp_path: Path) -> None:
    async with running_admin(tmp_path) as (admin, _):
        before = log_level()
        with pytest.raises(CallRefused, match="'loud' is no log level") as caught:
            await admin.change_log_level("loud")
        assert log_level() == before
    assert "debug, info, warning, error" in caught.value.advice
