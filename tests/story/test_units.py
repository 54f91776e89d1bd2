"""The units, as systemd's own tools judge them, and the sandbox against what the daemon really does."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

from certificates import issue
from peers.processes import free_port, wait_until
from peers.station import Station
from waystation.takeover.ruleset import release, removal

if TYPE_CHECKING:
    from collections.abc import Iterator

UNITS = Path(__file__).resolve().parents[2] / "systemd"
SERVICE, SOCKET = UNITS / "waystation.service", UNITS / "waystation.socket"
PROGRAMS = re.compile("/opt/waystation/bin/waystation")
HIGHEST_EXPOSURE = 1.5
UNIT_NAMES = ("waystation.service", "waystation.socket", "waystation-https.socket", "nomad.service")
VERSIONS = ("1.0.0", "1.1.0")

needs_systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd-analyze is not on PATH (Debian: systemd)"
)
needs_strace = pytest.mark.skipif(
    not shutil.which("strace") or not shutil.which("systemd-analyze"),
    reason="strace or systemd-analyze is not on PATH (Debian: strace, systemd)",
)


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, command)], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units in a folder, as on a machine that has the program and a Nomad."""
    for unit in (*UNITS.glob("waystation*.*"), UNITS / "nomad.service.d/waystation.conf"):
        copy = tmp_path / unit.relative_to(UNITS)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(PROGRAMS.sub("/bin/true", unit.read_text()))
    (tmp_path / "nomad.service").write_text("[Service]\nExecStart=/bin/true\n")
    return tmp_path


@needs_systemd
@pytest.mark.parametrize(
    "unit", ["waystation.service", "waystation.socket", "waystation-https.socket", "nomad.service"]
)
def test_systemd_finds_nothing_wrong_with_a_unit(installed: Path, unit: str) -> None:
    verdict = run(
        "systemd-analyze", "verify", "--man=no", installed / unit, SYSTEMD_UNIT_PATH=f"{installed}:/lib/systemd/system"
    )
    assert (verdict.returncode, verdict.stderr) == (0, "")


@needs_systemd
def test_the_daemon_is_locked_up_well() -> None:
    verdict = run("systemd-analyze", "security", "--offline=true", "--no-pager", SERVICE)
    found = re.search(r"Overall exposure level for waystation.service: ([\d.]+)", verdict.stdout)
    assert found, verdict.stderr
    assert float(found[1]) <= HIGHEST_EXPOSURE, verdict.stdout


@needs_systemd
@pytest.mark.skipif(not shutil.which("systemd-sysusers"), reason="systemd-sysusers is not on PATH (Debian: systemd)")
def test_the_user_and_the_folders_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "etc/waystation").mkdir(parents=True)
    made = run("systemd-sysusers", f"--root={tmp_path}", UNITS / "sysusers.d/waystation.conf")
    assert made.returncode == 0, made.stderr
    assert "waystation:" in (tmp_path / "etc/passwd").read_text()
    if os.geteuid() == 0:
        made = run("systemd-tmpfiles", "--create", f"--root={tmp_path}", UNITS / "tmpfiles.d/waystation.conf")
        assert made.returncode == 0, made.stderr
        assert (tmp_path / "etc/waystation").stat().st_mode & 0o777 == 0o750


def test_the_nomad_drop_in_and_the_stop_can_t_keep_anything_from_going_on() -> None:
    """A takeover that fails must neither end the daemon nor keep Nomad from starting."""
    for unit in (SERVICE, UNITS / "nomad.service.d/waystation.conf"):
        lines = [line for line in unit.read_text().splitlines() if "takeover" in line or "nft" in line]
        commands = [line for line in lines if line.startswith("Exec")]
        assert commands
        assert all(re.match(r"Exec\w+=\+-", line) for line in commands)


def test_what_ends_the_takeover_without_the_program_is_what_the_program_would_do() -> None:
    ends = re.findall(
        r"^Exec(?:Stop|StopPost)=\+-/bin/sh -c \".*then nft '(.*)'; fi\"$", SERVICE.read_text(), re.MULTILINE
    )
    assert [end.split("; ") for end in ends] == [release().splitlines()] * 2
    (last,) = re.findall(r"^ExecStopPost=-/bin/sh -c \".*then nft (.*); fi\"$", SOCKET.read_text(), re.MULTILINE)
    assert last in removal().splitlines()


# --- the sandbox against the daemon ----------------------------------------------------------------


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    origin = tmp_path / "origin"
    (origin / "app").mkdir(parents=True)
    for version in VERSIONS:
        (origin / f"app/app-{version}-x86_64").write_bytes(os.urandom(300_000))
    config = {
        "origin": {"url": origin.as_uri()},
        "catalog": {"missing_checksum": "pin-first"},
        "store": {"scrub_interval": "100ms"},
        "mirror": issue(trustme.CA(), tmp_path / "tls", "127.0.0.1").settings,
    }
    station = Station(tmp_path / "station", config)
    station.config["mirror"]["listen"] = [station.url, f"https://127.0.0.1:{free_port()}"]
    with station.process:
        yield station


@needs_strace
def test_the_daemon_makes_no_system_call_that_its_sandbox_forbids(station: Station) -> None:
    old, new = (f"app/app-{version}-x86_64" for version in VERSIONS)
    station.start()
    assert station.artifact(old).code == 200
    station.stop()
    trace = station.folder / "trace"
    station.process.command[:0] = ["strace", "-f", "-qq", "-o", str(trace)]
    station.start()
    assert station.artifact(old).code == 200
    assert station.artifact(new).code == 200
    run(
        "curl",
        "--insecure",
        "--fail",
        "--output",
        "/dev/null",
        f"{station.config['mirror']['listen'][1]}/artifacts/{new}",
    )
    assert station.metric("waystation_tls_handshakes_total", outcome="ok") == 1
    wait_until(lambda: len(station.blobs()) == len(VERSIONS), "a stored blob")
    wait_until(lambda: "ioprio_set(" in trace.read_text(errors="replace"), "the scrub's thread")
    (traced,) = Path(f"/proc/{station.process.pid}/task/{station.process.pid}/children").read_text().split()
    os.kill(int(traced), signal.SIGTERM)
    station.process.wait()
    calls = trace.read_text(errors="replace")
    made = set(re.findall(r"^\d+ +([a-z_0-9]+)\(", calls, flags=re.MULTILINE))
    assert {"sendfile", "preadv2", "ioprio_set", "fsync", "ftruncate"} - made == set()
    assert made - allowed() == set()
    # MemoryDenyWriteExecute= (systemd.exec(5)): no memory is both, and none becomes executable later.
    assert not re.search(r"mmap\(.*PROT_WRITE\|PROT_EXEC|mprotect\(.*PROT_EXEC", calls)


def allowed() -> set[str]:
    """Expand the unit's SystemCallFilter= as systemd does."""
    calls: set[str] = set()
    for line in re.findall(r"^SystemCallFilter=(.*)$", SERVICE.read_text(), flags=re.MULTILINE):
        named: set[str] = set()
        for name in line.removeprefix("~").split():
            named |= expand(name)
        calls = calls - named if line.startswith("~") else calls | named
    return calls


def expand(name: str) -> set[str]:
    if not name.startswith("@"):
        return {name}
    lines = run("systemd-analyze", "--no-pager", "syscall-filter", name).stdout.splitlines()[1:]
    named = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    return set().union(*(expand(each) for each in named))
