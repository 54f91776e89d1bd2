"""The Merkle tree over an artifact's pieces, as in BitTorrent v2 (BEP 52), and the ``.pieces`` file that carries it.

The leaves are the SHA-256 of 16 KiB blocks; a piece is a power of two of blocks. A piece's hash is
the root of its own subtree, padded with zero leaves: to a full piece in a file of several pieces,
to the next power of two of blocks in a file of one. The root combines the pieces' hashes, padded
with the hash of an all-zero-leaves piece. With the root vouched for, each piece can be trusted by
itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

BLOCK_BYTES = 16 * 1024
DEFAULT_PIECE_BYTES = 1024 * 1024
MAX_PIECES = 32 * 1024
"""A longer file gets larger pieces, so that its layer stays below 1 MiB."""
HASH_BYTES = 32
MAX_PIECE_BYTES = 1024 * 1024 * 1024
MAX_LINE_BYTES = 8 * 1024
MAX_PIECES_FILE_BYTES = MAX_LINE_BYTES + 2 * MAX_PIECES * HASH_BYTES
"""No valid ``.pieces`` file is longer: twice what we write, for other writers' choice of length."""
FORMAT = 1

_ZERO_LEAF = bytes(HASH_BYTES)


class MalformedPieces(ValueError):
    """A ``.pieces`` file that can't be read as one."""


@dataclass(frozen=True, slots=True)
class PieceTree:
    """What must be vouched for to trust each piece: the root (32 bytes) and the piece length in bytes."""

    root: bytes
    piece_length: int

    def __post_init__(self) -> None:
        if len(self.root) != HASH_BYTES:
            raise ValueError(f"a piece root has {HASH_BYTES} bytes, not {len(self.root)}")
        if not BLOCK_BYTES <= self.piece_length <= MAX_PIECE_BYTES or self.piece_length & (self.piece_length - 1):
            raise ValueError(
                f"a piece has a power of two of bytes, {BLOCK_BYTES} to {MAX_PIECE_BYTES}, not {self.piece_length}"
            )


@dataclass(frozen=True, slots=True)
class PieceLayer:
    """The hashes of all pieces in order, 32 bytes each."""

    hashes: bytes

    def __len__(self) -> int:
        return len(self.hashes) // HASH_BYTES

    def __getitem__(self, index: int) -> bytes:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.hashes[index * HASH_BYTES : (index + 1) * HASH_BYTES]

    def __iter__(self) -> Iterator[bytes]:
        return (self[index] for index in range(len(self)))


@dataclass(frozen=True, slots=True)
class PiecesLine:
    """The first line of a ``.pieces`` file: what the catalog needs to know."""

    sha256: str
    size_bytes: int
    tree: PieceTree
    needs: tuple[str, ...] = ()
    """What the artifact needs from the machine that runs it."""


def piece_length_for(size_bytes: int) -> int:
    """Choose the piece length for a file, in bytes: 1 MiB, doubled until there are at most `MAX_PIECES`."""
    length = DEFAULT_PIECE_BYTES
    while size_bytes > length * MAX_PIECES:
        length *= 2
    return length


