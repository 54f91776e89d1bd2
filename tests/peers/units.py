"""Reads systemd's unit files as far as ours go: sections, Exec lines, time spans (systemd.syntax(7))."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_SPANS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}


class Unit:
    """One unit with its drop-ins; an empty assignment takes back what was assigned before it."""

    def __init__(self, file: Path, *drop_ins: str) -> None:
        self.name = file.name
        self._values: dict[tuple[str, str], list[str]] = {}
        for text in (file.read_text(), *drop_ins):
            self._add(text)

    def _add(self, text: str) -> None:
        section = ""
        for line in re.sub(r"\\\n", " ", text).splitlines():
            if not line or line[0] in "#;":
                continue
            if heading := re.fullmatch(r"\[(\w+)\]", line):
                section = heading[1]
                continue
            key, equals, value = line.partition("=")
            if not equals:
                raise ValueError(f"{self.name}: not an assignment: {line}")
            values = self._values.setdefault((section, key), [])
            if value:
                values.append(value)
            else:
                values.clear()

    def keys(self, section: str) -> set[str]:
        return {key for place, key in self._values if place == section}

    def all(self, section: str, key: str) -> list[str]:
        return self._values.get((section, key), [])

    def last(self, section: str, key: str, default: str = "") -> str:
        return (self.all(section, key) or [default])[-1]

    def seconds(self, section: str, key: str, default: str) -> float:
        return seconds(self.last(section, key, default))

    def is_on(self, section: str, key: str) -> bool:
        return self.last(section, key, "no") in ("yes", "true", "on", "1", "strict", "invisible")


def seconds(span: str) -> float:
    """Read a time span, such as ``1min 30s`` or a number of seconds (systemd.time(7))."""
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]*)", span)
    return sum(float(number) * _SPANS[unit] for number, unit in parts)


@dataclass(frozen=True, slots=True)
class Command:
    """One Exec line."""

    argv: tuple[str, ...]
    may_fail: bool
    """``-``: a failure counts as a success."""
    privileged: bool
    """``+``: as root, outside of the sandbox."""

    def given(self, variables: Mapping[str, str]) -> list[str]:
        """The arguments with ``$NAME`` and ``${NAME}`` replaced."""
        return [re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda m: variables[m[1] or m[2]], word) for word in self.argv]


def command(line: str) -> Command:
    """Read an Exec line.

    Raises:
        ValueError: it has what none of ours has: another prefix, several commands, a specifier.
    """
    prefixes = line[: len(line) - len(line.lstrip("@-:+!|"))]
    argv = tuple(shlex.split(line[len(prefixes) :]))
    if set(prefixes) - set("+-") or not argv or ";" in argv or any("%" in word for word in argv):
        raise ValueError(f"this supervisor does not know how to run: {line}")
    return Command(argv, may_fail="-" in prefixes, privileged="+" in prefixes)
