"""Checks what lies in the store with no pieces to check it by: it is all right, or worth nothing."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import structlog

from waystation.transfer.fetching import disk_refused
from waystation.transfer.workers import WholeHash

if TYPE_CHECKING:
    from waystation.model import Artifact
    from waystation.store.interface import Spool
    from waystation.telemetry.metrics import Metrics
    from waystation.transfer.workers import Workers

log = structlog.get_logger()


async def hash_suspect(artifact: Artifact, spool: Spool, workers: Workers, metrics: Metrics) -> WholeHash | None:
    """Read a suspect file once and give its hash where it is the artifact's; None: it is out of the store.

    Raises:
        StoreUnusable: the disk refuses.
    """
    whole = WholeHash(spool, metrics, where="store")
    try:
        await workers.run(partial(whole.run, artifact.size_bytes), whole.abort)
    except OSError as error:
        log.warning("suspect_unreadable", target=artifact.target, error=error.strerror)
    if whole.digest() == artifact.digest:
        return whole
    metrics.verification_failures.labels("store").inc()
    log.warning("suspect_discarded", target=artifact.target, digest=artifact.digest)
    try:  # the first write, be it of nothing, takes it out of the store: it is not to be read again in vain
        await workers.run(lambda _: spool.write(0, memoryview(b"")), whole.abort)
    except OSError as error:
        raise disk_refused(error) from error
    return None
