"""What stands, beside what should: the rules that nft shows against what the origin and the daemon are now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from waystation.errors import TakeoverError
from waystation.model import parse_match
from waystation.takeover.redirect import plan

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from waystation.config import Settings
    from waystation.takeover.nft import Nft
    from waystation.takeover.redirect import Answering
    from waystation.takeover.ruleset import Redirect, Standing


@dataclass(frozen=True, slots=True)
class TakeoverSeen:
    """The redirect as a look at this machine finds it."""

    rules: tuple[Standing, ...] | None = None
    """None: none stands, or nobody could look."""
    unseen_because: str = ""
    """Why nobody could look."""
    answered: bool = True
    """Whether a daemon answers here."""
    wrong: tuple[str, ...] = ()
    """Where the rules lead other than they should now, in words."""


async def look_at_takeover(settings: Settings, answering: Answering | None, nft: Nft) -> TakeoverSeen:
    """See what stands and whether it is what `takeover on` would make now; nothing is changed."""
    try:
        rules = await nft.standing()
    except TakeoverError as error:
        return TakeoverSeen(unseen_because=str(error), answered=answering is not None)
    if rules is None or answering is None:
        return TakeoverSeen(None if rules is None else tuple(rules), answered=answering is not None)
    try:
        wanted = await plan(settings.origin.own_base, answering, parse_match(settings.takeover.match))
    except TakeoverError as error:
        return TakeoverSeen(tuple(rules), wrong=(str(error),))
    return TakeoverSeen(tuple(rules), wrong=tuple(differences(rules, wanted)))


def differences(rules: Sequence[Standing], wanted: Redirect) -> Iterator[str]:
    """Say in words where the rules are not what is wanted."""
    standing = {address for rule in rules for address in rule.addresses}
    resolved = set(map(str, wanted.addresses))
    for address in sorted(resolved - standing):
        yield f"the origin is at {address} now, which is not redirected"
    for address in sorted(standing - resolved):
        yield f"{address} is redirected, and is not the origin's"
    versions = {str(address): address.version for address in wanted.addresses}
    for rule in rules:
        if rule.port != wanted.port:
            yield f"port {rule.port} is redirected, and the origin's is {wanted.port}"
        if rule.match != str(wanted.match):
            yield f"it is for {rule.match}, and [takeover] match is {wanted.match} (or that was started anew)"
        ports = {wanted.mirror_ports[versions[address]] for address in rule.addresses if address in versions}
        if ports and ports != {rule.mirror_port}:
            yield f"it leads to port {rule.mirror_port}, and the mirror listens at {ports.pop()}"


def in_words(rules: Sequence[Standing]) -> str:
    """Say what is redirected."""
    told = [
        f"port {rule.port} of {', '.join(rule.addresses)} leads to the mirror's {rule.mirror_port}, for {rule.match}"
        for rule in rules
    ]
    return "; ".join(told) or "the table is there and has no rules"
