"""One client for one bucket, as the settings say, and what its answers and errors mean.

botocore makes one attempt a call: retries live in `resilient.py`. The environment's proxies are not used,
neither for small calls nor for bulk; of its other variables only the AWS credential chain's count.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import time
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import quote, urlsplit

import aiohttp
from aiobotocore.config import AioConfig
from botocore import exceptions as botocore_errors
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from botocore.parsers import ResponseParserError

from waystation.errors import ClockRefused, Denied, Missing, NoCredentials, OriginError, Short, Unreachable
from waystation.model import Digest, parse_digest
from waystation.origin.http_answers import NO_BUCKET_ADVICE, NO_SUCH_KEY_CODES, redirected
from waystation.origin.interface import MAX_OBJECT_BYTES, ObjectInfo
from waystation.origin.s3_access import prepare
from waystation.origin.tls import TLS_ADVICE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from waystation.config import OriginSettings
    from waystation.origin.s3_access import Access

DEFAULT_REGION = "us-east-1"
KEYS_ADVICE = "Correct the access key and secret in [origin] credentials_file or in the environment."
REGION_ADVICE = "Correct [origin] region and endpoint_url: the bucket is elsewhere."
CLOCK_LIMIT_S = 15 * 60
"""S3's RequestTimeTooSkewed: a signature that is so much older or younger than the server's clock is denied."""

_DENIALS = {
    "InvalidAccessKeyId": KEYS_ADVICE,
    "SignatureDoesNotMatch": KEYS_ADVICE,
    "ExpiredToken": KEYS_ADVICE,
    "InvalidToken": KEYS_ADVICE,
}
_ELSEWHERE = {"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"}
_NO_CREDENTIALS = (
    botocore_errors.NoCredentialsError,
    botocore_errors.PartialCredentialsError,
    botocore_errors.CredentialRetrievalError,
    botocore_errors.ProfileNotFound,
    botocore_errors.TokenRetrievalError,
    botocore_errors.SSOError,
)

_NOT_S3 = (ResponseParserError, KeyError, ValueError, TypeError, AttributeError, OverflowError, RuntimeError)
"""What botocore, and whoever reads what it gives, raise over an answer without what S3's have, or with other words."""


