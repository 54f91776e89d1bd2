"""A lease on a blob."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from waystation.store.held import Held


class StoredBlob:
    """An open blob that is not evicted until it is closed; see `Blob`."""

    __slots__ = ("_held", "_release", "digest", "fd", "size_bytes")

    def __init__(self, held: Held, fd: int, release: Callable[[Held], None]) -> None:
        self.digest = held.digest
        self.fd = fd
        self.size_bytes = held.size_bytes
        self._held: Held | None = held
        self._release = release

    def close(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._release(held)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
