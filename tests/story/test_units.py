"""The units, as systemd's own tools judge them; what they do is shown in `test_as_a_service`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from waystation.takeover.ruleset import release, removal

UNITS = Path(__file__).resolve().parents[2] / "systemd"
SERVICE, SOCKET = UNITS / "waystation.service", UNITS / "waystation.socket"
PROGRAMS = re.compile("/opt/waystation/bin/waystation")
HIGHEST_EXPOSURE = 1.5

needs_systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd-analyze is not on PATH (Debian: systemd)"
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
