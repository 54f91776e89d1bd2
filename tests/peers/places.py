"""An origin as any other client sees it: a folder, a bucket of a real MinIO, or what a server gives of either."""

from __future__ import annotations

import itertools
import os
import time
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from waystation.config import OriginSettings, Settings
from waystation.pieces import PiecesLine, TreeHasher, dump_pieces

if TYPE_CHECKING:
    from pathlib import Path

    from peers.s3 import Bucket


class Place(Protocol):
    """What any client can do there."""

    @property
    def settings(self) -> Settings: ...
    def all_keys(self) -> list[str]: ...
    def get(self, key: str) -> bytes: ...
    def put(self, key: str, body: bytes) -> object: ...
    def remove(self, key: str) -> None: ...


@dataclass(frozen=True)
class FolderPlace:
    root: Path

    @property
    def settings(self) -> Settings:
        return Settings(origin=OriginSettings(url=self.root.as_uri()))

    def all_keys(self) -> list[str]:
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file())

    def get(self, key: str) -> bytes:
        return (self.root / key).read_bytes()

    def put(self, key: str, body: bytes) -> None:
        """As a careful person does it: a new file, moved over what is there."""
        (self.root / key).parent.mkdir(parents=True, exist_ok=True)
        new = self.root / ".new"
        new.write_bytes(body)
        new.rename(self.root / key)

    def remove(self, key: str) -> None:
        (self.root / key).unlink()


@dataclass(frozen=True)
class BucketPlace:
    bucket: Bucket
    settings: Settings

    def all_keys(self) -> list[str]:
        return sorted(self.bucket.keys())

    def get(self, key: str) -> bytes:
        return self.bucket.get(key)

    def put(self, key: str, body: bytes) -> None:
        self.bucket.put(key, body)

    def remove(self, key: str) -> None:
        self.bucket.remove(key)


@dataclass(frozen=True)
class ServedPlace:
    """What lies in `behind`, read over HTTP at `url`; each file is a second younger than the one before.

    Last-Modified has no finer steps, and some servers tell nothing else of a revision.
    """

    url: str
    behind: Place
    _ages_s: itertools.count[int] = field(default_factory=lambda: itertools.count(100, -1))

    @property
    def settings(self) -> Settings:
        return Settings(origin=OriginSettings(url=self.url))

    def all_keys(self) -> list[str]:
        return self.behind.all_keys()

    def get(self, key: str) -> bytes:
        return self.behind.get(key)

    def put(self, key: str, body: bytes) -> None:
        self.behind.put(key, body)
        if isinstance(self.behind, FolderPlace):
            then = time.time() - next(self._ages_s)
            os.utime(self.behind.root / key, (then, then))

    def remove(self, key: str) -> None:
        self.behind.remove(key)


@dataclass(frozen=True)
class HubPlace:
    """A folder behind a Waystation: what is put there is vouched for, and stays as it is."""

    url: str
    behind: FolderPlace

    @property
    def settings(self) -> Settings:
        return Settings(origin=OriginSettings(url=self.url))

    def all_keys(self) -> list[str]:
        return [key for key in self.behind.all_keys() if not key.endswith((".sha256", ".pieces"))]

    def get(self, key: str) -> bytes:
        return self.behind.get(key)

    def put(self, key: str, body: bytes) -> None:
        self.behind.put(key, body)
        digest = sha256(body).hexdigest()
        if body:
            hasher = TreeHasher(len(body))
            hasher.update(body)
            tree, layer = hasher.finish()
            self.behind.put(f"{key}.pieces", dump_pieces(PiecesLine(digest, len(body), tree), layer))
        self.behind.put(f"{key}.sha256", f"{digest}\n".encode())

    def remove(self, key: str) -> None:
        self.behind.remove(key)
