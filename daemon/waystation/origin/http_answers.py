"""What the refusal of an HTTP server means: S3's error codes, a hub's reasons, and plain statuses; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from waystation.errors import (
    Denied,
    Missing,
    OriginError,
    OriginLoop,
    Redirected,
    RejectedByHub,
    RevisionChanged,
    Short,
    Unavailable,
    Unreachable,
    Unvouched,
)
from waystation.model import printable

REASON_HEADER = "Waystation-Reason"
"""What a mirror names with each refusal: an error's own label, also where an answer has no body."""
NO_BUCKET_ADVICE = "Create the bucket, or correct the bucket's name in [origin] url."
BASE_ADVICE = "A hub's targets lie below /artifacts: correct [origin] url."
NAME_ADVICE = "Add this name to the hub's [mirror] hosts, or ask the hub by its address in [origin] url."
NO_SUCH_KEY_CODES = frozenset({"NoSuchKey", "KeyTooLongError", "XMinioInvalidObjectName"})

MOST_RETRY_AFTER_S = 300.0
"""So long a hub may have itself be left in peace."""

_ERROR_CODE = re.compile(rb"<Code>([A-Za-z0-9]{1,64})</Code>")
_REASON = re.compile(r"[a-z_]{1,40}")
_SECONDS = re.compile(r"[0-9]{1,4}")
_OPENS_A_DOOR = re.compile(r"(?<=//)[^/?#]*@|[?#].*", re.DOTALL)
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is not the one that was asked for."""

    status: int
    body: bytes = b""
    """Its beginning, where there is one."""
    reason: str | None = None
    retry_after: str | None = None
    location: str | None = None
    path: str = ""
    """What was asked for."""


def error_of(key: str, refusal: Refusal) -> OriginError:
    """Say what a refusal means for the key that was asked for."""
    if refusal.reason and _REASON.fullmatch(refusal.reason):
        return _of_hub(key, refusal, f"{refusal.status} {refusal.reason}")
    status = refusal.status
    match = _ERROR_CODE.search(refusal.body)
    code = match[1].decode() if match else ""
    said = f"{status} {code}".strip()
    error: OriginError
    if code == "NoSuchBucket":
        error = Unreachable(f"the origin has no such bucket ({said})", advice=NO_BUCKET_ADVICE)
    elif status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE) or code in NO_SUCH_KEY_CODES:
        error = Missing(f"the origin has no '{key}' ({said})")
    elif status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        error = Denied(f"the origin denies '{key}' ({said})")
    elif status == HTTPStatus.PRECONDITION_FAILED:
        error = RevisionChanged(f"'{key}' was replaced in the origin")
    elif status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        error = Short(f"'{key}' ends before the range that was asked for ({said})")
    elif HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        error = _elsewhere(key, refusal)
    else:
        error = Unreachable(f"the origin answered {said} for '{key}'")
    return error


def _elsewhere(key: str, refusal: Refusal) -> OriginError:
    location = refusal.location or ""
    if refusal.path and urlsplit(location).path == f"{refusal.path}/":
        return Missing(f"'{key}' is a folder in the origin ({refusal.status})")
    return redirected(f"'{key}'", refusal.status, location)


def redirected(what: str, status: int, location: str, *, advice: str | None = None) -> Redirected:
    """Say where an answer would have sent us; not with which query or name, which may open the door by themselves."""
    to = printable(_OPENS_A_DOOR.sub("", location)[:_SHOWN]) or "nowhere"
    return Redirected(f"the origin redirects {what} to {to} ({status}), and no redirect is followed", advice=advice)


def _of_hub(key: str, refusal: Refusal, said: str) -> OriginError:
    retry_after = refusal.retry_after or ""
    error: OriginError
    if refusal.reason == "not_an_artifact":
        error = Unavailable(f"the hub has no artifacts at this address ({said})", advice=BASE_ADVICE)
    elif refusal.reason == Unvouched.reason:
        error = Unvouched(f"the hub has '{key}', but nothing vouches for its bytes ({said})")
    elif refusal.status in (HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST):
        error = Missing(f"the origin has no '{key}' (the hub says {said})")
    elif refusal.status == HTTPStatus.FORBIDDEN:
        error = Denied(f"the hub denies '{key}' ({said})")
    elif refusal.status == HTTPStatus.MISDIRECTED_REQUEST:
        error = Denied(f"the hub does not answer to the name in [origin] url ({said})", advice=NAME_ADVICE)
    elif refusal.status == HTTPStatus.PRECONDITION_FAILED:
        error = RevisionChanged(f"'{key}' is another one at the hub than before")
    elif refusal.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        error = Short(f"'{key}' ends before the range that was asked for ({said})")
    elif refusal.status == HTTPStatus.BAD_GATEWAY:
        error = RejectedByHub(f"the hub rejects '{key}' ({said})")
    elif refusal.reason == OriginLoop.reason:
        error = OriginLoop(f"the hub says that asking for '{key}' leads in a circle ({said})")
    else:
        wait_s = min(float(retry_after), MOST_RETRY_AFTER_S) if _SECONDS.fullmatch(retry_after) else None
        error = Unavailable(f"the hub can't give '{key}' now ({said})", retry_after_s=wait_s)
    return error
