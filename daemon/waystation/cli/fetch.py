"""`waystation fetch`: a verified download without a daemon."""

import asyncio
import os
import stat
from collections.abc import Callable
from hashlib import file_digest
from io import BufferedReader
from pathlib import Path
from typing import Annotated

import typer

from waystation.cli.entry import PLAIN
from waystation.cli.looking import View, open_view
from waystation.cli.options import AsJson, ConfigFile, Overrides, Target, read_settings
from waystation.cli.output import print_json, print_note
from waystation.cli.progress import progress_bars
from waystation.cli.running import run_verb
from waystation.config import Settings, human_size
from waystation.disk import Disk
from waystation.errors import StoreUnusable
from waystation.model import Artifact, Span, TargetPath, parse_target
from waystation.store.single_file import DESTINATION_ADVICE, SingleFile
from waystation.transfer.flights import Flights

_LOOK_EVERY_S = 0.1

app = typer.Typer(**PLAIN)


@app.command()
def fetch(
    *,
    target: Target,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Where to; the target's last part here where not given."),
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Download TARGET, verified against the catalog, as an executable file; print its path.

    The file appears only once all of it is verified; a right one that is there already is kept, and
    a symbolic link in its place is refused.
    """
    settings = read_settings(config, overrides)
    name = parse_target(target)
    file = _destination(output or Path(name.rpartition("/")[2]))
    artifact, already = run_verb(_fetch(settings, name, file, as_json=as_json))
    if as_json:
        print_json(
            {
                "target": artifact.target,
                "sha256": artifact.digest,
                "size_bytes": artifact.size_bytes,
                "path": str(file),
                "already": already,
            }
        )
        return
    what = "was here already" if already else "is fetched"
    print_note(f"{artifact.target} {what} ({human_size(artifact.size_bytes)}, verified).")
    print(file)


def _destination(file: Path) -> Path:
    """Check before anything is asked for that a regular file can be put there.

    A link is refused: replacing what it leads to writes where nobody looked (a link laid in /tmp, fetched to by root),
    replacing the link itself is not what a copy does.
    """
    folder = Path(os.path.realpath(file.parent))
    if not stat.S_ISDIR(_mode_of(folder) or 0):
        raise typer.BadParameter(f"there is no folder {folder}", param_hint="-o")
    if file.name in ("", ".."):
        raise typer.BadParameter(f"{file} is no name of a file", param_hint="-o")
    file = folder / file.name
    mode = _mode_of(file)
    if mode is not None and stat.S_ISLNK(mode):
        place = os.path.realpath(file)
        raise typer.BadParameter(f"{file} is a symbolic link; name the file itself: {place}", param_hint="-o")
    if mode is not None and not stat.S_ISREG(mode):
        raise typer.BadParameter(f"{file} is there and is not a regular file", param_hint="-o")
    return file


def _mode_of(place: Path) -> int | None:
    """Say what is there, None where nothing is."""
    try:
        return place.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreUnusable(f"can't look at {place}: {error.strerror}", advice=DESTINATION_ADVICE) from error


async def _fetch(settings: Settings, target: TargetPath, file: Path, *, as_json: bool) -> tuple[Artifact, bool]:
    async with open_view(settings) as view:
        artifact = await view.admission.admit(target)
        already = await asyncio.to_thread(_is_there, artifact, file)
        if already:
            await asyncio.to_thread(_make_executable, file)
        else:
            with progress_bars(wanted=not as_json) as progress:
                await _download(settings, view, artifact, file, progress)
        return artifact, already


async def _download(
    settings: Settings, view: View, artifact: Artifact, file: Path, progress: Callable[[str, int, int], None]
) -> None:
    flights = Flights(view.origin, SingleFile(file, disk=Disk()), settings=settings.transfer, metrics=view.metrics)
    watcher = asyncio.create_task(_watch(flights, progress))
    try:
        async with flights.open(artifact) as body:
            async for _ in body.runs(Span(0, artifact.size_bytes)):
                pass
    finally:
        watcher.cancel()
        await flights.close()


async def _watch(flights: Flights, progress: Callable[[str, int, int], None]) -> None:
    while True:
        for flight in flights.flights():
            progress(f"fetching {flight.target}", flight.held_bytes, flight.size_bytes)
        await asyncio.sleep(_LOOK_EVERY_S)


def _is_there(artifact: Artifact, file: Path) -> bool:
    try:
        with _open_itself(file) as opened:
            same_size = os.fstat(opened.fileno()).st_size == artifact.size_bytes
            return same_size and file_digest(opened, "sha256").hexdigest() == artifact.digest
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StoreUnusable(
            f"{file} can't be read: {error.strerror}", advice="Name another file with -o, or correct its mode."
        ) from error


def _open_itself(file: Path) -> BufferedReader:
    return os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")


def _make_executable(file: Path) -> None:
    """Let those run it who may read it."""
    try:
        with _open_itself(file) as opened:
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            os.fchmod(opened.fileno(), mode | (mode & 0o444) >> 2)
    except OSError as error:
        raise StoreUnusable(f"{file} can't be made executable: {error.strerror}", advice="Run chmod +x.") from error
