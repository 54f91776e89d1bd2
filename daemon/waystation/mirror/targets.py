"""The list of targets for those whose hub this is: a page at a time, and one listing for all who ask the same."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from waystation.errors import MalformedRequest, TooManyQuestions, WaystationError
from waystation.model import MAX_TARGET_BYTES
from waystation.origin.hub_pages import PAGE_TARGETS, Page, dump_page

if TYPE_CHECKING:
    from collections.abc import Callable

    from waystation.catalog.interface import Catalog
    from waystation.origin.hub_pages import Entry

KEPT_PAGES = 64
"""Of a page with names of common length some 40 KB each."""
MOST_AT_ONCE = 256
"""Pages that are being made; they go on when those who asked for them leave."""

_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\]")


@dataclass(frozen=True, slots=True)
class Asked:
    """Which page is asked for."""

    prefix: str = ""
    after: str = ""


@dataclass(slots=True)
class _Listing:
    """A page that is being made, or was made a moment ago."""

    made: asyncio.Task[bytes | WaystationError]
    fresh_until: float = field(default=float("inf"))


class TargetPages:
    """Gives pages; one that is younger than the catalog's refresh is given again, and nobody is asked for it."""

    def __init__(self, catalog: Catalog, *, refresh_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._catalog = catalog
        self.refresh_s = refresh_s
        self._monotonic = monotonic
        self._listings: dict[Asked, _Listing] = {}

    async def page(self, query: str) -> bytes:
        """Give the page that a query asks for, as JSON.

        Raises:
            MalformedRequest: it asks for something else.
            OriginError: the origin can't be listed now.
        """
        asked = parse_query(query)
        listing = self._listings.get(asked)
        if listing is None or self._monotonic() >= listing.fresh_until:
            if sum(not each.made.done() for each in self._listings.values()) >= MOST_AT_ONCE:
                raise TooManyQuestions(f"{MOST_AT_ONCE} other pages are being listed")
            listing = _Listing(asyncio.create_task(self._make(asked)))
            listing.made.add_done_callback(lambda _: self._made(asked, listing))
        self._listings.pop(asked, None)
        self._listings[asked] = listing  # the one asked for last is the last to go
        self._let_go()
        # Whoever leaves must not take the listing with it: others may wait for it too.
        outcome = await asyncio.shield(listing.made)
        if isinstance(outcome, WaystationError):
            raise outcome.with_traceback(None)
        return outcome

    async def close(self) -> None:
        """Give up what is being listed."""
        running = [listing.made for listing in self._listings.values() if not listing.made.done()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    async def _make(self, asked: Asked) -> bytes | WaystationError:
        entries: list[Entry] = []
        try:
            async with aclosing(self._catalog.entries(asked.prefix, after=asked.after)) as found:
                async for entry in found:
                    if len(entries) == PAGE_TARGETS:
                        return dump_page(Page(entries, next=entries[-1].target))
                    entries.append(entry)
        except WaystationError as error:
            return error
        return dump_page(Page(entries, next=None))

    def _made(self, asked: Asked, listing: _Listing) -> None:
        task = listing.made
        if task.cancelled() or task.exception() or isinstance(task.result(), WaystationError):
            if self._listings.get(asked) is listing:
                del self._listings[asked]
        else:
            listing.fresh_until = self._monotonic() + self.refresh_s

    def _let_go(self) -> None:
        """Keep the pages that were asked for last; what somebody waits for stays."""
        surplus = len(self._listings) - KEPT_PAGES
        done = [asked for asked, listing in self._listings.items() if listing.made.done()]
        for asked in done[: max(0, surplus)]:
            del self._listings[asked]


def parse_query(query: str) -> Asked:
    """Read ``prefix=…&after=…``, each percent-encoded, each at most once, both may be left out.

    Raises:
        MalformedRequest: it is something else.
    """
    given: dict[str, str] = {}
    for pair in query.split("&") if query else ():
        name, equals, value = pair.partition("=")
        if name not in ("prefix", "after") or not equals or name in given:
            raise MalformedRequest("targets are listed with prefix=… and after=…, each once at most")
        given[name] = _decoded(value)
    return Asked(**given)


def _decoded(value: str) -> str:
    if _PERCENT.search(value):
        raise MalformedRequest("a % in the query is not followed by two hexadecimal digits")
    raw = unquote_to_bytes(value)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise MalformedRequest("the decoded query is not UTF-8") from None
    if len(raw) > MAX_TARGET_BYTES or _UNSAFE.search(text):
        raise MalformedRequest("the query is longer than any target's name, or has a character that no name has")
    return text
