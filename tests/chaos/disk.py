"""Looks at a store's folder from outside: with hashlib and the bytes that were published, not with the store's code."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping
    from pathlib import Path

    from chaos.tally import Tally

_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{2})/(\1[0-9a-f]{62})")
_PARTIAL = re.compile(r"spool/([0-9a-f]{64})")
_OTHER = re.compile(r"format|lock|running|suspect-before|catalog\.json|pins/[a-z]+\.json")


@dataclass(frozen=True)
class Seen:
    """What lies in a store's folder."""

    blobs: dict[str, Path] = field(default_factory=dict)
    strange: list[str] = field(default_factory=list)
    """What a store that has started must not hold."""
    counted_bytes: int = 0
    """What counts against the quota."""


def look(store: Path) -> Seen:
    """A daemon may be at work on it: what goes meanwhile is not there, and what does not fit is looked at again."""
    names = {str(path.relative_to(store)): path for path in store.rglob("*") if path.is_file()}
    blobs: dict[str, Path] = {}
    strange: list[str] = []
    counted_bytes = 0
    for name, path in names.items():
        counts = name.startswith(("blobs/", "spool/", "quarantine/"))
        if counts:
            with suppress(FileNotFoundError):
                counted_bytes += path.stat().st_size
        owner = name.removesuffix(".pieces")
        if (blob := _BLOB.fullmatch(owner)) and owner in names:
            if owner == name:
                blobs[blob[2]] = path
        elif not (_PARTIAL.fullmatch(owner) and owner in names and f"{owner}.pieces" in names) and not _OTHER.fullmatch(
            name
        ):
            strange.append(name)
    return Seen(blobs, strange, counted_bytes)


def flip_a_bit(file: Path, chance: random.Random) -> None:
    with file.open("r+b") as opened:
        at = chance.randrange(file.stat().st_size)
        opened.seek(at)
        (byte,) = opened.read(1)
        opened.seek(at)
        opened.write(bytes([byte ^ 1 << chance.randrange(8)]))


def check_blobs(store: Path, pieces: Mapping[str, bytes | None], rotten: set[str], tally: Tally) -> Seen:
    """Hash every blob of a daemon that is dead, but for those that it has yet to find rotten; check their pieces."""
    seen = look(store)
    rotten.intersection_update(seen.blobs)
    for digest, path in seen.blobs.items():
        body = path.read_bytes()
        tally.checked_blobs += 1
        tally.checked_bytes += len(body)
        if sha256(body).hexdigest() == digest:
            rotten.discard(digest)
        elif digest not in rotten:
            tally.wrong.append(f"round {tally.rounds}: the blob {digest} has other bytes")
        beside = path.with_name(f"{digest}.pieces")
        if (beside.read_bytes() if beside.exists() else None) != pieces[digest]:
            tally.wrong.append(f"round {tally.rounds}: the blob {digest} has other pieces than were published")
    return seen
