"""What one target needs of the machine that runs it, as its publisher found out: is it here."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from waystation.doctor.finding import Finding, Level, failure_of
from waystation.errors import Missing, NoPieces, OriginError
from waystation.model import ARCH_ALIASES, PIECES_SUFFIX
from waystation.pieces import MAX_PIECES_FILE_BYTES, MalformedPieces, parse_pieces_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from waystation.model import TargetPath
    from waystation.origin.interface import Origin

USER_NAMESPACES = "userns"
_GLIBC = re.compile(r"glibc>=(\d+)\.(\d+)")
_LIBRARY = re.compile(r".+\.so(\.[0-9.]+)?")
_PROGRAM_FOLDERS = ("/usr/local/bin", "/usr/bin", "/bin")
"""Where Nomad's exec driver looks for programs in a task's root."""
_LIBRARY_FOLDERS = ("/lib", "/usr/lib", "/lib64", "/usr/lib64")
_NOBODY = 65534
_PATIENCE_S = 30
_USER_NAMESPACES_ADVICE = (
    "Allow user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, "
    "kernel.apparmor_restrict_unprivileged_userns), or publish a bundle that needs none."
)


@dataclass(frozen=True, slots=True)
class Need:
    """One need, and what this machine has for it."""

    word: str
    has: str
    """In words; empty: it has not."""


@dataclass(frozen=True, slots=True)
class NeedsSeen:
    """A target's needs, or why they can't be told."""

    needs: tuple[Need, ...] = ()
    trouble: OriginError | NoPieces | None = None


class Needs:
    """Compares a target's needs, the words in its ``.pieces`` line, with this machine."""

    name = "needs"

    def __init__(self, origin: Origin, target: TargetPath) -> None:
        self._origin = origin
        self._target = target

    async def look(self) -> NeedsSeen:
        key = self._target + PIECES_SUFFIX
        try:
            _, body = await self._origin.get(key, limit_bytes=MAX_PIECES_FILE_BYTES)
            words = parse_pieces_line(body).needs
        except Missing as error:
            return NeedsSeen(trouble=Missing(f"there is no {key}: {error}"))
        except OriginError as error:
            return NeedsSeen(trouble=error)
        except MalformedPieces as error:
            return NeedsSeen(trouble=NoPieces(f"{key} can't be read: {error}"))
        return NeedsSeen(tuple(await asyncio.to_thread(lambda: [Need(word, _here(word)) for word in words])))

    def judge(self, seen: NeedsSeen) -> Iterator[Finding]:
        if seen.trouble is not None:
            yield failure_of(self.name, seen.trouble)
            return
        yield self._judge_machine(self._target.rpartition("-")[2], platform.machine())
        for need in seen.needs:
            if need.has:
                yield Finding(self.name, Level.OK, f"it needs {need.word}: {need.has}")
            elif need.word == USER_NAMESPACES:
                says = "it needs user namespaces, and this machine allows nobody any"
                yield Finding(self.name, Level.FAILURE, says, _USER_NAMESPACES_ADVICE)
            else:
                says = f"it needs {need.word}, which this machine has not"
                yield Finding(self.name, Level.FAILURE, says, "Install it here, or publish a bundle that needs it not.")

    def _judge_machine(self, wanted: str, machine: str) -> Finding:
        has = ARCH_ALIASES.get(machine, machine)
        if wanted == has:
            return Finding(self.name, Level.OK, f"{self._target} is for {wanted}, as this machine is")
        if wanted in _ARCHITECTURES:
            says = f"{self._target} is for {wanted}, and this machine is {has}"
            return Finding(self.name, Level.FAILURE, says, f"Publish a bundle for {has}, or run it elsewhere.")
        return Finding(self.name, Level.WARNING, f"the name {self._target} does not say for what machine it is")


_ARCHITECTURES = frozenset({"x86_64", "aarch64", "i686", "armv7l", "riscv64", "ppc64le", "s390x"})


def _here(word: str) -> str:
    """Say what this machine has for a need; empty where nothing."""
    if word == USER_NAMESPACES:
        return "nobody may make them here" if _user_namespaces() else ""
    if match := _GLIBC.fullmatch(word):
        version = _glibc()
        return f"this machine's is {version[0]}.{version[1]}" if version >= (int(match[1]), int(match[2])) else ""
    if word.startswith("/"):
        return "it is there" if Path(word).exists() else ""
    if _LIBRARY.fullmatch(word):
        return _library(word)
    paths = (f"{folder}/{word}" for folder in _PROGRAM_FOLDERS)
    return next((path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)), "")


def _glibc() -> tuple[int, int]:
    """Give the version of this machine's GNU C library; where it has another one, none is old enough."""
    try:
        words = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
        major, minor = words[-1].split(".")[:2]
        return int(major), int(minor)
    except (ValueError, OSError, IndexError):
        return 0, 0


def _library(name: str) -> str:
    multiarch = f"{platform.machine()}-linux-gnu"
    folders = (*_LIBRARY_FOLDERS, *(f"{folder}/{multiarch}" for folder in ("/lib", "/usr/lib")))
    if found := next((f"{folder}/{name}" for folder in folders if Path(folder, name).exists()), ""):
        return found
    listed = _run("/sbin/ldconfig", "-p")
    lines = [line.split() for line in listed.stdout.splitlines()] if listed else []
    return next((words[-1] for words in lines if words[:1] == [name]), "")


def _user_namespaces() -> bool:
    """Try to make one, with the rights in it that archives use, as the user that Nomad's exec driver runs tasks as."""
    made = _run("unshare", "--user", "--map-root-user", "--mount", "true", as_nobody=os.geteuid() == 0)
    return made is not None and made.returncode == 0


def _run(*command: str, as_nobody: bool = False) -> subprocess.CompletedProcess[str] | None:
    user = _NOBODY if as_nobody else None
    try:
        return subprocess.run(  # noqa: S603
            command,
            check=False,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            cwd="/",
            user=user,
            group=user,
            extra_groups=[] if as_nobody else None,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
