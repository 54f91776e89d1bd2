"""The list of targets that a hub gives: whole, in order, a page at a time, and made once for all who ask."""

from __future__ import annotations

import asyncio
import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from asked import AskedOrigin
from mirrors import World, running_mirror
from waystation.errors import MalformedRequest, Unreachable
from waystation.mirror import targets
from waystation.mirror.targets import KEPT_PAGES, Asked, TargetPages, parse_query
from waystation.model import TargetPath
from waystation.origin.hub_pages import PAGE_TARGETS

if TYPE_CHECKING:
    from pathlib import Path

PATH = "/api/v1/targets"


async def page(world: World, prefix: str = "", after: str = "") -> dict[str, Any]:
    answer = await world.ask(f"{PATH}?prefix={quote(prefix)}&after={quote(after)}")
    assert (answer.code, answer.headers["content-type"]) == (200, "application/json")
    told: dict[str, Any] = json.loads(answer.body)
    return told


def names(told: dict[str, Any]) -> list[str]:
    return [entry["target"] for entry in told["targets"]]


def counting(world: World) -> AskedOrigin:
    """Count what this hub's catalog asks its origin."""
    resilient = world.parts.origin
    counted = AskedOrigin(resilient._way.inner)
    resilient._way.inner = counted
    return counted


async def test_each_target_is_listed_with_size_and_date_and_a_known_one_with_its_digest(tmp_path: Path) -> None:
    async with running_mirror(tmp_path) as world:
        digest = world.put("app/app-1-x86_64", b"one", pieces=True)
        world.put("app/app-2-x86_64", b"three")
        world.put("other/x", b"bare", checksum=False)
        assert (await world.ask("/artifacts/app/app-1-x86_64")).code == 200
        told = await page(world)
        one, two, bare = told["targets"]
        known = world.parts.catalog.standing(TargetPath("app/app-1-x86_64"))
    assert known
    assert told["next"] is None
    assert one == {
        "target": "app/app-1-x86_64",
        "sha256": digest,
        "size_bytes": 3,
        "modified": known.modified.isoformat(),
    }
    assert (two["target"], two["sha256"], two["size_bytes"]) == ("app/app-2-x86_64", None, 5)
    assert (bare["target"], bare["sha256"]) == ("other/x", None)


async def test_a_target_with_another_revision_than_was_known_has_no_digest_until_somebody_asks(tmp_path: Path) -> None:
    async with running_mirror(tmp_path) as world:
        world.put("app/a", b"one")
        await world.ask("/artifacts/app/a")
        world.put("app/a", b"other")
        assert [entry["sha256"] for entry in (await page(world))["targets"]] == [None]


async def test_thousands_are_listed_page_by_page_in_order_while_others_are_served(tmp_path: Path) -> None:
    async with running_mirror(tmp_path) as world:
        expected = sorted([f"app/app-{number}-x86_64" for number in range(1100)] + ["app+b", "app-é", "z/日本"])
        for name in expected:
            (world.root / name).parent.mkdir(exist_ok=True)
            (world.root / name).touch()
            (world.root / f"{name}.sha256").write_text(f"{sha256(b'').hexdigest()}\n")
        found, sizes, after = [], [], ""

        async def list_all() -> None:
            nonlocal after
            while True:
                told = await page(world, after=after)
                found.extend(names(told))
                sizes.append(len(names(told)))
                if told["next"] is None:
                    return
                after = told["next"]

        listing, served = asyncio.create_task(list_all()), 0
        while not listing.done():
            async with asyncio.timeout(5):
                assert (await world.ask("/healthz")).code == 200
            served += 1
        await listing
    assert found == expected
    assert sizes == [PAGE_TARGETS] * 4 + [103]
    assert served > 4


async def test_prefix_and_after_narrow_it(tmp_path: Path) -> None:
    async with running_mirror(tmp_path) as world:
        for name in ("app/a", "app/b", "app/c+1", "apple", "b"):
            world.put(name, b"x")
        assert names(await page(world, "app/")) == ["app/a", "app/b", "app/c+1"]
        assert names(await page(world, "app")) == ["app/a", "app/b", "app/c+1", "apple"]
        assert names(await page(world, "app/", "app/a")) == ["app/b", "app/c+1"]
        assert names(await page(world, "app/c+")) == ["app/c+1"]
        assert names(await page(world, "", "b")) == []
        assert names(json.loads((await world.ask(PATH)).body)) == ["app/a", "app/b", "app/c+1", "apple", "b"]
        head = await world.ask(PATH, method="HEAD")
        assert (head.code, head.body) == (200, b"")


