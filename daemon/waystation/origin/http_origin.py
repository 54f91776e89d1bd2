"""An origin that is read over HTTP: any static server, a public bucket, or another Waystation, a hub.

A key lies at the base's URL, a slash, and the key, percent-encoded. A hub alone can be listed: its targets are
at ``…/artifacts``, so it is asked at ``…/api/v1/targets``.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit

from waystation.config import NO_LIST
from waystation.errors import Denied, Missing, NotListable, NotWatchable, Short, TooLarge, Unreachable
from waystation.model import parse_digest
from waystation.origin.http_answers import REASON_HEADER, Refusal, error_of
from waystation.origin.http_range import HttpSource
from waystation.origin.http_revisions import revision_of
from waystation.origin.hub_pages import MAX_PAGE_BYTES, MalformedPage, parse_page
from waystation.origin.interface import MAX_OBJECT_BYTES, ObjectInfo
from waystation.origin.tls import trust

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator
    from types import ModuleType

    from aiohttp import ClientResponse

    from waystation.config import OriginSettings
    from waystation.model import Digest
    from waystation.origin.hops import Hops
    from waystation.origin.http_client import HttpClient
    from waystation.origin.interface import Source

PATIENCE_S = 60.0
"""So long a range may take to begin: a hub verifies it first, and may have others to fetch before."""
MAX_REFUSAL_BYTES = 8 * 1024
DENIED_ADVICE = (
    "An http origin is asked without credentials: its server must let anyone read. A public bucket must let anyone "
    "list too (s3:ListBucket), or it says 403 for what is not there."
)

_MAY_MEAN_MORE = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND})


class HttpOrigin:
    """Reads the keys below the settings' URL; connects, and imports aiohttp, with its first call."""

    def __init__(self, settings: OriginSettings, *, stall_timeout_s: float, hops: Hops) -> None:
        self._settings = settings
        self._stall_timeout_s = stall_timeout_s
        self._hops = hops
        self._base = settings.http_base or ""
        self._api = settings.hub_api
        self._secure = urlsplit(self._base).scheme == "https"
        self._tls: ssl.SSLContext | None = None
        self._opening = asyncio.Lock()
        self._client: HttpClient | None = None

    async def head(self, key: str) -> ObjectInfo:
        async with self._asked("HEAD", self._url(key), key) as response:
            if response.status not in _MAY_MEAN_MORE or REASON_HEADER in response.headers:
                await self._check(response, key)
                return _describe(key, response)
        # The answer to a HEAD has no body: only that of a GET tells a missing bucket from a missing key.
        async with self._asked("GET", self._url(key), key) as response:
            await self._check(response, key)
            return _describe(key, response)

    async def get(self, key: str, *, limit_bytes: int) -> tuple[ObjectInfo, bytes]:
        from waystation.origin.http_client import body_of  # noqa: PLC0415 - imported with the client

        async with self._asked("GET", self._url(key), key) as response:
            await self._check(response, key)
            announced = response.content_length
            if announced is not None and announced > limit_bytes:
                raise TooLarge(f"'{key}' has {announced} bytes, expected at most {limit_bytes}")
            body = await body_of(response, limit_bytes)
            if len(body) > limit_bytes:
                raise TooLarge(f"'{key}' has more bytes than were expected, at most {limit_bytes}")
            return _describe(key, response, size_bytes=len(body)), body

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[ObjectInfo]:
        if self._api is None:
            raise NotListable(NO_LIST.format(url=self._base))
        following: str | None = after
        while following is not None:
            page_body, served_at = await self._page(prefix, following)
            try:
                page = parse_page(page_body, prefix=prefix, after=following)
            except MalformedPage as error:
                raise NotListable(f"what {self._api}/targets answers can't be used: {error}") from error
            for entry in page.entries:
                # A hub's ETags are its digests. What it does not know yet is a revision that nobody has seen.
                etag = f'"{entry.sha256}"' if entry.sha256 else ""
                yield ObjectInfo(entry.target, entry.size_bytes, etag, entry.modified, None, served_at)
            following = page.next

    async def source(self, key: str, *, if_match: str | None) -> Source:
        await self._opened()
        return HttpSource(
            self._url(key),
            key=key,
            if_match=if_match,
            connect_timeout_s=self._settings.connect_timeout,
            stall_timeout_s=self._stall_timeout_s,
            patience_s=max(self._stall_timeout_s, PATIENCE_S),
            headers=self._hops.onward(),
            tls=self._tls,
        )

    @asynccontextmanager
    async def changes(self, prefix: str) -> AsyncIterator[AsyncIterator[str]]:
        raise NotWatchable(f"an http origin does not tell what is new below '{prefix}'")
        yield  # type: ignore[unreachable]  # what makes it a generator

    async def close(self) -> None:
        client, self._client = self._client, None
        if client:
            await client.close()

    # --- asking --------------------------------------------------------------------------------

    async def _page(self, prefix: str, after: str) -> tuple[bytes, datetime | None]:
        """Ask a hub for a page of its list.

        Raises:
            NotListable: it is no hub.
        """
        from waystation.origin.http_client import body_of  # noqa: PLC0415 - as above

        what = "the list of targets"
        query = urlencode([("prefix", prefix), ("after", after)], quote_via=quote, safe="/")
        async with self._asked("GET", f"{self._api}/targets?{query}", what) as response:
            body = await body_of(response, MAX_PAGE_BYTES)
            if response.status == HTTPStatus.OK and response.content_type == "application/json":
                return body, _served_at(response)
            if response.headers.get(REASON_HEADER) is None and response.status < HTTPStatus.INTERNAL_SERVER_ERROR:
                raise NotListable(
                    f"{self._base} is no Waystation, or an old one: {self._api}/targets answers {response.status},"
                    " so its keys can't be listed"
                )
            raise error_of(what, _refusal(response, body))

    @asynccontextmanager
    async def _asked(self, method: str, url: str, what: str) -> AsyncIterator[ClientResponse]:
        client = await self._opened()
        async with client.ask(method, url, what=f"'{what}'", headers=self._hops.onward()) as response:
            yield response

    async def _opened(self) -> HttpClient:
        async with self._opening:
            if self._client is None:
                module = await asyncio.to_thread(_import_client)
                if self._secure:
                    self._tls = await asyncio.to_thread(trust, self._settings.ca_bundle)
                self._client = module.HttpClient(self._settings, tls=self._tls)
            return self._client

    def _url(self, key: str) -> str:
        if any(part in ("", ".", "..") for part in key.split("/")) or not _is_utf8(key):
            raise Missing(f"'{key}' can't be a key of an http origin")
        return f"{self._base}/{quote(key, safe='/~')}"

    # --- answers -------------------------------------------------------------------------------

    @staticmethod
    async def _check(response: ClientResponse, key: str) -> None:
        from waystation.origin.http_client import body_of  # noqa: PLC0415 - as above

        if response.status == HTTPStatus.OK:
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise Short(f"the origin encoded '{key}', although it was asked not to")
            return
        error = error_of(key, _refusal(response, await body_of(response, MAX_REFUSAL_BYTES)))
        if type(error) is Denied and REASON_HEADER not in response.headers:
            error.advice = DENIED_ADVICE
        raise error


