"""What an ELF file says of itself: its machine, its interpreter, the libraries and the C library that it needs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection
from elftools.elf.segments import InterpSegment

from waystation_builder.errors import Unrunnable

if TYPE_CHECKING:
    from pathlib import Path

MAGIC = b"\x7fELF"
_MACHINES = {
    "EM_X86_64": "x86_64",
    "EM_AARCH64": "aarch64",
    "EM_386": "i686",
    "EM_ARM": "armv7l",
    "EM_RISCV": "riscv64",
    "EM_PPC64": "ppc64le",
    "EM_S390": "s390x",
}
"""As the kernel calls them (`uname -m`)."""
_DYNAMIC = {"DT_NEEDED": "needed", "DT_RUNPATH": "runpath", "DT_RPATH": "rpath"}
_GLIBC = re.compile(r"GLIBC_(\d+)\.(\d+)(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Elf:
    """An ELF executable."""

    arch: str
    interpreter: str | None
    """The dynamic loader; None: static."""
    libraries: tuple[str, ...]
    """What the loader is asked to load."""
    search: tuple[str, ...]
    """Folders that the file itself names for them, ``$ORIGIN`` as it stands."""
    glibc: tuple[int, int] | None
    """The oldest version of the GNU C library that has all symbols it uses."""


def read_elf(file: Path) -> Elf:
    """Read the headers of an ELF file.

    Raises:
        Unrunnable: it is damaged, or no executable.
    """
    with file.open("rb") as opened:
        return parse_elf(opened, file.name)


def parse_elf(opened: BinaryIO, name: str) -> Elf:
    """Read the headers of an ELF file that is open, or in memory.

    Raises:
        Unrunnable: it is damaged, or no executable.
    """
    try:
        elf = ELFFile(opened)
        if elf["e_type"] not in ("ET_EXEC", "ET_DYN"):
            raise Unrunnable(f"{name} is an ELF file but no executable", advice="Link it into one.")
        return _read(elf)
    except (ELFError, ValueError, KeyError, AttributeError, TypeError, OverflowError) as error:
        raise Unrunnable(f"the ELF headers of {name} can't be read: {error}", advice="Build it again.") from error


def _read(elf: ELFFile) -> Elf:
    interpreter: str | None = None
    libraries: list[str] = []
    search: list[str] = []
    for segment in elf.iter_segments():
        if isinstance(segment, InterpSegment):
            interpreter = segment.get_interp_name()
        elif isinstance(segment, DynamicSegment):
            for tag in segment.iter_tags():
                attribute = _DYNAMIC.get(tag.entry.d_tag)
                if attribute == "needed":
                    libraries.append(getattr(tag, attribute))
                elif attribute is not None:
                    search += getattr(tag, attribute).split(":")
    machine = elf["e_machine"]
    return Elf(
        _MACHINES.get(machine, str(machine)), interpreter, tuple(libraries), tuple(filter(None, search)), _glibc(elf)
    )


def _glibc(elf: ELFFile) -> tuple[int, int] | None:
    versions = [
        (int(match[1]), int(match[2]))
        for section in elf.iter_sections()
        if isinstance(section, GNUVerNeedSection)
        for _, auxiliaries in section.iter_versions()
        for auxiliary in auxiliaries
        if (match := _GLIBC.fullmatch(auxiliary.name))
    ]
    return max(versions, default=None)
