"""The builder's way: a folder goes in, a checked executable with its record comes out and is published."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import sysconfig
import tarfile
from bz2 import compress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from peers.processes import clean_environment, wait_until
from peers.station import s3_config, to_toml
from waystation.pieces import parse_pieces_line
from waystation_builder.elf import read_elf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from peers.s3 import Bucket
    from peers.toxiproxy import Toxiproxy

ROOT = Path(__file__).parents[2]
ARCH = os.uname().machine
NAME = f"hello-0.1.0-{ARCH}"
TARGET = f"hello/{NAME}"
HELLO = '#!/bin/sh\n[ "$1" = --version ] && echo "hello 0.1.0" || echo hello\n'
COPY = 'cp hello.sh "$OUT/hello" && chmod +x "$OUT/hello"'
OTHER_ARCH = {"x86_64": ("aarch64", 183), "aarch64": ("x86_64", 62)}
ELF_HEADER = "<4s5B7xHHI3QI6H"
PROGRAM_HEADER = "<2I6Q"
SECRET = "a-publishers-key"  # noqa: S105
NO_USER_NAMESPACES = ["sh", "-c", 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"', "sh"]

can_confine = pytest.mark.skipif(
    subprocess.run(["unshare", "--map-root-user", "--mount", "true"], check=False, capture_output=True).returncode != 0,
    reason="this machine allows no user namespaces",
)


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
    """The command line, in a folder of its own with a project in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = folder / "hello"
        self.project.mkdir()
        self.output = folder / "dist"
        (self.project / "hello.sh").write_text(HELLO)
        (folder / "tmp").mkdir()
        self.environment = clean_environment(folder, TMPDIR=str(folder / "tmp"))

    def __call__(self, *arguments: str | Path, within: Sequence[str] = ()) -> Done:
        done = subprocess.run(
            [*within, sys.executable, "-m", "waystation_builder", *arguments],
            cwd=self.folder,
            env=self.environment,
            check=False,
            capture_output=True,
            text=True,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def build(self, *arguments: str | Path, command: str = COPY, within: Sequence[str] = ()) -> Done:
        named = ("build", self.project, "--app", "hello", "--version", "0.1.0", "--command", command)
        return self(*named, *arguments, within=within)

    def add(self, name: str, body: bytes) -> str:
        """Put an executable into the project, and give the command that takes it for what was built."""
        (self.project / name).write_bytes(body)
        (self.project / name).chmod(0o755)
        return f'cp {name} "$OUT/hello"'

    def configure(self, bucket: Bucket, **more: Any) -> Path:
        config = self.folder / "waystation.toml"
        config.write_text(to_toml(s3_config(bucket, self.folder, **more)))
        return config

    def refused(self, done: Done) -> str:
        """Its one line; nothing was delivered, and nothing is left of the build."""
        assert done.status == 1
        assert done.out == ""
        assert not self.output.exists() or os.listdir(self.output) == []
        places = list((self.folder / "tmp").glob("waystation-builder-*/*/"))
        assert not places
        line = done.err.splitlines()[-1]
        assert line.startswith("waystation-builder: ")
        return line


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    return Builder(tmp_path)


def static_elf(machine: int = {"x86_64": 62, "aarch64": 183}[ARCH]) -> bytes:
    """The smallest static executable: it ends with status 0 and says nothing."""
    code = {62: b"\x31\xff\xb8\x3c\x00\x00\x00\x0f\x05", 183: struct.pack("<3I", 0xD2800000, 0xD2800BA8, 0xD4000001)}
    base, start = 0x400000, 120
    header = struct.pack(
        ELF_HEADER, b"\x7fELF", 2, 1, 1, 0, 0, 2, machine, 1, base + start, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    size = start + len(code[machine])
    return header + struct.pack(PROGRAM_HEADER, 1, 5, 0, base, base, size, size, 0x1000) + code[machine]


def archive(run: str) -> bytes:
    """A script that unpacks and runs what it carries, as nix-bundle makes them."""
    carried = io.BytesIO()
    with tarfile.open(fileobj=carried, mode="w") as tar:
        entry = tarfile.TarInfo("run")
        entry.size, entry.mode = len(run), 0o755
        tar.addfile(entry, io.BytesIO(run.encode()))
    head = (
        "#!/bin/sh\nset -eu\nhere=$HOME/.cache/unpacked.$$\nmkdir -p $here\ntrap 'rm -rf $here' EXIT\n"
        'tail -c +{at} $0 | tar -C $here -xj\n( cd $here && ./run "$@" )\nexit $?\n'
    )
    at = len(head.format(at=1000)) - len("1000") + len("100") + 1
    return head.format(at=at).encode() + compress(carried.getvalue())


def test_what_is_built_is_published_with_what_it_needs(builder: Builder, bucket: Bucket) -> None:
    config = builder.configure(bucket)
    built = builder.build("--json").json
    assert (built["file"], built["bundler"], built["needs"]) == (f"dist/{NAME}", "command", ["sh"])
    published = builder("publish", built["file"], "--config", config, "--json").json
    assert (published["target"], published["already"]) == (TARGET, False)
    assert published["sha256"] == built["sha256"] == sha256(HELLO.encode()).hexdigest()
    assert f'"sha256:{built["sha256"]}"' in published["stanza"].replace("checksum = ", "")
    assert bucket.get(TARGET) == HELLO.encode()
    assert parse_pieces_line(bucket.get(f"{TARGET}.pieces")).needs == ("sh",)


def test_run_builds_and_publishes_and_prints_the_stanza_alone(builder: Builder, bucket: Bucket) -> None:
    config = builder.configure(bucket)
    arguments = ("run", builder.project, "--app", "hello", "--version", "0.1.0", "--command", COPY, "--config", config)
    done = builder(*arguments)
    assert done.status == 0
    assert done.out.startswith("artifact {\n")
    assert f"{TARGET} is published" in done.err
    again = builder(*arguments)
    assert (again.status, again.out) == (0, done.out)
    assert "was published already, with the same bytes" in again.err


def test_a_version_that_is_published_with_other_bytes_is_refused(builder: Builder, bucket: Bucket) -> None:
    config = builder.configure(bucket)
    builder("publish", builder.build("--json").json["file"], "--config", config)
    (builder.project / "hello.sh").write_text(HELLO + "# changed\n")
    done = builder("publish", builder.build("--json").json["file"], "--config", config)
    assert done.status == 1
    assert "publish under a new version" in done.err
    assert bucket.get(TARGET) == HELLO.encode()


def test_what_changed_since_it_was_checked_is_not_published(builder: Builder, bucket: Bucket) -> None:
    config = builder.configure(bucket)
    built = builder.folder / builder.build("--json").json["file"]
    built.write_text(HELLO + "# changed\n")
    done = builder("publish", built, "--config", config)
    assert done.status == 1
    assert "has changed since it was checked" in done.err
    assert bucket.keys() == []


def test_what_the_builder_did_not_build_is_not_published(builder: Builder, bucket: Bucket) -> None:
    done = builder("publish", builder.project / "hello.sh", "--config", builder.configure(bucket))
    assert done.status == 1
    assert "was not built by `waystation-builder build`" in done.err
    assert bucket.keys() == []


def test_after_a_bucket_that_went_away_in_mid_upload_a_second_run_publishes(
    builder: Builder, bucket: Bucket, toxiproxy: Toxiproxy
) -> None:
    body = HELLO.encode() + b"#" * 3_000_000
    proxy = toxiproxy.proxy(bucket.server.port)
    config = builder.configure(bucket, endpoint_url=proxy.endpoint_url)
    arguments = ("publish", builder.build("--json", command=builder.add("big", body)).json["file"], "--config", config)
    with proxy.toxic("limit_data", stream="upstream", bytes=1_000_000):
        broken = builder(*arguments)
    assert broken.status == 1
    assert f"no answer from {proxy.endpoint_url}" in broken.err
    assert "run it again" in broken.err
    assert bucket.keys() == []
    assert builder(*arguments).status == 0
    assert bucket.get(TARGET) == body


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("true", "the build left nothing"),
        ('mkdir "$OUT/hello"', "the build left a directory, hello"),
        ('cp hello.sh "$OUT/hello"', "the build left hello, which is not executable"),
        (f'{COPY}; cp /bin/ls "$OUT/other"', "the build left 2 executables: hello, other"),
        ('echo text >"$OUT/hello"; chmod +x "$OUT/hello"', "neither an ELF executable nor a script"),
        (
            'printf "#!/opt/none/sh\\n" >"$OUT/hello"; chmod +x "$OUT/hello"',
            "calls /opt/none/sh, which is not in the root",
        ),
    ],
)
def test_a_build_that_does_not_leave_one_executable_is_refused(builder: Builder, command: str, says: str) -> None:
    assert says in builder.refused(builder.build(command=command))


