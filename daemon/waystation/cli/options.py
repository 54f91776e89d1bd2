"""The options that every verb takes, and the settings that come of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from waystation.config import Settings, load_settings

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="The configuration; else WAYSTATION_CONFIG, else the system's own."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one setting, such as store.max_size=5GiB; repeatable."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON to standard output, and errors as JSON.")]
Target = Annotated[str, typer.Argument(metavar="TARGET", help="A target's name, such as app/app-0.1.0-x86_64.")]


def read_settings(config: Path | None, overrides: Sequence[str] | None) -> Settings:
    """Read the settings that these options select.

    Raises:
        ConfigError: the configuration can't be used.
    """
    return load_settings(config, flags=tuple(overrides or ()))
