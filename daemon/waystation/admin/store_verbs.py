"""Verbs about what the store holds: list, verify, pin, unpin, evict; a blob is named by target or by sha256."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from waystation.admin.verbs import Arguments, Verb
from waystation.admission import kernel_arch_spelling
from waystation.errors import BadTarget, NotStored, UnknownTarget
from waystation.model import Digest, parse_digest, parse_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from waystation.admission import Admission
    from waystation.catalog.interface import Catalog
    from waystation.status import BlobStatus
    from waystation.store.interface import Store

BLOBS_AT_ONCE = 500
"""So many are described before the loop may do something else."""
OPERATOR = "operator"
"""Who owns the pins that a person sets."""
_DIGITS = re.compile(r"[0-9a-fA-F]{12,63}")
"""So many of a sha256's first digits name a blob, where no other one has the same."""


class StoreVerbs:
    """The verbs of `waystation store`."""

    def __init__(
        self, store: Store, catalog: Catalog, admission: Admission, *, pins_changed: Callable[[], None]
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._admission = admission
        self._pins_changed = pins_changed
        self._pinning = asyncio.Lock()

    def verbs(self) -> tuple[Verb, ...]:
        return (
            Verb("/store/ls", self._list, changes=False),
            Verb("/store/verify", self._verify, changes=False),
            Verb("/store/pin", self._pin),
            Verb("/store/unpin", self._unpin),
            Verb("/store/evict", self._evict),
        )

    async def _list(self, _: Arguments) -> list[dict[str, Any]]:
        """What is stored, and what is pinned without being here; clients are served meanwhile."""
        digests = self._store.digests()
        listed: list[dict[str, Any]] = []
        for count, digest in enumerate(digests, start=1):
            if blob := self._store.blob(digest):
                listed.append({**self._named(digest), **_shown(blob)})
            if count % BLOBS_AT_ONCE == 0:
                await asyncio.sleep(0)
        absent = frozenset().union(*self._store.pins().values()).difference(digests)
        return listed + [
            {**self._named(digest), "state": "absent", "pinned_by": self._owners(digest)} for digest in sorted(absent)
        ]

    async def _verify(self, arguments: Arguments) -> dict[str, Any]:
        digest = self._meant(arguments.text("name"))
        try:
            good = await self._store.verify(digest)
        except NotStored as error:
            return {**self._named(digest), "outcome": "absent", "why": str(error)}
        if good:
            return {**self._named(digest), "outcome": "good", "why": None}
        return {**self._named(digest), "outcome": "bad", "why": "its bytes were not right; it is served no more"}

    async def _pin(self, arguments: Arguments) -> dict[str, Any]:
        name = arguments.text("name")
        digest = self._known(name) or (await self._admission.admit(name)).digest
        return await self._change_pins(digest, pinned=True)

    async def _unpin(self, arguments: Arguments) -> dict[str, Any]:
        return await self._change_pins(self._meant(arguments.text("name")), pinned=False)

    async def _evict(self, arguments: Arguments) -> dict[str, Any]:
        digest = self._meant(arguments.text("name"))
        await self._store.evict(digest)
        return self._named(digest)

    async def _change_pins(self, digest: Digest, *, pinned: bool) -> dict[str, Any]:
        async with self._pinning:  # the store takes whole sets, and two calls must not each write their own
            before = self._store.pins().get(OPERATOR, frozenset())
            after = before | {digest} if pinned else before - {digest}
            if after != before:
                await self._store.pin(OPERATOR, after)
                self._pins_changed()
        return {
            **self._named(digest),
            "changed": after != before,
            "stored": self._store.blob(digest) is not None,
            "pinned_by": self._owners(digest),
        }

    # --- names ---------------------------------------------------------------------------------

    def _meant(self, name: str) -> Digest:
        digest = self._known(name)
        if digest is None:
            raise UnknownTarget(
                f"nothing is known here of '{name}'", advice="`waystation store ls` shows what is stored."
            )
        return digest

    def _known(self, name: str) -> Digest | None:
        """Find whose digest is meant, without asking the origin: it may be away, or say something else by now."""
        if len(name) == 64 and (digest := _digest(name)):  # noqa: PLR2004 - of a sha256
            return digest
        target = parse_target(name)
        for spelling in (target, kernel_arch_spelling(target)):
            if spelling and (remembered := self._catalog.recall(spelling)):
                return remembered.artifact.digest
        return self._begins_with(name.lower()) if _DIGITS.fullmatch(name) else None

    def _begins_with(self, digits: str) -> Digest | None:
        here = frozenset(self._store.digests()).union(*self._store.pins().values())
        found = [digest for digest in here if digest.startswith(digits)]
        if len(found) > 1:
            raise BadTarget(f"{len(found)} blobs begin with {digits}", advice="Give more digits of the sha256.")
        return found[0] if found else None

    def _named(self, digest: Digest) -> dict[str, Any]:
        return {"sha256": digest, "targets": self._catalog.names(digest)}

    def _owners(self, digest: Digest) -> list[str]:
        return sorted(owner for owner, digests in self._store.pins().items() if digest in digests)


def _shown(blob: BlobStatus) -> dict[str, Any]:
    return {
        "state": "suspect" if blob.suspect else "stored",
        "size_bytes": blob.size_bytes,
        "pieces_bytes": blob.pieces_bytes,
        "used": blob.used,
        "verified": blob.verified,
        "leases": blob.leases,
        "pinned_by": blob.pinned_by,
    }


def _digest(text: str) -> Digest | None:
    try:
        return parse_digest(text)
    except ValueError:
        return None
