"""The range that a flight needs first, asked for while nobody may use its bytes yet."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from waystation.model import Span
    from waystation.origin.interface import Reader, Source


class AskedAhead:
    """A source that is asked for one span before anybody reads it; the first read takes the answer over.

    The origin's time to its first byte passes while the layer is fetched and room is made. Only the
    answer's head is read ahead: its bytes stay in the socket until there is a check for them.
    """

    def __init__(self, source: Source, span: Span) -> None:
        self._source = source
        self._span = span
        self._answer: Future[tuple[Reader, ExitStack]] = Future()
        self._lock = Lock()
        self._taken = False

    def ask(self, buffer: memoryview) -> None:  # noqa: ARG002 - what a worker thread brings along
        """Ask, in a worker thread; an error waits for whoever reads the span."""
        if not self._answer.set_running_or_notify_cancel():
            return
        opened = ExitStack()
        try:
            reader = opened.enter_context(self._source.read(self._span))
        except BaseException as error:  # noqa: BLE001 - raised again by the read
            self._answer.set_exception(error)
        else:
            self._answer.set_result((reader, opened))

    @contextmanager
    def read(self, span: Span) -> Iterator[Reader]:
        """Take the answer over, where it is for this span; another span gives it up, and is asked for as usual."""
        first = self._take()
        if first and span == self._span:
            reader, opened = self._answer.result()
            with opened:
                yield reader
            return
        if first:
            self._give_up()
        with self._source.read(span) as reader:
            yield reader

    def close(self) -> None:
        """Close the source, and the answer that nobody took."""
        self._source.close()
        if self._take():
            self._give_up()

    def _take(self) -> bool:
        """Whether the caller is the first one here: the answer is its own."""
        with self._lock:
            first, self._taken = not self._taken, True
        return first

    def _give_up(self) -> None:
        """End the answer now, or as soon as it comes; one that was not asked for yet never will be."""
        if not self._answer.cancel():
            self._answer.add_done_callback(_end)


def _end(answer: Future[tuple[Reader, ExitStack]]) -> None:
    if not answer.exception():
        _, opened = answer.result()
        opened.close()
