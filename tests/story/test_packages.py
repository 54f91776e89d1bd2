"""The packages, built by `scripts/package` and lived with on a Debian of the test's own, under systemd itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from packages.build import prepare
from packages.pack import pack
from packages.tree import HOME, lay_out
from packages.verbs import program
from peers import debian, provide
from peers.processes import Process, wait_until
from peers.s3 import Keys
from stores import random_bytes
from waystation.cli.entry import VERBS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from packages.tree import Build
    from peers.debian import Machine
    from peers.s3 import Bucket

pytestmark = pytest.mark.timeout(900)  # the first time, a Debian is made

ROOT = Path(__file__).resolve().parents[2]
BODY = random_bytes(3_000_000)
TARGET = "app/app-1.0.0-x86_64"
CONFIGURATION = """\
[origin]
url = "file:///srv/artifacts"
[store]
min_free = "0"
"""
TAKING_OVER = """\
[origin]
url = "s3://artifacts"
endpoint_url = "http://10.99.0.1:9000"
credentials_file = "%d/s3"
[store]
min_free = "0"
[takeover]
enabled = true
"""
ROLL_BACK = ("disable", "--now", "waystation.socket", "waystation-https.socket", "waystation.service")
ASK = "import sys, urllib.request as r; sys.stdout.buffer.write(r.urlopen(sys.argv[1], timeout=30).read())"
LOAD = """\
import collections, hashlib, json, pathlib, sys, threading, urllib.request
url, digest, over, log = sys.argv[1:]
outcomes = collections.Counter()
def download():
    while not pathlib.Path(over).exists():
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                outcome = "whole" if hashlib.sha256(answer.read()).hexdigest() == digest else "not whole"
        except OSError as error:
            outcome = f"failed: {error}"
        outcomes[outcome] += 1
        with open(log, "a") as counted:
            counted.write("x")
