"""One artifact's bytes on their way into the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from waystation.store.spool_file import SpoolFile


class DiskSpool:
    """A flight's file in the store's spool folder, with all its room; see `Spool`."""

    def __init__(
        self,
        file: SpoolFile,
        *,
        suspect: frozenset[int],
        stored: bool = False,
        seal: Callable[[], Awaitable[None]],
        keep: Callable[[], None],
        discard: Callable[[], None],
    ) -> None:
        self.fd = file.fd
        self.suspect = suspect
        self.stored = stored
        self.window: int | None = None
        self._file = file
        self._seal = seal
        self._keep = keep
        self._discard = discard
        self._release: Callable[[], None] | None = None
        self._state: Literal["open", "sealing", "sealed", "closed"] = "open"

    def write(self, offset: int, data: memoryview) -> None:
        self._file.write(offset, data)

    def read(self, offset: int, buffer: memoryview) -> int:
        return self._file.read(offset, buffer)

    def free(self, below: int) -> None:
        """A file holds all its pieces at once."""

    async def commit(self) -> None:
        if self._state != "open":
            raise ValueError(f"a spool is committed once, while it is open; this one is {self._state}")
        self._state = "sealing"
        await self._seal()

    def sealed(self, release: Callable[[], None] | None) -> None:
        """Told by the store how the commit ended, also where its waiter was cancelled or has closed the spool.

        `release` ends the lease on the blob that this spool became; None: the commit failed.
        """
        self._release = release
        if self._state == "closed":
            self._finish()
        else:
            self._state = "sealed"

    def close(self, *, keep: bool) -> None:
        if self._state == "closed":
            return
        state, self._state = self._state, "closed"
        self._file.close()
        if state == "open":
            (self._keep if keep else self._discard)()
        elif state == "sealed":
            self._finish()

    def _finish(self) -> None:
        if self._release is not None:
            self._release()
        else:
            # After a sync that failed, the page cache no longer tells what is on the disk: nothing of it is kept.
            self._discard()
