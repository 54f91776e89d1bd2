"""The checks before publishing: an executable for the right machine, with all that it needs, that runs for a try."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from waystation.publish import machine_arch
from waystation_builder import elf, script
from waystation_builder.carried import carried_libraries
from waystation_builder.errors import (
    MissingProgram,
    NotOneExecutable,
    NoUserNamespaces,
    SmokeFailed,
    Unrunnable,
    WrongArchitecture,
)
from waystation_builder.libraries import check_libraries, library_needs
from waystation_builder.smoke import NOMAD_EXEC, try_out, user_namespaces_allowed

if TYPE_CHECKING:
    from pathlib import Path

    from waystation_builder.smoke import Profile, Trial

USER_NAMESPACES = "userns"


@dataclass(frozen=True, slots=True)
class Smoke:
    """How an executable is tried, and for which root it is checked."""

    arguments: tuple[str, ...] = ("--version",)
    profile: Profile = NOMAD_EXEC
    timeout_s: float = 60.0
    wanted: bool = True


DEFAULT_SMOKE = Smoke()


@dataclass(frozen=True, slots=True)
class Findings:
    """What the checks found out."""

    needs: tuple[str, ...]
    """Of the machine that runs it, in the words that `waystation doctor --for` knows."""
    smoke: str
    """How the smoke run went, in words."""


def check_executable(file: Path, *, arch: str, smoke: Smoke) -> Findings:
    """Check a file that is to be published.

    Raises:
        NotOneExecutable, Unrunnable: it can't run where it would be put.
        NoConfinement: it can't be tried here.
    """
    if not stat.S_ISREG(file.lstat().st_mode) or not os.access(file, os.X_OK):
        raise NotOneExecutable(f"{file.name} is no regular executable file", advice="Build one executable file.")
    with file.open("rb") as opened:
        head = opened.read(script.HEAD_BYTES)
    if head.startswith(elf.MAGIC):
        needs, is_archive = _check_elf(file, arch, smoke.profile), False
    elif head.startswith(script.MAGIC):
        needs, is_archive = _check_script(file, head, smoke.profile)
    else:
        raise Unrunnable(f"{file.name} is neither an ELF executable nor a script", advice="Build it for Linux.")
    if not smoke.wanted:
        return Findings(needs, "off")
    if arch != machine_arch():
        return Findings(needs, f"not made, for this machine is {machine_arch()}")
    if _run(file, smoke, is_archive=is_archive):
        needs = (*needs, USER_NAMESPACES)
    return Findings(needs, f"{' '.join((file.name, *smoke.arguments))} ended well as nobody in '{smoke.profile.name}'")


def _check_elf(file: Path, arch: str, profile: Profile) -> tuple[str, ...]:
    read = elf.read_elf(file)
    if read.arch != arch:
        raise WrongArchitecture(
            f"{file.name} is built for {read.arch}, not for {arch}",
            advice=f"Build it for {arch}, or say --arch {read.arch}.",
        )
    if arch == machine_arch():  # another machine's libraries are not here
        check_libraries(file.name, read, profile)
    return library_needs(read, carried_libraries(file))


def _check_script(file: Path, head: bytes, profile: Profile) -> tuple[tuple[str, ...], bool]:
    try:
        read = script.read_script(head)
    except ValueError as error:
        raise Unrunnable(
            f"{file.name} is no script that can be run: {error}", advice="Begin it with #!/bin/sh."
        ) from error
    missing = [program for program in read.programs if not _has_program(program, profile)]
    if missing:
        what = "archive that unpacks itself" if read.is_archive else "script"
        raise MissingProgram(
            f"{file.name} is a{'n' if read.is_archive else ''} {what}, and calls {', '.join(missing)}, which "
            f"{'is' if len(missing) == 1 else 'are'} not in the root '{profile.name}'"
        )
    return read.programs, read.is_archive


def _has_program(program: str, profile: Profile) -> bool:
    if program.startswith("/"):
        return any(program.startswith(f"{folder}/") for folder in profile.folders) and os.access(program, os.X_OK)
    return any(os.access(os.path.join(folder, program), os.X_OK) for folder in profile.search_path)


def _run(file: Path, smoke: Smoke, *, is_archive: bool) -> bool:
    """Try it, first without user namespaces; return whether it needs them.

    Raises:
        SmokeFailed, NoUserNamespaces: it does not end well.
    """
    trial = _try(file, smoke, user_namespaces=False)
    if trial.trouble is None:
        return False
    if not trial.is_final:
        trial = _try(file, smoke, user_namespaces=True)
        if trial.trouble is None:
            return True
    what = f"{' '.join((file.name, *smoke.arguments))} {trial.trouble}"
    if is_archive and not user_namespaces_allowed(smoke.profile):
        raise NoUserNamespaces(
            f"{what}; it is an archive that unpacks itself, and this machine allows no user namespaces, without which "
            "those of nix-bundle can't run",
            last_lines=trial.last_lines,
        )
    raise SmokeFailed(f"{what}, as nobody in the root '{smoke.profile.name}'", last_lines=trial.last_lines)


def _try(file: Path, smoke: Smoke, *, user_namespaces: bool) -> Trial:
    return try_out(file, smoke.arguments, smoke.profile, timeout_s=smoke.timeout_s, user_namespaces=user_namespaces)
