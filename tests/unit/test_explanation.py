"""What a client gets now, decided from what is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from waystation.explain.explanation import Answer, Here, Trouble, Vouched, decide
from waystation.mirror.replies import status_code
from waystation.status import BlobStatus, FlightStatus, MemoryStatus, OriginStatus, Refusal, RoomStatus

CATALOG = Vouched("1" * 64, 100, 4, ".pieces", known_since=1.0, fresh_for_s=None, not_refreshed=None)
BLOB = BlobStatus("1" * 64, 100, 0, used=1.0, verified=1.0, pinned_by=(), leases=0, suspect=False)
FLIGHT = FlightStatus("app/a", "1" * 64, "fetching", 100, 50, 1, 1.0)
FULL, EMPTY = RoomStatus(100, 0, 7), RoomStatus(100, 0, 0)
FREE, TAKEN = MemoryStatus(8, 0, 10), MemoryStatus(8, 3, 10)
HERE = Here(blob=None, partial=False, flight=None, pinned_by=(), room=EMPTY, memory=FREE, refusals=())
UP = OriginStatus("s3://artifacts", up=True, circuit="closed", retry_after_s=None, last_error=None)
DOWN = replace(UP, up=False, circuit="open", last_error="connection refused")
REJECTED = Refusal(1.0, "app/a", 502, "digest_mismatch", "other bytes", "Restore the object.")
CLIENTS_OWN = Refusal(1.0, "app/a", 412, "precondition_failed", "", "")


def decided(**known: Any) -> Answer:
    return decide(**({"refusal": None, "catalog": CATALOG, "here": HERE, "origin": UP, "meaning": status_code} | known))


def test_a_refusal_of_the_catalog_ends_the_way_whatever_is_stored() -> None:
    refusal = Trouble(502, "changed", "it was another", "Forget it.")
    answer = decided(refusal=refusal, catalog=None, here=replace(HERE, blob=BLOB))
    assert (answer.code, answer.reason, answer.advice) == (502, "changed", "Forget it.")


@pytest.mark.parametrize("origin", [UP, DOWN])
@pytest.mark.parametrize(
    ("here", "cache", "certain"),
    [
        (replace(HERE, blob=BLOB), "hit", True),
        (replace(HERE, blob=BLOB, flight=FLIGHT, room=FULL, refusals=(REJECTED,)), "hit", True),
        (replace(HERE, flight=FLIGHT, room=FULL), "joined", True),
        (replace(HERE, blob=replace(BLOB, suspect=True), room=FULL), "miss", False),
    ],
    ids=["stored", "stored, though an earlier fetch failed", "arriving", "suspect"],
)
def test_what_is_here_is_served_without_asking_for_more(
    here: Here, cache: str, certain: bool, origin: OriginStatus
) -> None:
    answer = decided(here=here, origin=origin)
    assert (answer.code, answer.cache, answer.certain) == (200, cache, certain)


@pytest.mark.parametrize(
    ("known", "code", "reason", "certain"),
    [
        ({"origin": DOWN}, 503, "origin_unreachable", True),
        ({"origin": DOWN, "here": None}, 503, "origin_unreachable", True),
        (
            {"origin": replace(DOWN, circuit="closed"), "catalog": replace(CATALOG, fresh_for_s=9.0)},
            503,
            "origin_unreachable",
            False,
        ),
        (
            {"catalog": replace(CATALOG, not_refreshed=Trouble(503, "origin_denied", "403", "Check the policy."))},
            503,
            "origin_denied",
            True,
        ),
        ({"here": replace(HERE, room=FULL, memory=None)}, 507, "no_room", True),
        ({"here": replace(HERE, room=FULL, memory=TAKEN)}, 507, "no_room", True),
        ({"here": replace(HERE, refusals=(REJECTED,))}, 502, "digest_mismatch", False),
        ({"here": replace(HERE, refusals=(CLIENTS_OWN, REJECTED))}, 200, "ok", True),
        ({"here": None}, 200, "ok", True),
        ({"catalog": None}, 200, "ok", True),
    ],
)
def test_what_must_be_fetched_needs_an_origin_and_room(
    known: dict[str, Any], code: int, reason: str, certain: bool
) -> None:
    answer = decided(**known)
    assert (answer.code, answer.reason, answer.certain) == (code, reason, certain)


def test_what_has_pieces_and_no_room_is_passed_through() -> None:
    answer = decided(here=replace(HERE, room=FULL))
    assert (answer.code, answer.cache, answer.certain) == (200, "passed", False)
    assert "max_size" in answer.advice
