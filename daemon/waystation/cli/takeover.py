"""`waystation takeover`: send jobs that use the bucket's own URL to the mirror, and give the address back."""

from dataclasses import asdict
from typing import Annotated

import typer

from waystation.admin.client import AdminClient
from waystation.cli.entry import PLAIN
from waystation.cli.options import AsJson, ConfigFile, Overrides, read_settings
from waystation.cli.output import counted, print_json, print_note, print_table
from waystation.cli.running import run_verb
from waystation.config import Settings
from waystation.errors import ConfigError, DaemonError, NobodyAnswers, NoCgroup, TakeoverError
from waystation.model import Match, parse_match
from waystation.takeover.nft import Nft
from waystation.takeover.redirect import Answering, give_back, plan, take_over
from waystation.takeover.ruleset import Redirect, Standing

MatchOption = Annotated[
    str | None,
    typer.Option("--match", metavar="CGROUP", help='Whose connections; else [takeover] match. Or "user:NAME".'),
]

app = typer.Typer(**PLAIN)


@app.callback()
def takeover() -> None:
    """Let the mirror answer at the bucket's own address, for this machine's Nomad alone (nftables; needs root)."""


@app.command()
def on(
    *,
    match: MatchOption = None,
    if_ready: Annotated[
        bool,
        typer.Option(
            "--if-ready",
            help="For units: do nothing, and succeed, where [takeover] enabled is not set, the daemon can't serve, or "
            "the matched cgroup does not exist yet.",
        ),
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Also where the bucket has keys that the mirror would refuse."),
    ] = False,
    config: ConfigFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Redirect the origin's address to the mirror, replacing what stands; only while the daemon can serve."""
    settings = read_settings(config, overrides)
    wanted = _wanted(settings, match)
    try:
        if if_ready:
            _see_that_it_is_wanted(settings)
        redirect = run_verb(_on(settings, wanted, force=force))
    except (_NotWanted, NobodyAnswers, NoCgroup) as reason:
        if not if_ready:
            raise
        if as_json:
            print_json({"standing": False})
        else:
            print_note(f"Nothing is taken over: {reason}.")
        return
    addresses = sorted(map(str, redirect.addresses))
    if as_json:
        print_json({"standing": True, "addresses": addresses, "port": redirect.port, "match": str(redirect.match)})
    else:
        shown = ", ".join(addresses)
        print_note(f"Port {redirect.port} of {shown} now leads to the mirror, for {redirect.match}.")


@app.command()
def off(*, as_json: AsJson = False) -> None:
    """Give the address back to the bucket; nothing of ours is left in nftables."""
    stood = run_verb(give_back(Nft()))
    if as_json:
        print_json({"stood": stood})
    else:
        print_note("The address is the bucket's again." if stood else "Nothing was taken over; nothing to do.")


@app.command()
def status(*, as_json: AsJson = False) -> None:
    """Show what is redirected now, and how many connections were; ends with 1 where nothing is."""
    rules = run_verb(Nft().standing())
    if as_json:
        print_json({"standing": bool(rules), "rules": [asdict(rule) for rule in rules or ()]})
    elif not rules:
        print_note("Nothing is taken over.")
    else:
        print_table(("ADDRESSES", "PORT", "MIRROR", "FOR", "CONNECTIONS"), map(_row, rules))
    if not rules:
        raise typer.Exit(1)


def _wanted(settings: Settings, match: str | None) -> Match:
    try:
        return parse_match(match or settings.takeover.match)
    except ValueError as error:
        raise ConfigError(f"--match {match}: {error}", advice="Name Nomad's cgroup, or its user.") from error


def _row(rule: Standing) -> tuple[str, ...]:
    return ", ".join(rule.addresses), str(rule.port), str(rule.mirror_port), rule.match, str(rule.connections)


class _NotWanted(TakeoverError):
    """The configuration leaves the address to the bucket."""


def _see_that_it_is_wanted(settings: Settings) -> None:
    if not settings.takeover.enabled:
        raise _NotWanted("[takeover] enabled is not set")


async def _on(settings: Settings, match: Match, *, force: bool) -> Redirect:
    daemon, nft = AdminClient(settings.admin.socket), Nft()
    try:
        station = await daemon.status()
    except DaemonError as error:
        raise NobodyAnswers(str(error), advice=error.advice) from error
    if not station["ready"]:
        raise NobodyAnswers(
            f"the daemon can't serve: {'; '.join(station['not_ready_because'])}",
            advice="Wait until /readyz answers 200, or give --if-ready.",
        )
    redirect = await plan(settings.origin.own_base, Answering.of(station), match)
    if not force:
        await _refuse_what_would_break(settings, daemon)
    await take_over(redirect, nft)
    if await _lives(daemon, station["pid"]):
        return redirect
    # It ended while the rule was on its way: its unit removed the rule before it stood.
    await give_back(nft)
    raise NobodyAnswers("the daemon ended meanwhile", advice="Run this again.")


async def _lives(daemon: AdminClient, pid: int) -> bool:
    try:
        return bool((await daemon.status())["pid"] == pid)
    except DaemonError:
        return False


async def _refuse_what_would_break(settings: Settings, daemon: AdminClient) -> None:
    """What the mirror would refuse, the bucket would have served. The daemon counts: it has the bucket's keys."""
    if settings.catalog.missing_checksum == "pin-first":
        return
    count = await daemon.unvouched()
    if count and count["unvouched"]:
        raise TakeoverError(
            f"{counted(count['unvouched'], 'key')} of the bucket, such as {count['example']}, would be refused by the "
            "mirror: nothing vouches for them",
            advice="Run `waystation adopt`, allow pin-first in [catalog] missing_checksum, or give --force.",
        )
