"""Small requests to an HTTP origin: one attempt each, no redirect followed, nothing decoded, every body bounded.

Neither proxies nor credentials of the environment are used.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

from waystation.errors import Short, Unreachable
from waystation.origin.tls import TLS_ADVICE

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Mapping

    from waystation.config import OriginSettings

URL_ADVICE = "Check that its server is up and that [origin] url is right; it is asked again."


class HttpClient:
    """Connections to one server, kept and used again; closed by `close`."""

    def __init__(self, settings: OriginSettings, *, tls: ssl.SSLContext | None) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=settings.max_connections, ssl=tls or True),
            timeout=aiohttp.ClientTimeout(total=settings.request_timeout, sock_connect=settings.connect_timeout),
            headers={"Accept-Encoding": "identity", "User-Agent": f"waystation/{version('waystation')}"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    @asynccontextmanager
    async def ask(
        self, method: str, url: str, *, what: str, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask once; the answer, whatever it says, is read within the block. `what` names it in errors.

        Raises:
            Unreachable: there is no answer.
            Short: its body broke off.
        """
        try:
            async with self._session.request(
                method, URL(url, encoded=True), headers=headers, allow_redirects=False
            ) as response:
                yield response
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError) as error:
            raise Unreachable(f"no trusted connection to {_place(url)}: TLS failed", advice=TLS_ADVICE) from error
        except aiohttp.ClientConnectorError as error:
            why = os.strerror(error.os_error.errno) if error.os_error.errno else type(error.os_error).__name__
            raise Unreachable(f"no connection to {_place(url)}: {why}", advice=URL_ADVICE) from error
        except aiohttp.ClientPayloadError as error:
            raise Short(f"the connection broke in the body of {what}") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            kind = "time is over" if isinstance(error, TimeoutError) else type(error).__name__
            raise Unreachable(f"no usable answer for {what}: {kind}", advice=URL_ADVICE) from error

    async def close(self) -> None:
        await self._session.close()


async def body_of(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    """Read a body, but no more than one byte beyond the limit."""
    body = bytearray()
    while len(body) <= limit_bytes and (data := await response.content.read(limit_bytes + 1 - len(body))):
        body += data
    return bytes(body)


def _place(url: str) -> str:
    return URL(url, encoded=True).raw_authority
