from __future__ import annotations

from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from peers.careless_s3 import CarelessS3
from waystation.cli.looking import open_view
from waystation.config import Settings
from waystation.errors import Denied, NoChecksum, Short
from waystation.pieces import parse_pieces
from waystation.publish import Adopted, Publisher, open_publisher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from peers.places import Place
    from peers.s3 import Bucket
    from waystation.model import Span
    from waystation.origin.interface import ObjectInfo, Origin, Reader, Source

BODY = b"uploaded by somebody else" * 100_000


def outcomes(results: list[Adopted]) -> dict[str, str]:
    return {result.key: result.outcome for result in results}


def checksum_of(body: bytes, name: str) -> bytes:
    return f"{sha256(body).hexdigest()}  {name}\n".encode()


def check_announced(place: Place, key: str, body: bytes) -> None:
    assert place.get(key) == body
    assert place.get(f"{key}.sha256") == checksum_of(body, key.rpartition("/")[2])
    line, _ = parse_pieces(place.get(f"{key}.pieces"))
    assert (line.sha256, line.size_bytes) == (sha256(body).hexdigest(), len(body))


async def test_objects_that_others_uploaded_get_what_they_lack(place: Place, publisher: Publisher) -> None:
    keys = ["app-0.1.0-x86_64", "a/b/c.tar.gz", "zoë/with space"]
    for key in keys:
        place.put(key, BODY + key.encode())
    assert outcomes(await publisher.adopt()) == dict.fromkeys(keys, "adopted")
    for key in keys:
        check_announced(place, key, BODY + key.encode())


async def test_adopting_again_changes_nothing(place: Place, publisher: Publisher) -> None:
    place.put("one", BODY)
    await publisher.adopt()
    before = {key: place.get(key) for key in place.all_keys()}
    assert outcomes(await publisher.adopt()) == {"one": "already"}
    assert {key: place.get(key) for key in place.all_keys()} == before


async def test_progress_goes_from_nothing_to_all_that_is_to_be_adopted(place: Place, publisher: Publisher) -> None:
    place.put("announced", BODY)
    await publisher.adopt()
    for key in ("one", "two"):
        place.put(key, BODY)
    heard: list[tuple[int, int]] = []

    def hear(what: str, done_bytes: int, total_bytes: int) -> None:
        if what == "adopting 2 objects":
            heard.append((done_bytes, total_bytes))

    await publisher.adopt(progress=hear)
    size_bytes = len(BODY)
    assert heard == [(0, 2 * size_bytes), (size_bytes, 2 * size_bytes), (2 * size_bytes, 2 * size_bytes)]


async def test_only_what_begins_with_the_prefix_is_adopted(place: Place, publisher: Publisher) -> None:
    for key in ("app/one", "app/two", "apples", "other/one"):
        place.put(key, BODY)
    assert set(outcomes(await publisher.adopt("app/"))) == {"app/one", "app/two"}
    assert "apples.sha256" not in place.all_keys()


async def test_a_right_checksum_that_is_there_is_kept_and_its_pieces_added(place: Place, publisher: Publisher) -> None:
    by_hand = f"SHA256 (one) = {sha256(BODY).hexdigest().upper()}\n".encode()
    place.put("one", BODY)
    place.put("one.sha256", by_hand)
    assert outcomes(await publisher.adopt()) == {"one": "adopted"}
    assert place.get("one.sha256") == by_hand
    assert parse_pieces(place.get("one.pieces"))


async def test_right_pieces_that_are_there_are_kept_and_the_checksum_added(place: Place, publisher: Publisher) -> None:
    place.put("one", BODY)
    await publisher.adopt()
    pieces = place.get("one.pieces")
    place.put("two", BODY)
    place.put("two.pieces", pieces)
    assert outcomes(await publisher.adopt()) == {"one": "already", "two": "adopted"}
    assert place.get("two.pieces") == pieces
    check_announced(place, "two", BODY)


@pytest.mark.parametrize("ending", [".sha256", ".pieces"])
async def test_what_says_something_else_of_the_bytes_is_a_failure_and_never_overwritten(
    place: Place, publisher: Publisher, ending: str
) -> None:
    place.put("model", BODY[::-1])
    await publisher.adopt()
    wrong = place.get(f"model{ending}")
    place.put("one", BODY)
    place.put(f"one{ending}", wrong)
    place.put("two", BODY)
    results = await publisher.adopt()
    assert outcomes(results) == {"model": "already", "one": "failed", "two": "adopted"}
    (failed,) = [result for result in results if result.outcome == "failed"]
    assert failed.why
    assert f"one{ending}" in failed.why
    assert [key for key in place.all_keys() if key.startswith("one")] == sorted(["one", f"one{ending}"])
    assert place.get(f"one{ending}") == wrong


