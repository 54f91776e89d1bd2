"""What stands in Waystation's own nftables table, as nft reads it; pure."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from waystation.model import Match

TABLE = "waystation"
FAMILY = "inet"


_RELEASED = [
    {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "established"}},
    {"accept": None},
]
"""The rule of `release`, as nft lists it."""
_PROTOCOLS = {4: "ip", 6: "ip6"}

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Redirect:
    """The whole of what is taken over."""

    addresses: frozenset[Address]
    """The origin's."""
    port: int
    mirror_ports: Mapping[int, int]
    """By IP version, on loopback: nft's redirect in the output hook leads to 127.0.0.1 or ::1."""
    match: Match


def expression(match: Match) -> str:
    """A match as nft writes it; a cgroup is bound by its id when the rule is loaded."""
    if match.cgroup is not None:
        return f'socket cgroupv2 level {match.cgroup.count("/") + 1} "{match.cgroup}"'
    return f"meta skuid {match.user}"


def script(redirect: Redirect) -> str:
    """Replace the table whole, in one transaction, whether it is there or not (nft(8), "Atomic rule replacement")."""
    rules = "".join(
        f"    {expression(redirect.match)} {protocol} daddr {{ {', '.join(map(str, addresses))} }}"
        f" tcp dport {redirect.port} counter redirect to :{redirect.mirror_ports[version]}\n"
        for version, protocol, addresses in _by_protocol(redirect.addresses)
    )
    return (
        f"{removal()}"
        f"table {FAMILY} {TABLE} {{\n"
        f"  chain output {{\n"
        f"    type nat hook output priority -100; policy accept;\n"
        f"{rules}"
        f"  }}\n"
        f"}}\n"
    )


def removal() -> str:
    """Remove the table whole, whether it is there or not."""
    return f"table {FAMILY} {TABLE}\ndelete table {FAMILY} {TABLE}\n"


def release() -> str:
    """Lead nobody away any more, while the connections that were go on.

    The kernel translates them only as long as a chain of NAT and a rule that looks at connections stand somewhere;
    without, either side would wait for ever for what the other sends.
    """
    return f"flush table {FAMILY} {TABLE}\nadd rule {FAMILY} {TABLE} output ct state established accept\n"


def _by_protocol(addresses: frozenset[Address]) -> Iterator[tuple[int, str, list[Address]]]:
    for version, protocol in _PROTOCOLS.items():
        if some := sorted((address for address in addresses if address.version == version), key=int):
            yield version, protocol, some


@dataclass(frozen=True, slots=True)
class Standing:
    """One rule of the table as it is loaded."""

    addresses: tuple[str, ...]
    port: int
    mirror_port: int
    match: str
    connections: int
    """Redirected since it was loaded."""


def parse_listing(listing: dict[str, object]) -> list[Standing]:
    """Read what ``nft --json list table inet waystation`` prints (libnftables-json(5)); empty where it is released.

    Raises:
        ValueError: a rule is none of ours.
    """
    items = listing.get("nftables")
    if not isinstance(items, list):
        raise ValueError("not a listing of nft's")  # noqa: TRY004 - its form is wrong, whatever its type
    rules = [item["rule"]["expr"] for item in items if "rule" in item]
    return [_standing(rule) for rule in rules if rule != _RELEASED]


def _standing(expressions: list[dict[str, dict[str, object]]]) -> Standing:
    found: dict[str, object] = {}
    for expression in expressions:
        for kind, body in expression.items():
            if kind == "match":
                found[_subject(body["left"])] = body["right"]
            else:
                found[kind] = body
    try:
        addresses = found["daddr"]
        match = f"user:{found['skuid']}" if "skuid" in found else str(found["cgroupv2"])
        return Standing(
            addresses=tuple(addresses["set"]) if isinstance(addresses, dict) else (str(addresses),),
            port=int(str(found["dport"])),
            mirror_port=int(found["redirect"]["port"]),  # type: ignore[index]
            match=match,
            connections=int(found["counter"]["packets"]),  # type: ignore[index]
        )
    except (KeyError, TypeError) as error:
        raise ValueError("a rule that Waystation did not write") from error


def _subject(left: object) -> str:
    """What a match looks at: ``daddr``, ``dport``, ``cgroupv2`` or ``skuid``."""
    (look,) = left.values() if isinstance(left, dict) else ({},)
    return str(look.get("field") or look.get("key")) if isinstance(look, dict) else ""
