"""The head of an HTTP/1.1 request, read strictly (RFC 9112 §2 to §5, RFC 9110 §5).

The mirror takes no request bodies (a head that announces one is the connection's last), so this
grammar is all that is needed of the protocol: what does not fit it exactly is refused, never repaired.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from waystation.errors import MalformedRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

END = b"\r\n\r\n"

_TCHARS = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rf"({_TCHARS}) ([\x21-\x7e]+) HTTP/1\.([01])")
_FIELD = re.compile(rf"({_TCHARS}):([\t -\x7e\x80-\xff]*)")
_LENGTH = re.compile(r"[0-9]{1,19}")
_KNOWN_BYTES = 512
_ONCE = frozenset({"host", "content-length", "transfer-encoding"})


@dataclass(frozen=True, slots=True)
class Head:
    """What a request says before its body, if it has one."""

    method: str
    target: str
    """As it came: not decoded, with its query."""
    host: str | None
    """None in HTTP/1.0 alone."""
    has_body: bool
    """Whether more follows that is no head."""
    keep_alive: bool
    """Whether another request may follow on this connection."""
    fields: Mapping[str, str]
    """Names in lower case; the values of a repeated field are joined by a comma."""


NO_REQUEST = Head("-", "", None, has_body=True, keep_alive=False, fields={})
"""Stands for what could not be read as a request."""


def parse_head(raw: bytes) -> Head:
    """Read a head that ends in `END`.

    Raises:
        MalformedRequest: it is not exactly what the grammar says.
    """
    return _parse_known(raw) if len(raw) <= _KNOWN_BYTES else _parse(raw)


def _parse(raw: bytes) -> Head:
    line, *lines = raw[: -len(END)].decode("latin-1").split("\r\n")
    request = _REQUEST_LINE.fullmatch(line)
    if not request:
        raise MalformedRequest("the first line is not like 'GET /artifacts/<app>/<file> HTTP/1.1'")
    method, target, minor = request.groups()
    fields: dict[str, str] = {}
    for field in lines:
        match = _FIELD.fullmatch(field)
        if not match:
            raise MalformedRequest("a header line is not like 'Name: value'")
        name, value = match[1].lower(), match[2].strip(" \t")
        if name in fields:
            if name in _ONCE:
                raise MalformedRequest(f"the header {name} stands there twice")
            value = f"{fields[name]}, {value}"
        fields[name] = value
    host = fields.get("host")
    if host is None and minor == "1":
        raise MalformedRequest("a request of HTTP/1.1 has a Host header")
    has_body = _announces_body(fields)
    keep_alive = minor == "1" and not has_body and not _wants_close(fields)
    return Head(method, target, host, has_body, keep_alive, fields)


_parse_known = lru_cache(maxsize=256)(_parse)
"""A machine's few clients send the same few heads again and again."""


def _announces_body(fields: Mapping[str, str]) -> bool:
    """RFC 9112 §6: exactly one of two headers says so; both together is how requests are smuggled."""
    length = fields.get("content-length")
    if length is None:
        return "transfer-encoding" in fields
    if "transfer-encoding" in fields or not _LENGTH.fullmatch(length):
        raise MalformedRequest("Content-Length is not one number, or stands beside Transfer-Encoding")
    return int(length) > 0


def _wants_close(fields: Mapping[str, str]) -> bool:
    options = fields.get("connection")
    return options is not None and "close" in (option.strip().lower() for option in options.split(","))
