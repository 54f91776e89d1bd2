"""The piece layer of an artifact, from store or origin, checked against the root that the catalog vouches for."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from waystation.errors import LayerMismatch
from waystation.model import PIECES_SUFFIX
from waystation.pieces import MAX_PIECES_FILE_BYTES, MalformedPieces, parse_pieces

if TYPE_CHECKING:
    from waystation.model import Artifact
    from waystation.origin.interface import Origin
    from waystation.origin.just_read import JustRead
    from waystation.pieces import PieceLayer
    from waystation.store.interface import Shelf


@dataclass(frozen=True, slots=True)
class CheckedPieces:
    """A ``.pieces`` file that is the one the catalog read."""

    layer: PieceLayer
    body: bytes
    """The whole file, as the origin has it."""


async def fetch_pieces(origin: Origin, artifact: Artifact, just_read: JustRead | None = None) -> CheckedPieces:
    """Get an artifact's ``.pieces`` file, from the origin where it was not just read, and check it.

    Raises:
        LayerMismatch: it is not the one that the catalog read.
        OriginError: the origin does not give it.
    """
    key = artifact.key + PIECES_SUFFIX
    known = just_read.take(key) if just_read else None
    if known is not None:
        with suppress(LayerMismatch):
            return _check(known, artifact, key)
    _, body = await origin.get(key, limit_bytes=MAX_PIECES_FILE_BYTES)
    return _check(body, artifact, key)


async def kept_pieces(shelf: Shelf, artifact: Artifact) -> CheckedPieces | None:
    """Give the ``.pieces`` file that lies beside what the shelf has of an artifact, where it is the artifact's own."""
    body = await shelf.pieces_file(artifact.digest) if artifact.pieces else None
    if body is None:
        return None
    try:
        return _check(body, artifact, "the stored piece file")
    except LayerMismatch:
        return None


def _check(body: bytes, artifact: Artifact, name: str) -> CheckedPieces:
    try:
        line, layer = parse_pieces(body)
    except MalformedPieces as error:
        raise LayerMismatch(f"{name} can't be used: {error}") from error
    if (line.sha256, line.size_bytes, line.tree) != (artifact.digest, artifact.size_bytes, artifact.pieces):
        raise LayerMismatch(f"{name} is no longer the one that the catalog read")
    return CheckedPieces(layer, body)
