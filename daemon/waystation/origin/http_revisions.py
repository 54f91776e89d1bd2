"""Which revision of a key an HTTP answer is of, and how to ask for that one alone; pure.

A strong ETag names a revision, and the server itself refuses another one (If-Match, RFC 9110 §13.1.1). Where there is
none, its place is taken by what can be compared: a weak ETag, else the size and Last-Modified. Two revisions that look
alike so are told apart by their digest, like everything else; a revision only says early, and in words, what changed.
"""

from __future__ import annotations

import re
from email.utils import format_datetime, parsedate_to_datetime

WEAK = "W/"

_ETAG = re.compile(r"[\x20-\x7e]{1,512}")
_OURS = "no ETag; "
_MODIFIED = "; modified "


def revision_of(*, etag: str | None, last_modified: str | None, size_bytes: int | None) -> str:
    """Name the revision that an answer is of, from its headers and the size of the whole object."""
    if etag and _ETAG.fullmatch(etag) and not etag.startswith(_OURS):
        return etag
    when = http_date(last_modified)
    return f"{_OURS}{size_bytes} bytes" + (f"{_MODIFIED}{when}" if when else "")


def conditions(revision: str) -> dict[str, str]:
    """Give the headers that ask for this revision alone; none where no header can say it."""
    if revision.startswith(_OURS):
        _, _, when = revision.partition(_MODIFIED)
        return {"If-Unmodified-Since": when} if when else {}
    return {} if revision.startswith(WEAK) else {"If-Match": revision}


def http_date(value: str | None) -> str | None:
    """Write a date anew, as RFC 9110 §5.6.7 has it; None where it is none."""
    try:
        return format_datetime(parsedate_to_datetime(value), usegmt=True) if value else None
    except (ValueError, OverflowError):
        return None
