"""An origin as any other client sees it: a folder, or a bucket of a real MinIO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from waystation.config import OriginSettings, Settings

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
