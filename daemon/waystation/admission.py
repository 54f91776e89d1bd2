"""The one way from what someone asks for to an artifact, or to a refusal in words."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, ClassVar

from waystation.errors import BadTarget, CatalogError, OriginError, UnknownTarget
from waystation.model import ARCH_ALIASES, TargetPath, parse_digest, parse_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from waystation.catalog.interface import Catalog
    from waystation.catalog.sighting import Sighting
    from waystation.config import Settings
    from waystation.model import Artifact

_DEADLINE_S = 2.0
"""So long a name that was absent before keeps its alias waiting."""


class Admission:
    """Admits names and digests; knows spellings, and leaves to the catalog what they must be."""

    reloads: ClassVar[frozenset[str]] = frozenset({"catalog.refresh"})

    def __init__(
        self,
        catalog: Catalog,
        *,
        refresh_s: float = 30.0,
        monotonic: Callable[[], float] = time.monotonic,
        deadline_s: float = _DEADLINE_S,
    ) -> None:
        self._catalog = catalog
        self._refresh_s = refresh_s
        self._deadline_s = deadline_s
        self._monotonic = monotonic
        # Names whose alias answered for them: as fresh as everything else that is known, so that a
        # job's ${attr.cpu.arch} costs no request each time. There can be no more of them than targets.
        self._absent_until: dict[TargetPath, float] = {}

    def reload(self, settings: Settings) -> None:
        """Go by these from the next name on."""
        self._refresh_s = settings.catalog.refresh

    async def admit(self, name: str, *, fresh: bool = False) -> Artifact:
        """Find what a name stands for: its own target, else the same one spelled with the kernel's arch.

        Raises:
            BadTarget: no target can be named so.
            CatalogError, OriginError: as `Catalog.resolve` says.
        """
        target = parse_target(name)
        alias = kernel_arch_spelling(target)
        if alias is None:
            return await self._catalog.resolve(target, fresh=fresh)
        if not fresh and self._monotonic() < self._absent_until.get(target, float("-inf")):
            return await self._catalog.resolve(alias)
        return await self._admit_either(target, alias, fresh=fresh)

    async def admit_digest(self, text: str, *, fresh: bool = False) -> Artifact:
        """Find a known target that has these bytes, and still stands.

        Raises:
            BadTarget: it is no sha256.
            UnknownTarget: no known target has it.
            CatalogError: the target that had it is refused.
        """
        try:
            digest = parse_digest(text)
        except ValueError as error:
            raise BadTarget(str(error), advice="A blob is named by the 64 hexadecimal digits of its sha256.") from None
        refusal: CatalogError = UnknownTarget(f"no known target has sha256 {digest}")
        tried: set[TargetPath] = set()
        while (known := self._catalog.by_digest(digest)) and known.target not in tried:
            tried.add(known.target)
            try:
                artifact = await self._catalog.resolve(known.target, fresh=fresh)
            except CatalogError as error:
                refusal = error
            else:
                if artifact.digest == digest:
                    return artifact
        raise refusal

    async def look(self, name: str) -> tuple[Sighting, ...]:
        """Say what `admit` would meet now, changing nothing: the name, and behind it the spelling that answers for it.

        Raises:
            BadTarget: no target can be named so.
        """
        target = parse_target(name)
        own = await self._catalog.look(target)
        alias = kernel_arch_spelling(target)
        if alias is None or not isinstance(own.refusal, UnknownTarget | OriginError):
            return (own,)
        other = await self._catalog.look(alias)
        return (own,) if isinstance(other.refusal, UnknownTarget) else (own, other)

    async def _admit_either(self, target: TargetPath, alias: TargetPath, *, fresh: bool) -> Artifact:
        was_absent = target in self._absent_until
        try:
            async with asyncio.timeout(self._deadline_s if was_absent else None):
                artifact = await self._catalog.resolve(target, fresh=fresh)
        except UnknownTarget as refusal:
            artifact = await self._admit_alias(alias, refusal, fresh=fresh)
        except (OriginError, TimeoutError) as refusal:
            # Nothing says that the name exists, and a dead origin must not take away what its alias still has.
            artifact = await self._admit_alias(alias, refusal, fresh=fresh)
            if not was_absent:
                return artifact
        else:
            self._absent_until.pop(target, None)
            return artifact
        self._absent_until[target] = self._monotonic() + self._refresh_s
        return artifact

    async def _admit_alias(self, alias: TargetPath, refusal: Exception, *, fresh: bool) -> Artifact:
        try:
            return await self._catalog.resolve(alias, fresh=fresh)
        except UnknownTarget:
            if isinstance(refusal, TimeoutError):
                raise
            raise refusal from None


def kernel_arch_spelling(target: TargetPath) -> TargetPath | None:
    """Spell a name that ends in ``${attr.cpu.arch}`` with ``${attr.kernel.arch}``; None for all others."""
    for alias, arch in ARCH_ALIASES.items():
        if target.endswith(f"-{alias}"):
            return TargetPath(target.removesuffix(alias) + arch)
    return None
