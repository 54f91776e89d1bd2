"""botocore's HTTP, for a server that may be anyone's: no redirect is followed, and an answer is read to a limit.

botocore itself follows what it is sent after, and keeps whatever comes: both in the signer's name.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiobotocore.httpsession import AIOHTTPSession

from waystation.errors import Unreachable
from waystation.origin.http_client import body_of

if TYPE_CHECKING:
    import ssl

    import aiohttp
    from aiobotocore.awsrequest import AioAWSPreparedRequest, AioAWSResponse

MAX_LIST_BYTES = 8 * 1024 * 1024
"""No valid page is longer: 1000 keys of at most 1 KiB each, which XML may make six of, and what is said of each."""
MAX_REFUSAL_BYTES = 64 * 1024

_DECLARATION = b"<!DOCTYPE"
"""What entities need. S3 writes none, and a few bytes of them can stand for gigabytes."""


def session_that_trusts(tls: ssl.SSLContext | None) -> type[AIOHTTPSession]:
    """Make the class that botocore opens its connections with.

    `tls` is the context: botocore's own mixes in other certificates, and listens to AWS_CA_BUNDLE.
    """

    class GuardedSession(AIOHTTPSession):  # type: ignore[misc]  # aiobotocore is untyped
        def _build_verify_context(self) -> ssl.SSLContext:
            return tls or super()._build_verify_context()

        async def _get_session(self, proxy_url: str | None) -> _StayingHere:
            return _StayingHere(await super()._get_session(proxy_url))

        async def send(self, request: AioAWSPreparedRequest) -> AioAWSResponse:
            streams, request.stream_output = request.stream_output, True
            response = await super().send(request)
            request.stream_output = streams
            if response.status_code >= HTTPStatus.MULTIPLE_CHOICES:
                response._content = await _refusal(response.raw)  # noqa: SLF001 - where botocore looks
            elif not streams:
                response._content = await _page(response.raw)  # noqa: SLF001 - as above
            return response

    return GuardedSession


class _StayingHere:
    """An aiohttp session that follows no redirect: it could lead to any address that this machine reaches."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def request(self, method: str, **options: Any) -> aiohttp.ClientResponse:
        return await self._session.request(method, allow_redirects=False, **options)


async def _refusal(response: aiohttp.ClientResponse) -> bytes:
    """Read what a refusal says, where that can be; its status says the rest."""
    body = await body_of(response, MAX_REFUSAL_BYTES)
    if len(body) > MAX_REFUSAL_BYTES:
        response.close()
        return b""
    return b"" if _declares(body) else body


async def _page(response: aiohttp.ClientResponse) -> bytes:
    body = await body_of(response, MAX_LIST_BYTES)
    if len(body) > MAX_LIST_BYTES:
        response.close()
        raise Unreachable(f"the origin's answer has more than {MAX_LIST_BYTES} bytes, as none of S3 has")
    if _declares(body):
        raise Unreachable("the origin's answer declares a document type, as none of S3 does")
    return body


def _declares(body: bytes) -> bool:
    # in UTF-16, the other encoding in which it could stand, every second byte is null; in UTF-8 none is
    return _DECLARATION in body or b"\0" in body
