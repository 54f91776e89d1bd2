"""Files, answers, configuration and calls of any content: each is read, or refused by the error that is documented."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from admins import running_admin
from peers.evil_origin import MODIFIED, Ask, EvilOrigin
from peers.scripted_http import Answer
from stores import artifact_of, digest_of, random_bytes
from waystation.catalog.journal import Journal
from waystation.catalog.plain import PlainCatalog
from waystation.catalog.vouching import vouch
from waystation.config import CatalogSettings, Settings, StoreSettings, load_settings
from waystation.disk import Disk
from waystation.errors import CatalogError, ConfigError, OriginError, WaystationError
from waystation.model import TargetPath
from waystation.origin.hops import Hops
from waystation.origin.http_origin import HttpOrigin
from waystation.origin.hub_pages import MalformedPage, parse_page
from waystation.origin.interface import ObjectInfo
from waystation.origin.s3 import S3Origin
from waystation.pieces import MalformedPieces, parse_pieces
from waystation.store.disk_store import DiskStore
from waystation.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from peers.evil_origin import Manner

NAME = TargetPath("app/app-1-x86_64")
BODY = random_bytes(50_000)
EXAMPLE = Path(__file__).parents[2] / "examples" / "waystation.toml"
ARTIFACT, PIECES_FILE = artifact_of(BODY)
FOUND = ObjectInfo(NAME, len(BODY), '"e"', datetime.now(UTC), None, None)
few = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

odd_numbers = st.one_of(st.integers(), st.floats(), st.sampled_from([10**400, -1, 2**63, 1e308, True]))
odd_texts = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["", "../x", NAME, "0" * 64, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "\x1b[2J", "\ud800"]
    ),
)
anything = st.recursive(
    st.none() | st.booleans() | odd_numbers | odd_texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def twisted(draw: st.DrawFn, right: dict[str, Any]) -> dict[str, Any]:
    """A right object of JSON, with some of its values others, gone, or more."""
    made = dict(right)
    for key in draw(st.lists(st.sampled_from(sorted(right)), min_size=1, max_size=3)):
        if draw(st.booleans()):
            made[key] = draw(anything)
        else:
            made.pop(key, None)
    return made | draw(st.dictionaries(st.text(max_size=5), anything, max_size=1))


@st.composite
def damaged(draw: st.DrawFn, right: bytes) -> bytes:
    """Right bytes, some of them others, cut out, doubled or more."""
    made = bytearray(right)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(made)))
        made[start : start + draw(st.integers(0, 20))] = draw(
            st.binary(max_size=12) | st.sampled_from([b"", b"9" * 40, b"-", b"<", b"\x00", b"\n", b"[" * 2000])
        )
    return bytes(made)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with structlog.testing.capture_logs() as lines:
        yield
    assert not any("exc_info" in line for line in lines), lines


# --- what vouches for bytes ------------------------------------------------------------------------


PIECES_LINE = json.loads((PIECES_FILE or b"").partition(b"\n")[0])


@given(line=twisted(PIECES_LINE), layer=st.binary(max_size=200))
@example(line=PIECES_LINE | {"size_bytes": 10**400}, layer=b"")
@example(line=PIECES_LINE | {"root": "\u0660" * 64}, layer=b"")
def test_any_piece_file_is_one_or_is_malformed(line: dict[str, Any], layer: bytes) -> None:
    body = json.dumps(line).encode() + b"\n" + layer
    with suppress(MalformedPieces):
        parse_pieces(body)
    with suppress(CatalogError):
        vouch(NAME, FOUND, pieces_file=body, checksum_file=None)


@given(
    pieces_file=st.none() | damaged(PIECES_FILE or b"") | st.binary(max_size=50),
    checksum_file=st.none() | damaged(f"{digest_of(BODY)}  app-1-x86_64\n".encode()) | st.binary(max_size=50),
)
def test_any_files_beside_a_target_vouch_for_it_or_say_why_not(
    pieces_file: bytes | None, checksum_file: bytes | None
) -> None:
    with suppress(CatalogError):
        vouch(NAME, FOUND, pieces_file=pieces_file, checksum_file=checksum_file)


# --- what an origin says ----------------------------------------------------------------------------


PAGE = {
    "targets": [{"target": NAME, "sha256": "0" * 64, "size_bytes": 1, "modified": "2026-01-01T00:00:00+00:00"}],
    "next": None,
}


@given(st.one_of(twisted(PAGE), twisted(PAGE["targets"][0]).map(lambda one: PAGE | {"targets": [one]}), anything))  # type: ignore[index]
@example(PAGE | {"targets": [PAGE["targets"][0] | {"modified": "0001-01-01T00:00:00+14:00"}]})  # type: ignore[index]
def test_any_page_of_a_hub_is_one_or_is_malformed(told: object) -> None:
    with suppress(MalformedPage):
        page = parse_page(json.dumps(told).encode(), prefix="", after="")
        assert all(entry.modified.utcoffset() is not None for entry in page.entries)


LISTED = EvilOrigin.page(Ask("s3", "GET", "list", "", None, ""), [NAME, f"{NAME}.sha256"], following="t")


@st.composite
def answers(draw: st.DrawFn, right: bytes) -> Answer:
    """What an origin may answer with, headers and body of any kind; framed as HTTP, for else nobody reads on."""
    values = st.one_of(
        st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30),
        st.sampled_from(
            [
                '"e"',
                MODIFIED,
                "0",
                "99",
                "yesterday",
                "Thu, 01 Jan 0001 00:00:00 +1400",
                "9" * 30,
                "-1",
                "0" * 64,
                "application/json",
                "COMPOSITE",
                "gzip",
                "http://[::1",
                "//",
                "2026-01-01",
                "1e999",
                "=?utf-8?q?=00?=",
                "nan",
                "identity",
            ]
        ),
    )
    names = [
        "ETag",
        "Last-Modified",
        "Date",
        "x-amz-meta-sha256",
        "x-amz-checksum-sha256",
        "x-amz-checksum-type",
        "Content-Type",
        "Content-Encoding",
        "Location",
        "Waystation-Reason",
        "Retry-After",
        "x-amz-bucket-region",
        "Expires",
        "x-amz-delete-marker",
        "x-amz-mp-parts-count",
        "x-amz-object-lock-retain-until-date",
        "x-amz-restore",
        "Content-Range",
    ]
    status = draw(st.sampled_from([200, 200, 200, 200, 204, 206, 301, 304, 400, 403, 404, 412, 416, 500, 503]))
    chosen = draw(st.dictionaries(st.sampled_from(names), values, max_size=6))
    if draw(st.booleans()):
        chosen = {"ETag": '"e"', "Last-Modified": MODIFIED} | chosen
    body = draw(st.one_of(st.just(right), damaged(right), st.binary(max_size=40)))
    fields = [f"{name}: {value}" for name, value in chosen.items()]
    length = len(body) if status not in (204, 304) else 0
    return Answer(
        "\r\n".join([f"HTTP/1.1 {status} X", *fields, f"Content-Length: {length}"]), body[:length], then="close"
    )


@pytest.mark.parametrize("manner", ["s3", "hub"])
def test_any_answer_of_an_origin_is_understood_or_is_an_error_of_the_origin(tmp_path: Path, manner: Manner) -> None:
    """Metadata of objects, small bodies and lists: no header and no body gets past those who read them."""
    evil = EvilOrigin(manner)
    listed = LISTED.body if manner == "s3" else json.dumps(PAGE).encode()
    with evil.serving() as server, asyncio.Runner() as runner:
        reading = evil.settings(server.port, tmp_path, request_timeout=5.0, attempts=1)
        origin = (
            S3Origin(reading, stall_timeout_s=5.0)
            if manner == "s3"
            else HttpOrigin(reading, stall_timeout_s=5.0, hops=Hops("test"))
        )

        async def ask_everything() -> None:
            catalog = PlainCatalog(origin, memory=None, disk=Disk(), settings=CatalogSettings(), metrics=Metrics())
            with suppress(OriginError):
                await origin.head(NAME)
            with suppress(OriginError):
                await origin.get(NAME, limit_bytes=100)
            with suppress(OriginError):
                async for found in origin.list(""):
                    _ = found.modified.timestamp()
                    evil.twist = lambda ask: EvilOrigin.page(ask, []) if ask.kind == "list" else None
            with suppress(WaystationError):
                await catalog.resolve(NAME)
            await catalog.close()

        @few
        @example(small=Answer("HTTP/1.1 200 X\r\nLast-Modified: 1E20\r\nContent-Length: 0"), page=LISTED)
        @given(small=answers(f"{'0' * 64}\n".encode()), page=answers(listed))
        @example(
            small=Answer(
                'HTTP/1.1 200 X\r\nLast-Modified: Thu, 01 Jan 0001 00:00:00 +1400\r\nETag: "e"\r\nContent-Length: 0'
            ),
            page=LISTED,
        )
        def tried(small: Answer, page: Answer) -> None:
            def twist(ask: Ask) -> Answer:
                answer = page if ask.kind == "list" else small
                return Answer(answer.head, b"" if ask.method == "HEAD" else answer.body, then="close")

            evil.twist = twist
            runner.run(ask_everything())

        tried()
        runner.run(origin.close())


# --- what lies in the store -------------------------------------------------------------------------


RECORD = {
    "target": NAME,
    "digest": "0" * 64,
    "size_bytes": 1,
    "modified": "2026-01-01T00:00:00+00:00",
    "key": NAME,
    "etag": "e",
    "pieces": {"root": "0" * 64, "piece_length": 16384},
    "seen": 1.0,
    "vouched_by": ".sha256",
    "withdrawn": False,
    "changed_to": None,
}
HEADER = b'{"waystation": "catalog", "format": 1}\n'


@given(records=st.lists(twisted(RECORD) | anything, max_size=3), tail=st.binary(max_size=20))
@example(records=[RECORD | {"seen": 10**400}], tail=b"")
@example(records=[RECORD | {"modified": "0001-01-01T00:00:00+14:00"}], tail=b"")
@few
def test_a_memory_of_any_content_is_read_as_far_as_it_can_be(records: list[Any], tail: bytes) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "catalog.json"
        lines = b"".join(json.dumps(each).encode() + b"\n" for each in (RECORD, *records))
        file.write_bytes(HEADER + lines + tail)
        assert NAME in Journal(file, disk=Disk()).read() or any(
            isinstance(each, dict) and each.get("forgotten") is True for each in records
        )


@given(
    pins=damaged(json.dumps({"format": 1, "digests": ["0" * 64]}).encode())
    | anything.map(lambda one: json.dumps(one).encode()),
    pieces_file=damaged(PIECES_FILE or b""),
    body=st.binary(max_size=100),
    name=st.sampled_from(
        [digest_of(BODY), "0" * 63, "x", ".hidden", digest_of(BODY).upper(), f"{digest_of(BODY)}.pieces.pieces"]
    ),
    places=st.lists(st.sampled_from(["spool", "quarantine", "blobs/sha256/ab", "blobs/sha256/zz", "pins"]), max_size=3),
)
@few
def test_a_store_of_any_content_starts_and_serves_none_of_it(
    pins: bytes, pieces_file: bytes, body: bytes, name: str, places: list[str]
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "store"
        metrics = Metrics()

        async def started() -> None:
            store = DiskStore(StoreSettings(path=path, min_free=0), disk=Disk(), metrics=metrics)
            await store.recover()
            assert store.open(digest_of(BODY)) is None
            await store.close()

        asyncio.run(started())
        (path / "pins" / "operator.json").write_bytes(pins)
        (path / "catalog.json").write_bytes(pins)
        for place in places:
            (path / place).mkdir(parents=True, exist_ok=True)
            (path / place / name).write_bytes(body)
            (path / place / f"{name}.pieces").write_bytes(pieces_file)
        asyncio.run(started())
        asyncio.run(started())


# --- configuration ----------------------------------------------------------------------------------


SECTIONS = {
    name: sorted(type(getattr(Settings(), name)).model_fields)
    for name in ("origin", "catalog", "mirror", "store", "transfer", "takeover", "admin", "log")
}
values = st.one_of(
    odd_texts,
    odd_numbers,
    st.booleans(),
    st.lists(odd_texts, max_size=2),
    st.sampled_from(
        [
            "9" * 400 + ".5GiB",
            "9" * 400,
            "s3://[",
            "http://[::1",
            "http://a:99999",
            "https://x:b",
            "s3://a/../b",
            "file://x/y",
            "http://h/%zz",
            "1e3",
            "-5s",
            "\u0661\u0662s",
            "http://127.0.0.1:",
            "http://[::1%25lo]:1",
            "http://h\x00:1",
            "\x00",
        ]
    ),
)
keys = st.sampled_from([(section, key) for section, known in SECTIONS.items() for key in known])


def toml(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value.encode("utf-8", "replace").decode())
    return json.dumps(value).replace("Infinity", "inf").replace("NaN", "nan")


def loaded(body: bytes) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "waystation.toml"
        file.write_bytes(body)
        try:
            load_settings(file, environment={})
        except ConfigError as error:
            assert str(file) in str(error) or "waystation.toml" in str(error)  # noqa: PT017 - which one is the point
            assert "\n" not in str(error)  # noqa: PT017


@given(keys, values)
@example(("store", "max_size"), "9" * 400 + ".5GiB")
@example(("mirror", "idle_timeout"), "9" * 400)
def test_any_value_of_any_key_is_taken_or_is_an_error_in_one_line(key: tuple[str, str], value: object) -> None:
    loaded(f"[{key[0]}]\n{key[1]} = {toml(value)}\n".encode())


@given(damaged(EXAMPLE.read_bytes()) | st.binary(max_size=60))
@example(b"a = " + b"[" * 100_000)
@example(b"a = " + b"{a = " * 50_000)
def test_any_file_is_a_configuration_or_an_error_in_one_line(body: bytes) -> None:
    loaded(body)


@given(
    flag=st.sampled_from(["", "a", "origin.url=", "store.max_size=", "mirror.listen=", "prefetch="]),
    value=odd_texts | st.just("[" * 50_000),
)
def test_any_flag_and_variable_is_taken_or_is_an_error(flag: str, value: str) -> None:
    with suppress(ConfigError):
        load_settings(EXAMPLE, environment={}, flags=(flag + value,))
    with suppress(ConfigError):
        load_settings(EXAMPLE, environment={"WAYSTATION_ORIGIN__URL": value, "WAYSTATION_" + flag.upper(): value})


# --- calls to the admin socket ----------------------------------------------------------------------


VERBS = [
    "/status",
    "/explain",
    "/catalog/forget",
    "/store/ls",
    "/store/verify",
    "/store/pin",
    "/store/unpin",
    "/store/evict",
    "/x",
    "/",
]


def test_any_call_is_answered_and_none_is_a_fault(tmp_path: Path) -> None:
    with TemporaryDirectory() as short, asyncio.Runner() as runner:
        socket = Path(short) / "a.sock"

        async def call(raw: bytes) -> bytes:
            reader, writer = await asyncio.open_unix_connection(str(socket))
            writer.write(raw)
            answer = await asyncio.wait_for(reader.read(), 20)
            writer.transport.abort()
            return answer

        admin = running_admin(tmp_path, socket)
        _, world = runner.run(admin.__aenter__())
        world.put(NAME, BODY)

        @settings(few, max_examples=100)
        @given(
            verb=st.sampled_from(VERBS),
            method=st.sampled_from(["POST", "POST", "POST", "GET", "PUT"]),
            call_with=anything
            | st.dictionaries(st.sampled_from(["name", "target", "sha256", "level"]), odd_texts, max_size=2),
            raw=st.none() | st.binary(max_size=60),
        )
        def tried(verb: str, method: str, call_with: object, raw: bytes | None) -> None:
            body = json.dumps(call_with).encode() if raw is None else raw
            head = f"{method} {verb} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
            answer = runner.run(call(head.encode() + body))
            code = int(answer.split(b" ")[1])
            assert code in (200, 400, 404, 405, 409), answer
            assert b"Traceback" not in answer
            if code != 200:
                assert json.loads(answer.partition(b"\r\n\r\n")[2])["reason"]

        try:
            tried()
            for garbage in (
                b"\x00" * 10,
                b"GET /\r\n\r\n",
                b"POST /status HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            ):
                answer = runner.run(call(garbage))
                assert answer.split(b" ")[1] in (b"400", b"404"), answer
                assert b"Traceback" not in answer
        finally:
            runner.run(admin.__aexit__(None, None, None))
