"""The Merkle tree and the ``.pieces`` file, held against libtorrent's own v2 trees (BEP 52)."""

from __future__ import annotations

import json
import random
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import libtorrent
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waystation.pieces import (
    BLOCK_BYTES,
    DEFAULT_PIECE_BYTES,
    MAX_PIECES,
    MAX_PIECES_FILE_BYTES,
    MalformedPieces,
    PieceHasher,
    PieceLayer,
    PiecesLine,
    PieceTree,
    TreeHasher,
    dump_pieces,
    parse_pieces,
    parse_pieces_line,
    piece_count,
    piece_length_for,
    root_of,
)

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1024 * 1024


def tree_of(data: bytes, piece_length: int, portion: int = 100_000) -> tuple[PieceTree, PieceLayer]:
    hasher = TreeHasher(len(data), piece_length)
    for at in range(0, len(data), portion):
        hasher.update(data[at : at + portion])
    return hasher.finish()


def independent_tree(folder: Path, data: bytes, piece_length: int) -> tuple[bytes, bytes | None]:
    """What libtorrent says of the same bytes: the root, and the layer of a file of several pieces."""
    (folder / "file").write_bytes(data)
    files = libtorrent.list_files(str(folder / "file"))
    torrent = libtorrent.create_torrent(files, piece_size=piece_length, flags=libtorrent.create_torrent.v2_only)
    libtorrent.set_piece_hashes(torrent, str(folder))
    entry: Any = libtorrent.bdecode(libtorrent.bencode(torrent.generate()))
    root = entry[b"info"][b"file tree"][b"file"][b""][b"pieces root"]
    return root, entry.get(b"piece layers", {}).get(root)


@pytest.mark.parametrize(
    "size_bytes",
    [
        1,
        BLOCK_BYTES - 1,
        BLOCK_BYTES,
        BLOCK_BYTES + 1,
        3 * BLOCK_BYTES,
        MIB - 1,
        MIB,
        MIB + 1,
        2 * MIB,
        3 * MIB,
        4 * MIB + BLOCK_BYTES + 1,
        5 * MIB,
        9 * MIB - 1,
    ],
)
def test_root_and_layer_are_what_libtorrent_computes(tmp_path: Path, size_bytes: int) -> None:
    data = random.Random(size_bytes).randbytes(size_bytes)
    tree, layer = tree_of(data, MIB)
    root, independent_layer = independent_tree(tmp_path, data, MIB)
    assert tree.root == root
    if independent_layer is not None:
        assert layer.hashes == independent_layer
    else:
        assert layer.hashes == root


@settings(max_examples=40)
@given(size_bytes=st.integers(1, 40 * BLOCK_BYTES), portion=st.integers(1, 5 * BLOCK_BYTES))
def test_any_size_in_any_portions_gives_libtorrent_s_tree(
    tmp_path_factory: pytest.TempPathFactory, size_bytes: int, portion: int
) -> None:
    data = random.Random(size_bytes).randbytes(size_bytes)
    length = 4 * BLOCK_BYTES
    tree, layer = tree_of(data, length, portion)
    root, independent_layer = independent_tree(tmp_path_factory.mktemp("tree"), data, length)
    assert tree.root == root
    assert independent_layer in (None, layer.hashes)