class S3Connection:
    """An open client of the settings' bucket; keys are below its prefix."""

    def __init__(
        self, settings: OriginSettings, client: Any, access: Access, region: str, stack: AsyncExitStack
    ) -> None:
        self.client = client
        self.tls = access.tls
        self.region = region
        self._access = access
        self.bucket, self.prefix = split_url(settings.url)
        self._endpoint = settings.endpoint_url or "Amazon S3"
        self._stack = stack
        self._bucket_url = ""

    @classmethod
    async def open(cls, settings: OriginSettings) -> Self:
        """Make the client; nothing is asked of the origin yet.

        Raises:
            NoCredentials: the credentials file can't be used.
            Unreachable: the CA bundle can't be used.
        """
        ready = await asyncio.to_thread(prepare, settings)
        config = AioConfig(
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.request_timeout,
            max_pool_connections=settings.max_connections,
            retries={"total_max_attempts": 1, "mode": "standard"},
            signature_version="s3v4",
            s3={"addressing_style": settings.addressing_style, "payload_signing_enabled": True},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            proxies={},
            http_session_cls=ready.http_session,
        )
        region = settings.region or ready.session.get_config_variable("region") or DEFAULT_REGION
        stack = AsyncExitStack()
        try:
            client = await stack.enter_async_context(
                ready.session.create_client(
                    "s3",
                    endpoint_url=settings.endpoint_url,
                    region_name=region,
                    verify=str(settings.ca_bundle) if settings.ca_bundle else True,
                    config=config,
                    **ready.keys,
                )
            )
        except botocore_errors.BotoCoreError as error:
            raise NoCredentials(f"no client for the origin: {type(error).__name__}") from error
        client.meta.events.register_last("before-parameter-build.s3", _stay_in_the_region)
        return cls(settings, client, ready, region, stack)

    async def close(self) -> None:
        await self._stack.aclose()

    async def credentials(self) -> ReadOnlyCredentials:
        """What to sign a request with that botocore knows nothing of, as of now."""
        keys = self._access.keys
        if keys:
            return ReadOnlyCredentials(
                keys["aws_access_key_id"], keys["aws_secret_access_key"], keys.get("aws_session_token")
            )
        found = await self._access.session.get_credentials()
        if found is None:
            raise NoCredentials("no usable credentials for the origin")
        return await found.get_frozen_credentials()

    async def bucket_url(self) -> str:
        """Where the bucket is, without a slash at its end: botocore decides, once, on host and path."""
        if not self._bucket_url:
            signed = urlsplit(await self.client.generate_presigned_url("head_bucket", Params={"Bucket": self.bucket}))
            self._bucket_url = f"{signed.scheme}://{signed.netloc}{signed.path.rstrip('/')}"
        return self._bucket_url

    async def presigned(self, key: str, lasts_s: int) -> str:
        """A URL to GET the key by. Signing alone, without what else botocore does, takes half a millisecond less."""
        url = f"{await self.bucket_url()}/{quote(self.full_key(key), safe='/~')}"
        request = AWSRequest(method="GET", url=url)
        S3SigV4QueryAuth(await self.credentials(), "s3", self.region, expires=lasts_s).add_auth(request)
        return str(request.url)

    def full_key(self, key: str) -> str:
        return self.prefix + key

    # --- answers -------------------------------------------------------------------------------

    async def head(self, key: str) -> ObjectInfo:
        """Describe the key's present revision."""
        with self.explaining(key):
            try:
                response = await self.client.head_object(
                    Bucket=self.bucket, Key=self.full_key(key), ChecksumMode="ENABLED"
                )
            except botocore_errors.ClientError as error:
                # The answer to a HEAD has no body that says what is missing, or what is wrong with the request:
                # where the bucket answers, it is this key, be it one that the server can't hold.
                status = _status(error.response)
                if status not in (HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST):
                    raise
                await self._check_bucket()
                raise Missing(f"the origin has no '{key}' ({status})") from error
            return self.describe(key, response)

    @staticmethod
    def describe(key: str, response: Mapping[str, Any]) -> ObjectInfo:
        """Read the answer to a HEAD or GET of one object."""
        sha256, sha256_from = _recorded_sha256(response)
        return ObjectInfo(
            key=key,
            size_bytes=_size(response["ContentLength"]),
            etag=str(response["ETag"]),
            modified=response["LastModified"].astimezone(UTC),
            sha256=sha256,
            served_at=_served_at(response),
            sha256_from=sha256_from,
        )

    async def clock(self) -> datetime | None:
        """The origin's clock, by whatever it answers, also where it denies; None where it does not say.

        Raises:
            OriginError: there is no answer.
        """
        with self.explaining(""):
            try:
                response = await self.client.head_bucket(Bucket=self.bucket)
            except botocore_errors.ClientError as error:
                response = error.response
        return _served_at(response)

    async def _check_bucket(self) -> None:
        """Make sure that "missing" may be believed: the bucket is there, and this reader may list it.

        To others S3 says 403 for what is missing; servers that say 404 all the same are held to S3's rule.
        """
        try:
            await self.client.head_bucket(Bucket=self.bucket)
        except botocore_errors.ClientError as error:
            status = _status(error.response)
            if status == HTTPStatus.NOT_FOUND:
                raise self._no_bucket() from error
            if status == HTTPStatus.FORBIDDEN:
                raise Denied(
                    f"this reader may not list bucket '{self.bucket}', so nothing in it counts as missing"
                ) from error
            raise

    # --- errors --------------------------------------------------------------------------------

    @contextmanager
    def explaining(self, key: str) -> Iterator[None]:
        """Say in the origin's words what botocore raises; only names, codes and endpoints reach the text."""
        try:
            yield
        except botocore_errors.ClientError as error:
            raise self._explain_answer(error.response, key) from error
        except _NO_CREDENTIALS as error:
            kind = type(error).__name__
            raise NoCredentials(f"no usable credentials for the origin: {kind}") from error
        except botocore_errors.SSLError as error:
            raise Unreachable(f"no trusted connection to {self._endpoint}", advice=TLS_ADVICE) from error
        except (botocore_errors.FlexibleChecksumError, botocore_errors.IncompleteReadError) as error:
            raise Short(f"the body of '{key}' is not what the origin announced") from error
        except (botocore_errors.BotoCoreError, aiohttp.ClientError, OSError) as error:
            raise Unreachable(f"no answer from {self._endpoint}: {_kind(error)}") from error
        except _NOT_S3 as error:
            what = f"'{key}'" if key else f"the bucket '{self.bucket}'"
            raise Unreachable(f"what {self._endpoint} answered for {what} can't be read as S3's") from error

    def _explain_answer(self, response: Mapping[str, Any], key: str) -> OriginError:
        status, code = _status(response), str(response.get("Error", {}).get("Code", ""))
        if not re.fullmatch(r"[A-Za-z0-9]{1,64}", code):
            code = ""
        said = f"{status} {code}".strip() if code != str(status) else code
        what = f"'{key}'" if key else f"the bucket '{self.bucket}'"
        error: OriginError
        if code == "NoSuchBucket":
            error = self._no_bucket()
        elif code in _ELSEWHERE:
            error = Unreachable(f"{self._endpoint} answered {said} for {what}", advice=REGION_ADVICE)
        elif HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            location = _header(response, "location")
            error = (
                redirected(what, status, location, advice=REGION_ADVICE)
                if location
                else Unreachable(f"{self._endpoint} answered {said} for {what}", advice=REGION_ADVICE)
            )
        elif code in NO_SUCH_KEY_CODES or status == HTTPStatus.NOT_FOUND:
            error = Missing(f"the origin has no {what} ({said})")
        elif code == "RequestTimeTooSkewed":
            error = ClockRefused(f"the origin does not accept this machine's clock ({said})")
        elif code in _DENIALS:
            error = Denied(f"the origin does not accept this machine's requests ({said})", advice=_DENIALS[code])
        elif status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            error = _denied(f"the origin denies {what} ({said})", _served_at(response))
        else:
            error = Unreachable(f"{self._endpoint} answered {said} for {what}")
        return error

    def _no_bucket(self) -> Unreachable:
        return Unreachable(f"there is no bucket '{self.bucket}' at {self._endpoint}", advice=NO_BUCKET_ADVICE)


