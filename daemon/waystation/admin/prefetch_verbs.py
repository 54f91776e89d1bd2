"""Verbs that have the daemon fetch a target now, and tell how far it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from waystation.admin.verbs import Arguments, Verb
from waystation.errors import MalformedCall, NotStored
from waystation.model import parse_digest

if TYPE_CHECKING:
    from waystation.admission import Admission
    from waystation.prefetch.fetcher import Asked, Fetcher
    from waystation.transfer.interface import Transfers


def prefetch_verbs(admission: Admission, fetcher: Fetcher, transfers: Transfers) -> tuple[Verb, ...]:
    """Give the verbs of `waystation prefetch`."""

    async def start(arguments: Arguments) -> dict[str, Any]:
        artifact = await admission.admit(arguments.text("target"), fresh=True)
        return _progress(fetcher.ask(artifact), transfers)

    async def progress(arguments: Arguments) -> dict[str, Any]:
        try:
            digest = parse_digest(arguments.text("sha256"))
        except ValueError as error:
            raise MalformedCall(str(error)) from None
        asked = fetcher.asked(digest)
        if asked is None:
            raise NotStored(f"nobody has asked for {digest} lately", advice="Ask for the target again.")
        return _progress(asked, transfers)

    return Verb("/prefetch", start), Verb("/prefetch/progress", progress, changes=False)


def _progress(asked: Asked, transfers: Transfers) -> dict[str, Any]:
    artifact, error = asked.artifact, asked.error
    flight = next((each for each in transfers.flights() if each.digest == artifact.digest), None)
    return {
        "target": artifact.target,
        "sha256": artifact.digest,
        "size_bytes": artifact.size_bytes,
        "held_bytes": flight.held_bytes if flight else 0,
        "state": flight.state if flight else None,
        "outcome": asked.outcome,
        "error": {"reason": error.reason, "message": str(error), "advice": error.advice} if error else None,
    }
