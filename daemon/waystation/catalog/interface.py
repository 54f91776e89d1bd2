"""What the rooms above need of a catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from waystation.catalog.remembered import Remembered
    from waystation.catalog.sighting import Sighting
    from waystation.model import Artifact, Digest, TargetPath
    from waystation.origin.hub_pages import Entry
    from waystation.status import CatalogStatus


class Catalog(Protocol):
    """Knows targets; not bytes, policy, pins or Nomad."""

    async def resolve(self, name: TargetPath, *, fresh: bool = False) -> Artifact:
        """Say what a target must be; `fresh` asks the origin whatever is remembered.

        Raises:
            UnknownTarget: the origin has no such key.
            NoChecksum: nothing vouches for its bytes.
            Inconsistent, MalformedChecksum: what vouches for it can't be used.
            TargetChanged: another digest than the one once seen.
            OriginError: the origin gave no answer, and nothing is remembered.
        """
        ...

    async def look(self, name: TargetPath) -> Sighting:
        """Say what `resolve` would answer now, and why; remember nothing, and read no object whole for it."""
        ...

    def list(self, pattern: str) -> AsyncIterator[TargetPath]:
        """Names in the origin that match a shell-style pattern (``*`` crosses slashes).

        What it shows of known ones counts: those that are as they were are as fresh as if each had been asked for.

        Raises:
            OriginError: the origin can't list, denies it, or is away.
        """
        ...

    def entries(self, prefix: str, *, after: str) -> AsyncGenerator[Entry]:
        """What the origin lists below a prefix and behind a name, with the digests of those that are known.

        What it shows counts as it does in `list`.

        Raises:
            OriginError: the origin can't list, denies it, or is away.
        """
        ...

    def by_digest(self, digest: Digest) -> Artifact | None:
        """A known target that has these bytes."""
        ...

    def recall(self, name: TargetPath) -> Remembered | None:
        """What is remembered of a name, refused or not; never waits, and asks nobody."""
        ...

    def standing(self, name: TargetPath) -> Artifact | None:
        """What a name stands for by all that is known; never waits, and asks nobody.

        None: nothing is remembered, it is refused, or the origin has listed another revision since.
        """
        ...

    def names(self, digest: Digest) -> tuple[TargetPath, ...]:
        """Every name that is remembered with this digest, refused or not."""
        ...

    async def forget(self, name: TargetPath) -> bool:
        """Drop what was once seen for a name, durably; False where nothing was."""
        ...

    def status(self) -> CatalogStatus:
        """A snapshot; never waits."""
        ...
