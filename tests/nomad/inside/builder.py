"""The builder as a Nomad job: nomad-jobs/builder.nomad.hcl with all but its container.

Docker is not Nomad's to bring: the image and its program have tests of their own (`tests/story`). Here the task's
driver alone is another one; what the dispatch says, the source, the keys and the arguments go the job's own way.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nomad.inside.place import BUCKET, JOBS, PORT, run
from peers.processes import wait_until
from peers.relay import Relay

if TYPE_CHECKING:
    from peers.minio import MinioServer
    from peers.nomad import Nomad

PROJECT = Path(__file__).parents[3] / "examples" / "hello-go"
VERSION = (PROJECT / "VERSION").read_text().strip()


def checked_out(folder: Path) -> Path:
    """The project as a clone of its tagged repository, packed: where git itself can't be asked, as in here."""
    clone = shutil.copytree(PROJECT, folder / "hello-go")
    git = ("git", "-C", str(clone), "-c", "user.name=t", "-c", "user.email=t@example.test")
    run(*git, "init", "--quiet")
    run(*git, "add", ".")
    run(*git, "commit", "--quiet", "--message=Say hello")
    run(*git, "tag", f"v{VERSION}")
    with tarfile.open(folder / "hello-go.tar.gz", "w:gz") as archive:
        archive.add(clone, arcname=".")
    return folder / "hello-go.tar.gz"


@pytest.mark.skipif(shutil.which("go") is None, reason="go is not on PATH")
def test_a_dispatch_builds_its_project_publishes_the_executable_and_prints_the_stanza(
    tmp_path: Path, nomad: Nomad, server: MinioServer
) -> None:
    bucket, sources = server.create_bucket("built"), server.create_bucket("sources")
    sources.make_public()
    sources.put("hello-go.tar.gz", checked_out(tmp_path).read_bytes())
    nomad.keep("nomad/jobs/builder", credentials=server.keys.write(tmp_path / "credentials"))
    with Relay(server.port, host=BUCKET, port=PORT) as relay:
        endpoint = relay.endpoint_url
        variables = (f"-var=endpoint={endpoint}", f"-var=origin=s3://{bucket.name}")
        job = json.loads(nomad.command("job", "run", "-output", *variables, JOBS / "builder.nomad.hcl").stdout)
        [task] = job["Job"]["TaskGroups"][0]["Tasks"]
        builder = Path(sys.executable).with_name("waystation-builder")
        task |= {"Driver": "raw_exec", "Config": {"command": str(builder), "args": task["Config"]["args"]}}
        nomad.ask("jobs", job)
        sent = nomad.command(
            "job", "dispatch", "-detach", "-meta", f"source={endpoint}/sources/hello-go.tar.gz", "builder"
        )
        [dispatched] = re.findall(r"Dispatched Job ID = (\S+)", sent.stdout)
        wait_until(
            lambda: any(one["ClientStatus"] in {"complete", "failed"} for one in nomad.allocations(dispatched)),
            "the build has ended",
            timeout_s=180,
        )
        told = nomad.said(dispatched)
        assert [one["ClientStatus"] for one in nomad.allocations(dispatched)] == ["complete"], told
        digest = bucket.get(f"hello-go/hello-go-{VERSION}-x86_64.sha256").split()[0].decode()
        assert f'checksum = "sha256:{digest}"' in told
        nomad.stop_all()