@pytest.mark.parametrize(
    "query",
    [
        "limit=5",
        "prefix",
        "prefix=a&prefix=b",
        "prefix=%",
        "prefix=%zz",
        "prefix=%ff",
        "after=%00",
        "after=a%5cb",
        "after=a%0a",
        f"prefix={'x' * 1025}",
        "&",
        "terraform-get=1",
    ],
)
async def test_any_other_question_is_a_400(tmp_path: Path, query: str) -> None:
    async with running_mirror(tmp_path) as world:
        answer = await world.ask(f"{PATH}?{query}")
        assert answer.code == 400
        assert (await world.ask(f"{PATH}/more")).code == 404
        assert (await world.ask(PATH, method="POST")).code == 405


def test_a_query_is_decoded_once_and_a_plus_is_a_plus() -> None:
    assert parse_query("prefix=a+b%20%2525&after=%C3%A9") == Asked("a+b %25", "é")
    assert parse_query("") == parse_query("prefix=&after=") == Asked()
    with pytest.raises(MalformedRequest):
        parse_query("prefix=a&b=c")


async def test_however_many_ask_the_origin_is_listed_once_within_a_refresh(tmp_path: Path) -> None:
    async with running_mirror(tmp_path, refresh_s=3600) as world:
        world.put("app/a", b"x")
        origin = counting(world)
        origin.hush()
        asking = [asyncio.create_task(page(world)) for _ in range(20)]
        await origin.silent.wait()
        asking[0].cancel()  # its leaving takes nothing from the others
        origin.speak()
        told = await asyncio.gather(*asking[1:])
        assert all(names(each) == ["app/a"] for each in told)
        world.put("app/b", b"x")
        assert names(await page(world)) == ["app/a"]
        assert names(await page(world, "app/")) == ["app/a", "app/b"]
    assert origin.asked == {"list ": 1, "list app/": 1}


async def test_a_list_that_could_not_be_made_is_a_503_and_is_made_anew(tmp_path: Path) -> None:
    async with running_mirror(tmp_path, refresh_s=3600) as world:
        world.put("app/a", b"x")
        origin = counting(world)
        origin.fault = Unreachable("it is away", retry_after_s=7)
        refused = await world.ask(PATH)
        assert (refused.code, refused.headers["waystation-reason"]) == (503, "origin_unreachable")
        assert refused.headers["retry-after"]
        origin.fault = None
        world.parts.origin._health._breaker.answered()
        assert names(await page(world)) == ["app/a"]


async def test_of_pages_that_nobody_asks_for_any_more_few_are_kept(tmp_path: Path) -> None:
    async with running_mirror(tmp_path, refresh_s=3600) as world:
        pages = TargetPages(world.parts.catalog, refresh_s=3600)
        for number in range(KEPT_PAGES + 20):
            await pages.page(f"prefix={number}")
        assert len(pages._listings) == KEPT_PAGES
        assert Asked(prefix="0") not in pages._listings
        await pages.close()


async def test_more_pages_than_can_be_made_at_once_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "MOST_AT_ONCE", 2)
    async with running_mirror(tmp_path, refresh_s=3600) as world:
        world.put("app/a", b"x")
        assert names(await page(world, prefix="app/"))
        origin = counting(world)
        origin.hush()
        waiting = [asyncio.create_task(page(world, prefix=f"{number}")) for number in range(2)]
        async with asyncio.timeout(10):
            while origin.asked["list 0"] + origin.asked["list 1"] < 2:
                await origin.silent.wait()
                await asyncio.sleep(0)
        refused = await world.ask(f"{PATH}?prefix=other")
        assert (refused.code, refused.headers["waystation-reason"]) == (503, "too_many_questions")
        assert refused.headers["retry-after"]
        assert names(await page(world, prefix="app/"))  # made already
        origin.speak()
        await asyncio.gather(*waiting)
        await page(world, prefix="other")
