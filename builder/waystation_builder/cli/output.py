"""What the verbs print: paths and stanzas on standard output, what is under way on a terminal, JSON for machines."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from waystation.publish import artifact_stanza, human_size, mirror_base

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from waystation.publish import Progress, Published, Settings
    from waystation_builder.building import Built


def tell_on_terminal(*, wanted: bool) -> Callable[[str], None]:
    """Give a function that says what is under way, on standard error where it is a terminal."""

    def tell(text: str) -> None:
        print(text, file=sys.stderr)

    return tell if wanted and sys.stderr.isatty() else lambda _text: None


@contextmanager
def progress_bars(*, wanted: bool) -> Iterator[Progress]:
    """Give what a publisher tells its progress to: bars on standard error where it is a terminal, else nothing."""
    if not (wanted and sys.stderr.isatty()):
        yield lambda _what, _done_bytes, _total_bytes: None
        return
    from rich.console import Console  # noqa: PLC0415 - only a terminal pays for rich
    from rich.progress import Progress as Bars  # noqa: PLC0415
    from rich.progress import TaskID  # noqa: PLC0415

    tasks: dict[str, TaskID] = {}
    with Bars(console=Console(stderr=True), transient=True) as bars:

        def show(what: str, done_bytes: int, total_bytes: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total_bytes)
            bars.update(tasks[what], completed=done_bytes)

        yield show


def print_built(built: Built, *, as_json: bool) -> None:
    """Print where the executable is."""
    if as_json:
        _print_json({"file": str(built.file), **asdict(built.record)})
        return
    record = built.record
    needs = f"; needs {', '.join(record.needs)}" if record.needs else ""
    _note(f"{built.file.name} is built by {record.bundler} ({record.why}; {human_size(record.size_bytes)}{needs}).")
    _note(f"smoke run: {record.smoke}.")
    print(built.file)


def print_published(settings: Settings, published: Published, built: Built | None, *, as_json: bool) -> None:
    """Print the stanza of what was published, and what `run` built for it."""
    stanza = artifact_stanza(published.target, published.digest, base=mirror_base(*settings.mirror.listen))
    if as_json:
        told: dict[str, object] = {"file": str(built.file), **asdict(built.record)} if built else {}
        _print_json(
            {
                **told,
                "target": published.target,
                "sha256": published.digest,
                "size_bytes": published.size_bytes,
                "already": published.already,
                "stanza": stanza,
            }
        )
        return
    what = "was published already, with the same bytes" if published.already else "is published"
    _note(f"{published.target} {what} ({human_size(published.size_bytes)}).")
    print(stanza, end="")


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False))


def _note(text: str) -> None:
    print(text, file=sys.stderr)
