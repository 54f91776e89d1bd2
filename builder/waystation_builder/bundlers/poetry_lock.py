"""A poetry.lock as requirements with hashes: what the project needs to run, and nothing that only develops it.

From format 2.1 on (poetry 2) each package says to which groups it belongs, and under which marker. Before that it does
not: there the packages are those that the project's own dependencies lead to, each under the markers that lead to it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_TELLS_GROUPS = (2, 1)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

Table = dict[str, Any]
"""A table of TOML, as others wrote it."""


def poetry_requirements(lock: Table, project: Table) -> str:
    """Write a lock as requirements; `project`: its pyproject.toml.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: the lock is none, or has what no index has.
    """
    version = tuple(map(int, str(lock["metadata"]["lock-version"]).split(".")))
    packages: list[Table] = lock.get("package", [])
    if version >= _TELLS_GROUPS:
        wanted = [(package, _main_marker(package)) for package in packages if "main" in package["groups"]]
    else:
        reached = _reached(_by_name(packages), _own_dependencies(project))
        wanted = [
            (package, reached[_normal(package["name"])]) for package in packages if _normal(package["name"]) in reached
        ]
    return "".join(_line(package, marker) for package, marker in wanted)


def _line(package: Table, marker: str) -> str:
    source = package.get("source", {}).get("type", "legacy")
    if source != "legacy":
        raise ValueError(f"{package['name']} comes from {source}, not from an index")
    hashes = " ".join(f"--hash={file['hash']}" for file in package["files"])
    return f"{package['name']}=={package['version']}{f' ; {marker}' if marker else ''} {hashes}\n"


def _main_marker(package: Table) -> str:
    markers = package.get("markers", "")
    return str(markers.get("main", "") if isinstance(markers, dict) else markers)


def _by_name(packages: list[Table]) -> dict[str, Table]:
    by_name = {_normal(package["name"]): package for package in packages}
    if len(by_name) < len(packages):
        raise ValueError("it has a package in several versions, and is too old to say when which one is meant")
    return by_name


def _own_dependencies(project: Table) -> Iterator[tuple[str, str]]:
    """Name what the project itself depends on, each with its marker."""
    for requirement in project.get("project", {}).get("dependencies", []):
        if name := _NAME.match(requirement):
            yield _normal(name[0]), requirement.partition(";")[2].strip()
    yield from _dependencies(project.get("tool", {}).get("poetry", {}).get("dependencies", {}))


def _dependencies(table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name the packages of a table of dependencies; several entries of one are several ways to it."""
    for name, entries in table.items():
        if _normal(name) == "python":
            continue
        for entry in entries if isinstance(entries, list) else [entries]:
            yield _normal(name), str(entry.get("markers", "")) if isinstance(entry, dict) else ""


def _reached(by_name: Mapping[str, Table], first: Iterator[tuple[str, str]]) -> dict[str, str]:
    """Follow dependencies to the packages that are locked; an empty marker on any way to one means always."""
    markers: dict[str, set[str]] = {}
    waiting = list(first)
    while waiting:
        name, marker = waiting.pop()
        if name not in by_name:
            continue
        if name not in markers:
            waiting += _dependencies(by_name[name].get("dependencies", {}))
        markers.setdefault(name, set()).add(marker)
    return {
        name: "" if "" in found else " or ".join(f"({marker})" for marker in sorted(found))
        for name, found in markers.items()
    }


def _normal(name: str) -> str:
    """Write a package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
