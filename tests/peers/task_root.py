"""A root like the one that Nomad's exec driver gives to a task, and nobody in it: the machine's programs, read-only."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = 65534
_FOLDERS = {"alloc": 0o777, "local": 0o777, "secrets": 0o777, "tmp": 0o1777, "dev": 0o755, "proc": 0o755}
_ENTER = f"""
cd "$0"
for name in bin etc lib lib32 lib64 sbin usr; do
  [ -d "/$name" ] || continue
  mkdir -p "$name"
  mount --rbind "/$name" "$name"
  mount -o remount,bind,ro "$name"
done
mount -t proc proc proc
mount --rbind /dev dev
exec chroot --userspec={NOBODY}:{NOBODY} --groups= . env -i "$@"
"""
"""In a mount namespace, whose end takes all of it away."""


class TaskRoot:
    """One task's root, with its executable in `local/`."""

    def __init__(self, folder: Path, executable: Path) -> None:
        self._folder = folder
        self._inside = f"/local/{executable.name}"
        for name, mode in _FOLDERS.items():
            (folder / name).mkdir(parents=True)
            (folder / name).chmod(mode)
        (folder / self._inside.lstrip("/")).write_bytes(executable.read_bytes())
        (folder / self._inside.lstrip("/")).chmod(0o755)

    def command(self, *arguments: str, **variables: str) -> list[str]:
        """The command line that runs it there, with these variables alone; only root can."""
        assigned = {"PATH": "/usr/local/bin:/usr/bin:/bin", **variables}
        return [
            *("unshare", "--mount", "--propagation=private", "sh", "-euc", _ENTER, str(self._folder)),
            *(f"{name}={value}" for name, value in assigned.items()),
            *(self._inside, *arguments),
        ]