def piece_count(size_bytes: int, piece_length: int) -> int:
    """How many pieces a file of that size has; the last one may be shorter."""
    return -(-size_bytes // piece_length)


class PieceHasher:
    """Hashes one piece whose bytes arrive in order, in portions (BEP 52, "pieces root" and "piece layers")."""

    def __init__(self, size_bytes: int, piece_length: int) -> None:
        self._size_bytes = size_bytes
        self._piece_length = piece_length
        self._leaves: list[bytes] = []

    def update(self, data: memoryview) -> None:
        """Take the next bytes: whole blocks, but for the last portion of the file."""
        self._leaves += [sha256(data[at : at + BLOCK_BYTES]).digest() for at in range(0, len(data), BLOCK_BYTES)]

    def finish(self) -> bytes:
        """Return the hash of what came since the last `finish`, 32 bytes, and begin the next piece."""
        leaves, self._leaves = self._leaves, []
        several = self._size_bytes > self._piece_length
        width = self._piece_length // BLOCK_BYTES if several else _next_power_of_two(len(leaves))
        return _merkle_root(leaves, width, _ZERO_LEAF)


def root_of(layer: PieceLayer, piece_length: int) -> bytes:
    """Combine the pieces' hashes to the file's root.

    Raises:
        ValueError: the layer is empty; an empty file has no tree.
    """
    if not len(layer):
        raise ValueError("an empty file has no piece tree")
    return _merkle_root(list(layer), _next_power_of_two(len(layer)), _padding_piece(piece_length))


class TreeHasher:
    """Builds the tree of a file whose bytes arrive in order, in any portions; holds less than one block of them."""

    def __init__(self, size_bytes: int, piece_length: int | None = None) -> None:
        self._size_bytes = size_bytes
        self._piece_length = piece_length or piece_length_for(size_bytes)
        self._piece = PieceHasher(size_bytes, self._piece_length)
        self._block = bytearray()
        self._hashes: list[bytes] = []
        self._seen_bytes = 0

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the file."""
        view = memoryview(data)
        if self._block:
            take = BLOCK_BYTES - len(self._block)
            self._block += view[:take]
            view = view[take:]
            if len(self._block) == BLOCK_BYTES:
                block, self._block = self._block, bytearray()
                self._take_blocks(memoryview(block))
        whole = len(view) - len(view) % BLOCK_BYTES
        self._take_blocks(view[:whole])
        self._block += view[whole:]

    def finish(self) -> tuple[PieceTree, PieceLayer]:
        """Close the last piece and return the tree.

        Raises:
            ValueError: the bytes taken are not as many as announced, or none.
        """
        if self._block:
            self._take_blocks(memoryview(self._block))
        if self._seen_bytes != self._size_bytes:
            raise ValueError(f"{self._seen_bytes} bytes came, {self._size_bytes} were announced")
        if self._seen_bytes % self._piece_length:
            self._hashes.append(self._piece.finish())
        layer = PieceLayer(b"".join(self._hashes))
        return PieceTree(root_of(layer, self._piece_length), self._piece_length), layer

    def _take_blocks(self, view: memoryview) -> None:
        while len(view):
            portion = view[: self._piece_length - self._seen_bytes % self._piece_length]
            self._piece.update(portion)
            self._seen_bytes += len(portion)
            if self._seen_bytes % self._piece_length == 0:
                self._hashes.append(self._piece.finish())
            view = view[len(portion) :]


def dump_pieces(line: PiecesLine, layer: PieceLayer) -> bytes:
    """Write a ``.pieces`` file: one line of JSON, then the layer."""
    head = {
        "format": FORMAT,
        "sha256": line.sha256,
        "size_bytes": line.size_bytes,
        "piece_length": line.tree.piece_length,
        "root": line.tree.root.hex(),
        "needs": list(line.needs),
    }
    return json.dumps(head, separators=(",", ":")).encode() + b"\n" + layer.hashes


def parse_pieces_line(body: bytes) -> PiecesLine:
    """Read the first line of a ``.pieces`` file, and nothing behind it.

    Raises:
        MalformedPieces: it is not one, or of a format that this version does not know.
    """
    end = body.find(b"\n", 0, MAX_LINE_BYTES)
    if end < 0:
        raise MalformedPieces(f"no line of JSON in the first {MAX_LINE_BYTES} bytes")
    try:
        head = json.loads(body[:end])
    except (ValueError, RecursionError) as error:
        raise MalformedPieces("the first line is not JSON") from error
    if not isinstance(head, dict):
        raise MalformedPieces("the first line is not a JSON object")
    if head.get("format") != FORMAT:
        raise MalformedPieces(f"format {str(head.get('format'))[:20]!r}, this version knows {FORMAT}")
    digest, size_bytes, needs = head.get("sha256"), head.get("size_bytes"), head.get("needs", [])
    if not isinstance(digest, str) or len(digest) != 2 * HASH_BYTES or digest != digest.lower():
        raise MalformedPieces("sha256 is not 64 lower-case hexadecimal digits")
    if type(size_bytes) is not int or size_bytes <= 0:
        raise MalformedPieces("size_bytes is not a positive number")
    if not isinstance(needs, list) or not all(isinstance(need, str) for need in needs):
        raise MalformedPieces("needs is not a list of words")
    if type(head.get("piece_length")) is not int or not isinstance(head.get("root"), str):
        raise MalformedPieces("piece_length or root is missing")
    try:
        bytes.fromhex(digest)
        tree = PieceTree(bytes.fromhex(head["root"]), head["piece_length"])
    except ValueError as error:
        raise MalformedPieces(str(error)) from error
    return PiecesLine(digest, size_bytes, tree, tuple(needs))


def parse_pieces(body: bytes) -> tuple[PiecesLine, PieceLayer]:
    """Read a whole ``.pieces`` file and check the layer against the root in its line.

    Raises:
        MalformedPieces: it is not one, or its layer does not lead to its root.
    """
    line = parse_pieces_line(body)
    layer = PieceLayer(body[body.index(b"\n") + 1 :])
    wanted = piece_count(line.size_bytes, line.tree.piece_length) * HASH_BYTES
    if len(layer.hashes) != wanted:
        raise MalformedPieces(f"the layer has {len(layer.hashes)} bytes, {wanted} were expected")
    if root_of(layer, line.tree.piece_length) != line.tree.root:
        raise MalformedPieces("the layer does not lead to the root")
    return line, layer


def _merkle_root(leaves: Sequence[bytes], width: int, padding: bytes) -> bytes:
    """Fold leaves, padded on the right to `width` (a power of two), without building the padding out."""
    row: list[bytes] = list(leaves)
    while width > 1:
        if len(row) % 2:
            row.append(padding)
        row = [sha256(left + right).digest() for left, right in _pairs(row)]
        padding = sha256(padding + padding).digest()
        width //= 2
    return row[0]


def _pairs(row: list[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(row[::2], row[1::2], strict=True)


@lru_cache
def _padding_piece(piece_length: int) -> bytes:
    return _merkle_root([_ZERO_LEAF], piece_length // BLOCK_BYTES, _ZERO_LEAF)


def _next_power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()