def test_of_several_executables_one_is_taken_by_name(builder: Builder) -> None:
    built = builder.build("--executable", "hello", "--json", command=f'{COPY}; cp /bin/ls "$OUT/other"').json
    assert (builder.folder / built["file"]).read_text() == HELLO


def test_of_a_build_that_fails_the_last_lines_are_shown(builder: Builder) -> None:
    command = 'i=0; while [ $i -lt 50 ]; do echo "line $i"; i=$((i+1)); done; echo "no such header" >&2; exit 3'
    done = builder.build(command=command)
    assert "ended with status 3" in builder.refused(done)
    assert done.err.splitlines()[-3:-1] == ["  line 49", "  no such header"]
    assert "line 20" not in done.err
    told = json.loads(builder.build("--json", command=command).err)["error"]
    assert (told["reason"], told["last_lines"][-1]) == ("build_failed", "no such header")


def test_a_folder_that_nothing_can_build_is_refused_in_words(builder: Builder) -> None:
    line = builder.refused(builder("build", builder.project))
    assert "there is nothing in" in line
    assert "--command" in line
    for bundler, lacking in (
        ("pyinstaller", "names no command"),
        ("command", "does not know how this folder is built"),
    ):
        named = ("--bundler", bundler, "--app", "hello", "--version", "1")
        assert lacking in builder.refused(builder("build", builder.project, *named))
    if shutil.which("nix"):
        line = builder.refused(builder("build", builder.project, "--bundler", "nix"))
        assert "the folder has neither a flake.nix nor a default.nix" in line


