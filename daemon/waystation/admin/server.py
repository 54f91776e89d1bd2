"""The admin socket: HTTP on a Unix socket, for all that changes anything, and for those alone who may do that."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from waystation.admin.listener import bind
from waystation.admin.peers import check, group_of, peer_of
from waystation.admin.verbs import parse_arguments, to_json
from waystation.errors import BadTarget, MalformedCall, NotAllowed, WaystationError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from prometheus_client import Counter

    from waystation.admin.peers import Peer
    from waystation.admin.verbs import Verb
    from waystation.telemetry.metrics import Metrics

log = structlog.get_logger()

MAX_BODY_BYTES = 64 * 1024
DRAIN_S = 5.0
SHOWN_ARGUMENTS = 500
"""So much of a call's arguments goes into the log."""
OK = "ok"
_BUG = "This is a bug of Waystation: its log has the traceback."

_CODES: dict[type[WaystationError], HTTPStatus] = {
    NotAllowed: HTTPStatus.FORBIDDEN,
    BadTarget: HTTPStatus.BAD_REQUEST,
    MalformedCall: HTTPStatus.BAD_REQUEST,
}
"""All others are a 409: the call is right, and the daemon can't do it as things are."""


class AdminServer:
    """Answers verbs; who calls is checked first, and every call is counted and told of once."""

    def __init__(self, path: Path, verbs: Iterable[Verb], *, metrics: Metrics) -> None:
        self._path = path
        self._verbs = {verb.path: verb for verb in verbs}
        self._requests = metrics.admin_requests
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            DaemonError: another daemon answers on the socket, or the folder can't be used.
        """
        listener = await asyncio.to_thread(bind, self._path)
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self._answer)
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

    # --- one call ------------------------------------------------------------------------------

    async def _answer(self, request: web.Request) -> web.Response:
        verb = self._verbs.get(request.path)
        call = _Call(verb, self._requests)
        try:
            await self._check(request, call)
            answer = await _act(verb, request, call)
            body = await to_json(answer)
        except WaystationError as error:
            code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), HTTPStatus.CONFLICT)
            return call.refused(code, error.reason, str(error), error.advice)
        except web.HTTPException as refusal:
            return call.refused(refusal.status, "request", refusal.reason, MalformedCall.advice)
        except Exception:
            log.exception("admin_call_failed", verb=call.path)
            return call.refused(
                HTTPStatus.INTERNAL_SERVER_ERROR, WaystationError.reason, "the daemon failed at it", _BUG
            )
        call.done()
        return web.Response(body=body, content_type="application/json")

    async def _check(self, request: web.Request, call: _Call) -> None:
        connection = request.transport.get_extra_info("socket") if request.transport else None
        if connection is None:
            raise NotAllowed("the caller has left before it could be asked who it is")
        call.peer = peer_of(connection)
        check(call.peer, own_uid=os.geteuid(), socket_gid=await asyncio.to_thread(group_of, self._path))


async def _act(verb: Verb | None, request: web.Request, call: _Call) -> object:
    if verb is None:
        raise web.HTTPNotFound(reason="this daemon knows no such verb")
    if request.method != "POST" and verb.changes:
        raise web.HTTPMethodNotAllowed(request.method, ["POST"])
    arguments = parse_arguments(await request.read())
    call.arguments = str(arguments)
    return await verb.act(arguments)


@dataclass(slots=True)
class _Call:
    """What log and metrics are told of a call, once."""

    verb: Verb | None
    requests: Counter
    peer: Peer | None = None
    arguments: str = ""

    @property
    def path(self) -> str:
        """A label of bounded values."""
        return self.verb.path if self.verb else "none"

    def done(self) -> None:
        self.requests.labels(self.path, OK).inc()
        tell = log.info if self.verb and self.verb.changes else log.debug
        tell("admin_call", **self._shown())

    def refused(self, code: int, reason: str, message: str, advice: str) -> web.Response:
        self.requests.labels(self.path, reason).inc()
        log.warning("admin_call_refused", **self._shown(), reason=reason, detail=message, advice=advice)
        return web.json_response({"reason": reason, "message": message, "advice": advice}, status=code)

    def _shown(self) -> dict[str, object]:
        peer = {"pid": self.peer.pid, "uid": self.peer.uid, "gid": self.peer.gid} if self.peer else {}
        return {"verb": self.path, "arguments": self.arguments[:SHOWN_ARGUMENTS], **peer}
