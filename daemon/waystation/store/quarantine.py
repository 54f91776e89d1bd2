"""Where strange things go: out of the way, never served, kept for a while for a person to look at.

Folders of blobs go as files do. Others are kept for good: they can't be ours, and nobody knows what is in them.
"""

from __future__ import annotations

import re
import stat
from calendar import timegm
from dataclasses import dataclass, replace
from pathlib import Path
from time import gmtime, strftime, strptime
from typing import TYPE_CHECKING

import structlog

from waystation.disk import exists

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from waystation.disk import Disk

_STAMP = "%Y%m%dT%H%M%SZ"
_ASIDE = re.compile(r"strange-(\d{8}T\d{6}Z)-\d+-.*", re.DOTALL)
_OF_BLOBS = re.compile(r".*-[0-9a-f]{2}", re.DOTALL)
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_SHOWN_CHARACTERS = 80

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Aside:
    """Something in quarantine, by its name there."""

    name: str
    size_bytes: int
    removable: bool
    """It is removed in time, and counts until then."""


def printable(path: Path) -> str:
    """A path for a log line, whatever bytes it is made of."""
    return str(path).encode("unicode_escape").decode("ascii")


def set_aside_at(name: str) -> float | None:
    """When something was set aside, in seconds since the epoch, as its name says; None: we did not name it."""
    match = _ASIDE.fullmatch(name)
    try:
        return float(timegm(strptime(match[1], _STAMP))) if match else None
    except ValueError:
        return None


class Quarantine:
    """The folder of what was set aside; blocking."""

    def __init__(self, folder: Path, *, disk: Disk, wall: Callable[[], float]) -> None:
        self._folder = folder
        self._disk = disk
        self._wall = wall

    def set_aside(self, path: Path, why: str) -> Aside | None:
        """Move what stands at `path` away, with a warning; None (and a warning) where it can't be moved."""
        stamp = strftime(_STAMP, gmtime(self._wall()))
        name = _UNSAFE.sub("_", path.name)[:_SHOWN_CHARACTERS]
        number = 1
        while exists(self._disk, aside := self._folder / f"strange-{stamp}-{number}-{name}"):
            number += 1
        described = self._describe(path)
        try:
            self._disk.rename(path, aside)
        except OSError as error:
            log.warning("strange_thing_not_set_aside", path=printable(path), why=why, error=error.strerror)
            return None
        log.warning("strange_thing_set_aside", path=printable(path), why=why, moved_to=printable(aside))
        return replace(described, name=aside.name)

    def removable(self) -> Iterator[Aside]:
        """What was set aside and is removed in time, the oldest first."""
        for entry in sorted(self._disk.scan(self._folder), key=lambda entry: entry.name):
            if set_aside_at(entry.name) is not None and (aside := self._describe(Path(entry.path))).removable:
                yield aside

    def remove(self, name: str) -> bool:
        """Remove what was set aside under this name; False (and a warning) where that can't be done."""
        path = self._folder / name
        try:
            if self._is_folder(path):
                for entry in self._disk.scan(path):
                    self._disk.unlink(path / entry.name)
                self._disk.remove_folder(path)
            else:
                self._disk.unlink(path)
        except FileNotFoundError:
            return True
        except OSError as error:
            log.warning("quarantined_file_not_removed", path=printable(path), error=error.strerror)
            return False
        log.info("quarantined_file_removed", path=printable(path))
        return True

    def _describe(self, path: Path) -> Aside:
        """Say how much is there; what can't be looked at is left to a person."""
        try:
            if not self._is_folder(path):
                return Aside(path.name, self._disk.stat(path).st_size, removable=True)
            if _OF_BLOBS.fullmatch(path.name):
                sizes = [entry.stat(follow_symlinks=False).st_size for entry in self._disk.scan(path)]
                return Aside(path.name, sum(sizes), removable=True)
        except OSError as error:
            log.warning("quarantined_file_unreadable", path=printable(path), error=error.strerror)
        return Aside(path.name, 0, removable=False)

    def _is_folder(self, path: Path) -> bool:
        return stat.S_ISDIR(self._disk.stat(path).st_mode)