async def test_an_empty_object_gets_only_a_checksum(place: Place, publisher: Publisher) -> None:
    place.put("empty", b"")
    assert outcomes(await publisher.adopt()) == {"empty": "adopted"}
    assert place.all_keys() == ["empty", "empty.sha256"]
    assert place.get("empty.sha256") == checksum_of(b"", "empty")
    assert outcomes(await publisher.adopt()) == {"empty": "already"}


async def test_what_describes_targets_is_not_adopted_itself(place: Place, publisher: Publisher) -> None:
    for key in ("gone.sha256", "gone.pieces", "gone.provenance.json", "metadata/1.root.json"):
        place.put(key, b"{}")
    assert await publisher.adopt() == []


async def test_names_that_no_target_can_have_are_skipped_with_a_reason(
    bucket: Bucket, place: Place, publisher: Publisher
) -> None:
    place.put("root/one", BODY)
    place.put("fine", BODY)
    results = {result.key: result for result in await publisher.adopt()}
    assert results["fine"].outcome == "adopted"
    assert results["root/one"].outcome == "skipped"
    assert "reserved" in (results["root/one"].why or "")


async def test_odd_keys_of_a_bucket_are_skipped_with_a_reason(bucket: Bucket, bucket_settings: Any) -> None:
    for key in ("line\nbreak", "back\\slash"):
        bucket.put(key, BODY)
    async with open_publisher(Settings(origin=bucket_settings)) as publisher:
        results = await publisher.adopt()
    assert {result.outcome for result in results} == {"skipped"}
    assert all(result.why and result.why.isprintable() for result in results)
    assert len(results) == len(bucket.keys()) == 2


async def test_keys_of_a_bucket_that_a_folder_would_hide_are_adopted_as_the_mirror_serves_them(
    bucket: Bucket, bucket_settings: Any
) -> None:
    hidden = (".hidden/one", "dot/.hidden/x", "a/.two")
    settings = Settings(origin=bucket_settings)
    for key in hidden:
        bucket.put(key, BODY)
    async with open_view(settings) as view:
        for key in hidden:
            with pytest.raises(NoChecksum) as refused:
                await view.admission.admit(key)
            assert "waystation adopt" in refused.value.advice
    async with open_publisher(settings) as publisher:
        assert outcomes(await publisher.adopt()) == dict.fromkeys(hidden, "adopted")
    async with open_view(settings) as view:
        for key in hidden:
            assert (await view.admission.admit(key)).digest == sha256(BODY).hexdigest()


async def test_each_result_is_reported_as_it_is_done(place: Place, publisher: Publisher) -> None:
    for number in range(10):
        place.put(f"object-{number}", BODY)
    reported: list[Adopted] = []
    results = await publisher.adopt(report=reported.append)
    assert sorted(reported, key=lambda result: result.key) == results


async def test_a_recorded_checksum_that_disagrees_with_the_bytes_is_a_failure(
    bucket: Bucket, bucket_settings: Any
) -> None:
    bucket.put("one", BODY, metadata={"x-amz-meta-sha256": "0" * 64})
    bucket.put("two", BODY, stored_sha256=True)
    async with open_publisher(Settings(origin=bucket_settings)) as publisher:
        results = await publisher.adopt()
    assert outcomes(results) == {"one": "failed", "two": "adopted"}
    assert bucket.keys() == ["one", "two", "two.pieces", "two.sha256"]


async def test_an_origin_that_may_not_be_written_to_is_said_once(bucket: Bucket, tmp_path: Path) -> None:
    for number in range(10):
        bucket.put(f"object-{number}", BODY)
    keys = bucket.server.create_user(bucket.name, ["s3:GetObject", "s3:ListBucket"])
    settings = Settings(origin=bucket.settings(keys.write(tmp_path / "credentials")))
    async with open_publisher(settings) as publisher:
        with pytest.raises(Denied):
            await publisher.adopt()
    assert len(bucket.keys()) == 10


# --- what happens in the middle ------------------------------------------------------------------


class WrappedOrigin:
    """The real origin, but for what a test puts in its way."""

    def __init__(self, inner: Origin) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class ReplacingOrigin(WrappedOrigin):
    """An object is replaced right behind its last byte's read, `times` times."""

    def __init__(self, inner: Origin, place: Place, times: int) -> None:
        super().__init__(inner)
        self._place, self._left = place, times

    async def source(self, key: str, *, if_match: str | None) -> Source:
        inner, outer = await self._inner.source(key, if_match=if_match), self

        class Replacing:
            def read(self, span: Span) -> Any:
                return inner.read(span)

            def close(self) -> None:
                inner.close()
                if outer._left:
                    outer._left -= 1
                    outer._place.put(key, BODY[outer._left :])

        return Replacing()


