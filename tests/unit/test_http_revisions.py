"""What stands for a revision, and how it is asked for."""

from __future__ import annotations

import pytest

from waystation.origin.http_revisions import conditions, revision_of

WHEN = "Fri, 02 Jan 2026 03:04:05 GMT"


def test_a_strong_etag_is_the_revision_and_its_own_condition() -> None:
    revision = revision_of(etag='"abc"', last_modified=WHEN, size_bytes=7)
    assert revision == '"abc"'
    assert conditions(revision) == {"If-Match": '"abc"'}


def test_a_weak_etag_is_compared_and_never_asked_for() -> None:
    """A server would answer 412 each time: If-Match compares strongly (RFC 9110 §13.1.1)."""
    revision = revision_of(etag='W/"abc"', last_modified=WHEN, size_bytes=7)
    assert revision == 'W/"abc"'
    assert conditions(revision) == {}


def test_without_an_etag_date_and_size_stand_for_it() -> None:
    revision = revision_of(etag=None, last_modified=WHEN, size_bytes=7)
    assert conditions(revision) == {"If-Unmodified-Since": WHEN}
    assert revision != revision_of(etag=None, last_modified=WHEN, size_bytes=8)
    assert revision != revision_of(etag=None, last_modified=WHEN.replace(":05", ":06"), size_bytes=7)
    assert revision != revision_of(etag=None, last_modified=None, size_bytes=7)


@pytest.mark.parametrize("modified", [None, "", "yesterday", "Fri, 99 Jan 2026 03:04:05 GMT", f"{WHEN}\r\nX: y"])
def test_a_date_that_is_none_is_not_sent_on(modified: str | None) -> None:
    for value in conditions(revision_of(etag=None, last_modified=modified, size_bytes=7)).values():
        assert value == WHEN


@pytest.mark.parametrize("etag", ["", 'W/"\xff"', '"\r\nX: y"', '"\x00"', f'"{"x" * 600}"', "no ETag; 7 bytes"])
def test_an_etag_that_no_header_can_carry_is_none(etag: str) -> None:
    assert conditions(revision_of(etag=etag, last_modified=None, size_bytes=7)) == {}
    assert revision_of(etag=etag, last_modified=None, size_bytes=7) == revision_of(
        etag=None, last_modified=None, size_bytes=7
    )
