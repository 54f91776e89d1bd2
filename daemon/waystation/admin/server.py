"""The admin socket: a Unix socket of mode 0660 that shows the status and takes what changes something."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web

from waystation.admin.peers import peer_of
from waystation.errors import BadTarget, DaemonError, WaystationError
from waystation.model import parse_target

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from waystation.catalog.interface import Catalog
    from waystation.status import StationStatus

MAX_REQUEST_BYTES = 16 * 1024
_OWN_FOLDERS, _GROUP_ONLY = 0o027, 0o117
"""As umasks: folders get mode 0750, the socket 0660, from the start."""

log = structlog.get_logger()


class AdminServer:
    """Started and closed once, on one loop."""

    def __init__(self, path: Path, *, status: Callable[[], StationStatus], catalog: Catalog) -> None:
        self._path = path
        self._status = status
        self._catalog = catalog
        self._group = -1
        application = web.Application(client_max_size=MAX_REQUEST_BYTES, middlewares=[self._guard])
        application.router.add_get("/status", self._show_status)
        application.router.add_post("/catalog/forget", self._forget)
        self._runner = web.AppRunner(application, access_log=None)

    async def start(self) -> None:
        """Listen.

        Raises:
            DaemonError: the socket can't be had, or another daemon answers on it.
        """
        listener = _bind(self._path)
        self._group = self._path.stat().st_gid
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._runner.server is not None:
            await self._runner.cleanup()
            self._path.unlink(missing_ok=True)

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Check who asks, log what changes something, and turn errors into JSON."""
        transport = request.transport
        if transport is None:
            raise ConnectionResetError
        peer = peer_of(transport.get_extra_info("socket"))
        if not peer.may_administer(self._group):
            log.warning("admin_refused", uid=peer.uid, pid=peer.pid)
            return _refuse(403, "forbidden", "this user may not administer the daemon", "Join the socket's group.")
        try:
            answer = await handler(request)
        except web.HTTPException as error:
            return _refuse(error.status, "request", error.reason, "Use the waystation command of the same version.")
        except WaystationError as error:
            code = 400 if isinstance(error, BadTarget) else 503
            return _refuse(code, error.reason, str(error), error.advice)
        if request.method != "GET":
            log.info("admin_change", path=request.path, uid=peer.uid, pid=peer.pid, code=answer.status)
        return answer

    async def _show_status(self, _request: web.Request) -> web.Response:
        return web.json_response(asdict(self._status()))

    async def _forget(self, request: web.Request) -> web.Response:
        target = await _text_field(request, "target")
        return web.json_response({"forgotten": await self._catalog.forget(parse_target(target))})


async def _text_field(request: web.Request, name: str) -> str:
    try:
        body: Any = await request.json()
    except (ValueError, RecursionError):
        body = None
    value = body.get(name) if isinstance(body, dict) else None
    if not isinstance(value, str):
        raise web.HTTPBadRequest(reason=f"expected a JSON object with a text '{name}'")
    return value


def _refuse(code: int, reason: str, message: str, advice: str) -> web.Response:
    body = {"reason": reason, "message": message, "advice": advice}
    return web.Response(status=code, text=json.dumps(body), content_type="application/json")


def _bind(path: Path) -> socket.socket:
    """Bind the socket, never accessible to others for a moment; a dead daemon's is replaced, a living one's is not."""
    if _answers(path):
        raise DaemonError(
            f"another daemon answers on {path}", advice="Stop it, or give this one an [admin] socket of its own."
        )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(_OWN_FOLDERS)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_socket():
            path.unlink()
        os.umask(_GROUP_ONLY)
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        detail = error.strerror or str(error)  # a path that is too long has only words of Python's own
        raise DaemonError(
            f"the admin socket {path} can't be made: {detail}", advice="Check [admin] socket and its folder's mode."
        ) from error
    finally:
        os.umask(before)
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
