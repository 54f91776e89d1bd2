from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from peers.processes import Process, clean_environment, free_port
from peers.station import running_station, s3_config, to_toml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from peers.s3 import Bucket
    from peers.station import Station
    from peers.toxiproxy import Toxiproxy

BODY = b"#!/bin/sh\necho hello\n" * 50_000
DIGEST = sha256(BODY).hexdigest()
TARGET = "app/app-0.1.0-x86_64"
PUBLISH = ("publish", "bundle", "--app", "app", "--version", "0.1.0", "--arch", "x86_64")
STANZA = f"""\
artifact {{
  source      = "http://127.0.0.1:4650/artifacts/{TARGET}"
  destination = "local/"

  options {{
    checksum = "sha256:{DIGEST}"
  }}
}}
# In the same task's config: command = "local/app-0.1.0-x86_64"
"""


@dataclass
class Done:
    """What a verb left."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert (self.status, self.err) == (0, "")
        return json.loads(self.out)

    def failure(self, status: int) -> str:
        """Check that it failed as every verb must, in one line, and return that line."""
        assert self.status == status, self.err
        assert self.out == ""
        (line,) = self.err.splitlines()
        assert line.startswith("waystation: ")
        assert line.isprintable()
        return line


class Shell:
    """A folder, a configuration, and the command as a user runs it."""

    def __init__(self, folder: Path, config: dict[str, dict[str, Any]]) -> None:
        self.folder = folder
        self.config = folder / "waystation.toml"
        paths = {"store": {"path": str(folder / "store")}, "admin": {"socket": str(folder / "admin.sock")}}
        self.config.write_text(to_toml({**paths, **config}))
        (folder / "bundle").write_bytes(BODY)

    @property
    def environment(self) -> dict[str, str]:
        return clean_environment(
            self.folder, WAYSTATION_CONFIG=str(self.config), AWS_EC2_METADATA_DISABLED="true", COLUMNS="200"
        )

    def run(self, *arguments: str | Path, **environment: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "waystation", *map(str, arguments)],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    def started(self, *arguments: str) -> Process:
        return Process(
            [sys.executable, "-m", "waystation", *arguments],
            log=self.folder / "log",
            environment=self.environment,
            folder=self.folder,
        )


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    (tmp_path / "origin").mkdir()
    return tmp_path / "origin"


@pytest.fixture
def shell(tmp_path: Path, origin: Path) -> Shell:
    return Shell(tmp_path, {"origin": {"url": origin.as_uri()}})


@pytest.fixture
def s3_shell(tmp_path: Path, bucket: Bucket) -> Shell:
    return Shell(tmp_path, s3_config(bucket, tmp_path))


# --- the way of a bundle -------------------------------------------------------------------------


def test_a_bundle_goes_from_a_file_to_the_bucket_and_back_to_a_file(s3_shell: Shell) -> None:
    published = s3_shell.run(*PUBLISH)
    assert (published.status, published.out) == (0, STANZA)
    assert published.err == f"{TARGET} is published (1.0 MiB).\n"
    assert s3_shell.run("list").out == f"{TARGET}\n"
    assert s3_shell.run("stanza", TARGET).out == STANZA
    assert f"sha256\t{DIGEST}\n" in s3_shell.run("show", TARGET).out

    fetched = s3_shell.run("fetch", TARGET)
    file = s3_shell.folder / "app-0.1.0-x86_64"
    assert (fetched.status, fetched.out) == (0, f"{file}\n")
    assert file.read_bytes() == BODY
    assert os.access(file, os.X_OK)
    assert {path.name for path in s3_shell.folder.iterdir() if path.is_file()} == {
        "app-0.1.0-x86_64",
        "bundle",
        "credentials",
        "waystation.toml",
    }


def test_publishing_again_says_that_nothing_was_to_be_done_and_prints_the_stanza(shell: Shell) -> None:
    shell.run(*PUBLISH)
    again = shell.run(*PUBLISH)
    assert (again.status, again.out) == (0, STANZA)
    assert "already" in again.err


def test_publishing_other_bytes_fails_and_advises_a_new_version(shell: Shell) -> None:
    shell.run(*PUBLISH)
    (shell.folder / "bundle").write_bytes(BODY[::-1])
    line = shell.run(*PUBLISH).failure(1)
    assert TARGET in line
    assert "new version" in line


def test_a_stanza_can_name_another_base(shell: Shell) -> None:
    shell.run(*PUBLISH)
    assert f'"https://minio.internal/artifacts/{TARGET}"' in (
        shell.run("stanza", TARGET, "--base", "https://minio.internal/artifacts/").out
    )
    assert f'"http://127.0.0.1:99/artifacts/{TARGET}"' in (
        shell.run(
            "stanza", TARGET, "--set", "mirror.listen=http://0.0.0.0:99", "--set", "mirror.allow_insecure=true"
        ).out
    )


def test_what_another_client_uploaded_is_listed_as_a_problem_until_it_is_adopted(
    s3_shell: Shell, bucket: Bucket
) -> None:
    bucket.put("foreign", BODY)
    listed = s3_shell.run("list", "--long")
    assert listed.out == "foreign\t-\tno_checksum\n"
    assert "waystation adopt" in listed.err
    assert "waystation adopt" in s3_shell.run("show", "foreign").failure(1)

    adopted = s3_shell.run("adopt")
    assert (adopted.status, adopted.out) == (0, "adopted\tforeign\t\n")
    assert adopted.err == "1 adopted, 0 already announced, 0 skipped, 0 failed.\n"
    assert s3_shell.run("list", "--long").out == f"foreign\t1.0 MiB\t{DIGEST}\n"
    assert s3_shell.run("adopt", "--json").json == [{"key": "foreign", "outcome": "already", "why": None}]


def test_an_adoption_that_failed_for_one_object_says_why_and_exits_with_1(shell: Shell, origin: Path) -> None:
    (origin / "bad").write_bytes(BODY)
    (origin / "bad.sha256").write_text("0" * 64)
    (origin / "good").write_bytes(BODY)
    done = shell.run("adopt")
    assert done.status == 1
    assert re.fullmatch(
        r"adopted\tgood\t\nfailed\tbad\t.*bad\.sha256 says.*\n|failed\tbad\t.*\nadopted\tgood\t\n", done.out
    )
    assert "1 failed" in done.err


def test_an_adoption_tells_a_pipe_of_each_object_as_it_is_done(s3_shell: Shell, bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("mine", BODY)
    bucket.put("theirs", BODY)
    arn = f"arn:aws:s3:::{bucket.name}"
    may_read = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": [arn, f"{arn}/*"]}
    may_write = {"Effect": "Allow", "Action": ["s3:PutObject"], "Resource": [f"{arn}/mine*"]}
    keys = bucket.server.create_user_with({"Version": "2012-10-17", "Statement": [may_read, may_write]})
    adopted = s3_shell.run("adopt", "--set", f"origin.credentials_file={keys.write(tmp_path / 'few-rights')}")
    assert (adopted.status, adopted.out) == (1, "adopted\tmine\t\n")
    assert "s3:PutObject" in adopted.err


def test_an_adoption_whose_output_nobody_reads_on_ends_without_a_word(shell: Shell, origin: Path) -> None:
    for number in range(50):
        (origin / f"{number}").write_bytes(BODY)
    command = f"{sys.executable} -m waystation adopt | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], env=shell.environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (1, "")


# --- fetch ---------------------------------------------------------------------------------------


def test_fetch_keeps_a_right_file_and_says_so(shell: Shell, origin: Path) -> None:
    shell.run(*PUBLISH)
    assert shell.run("fetch", TARGET, "-o", "here", "--json").json["already"] is False
    before = (shell.folder / "here").stat()
    (origin / TARGET).write_bytes(b"the origin's bytes are not asked for")
    (origin / TARGET).write_bytes(BODY)
    again = shell.run("fetch", TARGET, "-o", "here")
    assert "was here already" in again.err
    assert (shell.folder / "here").stat().st_ino == before.st_ino


def test_fetch_makes_a_right_file_executable(shell: Shell) -> None:
    shell.run(*PUBLISH)
    (shell.folder / "here").write_bytes(BODY)
    (shell.folder / "here").chmod(0o640)
    assert "was here already" in shell.run("fetch", TARGET, "-o", "here").err
    assert (shell.folder / "here").stat().st_mode & 0o777 == 0o750


def test_fetch_replaces_another_file(shell: Shell) -> None:
    shell.run(*PUBLISH)
    (shell.folder / "here").write_bytes(BODY[::-1])
    assert shell.run("fetch", TARGET, "-o", "here").status == 0
    assert (shell.folder / "here").read_bytes() == BODY


@pytest.mark.parametrize("there", [True, False])
def test_fetch_neither_follows_nor_replaces_a_link_and_names_the_file_behind_it(shell: Shell, there: bool) -> None:
    shell.run(*PUBLISH)
    real, link = shell.folder / "real", shell.folder / "link"
    link.symlink_to("real")
    if there:
        real.write_text("precious")
    line = shell.run("fetch", TARGET, "-o", "link").failure(2)
    assert f"{link} is a symbolic link" in line
    assert str(real) in line
    assert link.is_symlink()
    assert (real.read_text() if real.exists() else None) == ("precious" if there else None)


@pytest.mark.parametrize("place", ["x" * 300, f"{'x' * 300}/file", "/proc/file"])
def test_fetch_says_in_one_line_what_the_system_refuses_of_its_place(shell: Shell, place: str) -> None:
    shell.run(*PUBLISH)
    line = shell.run("fetch", TARGET, "-o", place).failure(1)
    assert place[:300] in line
    assert "another place with -o" in line


def test_fetch_takes_folders_behind_links_as_they_are(shell: Shell) -> None:
    shell.run(*PUBLISH)
    (shell.folder / "real").mkdir()
    (shell.folder / "link").symlink_to("real")
    assert shell.run("fetch", TARGET, "-o", "link/file").status == 0
    assert (shell.folder / "real" / "file").read_bytes() == BODY


@pytest.mark.parametrize("place", [".", "/dev/null", "absent/file", "pipe"])
def test_fetch_touches_nothing_but_regular_files(shell: Shell, place: str) -> None:
    shell.run(*PUBLISH)
    os.mkfifo(shell.folder / "pipe")
    assert "-o" in shell.run("fetch", TARGET, "-o", place).failure(2)


def test_fetch_knows_go_s_words_for_an_architecture(shell: Shell) -> None:
    shell.run(*PUBLISH)
    done = shell.run("fetch", "app/app-0.1.0-amd64", "--json").json
    assert (done["target"], done["path"]) == (TARGET, str(shell.folder / "app-0.1.0-amd64"))


def test_fetch_leaves_nothing_where_the_origin_s_bytes_are_not_the_published_ones(
    s3_shell: Shell, bucket: Bucket
) -> None:
    s3_shell.run(*PUBLISH)
    bucket.put(TARGET, BODY[:-1] + b"!")
    line = s3_shell.run("fetch", TARGET, "-o", "here").failure(1)
    assert TARGET in line or "piece" in line
    assert not [path for path in s3_shell.folder.iterdir() if "here" in path.name]


# --- the daemon here -----------------------------------------------------------------------------


@pytest.fixture
def station(shell: Shell, origin: Path) -> Iterator[Station]:
    config = {"origin": {"url": origin.as_uri()}, "catalog": {"refresh": "0s"}}
    with running_station(shell.folder / "station", config) as running:
        shell.config.write_text(running.config_file.read_text())
        yield running


def test_status_shows_what_the_daemon_holds_and_refused(shell: Shell, station: Station) -> None:
    shell.run(*PUBLISH)
    assert station.artifact(TARGET).body == BODY
    assert station.artifact("app/absent").code == 404
    done = shell.run("status")
    assert (done.status, done.err) == (0, "")
    assert f"pid {station.process.pid}" in done.out
    assert station.url in done.out
    assert "1 blob," in done.out
    assert re.search(r"404 +unknown_target +app/absent", done.out)

    told = shell.run("status", "--json").json
    assert (told["pid"], told["ready"], told["listen"]) == (station.process.pid, True, [station.url])
    assert told["store"]["blobs"] == 1
    assert [(each["code"], each["target"]) for each in told["refusals"]] == [(404, "app/absent")]


def test_a_wanted_change_is_served_once_the_daemon_was_told_to_forget(
    shell: Shell, station: Station, origin: Path
) -> None:
    (origin / "one").write_bytes(BODY)
    shell.run("adopt")
    assert station.artifact("one").body == BODY
    for path in origin.iterdir():
        path.unlink()
    (origin / "one").write_bytes(BODY[::-1])
    shell.run("adopt")
    assert station.artifact("one").code == 502
    assert shell.run("catalog", "forget", "one", "--json").json == {"target": "one", "forgotten": True}
    assert station.artifact("one").body == BODY[::-1]


def test_forgetting_what_is_not_remembered_is_no_error(shell: Shell, station: Station) -> None:
    done = shell.run("catalog", "forget", "one")
    assert (done.status, done.out) == (0, "")
    assert "was not remembered" in done.err


# --- for machines --------------------------------------------------------------------------------


def test_every_verb_speaks_json(shell: Shell) -> None:
    assert shell.run(*PUBLISH, "--json").json == {
        "target": TARGET,
        "sha256": DIGEST,
        "size_bytes": len(BODY),
        "already": False,
        "stanza": STANZA,
    }
    assert shell.run("list", "--json").json == [{"target": TARGET}]
    assert shell.run("list", "--long", "--json").json == [{"target": TARGET, "sha256": DIGEST, "size_bytes": len(BODY)}]
    assert shell.run("list", "nothing/*", "--json").json == []
    shown = shell.run("show", TARGET, "--json").json
    assert (shown["sha256"], shown["size_bytes"], shown["pieces"]["piece_length"]) == (DIGEST, len(BODY), 1024**2)
    assert shell.run("stanza", TARGET, "--json").json == {"target": TARGET, "sha256": DIGEST, "stanza": STANZA}
    assert shell.run("fetch", TARGET, "--json").json == {
        "target": TARGET,
        "sha256": DIGEST,
        "size_bytes": len(BODY),
        "path": str(shell.folder / "app-0.1.0-x86_64"),
        "already": False,
    }


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (("show", "app/absent"), 1, "unknown_target"),
        (("show", "../absent"), 2, "bad_target"),
        (("list", "--set", "nonsense"), 2, "config"),
        (("list", "--nonsense"), 2, "usage"),
        (("stanza",), 2, "usage"),
        (("status",), 1, "no_daemon"),
    ],
)
def test_errors_are_json_for_machines_too(shell: Shell, arguments: tuple[str, ...], status: int, reason: str) -> None:
    done = shell.run(*arguments, "--json")
    assert (done.status, done.out) == (status, "")
    error = json.loads(done.err)["error"]
    assert error.keys() == {"reason", "message", "advice", "transient"}
    assert error["reason"] == reason


# --- wrong use, wrong configuration, and what is away ---------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "environment", "named"),
    [
        (("list", "--set", "store.max_sise=5GiB"), {}, "unknown key 'store.max_sise'"),
        (("list", "--set", "store.max_size=much"), {}, "store.max_size"),
        (("list", "--set", "store.max_size"), {}, "KEY=VALUE"),
        (("list", "--set", "catalog.refresh=soon"), {}, "catalog.refresh"),
        (("list", "--set", "origin.url=ftp://x"), {}, "origin.url"),
        (("list",), {"WAYSTATION_STORE__MAX_SIZE": "much"}, "WAYSTATION_STORE__MAX_SIZE"),
        (("list",), {"WAYSTATION_STOER__MAX_SIZE": "1GiB"}, "WAYSTATION_STOER__MAX_SIZE"),
        (("list", "--config", "absent.toml"), {}, "absent.toml"),
        (("serve", "--config", "bundle"), {}, "bundle"),
        (("serve", "--set", "mirror.listen=nowhere"), {}, "mirror.listen"),
        (("catalog", "forget", "/"), {}, "target"),
        (("publish", "bundle", "--app", "App", "--version", "1"), {}, "'App'"),
        (("publish", "bundle", "--app", "app"), {}, "--version"),
        (("publish", "--app", "app", "--version", "1"), {}, "FILE"),
        (("stanza", "app/x", "--nonsense"), {}, "--nonsense"),
        (("nonsense",), {}, "nonsense"),
        (("catalog", "nonsense"), {}, "nonsense"),
    ],
)
def test_wrong_use_is_one_line_that_names_what_to_change(
    shell: Shell, arguments: tuple[str, ...], environment: Mapping[str, str], named: str
) -> None:
    assert named in shell.run(*arguments, **environment).failure(2)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[store]\nmax_size = "much"\n', "store.max_size"),
        ("[store]\nmax_sise = 5\n", "store.max_sise"),
        ("[stoer]\nmax_size = 5\n", "stoer"),
        ("[store\n", "line 1"),
        ("[store]\nmax_size = \n", "line 2"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_the_file_and_the_key_or_the_line(
    shell: Shell, text: str, named: str
) -> None:
    shell.config.write_text(text)
    line = shell.run("list").failure(2)
    assert str(shell.config) in line
    assert named in line


@pytest.mark.parametrize("verb", [("list",), ("adopt",), ("show", TARGET), ("fetch", TARGET), PUBLISH])
def test_an_origin_that_is_away_is_one_line_that_names_it(s3_shell: Shell, verb: tuple[str, ...]) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    line = s3_shell.run(*verb, "--set", f"origin.endpoint_url={endpoint}", "--set", "origin.attempts=1").failure(1)
    assert endpoint in line


@pytest.mark.parametrize("verb", [("list",), PUBLISH])
def test_a_bucket_that_is_not_there_is_one_line_that_names_it(s3_shell: Shell, verb: tuple[str, ...]) -> None:
    assert "no-such-bucket" in s3_shell.run(*verb, "--set", "origin.url=s3://no-such-bucket").failure(1)


@pytest.mark.parametrize("verb", [("list",), PUBLISH])
def test_missing_credentials_are_one_line_that_says_where_they_go(
    tmp_path: Path, bucket: Bucket, verb: tuple[str, ...]
) -> None:
    config = s3_config(bucket, tmp_path)
    del config["origin"]["credentials_file"]
    line = Shell(tmp_path, config).run(*verb).failure(1)
    assert "credentials_file" in line
    assert "AWS_ACCESS_KEY_ID" in line


def test_wrong_credentials_are_one_line_without_the_secret(tmp_path: Path, bucket: Bucket) -> None:
    config = s3_config(bucket, tmp_path)
    (tmp_path / "credentials").write_text("[default]\naws_access_key_id = nobody\naws_secret_access_key = hush-hush\n")
    line = Shell(tmp_path, config).run("list").failure(1)
    assert "credentials" in line
    assert "hush-hush" not in line


@pytest.mark.parametrize("file", ["absent", ".", "empty"])
def test_a_file_that_is_no_bundle_is_one_line_that_names_it(shell: Shell, file: str) -> None:
    (shell.folder / "empty").touch()
    line = shell.run("publish", file, "--app", "app", "--version", "1").failure(1)
    assert f"{file} " in line


def test_what_is_not_published_is_one_line_that_says_where_to_look(shell: Shell) -> None:
    assert "waystation list" in shell.run("fetch", "app/absent").failure(1)


def test_a_daemon_that_does_not_run_is_one_line_that_says_how_to_start_it(shell: Shell) -> None:
    for verb in (("status",), ("catalog", "forget", TARGET)):
        line = shell.run(*verb).failure(1)
        assert "waystation serve" in line
        assert "admin.sock" in line


def test_called_with_nothing_it_helps_and_exits_with_2(shell: Shell) -> None:
    done = shell.run()
    assert done.status == 2
    assert "publish" in done.out


def test_help_and_version_are_no_errors_and_need_no_configuration(shell: Shell) -> None:
    shell.config.write_text("nonsense")
    assert re.fullmatch(r"waystation \d+\.\d+\.\d+\n", shell.run("--version").out)
    for verb in (
        "serve",
        "publish",
        "adopt",
        "list",
        "show",
        "stanza",
        "fetch",
        "status",
        "catalog",
        "store",
        "explain",
        "log-level",
        "demo",
    ):
        helped = shell.run(verb, "--help")
        assert (helped.status, helped.err) == (0, "")
        assert f"waystation {verb}" in helped.out
        assert verb in shell.run("--help").out


# --- pipes, terminals, signals -------------------------------------------------------------------


def test_a_pipe_sees_neither_colours_nor_progress(shell: Shell) -> None:
    for arguments in (PUBLISH, ("fetch", TARGET), ("list", "--long"), ("adopt",)):
        done = shell.run(*arguments, FORCE_COLOR="1")
        assert done.status == 0
        assert "\x1b" not in done.out + done.err


@pytest.mark.parametrize("count", [1, 3000], ids=["more than nothing", "more than a pipe holds"])
def test_a_reader_that_leaves_early_is_no_traceback(shell: Shell, origin: Path, count: int) -> None:
    for number in range(count):
        (origin / f"{number:04}-{'x' * 100}").touch()
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "waystation", "list"],
        env=shell.environment,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def on_a_terminal(shell: Shell, *arguments: str, columns: int) -> list[str]:
    """What a verb draws on a terminal of that width, in lines."""
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    drawn = bytearray()
    try:
        with subprocess.Popen(
            [sys.executable, "-m", "waystation", *arguments],
            cwd=shell.folder,
            env={**shell.environment, "TERM": "xterm", "COLUMNS": ""},
            stdin=end,
            stdout=end,
            stderr=end,
        ) as verb:
            os.close(end)
            with suppress(OSError):  # what Linux says of a terminal that nobody holds open any more
                while more := os.read(terminal, 1 << 16):
                    drawn += more
            assert verb.wait(timeout=60) == 0
    finally:
        os.close(terminal)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn.decode()).replace("\r", "").splitlines()


@pytest.mark.parametrize("arguments", [("list", "--long"), ("show", TARGET)], ids=["list", "show"])
def test_what_is_told_of_targets_fits_a_terminal_of_80_columns(shell: Shell, arguments: tuple[str, ...]) -> None:
    shell.run(*PUBLISH)
    lines = on_a_terminal(shell, *arguments, columns=80)
    assert max(map(len, lines)) <= 80
    assert any(DIGEST[:12] in line for line in lines)
    assert any(DIGEST in line for line in lines) == (arguments[0] == "show")  # a table is only looked at
    assert DIGEST in shell.run(*arguments).out


def test_a_terminal_sees_progress(shell: Shell) -> None:
    terminal, end = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "waystation", *PUBLISH],
            cwd=shell.folder,
            env={**shell.environment, "TERM": "xterm"},
            stdout=subprocess.PIPE,
            stderr=end,
            timeout=60,
            check=True,
        )
        drawn = os.read(terminal, 1 << 16).decode()
    finally:
        os.close(end)
        os.close(terminal)
    assert "hashing bundle" in drawn
    assert "\x1b" in drawn
    assert done.stdout.decode() == STANZA


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_verb_that_waits_for_the_origin_at_once_and_quietly(
    s3_shell: Shell, number: signal.Signals, status: int
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        s3_shell.started("list", "--set", f"origin.endpoint_url=http://127.0.0.1:{silent.getsockname()[1]}") as verb,
    ):
        verb.start()
        silent.settimeout(30)
        connection, _ = silent.accept()
        with connection:
            verb.signal(number)
            assert verb.wait(timeout_s=5) == status
    assert verb.output() == ""


def test_an_interrupted_upload_leaves_nothing_and_can_be_run_again(
    s3_shell: Shell, bucket: Bucket, toxiproxy: Toxiproxy
) -> None:
    (s3_shell.folder / "bundle").write_bytes(BODY * 70)
    proxy = toxiproxy.proxy(bucket.server.port)
    slowly = ("--set", f"origin.endpoint_url={proxy.endpoint_url}")
    with proxy.toxic("bandwidth", stream="upstream", rate=4096), s3_shell.started(*PUBLISH, *slowly) as verb:
        verb.start()
        verb.wait_ready(lambda: bucket.unfinished_uploads(TARGET) > 0)
        assert verb.stop() == 143
    assert bucket.keys() == []
    assert bucket.unfinished_uploads(TARGET) == 0
    assert s3_shell.run(*PUBLISH).status == 0
    assert sha256(bucket.get(TARGET)).hexdigest() == sha256(BODY * 70).hexdigest()
