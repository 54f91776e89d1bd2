"""Rot: a flipped bit anywhere in what is stored is not served behind the next check, and costs its pieces to repair."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from transfers import MIB, World, eventually, world
from waystation.disk import Disk
from waystation.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from waystation.model import Artifact

SIZE_BYTES = 3 * MIB + 3
PIECES = 4


class Machine(Disk):
    """A disk whose machine is started again at will."""

    boots = 1

    def boot_id(self) -> str:
        return f"boot {self.boots}"


@dataclass(frozen=True)
class Flip:
    """Which bit of a file is flipped: at a share of its length."""

    place: float
    bit: int

    def of(self, file: Path) -> int:
        """Flip it, and say in which byte it was."""
        body = bytearray(file.read_bytes())
        at = int(self.place * (len(body) - 1))
        body[at] ^= 1 << self.bit
        with file.open("r+b") as open_file:
            open_file.write(body)
        return at


flips = st.builds(Flip, st.floats(0, 1), st.integers(0, 7))
every_end = (Flip(0.0, 0), Flip(1.0, 7))


def blob_path(folder: Path, artifact: Artifact) -> Path:
    return folder / "store/blobs/sha256" / artifact.digest[:2] / artifact.digest


def pieces_path(folder: Path, artifact: Artifact) -> Path:
    path = blob_path(folder, artifact)
    return path.with_name(f"{path.name}.pieces")


async def stored(it: World, *, pieces: bool = True) -> Artifact:
    artifact = await it.artifact(SIZE_BYTES, pieces=pieces)
    assert await it.fetch(artifact) == it.bytes_of(artifact)
    await eventually(lambda: not it.transfers.flights(), "the blob is on disk")
    it.origin.read_bytes = 0
    return artifact


async def is_whole_again(it: World, folder: Path, artifact: Artifact, *, cost_bytes: int) -> None:
    """Served right, at this cost; then from the disk, which holds what it should."""
    assert await it.fetch(artifact) == it.bytes_of(artifact)
    assert it.origin.read_bytes == cost_bytes
    await eventually(lambda: not it.transfers.flights(), "the blob is on disk")
    assert await it.fetch(artifact) == it.bytes_of(artifact)
    assert it.origin.read_bytes == cost_bytes
    assert blob_path(folder, artifact).read_bytes() == it.bytes_of(artifact)
    assert await it.store.verify(artifact.digest)
    found = await it.store.pieces_file(artifact.digest)
    assert found == (await it.origin.get(f"{artifact.key}.pieces", limit_bytes=MIB))[1]


def size_of_piece(index: int) -> int:
    return min(MIB, SIZE_BYTES - index * MIB)


@settings(max_examples=25)
@given(st.lists(flips, min_size=1, max_size=3))
@example(list(every_end))
def test_a_blob_with_flipped_bits_is_repaired_for_the_cost_of_its_bad_pieces(chosen: list[Flip]) -> None:
    async def story(folder: Path) -> None:
        async with world(folder, Metrics()) as it:
            artifact = await stored(it)
            for flip in chosen:
                flip.of(blob_path(folder, artifact))
            rotten = bad_pieces(blob_path(folder, artifact).read_bytes(), it.bytes_of(artifact))
            assert await it.store.verify(artifact.digest) == (not rotten)
            assert (it.store.open(artifact.digest) is None) == bool(rotten)
            await is_whole_again(it, folder, artifact, cost_bytes=sum(map(size_of_piece, rotten)))

    play(story)


@settings(max_examples=25)
@given(flips)
@example(every_end[0])
@example(every_end[1])
def test_pieces_with_a_flipped_bit_are_put_right_or_dropped_and_never_make_a_good_blob_bad(flip: Flip) -> None:
    async def story(folder: Path) -> None:
        async with world(folder, Metrics()) as it:
            artifact = await stored(it)
            published = pieces_path(folder, artifact).read_bytes()
            in_layer = flip.of(pieces_path(folder, artifact)) > published.index(b"\n")
            assert await it.store.verify(artifact.digest), "the blob itself is right"
            assert await it.fetch(artifact) == it.bytes_of(artifact)
            assert it.origin.read_bytes == 0
            found = await it.store.pieces_file(artifact.digest)
            assert found == published or (found is None and not in_layer)

    play(story)


@settings(max_examples=25)
@given(flips, flips)
@example(*every_end)
def test_a_blob_and_its_pieces_that_rot_at_once_are_fetched_again(first: Flip, second: Flip) -> None:
    async def story(folder: Path) -> None:
        async with world(folder, Metrics()) as it:
            artifact = await stored(it)
            first.of(pieces_path(folder, artifact))
            index = second.of(blob_path(folder, artifact)) // MIB
            assert not await it.store.verify(artifact.digest)
            assert it.store.open(artifact.digest) is None
            assert await it.fetch(artifact) == it.bytes_of(artifact)
            assert it.origin.read_bytes in {size_of_piece(index), SIZE_BYTES}

    play(story)


@settings(max_examples=15)
@given(flips)
@example(every_end[0])
@example(every_end[1])
def test_behind_a_crash_of_the_machine_a_flipped_bit_costs_its_piece_and_an_intact_blob_nothing(flip: Flip) -> None:
    async def story(folder: Path) -> None:
        machine = Machine()
        async with world(folder, Metrics(), disk=machine) as it:
            artifact = await stored(it)
            marker = folder / "store/running"
            marked = marker.read_bytes()
        marker.write_bytes(marked)  # as it is left by who does not stop
        index = flip.of(blob_path(folder, artifact)) // MIB
        machine.boots += 1
        async with world(folder, Metrics(), disk=machine) as it:
            assert it.store.open(artifact.digest) is None
            await is_whole_again(it, folder, artifact, cost_bytes=size_of_piece(index))
        marker.write_bytes(marked)
        machine.boots += 1
        async with world(folder, Metrics(), disk=machine) as it:
            assert it.store.open(artifact.digest) is None
            await is_whole_again(it, folder, artifact, cost_bytes=0)

    play(story)


async def test_without_pieces_a_flipped_bit_costs_the_whole_and_the_rotten_file_is_kept_aside(tmp_path: Path) -> None:
    async with world(tmp_path, Metrics()) as it:
        artifact = await stored(it, pieces=False)
        Flip(0.5, 3).of(blob_path(tmp_path, artifact))
        assert not await it.store.verify(artifact.digest)
        assert it.store.open(artifact.digest) is None
        assert await it.fetch(artifact) == it.bytes_of(artifact)
        assert it.origin.read_bytes == SIZE_BYTES
        assert len(list((tmp_path / "store/quarantine").iterdir())) == 1


def bad_pieces(found: bytes, right: bytes) -> set[int]:
    return {index for index in range(PIECES) if found[index * MIB :][:MIB] != right[index * MIB :][:MIB]}


def play(story: object) -> None:
    with tempfile.TemporaryDirectory(prefix="rot-") as folder:
        asyncio.run(story(Path(folder)))  # type: ignore[operator]


pytestmark = pytest.mark.timeout(120)
