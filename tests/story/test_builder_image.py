"""The builder's image, from nothing: what is in it, and projects that go in and run as a Nomad job's task.

It is built by buildah from this machine's Debian mirror, which takes most of this file's time.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import tarfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest

from peers import go_getter
from peers.builder_container import Container, roomy_folder, running_container, way_to_pypi
from peers.processes import wait_until
from peers.provide import go
from peers.station import running_station, s3_config
from peers.task_root import TaskRoot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from peers.s3 import Bucket

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
ARCH = os.uname().machine
NEEDED = {"buildah": "buildah", "mmdebstrap": "mmdebstrap", "setpriv": "util-linux"}
MISSING = [package for program, package in NEEDED.items() if not shutil.which(program)]
STATIC_BUNDLER = "path:/usr/share/waystation-bundlers/static"
SECRETS = {"UV_INDEX_PRIVATE_PASSWORD": "hunter2-of-the-index", "AWS_SECRET_ACCESS_KEY": "hunter2-of-the-bucket"}
"""What the machine that builds the image knows, one for the way to PyPI and one for the bucket."""


@dataclass(frozen=True, slots=True)
class Project:
    """One example: the ways in which it is built, all to the same bytes, and what it then says."""

    target: str
    builds: tuple[tuple[str, ...], ...]
    says: str
    variables: tuple[dict[str, str], ...] = ({},)
    """For each build its own, or one for all."""
    offline: bool = True
    page: str | None = None


PROJECTS = {
    "pet-taxi": Project(
        f"app/app-0.1.0-{ARCH}",
        (("/examples/pet-taxi", "--bundler", "pyinstaller"),),
        "app 0.1.0\n",
        variables=(way_to_pypi(),),
        offline=False,
        page="We need a $10M series B",
    ),
    "hello-static": Project(
        f"hello-static/hello-static-0.1.0-{ARCH}",
        (
            ("/examples/hello-static", "--check"),
            ("/examples/hello-static", "--nix-bundler", STATIC_BUNDLER),
            ("/without-flake/hello-static",),
        ),
        "hello-static 0.1.0 needs nothing of the machine but a kernel\n",
        variables=({"NIX_CONFIG": "sandbox = false\nsubstituters ="},),
    ),
    "hello-go": Project(
        f"hello-go/hello-go-0.1.0-{ARCH}",
        (("/examples/hello-go", "--version", "0.1.0", "--env", "GOCACHE"),) * 2,
        "hello-go 0.1.0\n",
        variables=({"GOCACHE": "/work/first"}, {"GOCACHE": "/work/second"}),
    ),
}

pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.skipif(bool(MISSING), reason=f"not on PATH (Debian: {', '.join(MISSING)})"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can enter a task's root"),
]


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with roomy_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def archive(place: Path) -> Path:
    """The image, as the script leaves it."""
    made = subprocess.run(
        [ROOT / "scripts/builder-image", "--output", place / "image.tar"],
        env={**os.environ, **SECRETS, "TMPDIR": str(place)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert made.stdout == f"{place / 'image.tar'}\n"
    assert sorted(os.listdir(place)) == ["image.tar"]  # nothing else is left
    return place / "image.tar"


@pytest.fixture(scope="module")
def container(archive: Path, place: Path) -> Iterator[Container]:
    with running_container(archive, place / "containers") as running:
        yield running


class Image:
    """An OCI archive, taken apart."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        (described,) = json.load(self._blob("index.json"))["manifests"]
        self.manifest = json.load(self._blob(described["digest"]))
        self.config: dict[str, Any] = json.load(self._blob(self.manifest["config"]["digest"]))

    def streams(self) -> Iterator[IO[bytes]]:
        """All of it, layers unpacked."""
        for member in self._archive.getmembers():
            if member.isfile():
                yield self._archive.extractfile(member)  # type: ignore[misc] # a file has one
        for layer in self.manifest["layers"]:
            yield gzip.GzipFile(fileobj=self._blob(layer["digest"]))  # type: ignore[misc] # is a binary stream

    def _blob(self, name: str) -> IO[bytes]:
        opened = self._archive.extractfile(name.replace("sha256:", "blobs/sha256/"))
        assert opened
        return opened


