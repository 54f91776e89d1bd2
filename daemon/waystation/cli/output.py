"""What verbs print: aligned tables on a terminal, tab-separated lines in a pipe, JSON for machines."""

from __future__ import annotations

import json
import sys
from shutil import get_terminal_size
from textwrap import wrap
from typing import TYPE_CHECKING

from waystation.model import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_TEN = 10
_NARROWEST = 40
_GAP = 2
_PERIODS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def print_json(value: object) -> None:
    """Print one JSON document."""
    print(json.dumps(value, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False))


def print_note(text: str) -> None:
    """Say on standard error what is no data."""
    print(printable(text), file=sys.stderr)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows, under their headings on a terminal; a pipe gets a line a row, tab-separated."""
    width = terminal_width()
    if width is None:
        for row in rows:
            print(tab_separated(row))
    elif rows := [[printable(cell) for cell in row] for row in rows]:
        print("\n".join(tabulated([[heading.upper() for heading in headings], *rows], width)))


def tabulated(rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Lay out rows in columns; where they are too wide, what is behind the first cell goes below it."""
    lines = align(rows).splitlines()
    if width is None or max(map(len, lines)) <= width or len(rows[0]) == 1:
        return lines
    behind = align([row[1:] for row in rows]).splitlines()
    return [line for row, rest in zip(rows, behind, strict=True) for line in (row[0], f"  {rest}")]


def tab_separated(row: Sequence[str]) -> str:
    """Write a row as a pipe gets it."""
    return "\t".join(map(printable, row))


def print_text(fields: Iterable[tuple[str, str]]) -> None:
    """Print labels and values or sentences, broken into lines that fit a terminal; a pipe gets a line each."""
    rows = [(printable(label), printable(text)) for label, text in fields]
    if sys.stdout.isatty():
        print("\n".join(laid_out(rows, terminal_width())))
    else:
        print("\n".join("\t".join(row) for row in rows))


def terminal_width() -> int | None:
    """How many columns may be used; None in a pipe: as many as are needed."""
    return get_terminal_size().columns if sys.stdout.isatty() else None


def laid_out(rows: Sequence[tuple[str, str]], width: int | None) -> list[str]:
    """Lay out labels and sentences in lines, a long sentence going on below its beginning."""
    margin = max(len(label) for label, _ in rows) + _GAP
    lines: list[str] = []
    for label, text in rows:
        room = None if width is None else max(width - margin, _NARROWEST)
        first, *more = (wrap(text, room, break_on_hyphens=False) if room else [text]) or [""]
        lines += [f"{label:{margin}}{first}", *(" " * margin + line for line in more)]
    return lines


def align(rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows in columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def human_duration(seconds: float) -> str:
    """Write a duration in its two largest units, such as ``2 h 5 min``."""
    if round(seconds, 1) < _TEN:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    parts: list[tuple[int, str]] = []
    for unit, length in _PERIODS:
        count, whole = divmod(whole, length)
        if count or parts:
            parts.append((count, unit))
    return " ".join(f"{count} {unit}" for count, unit in parts[:2] if count)


def human_age(then: float | None, now: float) -> str:
    """Write how long ago something was, or ``never``."""
    return "never" if then is None else f"{human_duration(now - then)} ago"


def counted(number: int, noun: str) -> str:
    """Write how many there are of something, such as ``1 blob`` or ``2 blobs``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def bar(part: float, whole: float, *, width: int = 20) -> str:
    """Draw how much of something is taken."""
    filled = round(width * min(max(part / whole, 0), 1)) if whole else 0
    return f"[{'#' * filled}{'.' * (width - filled)}]"