def test_an_executable_for_another_machine_is_refused(builder: Builder) -> None:
    other, machine = OTHER_ARCH[ARCH]
    line = builder.refused(builder.build(command=builder.add("other", static_elf(machine))))
    assert f"is built for {other}, not for {ARCH}" in line
    built = builder.build("--arch", other, "--json", command='cp other "$OUT/hello"').json
    assert built["file"] == f"dist/hello-0.1.0-{other}"
    assert built["smoke"] == f"not made, for this machine is {ARCH}"


def test_missing_shared_libraries_are_named(builder: Builder) -> None:
    body = Path("/bin/ls").read_bytes()
    assert b"\0libc.so.6\0" in body
    line = builder.refused(builder.build(command=builder.add("ls", body.replace(b"\0libc.so.6\0", b"\0libq.so.6\0"))))
    assert f"{NAME} needs libq.so.6, which is not in the root 'nomad-exec'" in line


def test_a_dynamic_executable_is_refused_for_an_empty_root_and_a_static_one_is_not(builder: Builder) -> None:
    line = builder.refused(builder.build("--smoke-profile", "empty", command='cp /bin/ls "$OUT/hello"'))
    assert "is linked dynamically" in line
    built = builder.build("--smoke-profile", "empty", "--json", command=builder.add("static", static_elf())).json
    assert built["needs"] == []
    assert built["smoke"].endswith("ended well as nobody in 'empty'")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (
            b"#!/bin/sh\necho it broke >&2; exit 7\n",
            "--version ended with status 7, as nobody in the root 'nomad-exec'",
        ),
        (static_elf()[:120] + bytes(9), "--version was ended by SIG"),
        (b"#!/bin/sh\nsleep 5\n", "--version did not end within 1 s"),
        (b"#!/bin/sh\nexec cat /dev/zero\n", "--version wrote more than 1048576 bytes"),
    ],
)
def test_an_executable_that_does_not_end_well_is_refused(builder: Builder, body: bytes, says: str) -> None:
    done = builder.build("--smoke-timeout", "1", command=builder.add("bad", body))
    assert says in builder.refused(done)
    assert ("  it broke" in done.err) == (b"broke" in body)


