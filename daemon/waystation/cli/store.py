"""`waystation store`: what the daemon here holds, and what an operator may change of it."""

import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import typer

from waystation.admin.client import AdminClient
from waystation.cli.entry import PLAIN
from waystation.cli.inventory import APP_HEADINGS, BLOB_HEADINGS, app_rows, blob_rows, by_app, in_order
from waystation.cli.options import AsJson, ConfigFile, Overrides, read_settings
from waystation.cli.output import counted, print_json, print_note, print_table
from waystation.cli.progress import progress_bars
from waystation.cli.running import run_verb
from waystation.config import human_size
from waystation.errors import CallRefused

Names = Annotated[
    list[str],
    typer.Argument(metavar="NAME...", help="Targets, or sha256s (12 digits are enough where they are clear)."),
]
Told = dict[str, Any]
_BAD, _FAILED, _ABSENT = "bad", "failed", "absent"

app = typer.Typer(**PLAIN)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one name."""

    name: str
    outcome: str
    why: str
    told: Told
    """What the daemon said of it; nothing where it refused."""

    def row(self) -> tuple[str, str, str]:
        return self.outcome, ", ".join(self.told.get("targets", ())) or self.name, self.why

    def record(self) -> Told:
        return {**self.told, "name": self.name, "outcome": self.outcome, "why": self.why or None}


@app.callback()
def store() -> None:
    """Look at what the daemon here has stored, check it, keep it, drop it."""


@app.command()
def ls(
    *,
    by: Annotated[Literal["blob", "app"], typer.Option("--by", help="A line for each blob, or for each app.")] = "blob",
    config: ConfigFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """List what is stored: its size, when it was last used and verified, who pins it, what is suspect."""
    blobs = in_order(run_verb(_client(config, overrides).blobs()))
    now = time.time()
    if by == "app":
        apps = by_app(blobs)
        if as_json:
            print_json(apps)
        else:
            print_table(APP_HEADINGS, app_rows(apps, now=now))
        return
    if as_json:
        print_json(blobs)
        return
    print_table(BLOB_HEADINGS, blob_rows(blobs, now=now, whole_digests=not sys.stdout.isatty()))
    here = [blob for blob in blobs if blob["state"] != "absent"]
    print_note(f"{counted(len(here), 'blob')}, {human_size(sum(blob['size_bytes'] for blob in here))}.")


@app.command()
def verify(
    *,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME...", help="Targets or sha256s; all blobs where none is given.")
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Read blobs again now and check them; a bad one is served no more, and repaired when it is next asked for.

    The exit status is 1 when something was bad, or could not be checked.
    """
    results = run_verb(_verify(_client(config, overrides), names or [], as_json=as_json))
    shown = results if names else [result for result in results if result.outcome != "good"]
    count = Counter(result.outcome for result in results)
    _report(results, shown, as_json=as_json)
    if not as_json:
        print_note(f"{count['good']} good, {count['bad']} bad, {count['failed']} not checked.")
    _exit(results)


@app.command()
def pin(*, names: Names, config: ConfigFile = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Never evict these, until they are unpinned; what is not stored yet is kept once it is."""

    def tell(told: Told) -> tuple[str, str]:
        why = "" if told["stored"] else "not stored yet: kept once it is fetched"
        return "pinned" if told["changed"] else "already pinned", why

    results = run_verb(_each(names, _client(config, overrides).pin, tell))
    _report(results, results, as_json=as_json)
    _exit(results)


@app.command()
def unpin(*, names: Names, config: ConfigFile = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Give up pins that `store pin` set; those of others stay."""

    def tell(told: Told) -> tuple[str, str]:
        why = f"still pinned by {', '.join(told['pinned_by'])}" if told["pinned_by"] else ""
        return "unpinned" if told["changed"] else "was not pinned", why

    results = run_verb(_each(names, _client(config, overrides).unpin, tell))
    _report(results, results, as_json=as_json)
    _exit(results)


@app.command()
def evict(*, names: Names, config: ConfigFile = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Remove these from the store; they are fetched again when they are next asked for."""
    results = run_verb(_each(names, _client(config, overrides).evict, lambda _: ("evicted", "")))
    _report(results, results, as_json=as_json)
    _exit(results)


def _client(config: Any, overrides: Any) -> AdminClient:
    return AdminClient(read_settings(config, overrides).admin.socket)


async def _each(
    names: Iterable[str], act: Callable[[str], Awaitable[Told]], tell: Callable[[Told], tuple[str, str]]
) -> list[Result]:
    """Do it to one after the other: what the daemon refuses of one is told, and the others are done all the same."""
    results = []
    for name in names:
        try:
            told = await act(name)
        except CallRefused as error:
            results.append(Result(name, _FAILED, f"{error}. {error.advice}", {}))
        else:
            results.append(Result(name, *tell(told), told))
    return results


async def _verify(client: AdminClient, names: list[str], *, as_json: bool) -> list[Result]:
    if names:
        named = await _each(names, client.verify, _verdict)
        return [replace(each, outcome=_FAILED) if each.outcome == _ABSENT else each for each in named]
    results: list[Result] = []
    blobs = [blob for blob in in_order(await client.blobs()) if blob["state"] != "absent"]
    total_bytes, done_bytes = sum(blob["size_bytes"] for blob in blobs), 0
    with progress_bars(wanted=not as_json) as progress:
        for blob in blobs:
            progress("verifying", done_bytes, total_bytes)
            results += await _each([blob["sha256"]], client.verify, _verdict)
            done_bytes += blob["size_bytes"]
        progress("verifying", total_bytes, total_bytes)
    return [each for each in results if each.outcome != _ABSENT]  # it left meanwhile


def _verdict(told: Told) -> tuple[str, str]:
    return told["outcome"], told["why"] or ""


def _report(results: list[Result], shown: list[Result], *, as_json: bool) -> None:
    if as_json:
        print_json([result.record() for result in results])
    else:
        print_table(("outcome", "name", "why"), [result.row() for result in shown])


def _exit(results: list[Result]) -> None:
    if any(result.outcome in (_BAD, _FAILED) for result in results):
        raise typer.Exit(1)
