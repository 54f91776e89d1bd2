"""What the doctor makes of what it sees: judgements, without a machine to look at."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from waystation.catalog.unvouched import count_unvouched
from waystation.config import OriginSettings, Settings, StoreSettings
from waystation.disk import Disk
from waystation.doctor import Finding, Level, worst
from waystation.doctor.certificate import CertificateSeen, MirrorCertificate
from waystation.doctor.clock import Clock, ClockSeen
from waystation.doctor.daemon import Daemon, DaemonHere
from waystation.doctor.disk import DiskSeen, DiskSpace, Filesystem, filesystem_of
from waystation.doctor.ports import Ports
from waystation.doctor.store import holders_of
from waystation.doctor.takeover import Takeover
from waystation.doctor.versions import Versions, VersionsSeen
from waystation.doctor.writes import Writes, WritesSeen
from waystation.errors import Denied, NoDaemon, NotAllowed
from waystation.mirror.certificate import Certificate
from waystation.origin.directory import DirectoryOrigin
from waystation.origin.write_directory import DirectoryWriter
from waystation.takeover.comparison import TakeoverSeen
from waystation.takeover.ruleset import Standing

if TYPE_CHECKING:
    from collections.abc import Iterable


GIB = 1024**3
MOUNTS = r"""22 28 0:21 / /proc rw,nosuid - proc proc rw
28 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
60 28 0:44 / /var/lib rw - nfs4 server:/export rw
61 60 8:17 / /var/lib/way\040station rw shared:9 master:3 - xfs /dev/sdb1 rw
62 28 0:50 / /srv rw - ext4 /dev/sdc1 rw
63 28 0:51 / /srv rw - tmpfs tmpfs rw
"""
LOCKS = """1: POSIX  ADVISORY  WRITE 11 08:01:500 0 EOF
2: FLOCK  ADVISORY  WRITE 22 08:01:500 0 EOF
2: -> FLOCK  ADVISORY  WRITE 33 08:01:500 0 EOF
3: FLOCK  ADVISORY  WRITE 44 08:02:500 0 EOF
4: FLOCK  ADVISORY  WRITE 55 08:01:501 0 EOF
"""


def levels(findings: Iterable[Finding]) -> list[str]:
    return [finding.level for finding in findings]


@pytest.mark.parametrize(
    ("path", "kind", "mounted_at"),
    [
        ("/", "ext4", "/"),
        ("/variable", "ext4", "/"),
        ("/var/lib", "nfs4", "/var/lib"),
        ("/var/lib/waystation", "nfs4", "/var/lib"),
        ("/var/lib/way station/store", "xfs", "/var/lib/way station"),
        ("/srv/store", "tmpfs", "/srv"),
    ],
)
def test_a_path_is_on_the_last_mount_of_the_nearest_mount_point(path: str, kind: str, mounted_at: str) -> None:
    assert filesystem_of(Path(path), MOUNTS) == Filesystem(kind, Path(mounted_at))
    assert filesystem_of(Path(path), "") is None


def test_only_who_holds_the_very_lock_is_its_holder_and_who_waits_is_not() -> None:
    assert holders_of(os.makedev(8, 1), 500, LOCKS) == [22]
    assert holders_of(os.makedev(8, 1), 502, LOCKS) == []


@pytest.mark.parametrize(
    ("ahead_s", "level", "words"),
    [
        (0.2, "ok", "within 1 s"),
        (-29.0, "ok", "within 29 s"),
        (30.0, "warning", "30 s ahead of"),
        (-899.0, "warning", "15 min behind"),
        (900.0, "failure", "15 min ahead of"),
        (-90000.0, "failure", "1500 min behind"),
    ],
)
def test_a_clock_may_be_half_a_minute_off_and_fails_where_s3_refuses(ahead_s: float, level: str, words: str) -> None:
    (finding,) = Clock(OriginSettings(url="s3://bucket"), wall=lambda: 0.0).judge(ClockSeen(ahead_s))
    assert finding.level == level
    assert words in finding.says


@pytest.mark.parametrize(
    ("kind", "level"),
    [("ext4", "ok"), ("overlay", "ok"), ("nfs4", "warning"), ("fuse.sshfs", "warning"), ("tmpfs", "warning")],
)
def test_a_filesystem_behind_a_network_or_in_memory_is_warned_of(kind: str, level: str) -> None:
    seen = DiskSeen(Filesystem(kind, Path("/")), 100 * GIB, 50 * GIB, 0)
    assert levels(DiskSpace(StoreSettings(path=Path("/store"))).judge(seen)) == [level, "ok"]


@pytest.mark.parametrize(
    ("free_gib", "stored_gib", "level"),
    [(21, 0, "ok"), (1, 20, "ok"), (20, 0, "warning"), (2, 0, "warning"), (1, 0, "failure"), (0, 0, "failure")],
)
def test_what_the_store_takes_already_counts_as_its_room(free_gib: int, stored_gib: int, level: str) -> None:
    settings = StoreSettings(path=Path("/store"), max_size=20 * GIB, min_free=GIB)
    seen = DiskSeen(Filesystem("ext4", Path("/")), 100 * GIB, free_gib * GIB, stored_gib * GIB)
    assert levels(DiskSpace(settings).judge(seen)) == ["ok", level]


def test_a_daemon_of_another_version_is_warned_of() -> None:
    seen = VersionsSeen("0.2.0", "3.12.0", "Linux 6.1")
    assert levels(Versions(DaemonHere(version="0.1.0")).judge(seen)) == ["warning"]
    assert levels(Versions(DaemonHere(version="0.2.0")).judge(seen)) == ["ok"]
    assert levels(Versions(DaemonHere()).judge(seen)) == ["ok"]


@pytest.mark.parametrize(
    ("here", "level"),
    [
        (DaemonHere(pid=1), "ok"),
        (DaemonHere(pid=1, not_ready_because=("the origin has not answered yet",)), "warning"),
        (DaemonHere(trouble=NoDaemon("no daemon runs here: there is no socket /s")), "ok"),
        (DaemonHere(trouble=NotAllowed("the socket /s is not open to this user")), "warning"),
    ],
)
def test_that_no_daemon_runs_is_no_fault_but_one_that_can_t_be_asked_or_is_not_ready_is(
    here: DaemonHere, level: str
) -> None:
    assert levels(Daemon(here).judge(here)) == [level]


@pytest.mark.parametrize(
    ("seen", "conditional", "single"),
    [
        (WritesSeen("one"), ["ok"], ["ok"]),
        (WritesSeen("several"), ["failure"], ["ok"]),
        (WritesSeen("unknown-to-it"), ["failure"], ["ok"]),
        (WritesSeen("none"), ["failure"], ["failure"]),
        (WritesSeen("one", body_is_right=False), ["failure"], ["failure"]),
        (WritesSeen(trouble=Denied("no")), ["failure"], ["failure"]),
        (WritesSeen("one", left="metadata/key"), ["ok", "warning"], ["ok", "warning"]),
    ],
)
def test_a_single_writer_needs_no_conditional_writes_but_an_origin_that_keeps_what_it_is_given(
    seen: WritesSeen, conditional: list[str], single: list[str]
) -> None:
    unused: Any = None
    for writes, expected in (("conditional", conditional), ("single", single)):
        settings = OriginSettings.model_validate({"url": "s3://bucket", "writes": writes})
        assert levels(Writes(settings, unused, unused).judge(seen)) == expected


def test_an_examination_is_as_bad_as_its_worst_finding() -> None:
    ok, warning, failure = (Finding("check", level, "says") for level in Level)
    assert worst([]) is worst([ok]) is Level.OK
    assert worst([ok, warning]) is Level.WARNING
    assert worst([warning, failure, ok]) is Level.FAILURE


async def test_counting_what_nothing_vouches_for_stops_where_it_is_told_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    for name in ("a", "b", "b.sha256", "c", "c.pieces", "d", "metadata/no-target", "gone.sha256"):
        (tmp_path / name).touch()
    origin = DirectoryOrigin(tmp_path, disk=Disk())
    whole = await count_unvouched(origin)
    assert (whole.targets, whole.unvouched, whole.example, whole.is_whole) == (4, 2, "a", True)
    assert not (await count_unvouched(origin, most_keys=3)).is_whole
    few = await count_unvouched(origin, most_heads=1)
    assert (few.unvouched, few.is_whole) == (1, False)


class LettingSecond(DirectoryWriter):
    """Lets its second create win, whatever is there."""

    creates = 0

    async def create(self, key: str, body: Path | bytes, **options: Any) -> str:
        self.creates += 1
        if self.creates == 2:
            return '"written over"'
        return await super().create(key, body, **options)


async def test_a_racer_that_was_let_win_and_then_written_over_has_won_too(tmp_path: Path) -> None:
    settings = OriginSettings(url=tmp_path.as_uri())
    origin = DirectoryOrigin(tmp_path, disk=Disk())
    writes = Writes(settings, origin, lambda _: LettingSecond(tmp_path, disk=Disk()))
    assert await writes.look() == WritesSeen("several")
    assert list(tmp_path.iterdir()) == []


def test_sockets_of_systemd_count_in_the_place_of_what_the_settings_say() -> None:
    here = DaemonHere(pid=7, listen=("http://127.0.0.1:4650", "https://127.0.0.1:4651"), sockets_of="systemd")
    told = list(Ports(("http://127.0.0.1:9",), here).judge([]))
    assert levels(told) == ["ok", "ok"]
    assert "https://127.0.0.1:4651 is held by systemd" in told[1].says


RULE = Standing(("192.0.2.9",), 443, 4651, "system.slice/nomad.service", 3)


@pytest.mark.parametrize(
    ("enabled", "seen", "level", "words"),
    [
        (False, TakeoverSeen(), "ok", "nothing is taken over"),
        (True, TakeoverSeen(), "warning", "is not taken over"),
        (True, TakeoverSeen(answered=False), "ok", "nothing is taken over"),
        (False, TakeoverSeen(unseen_because="nft refuses"), "ok", "not looked at"),
        (True, TakeoverSeen(unseen_because="nft refuses"), "warning", "not looked at"),
        (True, TakeoverSeen((RULE,)), "ok", "port 443 of 192.0.2.9 leads to the mirror's 4651"),
        (True, TakeoverSeen((RULE,), answered=False), "failure", "no daemon answers there"),
        (True, TakeoverSeen((RULE,), wrong=("the origin is elsewhere",)), "failure", "elsewhere"),
    ],
)
def test_a_redirect_is_judged_by_whether_somebody_answers_where_it_leads(
    enabled: bool, seen: TakeoverSeen, level: str, words: str
) -> None:
    settings = Settings.model_validate({"origin": {"url": "s3://bucket"}, "takeover": {"enabled": enabled}})
    (finding,) = Takeover(settings, DaemonHere()).judge(seen)
    assert finding.level == level
    assert words in finding.says
    assert bool(finding.advice) == (level != "ok")


def of_https(**mirror: object) -> Settings:
    return Settings.model_validate(
        {
            "origin": {"url": "s3://bucket", "endpoint_url": "https://my.local.domain"},
            "takeover": {"enabled": True},
            "mirror": mirror,
        }
    )


@pytest.mark.parametrize(
    ("names", "days", "told"),
    [
        (("my.local.domain",), 90, ["ok"]),
        (("*.local.domain",), 90, ["ok"]),
        (("other.local",), 90, ["warning", "ok"]),
        (("my.local.domain",), 13, ["warning", "ok"]),
    ],
)
def test_a_certificate_is_to_have_the_bucket_s_name_and_to_last(
    names: tuple[str, ...], days: int, told: list[str]
) -> None:
    seen = CertificateSeen(Certificate(names, "CN=x", 0, days * 86400.0))
    assert levels(MirrorCertificate(of_https(), wall=lambda: 0.0).judge(seen)) == told


def test_an_https_bucket_that_is_to_be_taken_over_needs_a_certificate() -> None:
    (finding,) = MirrorCertificate(of_https(), wall=lambda: 0.0).judge(CertificateSeen())
    assert finding.level == "failure"
