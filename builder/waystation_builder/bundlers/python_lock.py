"""A Python project's lock, whoever wrote it, as requirements with hashes that uv installs."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

from waystation_builder.errors import BuildError

if TYPE_CHECKING:
    from pathlib import Path

    from waystation_builder.workshop import Workshop

_AS_THEY_ARE = ("pylock.toml", "requirements.txt")


def locked_requirements(workshop: Workshop, uv: str) -> Path | None:
    """Give a file that `uv pip install --requirements` takes; None where the project is not locked.

    Looks for uv.lock, poetry.lock, pylock.toml and requirements.txt, in this order.

    Raises:
        BuildError: a lock is there and can't be used.
    """
    folder = workshop.folder
    if (folder / "uv.lock").is_file():
        exported = workshop.scratch / "requirements.txt"
        export = [uv, "export", "--quiet", "--frozen", "--no-dev", "--no-emit-project", "--format", "requirements.txt"]
        workshop.run([*export, "--output-file", str(exported)])
        return exported
    if (lock := folder / "poetry.lock").is_file():
        written = workshop.scratch / "requirements.txt"
        try:
            written.write_text(poetry_requirements(tomllib.loads(lock.read_text())))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BuildError(
                f"poetry.lock can't be used: {error}", advice="Write it anew with `poetry lock`."
            ) from error
        return written
    return next((folder / name for name in _AS_THEY_ARE if (folder / name).is_file()), None)


def poetry_requirements(lock: dict[str, Any]) -> str:
    """Write the main group of a poetry.lock (format 2.1, by poetry 2) as requirements.

    Raises:
        ValueError: it is older, or has packages that no index has.
    """
    version = str(lock["metadata"]["lock-version"])
    if tuple(map(int, version.split("."))) < (2, 1):
        raise ValueError(f"its format is {version}, and 2.1 was the first that tells groups apart")
    lines: list[str] = []
    for package in lock.get("package", []):
        if "main" not in package["groups"]:
            continue
        if "source" in package and package["source"].get("type") != "legacy":
            raise ValueError(f"{package['name']} comes from {package['source'].get('type')}, not from an index")
        markers = package.get("markers", "")
        marker = markers.get("main", "") if isinstance(markers, dict) else markers
        hashes = " ".join(f"--hash={file['hash']}" for file in package["files"])
        lines.append(f"{package['name']}=={package['version']}{f' ; {marker}' if marker else ''} {hashes}")
    return "\n".join(lines) + "\n"
