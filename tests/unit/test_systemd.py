"""What systemd passes and is told, with real sockets."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import TYPE_CHECKING

import pytest

from waystation.errors import DaemonError
from waystation.systemd.activation import take_sockets
from waystation.systemd.notify import Notifier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)

    def said(self) -> list[str]:
        """What came since the last call, a text for each datagram."""
        said = []
        while True:
            try:
                said.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return said

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@waystation-unit-{os.getpid()}"
    one = Manager(address)
    yield one
    one.close()


# --- what it tells -------------------------------------------------------------------------------


async def test_it_tells_each_state_once(manager: Manager) -> None:
    notifier = Notifier.of({"NOTIFY_SOCKET": manager.address})
    await notifier.status("waiting")
    await notifier.ready("serving")
    await notifier.status("serving")
    await notifier.status("serving more")
    await notifier.stopping("finishing")
    assert manager.said() == [
        "STATUS=waiting",
        "READY=1\nSTATUS=serving",
        "STATUS=serving more",
        "STOPPING=1\nSTATUS=finishing",
    ]


async def test_a_reload_is_told_with_the_time_at_which_it_began(manager: Manager) -> None:
    notifier = Notifier.of({"NOTIFY_SOCKET": manager.address})
    await notifier.ready("serving")
    manager.said()
    before_us = time.monotonic_ns() // 1000
    async with notifier.reloading():
        (said,) = manager.said()
    begun, at = said.split("\n")
    assert begun == "RELOADING=1"
    assert before_us <= int(at.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    assert manager.said() == ["READY=1"]


async def test_a_reload_before_it_can_serve_does_not_make_it_ready(manager: Manager) -> None:
    notifier = Notifier.of({"NOTIFY_SOCKET": manager.address})
    async with notifier.reloading():
        pass
    assert manager.said() == []


async def test_the_watchdog_is_fed_several_times_in_the_time_that_it_grants(manager: Manager) -> None:
    notifier = Notifier.of({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "300000"})
    async with notifier.watched():
        await asyncio.sleep(0.6)  # that time passes is what is tested
    assert 4 <= manager.said().count("WATCHDOG=1") <= 7
    await asyncio.sleep(0.2)
    assert manager.said() == []


@pytest.mark.parametrize(
    "variables", [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "x"}]
)
async def test_a_watchdog_that_is_not_this_process_s_is_not_fed(manager: Manager, variables: dict[str, str]) -> None:
    async with Notifier.of({"NOTIFY_SOCKET": manager.address, **variables}).watched():
        await asyncio.sleep(0.05)
    assert manager.said() == []


async def test_without_a_manager_nothing_is_told_and_nothing_fails() -> None:
    notifier = Notifier.of({})
    await notifier.ready("serving")
    await notifier.stopping("finishing")


async def test_a_manager_that_is_gone_ends_nothing_and_is_told_again_once_it_is_back(tmp_path: Path) -> None:
    notifier = Notifier.of({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    await notifier.ready("serving")
    back = Manager(str(tmp_path / "notify"))
    await notifier.status("still serving")
    assert back.said() == ["STATUS=still serving"]
    back.close()


async def test_a_busy_manager_holds_up_nobody_but_whoever_tells_it(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    notifier = Notifier.of({"NOTIFY_SOCKET": manager.address})

    async def flood() -> None:
        for number in range(2000):  # more than any queue holds
            await notifier.status(str(number))

    flooding = asyncio.create_task(flood())
    said: list[str] = []
    async with asyncio.timeout(20):
        while not flooding.done():
            await asyncio.sleep(0.001)  # the loop lives
            said += manager.said()
    assert [*said, *manager.said()] == [f"STATUS={number}" for number in range(2000)]
    manager.close()


# --- what it is passed ---------------------------------------------------------------------------


def passed(*sockets: socket.socket, pid: int | None = None, names: str = "") -> tuple[dict[str, str], int]:
    """Lay copies of sockets side by side, as systemd does, and name them in variables."""
    first = 200
    for fd, one in enumerate(sockets, start=first):
        os.dup2(one.fileno(), fd)
    variables = {
        "LISTEN_PID": str(pid or os.getpid()),
        "LISTEN_FDS": str(len(sockets)),
        "LISTEN_FDNAMES": names,
        "PATH": "/bin",
    }
    return variables, first


def test_sockets_are_taken_with_the_variables_that_announced_them() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as four,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as six,
    ):
        variables, first = passed(four, six, names="a:b")
        taken = take_sockets(variables, first_fd=first)
        assert [(one.name, one.socket.getsockname()) for one in taken] == [
            ("a", four.getsockname()),
            ("b", six.getsockname()),
        ]
        assert not any(one.socket.get_inheritable() or one.socket.getblocking() for one in taken)
        assert variables == {"PATH": "/bin"}
        assert take_sockets(variables, first_fd=first) == []
        for one in taken:
            one.socket.close()


def test_sockets_for_another_process_are_left_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        variables, first = passed(other, pid=1)
        assert take_sockets(variables, first_fd=first) == []
        os.close(first)


@pytest.mark.parametrize("kind", ["datagram", "silent", "unix"])
def test_what_no_client_can_connect_to_is_an_error_that_names_it(kind: str, tmp_path: Path) -> None:
    if kind == "unix":
        wrong = socket.socket(socket.AF_UNIX)
        wrong.bind(str(tmp_path / "socket"))
        wrong.listen()
    else:
        wrong = socket.socket(type=socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM)
    with wrong:
        variables, first = passed(wrong, names="mirror")
        with pytest.raises(DaemonError, match="'mirror'"):
            take_sockets(variables, first_fd=first)


def test_a_descriptor_that_is_no_socket_is_an_error_that_names_it(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    os.dup2(fd, 200)
    os.close(fd)
    with pytest.raises(DaemonError, match="200"):
        take_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}, first_fd=200)
    os.close(200)
