"""The store's verbs on the admin socket, over a real store that a real mirror fills."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from admins import running_admin
from waystation.admin.verbs import to_json
from waystation.errors import CallRefused
from waystation.model import Digest, TargetPath

if TYPE_CHECKING:
    from pathlib import Path

    from mirrors import World

NAME = "app/app-1-x86_64"
OTHER = "tool/tool-1-x86_64"


async def fetched(world: World, name: str, data: bytes, *, pieces: bool = False) -> Digest:
    """Publish and fetch, so that it is stored."""
    digest = world.put(name, data, pieces=pieces)
    assert (await world.ask(f"/artifacts/{name}")).body == data
    await world.until_stored(digest)
    return Digest(digest)


async def test_the_list_says_of_each_blob_whose_it_is_and_how_it_stands(tmp_path: Path) -> None:
    async with running_admin(tmp_path) as (admin, world):
        one = await fetched(world, NAME, b"one" * 9)
        two = await fetched(world, OTHER, b"two" * 7)
        await world.parts.store.pin("subscriptions", frozenset({one}))
        blobs = {blob["sha256"]: blob for blob in await admin.blobs()}
    assert blobs.keys() == {one, two}
    assert (blobs[one]["targets"], blobs[one]["size_bytes"], blobs[one]["pinned_by"]) == ([NAME], 27, ["subscriptions"])
    assert (blobs[two]["targets"], blobs[two]["state"], blobs[two]["pinned_by"]) == ([OTHER], "stored", [])
    assert 0 < blobs[one]["verified"] <= blobs[one]["used"]


async def test_a_pin_of_what_is_not_here_is_listed_as_absent(tmp_path: Path) -> None:
    async with running_admin(tmp_path) as (admin, world):
        digest = world.put(NAME, b"one")
        told = await admin.pin(NAME)
        (blob,) = await admin.blobs()
    assert (told["sha256"], told["stored"], told["changed"]) == (digest, False, True)
    assert blob == {"sha256": digest, "targets": [NAME], "state": "absent", "pinned_by": ["operator"]}


async def test_a_blob_is_meant_by_target_alias_digest_or_its_first_digits(tmp_path: Path) -> None:
    async with running_admin(tmp_path) as (admin, world):
        digest = await fetched(world, NAME, b"one")
        for name in (NAME, "app/app-1-amd64", digest, digest.upper(), digest[:12]):
            assert (await admin.verify(name))["sha256"] == digest


async def test_digits_that_several_blobs_begin_with_are_refused_in_words(tmp_path: Path) -> None:
    async with running_admin(tmp_path) as (admin, world):
        twins = frozenset({Digest("ab" * 31 + "00"), Digest("ab" * 31 + "11")})
        await world.parts.store.pin("subscriptions", twins)
        with pytest.raises(CallRefused, match="2 blobs begin with abababababab") as caught:
            await admin.unpin("ab" * 6)
    assert "more digits" in caught.value.advice


@pytest.mark.parametrize("name", [OTHER, "ab" * 6, "no-target"])
async def test_what_is_not_known_here_is_refused_without_asking_the_origin(tmp_path: Path, name: str) -> None:
    async with running_admin(tmp_path) as (admin, world):
        world.put(OTHER, b"published, and never asked for")
        for verb in (admin.verify, admin.unpin, admin.evict):
            with pytest.raises(CallRefused, match=name) as caught:
                await verb(name)
            assert "store ls" in caught.value.advice
        assert world.parts.catalog.recall(TargetPath(OTHER)) is None


async def test_what_is_pinned_is_not_evicted_before_it_is_unpinned(tmp_path: Path) -> None:
    async with running_admin(tmp_path) as (admin, world):
        digest = await fetched(world, NAME, b"one")
        assert (await admin.pin(NAME))["pinned_by"] == ["operator"]
        assert (await admin.pin(NAME))["changed"] is False
        with pytest.raises(CallRefused, match="pinned by operator") as caught:
            await admin.evict(NAME)
        assert "unpin" in caught.value.advice
        assert (await admin.unpin(NAME))["pinned_by"] == []
        assert (await admin.unpin(NAME))["changed"] is False
        assert (await admin.evict(NAME))["sha256"] == digest
        assert await admin.blobs() == []
        with pytest.raises(CallRefused, match="not in the store"):
            await admin.evict(NAME)


async def test_an_operator_neither_takes_nor_gives_the_pins_of_others(tmp_path: Path) -> None:
    async with running_admin(tmp_path) as (admin, world):
        one, two = await fetched(world, NAME, b"one"), await fetched(world, OTHER, b"two")
        store = world.parts.store
        await store.pin("subscriptions", frozenset({one}))
        assert (await admin.unpin(NAME)) | {"targets": []} == {
            "sha256": one,
            "targets": [],
            "changed": False,
            "stored": True,
            "pinned_by": ["subscriptions"],
        }
        await admin.pin(OTHER)
        await admin.pin(NAME)
        assert store.pins() == {"subscriptions": {one}, "operator": {one, two}}


async def test_pins_set_at_the_same_moment_are_all_kept(tmp_path: Path) -> None:
    async with running_admin(tmp_path) as (admin, world):
        digests = [await fetched(world, f"app/app-{number}", b"%d" % number) for number in range(8)]
        await asyncio.gather(*(admin.pin(digest) for digest in digests))
        assert world.parts.store.pins()["operator"] == set(digests)


async def test_a_bad_blob_is_found_and_served_no_more(tmp_path: Path) -> None:
    data = bytes(range(256)) * 512
    async with running_admin(tmp_path) as (admin, world):
        digest = await fetched(world, NAME, data)
        assert (await admin.verify(NAME))["outcome"] == "good"
        file = await world.until_stored(digest)
        file.chmod(0o600)
        file.write_bytes(data[:-1] + b"!")
        told = await admin.verify(NAME)
        assert (told["outcome"], told["sha256"]) == ("bad", digest)
        assert world.parts.store.open(digest) is None
        assert (await admin.verify(NAME))["outcome"] == "absent"


async def test_verifying_moves_the_time_of_the_last_verification(tmp_path: Path) -> None:
    async with running_admin(tmp_path) as (admin, world):
        await fetched(world, NAME, b"one")
        (before,) = await admin.blobs()
        await admin.verify(NAME)
        (after,) = await admin.blobs()
    assert after["verified"] > before["verified"]


async def test_a_long_list_is_made_and_written_without_holding_up_the_loop() -> None:
    turns = 0

    async def other_work() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(other_work())
    written = await to_json([{"n": number} for number in range(2600)])
    other.cancel()
    assert json.loads(written) == [{"n": number} for number in range(2600)]
    assert turns >= 5
    assert await to_json([]) == b"[]"


async def test_a_list_of_many_blobs_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waystation.admin.store_verbs.BLOBS_AT_ONCE", 2)
    async with running_admin(tmp_path) as (admin, world):
        digests = {await fetched(world, f"app/app-{number}", b"%d" % number) for number in range(5)}
        assert {blob["sha256"] for blob in await admin.blobs()} == digests
