"""Which version is newer, and which version a target's name says."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from waystation.model import TargetPath
from waystation.prefetch.versions import parse_bundle, version_order

NUMBERS = st.integers(0, 12)


@st.composite
def pep440_versions(draw: st.DrawFn) -> str:
    parts = [
        draw(st.sampled_from(["", "v", "1!"])),
        ".".join(str(number) for number in draw(st.lists(NUMBERS, min_size=1, max_size=4))),
        draw(st.sampled_from(["", "a1", "a2", "-alpha.3", "b1", "rc1", "-rc.2", "c3"])),
        draw(st.sampled_from(["", ".post1", "-2"])),
        draw(st.sampled_from(["", ".dev1", ".dev2"])),
        draw(st.sampled_from(["", "+1", "+a", "+1.a", "+10", "+abc.5"])),
    ]
    return "".join(parts)


@given(pep440_versions(), pep440_versions())
def test_versions_that_pep_440_knows_are_in_its_order(one: str, other: str) -> None:
    ours, theirs = (version_order(one), version_order(other)), (Version(one), Version(other))
    assert ours[0] is not None
    assert ours[1] is not None
    assert (ours[0] < ours[1], ours[0] == ours[1]) == (theirs[0] < theirs[1], theirs[0] == theirs[1])


def test_the_order_is_by_version_and_not_by_name() -> None:
    in_order = [
        "0.1.0.dev1",
        "0.1.0-alpha.1",
        "0.1.0-alpha.beta",  # Semantic Versioning's own example, which PEP 440 can't read
        "0.1.0-beta.2",
        "0.1.0-beta.11",
        "0.1.0-rc.1",
        "0.1.0",
        "0.2.0",
        "0.10.0",
        "1.0.0-snapshot.20260101",
        "1.0.0",
        "9.9.9",
        "10.0",
        "2026.11.25",
    ]
    shuffled = random.Random(3).sample(in_order, len(in_order))
    assert sorted(shuffled, key=lambda text: version_order(text) or ()) == in_order


@pytest.mark.parametrize(("one", "other"), [("1.0", "1.0.0"), ("1.0.0-rc.1", "1.0.0rc1"), ("v2.1", "2.1")])
def test_two_spellings_are_one_version(one: str, other: str) -> None:
    assert version_order(one) == version_order(other)


@pytest.mark.parametrize("text", ["", "latest", "1.0.0-", "1..0", "x86_64", "1.0.0-a..b", "main-2"])
def test_what_is_no_version_has_no_place(text: str) -> None:
    assert version_order(text) is None


@pytest.mark.parametrize(
    ("target", "app", "version", "arch"),
    [
        ("app/app-0.1.0-x86_64", "app/app", "0.1.0", "x86_64"),
        ("app/app-0.1.0-amd64", "app/app", "0.1.0", "x86_64"),
        ("app/app-0.1.0-arm64", "app/app", "0.1.0", "aarch64"),
        ("app/app-1.0.0-rc.1-x86_64", "app/app", "1.0.0-rc.1", "x86_64"),
        ("my-app-2/my-app-2-1.0-x86_64", "my-app-2/my-app-2", "1.0", "x86_64"),
        ("web/front-end-2.1-x86_64", "web/front-end", "2.1", "x86_64"),
        ("app-0.1.0-x86_64", "/app", "0.1.0", "x86_64"),
        ("a/b/tool-1.2-x86_64", "a/b/tool", "1.2", "x86_64"),
    ],
)
def test_a_bundle_s_name_says_app_version_and_arch(target: str, app: str, version: str, arch: str) -> None:
    bundle = parse_bundle(TargetPath(target))
    assert bundle is not None
    assert (bundle.app, bundle.version, bundle.arch) == (app, version_order(version), arch)


@pytest.mark.parametrize("target", ["app/app-x86_64", "app/app-0.1.0", "app/app", "a/b/c.tar.gz", "app/-1.0-x86_64"])
def test_a_name_of_another_form_says_nothing(target: str) -> None:
    assert parse_bundle(TargetPath(target)) is None
