"""The command line's side of the admin socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp

from waystation.errors import DaemonError

if TYPE_CHECKING:
    from pathlib import Path

    from waystation.model import TargetPath

TIMEOUT_S = 30.0
_BASE = "http://waystation"


class AdminClient:
    """Asks the daemon on this machine; each call is a connection of its own.

    Every method raises DaemonError: the daemon can't be asked, or refused.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def status(self) -> dict[str, Any]:
        """A `StationStatus` as JSON has it."""
        return await self._ask("GET", "/status")

    async def forget(self, target: TargetPath | str) -> bool:
        """Have the catalog forget what it once saw for a name; False where it knew nothing."""
        answer = await self._ask("POST", "/catalog/forget", {"target": target})
        return bool(answer["forgotten"])

    async def _ask(self, method: str, verb: str, body: dict[str, str] | None = None) -> dict[str, Any]:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self._path)), timeout=timeout) as session,
                session.request(method, _BASE + verb, json=body) as response,
            ):
                answer = await response.json()
                failed = response.status >= 400  # noqa: PLR2004 - RFC 9110 §15
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise self._explained(error) from error
        if failed:
            raise DaemonError(str(answer.get("message")), advice=str(answer.get("advice")))
        return dict(answer)

    def _explained(self, error: Exception) -> DaemonError:
        cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
        if isinstance(cause, FileNotFoundError):
            return DaemonError(f"no daemon runs here: there is no socket {self._path}")
        if isinstance(cause, ConnectionRefusedError):
            return DaemonError(f"no daemon runs here: nobody answers on {self._path}")
        if isinstance(cause, PermissionError):
            return DaemonError(
                f"the socket {self._path} is not open to this user",
                advice="Run the command as root, or as a user of the daemon's group.",
            )
        if isinstance(cause, TimeoutError):
            return DaemonError(f"the daemon did not answer on {self._path} within {TIMEOUT_S:g} s")
        detail = getattr(cause, "strerror", None) or type(cause).__name__
        return DaemonError(f"the daemon can't be asked on {self._path}: {detail}")
