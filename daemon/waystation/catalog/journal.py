"""The file ``catalog.json``: a header, then one line of JSON for each thing learned; the last one about a name counts.

Learning a name appends one synced line, whatever the catalog's size: with 100,000 targets that takes
a millisecond, where writing all of them anew takes half a second. What is outdated is dropped by a
rewrite, whole or not at all, once it is more than half of the file. All calls block.
"""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING, Any

import structlog

from waystation.catalog.remembered import from_record, to_record
from waystation.disk import read_file, replace_file
from waystation.errors import BadTarget
from waystation.model import parse_target

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from waystation.catalog.remembered import Remembered
    from waystation.disk import Disk
    from waystation.model import TargetPath

FORMAT = 1
MAX_JOURNAL_BYTES = 1024**3
_OUTDATED_LINES = 1000
"""A journal may always hold that many lines that no longer count."""

log = structlog.get_logger()


class Journal:
    """Keeps what is remembered in one file; for one caller at a time."""

    def __init__(self, path: Path, *, disk: Disk) -> None:
        self._path = path
        self._disk = disk
        self._lines = 0
        self._end_bytes: int | None = None  # None: the file can't be appended to

    def needs_rewrite(self, names: int) -> bool:
        """Whether the file must be written anew, with so many names to remember."""
        return self._end_bytes is None or self._lines > 2 * names + _OUTDATED_LINES

    def read(self) -> dict[TargetPath, Remembered]:
        """Read what can be read; a file that is damaged or not ours is set aside, never fatal."""
        try:
            body = read_file(self._disk, self._path, limit_bytes=MAX_JOURNAL_BYTES)
        except FileNotFoundError:
            return {}
        except OSError as error:
            self._set_aside(f"it can't be read: {error.strerror}")
            return {}
        # What follows the last line's end was being written when the machine stopped: nobody was told of it yet.
        header, *lines = body.split(b"\n")[:-1] or [b""]
        if not _is_header(header):
            self._set_aside(f"it is not a catalog of format {FORMAT}")
            return {}
        remembered: dict[TargetPath, Remembered] = {}
        damaged = 0
        for line in lines:
            try:
                _take(remembered, json.loads(line))
            except (BadTarget, ValueError, KeyError, TypeError, AttributeError, RecursionError):
                damaged += 1
        if damaged:
            self._set_aside(f"{damaged} of its {len(lines)} lines are damaged, the others still count")
            self._keep_now(remembered)
        elif body.endswith(b"\n"):
            self._lines, self._end_bytes = len(lines), len(body)
        return remembered

    def append(self, changes: Mapping[TargetPath, Remembered | None]) -> None:
        """Add what was learned (None: forgotten), durably.

        Raises:
            OSError: the disk refuses, or the file is not what was left there. `rewrite` makes it good.
        """
        end_bytes, self._end_bytes = self._end_bytes, None
        body = "".join(_line(name, change) for name, change in changes.items()).encode()
        fd = self._disk.open(self._path, os.O_WRONLY)
        try:
            if end_bytes is None or self._disk.stat_fd(fd).st_size != end_bytes:
                raise OSError(errno.ESTALE, "someone else wrote to it", str(self._path))
            self._disk.write_at(fd, memoryview(body), end_bytes)
            self._disk.sync(fd)
        finally:
            self._disk.close(fd)
        self._lines += len(changes)
        self._end_bytes = end_bytes + len(body)

    def rewrite(self, remembered: Mapping[TargetPath, Remembered]) -> None:
        """Write all of it anew; after a crash either the old file or the new one is there.

        Raises:
            OSError: the disk refuses.
        """
        self._end_bytes = None
        header = json.dumps({"waystation": "catalog", "format": FORMAT}) + "\n"
        body = "".join([header, *(_line(name, one) for name, one in remembered.items())]).encode()
        replace_file(self._disk, self._path, body)
        self._lines, self._end_bytes = len(remembered), len(body)

    def _keep_now(self, remembered: Mapping[TargetPath, Remembered]) -> None:
        try:
            self.rewrite(remembered)
        except OSError as error:
            log.warning("catalog_memory_not_written", path=str(self._path), error=error.strerror)

    def _set_aside(self, reason: str) -> None:
        aside = self._path.with_name(f"{self._path.name}.bad")
        try:
            self._disk.rename(self._path, aside)
        except OSError as error:
            log.warning("catalog_memory_not_set_aside", path=str(self._path), error=error.strerror)
        log.warning(
            "catalog_memory_set_aside",
            path=str(self._path),
            reason=reason,
            kept_as=str(aside),
            advice="Nothing to do: the catalog goes on, but digests only seen in that file are no longer remembered.",
        )


def _is_header(line: bytes) -> bool:
    try:
        header = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(header, dict) and header.get("waystation") == "catalog" and header.get("format") == FORMAT


def _take(remembered: dict[TargetPath, Remembered], record: dict[str, Any]) -> None:
    if record.get("forgotten") is True:
        remembered.pop(parse_target(record["target"]), None)
    else:
        one = from_record(record)
        remembered[one.artifact.target] = one


def _line(name: TargetPath, change: Remembered | None) -> str:
    record = to_record(change) if change else json.dumps({"target": name, "forgotten": True}, separators=(",", ":"))
    return record + "\n"