async def test_an_object_that_is_replaced_while_it_is_read_is_read_again(place: Place, publisher: Publisher) -> None:
    place.put("one", BODY[::-1])
    replacing: Any = ReplacingOrigin(publisher._origin, place, 1)
    assert outcomes(await Publisher(replacing, publisher._writer).adopt()) == {"one": "adopted"}
    check_announced(place, "one", BODY)


async def test_an_object_that_is_replaced_each_time_that_it_is_read_is_not_announced(
    place: Place, publisher: Publisher
) -> None:
    place.put("one", BODY[::-1])
    replacing: Any = ReplacingOrigin(publisher._origin, place, 2)
    results = await Publisher(replacing, publisher._writer).adopt()
    assert outcomes(results) == {"one": "failed"}
    assert place.all_keys() == ["one"]


class ReplacingListed(WrappedOrigin):
    """Each object is replaced once it was listed, and gets a checksum of other bytes."""

    def __init__(self, inner: Origin, place: Place) -> None:
        super().__init__(inner)
        self._place = place

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[ObjectInfo]:
        listed = [info async for info in self._inner.list(prefix, after=after)]
        for info in listed:
            self._place.put(info.key, BODY)
            self._place.put(f"{info.key}.sha256", checksum_of(b"other", info.key))
        for info in listed:
            yield info


async def test_what_came_since_the_listing_counts_and_is_not_replaced(place: Place, publisher: Publisher) -> None:
    place.put("one", BODY[::-1])
    replacing: Any = ReplacingListed(publisher._origin, place)
    (result,) = await Publisher(replacing, publisher._writer).adopt()
    assert (result.outcome, "one.sha256 says" in (result.why or "")) == ("failed", True)
    assert place.get("one.sha256") == checksum_of(b"other", "one")


async def test_a_bare_object_of_a_bucket_costs_six_requests_and_an_announced_one_none_but_the_listing(
    bucket: Bucket, tmp_path: Path
) -> None:
    keys = bucket.server.keys.write(tmp_path / "keys")
    bucket.put("one", BODY)
    with CarelessS3(bucket.server, manner="honest") as counting:
        asked: list[str] = []
        counting.before = lambda method, path: asked.append(f"{method} {path.removeprefix(f'/{bucket.name}')}")
        async with open_publisher(
            Settings(origin=bucket.settings(keys, endpoint_url=counting.endpoint_url))
        ) as publisher:
            await publisher.adopt()
            first, asked[:] = asked[:], []
            await publisher.adopt()
    assert sorted(first) == [
        "GET ",
        "GET /one",
        "GET /one.pieces",
        "GET /one.sha256",
        "HEAD /one",
        "PUT /one.pieces",
        "PUT /one.sha256",
    ]
    assert asked == ["GET "]


class BreakingOrigin(WrappedOrigin):
    """Each read of an object's bytes breaks off after `portion` bytes."""

    def __init__(self, inner: Origin, portion: int) -> None:
        super().__init__(inner)
        self._portion = portion
        self.reads: list[Span] = []

    async def source(self, key: str, *, if_match: str | None) -> Source:
        inner, outer = await self._inner.source(key, if_match=if_match), self

        class Breaking:
            @contextmanager
            def read(self, span: Span) -> Iterator[Reader]:
                outer.reads.append(span)
                with inner.read(span) as reader:
                    yield BreakingReader(reader, outer._portion)

            def close(self) -> None:
                inner.close()

        return Breaking()


class BreakingReader:
    def __init__(self, inner: Reader, left: int) -> None:
        self._inner, self._left = inner, left

    def readinto(self, buffer: memoryview) -> int:
        if not self._left:
            raise Short("the connection broke")
        count = self._inner.readinto(buffer[: self._left])
        self._left -= count
        return count

    def abort(self) -> None:
        self._inner.abort()


async def test_a_broken_connection_is_taken_up_again_where_it_broke(place: Place, publisher: Publisher) -> None:
    place.put("one", BODY)
    breaking: Any = BreakingOrigin(publisher._origin, 1_000_000)
    assert outcomes(await Publisher(breaking, publisher._writer).adopt()) == {"one": "adopted"}
    assert [span.start for span in breaking.reads] == [0, 1_000_000, 2_000_000]
    check_announced(place, "one", BODY)


async def test_an_origin_that_gives_no_more_bytes_is_given_up(
    place: Place, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("waystation.origin.reading._PAUSE_S", 0.0)
    place.put("one", BODY)
    breaking: Any = BreakingOrigin(publisher._origin, 0)
    assert outcomes(await Publisher(breaking, publisher._writer).adopt()) == {"one": "failed"}
    assert place.all_keys() == ["one"]
