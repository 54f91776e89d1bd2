"""Asks the daemon here through its admin socket; what goes wrong is a `DaemonError` in words."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp

from waystation.errors import DaemonError

if TYPE_CHECKING:
    from pathlib import Path

    from waystation.model import TargetPath

PATIENCE_S = 30.0
_OK = 200


class AdminClient:
    """One connection a call."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def status(self) -> dict[str, Any]:
        """The `StationStatus` as JSON has it.

        Raises:
            DaemonError: no daemon answers.
        """
        return await self._ask("GET", "/status")

    async def forget(self, target: TargetPath) -> bool:
        """Drop what was once seen for a target; False where nothing was.

        Raises:
            DaemonError: no daemon answers, or it refuses.
        """
        return bool((await self._ask("POST", "/catalog/forget", {"target": target}))["forgotten"])

    async def _ask(self, method: str, path: str, body: dict[str, str] | None = None) -> dict[str, Any]:
        try:
            async with (
                asyncio.timeout(PATIENCE_S),
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self._path))) as session,
                session.request(method, f"http://localhost{path}", json=body) as response,
            ):
                answer = await response.json()
                code = response.status
        except aiohttp.ClientConnectorError as error:
            raise _no_daemon(self._path, error.os_error) from error
        except TimeoutError as error:
            raise DaemonError(f"the daemon at {self._path} gave no answer within {PATIENCE_S:g} s") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise DaemonError(f"what answers at {self._path} is no Waystation daemon") from error
        if not isinstance(answer, dict):
            raise DaemonError(f"what answers at {self._path} is no Waystation daemon")
        if code != _OK:
            raise DaemonError(str(answer.get("message")), advice=str(answer.get("advice")))
        return answer


def _no_daemon(path: Path, error: OSError) -> DaemonError:
    if isinstance(error, PermissionError):
        return DaemonError(
            f"this user may not use the admin socket {path}",
            advice="Run it as root, or join the group that the socket belongs to.",
        )
    return DaemonError(f"no daemon answers at {path}: {error.strerror or error}")
