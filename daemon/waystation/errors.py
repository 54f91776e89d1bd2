"""The error types: each knows the metric's label, one sentence of advice, and whether trying again may help.

Which HTTP status an error means is the mirror's business and stands in ``mirror/replies.py``.
"""

from __future__ import annotations

from typing import ClassVar


class WaystationError(Exception):
    """Something that a person can act on.

    ``str(error)`` says what happened, ``advice`` what to do next. ``reason`` is the bounded label
    that log lines and metrics carry; ``transient`` says whether the same call may succeed later.
    """

    reason: ClassVar[str] = "error"
    transient: ClassVar[bool] = False
    advice: str = ""

    def __init__(self, message: str, *, advice: str | None = None) -> None:
        super().__init__(message)
        if advice is not None:
            self.advice = advice


class ConfigError(WaystationError):
    """The configuration can't be used as it stands."""

    reason = "config"
    advice = "Correct the named setting; docs/configuration.md lists every key."


class CertificateError(ConfigError):
    """The mirror's certificate and key can't be used, or would be refused by every client."""

    reason = "certificate"
    advice = "Correct [mirror] tls_cert and tls_key; docs/configuration.md says what they must be."


# --- names ---------------------------------------------------------------------------------------


class BadTarget(WaystationError):
    """A name that no target can have."""

    reason = "bad_target"
    advice = "Targets are named <app>/<file>, for example app/app-0.1.0-x86_64."


# --- the origin ----------------------------------------------------------------------------------


class OriginError(WaystationError):
    """The origin did not do what was asked of it."""

    reason = "origin"


class Missing(OriginError):
    """The origin says for certain that it has no such key."""

    reason = "missing"
    advice = "Check the key with `waystation list`, or publish it."


class Denied(OriginError):
    """The origin refuses these credentials (S3 also says so for what is missing, without ListBucket)."""

    reason = "origin_denied"
    advice = (
        "Check these credentials and their policy: to read, it needs s3:GetObject on the keys and s3:ListBucket on the "
        "bucket."
    )


class ClockRefused(Denied):
    """The origin refuses signatures made by a clock that is so far from its own."""

    advice = "Set this machine's clock and keep it set: systemd-timesyncd or chrony."


class NoCredentials(Denied):
    """There are no credentials to ask the origin with."""

    advice = (
        "Name an AWS credentials file in [origin] credentials_file, or give the daemon's environment AWS_ACCESS_KEY_ID "
        "and AWS_SECRET_ACCESS_KEY."
    )


class Unreachable(OriginError):
    """The origin gave no usable answer in time."""

    reason = "origin_unreachable"
    transient = True
    advice = "Check that the origin is up and that [origin] url and endpoint_url are right; it is asked again."

    def __init__(self, message: str, *, advice: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message, advice=advice)
        self.retry_after_s = retry_after_s


class Short(OriginError):
    """Fewer bytes came than the origin announced."""

    reason = "short_body"
    transient = True
    advice = "The connection to the origin broke in mid-body; it is asked again by itself."


class RevisionChanged(OriginError):
    """The object is no longer the revision that was asked for."""

    reason = "revision_changed"
    advice = "Published names never change their bytes: publish a new version instead of replacing the object."


class TooLarge(OriginError):
    """A small body is larger than any that is valid."""

    reason = "too_large"
    advice = "The key holds something else than its name says; publish or adopt the target again."


class NotListable(OriginError):
    """The origin can't list its keys."""

    reason = "not_listable"
    advice = "Name targets one by one, or use an origin that can list."


class NotWatchable(OriginError):
    """The origin can't tell, or may not tell us, what is new."""

    reason = "not_watchable"
    advice = "Set [origin] notifications = false: what is new is then found by polling alone."


class Unavailable(OriginError):
    """A hub is there, and can't give this now: its own origin is away, or it has no room.

    Not transient: the hub has tried for as long as it makes sense, and retries must not multiply.
    """

    reason = "hub_unavailable"
    advice = "`waystation explain` at the hub says why; it is asked again with the next request."

    def __init__(self, message: str, *, advice: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message, advice=advice)
        self.retry_after_s = retry_after_s


class TooManyQuestions(OriginError):
    """So much is being asked of the origin at once that this is not asked as well."""

    reason = "too_many_questions"
    advice = "Ask again in a moment. The log's `peer` says who asks for so many names."


class Unvouched(OriginError):
    """A hub has the object, and nothing that vouches for its bytes, so it gives none of them."""

    reason = "no_checksum"
    advice = "Run `waystation adopt` on the bucket behind the hub, to add checksums."


class RejectedByHub(OriginError):
    """A hub got other bytes, or another checksum, than its catalog said, and gives none of them."""

    reason = "rejected_by_hub"
    advice = "`waystation explain` at the hub says what it rejects: restore the object in the bucket behind it."


