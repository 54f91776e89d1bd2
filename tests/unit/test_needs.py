"""`doctor --for`: each word of what a target needs is looked for on this machine."""

from __future__ import annotations

import os
import platform
import subprocess
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from waystation.config import Settings
from waystation.doctor import Level, examine_needs, worst
from waystation.model import TargetPath
from waystation.pieces import PiecesLine, TreeHasher, dump_pieces

if TYPE_CHECKING:
    from pathlib import Path

    from waystation.doctor import Finding

HERE = platform.machine()
BODY = b"#!/bin/sh\n"


async def examine(folder: Path, *needs: str, arch: str = HERE) -> list[Finding]:
    target = TargetPath(f"app/app-0.1.0-{arch}")
    hasher = TreeHasher(len(BODY))
    hasher.update(BODY)
    tree, layer = hasher.finish()
    (folder / "app").mkdir(exist_ok=True)
    line = PiecesLine(sha256(BODY).hexdigest(), len(BODY), tree, needs)
    (folder / f"{target}.pieces").write_bytes(dump_pieces(line, layer))
    settings = Settings.model_validate({"origin": {"url": folder.as_uri()}})
    return await examine_needs(settings, target)


@pytest.mark.parametrize("word", ["sh", "/bin/sh", "libc.so.6", "glibc>=2.17"])
async def test_what_this_machine_has_is_found(tmp_path: Path, word: str) -> None:
    machine, need = await examine(tmp_path, word)
    assert machine.level is need.level is Level.OK
    assert need.says.startswith(f"it needs {word}: ")


@pytest.mark.parametrize("word", ["no-such-program", "/no/such/file", "libnowhere.so.9", "glibc>=99.0", "", "../sh"])
async def test_what_this_machine_has_not_is_a_failure_with_advice(tmp_path: Path, word: str) -> None:
    _, need = await examine(tmp_path, word)
    assert need.level is Level.FAILURE
    assert need.advice


@pytest.fixture
def allows_user_namespaces() -> bool:
    user = 65534 if os.geteuid() == 0 else None
    return subprocess.run(["unshare", "-Urm", "true"], check=False, capture_output=True, user=user).returncode == 0


async def test_user_namespaces_are_tried(tmp_path: Path, allows_user_namespaces: bool) -> None:
    _, need = await examine(tmp_path, "userns")
    assert need.level is (Level.OK if allows_user_namespaces else Level.FAILURE)


async def test_another_machines_target_is_a_failure(tmp_path: Path) -> None:
    assert worst(await examine(tmp_path, arch="s390x")) is Level.FAILURE
    assert worst(await examine(tmp_path, arch="unknown")) is Level.WARNING


async def test_a_target_that_says_nothing_of_itself_is_a_failure(tmp_path: Path) -> None:
    settings = Settings.model_validate({"origin": {"url": tmp_path.as_uri()}})
    [finding] = await examine_needs(settings, TargetPath("app/app-0.1.0-x86_64"))
    assert finding.level is Level.FAILURE
    assert "app/app-0.1.0-x86_64.pieces" in finding.says
