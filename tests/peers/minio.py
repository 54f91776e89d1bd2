"""A real MinIO: the S3 server that Waystation is made for."""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from minio import MinioAdmin
from minio.credentials.providers import StaticProvider

from peers import provide
from peers.s3 import REGION, Keys, S3Server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


class MinioServer(S3Server):
    """With `certificates` (the folder that holds ``public.crt`` and ``private.key``) it speaks https."""

    def __init__(self, folder: Path, *, certificates: Path | None = None, pin: provide.Pin = provide.MINIO) -> None:
        self._pin = pin
        self._certificates = certificates or folder / "no-certificates"
        self._certificates.mkdir(parents=True, exist_ok=True)
        super().__init__(folder, certificate=certificates / "public.crt" if certificates else None)

    def _command(self) -> Sequence[str | Path]:
        options: list[str | Path] = ["--quiet", "--certs-dir", self._certificates, "--address", self.address]
        return [provide.binary(self._pin), "server", *options, self.data]

    def _environment(self) -> Mapping[str, str]:
        return {
            "MINIO_ROOT_USER": self.keys.access,
            "MINIO_ROOT_PASSWORD": self.keys.secret,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
        }

    @property
    def _health(self) -> str:
        return "/minio/health/cluster"

    def create_user_with(self, policy: Mapping[str, Any]) -> Keys:
        keys = Keys(f"user-{secrets.token_hex(6)}", secrets.token_hex(16))
        admin = MinioAdmin(
            endpoint=self.address,
            credentials=StaticProvider(self.keys.access, self.keys.secret),
            region=REGION,
            secure=self.secure,
            http_client=self.http,
        )
        admin.user_add(keys.access, keys.secret)
        admin.policy_add(keys.access, policy=dict(policy))
        admin.policy_set(keys.access, user=keys.access)
        return keys


@contextmanager
def running_minio(
    folder: Path, *, certificates: Path | None = None, pin: provide.Pin = provide.MINIO
) -> Iterator[MinioServer]:
    """A started server, killed at the end."""
    server = MinioServer(folder, certificates=certificates, pin=pin)
    try:
        server.start()
        yield server
    finally:
        server.close()
