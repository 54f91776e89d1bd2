"""The admin socket: HTTP on a Unix socket, for `status` and for all that changes anything."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import json
import socket
import struct
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from waystation.errors import BadTarget, DaemonError, WaystationError
from waystation.model import parse_target

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from waystation.catalog.interface import Catalog
    from waystation.status import StationStatus

log = structlog.get_logger()

SOCKET_MODE = 0o660
FOLDER_MODE = 0o750
MAX_BODY_BYTES = 64 * 1024
DRAIN_S = 5.0

_UCRED = struct.Struct("=iII")  # struct ucred of linux/socket.h: pid, uid, gid


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is on the other end, as the kernel says (unix(7), SO_PEERCRED)."""

    pid: int
    uid: int
    gid: int


class AdminServer:
    """Who may open the socket may use it: its mode and owner are the whole of the rights."""

    def __init__(self, path: Path, *, status: Callable[[], StationStatus], catalog: Catalog) -> None:
        self._path = path
        self._status = status
        self._catalog = catalog
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            DaemonError: another daemon answers on the socket, or the folder can't be used.
        """
        listener = await asyncio.to_thread(_bind, self._path)
        app = web.Application(middlewares=[_errors_as_json], client_max_size=MAX_BODY_BYTES)
        app.add_routes([web.get("/status", self._show_status), web.post("/catalog/forget", self._forget)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=DRAIN_S)
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()

    async def close(self) -> None:
        """Finish what runs and remove the socket; nothing happens where it was never started."""
        if self._runner is None:
            return
        runner, self._runner = self._runner, None
        await runner.cleanup()
        await asyncio.to_thread(self._path.unlink, missing_ok=True)

    # --- verbs ---------------------------------------------------------------------------------

    async def _show_status(self, _: web.Request) -> web.Response:
        return web.json_response(dataclasses.asdict(self._status()))

    async def _forget(self, request: web.Request) -> web.Response:
        target = parse_target(await _named(request, "target"))
        forgotten = await self._catalog.forget(target)
        log.info("target_forgotten", target=target, known=forgotten, **dataclasses.asdict(_caller(request)))
        return web.json_response({"forgotten": forgotten})


@web.middleware
async def _errors_as_json(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except WaystationError as error:
        status = HTTPStatus.BAD_REQUEST if isinstance(error, BadTarget) else HTTPStatus.CONFLICT
        return _error(status, error.reason, str(error), error.advice)
    except web.HTTPException as refusal:
        return _error(refusal.status, "request", refusal.reason, "The daemon and this command differ in version.")
    except Exception:
        log.exception("admin_call_failed")
        advice = "This is a bug of Waystation: its log has the traceback."
        return _error(HTTPStatus.INTERNAL_SERVER_ERROR, "error", "the daemon failed at it", advice)


def _error(status: int, reason: str, message: str, advice: str) -> web.Response:
    return web.json_response({"reason": reason, "message": message, "advice": advice}, status=status)


async def _named(request: web.Request, key: str) -> str:
    """Read one text value of a JSON object."""
    try:
        body = await request.json()
    except (ValueError, RecursionError):
        body = None
    value = body.get(key) if isinstance(body, dict) else None
    if not isinstance(value, str):
        raise BadTarget(f"expected a JSON object like {json.dumps({key: '…'}, ensure_ascii=False)}")
    return value


def _caller(request: web.Request) -> Caller:
    transport = request.transport
    peer = transport.get_extra_info("socket") if transport else None
    if peer is None:
        return Caller(0, 0, 0)
    return Caller(*_UCRED.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))


def _bind(path: Path) -> socket.socket:
    try:
        path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        _clear(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(path))
            path.chmod(SOCKET_MODE)  # nobody can connect yet: it does not listen
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise DaemonError(
            f"the admin socket {path} can't be made: {error.strerror or error}",
            advice="Set [admin] socket to a short path in a folder that this user may write to.",
        ) from error
    return listener


def _clear(path: Path) -> None:
    """Remove a socket that a daemon left behind; one that somebody answers on is not ours, nor is any other file."""
    if not path.exists() and not path.is_symlink():
        return
    if not path.is_socket() or path.is_symlink():
        raise DaemonError(
            f"{path} is there and is no socket", advice="Remove that file, or set [admin] socket to another path."
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError as error:
            if error.errno not in (errno.ECONNREFUSED, errno.ENOENT):
                raise
        else:
            raise DaemonError(
                f"another daemon answers on {path}",
                advice="Stop it, or give this one an [admin] socket of its own.",
            )
    path.unlink(missing_ok=True)