def _stay_in_the_region(context: dict[str, Any], **_: Any) -> None:
    """Let botocore believe that it has looked for the bucket elsewhere already.

    It would ask the bucket where it is, and where that answer is a redirect too ask again, until the stack ends.
    """
    context.setdefault("s3_redirect", {})["redirected"] = True


def split_url(url: str) -> tuple[str, str]:
    """Take ``s3://bucket/some/prefix`` apart into the bucket and what stands before every key."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    prefix = prefix.strip("/")
    return bucket, f"{prefix}/" if prefix else ""


def _size(told: object) -> int:
    if not isinstance(told, int) or not 0 <= told <= MAX_OBJECT_BYTES:
        raise ValueError("no file has so many bytes")
    return told


def _recorded_sha256(
    response: Mapping[str, Any],
) -> tuple[Digest, Literal["metadata", "checksum"]] | tuple[None, None]:
    """What S3 has on record for the whole object: the publisher's own word, else a checksum that is not composite."""
    stated = response.get("Metadata", {}).get("sha256")
    if stated:
        try:
            return parse_digest(stated), "metadata"
        except ValueError:
            return None, None
    checksum = response.get("ChecksumSHA256", "")
    if not checksum or response.get("ChecksumType", "FULL_OBJECT") != "FULL_OBJECT":
        return None, None
    try:
        return parse_digest(base64.b64decode(checksum, validate=True).hex()), "checksum"
    except (ValueError, binascii.Error):
        return (
            None,
            None,
        )  # also a composite one of a server that gives no type: it ends with "-" and the number of parts


def _served_at(response: Mapping[str, Any]) -> datetime | None:
    try:
        return parsedate_to_datetime(_header(response, "date")).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _header(response: Mapping[str, Any], name: str) -> str:
    return str(response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get(name, ""))


def _denied(what: str, served_at: datetime | None) -> Denied:
    """A denial without a code, as the answer to a HEAD is, may be about the clock that botocore signs with."""
    ahead_s = time.time() - served_at.timestamp() if served_at else 0.0
    if abs(ahead_s) < CLOCK_LIMIT_S:
        return Denied(what)
    side = "ahead of" if ahead_s > 0 else "behind"
    return ClockRefused(f"{what}; this machine's clock is {round(abs(ahead_s) / 60)} min {side} the origin's")


def _status(response: Mapping[str, Any]) -> int:
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _kind(error: Exception) -> str:
    """Name an error by what the operating system said of it, else by its type."""
    cause = getattr(error, "kwargs", {}).get("error", error)
    return getattr(cause, "strerror", None) or type(error).__name__