@pytest.fixture(scope="module")
def image(archive: Path) -> Iterator[Image]:
    with tarfile.open(archive) as opened:
        yield Image(opened)


def words_in(stream: IO[bytes], words: list[bytes]) -> set[bytes]:
    """Which of the words a stream holds."""
    found, kept = set(), b""
    while portion := stream.read(4 * 1024 * 1024):
        portion = kept + portion
        found |= {word for word in words if word in portion}
        kept = portion[-200:]
    return found


def test_no_secret_of_the_machine_and_no_trace_of_it_is_in_any_layer(image: Image) -> None:
    marker = b"Turns a project into one self-contained executable"
    unwanted = [*(secret.encode() for secret in SECRETS.values()), str(ROOT).encode() + b"/"]
    found = set().union(*(words_in(stream, [*unwanted, marker]) for stream in image.streams()))
    assert found == {marker}  # what is there is found


def test_the_image_runs_the_builder_as_a_user_of_its_own(image: Image, container: Container) -> None:
    assert image.config["config"]["User"] == "builder"
    assert image.config["config"]["Entrypoint"] == ["waystation-builder"]
    assert container.run("waystation-builder", "--version").stdout == "waystation-builder 0.1.0\n"
    assert container.run("waystation", "--version").stdout == "waystation 0.1.0\n"


def test_that_user_has_no_rights_and_finds_nothing_that_gives_any(container: Container) -> None:
    status = container.run("cat", "/proc/self/status").stdout
    assert re.search(r"^Uid:\t1000\t1000\t1000\t1000$", status, re.MULTILINE)
    for kind in ("CapPrm", "CapEff", "CapAmb"):
        assert re.search(rf"^{kind}:\t0+$", status, re.MULTILINE), status
    assert container.run("find", "/", "-xdev", "-type", "f", "-perm", "/6000").stdout == ""
    writable = container.run("find", "/", "-xdev", "-writable", "!", "-type", "l", "-prune").stdout.split()
    assert sorted(writable) == ["/home/builder", "/nix", "/run/lock", "/tmp", "/var/tmp", "/work"]  # noqa: S108 - found


@pytest.fixture(scope="module")
def sources(place: Path) -> dict[str, Path]:
    """The examples, one of them also without its flake; and Go, which the image leaves to those who need it."""
    shutil.copytree(EXAMPLES / "hello-static", place / "without-flake/hello-static")
    (place / "without-flake/hello-static/flake.nix").unlink()
    goroot = subprocess.check_output([go(), "env", "GOROOT"], text=True).strip()
    return {"/examples": EXAMPLES, "/without-flake": place / "without-flake", "/usr/local/go": Path(goroot)}


def published_by(
    container: Container, project: Project, sources: dict[str, Path], bucket: Bucket
) -> list[dict[str, Any]]:
    """What each of a project's builds published."""
    published = []
    toolchain = {"PATH": "/usr/local/go/bin:/opt/waystation/bin:/usr/bin:/bin", "GOTOOLCHAIN": "local"}
    access = {
        "WAYSTATION_ORIGIN__URL": f"s3://{bucket.name}",
        "WAYSTATION_ORIGIN__ENDPOINT_URL": bucket.server.endpoint_url,
        "WAYSTATION_ORIGIN__REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": bucket.server.keys.access,
        "AWS_SECRET_ACCESS_KEY": bucket.server.keys.secret,
    }
    for number, build in enumerate(project.builds):
        variables = toolchain | project.variables[number % len(project.variables)]
        # What is only chrooted can't make a root for the smoke run; the test below has one.
        built = container.run(
            *("waystation-builder", "build", *build, "--no-smoke", "--json"),
            environment=variables,
            folders=sources,
            offline=project.offline,
        )
        assert built.returncode == 0, built.stderr
        file = json.loads(built.stdout)["file"]
        uploaded = container.run("waystation-builder", "publish", file, "--json", environment=access)
        assert uploaded.returncode == 0, uploaded.stderr
        published.append(json.loads(uploaded.stdout))
    return published


