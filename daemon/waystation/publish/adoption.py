"""Adoption: objects that others uploaded are read once, and what is missing to announce them is added."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from waystation.errors import BadTarget, Conflict, Denied, RevisionChanged, WaystationError
from waystation.model import RESERVED_SUFFIXES, parse_target
from waystation.publish.announcement import announce
from waystation.publish.fingerprint import fingerprint_object

if TYPE_CHECKING:
    from collections.abc import Callable

    from waystation.model import TargetPath
    from waystation.origin.interface import Origin, OriginWriter
    from waystation.publish.fingerprint import Fingerprint, Progress

_AT_ONCE = 4
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
    what, done_bytes, total_bytes = f"adopting {len(new)} objects", 0, sum(candidate.size_bytes for candidate in new)
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
                done_bytes += candidate.size_bytes
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

    key: str
    size_bytes: int
    announced: bool
    """In full, as far as the listing tells."""


async def _candidates(origin: Origin, prefix: str) -> list[_Candidate]:
    sizes_bytes = {info.key: info.size_bytes async for info in origin.list(prefix)}
    return [
        _Candidate(
            key, size_bytes, f"{key}.sha256" in sizes_bytes and (not size_bytes or f"{key}.pieces" in sizes_bytes)
        )
        for key, size_bytes in sizes_bytes.items()
        if not key.endswith(RESERVED_SUFFIXES) and not key.startswith(_NOT_ARTIFACTS)
    ]


async def _adopt_one(origin: Origin, writer: OriginWriter, candidate: _Candidate, progress: Progress) -> Adopted:
    key = candidate.key
    if candidate.announced:
        return Adopted(key, "already")
    try:
        target = parse_target(key)
    except BadTarget as error:
        return Adopted(key, "skipped", str(error))
    if any(part.startswith(".") for part in target.split("/")):
        return Adopted(key, "skipped", "a name that begins with a dot is hidden")
    try:
        fingerprint = await _read(origin, target, progress)
    except WaystationError as error:
        return Adopted(key, "failed", str(error))
    try:
        added = await announce(origin, writer, target, fingerprint)
    except Denied:
        raise
    except WaystationError as error:
        return Adopted(key, "failed", str(error))
    return Adopted(key, "adopted" if added else "already")


async def _read(origin: Origin, target: TargetPath, progress: Progress) -> Fingerprint:
    """Fingerprint the revision that is there, and make sure that it still is."""
    before = await origin.head(target)
    fingerprint = await fingerprint_object(origin, before, progress)
    if before.sha256 not in (None, fingerprint.digest):
        raise Conflict(f"the origin has {before.sha256} on record for {target}, its bytes are {fingerprint.digest}")
    after = await origin.head(target)
    if after.etag != before.etag:
        raise RevisionChanged(f"{target} was replaced while it was being read")
    return fingerprint
