"""The way of a request through hubs."""

from __future__ import annotations

import asyncio

import pytest

from waystation.errors import OriginLoop
from waystation.origin.hops import MOST_HOPS, Hops


def test_a_daemon_s_mark_stands_behind_the_way_that_a_request_came() -> None:
    hops = Hops("b")
    hops.arrive("1.1 proxy.example, 1.1 waystation-a")
    assert hops.onward() == {"Via": "1.1 waystation-a, 1.1 waystation-b"}
    hops.arrive("")
    assert hops.onward() == {"Via": "1.1 waystation-b"}


def test_a_request_that_was_here_before_is_refused() -> None:
    with pytest.raises(OriginLoop, match="has passed already"):
        Hops("b").arrive("1.1 waystation-b, 1.1 waystation-a")


def test_a_way_has_an_end() -> None:
    passed = ", ".join(f"1.1 waystation-{number}" for number in range(MOST_HOPS))
    with pytest.raises(OriginLoop, match="passed 8 daemons"):
        Hops("b").arrive(passed)
    Hops("b").arrive(passed.rpartition(",")[0])


async def test_what_is_begun_for_one_request_keeps_its_way_while_others_arrive() -> None:
    hops, go = Hops("b"), asyncio.Event()

    async def answer(via: str) -> str:
        hops.arrive(via)

        async def ask() -> str:
            await go.wait()
            return hops.onward()["Via"]

        return await asyncio.create_task(ask())

    one, other = asyncio.create_task(answer("1.1 waystation-x")), asyncio.create_task(answer("1.1 waystation-y"))
    await asyncio.sleep(0)
    go.set()
    assert await one == "1.1 waystation-x, 1.1 waystation-b"
    assert await other == "1.1 waystation-y, 1.1 waystation-b"


def test_two_daemons_have_two_marks() -> None:
    assert Hops().onward() != Hops().onward()