def test_the_smoke_run_takes_other_arguments_or_none_at_all(builder: Builder) -> None:
    command = builder.add("picky", b'#!/bin/sh\n[ "$1 $2" = "check me" ]\n')
    assert builder.build(command=command).status == 1
    assert builder.build("--smoke-args", "check me", command=command).status == 0
    assert builder.build("--no-smoke", "--json", command=command).json["smoke"] == "off"


UNDER_NOMAD = r"""#!/bin/sh
set -eu
[ "$(id -u):$(id -g):$(id -G)" = 65534:65534:65534 ] || { echo "who am I"; exit 1; }
grep -q '^CapBnd:.0*$' /proc/self/status || { echo "rights are left"; exit 1; }
[ "$(ls /sys/class/net 2>/dev/null || echo lo)" = lo ] || { echo "there is a network"; exit 1; }
[ "$(ls -d /proc/[0-9]* | wc -l)" -lt 6 ] || { echo "there are other processes"; exit 1; }
[ ! -e /home ] && [ ! -e /root ] && [ ! -e /var ] || { echo "there is too much of the machine"; exit 1; }
for folder in /usr /etc "$0"; do
  grep -q "^[^ ]* $folder [^ ]* ro," /proc/mounts || { echo "$folder can be written to"; exit 1; }
done
for folder in /alloc /local /secrets /tmp; do echo >$folder/mine || exit 1; done
[ "$0" = "/local/$NAME" ] || { echo "I am $0"; exit 1; }
[ -z "${AWS_SECRET_ACCESS_KEY-}" ] || { echo "it has the keys"; exit 1; }
""".replace("$NAME", NAME)


@can_confine
@pytest.mark.parametrize(
    "within",
    [
        (),
        ("unshare", "--user", "--map-user=1000", "--map-group=1000"),
        pytest.param(
            ("setpriv", "--bounding-set=-sys_admin"),
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="is about root as it is in a container"),
        ),
    ],
    ids=["as the user of the tests", "without rights", "as root without rights over mounts"],
)
def test_it_is_tried_as_nobody_in_a_root_like_nomads(builder: Builder, within: Sequence[str]) -> None:
    builder.environment["AWS_SECRET_ACCESS_KEY"] = SECRET
    done = builder.build(command=builder.add("prove", UNDER_NOMAD.encode()), within=within)
    assert done.status == 0, done.err


@can_confine
def test_an_archive_that_unpacks_itself_may_need_user_namespaces(builder: Builder) -> None:
    built = builder.build("--json", command=builder.add("arx", archive("#!/bin/sh\nexec unshare -U echo hello\n"))).json
    assert set(built["needs"]) == {"sh", "bzip2", "mkdir", "rm", "tail", "tar", "userns"}
    built = builder.build("--json", command=builder.add("arx", archive("#!/bin/sh\nexec echo hello\n"))).json
    assert "userns" not in built["needs"]