class Redirected(OriginError):
    """The origin sends us elsewhere, and no redirect is followed: it could lead to any address in this network."""

    reason = "origin_redirects"
    advice = "Name in [origin] url the place where the files themselves lie."


class OriginLoop(OriginError):
    """A request came back to a daemon that it has passed already."""

    reason = "origin_loop"
    advice = "Correct [origin] url: of hubs that ask each other, one must ask the bucket."


class AlreadyExists(OriginError):
    """A key that must be created is there already."""

    reason = "already_exists"
    advice = "Published names never change their bytes: publish under a new version."


class Unconditional(OriginError):
    """The origin can't create a key only where there is none."""

    reason = "no_conditional_writes"
    advice = 'Set [origin] writes = "single", and let one publisher at a time write to this origin.'


# --- the catalog ---------------------------------------------------------------------------------


class CatalogError(WaystationError):
    """The catalog can't say what a target must be."""

    reason = "catalog"


class UnknownTarget(CatalogError):
    """The catalog does not have this target."""

    reason = "unknown_target"
    advice = "See `waystation list` for what is published."


class NoChecksum(CatalogError):
    """The object is there, but nothing vouches for its bytes."""

    reason = "no_checksum"
    advice = 'Run `waystation adopt` to add checksums, or set [catalog] missing_checksum = "pin-first".'


class Inconsistent(CatalogError):
    """Two statements about one target contradict each other."""

    reason = "inconsistent"
    advice = "Publish the target again under a new version; what vouches for this one was written by two hands."


class MalformedChecksum(CatalogError):
    """A checksum or piece file can't be read as one."""

    reason = "malformed_checksum"
    advice = "Remove the malformed .sha256 or .pieces object and run `waystation adopt`."


class TargetChanged(CatalogError):
    """A name now claims another digest than the one once seen for it."""

    reason = "changed"
    advice = "If the change is wanted, run `waystation catalog forget TARGET`; otherwise restore the object."


# --- the store -----------------------------------------------------------------------------------


class StoreError(WaystationError):
    """The store can't keep its promise."""

    reason = "store"


class NoRoom(StoreError):
    """No room, even after evicting all that may be evicted."""

    reason = "no_room"
    advice = "Raise [store] max_size, free disk space, or unpin targets; `waystation status` shows what is held."


class NotStored(StoreError):
    """The store has no such blob."""

    reason = "not_stored"
    advice = "`waystation store ls` shows what is stored."


class NotEvictable(StoreError):
    """A blob that may not be evicted now."""

    reason = "not_evictable"
    advice = "Unpin it with `waystation store unpin`, or wait until nobody reads it."


class StoreLocked(StoreError):
    """Another daemon holds this store."""

    reason = "store_locked"
    advice = "Stop the other daemon, or give this one a [store] path of its own."


class StoreFormat(StoreError):
    """The folder is not a store that this version can use."""

    reason = "store_format"
    advice = "Use the Waystation version that wrote it, or another [store] path."


class StoreUnusable(StoreError):
    """The operating system refuses the store's files."""

    reason = "store_unusable"
    advice = "Check the owner, mode and free space of [store] path."


class RottenBlob(StoreError):
    """The store's disk gives back other bytes than were stored."""

    reason = "rotten"
    advice = "It is fetched again by itself; where this happens often, replace the store's disk."


class ChangesMissed(StoreError):
    """Whoever listened to the store's changes was too slow: look at the whole state, then listen again."""

    reason = "changes_missed"
    transient = True
    advice = "Nothing to do: whoever listened looks at the whole state and goes on."


# --- the transfer --------------------------------------------------------------------------------


class TransferError(WaystationError):
    """A transfer ended without the artifact."""

    reason = "transfer"


class DigestMismatch(TransferError):
    """The whole body is not what the catalog said."""

    reason = "digest_mismatch"
    advice = "The origin's bytes are not the published ones: restore the object, or publish a new version."


class PieceMismatch(TransferError):
    """A piece, asked for twice, is not what the catalog said."""

    reason = "piece_mismatch"
    advice = "The origin's bytes are not the published ones: restore the object, or publish a new version."


class LayerMismatch(TransferError):
    """The piece layer does not lead to the root that the catalog said."""

    reason = "layer_mismatch"
    advice = "The origin's .pieces object is not the published one: remove it and run `waystation adopt`."


# --- the mirror ----------------------------------------------------------------------------------


class RequestError(WaystationError):
    """A request that the mirror can't answer with bytes, whatever the catalog has."""

    reason = "request"


class MalformedRequest(RequestError):
    """The request is not HTTP/1.1 as the mirror accepts it, or its path breaks a rule."""

    reason = "malformed_request"
    advice = "Ask with a plain GET for /artifacts/<app>/<file>; the path is decoded once and has no empty or '..' part."


