from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from waystation.cli.output import (
    align,
    bar,
    human_age,
    human_duration,
    print_json,
    print_table,
    print_text,
    tabulated,
)
from waystation.cli.screen import status_screen
from waystation.cli.watching import frame
from waystation.config import human_size
from waystation.demo import laid_out
from waystation.model import printable
from waystation.status import (
    CatalogStatus,
    FlightStatus,
    MissingTarget,
    OriginStatus,
    PrefetchStatus,
    Refusal,
    ReloadStatus,
    StationStatus,
    StoreStatus,
)

NOW = 1_800_000_000.0
MIB = 1024**2
STATION = StationStatus(
    version="0.1.0",
    pid=4242,
    started=NOW - 7500,
    ready=True,
    not_ready_because=(),
    log_level="info",
    listen=("http://127.0.0.1:4650",),
    origin=OriginStatus(url="s3://artifacts", up=True, circuit="closed", retry_after_s=None, last_error=None),
    catalog=CatalogStatus(mode="plain", targets=12, last_refresh=NOW - 4),
    store=StoreStatus(
        path="/var/lib/waystation",
        blobs=9,
        stored_bytes=5 * 1024 * MIB,
        limit_bytes=20 * 1024 * MIB,
        free_bytes=100 * 1024 * MIB,
        min_free_bytes=1024 * MIB,
        pinned_bytes=0,
        suspect_blobs=0,
        quarantined_blobs=0,
        oldest_idle_s=90061.0,
    ),
    flights=(),
    prefetch=PrefetchStatus(
        subscriptions=0,
        wanted=0,
        ready=0,
        missing=(),
        lag_s=0.0,
        paused_because=None,
        last_poll=None,
        poll_trouble=None,
        notifications="off",
    ),
    refusals=(),
)


