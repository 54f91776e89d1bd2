"""The checks before publishing: is it an executable for the right machine, and what does it need of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from waystation_builder.elf import MAGIC, read_elf
from waystation_builder.errors import Unrunnable, WrongArchitecture

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Findings:
    """What the checks found out."""

    needs: tuple[str, ...]
    smoke: str


def check_executable(file: Path, *, arch: str) -> Findings:
    """Check a file that is to be published.

    Raises:
        Unrunnable: it can't run where it would be put.
    """
    with file.open("rb") as opened:
        head = opened.read(4096)
    if head.startswith(MAGIC):
        elf = read_elf(file)
        if elf.arch != arch:
            raise WrongArchitecture(
                f"{file.name} is built for {elf.arch}, not for {arch}",
                advice=f"Build it for {arch}, or say --arch {elf.arch}.",
            )
        return Findings((), "off")
    if head.startswith(b"#!"):
        return Findings((), "off")
    raise Unrunnable(f"{file.name} is neither an ELF executable nor a script", advice="Build an executable for Linux.")
