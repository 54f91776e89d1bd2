"""Which HTTP status each error means: the one table, and the one line of text that goes with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from http import HTTPStatus

from waystation import errors
from waystation.errors import WaystationError
from waystation.origin.http_answers import REASON_HEADER

RETRY_AFTER_S = 5
"""What a 503 or 429 names where the error knows no better."""
METHODS = "GET, HEAD"


@dataclass(frozen=True, slots=True)
class Meaning:
    """A status, and what it says to someone who sees nothing but the reply."""

    code: int
    saying: str


MEANINGS: dict[type[WaystationError], Meaning] = {
    # the request
    errors.RequestError: Meaning(400, "the request can't be answered"),
    errors.MalformedRequest: Meaning(400, "the request or its path is malformed"),
    errors.BadTarget: Meaning(400, "no target can have this name"),
    errors.DirectoryAsked: Meaning(400, "a folder is asked for, and artifacts are files"),
    errors.NotAnArtifact: Meaning(404, "there is no artifact at this path"),
    errors.NoPieces: Meaning(404, "this target has no pieces"),
    errors.PlainHttp: Meaning(400, "this port speaks TLS, and plain HTTP came"),
    errors.MethodNotAllowed: Meaning(405, "only GET and HEAD are answered here"),
    errors.SlowRequest: Meaning(408, "the headers did not arrive in time"),
    errors.PreconditionFailed: Meaning(412, "the artifact is not the one that the request's condition names"),
    errors.RangeNotSatisfiable: Meaning(416, "the range begins behind the artifact's end"),
    errors.Misdirected: Meaning(421, "the Host is not one that this mirror answers to"),
    errors.TooManyConnections: Meaning(429, "this machine holds as many connections as it may"),
    errors.HeaderTooLarge: Meaning(431, "the headers are longer than allowed"),
    # the catalog
    errors.CatalogError: Meaning(502, "the catalog can't say what this target must be"),
    errors.UnknownTarget: Meaning(404, "the catalog does not have this target"),
    errors.NoChecksum: Meaning(404, "the object is there, but nothing vouches for its bytes"),
    errors.Inconsistent: Meaning(502, "what vouches for this target contradicts itself"),
    errors.MalformedChecksum: Meaning(502, "what vouches for this target can't be read"),
    errors.TargetChanged: Meaning(502, "this name now claims other bytes than it had before"),
    # the origin
    errors.OriginError: Meaning(503, "the origin did not do what was asked of it"),
    errors.Missing: Meaning(404, "the origin no longer has this target"),
    errors.Denied: Meaning(503, "the origin denies access, and the target is not cached"),
    errors.ClockRefused: Meaning(503, "the origin refuses this machine's clock, and the target is not cached"),
    errors.NoCredentials: Meaning(503, "there are no credentials for the origin, and the target is not cached"),
    errors.Unreachable: Meaning(503, "the origin can't be reached, and the target is not cached"),
    errors.Short: Meaning(503, "the origin broke off in mid-body"),
    errors.NotListable: Meaning(503, "the origin can't list its keys"),
    errors.NotWatchable: Meaning(503, "the origin does not tell what is new"),
    errors.Unavailable: Meaning(503, "the hub can't give this now, and the target is not cached"),
    errors.TooManyQuestions: Meaning(503, "too much is asked of the origin at once"),
    errors.Redirected: Meaning(503, "the origin redirects, and no redirect is followed"),
    errors.Unvouched: Meaning(404, "the hub has the object, but nothing vouches for its bytes"),
    errors.RejectedByHub: Meaning(502, "the hub rejects what its own origin gave it"),
    errors.OriginLoop: Meaning(503, "asking the origin leads in a circle"),
    errors.RevisionChanged: Meaning(502, "the object was replaced while it was being fetched"),
    errors.TooLarge: Meaning(502, "what vouches for this target is larger than any that is valid"),
    # the transfer
    errors.TransferError: Meaning(502, "the transfer ended without the artifact"),
    errors.DigestMismatch: Meaning(502, "the origin's bytes are not what the catalog said; nothing was stored"),
    errors.PieceMismatch: Meaning(502, "a piece of the origin's bytes is not what the catalog said"),
    errors.LayerMismatch: Meaning(502, "the origin's piece file is not what the catalog said"),
    # the store
    errors.StoreError: Meaning(507, "the store can't take this artifact"),
    errors.NoRoom: Meaning(507, "there is no room, even after eviction"),
    errors.StoreUnusable: Meaning(507, "the store's disk refuses"),
    errors.RottenBlob: Meaning(507, "the store's disk gives back other bytes than were stored"),
    errors.StoreLocked: Meaning(507, "another daemon holds the store"),
    errors.ChangesMissed: Meaning(507, "the store's changes were not followed"),
    errors.StoreFormat: Meaning(507, "the store is of another version"),
    # what no request can lead to; should one, it is a fault of ours
    errors.ConfigError: Meaning(500, "the configuration can't be used"),
    errors.CertificateError: Meaning(500, "the mirror's certificate can't be used"),
    errors.AlreadyExists: Meaning(500, "a key that must be created is there already"),
    errors.Unconditional: Meaning(500, "the origin can't create a key only where there is none"),
    errors.NotStored: Meaning(500, "the store does not have it"),
    errors.NotEvictable: Meaning(500, "it may not be evicted"),
    errors.PublishError: Meaning(500, "nothing was published"),
    errors.ReadOnlyOrigin: Meaning(500, "nobody can write to this origin"),
    errors.Conflict: Meaning(500, "other bytes are published under this name"),
    errors.Overwritten: Meaning(500, "what was published is not what is there"),
    errors.SourceChanged: Meaning(500, "the file changed while it was being uploaded"),
    errors.BadBundle: Meaning(500, "the file can't be published"),
    errors.DaemonError: Meaning(500, "the daemon can't be asked"),
    errors.TakeoverError: Meaning(500, "the redirect of the origin's address can't be changed"),
    errors.NobodyAnswers: Meaning(500, "there is nobody to lead the origin's address to"),
    errors.NoCgroup: Meaning(500, "the connections to be redirected can't be told from others"),
    errors.NoDaemon: Meaning(500, "no daemon runs here"),
    errors.NotAllowed: Meaning(500, "this user may not use the admin socket"),
    errors.CallRefused: Meaning(500, "the daemon can't do what it was told"),
    errors.MalformedCall: Meaning(500, "the daemon and the command differ"),
}
FAULT = Meaning(500, "this is a fault of the mirror; its log says more")


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer from memory."""

    code: int
    body: bytes
    fields: tuple[tuple[str, str], ...] = ()
    content_type: str = "text/plain; charset=utf-8"


