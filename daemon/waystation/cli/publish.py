"""`waystation publish`: a bundle goes up under a name that never changes, and its stanza is printed."""

from pathlib import Path
from typing import Annotated

import typer

from waystation.cli.entry import PLAIN
from waystation.cli.options import AsJson, ConfigFile, Overrides, read_settings
from waystation.cli.output import print_json, print_note
from waystation.cli.progress import progress_bars
from waystation.cli.running import run_verb
from waystation.config import Settings, human_size
from waystation.publish import Published, open_publisher
from waystation.publish.stanza import artifact_stanza, mirror_base

app = typer.Typer(**PLAIN)


@app.command()
def publish(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The bundle: one regular file.")],
    app_name: Annotated[str, typer.Option("--app", metavar="APP", help="The app it belongs to, such as pet-taxi.")],
    version: Annotated[str, typer.Option("--version", metavar="VERSION", help="Its version, such as 0.1.0.")],
    arch: Annotated[
        str | None, typer.Option("--arch", metavar="ARCH", help="x86_64, aarch64, …; this machine's where not given.")
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Upload FILE as <app>/<app>-<version>-<arch> and print the stanza that uses it.

    The same bytes again are no error; other bytes under the same name are. A publish that died is
    finished by running it again.
    """
    settings = read_settings(config, overrides)
    published = run_verb(_publish(settings, file, app_name, version, arch, as_json=as_json))
    stanza = artifact_stanza(published.target, published.digest, base=mirror_base(*settings.mirror.listen))
    if as_json:
        print_json(
            {
                "target": published.target,
                "sha256": published.digest,
                "size_bytes": published.size_bytes,
                "already": published.already,
                "stanza": stanza,
            }
        )
        return
    what = "was published already, with the same bytes" if published.already else "is published"
    print_note(f"{published.target} {what} ({human_size(published.size_bytes)}).")
    print(stanza, end="")


async def _publish(
    settings: Settings, file: Path, app_name: str, version: str, arch: str | None, *, as_json: bool
) -> Published:
    with progress_bars(wanted=not as_json) as progress:
        async with open_publisher(settings) as publisher:
            return await publisher.publish(file, app=app_name, version=version, arch=arch, progress=progress)
