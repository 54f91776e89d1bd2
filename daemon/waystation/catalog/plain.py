"""The plain catalog: what the bucket itself says of its keys, and what was once seen for each name."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import replace
from fnmatch import translate
from typing import TYPE_CHECKING, ClassVar, ParamSpec, TypeVar

import structlog

from waystation.catalog.checksums import MAX_CHECKSUM_BYTES
from waystation.catalog.hashing import digest_of
from waystation.catalog.listing import literal_prefix, targets_among
from waystation.catalog.lookups import Lookups
from waystation.catalog.memory import Memory
from waystation.catalog.remembered import remember
from waystation.catalog.sighting import Sighting
from waystation.catalog.vouching import VouchedBy, Voucher, vouch
from waystation.errors import (
    CatalogError,
    Inconsistent,
    MalformedChecksum,
    Missing,
    NoChecksum,
    OriginError,
    RevisionChanged,
    TargetChanged,
    TooLarge,
    TooManyQuestions,
    UnknownTarget,
    Unreachable,
    WaystationError,
)
from waystation.model import CHECKSUM_SUFFIX, PIECES_SUFFIX
from waystation.origin.hub_pages import Entry
from waystation.origin.just_read import JustRead
from waystation.pieces import MAX_PIECES_FILE_BYTES
from waystation.status import CatalogStatus

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from waystation.catalog.listing import Listed
    from waystation.catalog.lookups import Lookup
    from waystation.catalog.remembered import Remembered
    from waystation.config import CatalogSettings, Settings
    from waystation.disk import Disk
    from waystation.model import Artifact, Digest, TargetPath
    from waystation.origin.interface import ObjectInfo, Origin
    from waystation.telemetry.metrics import Metrics

_P = ParamSpec("_P")
_T = TypeVar("_T")

_DEADLINE_S = 2.0
"""So long a known target waits for the origin before what is known must do."""
_HOLD_OFF_S = 5.0
"""So long an origin without an answer is not asked again for a known target."""
_READINGS_AT_ONCE = 2
"""Objects read for their checksum at the same time: each takes a worker thread and all the network it can get."""

log = structlog.get_logger()


class PlainCatalog:
    """Trusts the bucket on first sight, and itself from then on."""

    reloads: ClassVar[frozenset[str]] = frozenset({"catalog.refresh", "catalog.missing_checksum"})

    def __init__(
        self,
        origin: Origin,
        *,
        memory: Path | None,
        disk: Disk,
        settings: CatalogSettings,
        metrics: Metrics,
        just_read: JustRead | None = None,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        deadline_s: float = _DEADLINE_S,
    ) -> None:
        self._origin = origin
        self._memory = Memory(memory, disk=disk)
        self._settings = settings
        self._metrics = metrics
        self._just_read = just_read or JustRead()
        self._wall = wall
        self._monotonic = monotonic
        self._pins_first = settings.missing_checksum == "pin-first"
        self._deadline_s = deadline_s
        self._lookups = Lookups(self._look_up, deadline_s=deadline_s)
        self._readings = asyncio.Semaphore(_READINGS_AT_ONCE)
        self._fresh_until: dict[TargetPath, float] = {}
        self._doubted: set[TargetPath] = set()
        """Names that were listed with another revision than is known, and not been asked for since."""
        self._last_refresh: float | None = None

    def reload(self, settings: Settings) -> None:
        """Go by these from the next question on; what is fresh stays so until its time is over."""
        self._settings = settings.catalog
        self._pins_first = settings.catalog.missing_checksum == "pin-first"

    async def load(self) -> None:
        """Recall what was once seen; before the first question."""
        await self._memory.load()
        self._count_targets()

    async def close(self) -> None:
        """Give up what is being asked, and wait until all that was learned is on disk."""
        await self._lookups.close()
        await self._memory.close()

    async def resolve(self, name: TargetPath, *, fresh: bool = False) -> Artifact:
        known = self._memory.get(name)
        if known and self._stands(known):
            if not fresh and self._monotonic() < self._fresh_until.get(name, float("-inf")):
                return _released(known)
            try:
                lookup = self._lookups.join(name, fresh=fresh)
            except TooManyQuestions:
                return _released(known)
            if not await lookup.in_time():
                return _released(self._memory.get(name) or known)
        else:
            lookup = self._lookups.join(name, fresh=fresh)
        return _released(await lookup.answer())

    async def list(self, pattern: str) -> AsyncIterator[TargetPath]:
        matches = re.compile(translate(pattern)).match
        async for listed in targets_among(self._origin.list(literal_prefix(pattern))):
            if matches(listed.target):
                self._compare(listed)
                yield listed.target
        self._answered()

    async def entries(self, prefix: str, *, after: str) -> AsyncGenerator[Entry]:
        async for listed in targets_among(self._origin.list(prefix, after=after)):
            self._compare(listed)
            known = self.standing(listed.target)
            yield Entry(listed.target, known.digest if known else None, listed.size_bytes, listed.modified)
        self._answered()

    def by_digest(self, digest: Digest) -> Artifact | None:
        for known in self._memory.with_digest(digest):
            if self._stands(known) and not known.changed_to:
                return known.artifact
        return None

    def recall(self, name: TargetPath) -> Remembered | None:
        return self._memory.get(name)

    def standing(self, name: TargetPath) -> Artifact | None:
        known = self._memory.get(name)
        if known is None or known.changed_to or not self._stands(known) or name in self._doubted:
            return None
        return known.artifact

    def names(self, digest: Digest) -> tuple[TargetPath, ...]:
        return tuple(known.artifact.target for known in self._memory.with_digest(digest))

    async def forget(self, name: TargetPath) -> bool:
        forgotten = await self._memory.forget(name)
        self._fresh_until.pop(name, None)
        self._doubted.discard(name)
        self._count_targets()
        return forgotten

    def status(self) -> CatalogStatus:
        return CatalogStatus(self._settings.mode, len(self._memory), self._last_refresh)

    async def look(self, name: TargetPath) -> Sighting:
        known = self._memory.get(name)
        standing = known if known and self._stands(known) else None
        fresh_for_s = self._fresh_until.get(name, float("-inf")) - self._monotonic()
        if standing and fresh_for_s > 0:
            return _sighting(name, known, standing, fresh_for_s=fresh_for_s)
        try:
            async with asyncio.timeout(self._deadline_s if standing else None):
                said = await self._ask_twice(name, known, None)
        except _Unread as unread:
            return Sighting(name, known, unread_bytes=unread.size_bytes)
        except TimeoutError:
            return _unseen(
                name, known, standing, Unreachable(f"the origin gave no answer within {self._deadline_s:g} s")
            )
        except (OriginError, CatalogError) as error:
            return _unseen(name, known, standing, error)
        return _sighting(name, known, said)

    # --- one lookup ----------------------------------------------------------------------------

    async def _look_up(self, name: TargetPath, lookup: Lookup) -> Remembered:
        """Ask the origin, and remember what it says.

        Raises:
            CatalogError: it says that there is none, or what it says can't be used.
            OriginError: it gives no answer, and nothing is known.
            StoreUnusable: a digest was seen that can't be remembered.
        """
        known = self._memory.get(name)
        try:
            now_known = await self._ask_twice(name, known, lookup)
        except Missing:
            await self._withdraw(name)
            raise UnknownTarget(f"the origin has no '{name}'") from None
        except OriginError as error:
            if not known or not self._stands(known):
                raise
            log.info("known_target_not_refreshed", target=name, reason=error.reason, detail=str(error))
            self._fresh_until[name] = self._monotonic() + min(_HOLD_OFF_S, self._settings.refresh)
            return known
        except CatalogError as error:
            self._report(name, error)
            raise
        self._doubted.discard(name)
        if self._memory.get(name) is not known:  # forgotten while the origin was being asked
            return await self._look_up(name, lookup)
        if now_known != known:
            await self._memory.keep(now_known)
            self._count_targets()
        if now_known.changed_to:
            self._report(name, _change(now_known))
        self._fresh_until[name] = self._monotonic() + self._settings.refresh
        return now_known

    async def _ask_twice(self, name: TargetPath, known: Remembered | None, lookup: Lookup | None) -> Remembered:
        """Ask once more where the object was replaced meanwhile, or some requests were not even sent.

        A circuit that is half open lets one request pass: once that is answered, the others may follow.
        """
        try:
            return await self._ask(name, known, lookup)
        except RevisionChanged:
            return await self._ask(name, known, lookup)
        except Unreachable as error:
            if error.retry_after_s is None:
                raise
            return await self._ask(name, known, lookup)

    async def _ask(self, name: TargetPath, known: Remembered | None, lookup: Lookup | None) -> Remembered:
        found = None
        if known and self._stands(known) and not known.changed_to and known.artifact.pieces:
            # The usual refresh is one HEAD. What is known without pieces is asked for in full:
            # that they are absent is never remembered.
            found = await self._head(name)
            if found.etag == known.artifact.etag:
                return known
        found, pieces_file, checksum_file = await self._read(name, found)
        if pieces_file is not None:
            self._just_read.put(name + PIECES_SUFFIX, pieces_file)
        voucher = vouch(name, found, pieces_file=pieces_file, checksum_file=checksum_file)
        if voucher is None:
            digest = await self._digest_by_reading(found, known, lookup)
            voucher = Voucher(digest, None, VouchedBy.READING)
        return remember(known, name, found, voucher, now=self._wall())

    async def _read(self, name: TargetPath, found: ObjectInfo | None) -> tuple[ObjectInfo, bytes | None, bytes | None]:
        """Read what lies beside the object, and unless it was found already the object's own state, in one round."""
        async with asyncio.TaskGroup() as group:
            pieces = group.create_task(_outcome(self._beside, name + PIECES_SUFFIX, MAX_PIECES_FILE_BYTES))
            checksum = group.create_task(_outcome(self._beside, name + CHECKSUM_SUFFIX, MAX_CHECKSUM_BYTES))
            head = await _outcome(self._head, name) if found is None else found
            if isinstance(head, WaystationError):
                pieces.cancel()
                checksum.cancel()
        # The object's own answer weighs more: where it is missing, nothing else matters.
        return _value(head), _value(pieces.result()), _value(checksum.result())

    async def _head(self, name: TargetPath) -> ObjectInfo:
        try:
            found = await self._origin.head(name)
        except Missing:
            self._answered()
            raise
        self._answered()
        return found

    async def _beside(self, key: str, limit_bytes: int) -> bytes | None:
        try:
            _, body = await self._origin.get(key, limit_bytes=limit_bytes)
        except Missing:
            return None
        except TooLarge as error:
            raise MalformedChecksum(f"{key} has more than {limit_bytes} bytes") from error
        return body

    async def _digest_by_reading(self, found: ObjectInfo, known: Remembered | None, lookup: Lookup | None) -> Digest:
        if not self._pins_first:
            raise NoChecksum(f"nothing vouches for '{found.key}': no .pieces, no .sha256, no checksum on record")
        if known and known.artifact.etag == found.etag:
            return known.artifact.digest
        if known and known.changed_to and known.changed_to.etag == found.etag:
            return known.changed_to.digest
        if lookup is None:
            raise _Unread(found.size_bytes)
        lookup.unhurried = True
        async with self._readings:
            return await digest_of(
                self._origin, found.key, etag=found.etag, size_bytes=found.size_bytes, metrics=self._metrics
            )

    # --- what was learned ----------------------------------------------------------------------

    def _compare(self, listed: Listed) -> None:
        """Take what a listing shows of a known target for the answer to its next HEAD."""
        known = self._memory.get(listed.target)
        if known is None:
            return
        gained_pieces = listed.has_pieces and known.artifact.pieces is None
        if listed.etag == known.artifact.etag and self._stands(known) and not known.changed_to and not gained_pieces:
            self._doubted.discard(listed.target)
            self._fresh_until[listed.target] = self._monotonic() + self._settings.refresh
        else:
            self._doubted.add(listed.target)
            self._fresh_until.pop(listed.target, None)

    def _stands(self, known: Remembered) -> bool:
        """Whether what is known may be used while the origin gives no answer."""
        return not known.withdrawn and (self._pins_first or not known.pinned)

    async def _withdraw(self, name: TargetPath) -> None:
        known = self._memory.get(name)
        if known and not known.withdrawn:
            log.info("target_withdrawn", target=name, advice="Its digest stays remembered until it is forgotten.")
            await self._memory.keep(replace(known, withdrawn=True))

    def _answered(self) -> None:
        self._last_refresh = self._wall()
        self._metrics.catalog_last_refresh.set(self._last_refresh)

    def _count_targets(self) -> None:
        self._metrics.catalog_targets.set(len(self._memory))

    def _report(self, name: TargetPath, error: CatalogError) -> None:
        if isinstance(error, Inconsistent | MalformedChecksum | TargetChanged):
            self._metrics.verification_failures.labels("catalog").inc()
        log.warning("target_refused", target=name, reason=error.reason, detail=str(error), advice=error.advice)


