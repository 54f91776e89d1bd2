"""One connection's requests, each from its head to its last byte: what it asks for, and what it gets or why not."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog
from structlog.contextvars import bind_contextvars

from waystation.errors import (
    MalformedRequest,
    MethodNotAllowed,
    RequestError,
    RevisionChanged,
    RottenBlob,
    TooManyConnections,
    WaystationError,
)
from waystation.mirror import documents
from waystation.mirror.answers import of_artifact, of_document, reply_head, representation_head
from waystation.mirror.bodies import read_small, send_body
from waystation.mirror.connection import ClientGone, End
from waystation.mirror.heads import NO_REQUEST, parse_head
from waystation.mirror.journal import CLIENT_GONE_CODE
from waystation.mirror.memory import MAX_BLOB_BYTES
from waystation.mirror.paths import RouteName, split_target
from waystation.mirror.ranges import choose
from waystation.mirror.replies import refusal
from waystation.mirror.turn import Turn
from waystation.model import CacheResult

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from waystation.admission import Admission
    from waystation.mirror.answers import Representation
    from waystation.mirror.connection import Connection
    from waystation.mirror.heads import Head
    from waystation.mirror.journal import Exchange, Journal
    from waystation.mirror.memory import SmallBlobs
    from waystation.mirror.paths import Hosts, Paths, Route
    from waystation.mirror.ranges import Choice
    from waystation.mirror.replies import Reply
    from waystation.mirror.targets import TargetPages
    from waystation.model import Artifact
    from waystation.origin.hops import Hops
    from waystation.status import StationStatus
    from waystation.store.interface import Store
    from waystation.telemetry.metrics import Metrics
    from waystation.transfer.interface import Transfers

log = structlog.get_logger()

_METHODS = frozenset({"GET", "HEAD"})


class Conversations:
    """Answers requests; knows every room that an answer can come from."""

    def __init__(
        self,
        *,
        paths: Paths,
        hosts: Hosts,
        admission: Admission,
        transfers: Transfers,
        store: Store,
        memory: SmallBlobs,
        journal: Journal,
        metrics: Metrics,
        status: Callable[[], StationStatus],
        pieces_of: Callable[[Artifact], Awaitable[bytes]],
        pages: TargetPages,
        hops: Hops,
    ) -> None:
        self._paths = paths
        self._hosts = hosts
        self._admission = admission
        self._transfers = transfers
        self._store = store
        self._memory = memory
        self._journal = journal
        self._metrics = metrics
        self._status = status
        self._pieces_of = pieces_of
        self._pages = pages
        self._hops = hops

    async def hold(self, connection: Connection, *, crowded: bool) -> None:
        """Answer one request after the other, until either side has had enough.

        `crowded`: this peer has as many connections as it may; it is told so, whatever it asks.
        """
        try:
            if crowded:
                raise TooManyConnections(f"{connection.host} has as many connections as one machine may")
            while (raw := await connection.next_head()) is not None:
                request = parse_head(raw)
                if not await self._answer(connection, request):
                    connection.finish(linger=request.has_body)
                    return
                await connection.drain()
                connection.rest()
            connection.finish()
        except RequestError as error:
            self._turn_away(connection, error)

    def _turn_away(self, connection: Connection, error: RequestError) -> None:
        """Refuse what is no request; nothing that follows it on this connection can be trusted."""
        exchange = self._journal.open(connection.peer)
        self._fail(error, Turn(connection, NO_REQUEST, exchange))
        self._journal.close(exchange)
        connection.finish(linger=True)

    async def _answer(self, connection: Connection, request: Head) -> bool:
        """Answer one request; whether another may follow."""
        exchange = self._journal.open(connection.peer)
        exchange.method = request.method if request.method in _METHODS else "other"
        bind_contextvars(request=exchange.id)
        turn = Turn(connection, request, exchange)
        try:
            await self._dispatch(turn)
        except ClientGone:
            _note_absence(turn)
            return False
        except asyncio.CancelledError:
            _note_absence(turn)
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer or a cut-off body
            return self._fail(error, turn)
        finally:
            self._journal.close(exchange)
        return turn.keep_alive

    async def _dispatch(self, turn: Turn) -> None:
        request, exchange = turn.request, turn.exchange
        if request.method not in _METHODS:
            raise MethodNotAllowed("only GET and HEAD are answered here")
        if request.has_body:
            raise MalformedRequest("requests with a body are not taken")
        target, authority = split_target(request.target, request.host)
        if authority is not None:
            self._hosts.check(authority)
        self._hops.arrive(request.fields.get("via", ""))
        route = self._paths.route(target)
        exchange.route = route.name
        exchange.about(route.subject)
        match route.name:
            case RouteName.HEALTH:
                self._reply(documents.health(), turn)
            case RouteName.READY:
                self._reply(documents.readiness(self._status()), turn)
            case RouteName.STATUS:
                self._reply(documents.status_json(self._status()), turn)
            case RouteName.METRICS:
                self._reply(documents.metrics_text(self._metrics), turn)
            case RouteName.TARGETS:
                self._reply(documents.targets_json(await self._pages.page(route.subject)), turn)
            case RouteName.CHECKSUM | RouteName.PIECES:
                await self._describe(route, turn)
            case _:
                await self._serve(route, turn)

    # --- artifacts -----------------------------------------------------------------------------

    async def _serve(self, route: Route, turn: Turn) -> None:
        """Answer with an artifact; once more with what is there now, should it have been replaced meanwhile."""
        for fresh in (False, True):
            artifact = await self._admit(route, turn, fresh=fresh)
            try:
                await self._send_sound(artifact, turn)
            except RevisionChanged:
                if fresh or turn.exchange.has_begun:
                    raise
            else:
                return

    async def _admit(self, route: Route, turn: Turn, *, fresh: bool = False) -> Artifact:
        admit = self._admission.admit_digest if route.name is RouteName.BLOB else self._admission.admit
        artifact = await admit(route.subject, fresh=fresh)
        turn.exchange.about(artifact.target)
        return artifact

    async def _send_sound(self, artifact: Artifact, turn: Turn) -> None:
        """Answer with an artifact; once more where what the store had of it is found to be rotten."""
        try:
            await self._send(artifact, turn)
        except RottenBlob as error:
            await self._store.distrust(artifact.digest, str(error))
            if turn.exchange.has_begun:
                raise
            await self._send(artifact, turn)

    async def _send(self, artifact: Artifact, turn: Turn) -> None:
        shown = of_artifact(artifact)
        choice = self._choose(shown, turn)
        if turn.is_head or choice.code == HTTPStatus.NOT_MODIFIED:
            self._write(shown, choice, b"", turn)
            return
        data = self._memory.get(artifact.digest)
        if data is not None:
            turn.exchange.cache = CacheResult.HIT
        else:
            async with self._transfers.open(artifact) as body:
                try:
                    if artifact.size_bytes > MAX_BLOB_BYTES:
                        await send_body(body, shown, choice, turn)
                        return
                    data = await read_small(body)
                finally:
                    turn.exchange.cache = body.cache
            if body.cache is not CacheResult.PASSED:
                self._memory.put(artifact.digest, data)
        self._write(shown, choice, data, turn)

    async def _describe(self, route: Route, turn: Turn) -> None:
        """Answer with what goes with an artifact: its checksum file or its piece file."""
        artifact = await self._admit(route, turn)
        if route.name is RouteName.CHECKSUM:
            body, content_type = documents.checksum_file(artifact), documents.CHECKSUM_TYPE
        else:
            body = await documents.pieces_file(artifact, self._store, self._pieces_of)
            content_type = documents.PIECES_TYPE
        shown = of_document(body, modified=artifact.modified, content_type=content_type)
        self._write(shown, self._choose(shown, turn), b"" if turn.is_head else body, turn)

    # --- answers -------------------------------------------------------------------------------

    def _choose(self, shown: Representation, turn: Turn) -> Choice:
        return choose(
            turn.request.fields,
            method=turn.request.method,
            etag=shown.etag,
            modified_s=shown.modified_s,
            size_bytes=shown.size_bytes,
        )

    def _write(self, shown: Representation, choice: Choice, data: bytes, turn: Turn) -> None:
        """Answer from memory: the chosen part of `data`, which is empty where the answer has no body."""
        head = representation_head(shown, choice, keep_alive=turn.keep_alive)
        turn.begin(choice.code, head, memoryview(data)[choice.span.start : choice.span.stop])

    def _reply(self, reply: Reply, turn: Turn) -> None:
        turn.begin(reply.code, reply_head(reply, keep_alive=turn.keep_alive), b"" if turn.is_head else reply.body)

    # --- refusals ------------------------------------------------------------------------------

    def _fail(self, error: Exception, turn: Turn) -> bool:
        """Refuse, or cut off what has begun; whether another request may follow."""
        _note(error, turn.exchange)
        if turn.exchange.has_begun:
            turn.connection.abort(End(turn.exchange.reason))
            return False
        try:
            self._reply(refusal(error), turn)
        except ClientGone:
            _note_absence(turn)
            return False
        return turn.keep_alive


def _note(error: Exception, exchange: Exchange) -> None:
    """Keep what the log is to say; an error that is none of ours is a fault, and shown with its traceback."""
    if isinstance(error, WaystationError):
        exchange.reason, exchange.detail, exchange.advice = error.reason, str(error), error.advice
    else:
        exchange.reason, exchange.detail = WaystationError.reason, type(error).__name__
        exchange.advice = "This is a bug of Waystation: please report the traceback."
        log.error("request_failed", exc_info=error)


def _note_absence(turn: Turn) -> None:
    """The client left, or was cut off by one of the connection's limits."""
    exchange, end = turn.exchange, turn.connection.end
    exchange.reason, exchange.detail, exchange.advice = end.reason, end.detail, end.advice
    exchange.code = exchange.code or CLIENT_GONE_CODE