@can_confine
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to write such a map")
def test_an_archive_that_needs_user_namespaces_is_refused_in_words_where_there_are_none(builder: Builder) -> None:
    command = builder.add("arx", archive("#!/bin/sh\nexec unshare -U echo hello\n"))
    within = [sys.executable, "-c", MAPPED, *NO_USER_NAMESPACES]
    line = builder.refused(builder.build(command=command, within=within))
    assert "this machine allows no user namespaces" in line
    assert "user.max_user_namespaces" in line


MAPPED = """
import ctypes, os, sys
ready, go = os.pipe(), os.pipe()
parent = os.getpid()
if os.fork() == 0:  # the map is written from outside, and is that of this machine
    os.read(ready[0], 1)
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/{parent}/{name}", "w") as file:
            file.write("0 0 100000")
    os.write(go[1], b"1")
    os._exit(0)
assert ctypes.CDLL(None).unshare(0x10000000) == 0
os.write(ready[1], b"1")
os.read(go[0], 1)
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""Runs a command in a user namespace with all of this machine's users."""


def test_neither_the_build_nor_the_executable_gets_the_publishers_keys(builder: Builder, bucket: Bucket) -> None:
    secret = bucket.server.keys.secret
    config = builder.configure(bucket)
    builder.environment |= {
        "AWS_ACCESS_KEY_ID": bucket.server.keys.access,
        "AWS_SECRET_ACCESS_KEY": secret,
        "MINIO_ROOT_PASSWORD": secret,
        "CI_DEPLOY_TOKEN": secret,
        "WAYSTATION_ORIGIN__CREDENTIALS_FILE": str(builder.folder / "credentials"),
        "WANTED": "yes",
    }
    command = '{ cat hello.sh; env | sed "s/^/# /"; } >"$OUT/hello"; chmod +x "$OUT/hello"; env >&2'
    arguments = ("--app", "hello", "--version", "0.1.0", "--command", command, "--config", config)
    done = builder("run", builder.project, "--env", "WANTED", "--env", "GIVEN=too", "--verbose", *arguments)
    assert done.status == 0, done.err
    body = bucket.get(TARGET).decode()
    assert "# WANTED=yes\n" in body
    assert "# GIVEN=too\n" in body
    assert secret not in body
    assert "credentials" not in body
    assert secret not in done.err + done.out


@can_confine
def test_a_build_cant_read_the_builders_own_environment(builder: Builder) -> None:
    builder.environment["AWS_SECRET_ACCESS_KEY"] = SECRET
    spy = f'! cat /proc/$PPID/environ >"$SCRATCH/stolen" && [ ! -s "$SCRATCH/stolen" ] && {COPY}'
    done = builder.build(command=spy, within=("unshare", "--user", "--map-user=1000", "--map-group=1000"))
    assert done.status == 0, done.err


