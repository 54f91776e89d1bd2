"""Which connections were redirected and still run, from what the kernel lists."""

from __future__ import annotations

import pytest

from waystation.takeover.connections import count_redirected
from waystation.takeover.ruleset import Standing, parse_listing

RULE = Standing(("10.99.0.1",), 9000, 4650, "system.slice/nomad.service", 1)
HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
CLIENT, MIRROR, BUCKET = "0100630A:A436", "0100007F:122A", "0100630A:2328"


def table(*rows: tuple[str, str, str]) -> str:
    lines = (f"   0: {local} {remote} {state} 00000000:00000000 00:00000000" for local, remote, state in rows)
    return HEAD + "\n".join(lines)


def test_a_connection_counts_while_both_of_its_ends_are_there() -> None:
    assert count_redirected([table((CLIENT, BUCKET, "01"), (MIRROR, CLIENT, "01"))], [RULE]) == 1


@pytest.mark.parametrize(
    "rows",
    [
        [(CLIENT, BUCKET, "01")],  # straight to the bucket, as the daemon's own
        [("0100007F:A436", MIRROR, "01"), (MIRROR, "0100007F:A436", "01")],  # by the mirror's own address
        [(CLIENT, BUCKET, "01"), (MIRROR, CLIENT, "06")],
        [(MIRROR, "00000000:0000", "0A")],
    ],
)
def test_others_do_not_count(rows: list[tuple[str, str, str]]) -> None:
    assert count_redirected([table(*rows)], [RULE]) == 0


def test_a_client_with_a_socket_for_both_families_counts() -> None:
    mapped = "0000000000000000FFFF0000"
    assert (
        count_redirected([table((MIRROR, CLIENT, "01")), table((mapped + CLIENT, mapped + BUCKET, "01"))], [RULE]) == 1
    )


def test_a_table_that_is_released_leads_nobody_away() -> None:
    state = {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "established"}}
    assert parse_listing({"nftables": [{"rule": {"expr": [state, {"accept": None}]}}]}) == []