clients = [threading.Thread(target=download) for _ in range(4)]
[client.start() for client in clients]
[client.join() for client in clients]
print(json.dumps(outcomes))
"""
ROOTS_OWN = {"PATH": debian.PATH, "DEBIAN_FRONTEND": "noninteractive"}
APART = ("unshare", "--mount", "--pid", "--fork")
FOLDERS = ("/etc", "/opt", "/usr", "/var", "/run")


def needs(command: str) -> pytest.MarkDecorator:
    package = {"man": "man-db"}.get(command, command)
    return pytest.mark.skipif(not shutil.which(command), reason=f"{command} is not on PATH (Debian: {package})")


@dataclass(frozen=True, slots=True)
class Built:
    """What one run of `scripts/package` left, and a later version of it."""

    build: Build
    out: Path
    tree: Path
    newer: Path

    def made(self, pattern: str, *, newer: bool = False) -> Path:
        (path,) = (self.newer if newer else self.out).glob(pattern)
        return path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build once, for the Python of the Debian made here; and the same tree with a later version."""
    folder = tmp_path_factory.mktemp("packages")
    python = _python_of_the_machine() or f"{sys.version_info.major}.{sys.version_info.minor}"
    options: list[str | Path] = ["--out", folder / "out", "--keep-tree", folder / "tree", "--python", python]
    made = subprocess.run([ROOT / "scripts/package", *options], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    build, newer = prepare(python, 1), folder / "newer"
    later = folder / "later"
    shutil.copytree(folder / "tree", later, symlinks=True, copy_function=os.link)
    (metadata,) = (later / build.site_packages).glob("waystation-*.dist-info")
    said = (metadata / "METADATA").read_text()
    (metadata / "METADATA").unlink()
    (metadata / "METADATA").write_text(said.replace(f"\nVersion: {build.version}\n", "\nVersion: 99.0.0\n"))
    metadata.rename(metadata.with_name("waystation-99.0.0.dist-info"))
    newer.mkdir()
    pack(replace(build, version="99.0.0"), later, newer)
    return Built(build, folder / "out", folder / "tree", newer)


@pytest.fixture(scope="module")
def archive() -> Path:
    version = _python_of_the_machine() or "3.11"
    try:
        return debian.files("nftables", f"python{version}", "systemd")
    except debian.NoDebian as error:
        pytest.skip(f"no Debian to install packages in: {error}")


@pytest.fixture
def machine(archive: Path, built: Built, tmp_path: Path) -> Iterator[Machine]:
    with debian.running(archive, tmp_path / "machine") as machine:
        bring(built, machine.root)
        yield machine


@pytest.fixture
def root(archive: Path, built: Built, tmp_path: Path) -> Path:
    """The same Debian as files alone: nothing runs in it."""
    root = tmp_path / "root"
    root.mkdir()
    subprocess.run(["tar", "-C", root, "-xf", archive], check=True)
    bring(built, root)
    return root


def bring(built: Built, root: Path) -> None:
    shutil.copy(built.made("*.deb"), root / "root/old.deb")
    shutil.copy(built.made("*.deb", newer=True), root / "root/new.deb")
    artifact = root / "srv/artifacts" / TARGET
    artifact.parent.mkdir(parents=True)
    artifact.write_bytes(BODY)
    artifact.with_name(f"{artifact.name}.sha256").write_text(f"{sha256(BODY).hexdigest()}  {artifact.name}\n")


def _python_of_the_machine() -> str | None:
    """The version of this distribution's own Python, which the Debian made here has, too."""
    own = Path("/usr/bin/python3").resolve().name
    return own.removeprefix("python") if re.fullmatch(r"python3\.\d+", own) else None


# --- on a machine ----------------------------------------------------------------------------------


def test_a_machine_from_its_installation_to_its_purge(machine: Machine, tmp_path: Path) -> None:
    said = machine.run("dpkg", "--install", "/root/old.deb").stdout
    assert said.splitlines()[-1].startswith("waystation: not started; edit /etc/waystation/waystation.toml")
    assert machine.run("systemctl", "is-enabled", "waystation.service", check=False).stdout.strip() == "disabled"
    assert active(machine) == ("inactive", "inactive")
    owned = machine.run("stat", "--format=%A %U %G", "/etc/waystation/waystation.toml", "/var/lib/waystation").stdout
    assert owned.splitlines() == ["-rw-r----- root waystation", "drwxr-x--- waystation waystation"]
    shipped = files_in_opt(machine)
    assert_nothing_is_compiled(machine)

    # Configured, it is ready once `systemctl` comes back, as its own user, on systemd's socket.
    (machine.root / "etc/waystation/waystation.toml").write_text(CONFIGURATION)
    machine.run("systemctl", "enable", "--now", "waystation.service")
    first = machine.show("waystation.service", "MainPID")
    assert machine.run("stat", "--format=%U", f"/proc/{first}").stdout.strip() == "waystation"
    assert "LISTEN_FDNAMES=waystation.socket" in machine.run("cat", f"/proc/{first}/environ").stdout.split("\0")
    assert ask(machine, f"/artifacts/{TARGET}") == BODY
    assert 'version="0.1.0"' in ask(machine, "/metrics").decode()
    socket_since = machine.show("waystation.socket", "ActiveEnterTimestampMonotonic")

    # An upgrade while clients download: another daemon, the same socket, nobody refused.
    outcomes = while_clients_download(machine, tmp_path, lambda: machine.run("dpkg", "--install", "/root/new.deb"))
    assert set(outcomes) == {"whole"}
    assert machine.show("waystation.service", "MainPID") not in {first, "0"}
    assert machine.show("waystation.socket", "ActiveEnterTimestampMonotonic") == socket_since
    assert 'version="99.0.0"' in ask(machine, "/metrics").decode()
    assert {path.replace("99.0.0", "0.1.0") for path in files_in_opt(machine)} == shipped

    # What an administrator has stopped, no upgrade starts.
    machine.run("systemctl", "stop", "waystation.socket", "waystation.service")
    machine.run("dpkg", "--install", "/root/new.deb")
    assert active(machine) == ("inactive", "inactive")
    machine.run("systemctl", "start", "waystation.service")

    # Removed: nothing runs, no rule stands, no link is left; configuration and store stay.
    machine.run("nft", "add table inet waystation")
    machine.run("dpkg", "--remove", "waystation")
    assert active(machine) == ("inactive", "inactive")
    assert "waystation" not in machine.run("nft", "list", "tables").stdout
    assert not list((machine.root / "etc/systemd/system").rglob("*waystation*"))
    assert not (machine.root / "opt/waystation").exists()
    assert (machine.root / "etc/waystation/waystation.toml").read_text() == CONFIGURATION
    assert list((machine.root / "var/lib/waystation/blobs").rglob(sha256(BODY).hexdigest()))

    # Installed again, it goes on with both, also while its origin is away.
    machine.run("dpkg", "--install", "/root/new.deb")
    shutil.rmtree(machine.root / "srv/artifacts")
    machine.run("systemctl", "enable", "--now", "waystation.service")
    assert ask(machine, f"/artifacts/{TARGET}") == BODY

    # Purged: nothing but the user.
    (machine.root / "etc/waystation/credentials").write_text("# keys\n")
    machine.run("dpkg", "--purge", "waystation")
    assert active(machine) == ("inactive", "inactive")
    assert traces(machine) == []
    assert machine.run("id", "--user", "--name", "waystation").stdout.strip() == "waystation"


def test_the_units_take_the_bucket_over_with_keys_that_only_systemd_passes(machine: Machine, tmp_path: Path) -> None:
    """Systemd 252, Debian 12's, shows them to ExecStart= alone; and it forgets the Exec lines of what is masked."""
    machine.run("dpkg", "--install", "/root/old.deb")
    keys = Keys("reader-of-the-test", "secret-of-the-test")
    keys.write(machine.root / "etc/waystation/credentials")
    (machine.root / "etc/waystation/waystation.toml").write_text(TAKING_OVER)
    (machine.root / "etc/systemd/system/nomad.service").write_text("[Service]\nExecStart=/bin/sleep infinity\n")
    subprocess.run(machine.beside("ip", "address", "add", "10.99.0.1/32", "dev", "lo"), check=True)
    (tmp_path / "data/artifacts").mkdir(parents=True)
    options: list[str | Path] = [
        "--quiet",
        "--certs-dir",
        tmp_path / "none",
        "--address",
        "10.99.0.1:9000",
        tmp_path / "data",
    ]
    owner = {"MINIO_ROOT_USER": keys.access, "MINIO_ROOT_PASSWORD": keys.secret, "MINIO_BROWSER": "off"}
    minio = machine.beside(provide.binary(provide.MINIO), "server", *options)
    with Process(minio, log=tmp_path / "minio.log", environment={**os.environ, **owner}) as server:
        server.start()
        machine.run("systemctl", "enable", "--now", "waystation.service")
        assert (
            "Nothing is taken over: the matched cgroup does not exist now"
            in machine.run("systemctl", "status", "waystation.service").stdout
        )
        machine.run("systemctl", "start", "nomad.service")
        assert "leads to the mirror" in machine.run("waystation", "doctor").stdout
        for event in ("waystation.service", "nomad.service"):
            machine.run("systemctl", "restart", event)
            assert "redirect to :4650" in machine.run("nft", "list", "ruleset").stdout
        machine.run("systemctl", "reload", "waystation.service")
        wait_until(lambda: json.loads(ask(machine, "/api/v1/status"))["reload"] is not None, "the reload")
        assert json.loads(ask(machine, "/api/v1/status"))["reload"]["refused_because"] is None
        machine.run("systemctl", *ROLL_BACK)
        assert active(machine) == ("inactive", "inactive")
        assert not machine.run("nft", "list", "ruleset").stdout
        machine.run("systemctl", "restart", "nomad.service")
        assert active(machine) == ("inactive", "inactive")


def assert_nothing_is_compiled(machine: Machine) -> None:
    """The shipped bytecode counts, whatever becomes of the files' times (a copy, a restored backup)."""
    machine.run("find", "/opt/waystation", "-name", "*.py", "-exec", "touch", "{}", "+")
    wanted = "import waystation.station, waystation.cli.publish, aiobotocore.session, rich.progress"
    told = machine.run("/opt/waystation/bin/python3", "-I", "-v", "-c", wanted).stderr
    loaded = re.findall(r"^# code object from '?(/opt/waystation/\S+?)'?$", told, flags=re.MULTILINE)
    assert len(loaded) > 300
    assert [path for path in loaded if not path.endswith(".pyc")] == []


def active(machine: Machine) -> tuple[str, str]:
    units = ("waystation.service", "waystation.socket")
    state, socket = (machine.show(unit, "ActiveState") for unit in units)
    return state, socket


def ask(machine: Machine, path: str) -> bytes:
    asked = machine.beside(sys.executable, "-c", ASK, f"http://127.0.0.1:4650{path}")
    return subprocess.run(asked, check=True, capture_output=True).stdout


def while_clients_download(machine: Machine, folder: Path, act: Callable[[], object]) -> dict[str, int]:
    over, counted = folder / "over", folder / "counted"
    counted.touch()
    load = machine.beside(
        sys.executable, "-c", LOAD, f"http://127.0.0.1:4650/artifacts/{TARGET}", sha256(BODY).hexdigest(), over, counted
    )
    with Process(load, log=folder / "load.log") as clients:
        clients.start()
        wait_until(lambda: counted.stat().st_size > 20, "downloads")
        act()
        served = counted.stat().st_size
        wait_until(lambda: counted.stat().st_size > served + 20, "downloads from the new daemon")
        over.touch()
        assert clients.wait() == 0
        outcomes: dict[str, int] = json.loads(clients.output())
        return outcomes


def files_in_opt(machine: Machine) -> set[str]:
    return {str(path.relative_to(machine.root)) for path in (machine.root / "opt/waystation").rglob("*")}


def traces(machine: Machine) -> list[str]:
    wanted = ("-iname", "*waystation*", "-not", "-path", "/run/systemd/*")
    return machine.run("find", *FOLDERS, "-xdev", *wanted, check=False).stdout.split()


# --- without systemd -------------------------------------------------------------------------------


def in_files(root: Path, *command: str, network: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a command with these files and nothing else of a machine; `network`: with this machine's."""
    apart = [*APART, *([] if network else ["--net"]), f"--mount-proc={root}/proc"]
    return subprocess.run(
        [*apart, "chroot", root, *command], capture_output=True, text=True, check=False, env=ROOTS_OWN
    )


def test_in_files_alone_it_is_installed_twice_speaks_s3_and_is_removed_and_purged_without_a_complaint(
    root: Path, bucket: Bucket, tmp_path: Path
) -> None:
    def dpkg(*words: str) -> None:
        done = in_files(root, "dpkg", *words)
        assert done.returncode == 0, done.stderr
        assert "rror" not in done.stderr + done.stdout

    dpkg("--install", "/root/old.deb")
    dpkg("--install", "/root/old.deb")
    publish_and_fetch(root, bucket, tmp_path)
    dpkg("--remove", "waystation")
    assert (root / "etc/waystation/waystation.toml").exists()
    dpkg("--purge", "waystation")
    dpkg("--purge", "waystation")
    assert not (root / "etc/waystation").exists()
    assert not (root / "var/lib/waystation").exists()


def publish_and_fetch(root: Path, bucket: Bucket, tmp_path: Path) -> None:
    """What botocore was trimmed to is enough."""
    keys = bucket.server.keys.write(tmp_path / "keys")
    shutil.copy(keys, root / "etc/waystation/credentials")
    (root / "etc/waystation/waystation.toml").write_text(
        f'[origin]\nurl = "s3://{bucket.name}"\nendpoint_url = "{bucket.server.endpoint_url}"\nregion = "us-east-1"\n'
        'credentials_file = "/etc/waystation/credentials"\n'
    )
    artifact = f"/srv/artifacts/{TARGET}"
    for words in (
        ["publish", artifact, "--app", "app", "--version", "1.0.0", "--arch", "x86_64"],
        ["fetch", TARGET, "-o", "/root/fetched"],
    ):
        done = in_files(root, "waystation", *words, network=True)
        assert done.returncode == 0, done.stderr
    assert (root / "root/fetched").read_bytes() == BODY


@needs("rpm")
def test_the_rpm_is_whole_and_its_scripts_do_what_an_rpm_does(root: Path, built: Built) -> None:
    database = ["--root", str(root), "--dbpath", "/var/lib/rpm"]

    def rpm(*words: str | Path) -> str:
        done = subprocess.run(
            [*APART, "--net", f"--mount-proc={root}/proc", "rpm", *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    old, new = built.made("*.rpm"), built.made("*.rpm", newer=True)
    assert "digests OK" in rpm("--checksig", "--nosignature", old)
    listed = set(rpm("--query", "--list", "--package", old).splitlines())
    paths = {f"/{path.relative_to(built.tree)}" for path in built.tree.rglob("*") if not path.is_dir()}
    assert {path for path in paths - listed if "zsh" not in path and "lintian" not in path} == {
        "/usr/share/doc/waystation/changelog.Debian.gz"
    }
    assert "/usr/share/zsh/site-functions/_waystation" in listed
    assert {"/", "/usr", "/usr/bin", "/usr/lib", "/etc", "/opt"} & listed == set()  # the system's own
    assert rpm("--query", "--configfiles", "--package", old).split() == ["/etc/waystation/waystation.toml"]
    needed = rpm("--query", "--requires", "--package", old).splitlines()
    assert f"/usr/bin/python{built.build.python_version}" in needed
    assert "systemd" in needed

    said = rpm(*database, "--install", "--nodeps", old)
    assert "waystation: not started" in said
    assert "waystation:" in (root / "etc/passwd").read_text()
    configuration = root / "etc/waystation/waystation.toml"
    assert configuration.stat().st_mode & 0o777 == 0o640
    assert configuration.stat().st_gid == int(
        re.findall(r"^waystation:.*?:(\d+):", (root / "etc/group").read_text(), re.MULTILINE)[0]
    )
    rpm(*database, "--verify", "--nodeps", "--nouser", "--nogroup", "--nomode", "waystation")
    configuration.write_text(CONFIGURATION)
    wants = root / "etc/systemd/system/multi-user.target.wants/waystation.service"
    in_files(root, "systemctl", "enable", "waystation.service")
    assert "not started" not in rpm(*database, "--upgrade", "--nodeps", new)
    assert configuration.read_text() == CONFIGURATION
    assert wants.is_symlink()  # an upgrade is no removal
    assert "99.0.0" in in_files(root, "waystation", "--version").stdout
    rpm(*database, "--erase", "--nodeps", "waystation")
    assert not wants.is_symlink()
    assert not (root / "opt/waystation").exists()
    assert configuration.with_name("waystation.toml.rpmsave").read_text() == CONFIGURATION
    assert (root / "var/lib/waystation").exists()


# --- what is in them -------------------------------------------------------------------------------


@needs("lintian")
def test_lintian_finds_no_error(built: Built) -> None:
    verdict = subprocess.run(["lintian", built.made("*.deb")], capture_output=True, text=True, check=False)
    assert [line for line in verdict.stdout.splitlines() if line[:2] in {"E:", "W:"}] == []


def test_the_bill_of_materials_names_what_is_bundled_and_no_more(built: Built) -> None:
    bill = json.loads(built.made("*.cdx.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    packages = built.tree / built.build.site_packages
    installed = {path.name.removesuffix(".dist-info").rsplit("-", 1)[0] for path in packages.glob("*.dist-info")}
    named = {each["name"].replace("-", "_"): each for each in bill["components"]}
    assert set(named) == {name.lower() for name in installed} - {"waystation"}
    locked = {each["name"]: each for each in tomllib.loads((ROOT / "uv.lock").read_text())["package"]}
    licences = built.made("*.licences.txt").read_text()
    for each in bill["components"]:
        hashes = {wheel["hash"] for wheel in locked[each["name"]]["wheels"]}
        assert f"sha256:{each['hashes'][0]['content']}" in hashes
        assert each["licenses"]
        assert re.search(
            rf"^{each['name'].replace('-', '.')} {re.escape(each['version'])}: ", licences, re.MULTILINE | re.IGNORECASE
        )
    assert (built.tree / HOME / "share/doc/waystation.cdx.json").read_text() == built.made("*.cdx.json").read_text()
    (ours,) = [each for each in bill["dependencies"] if each["ref"] == "waystation"]
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {ref.partition("@")[0] for ref in ours["dependsOn"]} == {re.split(r"[^a-z-]", each)[0] for each in wanted}


def test_the_checksums_are_those_of_what_was_made(built: Built) -> None:
    checked = subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=built.out, capture_output=True, check=False)
    assert checked.returncode == 0
    assert len((built.out / "SHA256SUMS").read_text().splitlines()) == 5


def test_the_wheel_is_installed_into_an_empty_environment(built: Built, tmp_path: Path) -> None:
    environment = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(tmp_path / "venv")}
    environment.pop("VIRTUAL_ENV", None)
    python = tmp_path / "venv/bin/python"
    for words in (
        ["sync", "--quiet", "--locked", "--no-dev", "--no-install-project", "--project", str(ROOT)],
        ["pip", "install", "--quiet", "--offline", "--python", str(python), str(built.made("*.whl"))],
    ):
        subprocess.run([built.build.uv, *words], env=environment, check=True)
    shown = subprocess.run([tmp_path / "venv/bin/waystation", "--help"], capture_output=True, text=True, check=False)
    assert shown.returncode == 0
    assert all(verb in shown.stdout for verb in VERBS)


@needs("man")
def test_the_manual_page_renders_without_a_warning_and_has_every_verb(built: Built) -> None:
    page = built.tree / "usr/share/man/man1/waystation.1.gz"
    environment = {**os.environ, "MANWIDTH": "200", "LC_ALL": "C.UTF-8", "MAN_KEEP_STDERR": "1"}
    shown = subprocess.run(
        ["man", "--warnings", "--local-file", page], capture_output=True, text=True, check=False, env=environment
    )
    assert (shown.returncode, shown.stderr) == (0, "")
    for verb in program().all()[1:]:
        assert f"   waystation {' '.join(verb.path)}" in shown.stdout
        assert verb.summary.split(".")[0][:60] in shown.stdout


BASH = """\
. "$0"
COMP_WORDS=(waystation "$@") COMP_CWORD=$#
_waystation
printf "%s\\n" "${COMPREPLY[@]}"
"""
SHELLS = {
    "bash": ("bash-completion/completions/waystation", BASH),
    "fish": (
        "fish/vendor_completions.d/waystation.fish",
        'source $argv[1]; complete -C (string join " " -- waystation $argv[2..])',
    ),
}


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["st"], ["stanza", "status", "store"]),
        (["store", ""], ["evict", "ls", "pin", "unpin", "verify"]),
        (["takeover", "o"], ["off", "on"]),
        (["takeover", "status", "--"], ["--help", "--json"]),
        (["publish", "--ar"], ["--arch"]),
    ],
)
@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_verbs_and_options(built: Built, shell: str, words: list[str], offered: list[str]) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not on PATH")
    file, script = SHELLS[shell]
    path = built.tree / "usr/share" / file
    shown = subprocess.run([shell, "-c", script, path, *words], capture_output=True, text=True, check=True)
    assert sorted(line.split("\t")[0] for line in shown.stdout.splitlines()) == offered


@needs("zsh")
def test_zsh_reads_its_completion_and_runs_nothing_of_what_it_says(built: Built) -> None:
    path = built.tree / "usr/share/zsh/vendor-completions/_waystation"
    assert not re.search(r":verb:[^']*[`$]", path.read_text())
    subprocess.run(["zsh", "-n", path], check=True)


def test_two_trees_of_one_commit_are_packed_alike(built: Built, tmp_path: Path) -> None:
    """The environment laid out anew, compiled anew, packed anew: the same bytes."""
    tree = tmp_path / "tree"
    lay_out(built.build, built.made("*.whl"), tree)
    for paper in ("waystation.cdx.json", "licences.txt"):
        shutil.copy(built.tree / HOME / "share/doc" / paper, tree / HOME / "share/doc" / paper)
    for path in pack(built.build, tree, tmp_path):
        assert path.read_bytes() == (built.out / path.name).read_bytes()
