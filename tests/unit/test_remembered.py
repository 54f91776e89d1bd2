"""What is remembered of a name: the first digest seen stays, whatever the origin says later."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waystation.catalog.remembered import Claim, Remembered, from_record, remember, to_record
from waystation.catalog.vouching import VouchedBy, Voucher
from waystation.errors import BadTarget
from waystation.model import Artifact, Digest, TargetPath
from waystation.origin.interface import ObjectInfo
from waystation.pieces import PieceTree

TARGET = TargetPath("app/app-0.1.0-x86_64")
ONE, OTHER = Digest("1" * 64), Digest("2" * 64)
TREE = PieceTree(b"r" * 32, 1024 * 1024)
MODIFIED = datetime(2026, 11, 24, tzinfo=UTC)


def found(etag: str, size_bytes: int = 5) -> ObjectInfo:
    return ObjectInfo(TARGET, size_bytes, etag, MODIFIED, None, None)


def first_sight() -> Remembered:
    return remember(None, TARGET, found("a"), Voucher(ONE, None, VouchedBy.PIECES), now=100.0)


def test_the_first_digest_seen_is_remembered_with_its_revision() -> None:
    artifact = Artifact(TARGET, ONE, 5, MODIFIED, TARGET, "a", None)
    assert first_sight() == Remembered(artifact, seen=100.0, vouched_by=VouchedBy.PIECES)


def test_the_same_digest_in_a_new_revision_goes_on_with_that_revision() -> None:
    again = remember(first_sight(), TARGET, found("b", 6), Voucher(ONE, TREE, VouchedBy.READING), now=200.0)
    artifact = Artifact(TARGET, ONE, 6, MODIFIED, TARGET, "b", TREE)
    assert again == Remembered(artifact, seen=100.0, vouched_by=VouchedBy.READING)
    assert again.pinned


def test_another_digest_leaves_what_was_known_and_marks_it_changed() -> None:
    changed = remember(first_sight(), TARGET, found("b"), Voucher(OTHER, TREE, VouchedBy.PIECES), now=200.0)
    assert changed == replace(first_sight(), changed_to=Claim(OTHER, "b"))


def test_a_change_that_is_taken_back_is_no_change_any_more() -> None:
    changed = remember(first_sight(), TARGET, found("b"), Voucher(OTHER, None, VouchedBy.PIECES), now=200.0)
    restored = remember(changed, TARGET, found("c"), Voucher(ONE, None, VouchedBy.PIECES), now=300.0)
    assert restored.changed_to is None
    assert restored.artifact.etag == "c"


@pytest.mark.parametrize("digest", [ONE, OTHER])
def test_a_target_that_is_back_is_not_withdrawn(digest: Digest) -> None:
    withdrawn = replace(first_sight(), withdrawn=True)
    assert not remember(withdrawn, TARGET, found("b"), Voucher(digest, None, VouchedBy.PIECES), now=200.0).withdrawn


digests = st.binary(min_size=32, max_size=32).map(lambda raw: Digest(raw.hex()))
trees = st.builds(PieceTree, st.binary(min_size=32, max_size=32), st.integers(14, 30).map(lambda exponent: 2**exponent))
artifacts = st.builds(
    Artifact,
    target=st.sampled_from([TARGET, TargetPath("ünï/a b.tar.gz")]),
    digest=digests,
    size_bytes=st.integers(0, 2**50),
    modified=st.datetimes(timezones=st.just(UTC)),
    key=st.text(min_size=1, max_size=20),
    etag=st.none() | st.text(max_size=20),
    pieces=st.none() | trees,
)
remembered = st.builds(
    Remembered,
    artifact=artifacts,
    seen=st.floats(0, 2e9),
    vouched_by=st.sampled_from(VouchedBy),
    withdrawn=st.booleans(),
    changed_to=st.none() | st.builds(Claim, digests, st.text(max_size=20)),
)


@given(remembered)
def test_what_is_written_as_one_line_is_read_again(one: Remembered) -> None:
    line = to_record(one)
    assert "\n" not in line
    assert from_record(json.loads(line)) == one


@pytest.mark.parametrize(
    "damage",
    [
        {"target": "../etc/passwd"},
        {"target": 7},
        {"digest": "1" * 63},
        {"size_bytes": -1},
        {"size_bytes": True},
        {"modified": "yesterday"},
        {"modified": "2026-11-24T00:00:00"},
        {"key": None},
        {"etag": 7},
        {"pieces": {"root": "00", "piece_length": 16384}},
        {"seen": "now"},
        {"vouched_by": "hearsay"},
        {"changed_to": {"digest": "x", "etag": "y"}},
    ],
)
def test_a_damaged_record_is_refused(damage: dict[str, Any]) -> None:
    record = json.loads(to_record(first_sight())) | damage
    with pytest.raises((BadTarget, ValueError, TypeError, AttributeError)):
        from_record(record)


def test_a_record_that_lacks_something_is_refused() -> None:
    complete = json.loads(to_record(first_sight()))
    for name in complete:
        with pytest.raises(KeyError):
            from_record({key: value for key, value in complete.items() if key != name})
