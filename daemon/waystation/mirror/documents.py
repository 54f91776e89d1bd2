"""The small bodies that the mirror makes itself: checksum and piece files, health, metrics, status."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import TYPE_CHECKING

from waystation.catalog.checksums import format_checksum
from waystation.errors import NoPieces
from waystation.mirror.replies import RETRY_AFTER_S, Reply
from waystation.pieces import MalformedPieces, parse_pieces

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from waystation.model import Artifact
    from waystation.status import StationStatus
    from waystation.store.interface import Store
    from waystation.telemetry.metrics import Metrics

CHECKSUM_TYPE = "text/plain; charset=utf-8"
PIECES_TYPE = "application/octet-stream"
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
JSON_TYPE = "application/json"


def checksum_file(artifact: Artifact) -> bytes:
    """Write the checksum file of an admitted target."""
    return format_checksum(artifact.digest, artifact.target)


async def pieces_file(artifact: Artifact, store: Store, fetch: Callable[[Artifact], Awaitable[bytes]]) -> bytes:
    """Give a target's piece file, from beside its blob where it is this target's, else from the origin.

    Raises:
        NoPieces: the target has none.
        LayerMismatch, OriginError: as `fetch` says, which checks what it gives.
    """
    if artifact.pieces is None:
        raise NoPieces(f"{artifact.target} was published without a piece tree")
    kept = await store.pieces_file(artifact.digest)
    if kept is None or not await asyncio.to_thread(_belongs, kept, artifact):
        return await fetch(artifact)
    return kept


def _belongs(body: bytes, artifact: Artifact) -> bool:
    try:
        line, _ = parse_pieces(body)
    except MalformedPieces:
        return False
    return (line.sha256, line.size_bytes, line.tree) == (artifact.digest, artifact.size_bytes, artifact.pieces)


def metrics_text(metrics: Metrics) -> Reply:
    """Every metric, for Prometheus."""
    return Reply(200, metrics.render(), content_type=METRICS_TYPE)


def health() -> Reply:
    """Alive: the loop answers."""
    return Reply(200, b"alive\n")


def readiness(status: StationStatus) -> Reply:
    """Able to serve, or what is missing in words."""
    if status.ready:
        return Reply(200, b"ready\n")
    lines = "".join(f"{missing}\n" for missing in status.not_ready_because) or "starting\n"
    return Reply(503, lines.encode(), (("Retry-After", str(RETRY_AFTER_S)),))


def targets_json(page: bytes) -> Reply:
    """A page of targets."""
    return Reply(200, page, content_type=JSON_TYPE)


def status_json(status: StationStatus) -> Reply:
    """What `waystation status` shows."""
    return Reply(200, json.dumps(dataclasses.asdict(status)).encode() + b"\n", content_type=JSON_TYPE)
