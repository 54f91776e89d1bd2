from __future__ import annotations

import asyncio
import os
import subprocess
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from peers.places import BucketPlace
from waystation.cli.looking import open_view
from waystation.config import OriginSettings, Settings
from waystation.errors import BadBundle, BadTarget, Conflict, SourceChanged, Unreachable
from waystation.pieces import PiecesLine, TreeHasher, dump_pieces, parse_pieces
from waystation.publish import Publisher, machine_arch, open_publisher

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from peers.minio import MinioServer
    from peers.places import Place
    from peers.s3 import Bucket
    from peers.toxiproxy import Toxiproxy
    from waystation.model import Digest
    from waystation.origin.interface import OriginWriter
    from waystation.telemetry.metrics import Metrics

TARGET = "app/app-0.1.0-x86_64"
BODY = b"#!/bin/sh\necho hello\n" * 4000
ANNOUNCED = [TARGET, f"{TARGET}.pieces", f"{TARGET}.sha256"]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write(tmp_path / "bundle", BODY)


def write(file: Path, body: bytes) -> Path:
    file.write_bytes(body)
    return file


def check_announced(place: Place, body: bytes, target: str = TARGET) -> None:
    """The object, its checksum file and its pieces are there, and say the same."""
    digest = sha256(body).hexdigest()
    assert place.get(target) == body
    assert place.get(f"{target}.sha256") == f"{digest}  {target.rpartition('/')[2]}\n".encode()
    line, _ = parse_pieces(place.get(f"{target}.pieces"))
    assert (line.sha256, line.size_bytes) == (digest, len(body))


async def test_a_bundle_is_published_with_its_pieces_and_its_checksum(
    place: Place, publisher: Publisher, bundle: Path
) -> None:
    published = await publisher.publish(bundle, app="app", version="0.1.0", arch="x86_64")
    assert (published.target, published.digest) == (TARGET, sha256(BODY).hexdigest())
    assert (published.size_bytes, published.already) == (len(BODY), False)
    assert place.all_keys() == ANNOUNCED
    check_announced(place, BODY)


async def test_what_is_published_checks_out_with_sha256sum(
    place: Place, publisher: Publisher, bundle: Path, tmp_path: Path
) -> None:
    await publisher.publish(bundle, app="app", version="0.1.0", arch="x86_64")
    for key in (TARGET, f"{TARGET}.sha256"):
        write(tmp_path / key.rpartition("/")[2], place.get(key))
    command = ["sha256sum", "--check", "--strict", "app-0.1.0-x86_64.sha256"]
    await asyncio.to_thread(subprocess.run, command, cwd=tmp_path, check=True)


async def test_the_same_bytes_again_are_a_success_that_says_so(
    place: Place, publisher: Publisher, bundle: Path
) -> None:
    await publisher.publish(bundle, app="app", version="0.1.0", arch="x86_64")
    again = await publisher.publish(bundle, app="app", version="0.1.0", arch="x86_64")
    assert again.already
    check_announced(place, BODY)


@pytest.mark.parametrize("other", [BODY + b"more", BODY[:-1] + b"!"], ids=["another size", "the same size"])
async def test_other_bytes_under_a_published_name_are_a_conflict_and_change_nothing(
    place: Place, publisher: Publisher, bundle: Path, other: bytes
) -> None:
    await publisher.publish(bundle, app="app", version="0.1.0", arch="x86_64")
    write(bundle, other)
    with pytest.raises(Conflict):
        await publisher.publish(bundle, app="app", version="0.1.0", arch="x86_64")
    check_announced(place, BODY)


async def test_go_s_words_for_an_architecture_become_the_kernel_s(publisher: Publisher, bundle: Path) -> None:
    for given, named in (("amd64", "x86_64"), ("arm64", "aarch64"), (None, machine_arch()), ("riscv64", "riscv64")):
        published = await publisher.publish(bundle, app="app", version="1", arch=given)
        assert published.target == f"app/app-1-{named}"


@pytest.mark.parametrize(
    ("app", "version", "arch"),
    [
        ("App", "1", "x86_64"),
        ("metadata", "1", "x86_64"),
        ("app", "", "x86_64"),
        ("app", "-1", "x86_64"),
        ("app", "1/2", "x86_64"),
        ("app", "1 2", "x86_64"),
        ("app", "1", ""),
        ("app", "1", "x86-64"),
        ("../app", "1", "x86_64"),
        ("app", "1\n", "x86_64"),
        ("app", "1" * 240, "x86_64"),  # with .pieces behind it, no filesystem and no MinIO has room for the name
    ],
)
async def test_a_name_outside_the_alphabet_is_refused_before_anything_is_written(
    place: Place, publisher: Publisher, bundle: Path, app: str, version: str, arch: str
) -> None:
    with pytest.raises(BadTarget):
        await publisher.publish(bundle, app=app, version=version, arch=arch)
    assert place.all_keys() == []


