"""A page of the targets that a hub has, as JSON: written by its mirror, read by those whose origin it is.

    {"targets": [{"target": …, "sha256": … | null, "size_bytes": …, "modified": …}, …], "next": … | null}

`next` is what to ask for behind; null: nothing follows. `sha256` is null where nobody has asked the hub for that
target yet.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from waystation.errors import BadTarget
from waystation.model import TargetPath, parse_digest, parse_target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from waystation.model import Digest

PAGE_TARGETS = 250
MAX_PAGE_BYTES = 2 * 1024 * 1024
"""No valid page is longer: a name has at most 1 KiB, which JSON may make six of."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One target of a list."""

    target: TargetPath
    sha256: Digest | None
    size_bytes: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """Targets in the order of their UTF-8 bytes, and where the next page begins."""

    entries: Sequence[Entry]
    next: TargetPath | None


class MalformedPage(ValueError):
    """It is not a page, or not the one that was asked for."""


def dump_page(page: Page) -> bytes:
    """Write a page."""
    targets = [
        {
            "target": entry.target,
            "sha256": entry.sha256,
            "size_bytes": entry.size_bytes,
            "modified": entry.modified.isoformat(),
        }
        for entry in page.entries
    ]
    return json.dumps({"targets": targets, "next": page.next}).encode() + b"\n"


def parse_page(body: bytes, *, prefix: str, after: str) -> Page:
    """Read the page that was asked for with this `prefix` and `after`.

    Raises:
        MalformedPage: it is something else, so that following it could lead anywhere, or round in circles.
    """
    try:
        told = json.loads(body)
        entries = tuple(map(_entry, told["targets"]))
        following = None if told["next"] is None else parse_target(told["next"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, BadTarget) as error:
        raise MalformedPage("it is no page of targets") from error
    if len(entries) > PAGE_TARGETS:
        raise MalformedPage(f"it has {len(entries)} targets, at most {PAGE_TARGETS} are a page")
    last = after
    for entry in entries:
        if entry.target <= last:  # code points sort as their UTF-8 bytes do
            raise MalformedPage("its targets are not in order, or not behind the page before")
        if not entry.target.startswith(prefix):
            raise MalformedPage("it has targets that do not begin as asked")
        last = entry.target
    if following is not None and (not entries or following != last):
        raise MalformedPage("its next page does not follow it")
    return Page(entries, following)


def _entry(told: dict[str, Any]) -> Entry:
    size_bytes = told["size_bytes"]
    modified = datetime.fromisoformat(told["modified"])
    if type(size_bytes) is not int or size_bytes < 0 or modified.tzinfo is None:
        raise ValueError("size_bytes is no size, or modified has no time zone")
    try:
        modified = modified.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("modified is in no year") from error
    return Entry(
        parse_target(told["target"]),
        None if told["sha256"] is None else parse_digest(told["sha256"]),
        size_bytes,
        modified,
    )
