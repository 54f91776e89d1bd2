"""Which bytes a request asks for, and whether it wants them at all (RFC 9110 §13 and §14)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz
from functools import lru_cache
from typing import TYPE_CHECKING

from waystation.errors import PreconditionFailed, RangeNotSatisfiable
from waystation.model import Span

if TYPE_CHECKING:
    from collections.abc import Mapping

_RANGE = re.compile(r"([0-9]*)[ \t]*-[ \t]*([0-9]*)")
_ETAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_CONDITIONS = frozenset({"range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"})
_MAX_DIGITS = 18
_ENDLESS: int = 10**_MAX_DIGITS  # more bytes than any file has


@dataclass(frozen=True, slots=True)
class Choice:
    """What to answer: all of it (200), one part of it (206), or that the client has it already (304)."""

    code: int
    span: Span


def choose(fields: Mapping[str, str], *, method: str, etag: str, modified_s: int, size_bytes: int) -> Choice:
    """Evaluate a request's conditions and its range, in the order of RFC 9110 §13.2.2.

    `etag` is strong and quoted; header names are in lower case. Ranges are a GET's matter. Several
    ranges in one request are answered with the whole, which §14.2 allows; so is what can't be read.

    Raises:
        PreconditionFailed: If-Match or If-Unmodified-Since does not hold.
        RangeNotSatisfiable: the range begins behind the end.
    """
    whole = _whole(size_bytes)
    if _CONDITIONS.isdisjoint(fields):
        return whole
    if not _precondition_holds(fields, etag, modified_s):
        raise PreconditionFailed("the artifact is not the one that the request's condition names")
    if not _is_new_to_client(fields, etag, modified_s):
        return Choice(304, Span(0, 0))
    wanted = fields.get("range")
    if wanted is None or method != "GET" or not _range_may_apply(fields.get("if-range"), etag, modified_s):
        return whole
    span = parse_range(wanted, size_bytes)
    return whole if span is None else Choice(206, span)


@lru_cache(maxsize=1024)
def _whole(size_bytes: int) -> Choice:
    return Choice(200, Span(0, size_bytes))


def parse_range(text: str, size_bytes: int) -> Span | None:
    """Read a Range header; None where it is to be ignored: other units, several ranges, nonsense.

    Raises:
        RangeNotSatisfiable: it is well-formed and names no byte that is there.
    """
    unit, equals, listed = text.partition("=")
    parts = [part.strip(" \t") for part in listed.split(",")]
    parts = [part for part in parts if part]
    if not equals or unit.strip(" \t").lower() != "bytes" or len(parts) != 1:
        return None
    match = _RANGE.fullmatch(parts[0])
    if not match or not (match[1] or match[2]):
        return None
    if not match[1]:
        return _suffix(_number(match[2]), size_bytes)
    start = _number(match[1])
    stop = _number(match[2]) + 1 if match[2] else size_bytes
    if match[2] and stop <= start:
        return None
    if start >= size_bytes:
        raise RangeNotSatisfiable(
            f"the range begins behind the end, at byte {start} of {size_bytes}", size_bytes=size_bytes
        )
    return Span(start, min(stop, size_bytes))


def _suffix(length: int, size_bytes: int) -> Span | None:
    if length == 0:
        raise RangeNotSatisfiable("the range asks for the last 0 bytes", size_bytes=size_bytes)
    if size_bytes == 0:
        return None  # satisfiable, but no Content-Range can say so
    return Span(max(0, size_bytes - length), size_bytes)


def _number(digits: str) -> int:
    significant = digits.lstrip("0")[: _MAX_DIGITS + 1]
    return min(int(significant or "0"), _ENDLESS)


def _precondition_holds(fields: Mapping[str, str], etag: str, modified_s: int) -> bool:
    if (listed := fields.get("if-match")) is not None:
        return listed == "*" or ("", etag) in _ETAG.findall(listed)
    since = _date(fields.get("if-unmodified-since"))
    return since is None or modified_s <= since


def _is_new_to_client(fields: Mapping[str, str], etag: str, modified_s: int) -> bool:
    if (listed := fields.get("if-none-match")) is not None:
        return listed != "*" and all(known != etag for _, known in _ETAG.findall(listed))
    since = _date(fields.get("if-modified-since"))
    return since is None or modified_s > since


def _range_may_apply(condition: str | None, etag: str, modified_s: int) -> bool:
    """If-Range: the very same ETag (strong), or the very same date."""
    if condition is None:
        return True
    return condition == etag if '"' in condition else _date(condition) == modified_s


def _date(text: str | None) -> int | None:
    """Read an HTTP date (§5.6.7) as seconds since the epoch; None where it is none."""
    parts = parsedate_tz(text) if text else None
    if parts is None:
        return None
    try:
        seconds: int = mktime_tz(parts)
    except (ValueError, OverflowError):
        return None
    return seconds
