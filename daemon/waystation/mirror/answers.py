"""The head of an answer, as bytes: what describes a representation is written once, not for every request."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING

from waystation.mirror.replies import phrase

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from waystation.mirror.ranges import Choice
    from waystation.mirror.replies import Reply
    from waystation.model import Artifact, Digest

ARTIFACT_TYPE = "application/octet-stream"

_CLOSE = b"Connection: close\r\n\r\n"


@dataclass(frozen=True, slots=True, eq=False)
class Representation:
    """What HTTP says of bytes that never change: the ETag is their sha256, and so is the Repr-Digest (RFC 9530)."""

    etag: str
    size_bytes: int
    modified_s: int
    fields: bytes
    """The header lines that every answer about it carries."""


def of_artifact(artifact: Artifact) -> Representation:
    """Describe an artifact's bytes."""
    return _represent(artifact.digest, artifact.size_bytes, artifact.modified, ARTIFACT_TYPE)


def of_document(body: bytes, *, modified: datetime, content_type: str) -> Representation:
    """Describe a small body that goes with an artifact."""
    return _represent(sha256(body).hexdigest(), len(body), modified, content_type)


@lru_cache(maxsize=1024)
def _represent(digest: Digest | str, size_bytes: int, modified: datetime, content_type: str) -> Representation:
    modified_s = min(int(modified.timestamp()), int(time.time()))  # RFC 9110 §8.8.2.1: never in our future
    etag = f'"{digest}"'
    fields = {
        "Content-Type": content_type,
        "ETag": etag,
        "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(digest)).decode()}:",
        "Last-Modified": formatdate(modified_s, usegmt=True),
        "Accept-Ranges": "bytes",
    }
    return Representation(etag, size_bytes, modified_s, _lines(fields.items()))


def representation_head(shown: Representation, choice: Choice, *, keep_alive: bool) -> bytes:
    """Write the head of a 200, 206 or 304 (RFC 9110 §15.3.7, §15.4.5)."""
    code, span = choice.code, choice.span
    if code == HTTPStatus.OK:
        return _whole_head(shown, keep_alive, int(time.time()))
    if code == HTTPStatus.NOT_MODIFIED:
        return _head(code, shown.fields, keep_alive=keep_alive)
    part = b"Content-Length: %d\r\nContent-Range: bytes %d-%d/%d\r\n"
    fields = shown.fields + part % (len(span), span.start, span.stop - 1, shown.size_bytes)
    return _head(code, fields, keep_alive=keep_alive)


@lru_cache(maxsize=256)
def _whole_head(shown: Representation, keep_alive: bool, now_s: int) -> bytes:  # noqa: FBT001, ARG001 - the cache's key
    return _head(200, shown.fields + b"Content-Length: %d\r\n" % shown.size_bytes, keep_alive=keep_alive)


def reply_head(reply: Reply, *, keep_alive: bool) -> bytes:
    """Write the head of an answer from memory."""
    fields = (("Content-Type", reply.content_type), ("Content-Length", str(len(reply.body))), *reply.fields)
    return _head(reply.code, _lines(fields), keep_alive=keep_alive)


def _head(code: int, fields: bytes, *, keep_alive: bool) -> bytes:
    return b"".join((_status_line(code), _date_line(int(time.time())), fields, b"\r\n" if keep_alive else _CLOSE))


@lru_cache(maxsize=64)
def _status_line(code: int) -> bytes:
    return f"HTTP/1.1 {code} {phrase(code)}\r\n".encode("ascii")


@lru_cache(maxsize=2)
def _date_line(now_s: int) -> bytes:
    return f"Date: {formatdate(now_s, usegmt=True)}\r\n".encode("ascii")


def _lines(fields: Iterable[tuple[str, str]]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in fields).encode("latin-1")