def meaning_of(error: BaseException) -> Meaning:
    """Look an error up: its own type, else the nearest above it."""
    return next((MEANINGS[kind] for kind in type(error).__mro__ if kind in MEANINGS), FAULT)


def status_code(error: BaseException) -> int:
    """The HTTP status that an error means."""
    return meaning_of(error).code


def refusal(error: BaseException) -> Reply:
    """Say an error to a client: one line with reason and advice.

    Only what the error's type says goes out: a message may hold paths and addresses of this machine.
    """
    meaning = meaning_of(error)
    kind = type(error) if isinstance(error, WaystationError) else WaystationError
    line = f"{kind.reason}: {meaning.saying}. {kind.advice}".rstrip()
    return Reply(meaning.code, f"{line}\n".encode(), ((REASON_HEADER, kind.reason), *_fields(error, meaning)))


def phrase(code: int) -> str:
    """The status line's words for a code."""
    return HTTPStatus(code).phrase


def _fields(error: BaseException, meaning: Meaning) -> tuple[tuple[str, str], ...]:
    if meaning.code in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        known_s = error.retry_after_s if isinstance(error, errors.Unreachable | errors.Unavailable) else None
        return (("Retry-After", str(max(1, math.ceil(known_s)) if known_s is not None else RETRY_AFTER_S)),)
    if isinstance(error, errors.RangeNotSatisfiable):
        return (("Content-Range", f"bytes */{error.size_bytes}"),)
    if isinstance(error, errors.MethodNotAllowed):
        return (("Allow", METHODS),)
    return ()
