"""Adoption: objects that others uploaded are read once, and what is missing to announce them is added."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from waystation.errors import BadTarget, Conflict, Denied, RevisionChanged, WaystationError
from waystation.model import CHECKSUM_SUFFIX, PIECES_SUFFIX, RESERVED_SUFFIXES, parse_target
from waystation.publish.announcement import announce
from waystation.publish.fingerprint import fingerprint_object

if TYPE_CHECKING:
    from collections.abc import Callable

    from waystation.origin.interface import ObjectInfo, Origin, OriginWriter
    from waystation.publish.fingerprint import Fingerprint, Progress

_AT_ONCE = 16
"""Small objects are all waiting; of large ones no more are read at once than there are worker threads."""
_NOT_ARTIFACTS = "metadata/"

Outcome = Literal["adopted", "already", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class Adopted:
    """What became of one object."""

    key: str
    outcome: Outcome
    why: str | None = None
    """For what was skipped or failed."""


async def adopt_objects(
    origin: Origin, writer: OriginWriter, prefix: str, *, report: Callable[[Adopted], None], progress: Progress
) -> list[Adopted]:
    """Adopt everything below a prefix, a few objects at once; what can't be adopted stops no other.

    Raises:
        Denied: the origin does not let us write; nothing more was read.
        OriginError: the origin can't list.
    """
    candidates = await _candidates(origin, prefix)
    work = iter(candidates)
    results: list[Adopted] = []
    denied: list[Denied] = []
    new = [candidate for candidate in candidates if not candidate.announced]
    what, done_bytes, total_bytes = (
        f"adopting {len(new)} objects",
        0,
        sum(candidate.found.size_bytes for candidate in new),
    )
    progress(what, 0, total_bytes)

    async def adopt_some() -> None:
        nonlocal done_bytes
        for candidate in work:
            if denied:
                return
            try:
                result = await _adopt_one(origin, writer, candidate, progress)
            except Denied as error:
                denied.append(error)
                return
            results.append(result)
            report(result)
            if not candidate.announced:
                done_bytes += candidate.found.size_bytes
                progress(what, done_bytes, total_bytes)

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(adopt_some())
    if denied:
        raise denied[0]
    return sorted(results, key=lambda result: result.key)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A key that could be a target."""

    found: ObjectInfo
    """The revision that was listed."""
    has_pieces: bool
    has_checksum: bool

    @property
    def announced(self) -> bool:
        """In full, as far as the listing tells."""
        return self.has_checksum and (self.has_pieces or not self.found.size_bytes)


async def _candidates(origin: Origin, prefix: str) -> list[_Candidate]:
    listed = {found.key: found async for found in origin.list(prefix)}
    return [
        _Candidate(found, has_pieces=key + PIECES_SUFFIX in listed, has_checksum=key + CHECKSUM_SUFFIX in listed)
        for key, found in listed.items()
        if not key.endswith(RESERVED_SUFFIXES) and not key.startswith(_NOT_ARTIFACTS)
    ]


async def _adopt_one(origin: Origin, writer: OriginWriter, candidate: _Candidate, progress: Progress) -> Adopted:
    key = candidate.found.key
    if candidate.announced:
        return Adopted(key, "already")
    try:
        target = parse_target(key)
    except BadTarget as error:
        return Adopted(key, "skipped", str(error))
    try:
        fingerprint = await _read_present(origin, candidate.found, progress)
    except WaystationError as error:
        return Adopted(key, "failed", str(error))
    try:
        is_bare = not candidate.has_pieces and not candidate.has_checksum
        added = await announce(origin, writer, target, fingerprint, is_bare=is_bare)
    except Denied:
        raise
    except WaystationError as error:
        return Adopted(key, "failed", str(error))
    return Adopted(key, "adopted" if added else "already")


async def _read_present(origin: Origin, listed: ObjectInfo, progress: Progress) -> Fingerprint:
    """Fingerprint the revision that was listed, or where it was replaced since, once more the one that is there now."""
    try:
        return await _read(origin, listed, progress)
    except RevisionChanged:
        return await _read(origin, await origin.head(listed.key), progress)


async def _read(origin: Origin, found: ObjectInfo, progress: Progress) -> Fingerprint:
    """Fingerprint one revision, and make sure that it still is there and has on record what its bytes are."""
    fingerprint = await fingerprint_object(origin, found, progress)
    present = await origin.head(found.key)
    if present.etag != found.etag:
        raise RevisionChanged(f"{found.key} was replaced while it was being read")
    if present.sha256 not in (None, fingerprint.digest):
        raise Conflict(f"the origin has {present.sha256} on record for {found.key}, its bytes are {fingerprint.digest}")
    return fingerprint
