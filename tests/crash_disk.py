"""A disk that loses its power at a given file call, or fails one call, and knows what a power cut would leave.

It works on real files below one folder, and keeps beside them what a disk would still hold: a file's bytes
since its last sync, a folder's names since the folder's. What is not synced may be lost, all of it or any part
of it, for each name, and for each sector of a file, by itself. Two things hold as journaling filesystems have
them: a rename is there whole or not at all, and later changes of one name don't survive without the earlier ones.
A sync that failed has lost what it should have written (the page cache calls it clean), whatever later syncs say.
"""

from __future__ import annotations

import errno
import os
import threading
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Literal

from waystation.disk import FILE_MODE, FOLDER_MODE, Disk

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from waystation.model import Span

BLOCK_BYTES = 512


class PowerCut(BaseException):
    """Nothing runs any more: no code may catch this and go on."""


class Fault(Enum):
    """What happens at the chosen call; each counts only the calls that it can happen to."""

    POWER = auto()
    """The machine stops just before it. Only calls that change something count: between them nothing changes."""
    NO_SPACE = auto()
    BROKEN = auto()
    """EIO, from any call but close(2)."""
    SHORT = auto()
    """The first half is written, then there is no space."""


_TAKES_ROOM = frozenset({"create", "write_at", "allocate", "rename", "link", "make_folder", "sync", "sync_folder"})
_CHANGES = _TAKES_ROOM | {"truncate", "touch", "unlink", "remove_folder"}
_HALVES = frozenset({"write_at", "allocate"})


@dataclass(frozen=True, slots=True)
class _Bytes:
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class _Size:
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _Times:
    accessed_ns: int
    modified_ns: int


@dataclass(eq=False)
class _File:
    kept: bytes = b""
    times: _Times | None = None
    waiting: list[_Bytes | _Size | _Times] = field(default_factory=list)
    """What was done to it since the last sync."""


@dataclass(eq=False)
class _Folder:
    names: dict[str, _Node] = field(default_factory=dict)
    kept: dict[str, _Node] = field(default_factory=dict)


_Node = _File | _Folder
_Slot = tuple[_Folder, str]
_Change = dict[_Slot, _Node | None]
"""One call's new names (None: no longer one): all of them are there after a power cut, or none."""


