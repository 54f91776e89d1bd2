"""A real Versity S3 Gateway over a folder: an S3 server that shares no code with MinIO, and answers in its own way."""

from __future__ import annotations

import json
import secrets
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from peers import provide
from peers.processes import clean_environment
from peers.s3 import REGION, Keys, S3Server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


class VersityServer(S3Server):
    """As it comes: a connection for each request, and metadata in extended attributes."""

    def __init__(self, folder: Path) -> None:
        self._users = folder / "users"
        self._users.mkdir(parents=True)
        super().__init__(folder)

    def _command(self) -> Sequence[str | Path]:
        options: list[str | Path] = ["--quiet", "--health", self._health, "--region", REGION, "--port", self.address]
        return [provide.binary(provide.VERSITYGW), *options, "--iam-dir", self._users, "posix", self.data]

    def _environment(self) -> Mapping[str, str]:
        return {"ROOT_ACCESS_KEY": self.keys.access, "ROOT_SECRET_KEY": self.keys.secret}

    @property
    def _health(self) -> str:
        return "/health"

    def create_user_with(self, policy: Mapping[str, Any]) -> Keys:
        """Its users may do what the policies of buckets say: here that of the bucket which `policy` names."""
        keys = Keys(f"user-{secrets.token_hex(6)}", secrets.token_hex(16))
        subprocess.run(
            [
                *(provide.binary(provide.VERSITYGW), "admin", "--endpoint-url", self.endpoint_url),
                *("--access", self.keys.access, "--secret", self.keys.secret),
                *("create-user", "--access", keys.access, "--secret", keys.secret, "--role", "user"),
            ],
            env=clean_environment(self.folder),
            capture_output=True,
            check=True,
        )
        statements = [{**statement, "Principal": {"AWS": [keys.access]}} for statement in policy["Statement"]]
        bucket = str(statements[0]["Resource"][0]).removeprefix("arn:aws:s3:::").partition("/")[0]
        self.client().set_bucket_policy(bucket, json.dumps({**policy, "Statement": statements}))
        return keys


@contextmanager
def running_versitygw(folder: Path) -> Iterator[VersityServer]:
    """A started server, killed at the end."""
    server = VersityServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.close()
