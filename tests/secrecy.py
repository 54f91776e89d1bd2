"""Whatever a program of ours prints while the suite runs is searched for the secrets that the suite has made up."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_MADE_UP: set[str] = set()
_SIGNED = re.compile(r"X-Amz-Signature=\w|AWS4-HMAC-SHA256 Credential|-----BEGIN [A-Z ]*PRIVATE KEY")
"""What opens a door by itself: a presigned URL, a signed header, a key."""


class SecretTold(AssertionError):
    """A secret stands where others can read it."""


def made_up(secret: str) -> str:
    """Know a secret of the tests' own from now on; return it."""
    _MADE_UP.add(secret)
    return secret


def search(text: str | bytes | None, where: str) -> None:
    """Look for a secret in what was printed.

    Raises:
        SecretTold: one is there.
    """
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    if text and (_SIGNED.search(text) or any(secret in text for secret in _MADE_UP)):
        raise SecretTold(f"{where} tells a secret")


def search_process(pid: int) -> None:
    """Look at what `ps` shows of a process, if it still runs."""
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return
    search(title, f"the title of process {pid}")


def is_ours(command: object) -> bool:
    """Whether a command, as `subprocess` takes it, is a program of ours: of the others' logs we promise nothing."""
    words = command if isinstance(command, list | tuple) else [command]
    return any("waystation" in str(word) for word in words)


def watch_child_processes() -> Callable[[], None]:
    """Search from now on what child processes answer through a pipe; return what ends that."""
    communicate = subprocess.Popen.communicate

    def watched(process: subprocess.Popen[Any], *args: Any, **options: Any) -> tuple[Any, Any]:
        told = communicate(process, *args, **options)
        if is_ours(process.args):
            for stream in told:
                search(stream, f"{process.args!r}")
        return told

    subprocess.Popen.communicate = watched  # type: ignore[method-assign,assignment]

    def end() -> None:
        subprocess.Popen.communicate = communicate  # type: ignore[method-assign]

    return end