class CrashDisk(Disk):
    """Everything below `root`; what is there at first is lasting."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: list[str] = []
        """Those that could have failed since `arm`, for a message of a test that does."""
        self.boot = "the first boot"
        self.struck: str | None = None
        """The call that the fault came to."""
        self._fault: Fault | None = None
        self._at = 0
        self._lock = threading.RLock()
        self._top = self._adopt(root)
        self._changes: list[_Change] = []
        self._open: dict[int, _File] = {}

    def arm(self, fault: Fault, at: int = 0) -> None:
        """From now on let the fault come to the call with this number, once."""
        with self._lock:
            self.calls, self.struck, self._fault, self._at = [], None, fault, at

    def disarm(self) -> None:
        """Let no fault come any more."""
        with self._lock:
            self._fault = None

    @property
    def is_off(self) -> bool:
        return self.struck is not None and self._fault is Fault.POWER

    @property
    def struck_reading(self) -> bool:
        """Whether the call that failed looked at something: the disk then seems to hold what it can't read."""
        return self.struck is not None and self.struck.split()[0] in {
            "scan",
            "stat",
            "stat_fd",
            "open",
            "read_into",
            "read_once",
        }

    @property
    def open_files(self) -> int:
        return len(self._open)

    def end_process(self) -> None:
        """Close what its process has still open, as the kernel does."""
        for fd in list(self._open):
            self.close(fd)

    def rot(self, path: Path, offset: int) -> None:
        """Flip a bit of a file behind everyone's back, also in what a power cut leaves."""
        with self._lock:
            folder, name = self._slot(path)
            node = folder.names[name]
            if not isinstance(node, _File):
                raise IsADirectoryError(path)
            body = bytearray(path.read_bytes())
            body[offset] ^= 1
            with path.open("r+b") as file:
                file.write(body)
            node.waiting.append(_Bytes(offset, bytes(body[offset : offset + 1])))
            node.kept, node.times = _content(node, "all")
            node.waiting.clear()

    # --- what a power cut leaves ---------------------------------------------------------------

    def survive(self, target: Path, *, keep: Literal["all", "synced"] | random.Random) -> None:
        """Build in `target` what is there afterwards; all: the machine went on, only the process died."""
        with self._lock:
            entries = self._names_kept(keep)
            target.mkdir()
            self._build(self._top, target, keep, entries, {})

    def _names_kept(self, keep: Literal["all", "synced"] | random.Random) -> Callable[[_Folder], dict[str, _Node]]:
        if keep == "all":
            return lambda folder: folder.names
        kept: dict[_Folder, dict[str, _Node]] = {}
        if not isinstance(keep, str):
            lost: set[_Slot] = set()
            chance = keep.choice((0.2, 0.5, 0.8))
            for change in self._changes:
                if lost.isdisjoint(change) and keep.random() < chance:
                    for (folder, name), node in change.items():
                        _set(kept.setdefault(folder, dict(folder.kept)), name, node)
                else:
                    lost.update(change)
        return lambda folder: kept.get(folder, folder.kept)

    def _build(
        self,
        folder: _Folder,
        target: Path,
        keep: Literal["all", "synced"] | random.Random,
        entries: Callable[[_Folder], dict[str, _Node]],
        built: dict[_File, Path],
    ) -> None:
        for name, node in entries(folder).items():
            path = target / name
            if isinstance(node, _Folder):
                path.mkdir()
                self._build(node, path, keep, entries, built)
            elif node in built:
                path.hardlink_to(built[node])
            else:
                body, times = _content(node, keep)
                path.write_bytes(body)
                if times:
                    os.utime(path, ns=(times.accessed_ns, times.modified_ns))
                built[node] = path

    # --- files ---------------------------------------------------------------------------------

    def open(self, path: Path, flags: int, mode: int = FILE_MODE) -> int:
        with self._lock:
            creates = bool(flags & os.O_CREAT) and not os.path.lexists(path)
            self._call("create" if creates else "open", path)
            fd = super().open(path, flags, mode)
            folder, name = self._slot(path)
            if creates:
                self._change({(folder, name): _File()})
            node = folder.names[name]
            if isinstance(node, _File):
                self._open[fd] = node
                if flags & os.O_TRUNC:
                    node.waiting.append(_Size(0))
            return fd

    def close(self, fd: int) -> None:
        with self._lock:
            self._open.pop(fd, None)
            super().close(fd)

    def read_once(self, fd: int, buffer: memoryview, offset: int) -> int:
        self._call("read_once")
        return super().read_once(fd, buffer, offset)

    def read_into(self, fd: int, buffer: memoryview, offset: int) -> int:
        self._call("read_into")
        return super().read_into(fd, buffer, offset)

    def write_at(self, fd: int, data: memoryview, offset: int) -> None:
        with self._lock:
            half = self._call("write_at")
            written = data[: len(data) // 2] if half else data
            super().write_at(fd, written, offset)
            self._open[fd].waiting.append(_Bytes(offset, bytes(written)))
            if half:
                raise _error(errno.ENOSPC)

    def allocate(self, fd: int, size_bytes: int) -> None:
        with self._lock:
            half = self._call("allocate")
            allocated = size_bytes // 2 if half else size_bytes
            super().allocate(fd, allocated)
            self._open[fd].waiting.append(_Size(os.fstat(fd).st_size))
            if half:
                raise _error(errno.ENOSPC)

    def forget(self, fd: int, span: Span) -> None:
        super().forget(fd, span)  # a hint, whose answer nobody looks at

    def data_spans(self, fd: int, size_bytes: int) -> list[Span]:
        return super().data_spans(fd, size_bytes)  # answers what the system can't tell: it never fails

    def truncate(self, fd: int, size_bytes: int) -> None:
        with self._lock:
            self._call("truncate")
            super().truncate(fd, size_bytes)
            self._open[fd].waiting.append(_Size(size_bytes))

    def sync(self, fd: int) -> None:
        with self._lock:
            node = self._open[fd]
            try:
                self._call("sync")
            except OSError:
                node.waiting.clear()
                raise
            node.kept, node.times = _content(node, "all")
            node.waiting.clear()

    def sync_folder(self, path: Path) -> None:
        with self._lock:
            self._call("sync_folder", path)
            os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            if not path.is_relative_to(self.root):
                return
            folder = self._folder(path)
            needed: set[_Slot] = set()
            lasting: list[_Change] = []
            for change in reversed(self._changes):
                if any(slot[0] is folder or slot in needed for slot in change):
                    needed.update(change)
                    lasting.append(change)
            self._changes = [change for change in self._changes if not any(change is each for each in lasting)]
            for change in reversed(lasting):
                for (where, name), node in change.items():
                    _set(where.kept, name, node)

    def touch(self, path: Path, *, accessed_ns: int, modified_ns: int) -> None:
        with self._lock:
            self._call("touch", path)
            super().touch(path, accessed_ns=accessed_ns, modified_ns=modified_ns)
            folder, name = self._slot(path)
            node = folder.names[name]
            if isinstance(node, _File):
                node.waiting.append(_Times(accessed_ns, modified_ns))

    def stat(self, path: Path) -> os.stat_result:
        self._call("stat", path)
        return super().stat(path)

    def stat_fd(self, fd: int) -> os.stat_result:
        self._call("stat_fd")
        return super().stat_fd(fd)

    def resolve(self, path: Path) -> Path:
        self._call("resolve", path)
        return super().resolve(path)

    def lock(self, fd: int) -> bool:
        self._call("lock")
        return super().lock(fd)

    def boot_id(self) -> str:
        return self.boot

    # --- names ---------------------------------------------------------------------------------

    def rename(self, old: Path, new: Path) -> None:
        with self._lock:
            self._call("rename", old, new)
            super().rename(old, new)
            source, target = self._slot(old), self._slot(new)
            self._change({source: None, target: source[0].names[source[1]]})

    def link(self, old: Path, new: Path) -> None:
        with self._lock:
            self._call("link", old, new)
            super().link(old, new)
            folder, name = self._slot(old)
            self._change({self._slot(new): folder.names[name]})

    def unlink(self, path: Path) -> None:
        with self._lock:
            self._call("unlink", path)
            super().unlink(path)
            self._change({self._slot(path): None})

    def make_folder(self, path: Path, mode: int = FOLDER_MODE) -> None:
        with self._lock:
            self._call("make_folder", path)
            is_new = not os.path.lexists(path)
            super().make_folder(path, mode)
            if is_new:
                self._change({self._slot(path): _Folder()})

    def remove_folder(self, path: Path) -> None:
        with self._lock:
            self._call("remove_folder", path)
            super().remove_folder(path)
            self._change({self._slot(path): None})

    def scan(self, path: Path) -> list[os.DirEntry[str]]:
        self._call("scan", path)
        return super().scan(path)

    # --- room ----------------------------------------------------------------------------------

    def free_bytes(self, path: Path) -> int:
        self._call("free_bytes", path)
        return super().free_bytes(path)

    # -------------------------------------------------------------------------------------------

    def _call(self, name: str, *paths: Path) -> bool:
        """Count the call and let the fault come to it; True: only half of it is to be done."""
        with self._lock:
            if self.is_off:
                raise PowerCut
            if self.struck or not _can_come(self._fault, name):
                return False
            self.calls.append(" ".join([name, *(os.path.relpath(path, self.root) for path in paths)]))
            if len(self.calls) <= self._at:
                return False
            self.struck = self.calls[-1]
            if self._fault is Fault.POWER:
                raise PowerCut
            if self._fault is Fault.SHORT:
                return True
            raise _error(errno.ENOSPC if self._fault is Fault.NO_SPACE else errno.EIO)

    def _change(self, change: _Change) -> None:
        for (folder, name), node in change.items():
            _set(folder.names, name, node)
        self._changes.append(change)

    def _slot(self, path: Path) -> _Slot:
        return self._folder(path.parent), path.name

    def _folder(self, path: Path) -> _Folder:
        folder = self._top
        for name in path.relative_to(self.root).parts:
            below = folder.names[name]
            if not isinstance(below, _Folder):
                raise NotADirectoryError(path)
            folder = below
        return folder

    def _adopt(self, path: Path) -> _Folder:
        names: dict[str, _Node] = {}
        for entry in path.iterdir():
            if entry.is_dir():
                names[entry.name] = self._adopt(entry)
            else:
                there = entry.stat()
                names[entry.name] = _File(entry.read_bytes(), _Times(there.st_atime_ns, there.st_mtime_ns))
        return _Folder(names, dict(names))


def _can_come(fault: Fault | None, call: str) -> bool:
    match fault:
        case None:
            return False
        case Fault.POWER:
            return call in _CHANGES
        case Fault.NO_SPACE:
            return call in _TAKES_ROOM
        case Fault.SHORT:
            return call in _HALVES
        case Fault.BROKEN:
            return True


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _set(names: dict[str, _Node], name: str, node: _Node | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def _content(file: _File, keep: Literal["all", "synced"] | random.Random) -> tuple[bytes, _Times | None]:
    """What a file holds when all of it, what was synced, or also some of the rest is kept."""
    body, times = bytearray(file.kept), file.times
    waiting = [] if keep == "synced" else file.waiting
    for change in waiting:
        match change:
            case _Size(size_bytes) if _kept(keep):
                _resize(body, size_bytes)
            case _Times() if _kept(keep):
                times = change
            case _Bytes(offset, data):
                for start, block in _blocks(offset, data):
                    if _kept(keep):
                        _resize(body, max(len(body), start + len(block)))
                        body[start : start + len(block)] = block
            case _:
                pass
    return bytes(body), times


def _kept(keep: Literal["all", "synced"] | random.Random) -> bool:
    return isinstance(keep, str) or keep.random() < 0.5


def _resize(body: bytearray, size_bytes: int) -> None:
    del body[size_bytes:]
    body.extend(bytes(size_bytes - len(body)))


def _blocks(offset: int, data: bytes) -> Iterable[tuple[int, bytes]]:
    """Cut bytes where the blocks of their file end."""
    start = offset
    while start < offset + len(data):
        stop = min(offset + len(data), (start // BLOCK_BYTES + 1) * BLOCK_BYTES)
        yield start, data[start - offset : stop - offset]
        start = stop
