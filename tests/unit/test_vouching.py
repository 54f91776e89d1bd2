"""What vouches for a key: `.pieces` and `.sha256`, else the origin's own record, else nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from waystation.catalog.vouching import VouchedBy, Voucher, vouch
from waystation.errors import Inconsistent, MalformedChecksum
from waystation.model import Digest, TargetPath
from waystation.origin.interface import ObjectInfo
from waystation.pieces import PieceLayer, PiecesLine, PieceTree, dump_pieces

TARGET = TargetPath("app/app-0.1.0-x86_64")
ONE, OTHER, THIRD = Digest("1" * 64), Digest("2" * 64), Digest("3" * 64)
TREE = PieceTree(b"r" * 32, 1024 * 1024)
SIZE_BYTES = 5


def found(on_record: Digest | None = None) -> ObjectInfo:
    return ObjectInfo(TARGET, SIZE_BYTES, '"etag"', datetime(2026, 11, 24, tzinfo=UTC), on_record, None)


def pieces_of(digest: str, size_bytes: int = SIZE_BYTES) -> bytes:
    return dump_pieces(PiecesLine(digest, size_bytes, TREE), PieceLayer(b"h" * 32))


def sums_of(digest: str) -> bytes:
    return f"{digest}  app-0.1.0-x86_64\n".encode()


def test_nothing_vouches_for_a_bare_object() -> None:
    assert vouch(TARGET, found(), pieces_file=None, checksum_file=None) is None


def test_the_origins_record_vouches_where_nothing_lies_beside_the_object() -> None:
    metadata, checksum = replace(found(ONE), sha256_from="metadata"), replace(found(ONE), sha256_from="checksum")
    by_metadata = Voucher(ONE, None, VouchedBy.METADATA)
    assert vouch(TARGET, metadata, pieces_file=None, checksum_file=None) == by_metadata
    by_checksum = Voucher(ONE, None, VouchedBy.STORED_CHECKSUM)
    assert vouch(TARGET, checksum, pieces_file=None, checksum_file=None) == by_checksum


def test_a_checksum_file_weighs_more_than_the_origins_record() -> None:
    said = vouch(TARGET, found(OTHER), pieces_file=None, checksum_file=sums_of(ONE))
    assert said == Voucher(ONE, None, VouchedBy.CHECKSUM)


def test_a_piece_file_vouches_alone_and_weighs_more_than_the_origins_record() -> None:
    said = vouch(TARGET, found(OTHER), pieces_file=pieces_of(ONE), checksum_file=None)
    assert said == Voucher(ONE, TREE, VouchedBy.PIECES)


def test_both_files_vouch_together_where_they_agree() -> None:
    both = vouch(TARGET, found(), pieces_file=pieces_of(ONE), checksum_file=sums_of(ONE))
    assert both == Voucher(ONE, TREE, VouchedBy.BOTH)


def test_files_that_disagree_vouch_for_nothing() -> None:
    with pytest.raises(Inconsistent, match=f"pieces says sha256 {ONE}.*sha256 says {OTHER}"):
        vouch(TARGET, found(THIRD), pieces_file=pieces_of(ONE), checksum_file=sums_of(OTHER))


@pytest.mark.parametrize("checksum_file", [None, sums_of(ONE)])
def test_a_piece_file_of_another_size_vouches_for_nothing(checksum_file: bytes | None) -> None:
    with pytest.raises(Inconsistent, match="says 6 bytes, the object has 5"):
        vouch(TARGET, found(), pieces_file=pieces_of(ONE, size_bytes=6), checksum_file=checksum_file)


@pytest.mark.parametrize("pieces_file", [b"", b"rubbish\n", b'{"format":2}\n', pieces_of("z" * 64)])
def test_a_piece_file_that_is_none_is_malformed_whatever_else_vouches(pieces_file: bytes) -> None:
    with pytest.raises(MalformedChecksum, match=r"app/app-0\.1\.0-x86_64\.pieces can't be read"):
        vouch(TARGET, found(ONE), pieces_file=pieces_file, checksum_file=sums_of(ONE))


def test_a_checksum_file_that_is_none_is_malformed_whatever_else_vouches() -> None:
    with pytest.raises(MalformedChecksum):
        vouch(TARGET, found(ONE), pieces_file=pieces_of(ONE), checksum_file=b"rubbish")