@given(size_bytes=st.integers(1, 20 * BLOCK_BYTES), data=st.data())
def test_each_piece_hashes_to_its_place_in_the_layer_and_to_no_other_bytes(
    size_bytes: int, data: st.DataObject
) -> None:
    body = random.Random(size_bytes).randbytes(size_bytes)
    length = 4 * BLOCK_BYTES
    _, layer = tree_of(body, length)
    index = data.draw(st.integers(0, piece_count(size_bytes, length) - 1))
    piece = bytearray(body[index * length : (index + 1) * length])
    hasher = PieceHasher(size_bytes, length)
    hasher.update(memoryview(piece))
    assert hasher.finish() == layer[index]
    piece[data.draw(st.integers(0, len(piece) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    hasher.update(memoryview(piece))
    assert hasher.finish() != layer[index]


def test_pieces_are_one_mib_until_a_layer_would_pass_one_mib() -> None:
    assert piece_length_for(1) == DEFAULT_PIECE_BYTES
    assert piece_length_for(MAX_PIECES * MIB) == MIB
    assert piece_length_for(MAX_PIECES * MIB + 1) == 2 * MIB
    five_tib = 5 * 1024**4
    assert piece_count(five_tib, piece_length_for(five_tib)) <= MAX_PIECES


def test_a_tree_of_other_bytes_than_announced_is_refused() -> None:
    hasher = TreeHasher(10)
    hasher.update(b"nine byte")
    with pytest.raises(ValueError, match="9 bytes came, 10 were announced"):
        hasher.finish()
    with pytest.raises(ValueError, match="empty file"):
        TreeHasher(0).finish()


def a_file(size_bytes: int = 3 * MIB + 5) -> tuple[PiecesLine, PieceLayer, bytes]:
    data = random.Random(7).randbytes(size_bytes)
    tree, layer = tree_of(data, MIB)
    line = PiecesLine(sha256(data).hexdigest(), size_bytes, tree, ("userns", "sh"))
    return line, layer, dump_pieces(line, layer)


def test_a_pieces_file_reads_back_as_it_was_written() -> None:
    line, layer, body = a_file()
    assert parse_pieces(body) == (line, layer)
    assert parse_pieces_line(body) == line
    assert body.index(b"\n") < 300
    head = json.loads(body.split(b"\n", 1)[0])
    assert list(head) == ["format", "sha256", "size_bytes", "piece_length", "root", "needs"]
    assert len(body) == body.index(b"\n") + 1 + 32 * 4


def test_the_largest_file_that_we_write_is_within_the_limit_for_reading() -> None:
    layer = PieceLayer(bytes(32 * MAX_PIECES))
    tree = PieceTree(root_of(layer, MIB), MIB)
    body = dump_pieces(PiecesLine("0" * 64, MAX_PIECES * MIB, tree, ("userns",) * 50), layer)
    assert len(body) < MAX_PIECES_FILE_BYTES


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"sha256": "0" * 63},
        {"sha256": "X" * 64},
        {"sha256": "A" * 64},
        {"sha256": None},
        {"size_bytes": 0},
        {"size_bytes": -1},
        {"size_bytes": True},
        {"size_bytes": 1.5},
        {"size_bytes": 3 * MIB},
        {"piece_length": 3},
        {"piece_length": 3 * MIB},
        {"piece_length": 2 * MIB},
        {"piece_length": 2**50},
        {"piece_length": "1"},
        {"root": "00"},
        {"root": "0" * 64},
        {"root": "zz" * 32},
        {"root": 7},
        {"needs": "sh"},
        {"needs": [1]},
    ],
)
def test_a_pieces_file_with_a_wrong_line_is_refused(change: dict[str, object]) -> None:
    _, _, body = a_file()
    line, layer = body.split(b"\n", 1)
    wrong = json.dumps(json.loads(line) | change).encode() + b"\n" + layer
    with pytest.raises(MalformedPieces):
        parse_pieces(wrong)


@pytest.mark.parametrize("cut", [0, 1, 50, 200, -1, -32])
def test_a_cut_off_pieces_file_is_refused(cut: int) -> None:
    _, _, body = a_file()
    with pytest.raises(MalformedPieces):
        parse_pieces(body[:cut])


@given(st.binary(max_size=400))
def test_no_bytes_break_the_parser(body: bytes) -> None:
    with pytest.raises(MalformedPieces):
        parse_pieces(body)


@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_in_the_layer_is_noticed(position: int, bit: int) -> None:
    _, layer, body = a_file()
    start = body.index(b"\n") + 1
    rotten = bytearray(body)
    rotten[start + position % len(layer.hashes)] ^= 1 << bit
    with pytest.raises(MalformedPieces, match="does not lead to the root"):
        parse_pieces(bytes(rotten))
