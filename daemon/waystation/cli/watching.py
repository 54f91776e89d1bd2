"""Looking again and again: one screen that is drawn over on a terminal, one document after the other in a pipe."""

from __future__ import annotations

import asyncio
import sys
from contextlib import contextmanager
from shutil import get_terminal_size
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

EVERY_S = 1.0

# ECMA-48, and xterm's private modes for the other screen and the cursor.
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


async def watch(look: Callable[[], Awaitable[str]], *, every_s: float = EVERY_S) -> None:
    """Show what `look` gives until it is cancelled; what it raises ends it, with the terminal as it was before."""
    with _screen() as show:
        while True:
            show(await look())
            await asyncio.sleep(every_s)


@contextmanager
def _screen() -> Iterator[Callable[[str], None]]:
    if not sys.stdout.isatty():
        yield lambda text: print(text, flush=True)
        return
    print(end=_ENTER, flush=True)
    try:
        yield lambda text: print(end=frame(text, *get_terminal_size()), flush=True)
    finally:
        print(end=_LEAVE, flush=True)


def frame(text: str, columns: int, height: int) -> str:
    """Draw over what is there without a flicker; what is beyond the terminal's edges is left away."""
    # Each line is emptied before it is written: behind its last column that would take the last letter with it.
    lines = [f"{_REST_OF_LINE}{line[:columns]}" for line in text.splitlines()[:height]]
    return _HOME + "\n".join(lines) + _REST_OF_SCREEN
