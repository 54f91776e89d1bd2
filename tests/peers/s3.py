"""A real S3 server of the tests, whichever it is: its life, its users, and what other clients put in a bucket."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import secrets
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import urllib3
from minio import Minio

from peers.processes import Process, clean_environment, free_port
from secrecy import made_up
from waystation.config import OriginSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class Keys:
    """An access key and its secret, and for a session a token."""

    access: str
    secret: str
    token: str = ""

    def __post_init__(self) -> None:
        made_up(self.secret)
        if self.token:
            made_up(self.token)

    def write(self, file: Path) -> Path:
        """Write them as the AWS tools' own credentials file."""
        token = f"aws_session_token = {self.token}\n" if self.token else ""
        file.write_text(f"[default]\naws_access_key_id = {self.access}\naws_secret_access_key = {self.secret}\n{token}")
        file.chmod(0o600)
        return file


class S3Server(ABC):
    """One server in `folder`; `start` and `stop` as often as wanted, always on the same port with the same data.

    With `certificate` (a file in PEM) it speaks https.
    """

    def __init__(self, folder: Path, *, certificate: Path | None = None) -> None:
        self.folder = folder
        self.port = free_port()
        self.keys = Keys("waystation-root", secrets.token_hex(16))
        self.secure = certificate is not None
        self.data = folder / "data"
        self.data.mkdir(parents=True)
        self.http = urllib3.PoolManager(
            cert_reqs="CERT_REQUIRED", ca_certs=str(certificate) if certificate else None, retries=False
        )
        self.process = Process(
            self._command(),
            log=folder / "server.log",
            environment=clean_environment(folder, **self._environment()),
        )

    @abstractmethod
    def _command(self) -> Sequence[str | Path]: ...
    @abstractmethod
    def _environment(self) -> Mapping[str, str]: ...
    @property
    @abstractmethod
    def _health(self) -> str:
        """The path that answers 200 once it serves."""

    @abstractmethod
    def create_user_with(self, policy: Mapping[str, Any]) -> Keys:
        """A user who may do what a whole policy says."""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def endpoint_url(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.address}"

    # --- its life ------------------------------------------------------------------------------

    def start(self) -> None:
        self.process.start()
        self.process.wait_ready(self._ready, timeout_s=60)

    def stop(self) -> None:
        """End it at once, as a crash would; its data stays."""
        self.process.kill()

    def close(self) -> None:
        self.stop()
        self.http.clear()

    def _ready(self) -> bool:
        try:
            return bool(self.http.request("GET", self.endpoint_url + self._health, timeout=5).status == 200)
        except (urllib3.exceptions.HTTPError, http.client.HTTPException):
            return False

    # --- its content ---------------------------------------------------------------------------

    def client(self, keys: Keys | None = None) -> Minio:
        """MinIO's own Python client: the other S3 client of the tests."""
        keys = keys or self.keys
        return Minio(self.address, keys.access, keys.secret, secure=self.secure, region=REGION, http_client=self.http)

    def create_bucket(self, name: str) -> Bucket:
        self.client().make_bucket(name)
        return Bucket(self, name)

    def create_user(self, bucket: str, actions: Sequence[str]) -> Keys:
        """A user who may do only `actions` (``s3:GetObject`` …) on the bucket and its keys."""
        resources = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
        statement = {"Effect": "Allow", "Action": list(actions), "Resource": resources}
        return self.create_user_with({"Version": "2012-10-17", "Statement": [statement]})


@dataclass(frozen=True, slots=True)
class Bucket:
    """One bucket, as its owner sees it."""

    server: S3Server
    name: str

    def settings(self, credentials_file: Path, *, prefix: str = "", **changes: Any) -> OriginSettings:
        """The origin settings of a reader of this bucket."""
        values: dict[str, Any] = {
            "url": f"s3://{self.name}/{prefix}".rstrip("/") if prefix else f"s3://{self.name}",
            "endpoint_url": self.server.endpoint_url,
            "region": REGION,
            "credentials_file": credentials_file,
        }
        return OriginSettings(**{**values, **changes})

    def put(
        self, key: str, body: bytes, *, metadata: Mapping[str, str] | None = None, stored_sha256: bool = False
    ) -> str:
        """Put an object as another client would, replacing what is there; returns its ETag with its quotes.

        `stored_sha256`: with the checksum that S3 itself keeps (``x-amz-checksum-sha256``).
        """
        headers: dict[str, str | list[str] | tuple[str]] = {**(metadata or {})}
        if stored_sha256:
            headers["x-amz-checksum-sha256"] = base64.b64encode(hashlib.sha256(body).digest()).decode()
        result = self.server.client().put_object(self.name, key, io.BytesIO(body), len(body), metadata=headers)
        return f'"{result.etag}"'

    def put_vouched(self, key: str, body: bytes) -> str:
        """Put an object with its ``<key>.sha256`` beside it, as a publisher leaves it; returns its sha256."""
        digest = hashlib.sha256(body).hexdigest()
        self.put(key, body)
        self.put(f"{key}.sha256", f"{digest}  {key.rpartition('/')[2]}\n".encode())
        return digest

    def get(self, key: str) -> bytes:
        response = self.server.client().get_object(self.name, key)
        try:
            return bytes(response.read())
        finally:
            response.close()
            response.release_conn()

    def remove(self, key: str) -> None:
        self.server.client().remove_object(self.name, key)

    def keys(self) -> list[str]:
        return [str(found.object_name) for found in self.server.client().list_objects(self.name, recursive=True)]

    def unfinished_uploads(self, key: str) -> int:
        """How many multipart uploads of the key were begun and neither completed nor aborted."""
        return len(self.server.client()._list_multipart_uploads(self.name, prefix=key).uploads)

    def make_public(self, *, listing: bool = False) -> None:
        """Let anyone read its objects, so that go-getter can fetch straight from it; `listing`: and list them."""
        resources = {"s3:GetObject": f"arn:aws:s3:::{self.name}/*"}
        if listing:
            resources["s3:ListBucket"] = f"arn:aws:s3:::{self.name}"
        statements = [
            {"Effect": "Allow", "Principal": {"AWS": ["*"]}, "Action": [action], "Resource": [resource]}
            for action, resource in resources.items()
        ]
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        self.server.client().set_bucket_policy(self.name, policy)
