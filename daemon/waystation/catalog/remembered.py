"""What is remembered of one target: the digest once seen for its name, and what the origin said of it since."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from waystation.catalog.vouching import VouchedBy
from waystation.model import Artifact, Digest, parse_digest, parse_target
from waystation.pieces import PieceTree

if TYPE_CHECKING:
    from waystation.catalog.vouching import Voucher
    from waystation.model import TargetPath
    from waystation.origin.interface import ObjectInfo


@dataclass(frozen=True, slots=True)
class Claim:
    """Another digest than the remembered one, and the revision for which it was claimed."""

    digest: Digest
    etag: str


@dataclass(frozen=True, slots=True)
class Remembered:
    """One name: the first digest seen for it stays until it is forgotten."""

    artifact: Artifact
    seen: float
    """When its digest was first seen, in seconds since the epoch."""
    vouched_by: VouchedBy
    withdrawn: bool = False
    """The origin said for certain that it is gone."""
    changed_to: Claim | None = None
    """What the origin now says instead; refused until it takes that back, or the name is forgotten."""

    @property
    def pinned(self) -> bool:
        """Whether nothing but our own reading vouches for it."""
        return self.vouched_by is VouchedBy.READING


def remember(
    known: Remembered | None, target: TargetPath, found: ObjectInfo, voucher: Voucher, *, now: float
) -> Remembered:
    """Take in what the origin says of a target: its first digest, the same one again, or a change."""
    if known is not None and known.artifact.digest != voucher.digest:
        return replace(known, withdrawn=False, changed_to=Claim(voucher.digest, found.etag))
    artifact = Artifact(
        target=target,
        digest=voucher.digest,
        size_bytes=found.size_bytes,
        modified=found.modified,
        key=found.key,
        etag=found.etag,
        pieces=voucher.pieces,
    )
    return Remembered(artifact, seen=now if known is None else known.seen, vouched_by=voucher.by)


def to_record(remembered: Remembered) -> str:
    """Write it as one line of JSON."""
    artifact, tree, claim = remembered.artifact, remembered.artifact.pieces, remembered.changed_to
    return json.dumps(
        {
            "target": artifact.target,
            "digest": artifact.digest,
            "size_bytes": artifact.size_bytes,
            "modified": artifact.modified.isoformat(),
            "key": artifact.key,
            "etag": artifact.etag,
            "pieces": {"root": tree.root.hex(), "piece_length": tree.piece_length} if tree else None,
            "seen": remembered.seen,
            "vouched_by": remembered.vouched_by,
            "withdrawn": remembered.withdrawn,
            "changed_to": {"digest": claim.digest, "etag": claim.etag} if claim else None,
        },
        separators=(",", ":"),
    )


def from_record(record: dict[str, Any]) -> Remembered:
    """Read what `to_record` wrote.

    Raises:
        BadTarget, ValueError, KeyError, TypeError, AttributeError: it is something else.
    """
    tree, claim = record["pieces"], record["changed_to"]
    size_bytes, seen = record["size_bytes"], record["seen"]
    if type(size_bytes) is not int or size_bytes < 0 or type(seen) not in (int, float):
        raise ValueError("size_bytes or seen is not a number")
    modified = datetime.fromisoformat(record["modified"])
    if modified.tzinfo is None:
        raise ValueError("modified has no time zone")
    try:
        seen, _ = float(seen), modified.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("seen or modified is at no time") from error
    return Remembered(
        Artifact(
            target=parse_target(record["target"]),
            digest=parse_digest(record["digest"]),
            size_bytes=size_bytes,
            modified=modified,
            key=_text(record["key"]),
            etag=None if record["etag"] is None else _text(record["etag"]),
            pieces=PieceTree(bytes.fromhex(tree["root"]), tree["piece_length"]) if tree else None,
        ),
        seen=seen,
        vouched_by=VouchedBy(record["vouched_by"]),
        withdrawn=record["withdrawn"] is True,
        changed_to=Claim(parse_digest(claim["digest"]), _text(claim["etag"])) if claim else None,
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text was expected")
    return value