@pytest.mark.parametrize("project", PROJECTS.values(), ids=PROJECTS)
def test_a_project_that_goes_in_runs_as_a_task_on_a_machine_that_had_it_before_it_was_asked_for(
    container: Container, project: Project, sources: dict[str, Path], bucket: Bucket, tmp_path: Path
) -> None:
    first, *others = published_by(container, project, sources, bucket)
    assert (first["target"], first["already"]) == (project.target, False)
    assert all(other == {**first, "already": True} for other in others)  # the same bytes, or it is refused

    config = {**s3_config(bucket, tmp_path), "prefetch": [{"match": "*/*", "newest": 1}]}
    with running_station(tmp_path / "station", config) as station:
        wait_until(
            lambda: station.metric("waystation_wanted_targets", state="ready") == 1, "it is prefetched", timeout_s=120
        )
        executable = tmp_path / "fetched" / project.target.rpartition("/")[2]
        url = f"{station.url}/artifacts/{project.target}?checksum=sha256:{first['sha256']}"
        assert go_getter.fetch(url, executable).ok
        assert station.metric("waystation_requests_total", cache="hit") >= 1
        assert station.metric("waystation_requests_total", cache="miss") == 0

    task = TaskRoot(tmp_path / "task", executable)
    ran = subprocess.run(task.command("--version"), check=False, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, project.says), ran.stderr
    if project.page is not None:
        assert project.page in page_of(task)


@pytest.mark.skipif(
    os.system("setpriv --reuid=65534 --clear-groups unshare --user true 2>/dev/null") != 0,  # noqa: S605 - our own words
    reason="this kernel lets nobody without rights make user namespaces",
)
def test_a_smoke_run_needs_no_rights_where_the_container_may_make_user_namespaces(
    container: Container, sources: dict[str, Path]
) -> None:
    command = ("waystation-builder", "build", "/examples/hello-static", "--json")
    built = container.run_in_namespaces(*command, folders=sources)
    assert built.returncode == 0, built.stderr
    assert "nomad-exec" in json.loads(built.stdout)["smoke"]


@dataclass(frozen=True, slots=True)
class Refused:
    """A package that is no static program: what puts it into its bin, and why it is refused."""

    made_by: str
    why: str


REFUSED = {
    "dynamic": Refused("cp /bin/true $out/bin/app", "is linked dynamically"),
    "a script": Refused("echo '#!/bin/sh' >$out/bin/app", "is no 64-bit ELF program"),
    "of another name": Refused("cp /bin/true $out/bin/other", "has no bin/app"),
    "with a path of the store": Refused("cat $static/bin/* >$out/bin/app; echo $out >>$out/bin/app", "names files in"),
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
def test_the_static_bundler_refuses_what_is_not_one_static_program(
    container: Container, refused: Refused, sources: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "flake.nix").write_text(
        """{ outputs = { self }: { packages.SYSTEM.default = derivation {
          name = "app-1"; system = "SYSTEM"; builder = "/bin/sh"; __noChroot = true;
          static = import ./hello-static { system = "SYSTEM"; };
          args = [ "-euc" "PATH=/bin; mkdir -p $out/bin; COMMAND; chmod +x $out/bin/*" ];
        }; }; }""".replace("SYSTEM", f"{ARCH}-linux").replace("COMMAND", refused.made_by)
    )
    shutil.copytree(EXAMPLES / "hello-static", tmp_path / "hello-static")
    tmp_path.chmod(0o755)  # the container's user is another one
    done = container.run(
        *("nix", "bundle", "--bundler", STATIC_BUNDLER, "--out-link", "/work/refused", "path:/package"),
        folders={"/package": tmp_path},
        offline=True,
    )
    assert done.returncode != 0
    assert "static bundler: " in done.stderr
    assert refused.why in done.stderr


def page_of(task: TaskRoot) -> str:
    """What a web app answers, as a task on a port that Nomad gave it."""
    with subprocess.Popen(task.command(NOMAD_PORT_http="0"), stdout=subprocess.PIPE, text=True) as app:
        try:
            assert app.stdout
            address = app.stdout.readline().split()[-1]
            with urllib.request.urlopen(address, timeout=30) as response:  # noqa: S310 - its own
                page: bytes = response.read()
                return page.decode()
        finally:
            app.terminate()
