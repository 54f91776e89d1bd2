"""What is taken over, and what is refused: decided without nft, a network or a daemon."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from waystation.errors import TakeoverError
from waystation.model import Match, parse_match
from waystation.takeover.comparison import differences
from waystation.takeover.decision import Daemon, Endpoint, decide, endpoint_of
from waystation.takeover.ruleset import Address, Redirect, Standing, expression, parse_listing, removal, script

NOMAD = Match(cgroup="system.slice/nomad.service")
BUCKET = frozenset({ip_address("192.0.2.9"), ip_address("192.0.2.10")})
NOWHERE: frozenset[Address] = frozenset()
DAEMON = Daemon(user=990, cgroup="system.slice/waystation.service", listen=("http://127.0.0.1:4650",))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("system.slice/nomad.service", NOMAD),
        ("/system.slice/nomad.service/", NOMAD),
        ("user:nomad", Match(user="nomad")),
        ("user:990", Match(user="990")),
    ],
)
def test_a_match_is_a_cgroup_or_a_user(text: str, match: Match) -> None:
    assert parse_match(text) == match
    assert parse_match(str(match)) == match


@pytest.mark.parametrize(
    "text", ["", "/", "a/../b", "a//b", 'x" accept; "', "user:", "user:a b", "user:-x", "a b", "a\nb", "user:x;drop"]
)
def test_nothing_that_nft_could_read_as_more_is_a_match(text: str) -> None:
    with pytest.raises(ValueError, match=r"nomad\.service"):
        parse_match(text)


def test_the_level_is_the_depth_of_the_cgroup() -> None:
    assert expression(NOMAD) == 'socket cgroupv2 level 2 "system.slice/nomad.service"'
    assert expression(Match(cgroup="a/b/c")) == 'socket cgroupv2 level 3 "a/b/c"'


def test_the_script_replaces_the_table_and_names_each_family_once() -> None:
    both = BUCKET | {ip_address("2001:db8::9")}
    text = script(Redirect(both, 9000, {4: 4650, 6: 4651}, NOMAD))
    assert text.startswith(removal())
    assert "ip daddr { 192.0.2.9, 192.0.2.10 } tcp dport 9000 counter redirect to :4650\n" in text
    assert "ip6 daddr { 2001:db8::9 } tcp dport 9000 counter redirect to :4651\n" in text


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://minio:9000/b", Endpoint("http", "minio", 9000)),
        ("http://minio/b", Endpoint("http", "minio", 80)),
        ("https://my.local.domain/b/live", Endpoint("https", "my.local.domain", 443)),
    ],
)
def test_the_endpoint_is_what_jobs_ask(url: str, endpoint: Endpoint) -> None:
    assert endpoint_of(url) == endpoint


def test_without_an_endpoint_there_is_nothing_to_take_over() -> None:
    with pytest.raises(TakeoverError, match="without an endpoint_url"):
        endpoint_of(None)


def test_targets_at_the_root_of_a_server_are_not_taken_over() -> None:
    with pytest.raises(TakeoverError, match="at the root of http://static:8080"):
        endpoint_of("http://static:8080")


def decided(
    *,
    scheme: str = "http",
    port: int = 9000,
    addresses: frozenset[Address] = BUCKET,
    own: frozenset[Address] = NOWHERE,
    daemon: Daemon = DAEMON,
    match: Match = NOMAD,
    user: int | None = None,
) -> Redirect:
    return decide(Endpoint(scheme, "bucket", port), addresses, own, daemon, match, user=user)


def test_all_addresses_lead_to_the_mirror_on_loopback() -> None:
    assert decided() == Redirect(BUCKET, 9000, {4: 4650}, NOMAD)


def test_a_family_that_the_mirror_does_not_answer_on_loopback_stays_with_the_bucket() -> None:
    both = BUCKET | {ip_address("2001:db8::9")}
    assert decided(addresses=both).addresses == BUCKET
    listen = ("http://127.0.0.1:4650", "http://[::]:4650")
    assert decided(addresses=both, daemon=Daemon(990, "x", listen)).addresses == both


@pytest.mark.parametrize("listen", [("http://192.0.2.1:4650",), ("https://127.0.0.1:4651",)])
def test_where_nobody_would_answer_it_is_refused(listen: tuple[str, ...]) -> None:
    with pytest.raises(TakeoverError, match="does not speak http on"):
        decided(daemon=Daemon(990, "x", listen))


BOTH = ("http://127.0.0.1:4650", "https://127.0.0.1:4651", "https://[::1]:4652", "http://[::1]:4653")


def test_the_scheme_chooses_the_listener() -> None:
    both = BUCKET | {ip_address("2001:db8::9")}
    daemon = Daemon(990, "x", BOTH, covers_origin=True)
    assert decided(scheme="https", port=443, daemon=daemon, addresses=both).mirror_ports == {4: 4651, 6: 4652}
    assert decided(scheme="http", port=80, daemon=daemon, addresses=both).mirror_ports == {4: 4650, 6: 4653}


def test_https_is_taken_over_only_with_a_certificate_of_the_name() -> None:
    with pytest.raises(TakeoverError, match="does not have the name bucket") as caught:
        decided(scheme="https", port=443, daemon=Daemon(990, "x", BOTH))
    assert "tls_cert" in caught.value.advice
    decided(daemon=Daemon(990, "x", BOTH))  # http needs none


def standing(
    *addresses: str, port: int = 9000, mirror_port: int = 4650, match: str = "system.slice/nomad.service"
) -> Standing:
    return Standing(addresses, port, mirror_port, match, 0)


@pytest.mark.parametrize(
    ("rules", "wrong"),
    [
        ([standing("192.0.2.9", "192.0.2.10")], []),
        ([standing("192.0.2.9")], ["192.0.2.10 now, which is not redirected"]),
        ([standing("192.0.2.9", "192.0.2.10", "192.0.2.11")], ["192.0.2.11 is redirected, and is not the origin's"]),
        ([standing("192.0.2.9", "192.0.2.10", port=9001)], ["port 9001 is redirected, and the origin's is 9000"]),
        ([standing("192.0.2.9", "192.0.2.10", mirror_port=1)], ["leads to port 1, and the mirror listens at 4650"]),
        ([standing("192.0.2.9", "192.0.2.10", match="user:root")], ["it is for user:root"]),
        ([], ["192.0.2.10 now, which is", "192.0.2.9 now, which is"]),
    ],
)
def test_what_stands_is_held_against_what_should(rules: list[Standing], wrong: list[str]) -> None:
    told = list(differences(rules, decided()))
    assert len(told) == len(wrong)
    assert all(words in said for words, said in zip(wrong, told, strict=True)), told


@pytest.mark.parametrize("cgroup", ["system.slice/nomad.service", "system.slice/nomad.service/waystation"])
def test_a_daemon_inside_the_matched_cgroup_would_be_sent_to_itself(cgroup: str) -> None:
    with pytest.raises(TakeoverError, match="sent to itself"):
        decided(daemon=Daemon(990, cgroup, DAEMON.listen))


def test_a_cgroup_whose_name_only_begins_alike_is_another() -> None:
    decided(daemon=Daemon(990, "system.slice/nomad.service-2", DAEMON.listen))


def test_a_daemon_of_the_matched_user_would_be_sent_to_itself() -> None:
    with pytest.raises(TakeoverError, match="sent to itself"):
        decided(match=Match(user="waystation"), user=990)
    decided(match=Match(user="nomad"), user=991)


def test_an_origin_that_is_the_mirror_is_a_circle_and_one_beside_it_is_not() -> None:
    here = frozenset({ip_address("127.0.0.1")})
    with pytest.raises(TakeoverError, match="circle"):
        decided(addresses=here, own=here, port=4650)
    decided(addresses=here, own=here, port=9000)


@pytest.mark.parametrize(
    "listing",
    [
        {},
        {"nftables": [{"rule": {"expr": [{"accept": None}]}}]},
        {"nftables": [{"rule": {"expr": [{"match": {"op": "==", "left": {"meta": {"key": "mark"}}, "right": 1}}]}}]},
    ],
)
def test_rules_of_others_in_our_table_are_noticed(listing: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not"):
        parse_listing(listing)