async def test_what_is_no_regular_readable_filled_file_is_refused(publisher: Publisher, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    for name in ("absent", "empty", "pipe", "."):
        with pytest.raises(BadBundle):
            await publisher.publish(tmp_path / name, app="app", version="1")


async def test_a_link_is_published_as_what_it_leads_to(
    place: Place, publisher: Publisher, bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(bundle)
    await publisher.publish(tmp_path / "link", app="app", version="0.1.0", arch="x86_64")
    check_announced(place, BODY)


async def test_progress_goes_from_nothing_to_all_for_each_step(publisher: Publisher, bundle: Path) -> None:
    heard: dict[str, list[int]] = {}

    def hear(what: str, done_bytes: int, total_bytes: int) -> None:
        assert total_bytes == len(BODY)
        heard.setdefault(what, []).append(done_bytes)

    await publisher.publish(bundle, app="app", version="1", progress=hear)
    assert list(heard) == ["hashing bundle", "uploading bundle"]
    for steps in heard.values():
        assert steps == sorted(steps)
        assert (steps[0], steps[-1]) == (0, len(BODY))


# --- what is there already -----------------------------------------------------------------------


@pytest.mark.parametrize("key", [f"{TARGET}.sha256", f"{TARGET}.pieces"])
async def test_an_announcement_of_other_bytes_is_a_conflict_before_anything_is_uploaded(
    place: Place, publisher: Publisher, bundle: Path, tmp_path: Path, key: str
) -> None:
    other = write(tmp_path / "other", b"other bytes")
    await publisher.publish(other, app="app", version="0.2.0", arch="x86_64")
    place.put(key, place.get(key.replace("0.1.0", "0.2.0")))
    before = place.all_keys()
    with pytest.raises(Conflict, match=key):
        await publisher.publish(bundle, app="app", version="0.1.0", arch="x86_64")
    assert place.all_keys() == before


async def test_pieces_that_cannot_be_read_are_a_conflict_in_words(
    place: Place, publisher: Publisher, bundle: Path
) -> None:
    place.put(f"{TARGET}.pieces", b"nonsense")
    with pytest.raises(Conflict, match="can't be read"):
        await publisher.publish(bundle, app="app", version="0.1.0", arch="x86_64")
    assert place.all_keys() == [f"{TARGET}.pieces"]


def pieces_file(tree_of: bytes, *, piece_length: int) -> bytes:
    """A piece file that claims to be the bundle's, with the tree of some bytes."""
    hasher = TreeHasher(len(tree_of), piece_length)
    hasher.update(tree_of)
    tree, layer = hasher.finish()
    return dump_pieces(PiecesLine(sha256(BODY).hexdigest(), len(BODY), tree), layer)


async def test_the_tree_of_other_bytes_is_a_conflict(place: Place, publisher: Publisher, bundle: Path) -> None:
    place.put(f"{TARGET}.pieces", pieces_file(BODY[::-1], piece_length=16 * 1024))
    with pytest.raises(Conflict, match="another piece tree"):
        await publisher.publish(bundle, app="app", version="0.1.0", arch="x86_64")
    assert place.all_keys() == [f"{TARGET}.pieces"]


async def test_a_right_tree_with_pieces_of_another_length_is_kept(
    place: Place, publisher: Publisher, bundle: Path
) -> None:
    theirs = pieces_file(BODY, piece_length=16 * 1024)
    place.put(f"{TARGET}.pieces", theirs)
    await publisher.publish(bundle, app="app", version="0.1.0", arch="x86_64")
    assert place.get(f"{TARGET}.pieces") == theirs
    check_announced(place, BODY)


async def test_the_same_bytes_that_another_client_uploaded_are_announced(
    place: Place, publisher: Publisher, bundle: Path
) -> None:
    place.put(TARGET, BODY)
    published = await publisher.publish(bundle, app="app", version="0.1.0", arch="x86_64")
    assert not published.already
    check_announced(place, BODY)


@pytest.mark.parametrize(("other", "told"), [(BODY[::-1], "sha256"), (BODY[:-1], "bytes, this file")])
async def test_other_bytes_that_another_client_uploaded_are_a_conflict(
    place: Place, publisher: Publisher, bundle: Path, other: bytes, told: str
) -> None:
    place.put(TARGET, other)
    with pytest.raises(Conflict, match=told):
        await publisher.publish(bundle, app="app", version="0.1.0", arch="x86_64")
    assert place.all_keys() == [TARGET]


async def test_a_name_that_is_a_folder_already_is_a_conflict_in_words(tmp_path: Path, bundle: Path) -> None:
    (tmp_path / "origin" / TARGET).mkdir(parents=True)
    settings = Settings(origin=OriginSettings(url=(tmp_path / "origin").as_uri()))
    async with open_publisher(settings) as publisher:
        with pytest.raises(Conflict, match="no object, such as a folder"):
            await publisher.publish(bundle, app="app", version="0.1.0", arch="x86_64")


async def test_an_app_that_is_an_object_already_is_a_conflict_in_words(
    place: Place, publisher: Publisher, bundle: Path
) -> None:
    place.put("app", b"an object")
    with pytest.raises(Conflict, match="has an object 'app'") as refused:
        await publisher.publish(bundle, app="app", version="0.1.0", arch="x86_64")
    assert "another app" in refused.value.advice
    assert place.all_keys() == ["app"]


async def test_what_was_published_before_its_app_became_an_object_is_still_published(
    minio: MinioServer, tmp_path: Path, bundle: Path
) -> None:
    """MinIO lets both be, and leaves out of its listings what lies below the object."""
    bucket = minio.create_bucket("app-and-object")
    async with open_publisher(Settings(origin=bucket.settings(minio.keys.write(tmp_path / "keys")))) as publisher:
        await publisher.publish(bundle, app="app", version="0.1.0", arch="x86_64")
        bucket.put("app", b"an object")
        assert (await publisher.publish(bundle, app="app", version="0.1.0", arch="x86_64")).already
        assert bucket.keys() == ["app"]


async def test_on_s3_an_object_vouches_for_itself_before_it_is_announced_and_keeps_its_digest(
    bucket: Bucket, bucket_settings: OriginSettings, bundle: Path
) -> None:
    settings = Settings(origin=bucket_settings)
    async with open_publisher(settings) as publisher:
        with pytest.raises(Died):
            await Publisher(publisher._origin, DyingWriter(publisher._writer, 1, behind=False)).publish(
                bundle, app="app", version="0.1.0", arch="x86_64"
            )
        assert bucket.keys() == [TARGET]
        async with open_view(settings) as view:
            early = await view.admission.admit(TARGET)
            await publisher.publish(bundle, app="app", version="0.1.0", arch="x86_64")
            announced = await view.admission.admit(TARGET, fresh=True)
    assert (early.digest, early.pieces) == (sha256(BODY).hexdigest(), None)
    assert (announced.digest, announced.etag) == (early.digest, early.etag)
    assert announced.pieces


# --- races, deaths, changes ----------------------------------------------------------------------


async def test_of_many_publishers_of_different_bytes_exactly_one_wins(place: Place, tmp_path: Path) -> None:
    bodies = [f"bundle {number}".encode() * 1000 for number in range(16)]

    async def publish(number: int) -> bytes | None:
        file = write(tmp_path / f"bundle-{number}", bodies[number])
        async with open_publisher(place.settings) as publisher:
            try:
                await publisher.publish(file, app="app", version="0.1.0", arch="x86_64")
            except Conflict:
                return None
        return bodies[number]

    winners = [won for won in await asyncio.gather(*map(publish, range(16))) if won]
    assert len(winners) == 1
    assert place.all_keys() == ANNOUNCED
    check_announced(place, winners[0])


async def test_many_publishers_of_the_same_bytes_all_succeed(place: Place, bundle: Path) -> None:
    async def publish() -> None:
        async with open_publisher(place.settings) as publisher:
            await publisher.publish(bundle, app="app", version="0.1.0", arch="x86_64")

    await asyncio.gather(*(publish() for _ in range(16)))
    assert place.all_keys() == ANNOUNCED
    check_announced(place, BODY)


class Died(Exception):
    """The publisher's process ended here."""


class DyingWriter:
    """Dies at its k-th create: before it, or behind it, when the object is there and nobody heard of it."""

    def __init__(self, inner: OriginWriter, k: int, *, behind: bool) -> None:
        self._inner, self._left, self._behind = inner, k, behind

    async def create(
        self, key: str, body: Path | bytes, *, sha256: Digest, progress: Callable[[int], None] | None = None
    ) -> str:
        self._left -= 1
        if self._left == -1 and not self._behind:
            raise Died
        etag = await self._inner.create(key, body, sha256=sha256, progress=progress)
        if self._left == -1:
            raise Died
        return etag

    async def close(self) -> None:
        await self._inner.close()


@pytest.mark.parametrize("behind", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize("k", range(3))
async def test_a_publish_that_died_at_any_step_is_finished_by_running_it_again(
    place: Place, publisher: Publisher, bundle: Path, k: int, behind: bool
) -> None:
    dying = Publisher(publisher._origin, DyingWriter(publisher._writer, k, behind=behind))
    with pytest.raises(Died):
        await dying.publish(bundle, app="app", version="0.1.0", arch="x86_64")
    assert place.all_keys() == ANNOUNCED[: k + behind]

    published = await publisher.publish(bundle, app="app", version="0.1.0", arch="x86_64")
    assert published.already == (k + behind == len(ANNOUNCED))
    check_announced(place, BODY)


@pytest.mark.parametrize("k", [1, 2])
async def test_a_publish_that_died_is_not_finished_with_other_bytes(
    place: Place, publisher: Publisher, bundle: Path, k: int
) -> None:
    dying = Publisher(publisher._origin, DyingWriter(publisher._writer, k, behind=False))
    with pytest.raises(Died):
        await dying.publish(bundle, app="app", version="0.1.0", arch="x86_64")
    write(bundle, BODY[::-1])
    with pytest.raises(Conflict):
        await publisher.publish(bundle, app="app", version="0.1.0", arch="x86_64")
    assert place.all_keys() == ANNOUNCED[:k]


class MeddlingWriter(DyingWriter):
    """Does something to the world before each create."""

    def __init__(self, inner: OriginWriter, meddle: Callable[[str], None]) -> None:
        super().__init__(inner, -1, behind=False)
        self._meddle = meddle

    async def create(
        self, key: str, body: Path | bytes, *, sha256: Digest, progress: Callable[[int], None] | None = None
    ) -> str:
        self._meddle(key)
        return await super().create(key, body, sha256=sha256, progress=progress)


@pytest.mark.parametrize("changed", [BODY[::-1], BODY + b"more", BODY[:-1]], ids=["other", "longer", "shorter"])
async def test_a_file_that_changes_before_it_is_uploaded_is_not_published(
    place: Place, publisher: Publisher, bundle: Path, changed: bytes
) -> None:
    meddling = Publisher(publisher._origin, MeddlingWriter(publisher._writer, lambda _: void(write(bundle, changed))))
    with pytest.raises(SourceChanged):
        await meddling.publish(bundle, app="app", version="0.1.0", arch="x86_64")
    assert place.all_keys() == []


def void(_: object) -> None:
    """Only for its effect."""


async def test_another_publisher_that_is_faster_with_the_same_announcement_is_no_error(
    place: Place, publisher: Publisher, bundle: Path
) -> None:
    announced: dict[str, bytes] = {}
    await publisher.publish(bundle, app="app", version="0.1.0", arch="x86_64")
    for key in ANNOUNCED[1:]:
        announced[key.replace("0.1.0", "0.2.0")] = place.get(key).replace(b"0.1.0", b"0.2.0")

    def be_faster(key: str) -> None:
        if key in announced:
            place.put(key, announced[key])

    meddling = Publisher(publisher._origin, MeddlingWriter(publisher._writer, be_faster))
    await meddling.publish(bundle, app="app", version="0.2.0", arch="x86_64")
    check_announced(place, BODY, TARGET.replace("0.1.0", "0.2.0"))


async def test_another_publisher_that_announces_other_bytes_meanwhile_is_a_conflict(
    place: Place, publisher: Publisher, bundle: Path
) -> None:
    wrong = f"{'0' * 64}  app-0.1.0-x86_64\n".encode()

    def announce_otherwise(key: str) -> None:
        if key.endswith(".sha256"):
            place.put(key, wrong)

    meddling = Publisher(publisher._origin, MeddlingWriter(publisher._writer, announce_otherwise))
    with pytest.raises(Conflict):
        await meddling.publish(bundle, app="app", version="0.1.0", arch="x86_64")
    assert place.get(f"{TARGET}.sha256") == wrong


# --- large files on S3 ---------------------------------------------------------------------------


def large(number: int) -> bytes:
    """More than one part, and no whole number of parts or pieces."""
    return sha256(b"%d" % number).digest() * (2_500_000 + number)


async def test_a_large_file_goes_up_in_parts_and_leaves_nothing_unfinished(
    bucket: Bucket, bucket_settings: OriginSettings, tmp_path: Path
) -> None:
    place = BucketPlace(bucket, Settings(origin=bucket_settings))
    file = write(tmp_path / "bundle", large(0))
    async with open_publisher(place.settings) as publisher:
        await publisher.publish(file, app="app", version="0.1.0", arch="x86_64")
        assert (await publisher.publish(file, app="app", version="0.1.0", arch="x86_64")).already
    check_announced(place, large(0))
    assert bucket.unfinished_uploads(TARGET) == 0


async def test_of_racing_publishers_of_large_files_one_wins_and_nothing_is_left_of_the_others(
    bucket: Bucket, bucket_settings: OriginSettings, tmp_path: Path
) -> None:
    place = BucketPlace(bucket, Settings(origin=bucket_settings))

    async def publish(number: int) -> int | None:
        file = write(tmp_path / f"bundle-{number}", large(number))
        async with open_publisher(place.settings) as publisher:
            try:
                await publisher.publish(file, app="app", version="0.1.0", arch="x86_64")
            except Conflict:
                return None
        return number

    winners = [number for number in await asyncio.gather(*map(publish, range(3))) if number is not None]
    assert len(winners) == 1
    check_announced(place, large(winners[0]))
    assert bucket.unfinished_uploads(TARGET) == 0


async def test_a_large_publish_that_is_cancelled_leaves_nothing(
    bucket: Bucket, bucket_settings: OriginSettings, tmp_path: Path
) -> None:
    file = write(tmp_path / "bundle", large(0))
    uploading = asyncio.Event()
    loop = asyncio.get_running_loop()

    def watch(what: str, done_bytes: int, _total_bytes: int) -> None:
        if what.startswith("uploading") and done_bytes:
            loop.call_soon_threadsafe(uploading.set)

    async with open_publisher(Settings(origin=bucket_settings)) as publisher:
        task = asyncio.create_task(publisher.publish(file, app="app", version="0.1.0", arch="x86_64", progress=watch))
        await uploading.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert bucket.keys() == []
    assert bucket.unfinished_uploads(TARGET) == 0


async def test_a_large_publish_that_is_cancelled_before_it_hears_of_its_upload_leaves_nothing(
    bucket: Bucket, tmp_path: Path, toxiproxy: Toxiproxy
) -> None:
    file = write(tmp_path / "bundle", large(0))
    proxy = toxiproxy.proxy(bucket.server.port)
    keys = bucket.server.keys.write(tmp_path / "credentials")
    settings = Settings(origin=bucket.settings(keys, endpoint_url=proxy.endpoint_url))
    async with open_publisher(settings) as publisher:
        with proxy.toxic("latency", latency=300):
            task = asyncio.create_task(publisher.publish(file, app="app", version="0.1.0", arch="x86_64"))
            while not await asyncio.to_thread(bucket.unfinished_uploads, TARGET):
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    assert bucket.keys() == []
    assert bucket.unfinished_uploads(TARGET) == 0


async def test_a_large_publish_outlives_a_restart_of_the_origin(
    bucket: Bucket, tmp_path: Path, toxiproxy: Toxiproxy
) -> None:
    file = write(tmp_path / "bundle", large(0))
    proxy = toxiproxy.proxy(bucket.server.port)
    keys = bucket.server.keys.write(tmp_path / "credentials")
    settings = Settings(origin=bucket.settings(keys, endpoint_url=proxy.endpoint_url))
    async with open_publisher(settings) as publisher:
        with proxy.toxic("bandwidth", stream="upstream", rate=4096):
            task = asyncio.create_task(publisher.publish(file, app="app", version="0.1.0", arch="x86_64"))
            while not await asyncio.to_thread(bucket.unfinished_uploads, TARGET):
                await asyncio.sleep(0.01)
        with proxy.down():
            await asyncio.sleep(4.1)  # longer than two pauses can be: how long it may last is what is tested
        await task
    assert sha256(bucket.get(TARGET)).digest() == sha256(large(0)).digest()
    assert bucket.unfinished_uploads(TARGET) == 0


async def test_an_origin_that_is_away_is_said_so(tmp_path: Path, bundle: Path, metrics: Metrics) -> None:
    settings = Settings(
        origin=OriginSettings(
            url="s3://artifacts",
            endpoint_url="http://127.0.0.1:9",
            credentials_file=write(
                tmp_path / "credentials", b"[default]\naws_access_key_id = a\naws_secret_access_key = b\n"
            ),
            attempts=1,
        )
    )
    async with open_publisher(settings) as publisher:
        with pytest.raises(Unreachable):
            await publisher.publish(bundle, app="app", version="1")
