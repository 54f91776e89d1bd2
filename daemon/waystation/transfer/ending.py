"""How a flight that failed is put into words: the first error of ours, one log line, one metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from waystation.errors import DigestMismatch, NoRoom, TransferError, WaystationError

if TYPE_CHECKING:
    from waystation.model import Artifact
    from waystation.telemetry.metrics import Metrics
    from waystation.transfer.workers import WholeHash

log = structlog.get_logger()


def check_whole(whole: WholeHash, artifact: Artifact) -> None:
    """Compare the whole's sha256 with what it must be.

    Raises:
        DigestMismatch: it is another.
    """
    if whole.digest() != artifact.digest:
        raise DigestMismatch(
            f"the origin's bytes of {artifact.target} have sha256 {whole.digest()}, the catalog said {artifact.digest}"
        )


def cause_of(error: BaseException) -> WaystationError:
    """Find the first error of ours in a task group's end; anything else is a fault of this program."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, WaystationError):
        return error
    log.error("flight_broke", exc_info=error)
    return TransferError("the transfer broke on a fault of its own", advice="Report the log line `flight_broke`.")


def report(artifact: Artifact, error: WaystationError, metrics: Metrics) -> None:
    """Say why a flight failed; that there is no room is no failure yet, since clients may be served all the same."""
    if isinstance(error, TransferError):
        metrics.verification_failures.labels("origin").inc()
    say = log.warning if isinstance(error, NoRoom) else log.error
    say(
        "flight_failed",
        target=artifact.target,
        digest=artifact.digest,
        reason=error.reason,
        detail=str(error),
        advice=error.advice,
    )
