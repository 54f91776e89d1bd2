"""Which bundler builds a folder: the one that is named, else the first that finds in it what it is for."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from waystation_builder.bundlers.command import Command
from waystation_builder.bundlers.nix import Nix
from waystation_builder.bundlers.pyinstaller import PyInstaller
from waystation_builder.errors import MissingTool, NothingToBuild

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from waystation_builder.bundlers.interface import Bundler
    from waystation_builder.bundlers.wishes import Wishes


_BUNDLERS: Sequence[Callable[[Wishes], Bundler]] = (Nix, PyInstaller, Command)
"""What says most of how it is to be built is asked first."""
NAMES = (Nix.name, PyInstaller.name, Command.name)


def choose(folder: Path, wishes: Wishes) -> tuple[Bundler, str]:
    """Pick a bundler by what the user said and by what is in the folder, and say why.

    Raises:
        NothingToBuild: none finds anything.
        MissingTool: one does, but what it needs is not on this machine.
    """
    if wishes.command is not None:
        return Command(wishes), "--command says how"
    passed_over: list[str] = []
    for bundler in (make(wishes) for make in _BUNDLERS):
        if why := bundler.claim(folder):
            if bundler.tool is None or shutil.which(bundler.tool):
                return bundler, "; ".join([why, *passed_over])
            passed_over.append(f"{why}, but no {bundler.tool} on PATH")
    if passed_over:
        raise MissingTool(passed_over[0], advice="Install it, or say with --bundler or --command how to do without.")
    raise NothingToBuild(f"there is nothing in {folder} that a bundler knows")


def named(name: str, wishes: Wishes) -> Bundler:
    """Take the bundler of that name."""
    return next(bundler for bundler in (make(wishes) for make in _BUNDLERS) if bundler.name == name)