class _Unread(Exception):
    """Only reading the whole object would tell, and nobody asked for that."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self.size_bytes = size_bytes


def _sighting(
    name: TargetPath,
    before: Remembered | None,
    now: Remembered,
    *,
    fresh_for_s: float | None = None,
    not_refreshed: OriginError | None = None,
) -> Sighting:
    refusal = _change(now) if now.changed_to else None
    return Sighting(name, before, None if refusal else now, fresh_for_s, not_refreshed, refusal)


def _unseen(
    name: TargetPath, before: Remembered | None, standing: Remembered | None, error: OriginError | CatalogError
) -> Sighting:
    """What holds where asking ended with an error, as `resolve` does it."""
    if isinstance(error, Missing):
        return Sighting(name, before, refusal=UnknownTarget(f"the origin has no '{name}'"))
    if standing and isinstance(error, OriginError):
        return _sighting(name, before, standing, not_refreshed=error)
    return Sighting(name, before, refusal=error)


def _released(known: Remembered) -> Artifact:
    if known.changed_to:
        raise _change(known)
    return known.artifact


def _change(known: Remembered) -> TargetChanged:
    said = known.changed_to.digest if known.changed_to else None
    return TargetChanged(f"'{known.artifact.target}' was sha256 {known.artifact.digest}, the origin now says {said}")


async def _outcome(ask: Callable[_P, Awaitable[_T]], *args: _P.args, **kwargs: _P.kwargs) -> _T | WaystationError:
    """Make an error a value, so that of several answers the one that matters most can be chosen."""
    try:
        return await ask(*args, **kwargs)
    except WaystationError as error:
        return error


def _value(outcome: _T | WaystationError) -> _T:
    if isinstance(outcome, WaystationError):
        raise outcome
    return outcome
