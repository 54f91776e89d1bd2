"""A project's name and version, from its own files: pyproject.toml, Cargo.toml, package.json, go.mod and a git tag."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from waystation_builder.errors import Unnamed
from waystation_builder.git import version_tag

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_NOT_IN_AN_APP = re.compile(r"[^a-z0-9]+")
_MAJOR = re.compile(r"v[0-9]+")
_DERIVATION = re.compile(r"(.+?)-([^A-Za-z].*)")


@dataclass(frozen=True, slots=True)
class Identity:
    """What a project says of itself; None where it says nothing."""

    name: str | None
    version: str | None

    def over(self, other: Identity) -> Identity:
        """Say what this one says, and where it says nothing, what the other one does."""
        return Identity(self.name or other.name, self.version or other.version)


NOTHING_SAID = Identity(None, None)


def app_name(name: str) -> str:
    """Write a project's name as an app's: ``Pet_Taxi`` and ``@pets/taxi`` become ``pet-taxi`` and ``taxi``."""
    return _NOT_IN_AN_APP.sub("-", name.rpartition("/")[2].lower()).strip("-")


def read_identity(folder: Path) -> Identity:
    """Read the first of the project's files that is there; a git tag gives the version that no file names.

    Raises:
        Unnamed: a file can't be read.
    """
    found = NOTHING_SAID
    for file_name, read in _READERS.items():
        file = folder / file_name
        if not file.is_file():
            continue
        try:
            found = read(file)
        except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            raise Unnamed(f"{file} can't be read: {error}", advice="Correct it, or remove it.") from error
        break
    if found.version is None:
        found = Identity(found.name, version_tag(folder))
    return found


def derivation_identity(name: str) -> Identity:
    """Split a derivation's name as Nix does: the version begins behind the first dash that no letter follows."""
    match = _DERIVATION.fullmatch(name)
    return Identity(match[1], match[2]) if match else Identity(name, None)


def _read_pyproject(file: Path) -> Identity:
    data = tomllib.loads(file.read_text())
    project, poetry = data.get("project", {}), data.get("tool", {}).get("poetry", {})
    return Identity(project.get("name") or poetry.get("name"), project.get("version") or poetry.get("version"))


def _read_cargo(file: Path) -> Identity:
    data = tomllib.loads(file.read_text())
    package = data.get("package", {})
    version = package.get("version")
    if isinstance(version, dict):  # version.workspace = true
        version = _workspace_version(file)
    return Identity(package.get("name"), version)


def _workspace_version(file: Path) -> str | None:
    for folder in file.resolve().parents:  # the package's own first: it may be the workspace's root
        if (root := folder / "Cargo.toml").is_file():
            data: dict[str, Any] = tomllib.loads(root.read_text())
            if "workspace" in data:
                version = data["workspace"].get("package", {}).get("version")
                return None if version is None else str(version)
    return None


def _read_package_json(file: Path) -> Identity:
    data = json.loads(file.read_text())
    return Identity(data.get("name"), data.get("version"))


def _read_go_mod(file: Path) -> Identity:
    match = re.search(r'^module\s+"?([^\s"]+)', file.read_text(), re.MULTILINE)
    if match is None:
        return NOTHING_SAID
    *path, last = match[1].split("/")
    return Identity(path[-1] if path and _MAJOR.fullmatch(last) else last, None)


_READERS: dict[str, Callable[[Path], Identity]] = {
    "pyproject.toml": _read_pyproject,
    "Cargo.toml": _read_cargo,
    "go.mod": _read_go_mod,
    "package.json": _read_package_json,
}
"""In this order: a package.json often lies beside another language's project, for its tools."""