class HeaderTooLarge(RequestError):
    """The request line and headers are longer than allowed."""

    reason = "header_too_large"
    advice = "Send fewer headers, or raise [mirror] max_header_size."


class SlowRequest(RequestError):
    """The headers did not arrive in time."""

    reason = "slow_request"
    advice = "Send the whole request at once, or raise [mirror] header_timeout."


class TooManyConnections(RequestError):
    """One machine holds as many connections as it may."""

    reason = "too_many_connections"
    advice = "Close some and ask again, or raise [mirror] max_connections_per_peer."


class PlainHttp(RequestError):
    """Plain HTTP came to a port that speaks TLS."""

    reason = "plain_http"
    advice = "Ask with https://, or at a port that [mirror] listen has as http://."


class Misdirected(RequestError):
    """The Host is neither an address, nor localhost, nor a name that is configured."""

    reason = "misdirected_host"
    advice = "Ask by address, or add the name to [mirror] hosts."


class MethodNotAllowed(RequestError):
    """Only GET and HEAD are answered here."""

    reason = "method_not_allowed"
    advice = "The mirror is read-only: publish with `waystation publish`, to the bucket itself."


class NotAnArtifact(RequestError):
    """The path leads to nothing that the mirror has."""

    reason = "not_an_artifact"
    advice = "Targets are at /artifacts/<app>/<file>; other buckets and lists are asked of the bucket itself."


class DirectoryAsked(RequestError):
    """go-getter asks for a folder (``terraform-get``), and would take any answer for success."""

    reason = "directory_asked"
    advice = 'Name one file in the source of the artifact: no "/" at its end, and mode "file" or "any".'


class PreconditionFailed(RequestError):
    """The artifact is not the one that If-Match or If-Unmodified-Since asks for."""

    reason = "precondition_failed"
    advice = "Start the download again: what the client has is not this artifact."


class RangeNotSatisfiable(RequestError):
    """The range begins behind the artifact's end."""

    reason = "range_not_satisfiable"
    advice = "Start the download again: the client holds more bytes than the artifact has."

    def __init__(self, message: str, *, size_bytes: int) -> None:
        super().__init__(message)
        self.size_bytes = size_bytes


class NoPieces(RequestError):
    """The target was published without a piece tree."""

    reason = "no_pieces"
    advice = "Run `waystation adopt` to add one."


# --- publishing ----------------------------------------------------------------------------------


class PublishError(WaystationError):
    """Nothing was published, or not all of it."""

    reason = "publish"


class ReadOnlyOrigin(PublishError):
    """The origin is one that nobody can write to."""

    reason = "read_only_origin"
    advice = 'Publish to the bucket or folder behind it: --set origin.url="s3://…", with its endpoint and credentials.'


class Conflict(PublishError):
    """Other bytes are published under this name."""

    reason = "conflict"
    advice = "A published name never changes its bytes: publish under a new version."


class Overwritten(Conflict):
    """What was written, read back, is not what is there: somebody else wrote under the name at the same time."""

    reason = "overwritten"
    advice = (
        "Publish under a new version; where `waystation doctor --publish` says that this origin lets several writers "
        'win, set [origin] writes = "single" and let one publisher at a time write.'
    )


class SourceChanged(PublishError):
    """The file changed while it was being uploaded."""

    reason = "source_changed"
    advice = "Publish a file that nothing writes to any more, and run publish again."


class BadBundle(PublishError):
    """The file is not one that can be published."""

    reason = "bad_bundle"
    advice = "Publish one regular, non-empty file."


# --- the daemon ----------------------------------------------------------------------------------


class DaemonError(WaystationError):
    """The daemon here can't be asked, or can't start."""

    reason = "daemon"
    advice = "Is it running? Start it with `waystation serve`, and check [admin] socket."


class NoDaemon(DaemonError):
    """Nobody answers on the admin socket."""

    reason = "no_daemon"


class NotAllowed(DaemonError):
    """This user may not use the admin socket."""

    reason = "not_allowed"
    advice = "Run the command as root, or as a user of the daemon's group."


class CallRefused(DaemonError):
    """The daemon understood the call, and can't do it as things are; it said why."""

    reason = "call_refused"


class MalformedCall(DaemonError):
    """A call on the admin socket is not one that the daemon understands."""

    reason = "malformed_call"
    advice = "The daemon and this command differ in version: restart the daemon."


class TakeoverError(WaystationError):
    """The origin's address can't be taken over, or given back."""

    reason = "takeover"
    advice = 'See docs/install.md, "Failing open"; `waystation takeover status` shows what stands.'


class NobodyAnswers(TakeoverError):
    """There is no daemon here that could answer in the origin's stead."""


class NoCgroup(TakeoverError):
    """The cgroup whose connections are to be taken over does not exist."""
