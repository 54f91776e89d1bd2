"""Which bundler builds a folder: the one that is named, else the first that finds in it what it is for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from waystation_builder.bundlers.command import Command
from waystation_builder.errors import NothingToBuild

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from waystation_builder.bundlers.interface import Bundler


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user said of how to build; None and empty where nothing."""

    command: str | None = None


def bundlers(wishes: Wishes) -> Sequence[Bundler]:
    """Make every bundler, in the order in which they are asked: what a user says first, then what says most itself."""
    return [Command(wishes.command)]


def choose(folder: Path, wishes: Wishes) -> tuple[Bundler, str]:
    """Pick a bundler by what is in the folder, and say why.

    Raises:
        NothingToBuild: none finds anything.
    """
    for bundler in bundlers(wishes):
        if why := bundler.claim(folder):
            return bundler, why
    raise NothingToBuild(f"there is nothing in {folder} that a bundler knows")


def named(name: str, wishes: Wishes) -> Bundler:
    """Take the bundler of that name."""
    return next(bundler for bundler in bundlers(wishes) if bundler.name == name)
