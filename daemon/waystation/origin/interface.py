"""What every origin promises: a read side of four verbs, and a writer that creates and never replaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from datetime import datetime
    from pathlib import Path

    from waystation.model import Digest, Span


MAX_OBJECT_BYTES = 2**63 - 1
"""No file is longer."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One revision of one key."""

    key: str
    size_bytes: int
    etag: str
    """As the origin writes it, quotes included; opaque."""
    modified: datetime
    sha256: Digest | None
    """What the origin itself has on record for the whole object, where it has: ``x-amz-meta-sha256``, else a
    stored SHA-256 checksum of type FULL_OBJECT."""
    served_at: datetime | None
    """The origin's clock when it answered."""
    sha256_from: Literal["metadata", "checksum"] | None = None
    """Which of the two `sha256` is."""


class Reader(Protocol):
    """The bytes of one span, in order; for one worker thread."""

    def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer, or less at the span's end (0 behind it).

        Blocks for at most the origin's stall timeout while no byte comes.

        Raises:
            Short: the body ended before the span did.
            Unreachable: no byte came within the stall timeout, or `abort` was called.
        """
        ...

    def abort(self) -> None:
        """Make a blocked `readinto` end with an error at once; from any thread, any number of times."""
        ...


class Source(Protocol):
    """The way to one revision's bytes, for worker threads: blocking, and safe to use from several at once."""

    def read(self, span: Span) -> AbstractContextManager[Reader]:
        """Ask for exactly `span` of that revision.

        Raises:
            Missing, Denied: the origin's definite answer.
            RevisionChanged: the key now holds another revision.
            Short: the origin did not answer with exactly this span.
            Unreachable: no answer within the stall timeout.
        """
        ...

    def close(self) -> None:
        """Give back idle connections; readers still in use fail."""
        ...


class Origin(Protocol):
    """The read side: s3, directory, http. One attempt a call; `resilient.py` wraps any of them.

    Keys are below the configured prefix. Every method may raise Denied or Unreachable.
    """

    async def head(self, key: str) -> ObjectInfo:
        """Describe the key's present revision.

        Raises:
            Missing: the origin says for certain that there is none.
        """
        ...

    async def get(self, key: str, *, limit_bytes: int) -> tuple[ObjectInfo, bytes]:
        """Read a small body whole (``.sha256``, ``.pieces``).

        Raises:
            Missing: there is none.
            TooLarge: it has more than `limit_bytes`.
        """
        ...

    def list(self, prefix: str, *, after: str = "") -> AsyncIterator[ObjectInfo]:
        """List keys that begin with `prefix`, those behind `after`, in the order of their UTF-8 bytes.

        Their `sha256` is None here. A hub lists targets alone, without the files that describe them; `etag` is empty
        for those that it has not asked about itself.

        Raises:
            NotListable: this origin can't.
        """
        ...

    async def source(self, key: str, *, if_match: str | None) -> Source:
        """Open the way to the bytes of the revision `if_match` (None: whichever is there)."""
        ...

    async def close(self) -> None:
        """Give back connections; no call may follow."""
        ...


class Watchable(Origin, Protocol):
    """An origin that may be able to tell what is new."""

    def changes(self, prefix: str) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """Be told of every key below `prefix` that was created or removed, from the time that the block is entered on.

        Nothing of what happened before is told, and what happens too fast may be left out: list as well.

        Raises:
            NotWatchable: this origin can't tell, or may not tell us.
            Unreachable: it can't be reached, or from within the block: it has fallen silent.
        """
        ...


class OriginWriter(Protocol):
    """The write side, in files of its own that the daemon never imports."""

    async def create(
        self, key: str, body: Path | bytes, *, sha256: Digest, progress: Callable[[int], None] | None = None
    ) -> str:
        """Create the key, whole or not at all, and return its ETag; what is there is never replaced.

        The body is hashed again as it is read: `sha256` is what it must be. `progress` is told the
        bytes written so far, from any thread. An origin that lets several writers win says so to none of
        them: whoever must know reads back what is there.

        Raises:
            AlreadyExists: the key is there (also when another writer was faster).
            Unconditional: the origin knows no such creation.
            SourceChanged: the body is no longer what was hashed.
        """
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...
