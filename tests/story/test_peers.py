from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING

import pytest

from peers import go_getter
from peers.processes import PeerFailed, Process, free_port, wait_until
from peers.relay import Relay

if TYPE_CHECKING:
    from pathlib import Path

    from peers.minio import MinioServer
    from peers.s3 import Bucket
    from peers.toxiproxy import Toxiproxy


def test_go_getter_fetches_from_minio_and_the_relay_counts_the_bytes_once(bucket: Bucket, tmp_path: Path) -> None:
    body = os.urandom(3_000_000)
    digest = bucket.put_vouched("app-1.0-x86_64", body)
    bucket.make_public()
    with Relay(bucket.server.port) as relay:
        url = f"{relay.endpoint_url}/{bucket.name}/app-1.0-x86_64?checksum=sha256:{digest}"
        fetched = go_getter.fetch(url, tmp_path / "out" / "app")
        assert fetched.ok, fetched.output
        assert (tmp_path / "out" / "app").read_bytes() == body
        assert len(body) < relay.received_bytes < len(body) + 10_000


def test_go_getter_fails_on_a_wrong_checksum(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("app", b"bytes")
    bucket.make_public()
    url = f"{bucket.server.endpoint_url}/{bucket.name}/app?checksum=sha256:{'0' * 64}"
    fetched = go_getter.fetch(url, tmp_path / "app")
    assert not fetched.ok
    assert "Checksums did not match" in fetched.output


def test_go_getter_is_not_believed_when_it_says_success_of_a_port_where_nobody_listens(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/app"
    assert not any(go_getter.fetch(url, tmp_path / "app").ok for _ in range(20))


def test_a_stopped_minio_comes_back_on_the_same_port_with_the_same_objects(minio_alone: MinioServer) -> None:
    bucket = minio_alone.create_bucket("kept")
    bucket.put("key", b"body")
    minio_alone.stop()
    minio_alone.start()
    assert bucket.get("key") == b"body"
    assert bucket.keys() == ["key"]


def test_the_relay_limits_all_connections_together(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("app", bytes(2_000_000))
    bucket.make_public()
    with Relay(bucket.server.port) as relay:
        relay.limit(4_000_000)
        started = time.monotonic()
        fetching = [
            go_getter.start(f"{relay.endpoint_url}/{bucket.name}/app", tmp_path / str(n) / "app") for n in range(2)
        ]
        assert all(go_getter.finish(process).ok for process in fetching)
        assert 0.9 < time.monotonic() - started < 2.5


def test_toxiproxy_refuses_while_it_is_down(bucket: Bucket, toxiproxy: Toxiproxy, tmp_path: Path) -> None:
    bucket.put("app", b"body")
    bucket.make_public()
    proxy = toxiproxy.proxy(bucket.server.port)
    url = f"{proxy.endpoint_url}/{bucket.name}/app"
    with proxy.down():
        assert not go_getter.fetch(url, tmp_path / "app").ok
    assert go_getter.fetch(url, tmp_path / "app").ok


def test_a_process_that_ends_while_starting_says_its_last_words(tmp_path: Path) -> None:
    process = Process([sys.executable, "-c", "raise SystemExit('no port left')"], log=tmp_path / "log")
    process.start()
    with pytest.raises(PeerFailed, match="no port left"):
        process.wait_ready(lambda: False)


def test_the_children_of_a_killed_test_run_are_killed_with_it(tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        sys.path[:0] = {sys.path!r}
        from peers.processes import Process
        child = Process([sys.executable, "-c", "import time; time.sleep(600)"], log=Path({str(tmp_path / "log")!r}))
        child.start()
        print(child.pid, flush=True)
        time.sleep(600)
    """)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        child = int(run.stdout.readline())
        run.send_signal(signal.SIGKILL)
        run.wait()
    wait_until(lambda: _is_gone(child), "the child is gone")


def _is_gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
