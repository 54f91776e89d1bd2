"""The command line's side of the admin socket."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import aiohttp

from waystation.errors import DaemonError, NoDaemon, NotAllowed

if TYPE_CHECKING:
    from pathlib import Path

    from waystation.model import TargetPath

TIMEOUT_S = 30.0
_BASE = "http://waystation"


class AdminClient:
    """Asks the daemon on this machine; each call is a connection of its own.

    Every method raises NoDaemon where none runs, NotAllowed where this user may not ask it, and DaemonError
    where it refused, with its own words, or gave no answer.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def status(self) -> dict[str, Any]:
        """A `StationStatus` as JSON has it."""
        return dict(await self._ask("/status"))

    async def forget(self, target: TargetPath | str) -> bool:
        """Have the catalog forget what it once saw for a name; False where it knew nothing."""
        return bool((await self._ask("/catalog/forget", target=target))["forgotten"])

    async def _ask(self, verb: str, *, timeout_s: float | None = TIMEOUT_S, **arguments: object) -> Any:
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with (
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self._path)), timeout=timeout) as session,
                session.post(_BASE + verb, json=arguments) as response,
            ):
                answer = await response.json()
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise self._explained(error) from error
        if response.ok:
            return answer
        kind = NotAllowed if response.status == HTTPStatus.FORBIDDEN else DaemonError
        raise kind(str(answer.get("message")), advice=str(answer.get("advice")))

    def _explained(self, error: Exception) -> DaemonError:
        cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
        if isinstance(cause, FileNotFoundError):
            return NoDaemon(f"no daemon runs here: there is no socket {self._path}")
        if isinstance(cause, ConnectionRefusedError):
            return NoDaemon(f"no daemon runs here: nobody answers on {self._path}")
        if isinstance(cause, PermissionError):
            return NotAllowed(f"the socket {self._path} is not open to this user")
        if isinstance(cause, TimeoutError):
            return DaemonError(f"the daemon did not answer on {self._path} within {TIMEOUT_S:g} s")
        detail = getattr(cause, "strerror", None) or type(cause).__name__
        return DaemonError(f"the daemon can't be asked on {self._path}: {detail}")
