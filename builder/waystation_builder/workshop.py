"""Where one build happens: a copy of the project, always at the same path, and a folder for what it leaves."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from waystation_builder.errors import BuildError, BuildFailed, MissingTool
from waystation_builder.git import commit_time, project_files, top_folder
from waystation_builder.surroundings import UMASK, WITHOUT_GIT, build_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_LAST_LINES = 20
_TAIL_BYTES = 16 * 1024
_NOT_COPIED = shutil.ignore_patterns(".git", ".venv", "node_modules", "__pycache__", "result", "result-*", ".direnv")
"""Of a folder that git knows nothing of."""
_CAPTURED = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Workshop:
    """One build's place; all paths absolute."""

    project: Path
    """The project itself, to be looked at only."""
    folder: Path
    """The copy that is built."""
    out: Path
    """Where the build leaves its executable."""
    scratch: Path
    """For what nobody keeps."""
    environment: Mapping[str, str]
    log: Path
    is_second: bool
    """Built before, and now again to compare."""
    echo: bool
    """Show what the build writes, on standard error."""

    def run(self, command: Sequence[str], *, extra: Mapping[str, str] | None = None) -> None:
        """Run a step of the build; `extra`: variables for it alone.

        Raises:
            MissingTool: there is no such program.
            BuildFailed: it ended with an error; its last lines come with it.
        """
        with self.log.open("ab") as log:
            status = self._spawn(command, extra or {}, stdout=None if self.echo else log, stderr=log)
        if status:
            words = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
            raise BuildFailed(f"`{_shown(command)}` {words}", last_lines=last_lines(self.log))

    def ask(self, command: Sequence[str]) -> str:
        """Run a program of the build for what it prints.

        Raises:
            MissingTool, BuildFailed: as `run` does.
        """
        answer = self.scratch / "answer"
        with self.log.open("ab") as log, answer.open("wb") as stdout:
            status = self._spawn(command, {}, stdout=stdout, stderr=log)
        if status:
            raise BuildFailed(f"`{_shown(command)}` ended with status {status}", last_lines=last_lines(self.log))
        return answer.read_bytes()[:_CAPTURED].decode(errors="replace").strip()

    def _spawn(self, command: Sequence[str], extra: Mapping[str, str], *, stdout: Any, stderr: Any) -> int:
        environment = {**self.environment, **extra}
        if shutil.which(command[0], path=environment.get("PATH")) is None:
            raise MissingTool(f"there is no {command[0]} on PATH", advice=f"Install {command[0]}, or correct PATH.")
        process = subprocess.Popen(  # noqa: S603
            list(command),
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout if stdout is not None else sys.stderr,
            stderr=stderr if stdout is not None else sys.stderr,
            start_new_session=True,
        )
        try:
            return process.wait()
        except BaseException:
            _end(process)
            raise


@contextmanager
def open_workshop(
    source: Path, *, without: Path, asked_for: Sequence[str] = (), is_second: bool = False, echo: bool = False
) -> Iterator[Workshop]:
    """Copy a project to its place, all times set to its last commit's; the place is gone afterwards.

    Two builds of folders of one name wait for each other, for they have the same place.
    `without`: a folder that is not copied, the one that executables are put into.

    Raises:
        OSError: it can't be copied.
        BuildError: there is no place for it.
    """
    source = source.resolve()
    place = _own_folder() / (source.name or "root")
    epoch = commit_time(source) or WITHOUT_GIT
    with _umask(), _locked(place.with_name(f"{place.name}.lock")):
        shutil.rmtree(place, ignore_errors=True)
        try:
            folder = _copy(source, place / "source", epoch, without=without.resolve())
            workshop = Workshop(
                source,
                folder,
                place / "out",
                place / "scratch",
                build_environment(os.environ, epoch=epoch, asked_for=asked_for),
                place / "log",
                is_second,
                echo,
            )
            workshop.out.mkdir()
            workshop.scratch.mkdir()
            yield workshop
        finally:
            _remove(place)


def last_lines(log: Path) -> tuple[str, ...]:
    """Read a log's end."""
    with log.open("rb") as file:
        size_bytes = file.seek(0, os.SEEK_END)
        file.seek(max(size_bytes - _TAIL_BYTES, 0))
        return tuple(file.read().decode(errors="replace").splitlines()[-_LAST_LINES:])


def _copy(source: Path, to: Path, epoch: int, *, without: Path) -> Path:
    """Copy the whole work tree where git knows the folder, for its parts may need each other."""
    top = top_folder(source)
    files = project_files(top) if top else None
    if top is None or files is None or not _holds(files, source.relative_to(top.resolve())):
        shutil.copytree(source, to, symlinks=True, ignore=lambda at, names: _ignored(Path(at), names, without))
        folder = to
    else:
        for name in files:
            if not (top / name).is_relative_to(without):
                _copy_file(top / name, to / name)
        folder = to / source.relative_to(top.resolve())
    for parent, folders, names in os.walk(to):
        for name in (*folders, *names, "."):
            os.utime(Path(parent, name), (epoch, epoch), follow_symlinks=False)
    return folder


def _ignored(parent: Path, names: list[str], without: Path) -> set[str]:
    return {*_NOT_COPIED(str(parent), names), *(name for name in names if parent / name == without)}


def _holds(files: Sequence[str], folder: Path) -> bool:
    """Whether a list of files has one in the folder: a folder that is ignored as a whole has none."""
    return folder == Path() or any(name.startswith(f"{folder}/") for name in files)


def _copy_file(file: Path, to: Path) -> None:
    try:
        mode = file.lstat().st_mode
    except FileNotFoundError:  # deleted, and not yet committed
        return
    to.parent.mkdir(parents=True, exist_ok=True)
    if stat.S_ISDIR(mode):  # a submodule
        shutil.copytree(file, to, symlinks=True, ignore=_NOT_COPIED, dirs_exist_ok=True)
        return
    shutil.copyfile(file, to, follow_symlinks=False)
    if stat.S_ISREG(mode):
        to.chmod(0o755 if mode & stat.S_IXUSR else 0o644)


def _own_folder() -> Path:
    folder = Path(tempfile.gettempdir(), f"waystation-builder-{os.geteuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise BuildError(
            f"{folder} belongs to somebody else, or is open to others", advice="Remove it, or set TMPDIR to a folder."
        )
    return folder


@contextmanager
def _umask() -> Iterator[None]:
    before = os.umask(UMASK)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    with file.open("a") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield


def _remove(place: Path) -> None:
    """Remove a tree, also where a build has taken away the right to (as Go's module cache does)."""
    for parent, folders, _ in os.walk(place):
        for name in folders:
            folder = Path(parent, name)
            if not folder.is_symlink():
                folder.chmod(0o700)
    shutil.rmtree(place, ignore_errors=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a step and all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _shown(command: Sequence[str]) -> str:
    words = " ".join(command)
    return words if len(words) <= 200 else f"{words[:200]}…"  # noqa: PLR2004
