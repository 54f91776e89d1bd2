"""What git knows of a folder: its files, its last commit's time, its version's tag. Nothing where there is no git."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

_TAG = re.compile(r"v?([0-9][A-Za-z0-9._+~-]*)")
_GIT = ("git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
"""Also in a folder of another user's, as in a container, and running nothing that the folder configures."""
_RELEASES_LAST = ("-c", "versionsort.suffix=-")
_PATIENCE_S = 60


def top_folder(folder: Path) -> Path | None:
    """Find the work tree that the folder is in."""
    top = _ask(folder, "rev-parse", "--show-toplevel")
    return Path(top) if top else None


def commit_time(folder: Path) -> int | None:
    """When the last commit was made, in seconds since 1970."""
    time = _ask(folder, "log", "-1", "--format=%ct")
    return int(time) if time else None


def version_tag(folder: Path) -> str | None:
    """Read the version from a tag of the commit that is checked out: ``v0.1.0``, for a folder below ``FOLDER/v0.1.0``.

    Of several the folder's own counts, then the latest; a release is later than what came before it (``-rc1``).
    """
    own = _ask(folder, "rev-parse", "--show-prefix") or ""
    tags = (_ask(folder, *_RELEASES_LAST, "tag", "--points-at", "HEAD", "--sort=-version:refname") or "").splitlines()
    names = [tag.removeprefix(prefix) for prefix in dict.fromkeys((own, "")) for tag in tags if tag.startswith(prefix)]
    return next((match[1] for name in names if (match := _TAG.fullmatch(name))), None)


def project_files(top: Path) -> list[str] | None:
    """List the files that belong to a work tree: what is tracked, and what is new and not ignored."""
    listed = _ask(top, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    return None if listed is None else sorted(set(filter(None, listed.split("\0"))))


def _ask(folder: Path, *arguments: str) -> str | None:
    try:
        asked = subprocess.run(  # noqa: S603
            [*_GIT, "-C", str(folder), *arguments], check=False, capture_output=True, text=True, timeout=_PATIENCE_S
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return asked.stdout.strip() if asked.returncode == 0 else None
