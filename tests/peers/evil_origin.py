"""An origin made to be evil: a bucket, or a hub, that answers as it should until a test twists what it is asked.

`honest` is what a right server of that manner answers; a twist gives another answer, or None to leave it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from peers.scripted_http import Answer, ScriptedHttp
from waystation.config import OriginSettings
from waystation.pieces import BLOCK_BYTES, PiecesLine, TreeHasher, dump_pieces

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Manner = Literal["s3", "hub"]
Kind = Literal["small", "bulk", "list", "bucket"]
BUCKET = "evil"
MODIFIED = "Thu, 01 Jan 2026 00:00:00 GMT"


@dataclass(frozen=True, slots=True)
class Ask:
    """One request."""

    manner: Manner
    method: str
    kind: Kind
    key: str
    """Below the bucket or `/artifacts`; for a list, its prefix."""
    span: tuple[int, int] | None
    token: str
    """Where a list goes on."""


Twist = "Callable[[Ask], Answer | None]"


@dataclass
class EvilOrigin:
    """The objects, and what to do to those who ask for them."""

    manner: Manner
    objects: dict[str, bytes] = field(default_factory=dict)
    twist: Callable[[Ask], Answer | None] = lambda _: None
    asked: list[Ask] = field(default_factory=list)

    def serving(self) -> ScriptedHttp:
        return ScriptedHttp(lambda head: self.answer(parse(head, self.manner)))

    def settings(self, port: int, folder: Path, **changes: float) -> OriginSettings:
        """The settings of who reads it."""
        if self.manner == "hub":
            return OriginSettings(url=f"http://127.0.0.1:{port}/artifacts", **changes)  # type: ignore[arg-type]
        keys = folder / "keys"
        keys.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
        return OriginSettings(
            url=f"s3://{BUCKET}",
            endpoint_url=f"http://127.0.0.1:{port}",
            region="us-east-1",
            credentials_file=keys,
            **changes,  # type: ignore[arg-type]
        )

    def put(self, key: str, body: bytes, *, pieces: bool = False) -> None:
        """Publish."""
        digest = sha256(body).hexdigest()
        self.objects[key] = body
        self.objects[f"{key}.sha256"] = f"{digest}\n".encode()
        if pieces:
            hasher = TreeHasher(len(body), BLOCK_BYTES)
            hasher.update(body)
            tree, layer = hasher.finish()
            self.objects[f"{key}.pieces"] = dump_pieces(PiecesLine(digest, len(body), tree), layer)

    def answer(self, ask: Ask) -> Answer:
        self.asked.append(ask)
        return self.twist(ask) or self.honest(ask)

    def honest(self, ask: Ask) -> Answer:
        if ask.kind == "bucket":
            return ok(b"", ask)
        if ask.kind == "list":
            return self.page(ask, sorted(key for key in self.objects if key.startswith(ask.key)))
        body = self.objects.get(ask.key)
        if body is None:
            return said(404, "Not Found", b"<Error><Code>NoSuchKey</Code></Error>", ask)
        return ok(body, ask)

    @staticmethod
    def page(ask: Ask, keys: list[str], *, following: str | None = None) -> Answer:
        """Write a page of a list; `following`: the token of the next one."""
        if ask.manner == "s3":
            contents = "".join(
                f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                f'<ETag>"e"</ETag><Size>1</Size></Contents>'
                for key in keys
            )
            more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{following}</NextContinuationToken>"
            last = "<IsTruncated>false</IsTruncated>"
            xml = f"<ListBucketResult>{contents}{more if following else last}</ListBucketResult>"
            return ok(xml.encode(), ask)
        targets = [
            {"target": key, "sha256": None, "size_bytes": 1, "modified": "2026-01-01T00:00:00+00:00"}
            for key in keys
            if not key.endswith((".sha256", ".pieces"))
        ]
        return ok(json.dumps({"targets": targets, "next": following}).encode(), ask)


def parse(head: str, manner: Manner) -> Ask:
    """Read a request's head."""
    method, target, _ = head.split("\r\n", 1)[0].split(" ")
    parts = urlsplit(target)
    query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    ranged = re.search(r"\r\nrange: bytes=(\d+)-(\d+)", head, re.IGNORECASE)
    span = (int(ranged[1]), int(ranged[2]) + 1) if ranged else None
    path = unquote(parts.path)
    if path in (f"/{BUCKET}", "/api/v1/targets"):
        listed = "list-type" in query or manner == "hub"
        token = query.get("continuation-token", query.get("after", ""))
        return Ask(manner, method, "list" if listed else "bucket", query.get("prefix", ""), None, token)
    key = path.removeprefix(f"/{BUCKET}/" if manner == "s3" else "/artifacts/")
    return Ask(manner, method, "bulk" if span else "small", key, span, "")


def ok(body: bytes, ask: Ask, *, etag: str = '"e"') -> Answer:
    """What a right server answers where it has this."""
    start, stop = ask.span or (0, len(body))
    lines = [
        "HTTP/1.1 206 Partial Content" if ask.span else "HTTP/1.1 200 OK",
        f"Content-Length: {stop - start}",
        f"ETag: {etag}",
        f"Last-Modified: {MODIFIED}",
        "Content-Type: application/json" if ask.kind == "list" and ask.manner == "hub" else "Content-Type: x/y",
    ]
    if ask.span:
        lines.append(f"Content-Range: bytes {start}-{stop - 1}/{len(body)}")
    return Answer("\r\n".join(lines), b"" if ask.method == "HEAD" else body[start:stop])


def said(status: int, phrase: str, body: bytes, ask: Ask, *headers: str) -> Answer:
    """Another answer, with a body that is as long as it says."""
    head = "\r\n".join([f"HTTP/1.1 {status} {phrase}", *headers, f"Content-Length: {len(body)}"])
    return Answer(head, b"" if ask.method == "HEAD" else body)
