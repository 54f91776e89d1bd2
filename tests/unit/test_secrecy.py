"""The search for secrets finds them wherever a program of ours could tell one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from peers.processes import Process, wait_until
from peers.s3 import Keys
from secrecy import SecretTold, search

TELL = "import sys; print('waystation:', sys.argv[1])"


def test_a_secret_in_an_answer_through_a_pipe_is_found() -> None:
    keys = Keys("somebody", "c0ffee" * 6)
    with pytest.raises(SecretTold):
        subprocess.run([sys.executable, "-c", TELL, keys.secret], capture_output=True, check=True)


def test_a_secret_in_a_log_or_a_process_title_is_found(tmp_path: Path) -> None:
    keys = Keys("somebody", "decade" * 6)
    logs = Process(
        [sys.executable, "-c", "print('waystation', bytes.fromhex('646563616465' * 6).decode())"], log=tmp_path / "log"
    )
    logs.start()
    logs.wait()
    with pytest.raises(SecretTold):
        logs.__exit__(None, None, None)
    shows = Process(
        [sys.executable, "-c", "import time; time.sleep(60)", "waystation", keys.secret], log=tmp_path / "log2"
    )
    shows.start()
    title = Path(f"/proc/{shows.pid}/cmdline")
    wait_until(lambda: title.read_bytes().startswith(os.fsencode(f"{sys.executable}\0-c\0")), "the leash is off")
    with pytest.raises(SecretTold):
        shows.__exit__(None, None, None)
    assert not shows.running


@pytest.mark.parametrize(
    "text",
    [
        "GET /bucket/key?X-Amz-Signature=0abc",
        "Authorization: AWS4-HMAC-SHA256 Credential=AK/20261125",
        "-----BEGIN EC PRIVATE KEY-----",
    ],
)
def test_what_opens_a_door_by_itself_is_a_secret_too(text: str) -> None:
    with pytest.raises(SecretTold):
        search(f"detail={text!r}", "a line")
    search("detail='X-Amz-Date'", "a line")
