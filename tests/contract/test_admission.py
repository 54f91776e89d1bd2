"""From what someone asks for to an artifact, or to a refusal."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from asked import AskedOrigin
from waystation.admission import Admission, kernel_arch_spelling
from waystation.catalog.plain import PlainCatalog
from waystation.config import CatalogSettings
from waystation.errors import (
    BadTarget,
    Denied,
    Inconsistent,
    NoChecksum,
    TargetChanged,
    UnknownTarget,
    Unreachable,
)
from waystation.model import TargetPath
from waystation.origin.opening import open_origin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from peers.places import Place
    from waystation.disk import Disk
    from waystation.telemetry.metrics import Metrics

KERNEL, GO = "app/app-0.1.0-x86_64", "app/app-0.1.0-amd64"
BODY, OTHER_BODY = b"the bytes\n" * 100, b"other bytes\n" * 100


class Bench:
    def __init__(self, origin: AskedOrigin, metrics: Metrics, disk: Disk) -> None:
        self.now = 1000.0
        self.origin = origin
        self.catalog = PlainCatalog(
            origin,
            memory=None,
            disk=disk,
            settings=CatalogSettings(refresh=30.0),
            metrics=metrics,
            wall=lambda: self.now,
            monotonic=lambda: self.now,
            deadline_s=0.1,
        )
        self.admission = Admission(self.catalog, refresh_s=30.0, monotonic=lambda: self.now, deadline_s=0.1)


@pytest.fixture
async def bench(place: Place, metrics: Metrics, disk: Disk) -> AsyncIterator[Bench]:
    bench = Bench(AskedOrigin(open_origin(place.settings, metrics)), metrics, disk)
    yield bench
    bench.origin.speak()
    await bench.catalog.close()
    await bench.origin.close()


def digest_of(body: bytes) -> str:
    return sha256(body).hexdigest()


def publish(place: Place, target: str, body: bytes = BODY) -> None:
    place.put(target, body)
    place.put(f"{target}.sha256", f"{digest_of(body)}\n".encode())


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        (GO, KERNEL),
        ("app/app-0.1.0-arm64", "app/app-0.1.0-aarch64"),
        ("app-amd64", "app-x86_64"),
        (KERNEL, None),
        ("app/amd64", None),
        ("app/app-amd64.tar.gz", None),
        ("app-amd64/app", None),
    ],
)
def test_only_an_ending_that_is_gos_word_for_an_arch_has_a_second_spelling(name: str, spelled: str | None) -> None:
    assert kernel_arch_spelling(TargetPath(name)) == spelled


@pytest.mark.parametrize("name", ["", "../etc/passwd", "app//a", "app/a.sha256", "metadata/1.root.json", "a\nb"])
async def test_a_name_that_no_target_can_have_is_refused_before_anything_is_asked(bench: Bench, name: str) -> None:
    with pytest.raises(BadTarget):
        await bench.admission.admit(name)
    assert bench.origin.total() == 0


async def test_a_target_is_admitted_under_its_own_name(bench: Bench, place: Place) -> None:
    publish(place, KERNEL)
    assert (await bench.admission.admit(KERNEL)).target == KERNEL


async def test_gos_word_for_the_arch_leads_to_the_target_with_the_kernels(bench: Bench, place: Place) -> None:
    publish(place, KERNEL)
    assert (await bench.admission.admit(GO)).target == KERNEL


async def test_a_target_that_has_the_exact_name_wins(bench: Bench, place: Place) -> None:
    publish(place, KERNEL)
    publish(place, GO, OTHER_BODY)
    assert (await bench.admission.admit(GO)).digest == digest_of(OTHER_BODY)


async def test_the_exact_name_is_never_passed_over_when_it_is_refused(bench: Bench, place: Place) -> None:
    publish(place, KERNEL)
    place.put(GO, OTHER_BODY)
    with pytest.raises(NoChecksum):
        await bench.admission.admit(GO)


async def test_where_neither_spelling_exists_the_refusal_names_what_was_asked_for(bench: Bench) -> None:
    with pytest.raises(UnknownTarget, match=GO):
        await bench.admission.admit(GO)


async def test_where_the_other_spelling_is_refused_the_refusal_says_why(bench: Bench, place: Place) -> None:
    place.put(KERNEL, BODY)
    with pytest.raises(NoChecksum, match=KERNEL):
        await bench.admission.admit(GO)


async def test_an_alias_is_as_fresh_as_its_target_and_no_request_is_made_meanwhile(bench: Bench, place: Place) -> None:
    publish(place, KERNEL)
    await bench.admission.admit(GO)
    bench.origin.asked.clear()
    bench.now += 29
    assert (await bench.admission.admit(GO)).target == KERNEL
    assert bench.origin.total() == 0
    publish(place, GO, OTHER_BODY)
    bench.now += 2
    assert (await bench.admission.admit(GO)).target == GO
    place.remove(GO)
    bench.now += 31
    assert (await bench.admission.admit(GO)).target == KERNEL


async def test_who_wants_it_fresh_gets_the_exact_name_as_soon_as_it_exists(bench: Bench, place: Place) -> None:
    publish(place, KERNEL)
    await bench.admission.admit(GO)
    publish(place, GO, OTHER_BODY)
    assert (await bench.admission.admit(GO, fresh=True)).target == GO


@pytest.mark.parametrize("fault", [Unreachable("away"), Denied("denied")])
async def test_an_alias_of_what_is_known_is_admitted_while_the_origin_gives_no_answer(
    bench: Bench, place: Place, fault: Unreachable | Denied
) -> None:
    publish(place, KERNEL)
    await bench.admission.admit(KERNEL)
    bench.origin.fault = fault
    assert (await bench.admission.admit(GO)).target == KERNEL
    with pytest.raises(type(fault)):
        await bench.admission.admit("app/never-seen-amd64")


async def test_a_name_that_could_not_be_asked_for_is_asked_for_once_the_origin_is_back(
    bench: Bench, place: Place
) -> None:
    publish(place, KERNEL)
    publish(place, GO, OTHER_BODY)
    await bench.admission.admit(KERNEL)
    bench.origin.fault = Unreachable("away")
    assert (await bench.admission.admit(GO)).target == KERNEL
    bench.origin.fault = None
    assert (await bench.admission.admit(GO)).target == GO


async def test_an_alias_that_was_used_before_does_not_wait_long_for_a_silent_origin(bench: Bench, place: Place) -> None:
    publish(place, KERNEL)
    await bench.admission.admit(GO)
    bench.now += 31
    bench.origin.hush()
    async with asyncio.timeout(5):
        assert (await bench.admission.admit(GO)).target == KERNEL
    bench.origin.asked.clear()
    assert (await bench.admission.admit(GO)).target == KERNEL
    assert bench.origin.total() == 0


async def test_a_digest_leads_to_a_known_target_that_has_it(bench: Bench, place: Place) -> None:
    publish(place, KERNEL)
    with pytest.raises(UnknownTarget, match=f"no known target has sha256 {digest_of(BODY)}"):
        await bench.admission.admit_digest(digest_of(BODY))
    await bench.admission.admit(KERNEL)
    assert (await bench.admission.admit_digest(digest_of(BODY).upper())).target == KERNEL


@pytest.mark.parametrize("text", ["", "abc", "z" * 64, "../" * 21 + "x", "\n" * 64])
async def test_what_is_no_digest_is_refused_in_printable_words(bench: Bench, text: str) -> None:
    with pytest.raises(BadTarget) as refusal:
        await bench.admission.admit_digest(text)
    assert str(refusal.value).isprintable()


async def test_a_digest_leads_on_to_the_next_target_that_still_has_it(bench: Bench, place: Place) -> None:
    for target in (KERNEL, "app/copy"):
        publish(place, target)
        await bench.admission.admit(target)
    place.remove(KERNEL)
    bench.now += 31
    assert (await bench.admission.admit_digest(digest_of(BODY))).target == "app/copy"
    place.remove("app/copy")
    bench.now += 31
    with pytest.raises(UnknownTarget):
        await bench.admission.admit_digest(digest_of(BODY))


async def test_a_digest_whose_target_changed_is_refused_as_changed(bench: Bench, place: Place) -> None:
    publish(place, KERNEL)
    await bench.admission.admit(KERNEL)
    publish(place, KERNEL, OTHER_BODY)
    bench.now += 31
    with pytest.raises(TargetChanged):
        await bench.admission.admit_digest(digest_of(BODY))


async def test_a_digest_whose_target_is_inconsistent_is_refused_as_such(bench: Bench, place: Place) -> None:
    publish(place, KERNEL)
    await bench.admission.admit(KERNEL)
    place.put(KERNEL, OTHER_BODY)
    place.put(
        f"{KERNEL}.pieces",
        b'{"format":1,"sha256":"%s","size_bytes":1,"piece_length":16384,"root":"%s"}\n'
        % (digest_of(BODY).encode(), b"0" * 64),
    )
    bench.now += 31
    with pytest.raises(Inconsistent):
        await bench.admission.admit_digest(digest_of(BODY))