def test_a_build_has_fixed_surroundings_and_the_last_commits_time(builder: Builder) -> None:
    git = ["git", "-C", str(builder.project), "-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run([*git, "init", "-q"], check=True)
    (builder.project / ".gitignore").write_text("ignored\n")
    (builder.project / "ignored").write_text("of the developer's own")
    subprocess.run([*git, "add", "."], check=True)
    date = {"GIT_COMMITTER_DATE": "@1700000000 +0000", "GIT_AUTHOR_DATE": "@1700000000 +0000"}
    subprocess.run([*git, "commit", "-qm", "First"], check=True, env={**os.environ, **date})
    subprocess.run([*git, "tag", "v0.3.0"], check=True)
    (builder.project / "new").write_text("not yet committed")
    command = (
        '[ "$SOURCE_DATE_EPOCH $LC_ALL $TZ $(umask)" = "1700000000 C.UTF-8 UTC 0022" ]'
        ' && [ "$APP $VERSION" = "hello 0.3.0" ]'
        " && [ -e new ] && [ ! -e ignored ]"
        f' && [ "$(stat -c %Y hello.sh new .)" = "$(printf "1700000000\\n1700000000\\n1700000000")" ] && {COPY}'
    )
    built = builder("build", builder.project, "--app", "hello", "--command", command, "--json").json
    assert built["version"] == "0.3.0"


def test_what_differs_when_it_is_built_twice_is_refused(builder: Builder) -> None:
    assert builder.build("--check", command=f'{COPY}; pwd | sed "s/^/# /" >>"$OUT/hello"').status == 0
    shutil.rmtree(builder.output)
    line = builder.refused(builder.build("--check", command=f'{COPY}; date "+# %s%N" >>"$OUT/hello"'))
    assert "built twice, the bytes differ" in line


def test_the_project_itself_is_left_as_it_was(builder: Builder) -> None:
    assert builder.build(command=f"touch made; rm -f other; {COPY}").status == 0
    assert os.listdir(builder.project) == ["hello.sh"]


def runs(pid: int) -> bool:
    """Whether a process is there that does something: one that ended waits for whoever takes its status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("is_under_git", [False, True])
def test_what_was_built_before_is_no_part_of_the_project(builder: Builder, is_under_git: bool) -> None:
    if is_under_git:
        subprocess.run(["git", "init", "-q", builder.project], check=True)
    command = f'{COPY}; find . -type f | sort | sed "s/^/# /" >>"$OUT/hello"'
    digests = [
        builder.build("--output", builder.project / "dist", "--json", command=command).json["sha256"] for _ in "12"
    ]
    assert digests[0] == digests[1]


def test_what_the_system_refuses_is_said_in_one_line(builder: Builder) -> None:
    builder.output.write_text("a file where the folder should be")
    done = builder.build()
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("waystation-builder: ")
    assert "File exists" in done.err
    missing = builder("build", builder.folder / "nowhere", "--command", COPY)
    assert missing.status == 1
    assert "is no folder" in missing.err


def test_wrong_use_ends_with_status_2(builder: Builder) -> None:
    for arguments in (
        ("build", "--bundler", "none"),
        ("build", "--bundler", "nix", "--command", COPY),
        ("build", "--smoke-timeout", "0"),
        ("publish",),
        ("make",),
        (),
    ):
        done = builder(*arguments)
        assert done.status == 2
    done = builder.build("--version", "0.1 0", "--json")
    assert (done.status, json.loads(done.err)["error"]["reason"]) == (2, "bad_target")


def test_a_build_that_is_stopped_leaves_no_process_and_no_file(builder: Builder) -> None:
    note = builder.folder / "pid"
    command = f"sleep 1000 & echo $! >{note}; wait"
    arguments = ("build", builder.project, "--app", "hello", "--version", "0.1.0", "--command", command)
    with subprocess.Popen(
        [sys.executable, "-m", "waystation_builder", *arguments], cwd=builder.folder, env=builder.environment
    ) as process:
        wait_until(lambda: note.exists() and bool(note.read_text()), "the build runs")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
    wait_until(lambda: not runs(int(note.read_text())), "what the build started is gone")
    assert list((builder.folder / "tmp").glob("waystation-builder-*/*/")) == []
    assert os.listdir(builder.output) == []


def test_doctor_says_whether_a_machine_has_what_a_target_needs(builder: Builder, bucket: Bucket) -> None:
    config = builder.configure(bucket)
    builder("publish", builder.build("--json").json["file"], "--config", config)
    doctor = [sys.executable, "-m", "waystation", "doctor", "--for", TARGET, "--config", str(config), "--json"]
    told = json.loads(subprocess.run(doctor, env=builder.environment, check=True, capture_output=True).stdout)
    assert "it needs sh: " in told["findings"][-1]["says"]


def derive(name: str, system: str, script: str) -> str:
    """A derivation that needs nothing but the machine's own shell."""
    return f'derivation {{ name = "{name}"; {system} builder = "/bin/sh"; args = [ "-c" "{script}" ]; }}'


@pytest.mark.skipif(shutil.which("nix") is None, reason="there is no nix")
@pytest.mark.parametrize("file", ["default.nix", "flake.nix"])
def test_nix_builds_offline_and_names_what_it_builds(builder: Builder, file: str) -> None:
    for folder in ("store", "state", "log"):
        builder.environment[f"NIX_{folder.upper()}_DIR"] = str(builder.folder / "nix" / folder)
    greet = "/bin/mkdir -p $out/bin; printf '#!/bin/sh\\necho greeter\\n' >$out/bin/greet; /bin/chmod +x $out/bin/greet"
    derivation = derive("greeter-1.2", "inherit system;", greet)
    (builder.project / "default.nix").write_text(f"{{ system ? builtins.currentSystem }}: {derivation}\n")
    if file == "flake.nix":
        system = f'system = "{ARCH}-linux";'
        package = f"packages.{ARCH}-linux.default = import ./default.nix {{ {system} }};"
        rename = "/bin/sed s/greeter/bundled/ ${it}/bin/greet >$out; /bin/chmod +x $out"
        bundler = f"bundlers.{ARCH}-linux.default = it: {derive('bundle', system, rename)};"
        (builder.project / file).write_text(f"{{ outputs = {{ self }}: {{ {package} {bundler} }}; }}\n")
    offline = [("sandbox", "false"), ("build-users-group", ""), ("substituters", "")]
    options = [word for name, value in offline for word in ("--nix-option", name, value)]
    built = builder("build", builder.project, "--check", "--json", *options).json
    assert (built["file"], built["why"]) == (f"dist/greeter-1.2-{ARCH}", f"there is a {file}")
    assert "greeter" in (builder.folder / built["file"]).read_text()
    if file == "flake.nix":
        built = builder("build", builder.project, "--nix-bundler", f"path:{builder.project}", "--json", *options).json
        assert "bundled" in (builder.folder / built["file"]).read_text()


ASKING = """
import os
def get_requires_for_build_wheel(settings=None):
    raise SystemExit("I am version " + os.environ["SETUPTOOLS_SCM_PRETEND_VERSION"])
"""


def test_a_python_project_is_told_its_version_and_why_it_cant_be_built_is_shown(builder: Builder) -> None:
    (builder.project / "pyproject.toml").write_text(
        '[project]\nname = "hello"\ndynamic = ["version"]\n[project.scripts]\nhello = "hello:main"\n'
        '[build-system]\nrequires = []\nbuild-backend = "asking"\nbackend-path = ["."]\n'
    )
    (builder.project / "asking.py").write_text(ASKING)
    done = builder("build", builder.project, "--version", "1.2.3")
    builder.refused(done)
    assert "  I am version 1.2.3" in done.err.splitlines()


@pytest.mark.timeout(900)  # the first bundling downloads PyInstaller
def test_a_poetry_project_becomes_one_executable_that_runs_under_nomad(builder: Builder, bucket: Bucket) -> None:
    """The bundle is made once for all tests, by the builder; here it is taken for what a project's own build left."""
    made = subprocess.run(
        [ROOT / "scripts/bundle-example"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()
    record = json.loads(Path(f"{made}.build.json").read_text())
    assert (record["app"], record["version"], record["bundler"]) == ("app", "0.1.0", "pyinstaller")
    libpython = Path(sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME") or "none")
    if libpython.exists() and (glibc := read_elf(libpython).glibc):  # it is carried
        assert tuple(map(int, record["needs"][0].removeprefix("glibc>=").split("."))) >= glibc
    built = builder.build("--json", command=f'cp "{made}" "$OUT/"').json
    assert built["smoke"] == f"{NAME} --version ended well as nobody in 'nomad-exec'"
    assert built["needs"] == record["needs"]
