"""Which of the published targets a machine wants."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from waystation.config import PrefetchSettings
from waystation.model import Priority, TargetPath
from waystation.prefetch.subscriptions import Subscriptions
from waystation.wants import Want

if TYPE_CHECKING:
    from collections.abc import Iterable

APP = [f"app/app-{version}-{arch}" for version in ("0.9.0", "0.10.0", "0.2.0") for arch in ("x86_64", "aarch64")]


def subscriptions(*pairs: tuple[str, int], arch: str = "x86_64") -> Subscriptions:
    return Subscriptions([PrefetchSettings(match=match, newest=newest) for match, newest in pairs], arch=arch)


def chosen(
    of: Subscriptions, names: Iterable[str], *, here: Iterable[str] | None = None, crowded_out: Iterable[str] = ()
) -> list[str]:
    """Choose, where nothing else is said on a machine that has all of them already."""
    published = [TargetPath(name) for name in names]
    is_here, lacks_room = published if here is None else list(here), list(crowded_out)
    wants = of.rank(published).choose(is_here.__contains__, lacks_room.__contains__)
    assert all(want == Want(want.target, Priority.PREFETCH, hold=True) for want in wants)
    return sorted(want.target for want in wants)


def test_the_newest_versions_are_chosen_by_version_and_for_this_machine_alone() -> None:
    assert chosen(subscriptions(("app/*", 2)), APP) == ["app/app-0.10.0-x86_64", "app/app-0.9.0-x86_64"]
    assert chosen(subscriptions(("app/*", 1), arch="aarch64"), APP) == ["app/app-0.10.0-aarch64"]


def test_each_app_has_its_own_newest_versions() -> None:
    names = [*APP, "web/web-1.0-x86_64", "web/worker-3.0-x86_64", "web/web-2.0-x86_64"]
    assert chosen(subscriptions(("*", 1)), names) == [
        "app/app-0.10.0-x86_64",
        "web/web-2.0-x86_64",
        "web/worker-3.0-x86_64",
    ]


def test_the_newest_are_those_among_what_matches_and_subscriptions_add_up() -> None:
    both = subscriptions(("app/app-0.[29].0-*", 1), ("app/*", 1))
    assert chosen(both, APP) == ["app/app-0.10.0-x86_64", "app/app-0.9.0-x86_64"]


def test_a_machine_s_other_spelling_counts_and_one_version_is_wanted_once() -> None:
    names = ["app/app-1.0-amd64", "app/app-1.0-x86_64", "app/app-0.9-amd64"]
    assert chosen(subscriptions(("app/*", 2)), names) == ["app/app-0.9-amd64", "app/app-1.0-x86_64"]


def test_what_has_no_version_in_its_name_is_not_chosen() -> None:
    assert chosen(subscriptions(("*", 3)), ["app/app-latest-x86_64", "tool.tar.gz", "app/app-1.0"]) == []


@pytest.mark.parametrize(
    ("here", "expected"),
    [
        pytest.param(["3", "2", "1"], ["3", "2"], id="the newest are here: the others are let go"),
        pytest.param(["2", "1"], ["3", "2", "1"], id="one has still to come: as many as before are held"),
        pytest.param(["1", "0"], ["3", "2", "1", "0"], id="both have still to come"),
        pytest.param(["0"], ["3", "2", "0"], id="what is here stands in, however old"),
        pytest.param([], ["3", "2"], id="nothing is here: nothing can be held"),
    ],
)
def test_until_the_newest_have_come_the_newest_that_are_here_are_held(here: list[str], expected: list[str]) -> None:
    def names(versions: list[str]) -> list[str]:
        return [f"app/app-{version}-x86_64" for version in versions]

    got = chosen(subscriptions(("app/*", 2)), names(["0", "1", "2", "3"]), here=names(here))
    assert got == sorted(names(expected))


def test_what_lacks_nothing_but_room_gets_that_of_the_older_one_and_no_more() -> None:
    names = [f"app/app-{version}-x86_64" for version in ("1", "2", "3", "4")]
    here, newest = names[:2], names[3:]
    assert chosen(subscriptions(("app/*", 1)), names, here=here, crowded_out=newest) == newest
    two = subscriptions(("app/*", 2))
    assert chosen(two, names, here=here, crowded_out=newest) == names[1:], "the other one has yet to come"


def test_the_newest_of_each_app_comes_first_and_then_the_one_before() -> None:
    names = [f"{app}/{app}-{version}-x86_64" for app in ("a", "b") for version in ("9", "10", "11")]
    wants = subscriptions(("*", 3)).rank([TargetPath(name) for name in names]).choose(lambda _: True, lambda _: False)
    assert [want.target.split("-")[1] for want in wants] == ["11", "11", "10", "10", "9", "9"]


def test_what_is_ranked_again_is_read_anew_only_where_it_is_new() -> None:
    of = subscriptions(("app/*", 1))
    assert chosen(of, APP) == ["app/app-0.10.0-x86_64"]
    assert chosen(of, [*APP, "app/app-0.11.0-x86_64"]) == ["app/app-0.11.0-x86_64"]
    assert chosen(of, APP) == ["app/app-0.10.0-x86_64"]


def test_one_listing_serves_all_that_begin_alike() -> None:
    several = subscriptions(("app/*", 1), ("app/app-2*", 1), ("web/web-*", 1), ("web/*", 2))
    assert several.prefixes == ("app/", "web/")
    assert subscriptions(("app/*", 1), ("*", 1)).prefixes == ("",)


def test_a_target_is_one_of_theirs_or_not() -> None:
    several = subscriptions(("app/*", 1), ("web/web-2*", 1))
    assert several.match(TargetPath("app/app-1-x86_64"))
    assert not several.match(TargetPath("web/web-1-x86_64"))
