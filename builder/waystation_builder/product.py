"""What a build left: exactly one regular executable file, or a refusal that says what is there instead."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from waystation_builder.errors import NotOneExecutable

if TYPE_CHECKING:
    from pathlib import Path

_SHOWN = 5


def find_product(out: Path, *, wanted: str | None = None) -> Path:
    """Find the one executable in a folder; `wanted`: its name, where there are several.

    Raises:
        NotOneExecutable: there is none, there are several, or it is a folder.
    """
    entries = sorted(out.iterdir())
    executables = [entry for entry in entries if _is_executable(entry)]
    if wanted is not None:
        executables = [entry for entry in executables if entry.name == wanted]
    if len(executables) == 1:
        return executables[0]
    if executables:
        names = ", ".join(entry.name for entry in executables[:_SHOWN])
        raise NotOneExecutable(
            f"the build left {len(executables)} executables: {names}{', …' if len(executables) > _SHOWN else ''}",
            advice=f"Say which one with --executable, such as --executable {executables[0].name}.",
        )
    raise _none(entries, wanted)


def _none(entries: list[Path], wanted: str | None) -> NotOneExecutable:
    if wanted is not None:
        there = ", ".join(entry.name for entry in entries[:_SHOWN]) or "nothing"
        return NotOneExecutable(f"the build left no executable {wanted}, but {there}", advice="Correct --executable.")
    if not entries:
        return NotOneExecutable("the build left nothing", advice="Let the command put its executable into $OUT.")
    first = entries[0]
    if first.is_dir():
        return NotOneExecutable(
            f"the build left a directory, {first.name}, and not one executable file",
            advice="Bundle it into one file: with nix-bundle, PyInstaller's one-file mode, or a static build.",
        )
    what = "a broken link" if first.is_symlink() and not first.exists() else "not executable"
    return NotOneExecutable(f"the build left {first.name}, which is {what}", advice="Make it executable (chmod +x).")


def _is_executable(entry: Path) -> bool:
    try:
        mode = os.stat(entry).st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) and bool(mode & 0o111)
