"""The heads of answers, byte by byte."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from waystation.mirror.answers import of_document, reply_head, representation_head
from waystation.mirror.ranges import Choice
from waystation.mirror.replies import Reply
from waystation.model import Span

SHOWN = of_document(b"0123456789", modified=datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC), content_type="text/x")


def fields(head: bytes) -> dict[str, str]:
    assert head.endswith(b"\r\n\r\n")
    lines = head[:-4].decode("latin-1").split("\r\n")
    return {"": lines[0], **dict(line.split(": ", 1) for line in lines[1:])}


def test_the_whole_a_part_and_what_is_known_describe_the_same_bytes() -> None:
    whole = fields(representation_head(SHOWN, Choice(200, Span(0, 10)), keep_alive=True))
    part = fields(representation_head(SHOWN, Choice(206, Span(2, 5)), keep_alive=True))
    known = fields(representation_head(SHOWN, Choice(304, Span(0, 0)), keep_alive=False))
    assert (whole[""], whole["Content-Length"]) == ("HTTP/1.1 200 OK", "10")
    assert (part[""], part["Content-Length"]) == ("HTTP/1.1 206 Partial Content", "3")
    assert part["Content-Range"] == "bytes 2-4/10"
    assert known[""] == "HTTP/1.1 304 Not Modified"
    assert "Content-Length" not in known
    assert whole["Last-Modified"] == "Sun, 06 Nov 1994 08:49:37 GMT"
    for name in ("ETag", "Repr-Digest", "Last-Modified", "Accept-Ranges"):
        assert whole[name] == part[name] == known[name]
    assert ("Connection" in whole, known["Connection"]) == (False, "close")


def test_nothing_was_modified_in_the_future() -> None:
    ahead = of_document(b"x", modified=datetime.now(UTC) + timedelta(days=1), content_type="text/x")
    head = fields(representation_head(ahead, Choice(200, Span(0, 1)), keep_alive=True))
    assert parsedate_to_datetime(head["Last-Modified"]) <= parsedate_to_datetime(head["Date"])


def test_a_reply_carries_its_own_fields() -> None:
    head = fields(reply_head(Reply(405, b"no\n", (("Allow", "GET, HEAD"),)), keep_alive=True))
    assert (head[""], head["Content-Length"], head["Allow"]) == ("HTTP/1.1 405 Method Not Allowed", "3", "GET, HEAD")
