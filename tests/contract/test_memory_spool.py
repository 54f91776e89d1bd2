"""A window of an artifact's pieces in memory: what it holds, what it gives back, and how many there may be."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from stores import artifact_of, random_bytes
from waystation.errors import NoRoom
from waystation.pieces import PieceTree
from waystation.store.memory_spool import MemorySpool, PassThrough

if TYPE_CHECKING:
    from waystation.model import Artifact

MIB = 1024 * 1024
DATA = random_bytes(100_000)


def artifact(size_bytes: int, piece_length: int = MIB) -> Artifact:
    known, _ = artifact_of(DATA)
    return replace(known, size_bytes=size_bytes, pieces=PieceTree(bytes(32), piece_length))


def window_of(size_bytes: int, piece_length: int = MIB, *, limit: int = 64 * MIB) -> MemorySpool:
    return PassThrough(limit).reserve(artifact(size_bytes, piece_length), range(-(-size_bytes // piece_length)))


def taken_bytes(spool: MemorySpool) -> int:
    return os.fstat(spool.fd).st_blocks * 512


def test_what_was_written_can_be_read_back_and_sent_from_its_descriptor() -> None:
    spool = window_of(20 * MIB)
    spool.write(7 * MIB, memoryview(DATA))
    buffer = bytearray(100)
    assert spool.read(7 * MIB + 1000, memoryview(buffer)) == 100
    assert buffer == DATA[1000:1100]
    assert os.pread(spool.fd, len(DATA), 7 * MIB) == DATA
    with pytest.raises(ValueError, match="don't lie within"):
        spool.write(20 * MIB - 1, memoryview(b"xx"))
    spool.close(keep=False)


def test_what_nobody_needs_any_more_is_given_back_and_the_rest_stays() -> None:
    spool = window_of(20 * MIB + 5)
    assert taken_bytes(spool) == 0
    for piece in range(8):
        spool.write(piece * MIB, memoryview(bytes([piece]) * MIB))
    assert taken_bytes(spool) == 8 * MIB
    spool.free(3)
    assert taken_bytes(spool) == 6 * MIB, "a page may be as large as 2 MiB, and is given back whole or not at all"
    assert os.pread(spool.fd, 1, 2 * MIB) == b"\2"
    spool.free(2)
    spool.free(7)
    assert taken_bytes(spool) == 2 * MIB
    spool.write(20 * MIB, memoryview(b"tail!"))
    spool.free(21)
    assert taken_bytes(spool) <= 4096
    spool.close(keep=False)
    spool.free(21)


def test_its_memory_is_gone_and_its_room_another_s_once_it_is_closed() -> None:
    passing = PassThrough(8 * MIB)
    spool = passing.reserve(artifact(20 * MIB), range(20))
    with pytest.raises(NoRoom, match="8388608 are in use"):
        passing.reserve(artifact(1), range(1))
    spool.close(keep=True)
    spool.close(keep=True)
    assert passing.used_bytes == 0
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(spool.fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        spool.write(0, memoryview(b"late"))


@pytest.mark.parametrize(
    ("size_bytes", "piece_length", "wanted", "window", "used_bytes"),
    [
        (1024 * MIB, MIB, range(1024), 8, 8 * MIB),
        (1024 * MIB, 16 * 1024, range(65536), 512, 8 * MIB),
        (1024 * MIB, 16 * MIB, range(64), 2, 32 * MIB),
        (1024 * MIB, MIB, range(500, 503), 3, 3 * MIB),
        (5 * MIB + 1, MIB, range(6), 6, 5 * MIB + 1),
        (1, MIB, range(1), 1, 1),
    ],
)
def test_a_window_is_8_mib_or_two_pieces_and_no_more_than_what_is_wanted(
    size_bytes: int, piece_length: int, wanted: range, window: int, used_bytes: int
) -> None:
    passing = PassThrough(64 * MIB)
    spool = passing.reserve(artifact(size_bytes, piece_length), wanted)
    assert (spool.window, passing.used_bytes) == (window, used_bytes)
    spool.close(keep=False)


def test_without_pieces_there_is_nothing_to_pass_through() -> None:
    with pytest.raises(ValueError, match="has no pieces"):
        PassThrough(64 * MIB).reserve(replace(artifact(MIB), pieces=None), range(1))


async def test_a_commit_stores_nothing() -> None:
    spool = window_of(MIB)
    await asyncio.to_thread(spool.write, 0, memoryview(DATA))
    await spool.commit()
    assert os.pread(spool.fd, len(DATA), 0) == DATA
    spool.close(keep=True)
