"""What announces a target: ``.pieces``, then ``.sha256`` last; created where missing, never replaced."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from waystation.catalog.checksums import MAX_CHECKSUM_BYTES, parse_checksum
from waystation.errors import AlreadyExists, Conflict, Missing, Overwritten
from waystation.model import CHECKSUM_SUFFIX, PIECES_SUFFIX, Digest
from waystation.pieces import MAX_PIECES_FILE_BYTES, MalformedPieces, parse_pieces

if TYPE_CHECKING:
    from waystation.model import TargetPath
    from waystation.origin.interface import Origin, OriginWriter
    from waystation.publish.fingerprint import Fingerprint


def all_parts(target: TargetPath, fingerprint: Fingerprint) -> list[tuple[str, bytes]]:
    """Write all that announces a target, keys and bodies, the last one last."""
    checksum = (target + CHECKSUM_SUFFIX, fingerprint.checksum_file(target))
    pieces = fingerprint.pieces_file()
    return [checksum] if pieces is None else [(target + PIECES_SUFFIX, pieces), checksum]


async def missing_parts(origin: Origin, target: TargetPath, fingerprint: Fingerprint) -> list[tuple[str, bytes]]:
    """Say which keys are still to be created, with their bodies, in the order that makes an announcement.

    Raises:
        Conflict: a key is there and says something else of these bytes.
        MalformedChecksum: the checksum file that is there can't be read.
    """
    claimed = await claimed_digest(origin, target)
    if claimed not in (None, fingerprint.digest):
        raise _contradiction(target, target + CHECKSUM_SUFFIX, claimed, fingerprint)
    *pieces, checksum = all_parts(target, fingerprint)
    missing = [] if not pieces or await _has_pieces(origin, target, fingerprint) else pieces
    return missing if claimed else [*missing, checksum]


async def announce(
    origin: Origin, writer: OriginWriter, target: TargetPath, fingerprint: Fingerprint, *, is_bare: bool = False
) -> bool:
    """Create what is missing, and read it back; False where nothing was. Others may be faster with the same bytes.

    `is_bare`: neither ``.pieces`` nor ``.sha256`` was there a moment ago, so nothing is asked before creating them.

    Raises:
        Conflict: another publisher has announced other bytes.
        Overwritten: it did so at the same time, and the origin let both.
    """
    missing = all_parts(target, fingerprint) if is_bare else await missing_parts(origin, target, fingerprint)
    for key, body in missing:
        try:
            await writer.create(key, body, sha256=Digest(sha256(body).hexdigest()))
        except AlreadyExists:
            if any(key == still for still, _ in await missing_parts(origin, target, fingerprint)):
                raise
    if missing:
        await _read_back(origin, target, fingerprint)
    return bool(missing)


async def _read_back(origin: Origin, target: TargetPath, fingerprint: Fingerprint) -> None:
    try:
        left = await missing_parts(origin, target, fingerprint)
    except Conflict as conflict:
        raise Overwritten(f"another publisher won although this one had announced {target}: {conflict}") from conflict
    if left:
        raise Overwritten(f"{left[0][0]} was created, and is gone again")


async def claimed_digest(origin: Origin, target: TargetPath) -> Digest | None:
    """Read what ``<target>.sha256`` says, None where there is none."""
    try:
        _, body = await origin.get(target + CHECKSUM_SUFFIX, limit_bytes=MAX_CHECKSUM_BYTES)
    except Missing:
        return None
    return parse_checksum(body, target)


async def _has_pieces(origin: Origin, target: TargetPath, fingerprint: Fingerprint) -> bool:
    """Compare by root: it is the same for every piece length, which is its writer's choice."""
    key = target + PIECES_SUFFIX
    try:
        _, body = await origin.get(key, limit_bytes=MAX_PIECES_FILE_BYTES)
    except Missing:
        return False
    try:
        line, _ = parse_pieces(body)
    except MalformedPieces as error:
        raise Conflict(
            f"{key} is there already and can't be read: {error}",
            advice="Remove that object, which nothing vouches for, and run the command again.",
        ) from error
    tree = fingerprint.pieces[0] if fingerprint.pieces else None
    if line.sha256 != fingerprint.digest:
        raise _contradiction(target, key, line.sha256, fingerprint)
    if tree is None or (line.size_bytes, line.tree.root) != (fingerprint.size_bytes, tree.root):
        raise Conflict(
            f"{key} has another piece tree than these bytes",
            advice="Remove that object, which was not made from these bytes, and run the command again.",
        )
    return True


def _contradiction(target: TargetPath, key: str, claimed: str | None, fingerprint: Fingerprint) -> Conflict:
    return Conflict(
        f"{target} is announced with other bytes: {key} says sha256 {claimed}, these have {fingerprint.digest}"
    )
