"""The command line's side of the admin socket."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import aiohttp

from waystation.errors import CallRefused, DaemonError, NoDaemon, NotAllowed

if TYPE_CHECKING:
    from pathlib import Path

    from waystation.model import TargetPath

TIMEOUT_S = 30.0
LIST_TIMEOUT_S = 120.0
"""A store may hold a hundred thousand blobs."""
_BASE = "http://waystation"


class AdminClient:
    """Asks the daemon on this machine; each call is a connection of its own.

    Every method raises NoDaemon where none runs, NotAllowed where this user may not ask it, and DaemonError
    where it gave no answer; CallRefused has the daemon's own words.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def status(self) -> dict[str, Any]:
        """A `StationStatus` as JSON has it."""
        return dict(await self._ask("/status"))

    async def explain(self, target: str) -> dict[str, Any]:
        """An `Explanation` as JSON has it."""
        return dict(await self._ask("/explain", target=target))

    async def unvouched(self) -> dict[str, Any] | None:
        """A `Count` of the keys that the mirror would refuse; None where there is nothing to count."""
        count = await self._ask("/origin/unvouched")
        return dict(count) if count else None

    async def change_log_level(self, level: str) -> str:
        """Log from this level on, until the daemon ends; return what it was before."""
        return str((await self._ask("/log-level", level=level))["before"])

    async def forget(self, target: TargetPath | str) -> bool:
        """Have the catalog forget what it once saw for a name; False where it knew nothing."""
        return bool((await self._ask("/catalog/forget", target=target))["forgotten"])

    async def blobs(self) -> list[dict[str, Any]]:
        """The store's list; each as `admin.store_verbs` writes it."""
        return list(await self._ask("/store/ls", timeout_s=LIST_TIMEOUT_S))

    async def verify(self, name: str) -> dict[str, Any]:
        """Have one blob read again, however long that takes."""
        return dict(await self._ask("/store/verify", timeout_s=None, name=name))

    async def pin(self, name: str) -> dict[str, Any]:
        """Keep a blob from eviction."""
        return dict(await self._ask("/store/pin", name=name))

    async def unpin(self, name: str) -> dict[str, Any]:
        """Give up an operator's pin."""
        return dict(await self._ask("/store/unpin", name=name))

    async def evict(self, name: str) -> dict[str, Any]:
        """Remove a blob."""
        return dict(await self._ask("/store/evict", name=name))

    async def prefetch(self, target: str) -> dict[str, Any]:
        """Have a target fetched now; how far it is, as `admin.prefetch_verbs` writes it."""
        return dict(await self._ask("/prefetch", target=target))

    async def prefetch_progress(self, sha256: str) -> dict[str, Any]:
        """How far it is."""
        return dict(await self._ask("/prefetch/progress", sha256=sha256))

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
        kind = NotAllowed if response.status == HTTPStatus.FORBIDDEN else CallRefused
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
