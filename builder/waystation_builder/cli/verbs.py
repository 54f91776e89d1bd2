"""What the verbs do: call, print."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from waystation.publish import load_settings
from waystation_builder.building import build
from waystation_builder.cli.arguments import order_of
from waystation_builder.cli.output import print_built, print_published, progress_bars, tell_on_terminal
from waystation_builder.publishing import publish_built
from waystation_builder.record import read_record

if TYPE_CHECKING:
    from argparse import Namespace

    from waystation_builder.building import Built


def perform(asked: Namespace) -> None:
    """Do what a command line asks for.

    Raises:
        WaystationError: it can't be done.
    """
    as_json: bool = asked.json
    if asked.verb == "build":
        print_built(build(order_of(asked), tell=tell_on_terminal(wanted=not as_json)), as_json=as_json)
        return
    settings = load_settings(asked.config, flags=tuple(asked.set))  # what is wrong here is told before a long build
    built: Built | None = None
    if asked.verb == "run":
        built = build(order_of(asked), tell=tell_on_terminal(wanted=not as_json))
        file, record = built.file, built.record
    else:
        file, record = asked.file, read_record(asked.file)
    with progress_bars(wanted=not as_json) as progress:
        published = asyncio.run(publish_built(settings, file, record, progress))
    print_published(settings, published, built, as_json=as_json)
