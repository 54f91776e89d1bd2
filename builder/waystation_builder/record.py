"""What `build` leaves beside an executable, so that `publish` publishes what was checked and nothing else."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from waystation_builder.errors import Unchecked

if TYPE_CHECKING:
    from pathlib import Path

RECORD_SUFFIX = ".build.json"


@dataclass(frozen=True, slots=True)
class Record:
    """A build, and what its checks found."""

    app: str
    version: str
    arch: str
    sha256: str
    size_bytes: int
    bundler: str
    why: str
    """Why this bundler."""
    needs: tuple[str, ...]
    smoke: str
    """How it was tried, or why not."""


def record_path(file: Path) -> Path:
    """Say where the record of an executable lies."""
    return file.with_name(file.name + RECORD_SUFFIX)


def write_record(file: Path, record: Record) -> None:
    """Write the record of an executable beside it."""
    record_path(file).write_text(json.dumps(asdict(record), indent=2) + "\n")


def read_record(file: Path) -> Record:
    """Read the record of an executable.

    Raises:
        Unchecked: there is none, or it is not one.
    """
    path = record_path(file)
    try:
        fields = json.loads(path.read_text())
        return Record(**{**fields, "needs": tuple(map(str, fields["needs"]))})
    except FileNotFoundError:
        raise Unchecked(f"{file} was not built by `waystation-builder build`: there is no {path.name}") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise Unchecked(f"{path} can't be read: {error}") from error
