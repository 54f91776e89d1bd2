"""Which version is newer: the order of versions, and the version that stands in a target's name. Pure.

Versions are ordered as PEP 440 says; what PEP 440 can't read but Semantic Versioning 2.0.0 can (such as
``1.0.0-alpha.beta``) takes its place in the same order, so that one unusual name changes nothing for the others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from packaging.version import InvalidVersion, Version

from waystation.model import ARCH_ALIASES

if TYPE_CHECKING:
    from waystation.model import TargetPath

_SEMVER = re.compile(
    r"v?(?P<release>(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*))"
    r"(?:-(?P<pre>[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)
_SAME_STAGE = {"alpha": "a", "beta": "b", "c": "rc", "pre": "rc", "preview": "rc"}
"""PEP 440's other spellings of its three stages."""

_Identifier = tuple[bool, int, str]
"""Numbers by their value, and before words (Semantic Versioning 2.0.0, 11.4)."""


class VersionOrder(NamedTuple):
    """Compares as its version does; two spellings of one version are equal."""

    epoch: int
    release: tuple[int, ...]
    stage: int
    """Before (a development release of nothing yet), in (alpha, beta, candidate), or behind the pre-releases."""
    pre: tuple[_Identifier, ...]
    post: int
    dev: float
    local: tuple[_Identifier, ...]


@dataclass(frozen=True, slots=True)
class Bundle:
    """What the name of a bundle says, ``<app>-<version>-<arch>``."""

    app: str
    """With the folder before it, so that two folders' apps of one name stay two."""
    version: VersionOrder
    arch: str
    """As the kernel spells it."""


def version_order(text: str) -> VersionOrder | None:
    """Read a version (PEP 440, else Semantic Versioning); None: it is neither."""
    try:
        version = Version(text)
    except InvalidVersion:
        return _semver_order(text)
    stage = 0 if version.pre is None and version.post is None and version.dev is not None else 2
    pre: tuple[_Identifier, ...] = ()
    if version.pre is not None:
        stage, pre = 1, (_identifier(version.pre[0]), _identifier(str(version.pre[1])))
    return VersionOrder(
        epoch=version.epoch,
        release=_without_zeros(version.release),
        stage=stage,
        pre=pre,
        post=-1 if version.post is None else version.post,
        dev=float("inf") if version.dev is None else version.dev,
        # PEP 440 orders local words before local numbers.
        local=tuple((part.isdigit(), int(part) if part.isdigit() else 0, part) for part in _split(version.local)),
    )


def parse_bundle(target: TargetPath) -> Bundle | None:
    """Read a target's name; None: it does not end in ``-<version>-<arch>``."""
    folder, _, file = target.rpartition("/")
    stem, _, arch = file.rpartition("-")
    app, rest = "", stem
    if folder and stem.startswith(f"{folder}-"):  # the app's own hyphens and digits are no part of the version
        app, rest = folder, stem[len(folder) + 1 :]
        if (version := version_order(rest)) is not None:
            return Bundle(f"{folder}/{app}", version, ARCH_ALIASES.get(arch, arch))
    parts = stem.split("-")
    if not parts[0]:
        return None
    for index in range(1, len(parts)):
        version = version_order("-".join(parts[index:]))
        if version is not None:
            return Bundle(f"{folder}/{'-'.join(parts[:index])}", version, ARCH_ALIASES.get(arch, arch))
    return None


def _semver_order(text: str) -> VersionOrder | None:
    match = _SEMVER.fullmatch(text)
    if match is None:
        return None
    return VersionOrder(
        epoch=0,
        release=_without_zeros(tuple(int(part) for part in match["release"].split("."))),
        stage=1 if match["pre"] else 2,
        pre=tuple(_identifier(part) for part in _split(match["pre"])),
        post=-1,
        dev=float("inf"),
        local=(),  # build metadata has no part in the order (Semantic Versioning 2.0.0, 10)
    )


def _identifier(text: str) -> _Identifier:
    return (False, int(text), "") if text.isdigit() else (True, 0, _SAME_STAGE.get(text.lower(), text))


def _without_zeros(release: tuple[int, ...]) -> tuple[int, ...]:
    end = len(release)
    while end > 1 and release[end - 1] == 0:
        end -= 1
    return release[:end]


def _split(text: str | None) -> list[str]:
    return text.split(".") if text else []
