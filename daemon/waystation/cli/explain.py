"""`waystation explain`: what a client that asks for a target gets now, why, and what to do."""

import time
from dataclasses import asdict
from typing import Annotated, Any

import typer

from waystation.admin.client import AdminClient
from waystation.cli.entry import PLAIN
from waystation.cli.explanation import explanation_rows, way_here_rows
from waystation.cli.looking import open_view
from waystation.cli.options import AsJson, ConfigFile, Overrides, read_settings
from waystation.cli.output import print_json, print_text
from waystation.cli.running import run_verb
from waystation.config import Settings
from waystation.errors import DaemonError, NoDaemon
from waystation.explain.explainer import Explainer
from waystation.mirror.paths import Directions, Hosts, Paths
from waystation.mirror.replies import status_code
from waystation.takeover.comparison import look_at_takeover
from waystation.takeover.nft import Nft
from waystation.takeover.redirect import Answering

Asked = Annotated[
    str, typer.Argument(metavar="TARGET", help="A target's name, or the path or URL with which a client asked.")
]

app = typer.Typer(**PLAIN)


@app.command()
def explain(*, target: Asked, config: ConfigFile = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Say what a client that asks for TARGET gets now, why, and what to do about it; nothing is changed by it.

    Asks the daemon here; without one, says what the origin alone can tell.
    """
    settings = read_settings(config, overrides)
    told, way_here = run_verb(_explain(settings, target)), run_verb(_way_here(settings))
    if as_json:
        print_json(told | way_here)
    else:
        now = time.time()
        print_text(explanation_rows(told, now=now, way_here=way_here_rows(**way_here, now=now)))


async def _explain(settings: Settings, target: str) -> dict[str, Any]:
    try:
        return await AdminClient(settings.admin.socket).explain(target)
    except NoDaemon:
        async with open_view(settings) as view:
            paths, hosts = (
                Paths(settings.origin.own_path),
                Hosts(settings.mirror.hosts, settings.origin.own_host),
            )
            named = Directions(paths, hosts).name_in
            explainer = Explainer(view.admission, view.origin, named=named, meaning=status_code, daemon=None)
            return asdict(await explainer.explain(target))


async def _way_here(settings: Settings) -> dict[str, Any]:
    """How jobs that use the bucket's own URL fare, and the certificate that https ones are shown."""
    try:
        status = await AdminClient(settings.admin.socket).status()
    except DaemonError:
        status = None
    seen = await look_at_takeover(settings, Answering.of(status) if status else None, Nft())
    return {"takeover": asdict(seen), "certificate": status["certificate"] if status else None}
