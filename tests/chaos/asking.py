"""Asks a daemon for bytes as a client does, and compares each of them as it comes."""

from __future__ import annotations

import http.client
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections import Counter

    from chaos.ground import Target

CHUNK_BYTES = 64 * 1024
_PARTIAL_CONTENT = 206


class Counts(Protocol):
    """Where it is written down how an answer ended."""

    asked: Counter[str]
    refused: Counter[str]
    wrong: list[str]
    cut: int
    served_bytes: int


def fetch(port: int, target: Target, start: int, stop: int, counts: Counts, *, timeout_s: float) -> float:
    """Ask for bytes and compare them, also those of an answer that is cut off; return how long it took, in seconds.

    Raises:
        OSError, http.client.HTTPException: there was no answer, or its end was lost; it is counted as cut.
    """
    whole = stop - start == len(target.body)
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        headers = {} if whole else {"Range": f"bytes={start}-{stop - 1}"}
        connection.request("GET", f"/artifacts/{target.name}", headers=headers)
        response = connection.getresponse()
        if response.status not in {200, _PARTIAL_CONTENT}:
            reason = response.read(CHUNK_BYTES).decode(errors="replace").partition(":")[0]
            counts.refused[f"{response.status} {reason}"] += 1
            return time.monotonic() - began
        at = start
        while chunk := response.read(CHUNK_BYTES):
            if chunk != target.body[at : at + len(chunk)]:
                counts.wrong.append(f"{target.name} was served wrong at {at}")
            at += len(chunk)
            counts.served_bytes += len(chunk)
        if at == stop:
            counts.asked["fetched whole" if whole else "fetched in part"] += 1
        else:
            counts.cut += 1
    except (OSError, http.client.HTTPException):
        counts.cut += 1
        raise
    finally:
        connection.close()
    return time.monotonic() - began
