"""What `explain` says is what a client then gets: every error that a request can meet, met for real, then explained."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from admins import running_admin
from asked import AskedOrigin
from waystation import errors
from waystation.catalog.plain import PlainCatalog
from waystation.cli.explanation import explanation_rows
from waystation.config import MirrorSettings
from waystation.errors import WaystationError
from waystation.mirror.replies import FAULT, MEANINGS
from waystation.model import Digest, Span, TargetPath

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from mirrors import World
    from waystation.admin.client import AdminClient

NAME = "app/app-1-x86_64"
PATH = f"/artifacts/{NAME}"
DATA = bytes(range(256)) * 300
NOW = 1_800_000_000.0
MIB = 1024 * 1024

Told = dict[str, Any]


@dataclass
class Scene:
    """A daemon, what was done to it, and what it says of a target."""

    admin: AdminClient
    world: World
    origin: AskedOrigin

    async def explain(self, asked: str = NAME) -> Told:
        return await self.admin.explain(asked)

    async def get(self, *fields: str, path: str = PATH, method: str = "GET") -> int:
        """Ask as a client, and wait until it is over."""
        before = self.world.counted()
        answer = await self.world.ask(path, *fields, method=method)
        while self.world.counted() == before:
            await self.world.until_counted()
        return answer.code


# --- what each error needs to happen ----------------------------------------------------------------


async def bad_target(scene: Scene) -> Told:
    return await scene.explain("../etc/passwd")


async def unknown(scene: Scene) -> Told:
    return await scene.explain()


async def no_checksum(scene: Scene) -> Told:
    scene.world.put(NAME, DATA, checksum=False)
    return await scene.explain()


async def inconsistent(scene: Scene) -> Told:
    scene.world.put(NAME, DATA, pieces=True)
    (scene.world.root / f"{NAME}.sha256").write_text("0" * 64)
    return await scene.explain()


async def malformed(scene: Scene) -> Told:
    scene.world.put(NAME, DATA)
    (scene.world.root / f"{NAME}.sha256").write_text("rubbish")
    return await scene.explain()


async def changed(scene: Scene) -> Told:
    scene.world.put(NAME, DATA)
    await scene.get()
    scene.world.put(NAME, DATA[1:])
    return await scene.explain()


def fault(error: errors.OriginError) -> Callable[[Scene], Awaitable[Told]]:
    """The origin answers so whatever it is asked."""

    async def scenario(scene: Scene) -> Told:
        scene.world.put(NAME, DATA)
        scene.origin.fault = error
        return await scene.explain()

    return scenario


async def no_room(scene: Scene) -> Told:
    scene.world.put(NAME, DATA * 20)
    return await scene.explain()


def while_fetching(call: str, error: errors.OriginError) -> Callable[[Scene], Awaitable[Told]]:
    """The origin says so once the bytes are asked for."""

    async def scenario(scene: Scene) -> Told:
        scene.world.put(NAME, DATA, pieces=True)
        await scene.world.parts.admission.admit(NAME)
        catalog = scene.world.parts.catalog
        assert isinstance(catalog, PlainCatalog)
        catalog._just_read.take(f"{NAME}.pieces")  # as after a while
        scene.origin.faults[call] = error
        assert await scene.get() >= 400
        scene.origin.faults.clear()
        return await scene.explain()

    return scenario


async def digest_mismatch(scene: Scene) -> Told:
    scene.world.put(NAME, DATA)
    (scene.world.root / NAME).write_bytes(DATA[::-1])
    await scene.get()
    return await scene.explain()


async def piece_mismatch(scene: Scene) -> Told:
    scene.world.put(NAME, DATA, pieces=True)
    (scene.world.root / NAME).write_bytes(b"!" + DATA[1:])
    await scene.get()
    return await scene.explain()


async def layer_mismatch(scene: Scene) -> Told:
    scene.world.put(NAME, DATA, pieces=True)
    file = scene.world.root / f"{NAME}.pieces"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    await scene.get()
    return await scene.explain()


async def store_unusable(scene: Scene) -> Told:
    scene.world.put(NAME, DATA)
    spools = scene.world.root.parent / "store" / "spool"
    spools.rmdir()
    spools.touch()
    await scene.get()
    spools.unlink()
    spools.mkdir()
    return await scene.explain()


async def rotten(scene: Scene) -> Told:
    data = DATA * 12
    digest = scene.world.put(NAME, data)
    await scene.get()
    file = await scene.world.until_stored(digest)
    lease = scene.world.parts.store.open(Digest(digest))  # so that the file is not looked at when it is opened next
    assert lease
    with lease:
        os.truncate(file, len(data) // 2)
        await scene.get()
    await scene.world.until_counted(reason="rotten")
    return await scene.explain()


def asked_so(*fields: str, path: str = PATH) -> Callable[[Scene], Awaitable[Told]]:
    """The target is fine, and a client asked for something else of it."""

    async def scenario(scene: Scene) -> Told:
        scene.world.put(NAME, DATA)
        assert await scene.get(*fields, path=path) >= 400
        return await scene.explain()

    return scenario


def copied(asked: str) -> Callable[[Scene], Awaitable[Told]]:
    """What a person copied from a job is no way to a target."""

    async def scenario(scene: Scene) -> Told:
        return await scene.explain(asked)

    return scenario


ANSWERED: dict[type[WaystationError], Callable[[Scene], Awaitable[Told]]] = {
    errors.BadTarget: bad_target,
    errors.UnknownTarget: unknown,
    errors.NoChecksum: no_checksum,
    errors.Inconsistent: inconsistent,
    errors.MalformedChecksum: malformed,
    errors.TargetChanged: changed,
    errors.Denied: fault(errors.Denied("the origin says 403")),
    errors.ClockRefused: fault(errors.ClockRefused("this machine's clock is off")),
    errors.NoCredentials: fault(errors.NoCredentials("there are none")),
    errors.TooManyQuestions: fault(errors.TooManyQuestions("too much is asked")),
    errors.Unreachable: fault(errors.Unreachable("connection refused")),
    errors.Unvouched: fault(errors.Unvouched("the hub has it, and nobody vouches for it")),
    errors.Redirected: fault(errors.Redirected("the origin redirects to another host")),
    errors.OriginLoop: fault(errors.OriginLoop("the hub says that it leads in a circle")),
    errors.NoRoom: no_room,
    errors.MalformedRequest: copied("/artifacts//app"),
    errors.DirectoryAsked: copied(f"http://127.0.0.1:4650{PATH}?terraform-get=1"),
    errors.NotAnArtifact: copied("/other-bucket/key"),
    errors.Misdirected: copied(f"http://elsewhere.example{PATH}"),
}
"""A client gets this now, for certain."""

AS_THE_LAST_TIME: dict[type[WaystationError], Callable[[Scene], Awaitable[Told]]] = {
    errors.DigestMismatch: digest_mismatch,
    errors.PieceMismatch: piece_mismatch,
    errors.LayerMismatch: layer_mismatch,
    errors.RevisionChanged: while_fetching(f"source {NAME}", errors.RevisionChanged("it was replaced")),
    errors.TooLarge: while_fetching(f"source {NAME}", errors.TooLarge("more than 1 MiB")),
    errors.RejectedByHub: while_fetching(f"source {NAME}", errors.RejectedByHub("the hub says 502")),
    errors.Unavailable: while_fetching(f"source {NAME}", errors.Unavailable("the hub says 503")),
    errors.StoreUnusable: store_unusable,
}
"""Only a fetch would tell, and the last one ended so."""

IN_THE_PAST: dict[type[WaystationError], Callable[[Scene], Awaitable[Told]]] = {
    errors.Short: while_fetching(f"source {NAME}", errors.Short("it broke off")),
    errors.Missing: while_fetching(f"source {NAME}", errors.Missing("it went away")),
    errors.RottenBlob: rotten,
    errors.NoPieces: asked_so(path=f"{PATH}.pieces"),
    errors.PreconditionFailed: asked_so('If-Match: "other"'),
    errors.RangeNotSatisfiable: asked_so(f"Range: bytes={len(DATA)}-"),
}
"""A client would be served now; an earlier request was not, and why is still told."""

NAMELESS = {errors.MethodNotAllowed, errors.HeaderTooLarge, errors.SlowRequest}
"""Refused before it is known what is asked for; `waystation status` lists them."""

ELSEWHERE = {
    # their subclasses are met
    errors.RequestError,
    errors.CatalogError,
    errors.OriginError,
    errors.StoreError,
    errors.TransferError,
    # only who starts a daemon, lists or watches keys, or follows the store meets these
    errors.StoreLocked,
    errors.StoreFormat,
    errors.ChangesMissed,
    errors.NotListable,
    errors.NotWatchable,
    # only another machine's address holds too many; tests/netns/peers_of_a_hub.py has it
    errors.TooManyConnections,
    # only a port that speaks TLS answers so, and no target is asked for there
    errors.PlainHttp,
    # the mirror's own table says of these that no request can lead to them
    *(kind for kind, meaning in MEANINGS.items() if meaning.code == FAULT.code),
}


def all_errors(kind: type[WaystationError] = WaystationError) -> set[type[WaystationError]]:
    return {
        sub
        for child in kind.__subclasses__()
        for sub in {child, *all_errors(child)}
        if sub.__module__ == errors.__name__
    }


def test_no_error_that_a_request_can_meet_is_forgotten() -> None:
    told = [*ANSWERED, *AS_THE_LAST_TIME, *IN_THE_PAST, *NAMELESS, *ELSEWHERE]
    assert set(told) == all_errors()
    assert len(told) == len(all_errors())


async def explained(tmp_path: Path, scenario: Callable[[Scene], Awaitable[Told]]) -> tuple[Told, str, int]:
    """Play a scene; return the explanation, its words, and the code that a client gets then."""
    async with running_admin(tmp_path, tmp_path / "a.sock", max_size=1024**2) as (admin, world):
        resilient = world.parts.origin
        origin = AskedOrigin(resilient._way.inner)
        resilient._way.inner = origin
        scene = Scene(admin, world, origin)
        told = await scenario(scene)
        code = await scene.get()
    return told, "\n".join(" ".join(row) for row in explanation_rows(told, now=NOW)), code


@pytest.mark.parametrize("kind", ANSWERED, ids=lambda kind: kind.__name__)
async def test_what_a_client_gets_now_is_told_with_code_reason_and_advice(
    tmp_path: Path, kind: type[WaystationError]
) -> None:
    told, text, code = await explained(tmp_path, ANSWERED[kind])
    answer = told["answer"]
    assert code == answer["code"] or told["names"][0]["name"] != NAME
    assert (answer["code"], answer["reason"], answer["certain"]) == (MEANINGS[kind].code, kind.reason, True)
    assert answer["advice"]
    assert f"now {answer['code']} {kind.reason}: " in text
    assert f"to do {answer['advice']}" in text


@pytest.mark.parametrize("kind", AS_THE_LAST_TIME, ids=lambda kind: kind.__name__)
async def test_what_only_a_fetch_can_meet_is_told_of_the_last_one(tmp_path: Path, kind: type[WaystationError]) -> None:
    told, text, _ = await explained(tmp_path, AS_THE_LAST_TIME[kind])
    answer, last = told["answer"], told["here"]["refusals"][0]
    assert (answer["reason"], answer["certain"], last["reason"]) == (kind.reason, False, kind.reason)
    assert answer["code"] in (MEANINGS[kind].code, 200)  # 200: cut off in mid-body
    assert f"{kind.reason}, as the last time; only fetching it would tell" in text
    assert f"to do {kind.advice}" in text


@pytest.mark.parametrize("kind", IN_THE_PAST, ids=lambda kind: kind.__name__)
async def test_what_concerned_one_request_is_told_and_the_target_is_fine(
    tmp_path: Path, kind: type[WaystationError]
) -> None:
    told, text, code = await explained(tmp_path, IN_THE_PAST[kind])
    assert (told["answer"]["code"], told["answer"]["reason"], code) == (200, "ok", 200)
    last = told["here"]["refusals"][0]
    assert last["code"] in (MEANINGS[kind].code, 200)  # 200: cut off in mid-body
    assert (last["reason"], last["advice"]) == (kind.reason, kind.advice)
    assert f"{last['code']} {kind.reason}" in text


async def test_what_is_refused_before_its_name_is_read_stands_in_the_status(tmp_path: Path) -> None:
    mirror = MirrorSettings(listen=("http://127.0.0.1:0",), header_timeout=0.2)
    async with running_admin(tmp_path, tmp_path / "a.sock", mirror=mirror) as (admin, world):
        await world.ask(PATH, method="POST")
        await world.say(b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n")
        await world.say(b"GET / HTTP/1.1\r\n")
        for kind in NAMELESS:
            await world.until_counted(reason=kind.reason)
        refusals = (await admin.status())["refusals"]
    assert {refusal["reason"] for refusal in refusals} == {kind.reason for kind in NAMELESS}
    assert all(refusal["advice"] for refusal in refusals)


# --- what is half here ---------------------------------------------------------------------------


async def test_what_an_earlier_transfer_left_is_told(tmp_path: Path) -> None:
    async with running_admin(tmp_path, tmp_path / "a.sock") as (admin, world):
        world.put(NAME, DATA * 90, pieces=True)
        artifact = await world.parts.admission.admit(NAME)
        pieces = (world.root / f"{NAME}.pieces").read_bytes()
        (await world.parts.store.reserve(artifact, pieces)).close(keep=True)
        told = await admin.explain(NAME)
    assert (told["here"]["blob"], told["here"]["partial"]) == (None, True)
    assert "a part is kept from an earlier transfer" in "\n".join(text for _, text in explanation_rows(told, now=NOW))


async def test_what_finds_no_room_is_passed_through_as_long_as_others_leave_memory_for_it(tmp_path: Path) -> None:
    limits = {"max_size": MIB, "pass_through_memory": 3 * MIB}
    async with running_admin(tmp_path, tmp_path / "a.sock", **limits) as (admin, world):
        data = DATA * 28
        world.put(NAME, data, pieces=True)
        told = await admin.explain(NAME)
        assert (told["answer"]["code"], told["answer"]["cache"]) == (200, "passed")
        text = "\n".join(text for _, text in explanation_rows(told, now=NOW))
        assert "passing it through needs 2.1 MiB of memory: 0 B of 3.0 MiB are taken" in text
        artifact = await world.parts.admission.admit(NAME)
        async with world.parts.transfers.open(artifact) as other:
            await anext(other.runs(Span(0, len(data))))
            async with asyncio.timeout(20):
                # All of it is here, and its client still reads.
                while world.parts.transfers.flights()[0].state != "done":
                    await asyncio.sleep(0)
            told, code = await admin.explain(NAME), (await world.ask(PATH)).code
    assert (told["answer"]["code"], told["answer"]["reason"], code) == (507, "no_room", 507)
    assert f"of the {3 * MIB} that are set aside {len(data)} are in use" in told["answer"]["message"]


# --- what goes well ------------------------------------------------------------------------------


async def test_what_is_stored_is_a_hit_and_explaining_it_is_no_use_of_it(tmp_path: Path) -> None:
    async with running_admin(tmp_path, tmp_path / "a.sock") as (admin, world):
        digest = Digest(world.put(NAME, DATA, pieces=True))
        await world.ask(PATH)
        await world.until_stored(digest)
        await world.parts.store.pin("subscriptions", frozenset({digest}))
        before = world.parts.store.blob(digest)
        told = await admin.explain(NAME)
        assert world.parts.store.blob(digest) == before
    assert (told["answer"]["code"], told["answer"]["cache"], told["answer"]["certain"]) == (200, "hit", True)
    assert (told["catalog"]["vouched_by"], told["catalog"]["pieces"]) == (".pieces and .sha256", 5)
    assert told["here"]["pinned_by"] == ["subscriptions"]
    rows = dict(explanation_rows(told, now=before.verified + 60 if before else 0))
    assert rows["stored"].startswith("yes, verified 1 min ago")
    assert "pinned by subscriptions" in rows["stored"]
    assert rows["to do"] == "nothing"


async def test_what_was_never_asked_for_is_a_miss_and_stays_unknown(tmp_path: Path) -> None:
    async with running_admin(tmp_path, tmp_path / "a.sock") as (admin, world):
        world.put(NAME, DATA)
        told = await admin.explain(NAME)
        assert world.parts.catalog.recall(TargetPath(NAME)) is None
        assert world.parts.catalog.status().targets == 0
    assert (told["answer"]["code"], told["answer"]["cache"]) == (200, "miss")
    assert told["catalog"]["known_since"] is None
    assert told["here"]["room"] == {"need_bytes": len(DATA), "evicts": 0, "short_bytes": 0}


async def test_what_stands_in_for_a_name_is_told_with_the_reason(tmp_path: Path) -> None:
    async with running_admin(tmp_path, tmp_path / "a.sock") as (admin, world):
        world.put(NAME, DATA)
        told = await admin.explain("app/app-1-amd64")
    assert [name["name"] for name in told["names"]] == ["app/app-1-amd64", NAME]
    assert told["names"][0]["refusal"]["reason"] == "unknown_target"
    assert told["answer"]["code"] == 200


@pytest.mark.parametrize(
    "asked",
    [
        PATH,
        f"http://127.0.0.1:4650{PATH}?archive=false",
        f"https://origin.example/bundles/live/{NAME}",
        f"{PATH}.sha256",
    ],
)
async def test_a_path_or_url_that_a_job_used_leads_to_its_target(tmp_path: Path, asked: str) -> None:
    async with running_admin(tmp_path, tmp_path / "a.sock") as (admin, world):
        world.put(NAME, DATA)
        told = await admin.explain(asked)
    assert (told["names"][0]["name"], told["answer"]["code"]) == (NAME, 200)


async def test_with_pin_first_it_says_what_would_be_read_and_reads_nothing(tmp_path: Path) -> None:
    async with running_admin(tmp_path, tmp_path / "a.sock", missing_checksum="pin-first") as (admin, world):
        world.put(NAME, DATA, checksum=False)
        resilient = world.parts.origin
        origin = resilient._way.inner = AskedOrigin(resilient._way.inner)
        told = await admin.explain(NAME)
        assert origin.asked[f"source {NAME}"] == 0
    assert (told["unread_bytes"], told["answer"]["code"], told["answer"]["cache"]) == (len(DATA), 200, "miss")
    assert "reads nothing" in "".join(text for _, text in explanation_rows(told, now=NOW))


async def test_what_is_stored_needs_no_origin(tmp_path: Path) -> None:
    async with running_admin(tmp_path, tmp_path / "a.sock") as (admin, world):
        digest = world.put(NAME, DATA)
        await world.ask(PATH)
        await world.until_stored(digest)
        resilient = world.parts.origin
        resilient._way.inner = origin = AskedOrigin(resilient._way.inner)
        origin.fault = errors.Unreachable("connection refused")
        told = await admin.explain(NAME)
        assert (await world.ask(PATH)).code == 200
    assert (told["answer"]["code"], told["answer"]["cache"]) == (200, "hit")
    assert told["catalog"]["not_refreshed"]["reason"] == "origin_unreachable"


async def test_what_was_refused_of_another_target_is_not_told(tmp_path: Path) -> None:
    async with running_admin(tmp_path, tmp_path / "a.sock") as (admin, world):
        world.put(NAME, DATA)
        (world.root / NAME).write_bytes(DATA[::-1])
        await world.ask(PATH)
        await world.until_counted(code="502")
        world.put("app/app-2-x86_64", DATA)
        told = await admin.explain("app/app-2-x86_64")
    assert (told["here"]["refusals"], told["answer"]["code"]) == ([], 200)