def shown(station: StationStatus, width: int | None = None) -> str:
    """The screen of a status that came through the socket as JSON."""
    received: dict[str, Any] = json.loads(json.dumps(asdict(station)))
    return status_screen(received, now=NOW, width=width)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (300_000_000, "286.1 MiB"),
        (20 * 1024**3, "20.0 GiB"),
        (5 * 1024**6, "5120.0 PiB"),
    ],
)
def test_sizes_are_written_for_people(size_bytes: int, text: str) -> None:
    assert human_size(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0.0 s"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.99, "10 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (3605, "1 h"),
        (90061, "1 d 1 h"),
    ],
)
def test_durations_are_written_in_their_two_largest_units(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def test_what_never_was_has_no_age() -> None:
    assert human_age(None, NOW) == "never"
    assert human_age(NOW - 61, NOW) == "1 min 1 s ago"


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert align([("a", "b"), ("longer", "c")]) == "a       b\nlonger  c"


@pytest.mark.parametrize(
    ("part", "whole", "drawn"),
    [(0, 10, "[....]"), (5, 10, "[##..]"), (10, 10, "[####]"), (20, 10, "[####]"), (0, 0, "[....]")],
)
def test_a_bar_is_never_longer_than_its_frame(part: int, whole: int, drawn: str) -> None:
    assert bar(part, whole, width=4) == drawn


@pytest.mark.parametrize("evil", ["\x1b[2J", "\x9b2J", "a\nb", "a\tb", "\u202e", "\x00"])
def test_nothing_that_steers_a_terminal_is_printed(evil: str) -> None:
    assert printable(evil).isprintable()
    assert printable("zoë ß") == "zoë ß"


def test_a_pipe_gets_tabs_and_no_heading(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("one", "two"), [("a", "b"), ("c\td", "e")])
    print_text([("label", "value")])
    assert capsys.readouterr().out == "a\tb\nc\\td\te\nlabel\tvalue\n"


@pytest.mark.parametrize(
    ("note", "lines"),
    [
        (f'    checksum = "sha256:{"0123456789abcdef" * 4}"', ['          checksum = "sha256:0123456789ab…"']),
        ("", [""]),
        ("one " * 20, [" " * 6 + "one " * 12 + "one", " " * 8 + "one " * 6 + "one"]),
        ("see http://127.0.0.1:4650/artifacts/app/app-0.1.0-x86_64", None),
    ],
)
def test_what_the_demo_says_below_a_step_fits_the_terminal_and_is_whole_in_a_pipe(
    note: str, lines: list[str] | None
) -> None:
    assert laid_out(note, 59) == (lines or [f"      {note[:3]}", f"        {note[4:]}"])
    assert laid_out(note, None) == [f"      {note}".rstrip()]


def test_a_terminal_gets_aligned_columns_under_a_heading(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    print_table(("one", "two"), [("aaaa", "b")])
    print_table(("one", "two"), [])
    assert capsys.readouterr().out == "ONE   TWO\naaaa  b\n"


def test_json_keeps_every_character(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": "zoë\x1b"})
    assert json.loads(capsys.readouterr().out) == {"name": "zoë\x1b"}


@pytest.mark.parametrize(
    ("reload", "lines"),
    [
        (ReloadStatus(NOW - 5, (), (), None), ["reload      5.0 s ago: nothing new"]),
        (
            ReloadStatus(NOW - 5, ("log.level", "prefetch"), ("store.path",), None),
            ["reload      5.0 s ago: log.level, prefetch", "            needs a restart: store.path"],
        ),
        (
            ReloadStatus(NOW - 5, (), (), "f.toml: unknown key 'x'"),
            ["reload      REFUSED 5.0 s ago, all stayed as it was: f.toml: unknown key 'x'"],
        ),
    ],
)
def test_the_status_says_what_came_of_a_reload(reload: ReloadStatus, lines: list[str]) -> None:
    assert shown(replace(STATION, reload=reload)).splitlines()[-len(lines) :] == lines


def test_the_status_of_a_station_at_rest_fits_one_block() -> None:
    assert shown(STATION).splitlines() == (
        [
            "waystation  0.1.0, ready, up 2 h 5 min, pid 4242",
            "mirror      http://127.0.0.1:4650",
            "origin      s3://artifacts, up",
            "catalog     plain, 12 targets known, last answer 4.0 s ago",
            "store       [#####...............] 5.0 GiB of 20.0 GiB, /var/lib/waystation",
            "            9 blobs, 0 B pinned, least recently used 1 d 1 h ago",
            "            100.0 GiB free, 1.0 GiB kept free",
        ]
    )


def test_the_status_says_what_is_wrong_with_the_origin() -> None:
    away = OriginStatus(
        url="s3://artifacts", up=False, circuit="open", retry_after_s=12.0, last_error="connection refused"
    )
    text = shown(replace(STATION, origin=away, ready=False, not_ready_because=("the origin is away",)))
    assert text.splitlines()[:2] == [
        "waystation  0.1.0, NOT READY, up 2 h 5 min, pid 4242",
        "            the origin is away",
    ]
    assert "s3://artifacts, down, circuit open, asked again in 12 s, connection refused" in text


def test_the_status_lists_flights_and_the_last_refusals() -> None:
    flight = FlightStatus(
        target="app/app-1-x86_64",
        digest="a" * 64,
        state="fetching",
        size_bytes=4 * MIB,
        held_bytes=MIB,
        riders=1,
        started=NOW - 2,
    )
    refusals = [
        Refusal(
            at=NOW - 60 - n, target=f"app/x-{n}\x1b", code=404, reason="unknown_target", detail="no such key", advice=""
        )
        for n in range(12)
    ]
    text = shown(replace(STATION, flights=(flight,), refusals=tuple(refusals)))
    assert "app/app-1-x86_64  [#####...............] 1.0 MiB of 4.0 MiB  fetching  1 client  2.0 s" in text
    assert "1 min ago" in text
    assert "404  unknown_target  app/x-0\\x1b" in text
    assert "app/x-9" in text
    assert "app/x-10" not in text
    assert all(line.isprintable() for line in text.splitlines())


def test_a_store_without_a_limit_or_use_is_shown_too() -> None:
    empty = replace(STATION.store, blobs=0, stored_bytes=0, oldest_idle_s=None)
    text = shown(replace(STATION, store=empty, catalog=replace(STATION.catalog, last_refresh=None)))
    assert "last answer never" in text
    assert "0 blobs, 0 B pinned\n" in text


WANTING = PrefetchStatus(
    subscriptions=2,
    wanted=9,
    ready=7,
    missing=(
        MissingTarget("app/app-2-x86_64", "fetching", reason=None, detail=None),
        MissingTarget("app/app-3-x86_64", "failed", reason="no_checksum", detail="nothing vouches for it"),
    ),
    lag_s=184.0,
    paused_because="less than min_free is free",
    last_poll=NOW - 22,
    poll_trouble=None,
    notifications="off",
)


def busy() -> StationStatus:
    """A station with something on every part of its screen."""
    flights = [
        FlightStatus(f"app-{n}/app-{n}-1.2.3-x86_64", "a" * 64, "fetching", 300 * MIB, 110 * MIB, 20, NOW - 12)
        for n in range(2)
    ]
    why = "the whole has another sha256 than the catalog says, and nothing of it was stored " * 2
    refusal = Refusal(NOW - 4000, "app/app-9-x86_64", 502, "digest_mismatch", why, "")
    return replace(STATION, flights=tuple(flights), refusals=(refusal,), prefetch=WANTING)


@pytest.mark.parametrize("width", [80, 120])
def test_the_status_fits_the_terminal_and_loses_nothing(width: int) -> None:
    lines = shown(busy(), width).splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    assert text.count("the whole has another sha256 than the catalog says, and nothing of it was stored") == 2
    for told in ("app-0/app-0-1.2.3-x86_64", "20 clients", "7 of 9 wanted are here, 2 missing for 3 min 4 s"):
        assert told in text
    assert ("36% of 300.0 MiB" if width == 80 else "110.0 MiB of 300.0 MiB") in text


def test_the_status_says_what_is_wanted_and_missing_and_why() -> None:
    text = shown(replace(busy(), store=replace(STATION.store, suspect_blobs=3)))
    assert "least recently used 1 d 1 h ago, 3 suspect\n" in text
    assert "paused: less than min_free is free" in text
    assert "wanted and missing\n  fetching  app/app-2-x86_64\n  failed    app/app-3-x86_64\n" in text
    assert "    no_checksum: nothing vouches for it\n" in text


def test_a_frame_is_drawn_over_the_one_before_and_stays_within_the_terminal() -> None:
    assert frame("one\nlonger\nthree", 4, 2) == "\x1b[H\x1b[Kone\n\x1b[Klong\x1b[J"


def test_what_is_too_wide_for_the_terminal_goes_below_its_name() -> None:
    rows = [("TARGET", "SIZE", "STATE"), ("app/app-1", "1 B", "stored"), ("x", "10.0 MiB", "suspect")]
    assert tabulated(rows, 29) == [
        "TARGET     SIZE      STATE",
        "app/app-1  1 B       stored",
        "x          10.0 MiB  suspect",
    ]
    assert tabulated(rows, 27) == [
        "TARGET",
        "  SIZE      STATE",
        "app/app-1",
        "  1 B       stored",
        "x",
        "  10.0 MiB  suspect",
    ]
