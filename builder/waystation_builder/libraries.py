"""Where a dynamically linked executable's loader and libraries would be found, and which are missing."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from waystation_builder.errors import MissingLibrary

if TYPE_CHECKING:
    from collections.abc import Iterable

    from waystation_builder.elf import Elf
    from waystation_builder.smoke import Profile

_OF_GLIBC = re.compile(
    r"(libc|libm|libdl|librt|libpthread|libresolv|libutil|libnsl|libanl|libmvec|libthread_db|libcrypt|ld-linux[a-z0-9-]*"
    r"|ld64)\.so\.\d+"
)
_CACHED = re.compile(r"\s+(\S+) \(([^)]*)\) => (\S+)")
_CACHE_WORDS = {"x86_64": "x86-64", "aarch64": "AArch64", "i686": "libc6"}
_PATIENCE_S = 30


def library_needs(elf: Elf, carried: Iterable[Elf] = ()) -> tuple[str, ...]:
    """Say what a dynamically linked executable needs: a C library, or its loader's path, and other libraries.

    `carried`: the libraries that it brings with it, which run with the same C library.
    """
    if elf.interpreter is None:
        return ()
    others = tuple(name for name in elf.libraries if not _OF_GLIBC.fullmatch(name))
    glibc = max((one.glibc for one in (elf, *carried) if one.glibc is not None), default=None)
    if glibc is not None:
        return (f"glibc>={glibc[0]}.{glibc[1]}", *others)
    return (elf.interpreter, *(name for name in others if not name.startswith("libc.")))


def check_libraries(name: str, elf: Elf, profile: Profile) -> None:
    """Look for all that the loader would look for, in what of this machine is in the profile's root.

    Raises:
        MissingLibrary: something is not there; it is named.
    """
    if elf.interpreter is None:
        return
    if not profile.folders:
        raise MissingLibrary(
            f"{name} is linked dynamically, and the root '{profile.name}' has neither its loader {elf.interpreter} nor "
            "any library"
        )
    if not _is_there(elf.interpreter, profile):
        raise MissingLibrary(f"{name} is started by {elf.interpreter}, which is not in the root '{profile.name}'")
    missing = [library for library in elf.libraries if not _found(library, elf, profile)]
    if missing:
        raise MissingLibrary(
            f"{name} needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not in the root "
            f"'{profile.name}'"
        )


def _found(library: str, elf: Elf, profile: Profile) -> bool:
    if "/" in library:
        return _is_there(library, profile)
    multiarch = f"{elf.arch}-linux-gnu"
    folders = [folder for folder in elf.search if folder.startswith("/")]
    folders += ["/lib", "/usr/lib", "/lib64", "/usr/lib64", f"/lib/{multiarch}", f"/usr/lib/{multiarch}"]
    candidates = [f"{folder}/{library}" for folder in folders]
    candidates += [path for name, arch, path in _cache() if name == library and _CACHE_WORDS.get(elf.arch, "") in arch]
    return any(_is_there(candidate, profile) for candidate in candidates)


def _is_there(path: str, profile: Profile) -> bool:
    return any(Path(path).is_relative_to(folder) for folder in profile.folders) and Path(path).exists()


@cache
def _cache() -> tuple[tuple[str, str, str], ...]:
    """Read what the loader knows beside its own folders: name, kind and path of each library."""
    try:
        listed = subprocess.run(
            ["/sbin/ldconfig", "-p"], check=False, capture_output=True, text=True, timeout=_PATIENCE_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(
        (match[1], match[2], match[3]) for line in listed.stdout.splitlines() if (match := _CACHED.match(line))
    )
