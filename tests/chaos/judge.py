"""Judges what a server sent back on one connection, from its bytes alone, against what was due."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chaos.sayings import Due

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping, Sequence

    from chaos.sayings import Request

CODES = frozenset({200, 206, 304, 400, 404, 405, 408, 412, 416, 421, 429, 431, 502, 503, 507})
"""Those of docs/http.md but 500, which is a fault of ours."""
_STATUS = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) [\x20-\x7e]+")
_FIELD = re.compile(rb"([A-Za-z0-9-]+): ([\x20-\x7e]*)")
_REASON = re.compile(r"[a-z_]{1,40}")
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class Wrong(Exception):
    """An answer that must not be."""


@dataclass(frozen=True)
class Judge:
    """Knows what may be served: `bodies` by path; and what may never be: `secrets`."""

    bodies: Mapping[str, bytes]
    secrets: Sequence[bytes]
    seen: Counter[tuple[int, str]] = field(repr=False)
    """Answers by code and reason."""

    def judge(self, requests: Sequence[Request], received: bytes, *, cut: bool = False) -> None:
        """Read all that came on a connection that is closed now; `cut`: the rest may have been lost on the way.

        Raises:
            Wrong: something of it must not be.
        """
        for secret in self.secrets:
            if secret in received:
                raise Wrong("bytes came that nobody may have")
        rest, closed = received, False
        for request in requests:
            if closed or (not rest and (cut or request.due is Due.ANYTHING)):
                break
            if not rest:
                raise Wrong(f"no answer, but {request.due.value} was due")
            if cut and not _is_whole(rest, request):
                return
            rest, closed, code = self._answer(request, rest)
            if request.due is Due.END and not (closed and 400 <= code < 500):
                raise Wrong(f"{code} {'with' if closed else 'without'} an end, but {request.due.value} was due")
        while rest and requests[-1].due is Due.ANYTHING and not closed:
            rest, closed, _ = self._answer(requests[-1], rest)
        if rest:
            raise Wrong(f"{len(rest)} bytes came behind the end: {rest[:60]!r}")

    def _answer(self, request: Request, rest: bytes) -> tuple[bytes, bool, int]:
        """Take one answer off; what is left, whether it says that it is the last, and its code."""
        head, end, rest = rest.partition(b"\r\n\r\n")
        status, *lines = head.split(b"\r\n")
        match = _STATUS.fullmatch(status)
        if not end or not match:
            raise Wrong(f"no head of HTTP: {head[:80]!r}")
        code = int(match[1])
        fields: dict[str, str] = {}
        for line in lines:
            parts = _FIELD.fullmatch(line)
            if not parts or parts[1].lower().decode() in fields:
                raise Wrong(f"a header line that is none, or twice: {line[:80]!r}")
            fields[parts[1].lower().decode()] = parts[2].decode()
        if code not in CODES:
            raise Wrong(f"{code}, which is documented nowhere, or is a fault: {rest[:200]!r}")
        without_body = code == 304 or (request.is_head and not (request.due is Due.END and rest))
        length = 0 if without_body else _length(fields)
        body, rest = rest[:length], rest[length:]
        if len(body) < length:
            raise Wrong(f"{len(body)} of {length} bytes of a body")
        self._check_body(request, code, fields, body)
        self.seen[code, fields.get("waystation-reason", "")] += 1
        return rest, fields.get("connection") == "close", code

    def _check_body(self, request: Request, code: int, fields: Mapping[str, str], body: bytes) -> None:
        if b"Traceback" in body or b'File "' in body:
            raise Wrong(f"a traceback: {body[:200]!r}")
        if code >= 400 and code != 503:
            if not _REASON.fullmatch(fields.get("waystation-reason", "")):
                raise Wrong(f"{code} without its reason")
            if body and body.count(b"\n") != 1:
                raise Wrong(f"a refusal that is not one line: {body[:200]!r}")
        expected = self.bodies.get(request.path.partition("?")[0])
        if expected is None or request.is_head or request.due is not Due.ANSWER:
            return
        if code == 200 and body != expected:
            raise Wrong(f"{request.path} came with other bytes")
        if code == 206:
            part = _RANGE.fullmatch(fields.get("content-range", ""))
            if not part or body != expected[int(part[1]) : int(part[2]) + 1] or int(part[3]) != len(expected):
                raise Wrong(f"a range of {request.path} came with other bytes than it says")


def _is_whole(rest: bytes, request: Request) -> bool:
    head, end, body = rest.partition(b"\r\n\r\n")
    length = re.search(rb"\r\nContent-Length: (\d+)", head)
    return bool(end) and (request.is_head or length is None or len(body) >= int(length[1]))


def _length(fields: Mapping[str, str]) -> int:
    told = fields.get("content-length", "")
    if not told.isdecimal() or "transfer-encoding" in fields:
        raise Wrong("an answer that does not say how long it is")
    return int(told)
