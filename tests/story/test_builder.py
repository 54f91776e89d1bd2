"""The builder's way: a folder goes in, a checked executable with its record comes out and is published."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from peers.processes import clean_environment
from peers.station import s3_config, to_toml
from waystation.pieces import parse_pieces_line

if TYPE_CHECKING:
    from pathlib import Path

    from peers.s3 import Bucket

HELLO = '#!/bin/sh\n[ "$1" = --version ] && echo "hello 0.1.0" || echo hello\n'
COPY = 'cp hello.sh "$OUT/hello" && chmod +x "$OUT/hello"'


@dataclass
class Done:
    """What a verb left."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert (self.status, self.err) == (0, ""), self.err
        return json.loads(self.out)


class Builder:
    """The command line, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = folder / "hello"
        self.project.mkdir()
        (self.project / "hello.sh").write_text(HELLO)
        (folder / "tmp").mkdir()
        self.environment = clean_environment(folder, TMPDIR=str(folder / "tmp"))

    def __call__(self, *arguments: str | Path) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "waystation_builder", *arguments],
            cwd=self.folder,
            env=self.environment,
            check=False,
            capture_output=True,
            text=True,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def build(self, *arguments: str | Path, command: str = COPY) -> Done:
        return self("build", self.project, "--app", "hello", "--version", "0.1.0", "--command", command, *arguments)


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    return Builder(tmp_path)


def test_what_is_built_is_published_with_what_it_needs(builder: Builder, bucket: Bucket) -> None:
    config = builder.folder / "waystation.toml"
    config.write_text(to_toml(s3_config(bucket, builder.folder)))
    built = builder.build("--json").json
    published = builder("publish", built["file"], "--config", config, "--json").json
    target = f"hello/hello-0.1.0-{os.uname().machine}"
    assert (published["target"], published["already"]) == (target, False)
    assert bucket.get(target) == HELLO.encode()
    assert published["sha256"] == built["sha256"] == sha256(HELLO.encode()).hexdigest()
    line = parse_pieces_line(bucket.get(f"{target}.pieces"))
    assert line.needs == tuple(built["needs"])