def _describe(key: str, response: ClientResponse, *, size_bytes: int | None = None) -> ObjectInfo:
    size_bytes = response.content_length if size_bytes is None else size_bytes
    if size_bytes is None:
        raise Unreachable(f"the origin does not say how long '{key}' is", advice="Its server must send Content-Length.")
    if size_bytes > MAX_OBJECT_BYTES:
        raise Unreachable(f"the origin says that '{key}' has {size_bytes} bytes, which no file has")
    last_modified = response.headers.get("Last-Modified")
    digest = _recorded_sha256(response)
    return ObjectInfo(
        key=key,
        size_bytes=size_bytes,
        etag=revision_of(etag=response.headers.get("ETag"), last_modified=last_modified, size_bytes=size_bytes),
        modified=_date(last_modified) or _served_at(response) or datetime.fromtimestamp(0, UTC),
        sha256=digest,
        served_at=_served_at(response),
        sha256_from="metadata" if digest else None,
    )


def _recorded_sha256(response: ClientResponse) -> Digest | None:
    """What a public bucket's publisher has stated (S3 tells user metadata in headers of their own)."""
    try:
        return parse_digest(response.headers.get("x-amz-meta-sha256", ""))
    except ValueError:
        return None


def _served_at(response: ClientResponse) -> datetime | None:
    return _date(response.headers.get("Date"))


def _date(value: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(value).astimezone(UTC) if value else None
    except (ValueError, OverflowError):
        return None


def _refusal(response: ClientResponse, body: bytes) -> Refusal:
    headers = response.headers
    return Refusal(
        response.status,
        body,
        reason=headers.get(REASON_HEADER),
        retry_after=headers.get("Retry-After"),
        location=headers.get("Location"),
        path=response.url.raw_path,
    )


def _is_utf8(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def _import_client() -> ModuleType:
    from waystation.origin import http_client  # noqa: PLC0415 - its aiohttp takes a while, beside the loop

    return http_client
