"""MinIO's ListenBucketNotification: one signed GET whose answer never ends, a line of JSON for each event.

Other S3 servers don't know it, and answer such a GET with a list or an error.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import aiohttp
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from yarl import URL

from waystation.errors import NotWatchable, Unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from waystation.origin.s3_connection import S3Connection

PING_S = 3
"""How often the server shows that it is there; it sends its answer's head with the first event or ping."""
SILENCE_S = 30
MAX_EVENT_BYTES = 256 * 1024
DENIED_ADVICE = "Allow s3:ListenBucketNotification in the reader's policy, or set [origin] notifications = false."
SILENT_ADVICE = (
    "Polling goes on alone. MinIO's releases after 2025-10 hold notifications back until there are 4 KiB of them;"
    " use one that is mended, or set [origin] notifications = false."
)

_EVENTS = ("s3:ObjectCreated:*", "s3:ObjectRemoved:*")
_UNKNOWN = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED})


@asynccontextmanager
async def listen(s3: S3Connection, prefix: str, *, connect_timeout_s: float) -> AsyncIterator[AsyncIterator[str]]:
    """Have the server tell of keys; see `Watchable.changes`. The keys are below the settings' prefix."""
    query = [("prefix", s3.full_key(prefix)), *(("events", event) for event in _EVENTS), ("ping", str(PING_S))]
    with s3.explaining(""):
        url = f"{await s3.bucket_url()}?{urlencode(query, quote_via=quote, safe='')}"
        # MinIO would hold compressed events back until there are enough of them.
        request = AWSRequest(method="GET", url=url, headers={"Accept-Encoding": "identity"})
        S3SigV4Auth(await s3.credentials(), "s3", s3.region).add_auth(request)
        timeout = aiohttp.ClientTimeout(total=None, connect=connect_timeout_s, sock_read=SILENCE_S)
        async with aiohttp.ClientSession(timeout=timeout, read_bufsize=MAX_EVENT_BYTES) as session:
            asking = session.get(
                URL(url, encoded=True), headers=dict(request.headers), ssl=s3.tls or True, allow_redirects=False
            )
            try:
                async with asyncio.timeout(SILENCE_S):  # for all of the head, however it drips
                    response = await asking
            except aiohttp.ConnectionTimeoutError:
                raise
            except TimeoutError as error:
                # It took the question, so it is there: that is no reason for others not to ask it.
                raise NotWatchable(
                    f"the origin gave no sign of notifications within {SILENCE_S} s", advice=SILENT_ADVICE
                ) from error
            async with response:
                _check(response, s3.bucket)
                yield _keys(response, s3.prefix)


def _check(response: aiohttp.ClientResponse, bucket: str) -> None:
    if response.status == HTTPStatus.OK and response.content_type == "text/event-stream":
        return
    if response.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise NotWatchable(f"the origin denies notifications of bucket '{bucket}'", advice=DENIED_ADVICE)
    if response.status == HTTPStatus.OK or response.status in _UNKNOWN:
        raise NotWatchable("the origin knows no ListenBucketNotification, which is MinIO's own")
    raise Unreachable(f"the origin answered {response.status} to ListenBucketNotification of bucket '{bucket}'")


async def _keys(response: aiohttp.ClientResponse, prefix: str) -> AsyncIterator[str]:
    while line := await _line(response):
        for key in _keys_in(line):
            if key.startswith(prefix):
                yield key.removeprefix(prefix)
    raise Unreachable("the origin ended its notifications")


async def _line(response: aiohttp.ClientResponse) -> bytes:
    try:
        return await response.content.readline()
    except ValueError as error:
        raise Unreachable(f"the origin sent an event of more than {MAX_EVENT_BYTES} bytes") from error


def _keys_in(line: bytes) -> list[str]:
    """The keys that one line tells of, as they are (other ways of notification escape them); a ping has none."""
    if not line.strip():
        return []
    try:
        return [str(record["s3"]["object"]["key"]) for record in json.loads(line).get("Records") or ()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreachable("the origin sent a notification that can't be read") from error
