"""A Python project's lock, whoever wrote it, as requirements with hashes that uv installs."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

from waystation_builder.bundlers.poetry_lock import poetry_requirements
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
            project = tomllib.loads((folder / "pyproject.toml").read_text())
            written.write_text(poetry_requirements(tomllib.loads(lock.read_text()), project))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BuildError(
                f"poetry.lock can't be used: {error}", advice="Write it anew with `poetry lock`."
            ) from error
        return written
    return next((folder / name for name in _AS_THEY_ARE if (folder / name).is_file()), None)
