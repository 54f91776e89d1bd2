"""The verbs `build`, `publish` and `run`: parse, call, print."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from waystation.publish import load_settings
from waystation_builder.building import Order, build
from waystation_builder.bundlers import Wishes
from waystation_builder.cli import options
from waystation_builder.cli.output import print_built, print_published, progress_bars, tell_on_terminal
from waystation_builder.identity import Identity
from waystation_builder.publishing import publish_built
from waystation_builder.record import read_record

app = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it with the option's value
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - only this asks

        print(f"waystation-builder {version('waystation-builder')}")
        raise typer.Exit


@app.callback(help="Turns a project into one self-contained executable, checks it, and publishes it.")
def _every_verb(
    *,
    _version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """What may stand before the verb."""


@app.command("build")
def build_verb(
    *,
    source: options.Source = Path(),
    bundler: options.Bundler = options.BundlerName.AUTO,
    output: options.Output = Path("dist"),
    app_name: options.App = None,
    version: options.Version = None,
    arch: options.Arch = None,
    command: options.CommandLine = None,
    executable: options.Executable = None,
    variables: options.Variables = None,
    twice: options.Twice = False,
    verbose: options.Verbose = False,
    as_json: options.AsJson = False,
) -> None:
    """Build SOURCE into one executable, check it, and put it into DIR as <app>-<version>-<arch>; print its path.

    Beside it lies a record of what the checks found, for `publish`. Nothing is left there of a build that failed.
    """
    order = Order(
        source,
        output,
        bundler.value,
        Wishes(command=command),
        Identity(app_name, version),
        arch,
        executable,
        tuple(variables or ()),
        twice=twice,
        echo=verbose,
    )
    print_built(build(order, tell=tell_on_terminal(wanted=not as_json)), as_json=as_json)


@app.command("publish")
def publish_verb(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `build` left.")],
    config: options.ConfigFile = None,
    overrides: options.Overrides = None,
    as_json: options.AsJson = False,
) -> None:
    """Upload what `build` left as <app>/<app>-<version>-<arch>, and print the stanza that uses it.

    The same bytes again are no error; other bytes under the same name are. A publish that died is
    finished by running it again.
    """
    settings = load_settings(config, flags=tuple(overrides or ()))
    record = read_record(file)
    with progress_bars(wanted=not as_json) as progress:
        published = asyncio.run(publish_built(settings, file, record, progress))
    print_published(settings, published, None, as_json=as_json)


@app.command("run")
def run_verb(
    *,
    source: options.Source = Path(),
    bundler: options.Bundler = options.BundlerName.AUTO,
    output: options.Output = Path("dist"),
    app_name: options.App = None,
    version: options.Version = None,
    arch: options.Arch = None,
    command: options.CommandLine = None,
    executable: options.Executable = None,
    variables: options.Variables = None,
    twice: options.Twice = False,
    verbose: options.Verbose = False,
    config: options.ConfigFile = None,
    overrides: options.Overrides = None,
    as_json: options.AsJson = False,
) -> None:
    """Build SOURCE, check what comes of it, publish it, and print the stanza that uses it: `build`, then `publish`."""
    settings = load_settings(config, flags=tuple(overrides or ()))
    order = Order(
        source,
        output,
        bundler.value,
        Wishes(command=command),
        Identity(app_name, version),
        arch,
        executable,
        tuple(variables or ()),
        twice=twice,
        echo=verbose,
    )
    built = build(order, tell=tell_on_terminal(wanted=not as_json))
    with progress_bars(wanted=not as_json) as progress:
        published = asyncio.run(publish_built(settings, built.file, built.record, progress))
    print_published(settings, published, built, as_json=as_json)
