"""Progress bars on a terminal, nothing in a pipe."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def progress_bars(*, wanted: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Give a function that takes what is under way, the bytes done and all bytes; callable from any thread.

    Bars are drawn on standard error, where it is a terminal; one that is full makes room.
    """
    if not (wanted and sys.stderr.isatty()):
        yield lambda _what, _done_bytes, _total_bytes: None
        return

    from rich.console import Console  # noqa: PLC0415 - only a terminal pays for rich
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True), transient=True) as drawn:

        def show(what: str, done_bytes: int, total_bytes: int) -> None:
            if done_bytes >= total_bytes:
                if what in tasks:
                    drawn.remove_task(tasks.pop(what))
                return
            if what not in tasks:
                tasks[what] = drawn.add_task(what, total=total_bytes)
            drawn.update(tasks[what], completed=done_bytes)

        yield show
