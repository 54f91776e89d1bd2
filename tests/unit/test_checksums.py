from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from waystation.checksums import dump_checksum, parse_checksum
from waystation.errors import MalformedChecksum
from waystation.model import Digest

if TYPE_CHECKING:
    from pathlib import Path

A, B = Digest("a1" * 32), Digest("b2" * 32)


def test_what_is_written_is_what_sha256sum_checks(tmp_path: Path) -> None:
    (tmp_path / "app").write_bytes(b"hello")
    said = subprocess.run(["sha256sum", "app"], cwd=tmp_path, capture_output=True, check=True).stdout
    digest = parse_checksum(said, "app")
    assert dump_checksum(digest, "app") == said


@pytest.mark.parametrize(
    "body",
    [
        f"{A}  app\n",
        f"{A} *app\n",
        f"{A}\n",
        A,
        A.upper(),
        f"SHA256 (app) = {A}\n",
        f"SHA256(app)= {A}\n".replace("SHA256(", "SHA256 ("),
        f"\ufeff{A}  app\r\n",
        f"# made by hand\n\n{A}  dist/other-name\n",
        f"{A}  app\n{B}  app.old\n",
        f"{A}  x/app\n{A}  app\n",
    ],
)
def test_every_common_form_is_read(body: str) -> None:
    assert parse_checksum(body.encode(), "app") == A


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n",
        b"not a checksum",
        A[:-1].encode(),
        f"{A}0  app".encode(),
        f"{A}app".encode(),
        f"{A}  app\n{B}  app\n".encode(),
        f"{A}  one\n{B}  two\n".encode(),
        f"MD5 (app) = {A}".encode(),
        b"\xff\xfe" + A.encode(),
        b"<html>404</html>",
    ],
)
def test_anything_else_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedChecksum):
        parse_checksum(body, "app")
