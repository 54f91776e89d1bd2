"""The store against a dictionary, under any order of what flights, clients, pins and restarts do to it.

A state machine can't be async, so each has one asyncio.Runner.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from stores import BootDisk, artifact_of, digest_of, killed, random_bytes
from waystation.config import StoreSettings
from waystation.errors import NoRoom, NotEvictable, NotStored
from waystation.pieces import piece_count
from waystation.store.disk_store import DiskStore
from waystation.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any, TypeVar

    from waystation.model import Digest
    from waystation.store.disk_spool import DiskSpool
    from waystation.store.stored_blob import StoredBlob

    T = TypeVar("T")

QUOTA = 200_000
BODIES = [
    random_bytes(size, seed) for seed, size in enumerate((0, 1, 16_384, 40_000, 40_001, 70_000, 120_000, 199_000))
]
BODY_OF = {digest_of(data): data for data in BODIES}
OWNERS = ("me", "prefetch")

numbers = st.integers(0, len(BODIES) - 1)


class StoreMachine(RuleBasedStateMachine):
    spools: Bundle[DiskSpool] = Bundle("spools")
    leases: Bundle[StoredBlob] = Bundle("leases")

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="store-model-"))
        self.runner = asyncio.Runner()
        self.now = 1_000_000_000.0
        self.disk = BootDisk()
        self.stored: set[Digest] = set()
        """What was committed and not said to be gone: what must be served."""
        self.suspect: set[Digest] = set()
        """What is here and must not be served before it was checked."""
        self.borrowed: set[DiskSpool] = set()
        """Spools that are a suspect blob in its place, unchanged so far."""
        self.flying: dict[DiskSpool, tuple[bytes, bool]] = {}
        self.committed: set[DiskSpool] = set()
        self.held: dict[StoredBlob, bytes] = {}
        self.pins: dict[str, frozenset[Digest]] = {}
        self.start()

    def start(self) -> None:
        self.store = DiskStore(
            StoreSettings(path=self.folder, max_size=QUOTA, min_free=0),
            disk=self.disk,
            metrics=Metrics(),
            wall=lambda: self.now,
        )
        self.run(self.store.recover())
        self.listener = self.store.changes()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def hear(self) -> None:
        """Take in what the store says was stored and evicted."""

        async def pending() -> None:
            while self.listener._pending:  # type: ignore[attr-defined]
                change = await anext(self.listener)
                if change.kind == "stored":
                    self.stored.add(change.digest)
                else:
                    assert change.kind == "distrusted" or change.digest not in self.protected()
                    self.stored.discard(change.digest)
                self.suspect.discard(change.digest)

        self.run(pending())

    def protected(self) -> set[Digest]:
        """What may not be evicted now."""
        leased = {digest_of(data) for data in self.held.values()}
        sealed = {digest_of(self.flying[spool][0]) for spool in self.committed}
        return leased | sealed | frozenset().union(*self.pins.values())

    # --- flights -------------------------------------------------------------------------------

    @rule(target=spools, number=numbers, pieces=st.booleans())
    def reserve(self, number: int, pieces: bool) -> Any:
        data = BODIES[number]
        artifact, pieces_file = artifact_of(data, pieces=pieces)
        busy = digest_of(data) in self.stored or any(other == data for other, _ in self.flying.values())
        try:
            spool = self.run(self.store.reserve(artifact, pieces_file))
        except NoRoom:
            assert not busy
            return multiple()
        except ValueError:
            assert busy
            return multiple()
        assert not busy
        assert os.fstat(spool.fd).st_size == len(data)
        self.flying[spool] = (data, pieces_file is not None)
        self.hear()
        if digest_of(data) in self.suspect:
            self.suspect.remove(digest_of(data))
            self.borrowed.add(spool)
            assert spool.suspect == set(range(piece_count(len(data), artifact.unit_bytes)))
        return spool

    @rule(spool=spools, start=st.floats(0, 1), stop=st.floats(0, 1))
    def write(self, spool: DiskSpool, start: float, stop: float) -> None:
        if spool in self.committed or spool not in self.flying:
            return
        data, _ = self.flying[spool]
        first, last = sorted((int(start * len(data)), int(stop * len(data))))
        self.borrowed.discard(spool)
        spool.write(first, memoryview(data)[first:last])

    @rule(spool=spools)
    def commit(self, spool: DiskSpool) -> None:
        if spool in self.committed or spool not in self.flying:
            return
        data, _ = self.flying[spool]
        if spool in self.borrowed:  # checked, and found right
            self.borrowed.remove(spool)
        else:
            spool.write(0, memoryview(data))
        self.run(spool.commit())
        self.committed.add(spool)
        assert os.pread(spool.fd, len(data), 0) == data

    @rule(spool=consumes(spools), keep=st.booleans())
    def close(self, spool: DiskSpool, keep: bool) -> None:
        async def close() -> None:
            spool.close(keep=keep)

        self.run(close())
        self.committed.discard(spool)
        if spool in self.borrowed:
            self.borrowed.remove(spool)
            self.suspect.add(digest_of(self.flying[spool][0]))
        self.flying.pop(spool, None)

    # --- clients -------------------------------------------------------------------------------

    @rule(target=leases, number=numbers)
    def open(self, number: int) -> Any:
        data = BODIES[number]

        async def open_() -> StoredBlob | None:
            return self.store.open(digest_of(data))

        blob = self.run(open_())
        assert (blob is not None) == (digest_of(data) in self.stored)
        if blob is None:
            return multiple()
        self.held[blob] = data
        return blob

    @rule(blob=consumes(leases))
    def close_lease(self, blob: StoredBlob) -> None:
        async def close() -> None:
            blob.close()

        self.run(close())
        self.held.pop(blob, None)

    @rule(number=numbers)
    def ask_for_pieces(self, number: int) -> None:
        data = BODIES[number]
        body = self.run(self.store.pieces_file(digest_of(data)))
        if body is not None:
            assert body == artifact_of(data)[1]

    # --- the operator, the clock, the end ---------------------------------------------------------

    @rule(owner=st.sampled_from(OWNERS), pinned=st.sets(numbers, max_size=2))
    def pin(self, owner: str, pinned: set[int]) -> None:
        self.pins[owner] = frozenset(digest_of(BODIES[number]) for number in pinned)
        self.run(self.store.pin(owner, self.pins[owner]))

    @rule(seconds=st.floats(-1e6, 1e6))
    def jump(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def tidy(self) -> None:
        self.run(self.store.tidy())
        assert self.bytes_on_disk() == self.store.status().stored_bytes

    @rule(number=numbers)
    def distrust(self, number: int) -> None:
        self.run(self.store.distrust(digest_of(BODIES[number]), "the model says so"))
        self.hear()
        assert digest_of(BODIES[number]) not in self.stored | self.suspect

    @rule(number=numbers)
    def verify(self, number: int) -> None:
        digest = digest_of(BODIES[number])
        try:
            assert self.run(self.store.verify(digest))
        except NotStored:
            assert digest not in self.stored | self.suspect
        else:
            assert digest in self.stored | self.suspect
        self.hear()
        assert digest not in self.suspect

    @rule(number=numbers, place=st.floats(0, 0.999), in_pieces=st.booleans())
    def rot_and_verify(self, number: int, place: float, in_pieces: bool) -> None:
        """Flip a bit where nobody reads: the next check finds it."""
        digest = digest_of(BODIES[number])
        in_use = {digest_of(data) for data in (*self.held.values(), *(data for data, _ in self.flying.values()))}
        path = self.folder / "blobs/sha256" / digest[:2] / (f"{digest}.pieces" if in_pieces else digest)
        if digest in in_use or digest not in self.stored | self.suspect or not path.exists() or not path.stat().st_size:
            return
        body = bytearray(path.read_bytes())
        at = int(place * len(body))
        if in_pieces and body[at : at + 1] in b"sh":
            return  # what the artifact needs is vouched for by nothing else
        body[at] ^= 1
        path.write_bytes(body)
        assert self.run(self.store.verify(digest)) == in_pieces
        self.hear()
        assert (digest in self.stored) == in_pieces

    @rule(number=numbers)
    def evict(self, number: int) -> None:
        digest = digest_of(BODIES[number])
        arriving = any(digest_of(data) == digest for data, _ in self.flying.values())
        try:
            self.run(self.store.evict(digest))
        except NotStored:
            assert not arriving
            assert digest not in self.stored | self.suspect
        except NotEvictable:
            assert arriving or digest in self.protected()
        else:
            assert not arriving
            assert digest not in self.protected()
        self.hear()

    @rule(sleeps=st.integers(1, 40))
    def scrub(self, sleeps: int) -> None:
        left = sleeps

        async def sleep(seconds: float) -> None:
            nonlocal left
            left -= 1
            self.now += seconds
            if not left:
                raise asyncio.CancelledError

        with suppress(asyncio.CancelledError):
            self.run(self.store.scrub(sleep=sleep))
        self.hear()
        if sleeps > 2 * len(BODIES):
            assert not self.suspect

    @rule(keep=st.booleans(), end=st.sampled_from(("stopped", "killed", "power cut")))
    def restart(self, keep: bool, end: str) -> None:
        """End leases and flights, then the store, as the station does; or all at once, as a kill does."""
        self.hear()
        order = None
        if end == "stopped":
            self.run(self.end(keep=keep))
            order = [held.digest for held in self.store._index]
            self.run(self.store.close())
        else:
            self.run(killed(self.store))
            self.run(self.end(keep=keep))
        self.hear()
        if end == "power cut":
            self.disk.boot += " and another"
            self.suspect |= self.stored
            self.stored.clear()
        self.start()
        assert order is None or [held.digest for held in self.store._index] == order
        assert {blob.digest for blob in self.store.blobs() if blob.suspect} == self.suspect
        assert {blob.digest for blob in self.store.blobs()} == self.suspect | self.stored

    # --- what always holds ------------------------------------------------------------------------

    @invariant()
    def what_is_stored_is_right(self) -> None:
        self.hear()
        for digest in self.stored | self.suspect:
            # Without the access time, in which the store remembers the last use: this look is none.
            fd = os.open(self.folder / "blobs/sha256" / digest[:2] / digest, os.O_RDONLY | os.O_NOATIME)
            assert os.pread(fd, QUOTA, 0) == BODY_OF[digest]
            os.close(fd)
        for blob, data in self.held.items():
            assert blob.size_bytes == len(data)
            assert os.pread(blob.fd, len(data), 0) == data
        assert self.store.status().blobs == len(self.stored) + len(self.suspect)
        assert self.store.status().suspect_blobs == len(self.suspect) + len(self.borrowed)

    @invariant()
    def the_quota_holds_with_every_byte_counted(self) -> None:
        # Less may be on disk than is counted: the housekeeper may be removing something right now.
        assert self.bytes_on_disk() <= self.store.status().stored_bytes <= QUOTA

    def bytes_on_disk(self) -> int:
        total_bytes = 0
        for name in ("blobs", "spool", "quarantine"):
            for folder, _, files in os.walk(self.folder / name):
                for file in files:
                    with suppress(FileNotFoundError):
                        total_bytes += os.stat(os.path.join(folder, file)).st_size
        return total_bytes

    async def end(self, *, keep: bool) -> None:
        for blob in self.held:
            blob.close()
        for spool in self.flying:
            spool.close(keep=keep)
        self.suspect |= {digest_of(self.flying[spool][0]) for spool in self.borrowed}
        self.borrowed.clear()
        self.held.clear()
        self.flying.clear()
        self.committed.clear()

    def teardown(self) -> None:
        if not hasattr(self, "runner"):
            return
        self.run(self.end(keep=True))
        self.run(self.store.close())
        open_files = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_open(fd)]
        assert not [path for path in open_files if path.startswith(str(self.folder))]
        self.runner.close()
        shutil.rmtree(self.folder)


def _is_open(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=60, stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow])
