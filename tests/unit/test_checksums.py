"""Checksum files: every form that ``sha256sum`` and its relatives write, and what is none of them."""

from __future__ import annotations

import subprocess
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from waystation.catalog.checksums import MAX_CHECKSUM_BYTES, format_checksum, parse_checksum
from waystation.errors import MalformedChecksum
from waystation.model import Digest, TargetPath

if TYPE_CHECKING:
    from pathlib import Path

TARGET = TargetPath("app/app-0.1.0-x86_64")
FILE = "app-0.1.0-x86_64"
ONE, OTHER = "1" * 64, "2" * 64

digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
names = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=40)


@pytest.mark.parametrize(
    "body",
    [
        f"{ONE}  {FILE}\n",
        f"{ONE} *{FILE}\n",
        f"{ONE} {FILE}\n",
        f"{ONE}\t{FILE}\n",
        f"{ONE}  {FILE}",
        f"{ONE}  {FILE}\r\n",
        f"\ufeff{ONE}  {FILE}\r\n",
        f"SHA256 ({FILE}) = {ONE}\n",
        f"SHA256({FILE})= {ONE}\n",
        f"SHA2-256({FILE})= {ONE}\n",
        f"{ONE}\n",
        f"  {ONE}  ",
        f"\n# made by the builder\n{ONE}  {FILE}\n\n",
        f"{ONE}  ./dist/{FILE}\n",
        f"{ONE}  what-it-was-called-before\n",
        f"\\{ONE}  odd\\nname\n",
        f"\\SHA256 (odd\\\\name) = {ONE}\n",
    ],
)
def test_every_form_of_a_single_line_is_read(body: str) -> None:
    assert parse_checksum(body.encode(), TARGET) == ONE


def test_upper_case_is_read_as_lower_case() -> None:
    assert parse_checksum(b"AB" * 32, TARGET) == "ab" * 32


@pytest.mark.parametrize(
    ("names_in_file", "expected"),
    [
        (("other", FILE), 1),
        ((FILE, "other"), 0),
        (("other", f"dist/{FILE}"), 1),
        ((f"old/{FILE}", FILE), 1),
        ((FILE, TARGET), 1),
        ((f"old/{FILE}", "other", str(TARGET)), 2),
    ],
)
def test_of_several_lines_the_one_that_names_the_target_best_counts(
    names_in_file: tuple[str, ...], expected: int
) -> None:
    body = "".join(f"{str(index) * 64}  {name}\n" for index, name in enumerate(names_in_file))
    assert parse_checksum(body.encode(), TARGET) == str(expected) * 64


def test_the_same_checksum_twice_is_no_contradiction() -> None:
    assert parse_checksum(f"{ONE}  {FILE}\n{ONE} *{FILE}\n{OTHER}  other\n".encode(), TARGET) == ONE


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "has 0 lines"),
        (b"\n\n# nothing\n", "has 0 lines"),
        (f"{ONE}  {FILE}\n{OTHER}  {FILE}\n".encode(), "states 2 checksums"),
        (f"{ONE}  a\n{OTHER}  b\n".encode(), "none of them names"),
        (f"{ONE}\n{OTHER}\n".encode(), "none of them names"),
        (b"<html>404 Not Found</html>", "line 1, is not a sha256"),
        (f"{ONE}  {FILE}\nrubbish\n".encode(), "line 2, is not a sha256"),
        (f"{ONE[:-1]}  {FILE}\n".encode(), "line 1, is not a sha256"),
        (f"{ONE}0  {FILE}\n".encode(), "line 1, is not a sha256"),
        (f"MD5 ({FILE}) = {ONE[:32]}\n".encode(), "line 1, is not a sha256"),
        (f"\\{ONE}  odd\\qname\n".encode(), "wrong escape"),
        (f"\\{ONE}  odd\\\n".encode(), "wrong escape"),
        (b"\xff\xfe\x00\x1b[31m", "line 1, is not a sha256"),
        (b"\n" * (MAX_CHECKSUM_BYTES + 1), "more than"),
    ],
)
def test_what_is_no_checksum_of_the_target_is_refused_in_words(body: bytes, says: str) -> None:
    with pytest.raises(MalformedChecksum, match=says) as refusal:
        parse_checksum(body, TARGET)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 400


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused_in_printable_words(body: bytes) -> None:
    try:
        said = str(parse_checksum(body, TARGET))
    except MalformedChecksum as refusal:
        said = str(refusal)
    assert said.isprintable()


@given(digests, names)
@example(ONE, " ends and begins with a space ")
@example(ONE, " ")
def test_what_is_written_is_read_again(digest: str, name: str) -> None:
    target = TargetPath(f"app/{name}")
    body = format_checksum(Digest(digest), target)
    assert parse_checksum(body, target) == digest
    assert parse_checksum(f"{OTHER}  another file\n".encode() + body, target) == digest


@pytest.mark.parametrize(
    "name", ["plain", "with space", " spaces ", "new\nline", "back\\slash", "return\r", "*star", "ünïcode"]
)
@pytest.mark.parametrize("options", [(), ("--binary",), ("--tag",)])
def test_what_sha256sum_itself_writes_is_read(tmp_path: Path, name: str, options: tuple[str, ...]) -> None:
    (tmp_path / name).write_bytes(b"the bytes")
    (tmp_path / "other").write_bytes(b"other bytes")
    written = subprocess.run(
        ["sha256sum", *options, "other", name], cwd=tmp_path, check=True, capture_output=True, timeout=10
    ).stdout
    assert parse_checksum(written, TargetPath(f"app/{name}")) == sha256(b"the bytes").hexdigest()


@pytest.mark.parametrize(
    "name", ["plain", "with space", " spaces ", "new\nline", "back\\slash", "return\r", "*star", "ünïcode"]
)
def test_sha256sum_itself_accepts_what_is_written(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"the bytes")
    digest = Digest(sha256(b"the bytes").hexdigest())
    (tmp_path / "sums").write_bytes(format_checksum(digest, TargetPath(f"app/{name}")))
    subprocess.run(
        ["sha256sum", "--check", "--strict", "sums"], cwd=tmp_path, check=True, capture_output=True, timeout=10
    )
