"""The mirror, asked by clients that know nothing of it: curl, and aria2 with eight ranges at once."""

from __future__ import annotations

import asyncio
import re
import shutil
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from mirrors import TIMEOUT_S, World, running_mirror
from stores import random_bytes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

MIB = 1024 * 1024
NAME = "app/app-1-x86_64"
DATA = random_bytes(24 * MIB + 4321)
DIGEST = sha256(DATA).hexdigest()

needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
needs_aria2 = pytest.mark.skipif(not shutil.which("aria2c"), reason="aria2c is not installed")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running_mirror(tmp_path) as running:
        running.put(NAME, DATA, pieces=True)
        yield running


async def run(*command: str, code: int = 0) -> str:
    """Run a client to its end and return what it printed."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await asyncio.wait_for(process.communicate(), 3 * TIMEOUT_S)
    assert process.returncode == code, out.decode(errors="replace")
    return out.decode(errors="replace")


def url(world: World, path: str = f"/artifacts/{NAME}") -> str:
    return f"http://127.0.0.1:{world.port}{path}"


async def curl(world: World, *options: str, path: str = f"/artifacts/{NAME}", code: int = 0) -> str:
    return await run("curl", "--silent", "--show-error", *options, url(world, path), code=code)


@needs_curl
async def test_curl_resumes_a_download(world: World, tmp_path: Path) -> None:
    file = tmp_path / "got"
    file.write_bytes(DATA[: 10 * MIB])
    assert await curl(world, "--continue-at", "-", "-o", str(file), "-w", "%{http_code}") == "206"
    assert file.read_bytes() == DATA
    assert await curl(world, "--continue-at", "-", "-o", str(file), "-w", "%{http_code}") == "416"


@needs_curl
@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("0-0", DATA[:1]),
        ("0-65535", DATA[:65536]),
        (f"{MIB - 1}-{MIB}", DATA[MIB - 1 : MIB + 1]),
        (f"{len(DATA) - 1}-", DATA[-1:]),
        ("-1000", DATA[-1000:]),
        (f"1000-{len(DATA) * 9}", DATA[1000:]),
    ],
)
async def test_curl_gets_exactly_the_range(world: World, tmp_path: Path, wanted: str, expected: bytes) -> None:
    file = tmp_path / "got"
    assert await curl(world, "--range", wanted, "-o", str(file), "-w", "%{http_code}") == "206"
    assert file.read_bytes() == expected


@needs_curl
async def test_curl_sees_the_same_headers_with_head_and_get(world: World) -> None:
    head = await curl(world, "--head")
    got = await curl(world, "--dump-header", "-", "-o", "/dev/null")
    assert without_date(head) == without_date(got)
    assert f'ETag: "{DIGEST}"' in head
    assert f"Content-Length: {len(DATA)}" in head


def without_date(headers: str) -> str:
    return re.sub(r"Date: .*", "", headers)


@needs_curl
async def test_curl_compares_the_etag(world: World, tmp_path: Path) -> None:
    etag, file = tmp_path / "etag", tmp_path / "got"
    first = ("--etag-save", str(etag), "-o", str(file), "-w", "%{http_code}")
    assert await curl(world, *first) == "200"
    file.unlink()
    assert await curl(world, "--etag-compare", str(etag), "-o", str(file), "-w", "%{http_code}") == "304"
    etag.write_text('"other"')
    assert await curl(world, "--etag-compare", str(etag), "-o", str(file), "-w", "%{http_code}") == "200"


@needs_curl
async def test_curl_keeps_one_connection_for_many_requests(world: World) -> None:
    out = await run(
        "curl",
        "--silent",
        "-w",
        "%{num_connects} ",
        *[part for _ in range(3) for part in ("-o", "/dev/null", url(world))],
    )
    assert out.split() == ["1", "0", "0"]


@needs_curl
async def test_curl_fails_on_a_refusal_and_shows_the_reason(world: World) -> None:
    out = await curl(world, "--fail-with-body", path="/artifacts/app/absent", code=22)
    assert "unknown_target: " in out


@needs_curl
async def test_curl_uploads_nothing(world: World, tmp_path: Path) -> None:
    file = tmp_path / "up"
    file.write_bytes(bytes(5 * MIB))
    out = await curl(world, "-T", str(file), "-w", "%{http_code}", path="/bundles/live/app/new")
    assert out.endswith("405")


@needs_aria2
@pytest.mark.parametrize("warm", [False, True])
async def test_aria2_assembles_eight_parallel_ranges(world: World, tmp_path: Path, warm: bool) -> None:
    if warm:
        await world.ask(f"/artifacts/{NAME}")
        await world.until_stored(DIGEST)
    options = (
        "--split=8 --max-connection-per-server=8 --min-split-size=1M --allow-overwrite=true --file-allocation=none"
    )
    checked = f"--checksum=sha-256={DIGEST}"
    await run("aria2c", "--no-conf", *options.split(), checked, f"--dir={tmp_path}", "--out=got", url(world))
    assert (tmp_path / "got").read_bytes() == DATA
    await world.until_counted(code="206")
    assert world.counted(route="artifacts", code="206") >= 7
    assert world.metrics.registry.get_sample_value("waystation_origin_bytes_total") <= 1.1 * len(DATA)  # type: ignore[operator]
