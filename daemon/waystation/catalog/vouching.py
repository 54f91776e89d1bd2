"""What vouches for a key's bytes: the files beside it, else what the origin has on record, else nothing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from waystation.catalog.checksums import parse_checksum
from waystation.errors import Inconsistent, MalformedChecksum
from waystation.model import parse_digest
from waystation.pieces import MalformedPieces, parse_pieces_line

if TYPE_CHECKING:
    from waystation.model import Digest, TargetPath
    from waystation.origin.interface import ObjectInfo
    from waystation.pieces import PieceTree


class VouchedBy(StrEnum):
    """Who says what a key's bytes must be."""

    PIECES = ".pieces"
    CHECKSUM = ".sha256"
    BOTH = ".pieces and .sha256"
    METADATA = "x-amz-meta-sha256"
    STORED_CHECKSUM = "the checksum that S3 has stored"
    READING = "our own reading of it"
    """Nobody else did (``missing_checksum = "pin-first"``)."""


@dataclass(frozen=True, slots=True)
class Voucher:
    """What a key's bytes are said to be."""

    digest: Digest
    pieces: PieceTree | None
    by: VouchedBy


def vouch(
    target: TargetPath, found: ObjectInfo, *, pieces_file: bytes | None, checksum_file: bytes | None
) -> Voucher | None:
    """Weigh what is said of a key; None where nothing is.

    Raises:
        Inconsistent: ``.pieces`` and ``.sha256`` state different digests, or ``.pieces`` another size
            than the object has.
        MalformedChecksum: one of them can't be read.
    """
    stated = parse_checksum(checksum_file, target) if checksum_file is not None else None
    if pieces_file is None:
        if stated:
            return Voucher(stated, None, VouchedBy.CHECKSUM)
        by = VouchedBy.METADATA if found.sha256_from == "metadata" else VouchedBy.STORED_CHECKSUM
        return Voucher(found.sha256, None, by) if found.sha256 else None
    try:
        line = parse_pieces_line(pieces_file)
        digest = parse_digest(line.sha256)
    except (MalformedPieces, ValueError) as error:
        raise MalformedChecksum(f"{target}.pieces can't be read: {error}") from error
    if stated is not None and stated != digest:
        raise Inconsistent(f"{target}.pieces says sha256 {digest}, {target}.sha256 says {stated}")
    if line.size_bytes != found.size_bytes:
        raise Inconsistent(f"{target}.pieces says {line.size_bytes} bytes, the object has {found.size_bytes}")
    return Voucher(digest, line.tree, VouchedBy.BOTH if stated else VouchedBy.PIECES)
