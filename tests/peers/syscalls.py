"""Expands SystemCallFilter= lines as systemd does (systemd.exec(5), "System Call Filtering")."""

from __future__ import annotations

import subprocess


def allowed(lines: list[str]) -> frozenset[str]:
    """The names of the calls that are left, line by line; of those of our units the first one allows."""
    calls: set[str] = set()
    for line in lines:
        named: set[str] = set()
        for name in line.removeprefix("~").split():
            named |= _expand(name)
        calls = calls - named if line.startswith("~") else calls | named
    return frozenset(calls)


def _expand(name: str) -> set[str]:
    if not name.startswith("@"):
        return {name}
    shown = subprocess.run(
        ["systemd-analyze", "--no-pager", "syscall-filter", name], capture_output=True, text=True, check=True
    ).stdout
    named = [line.strip() for line in shown.splitlines()[1:] if line.strip() and not line.strip().startswith("#")]
    return set().union(*(_expand(each) for each in named))
