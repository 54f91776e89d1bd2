"""The jobs in nomad-jobs/: they parse, agree with the project, and Nomad takes them, where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import hcl2
import pytest

from waystation.model import parse_target

ROOT = Path(__file__).parents[2]
JOBS = sorted((ROOT / "nomad-jobs").glob("*.nomad.hcl"))
NOMAD = shutil.which("nomad")
needs_nomad = pytest.mark.skipif(NOMAD is None, reason="no nomad on PATH: the README says where to get it")
SHA256 = "5" * 64


def block(of: dict[str, Any], *names: str) -> dict[str, Any]:
    """The first block below, by kind or label, level for level."""
    for name in names:
        found = of.get(name, of.get(f'"{name}"'))
        of = found[0] if isinstance(found, list) else found or {}
    assert isinstance(of, dict)
    return of


def parsed(name: str) -> dict[str, Any]:
    with (ROOT / "nomad-jobs" / f"{name}.nomad.hcl").open() as file:
        return dict(hcl2.load(file))


def task(name: str, *path: str) -> dict[str, Any]:
    job, group, label = path
    return block(parsed(name), "job", job, "group", group, "task", label)


def project(file: str) -> tuple[str, str]:
    """The name and version that a pyproject.toml tells."""
    told = tomllib.loads((ROOT / file).read_text())
    about = told.get("project") or told["tool"]["poetry"]
    return about["name"], about["version"]


def nomad(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [NOMAD or "nomad", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("pyproject", "path"),
    [
        ("examples/pet-taxi/pyproject.toml", ("app", "pet-taxi", "web", "app")),
        ("pyproject.toml", ("waystation", "waystation", "daemon", "waystation")),
    ],
)
def test_a_job_asks_for_the_version_that_the_project_has_and_runs_what_it_asked_for(
    pyproject: str, path: tuple[str, ...]
) -> None:
    app, version = project(pyproject)
    target = f"{app}/{app}-{version}-x86_64"
    assert parse_target(target)
    told = task(*path)
    assert block(told, "artifact")["source"].strip('"').endswith(f"/{target}")
    assert block(told, "artifact", "options")["checksum"] == '"sha256:${var.sha256}"'
    assert block(told, "config")["command"] == f'"./local/{app}-{version}-x86_64"'


def test_the_app_s_job_is_what_the_story_tells() -> None:
    told = task("app", "pet-taxi", "web", "app")
    assert told["driver"] == '"exec"'
    assert block(told, "env")["PYTHONUNBUFFERED"] == '"1"'
    assert (block(told, "resources")["cpu"], block(told, "resources")["memory"]) == (500, 512)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_what_a_person_must_set_stands_at_the_top_of_the_file(job: Path) -> None:
    head = job.read_text().partition("\nvariable")[0]
    assert all(line.startswith("#") or not line for line in head.splitlines())
    (to_set,) = re.findall(r"# To set: ([^.]*)", head)
    variables = {name.strip('"') for blocks in parsed(job.name.partition(".")[0])["variable"] for name in blocks}
    assert variables >= set(re.findall(r"`(\w+)`", to_set))


@needs_nomad
@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_nomad_would_not_write_it_otherwise(job: Path) -> None:
    done = nomad("fmt", "-check", "-list", "-write=false", job)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@needs_nomad
@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_nomad_finds_it_valid(job: Path) -> None:
    wanted = ["-var", f"sha256={SHA256}"] if "sha256" in job.read_text() else []
    done = nomad("job", "validate", *wanted, job)
    assert done.returncode == 0, done.stderr
    assert "Job validation successful" in done.stdout


@needs_nomad
@pytest.mark.parametrize("wrong", ["", "9f2c", SHA256.upper().replace("5", "A"), SHA256 + "5"])
@pytest.mark.parametrize("job", ["app", "waystation"])
def test_a_checksum_that_is_none_is_refused_in_words(job: str, wrong: str) -> None:
    done = nomad("job", "validate", "-var", f"sha256={wrong}", ROOT / "nomad-jobs" / f"{job}.nomad.hcl")
    assert done.returncode != 0
    assert "A sha256 has 64 digits" in done.stderr
