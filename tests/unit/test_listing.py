"""Which keys of a bucket are listed as targets."""

from __future__ import annotations

from datetime import UTC, datetime
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waystation.catalog.listing import Listed, Listing, literal_prefix
from waystation.model import TargetPath
from waystation.origin.interface import ObjectInfo

MODIFIED = datetime(2026, 1, 2, tzinfo=UTC)


def seen(key: str, etag: str = "") -> ObjectInfo:
    return ObjectInfo(key, 7, etag, MODIFIED, sha256=None, served_at=None)


def listed(*keys: str) -> list[str]:
    listing = Listing()
    ordered = sorted(keys, key=str.encode)
    found = [*(target for key in ordered for target in listing.take(seen(key))), *listing.finish()]
    return [each.target for each in found]


def test_what_describes_a_target_is_not_listed_beside_it() -> None:
    assert listed("app/a", "app/a.pieces", "app/a.sha256", "app/a.provenance.json") == ["app/a"]


def test_a_target_that_is_not_announced_yet_is_not_listed() -> None:
    assert listed("app/a", "app/a.pieces", "app/b", "app/b.pieces", "app/b.sha256") == ["app/b"]


def test_an_object_of_which_nothing_is_said_beside_it_is_listed() -> None:
    assert listed("app/a", "app-0.1.0", "a/b/c.tar.gz") == ["a/b/c.tar.gz", "app-0.1.0", "app/a"]


def test_metadata_folders_and_names_that_cannot_be_asked_for_are_not_listed() -> None:
    assert listed("metadata/1.root.json", "targets/a", "folder/", "a//b", "a/../b", "a\\b", "x\n", "app/a") == ["app/a"]


def test_names_between_a_target_and_its_checksum_keep_their_order() -> None:
    keys = ["app/a", "app/a+b", "app/a-1", "app/a-1.sha256", "app/a.pieces", "app/a.sha256", "app/ab"]
    assert listed(*keys) == ["app/a", "app/a+b", "app/a-1", "app/ab"]


def test_a_target_is_given_as_soon_as_its_checksum_has_gone_by() -> None:
    listing = Listing()
    assert list(listing.take(seen("app/a", '"1"'))) == []
    assert list(listing.take(seen("app/a.pieces", '"2"'))) == []
    assert list(listing.take(seen("app/a.sha256", '"3"'))) == [
        Listed(TargetPath("app/a"), '"1"', 7, MODIFIED, has_pieces=True, announced=True)
    ]
    assert list(listing.take(seen("app/b", '"4"'))) == []
    assert list(listing.take(seen("app/d", '"5"'))) == [Listed(TargetPath("app/b"), '"4"', 7, MODIFIED)]


stems = st.text("ab-.é\U0001f680", min_size=1, max_size=4).filter(lambda stem: stem not in (".", ".."))
keys = st.sets(st.builds(lambda stem, suffix: stem + suffix, stems, st.sampled_from(["", "", ".pieces", ".sha256"])))


@given(keys)
def test_the_listing_is_what_looking_at_all_keys_at_once_would_give(keys: set[str]) -> None:
    def is_target(key: str) -> bool:
        published = f"{key}.sha256" in keys or f"{key}.pieces" not in keys
        return published and not key.endswith((".pieces", ".sha256"))

    assert listed(*keys) == sorted(filter(is_target, keys), key=str.encode)


@pytest.mark.parametrize(
    ("pattern", "prefix"),
    [
        ("*", ""),
        ("", ""),
        ("app/*", "app/"),
        ("app/app-0.1.?", "app/app-0.1."),
        ("app/[ab]", "app/"),
        ("app/a", "app/a"),
    ],
)
def test_only_keys_that_begin_as_the_pattern_does_are_asked_for(pattern: str, prefix: str) -> None:
    assert literal_prefix(pattern) == prefix


@given(st.text("ab*?[]!/", max_size=6), st.text("ab[]!/", max_size=6))
def test_whatever_matches_a_pattern_begins_with_its_prefix(pattern: str, name: str) -> None:
    if fnmatchcase(name, pattern):
        assert name.startswith(literal_prefix(pattern))
