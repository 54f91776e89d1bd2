"""The examples, as far as a machine without a network can look: every Nix file, the pins, the locks, the Go program."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from peers.provide import go

ROOT = Path(__file__).resolve().parents[2]
PET_TAXI = ROOT / "examples/pet-taxi"
HELLO_GO = ROOT / "examples/hello-go"
NIX_FILES = sorted(
    path.relative_to(ROOT) for folder in ("examples", "builder") for path in (ROOT / folder).rglob("*.nix")
)

needs_nix = pytest.mark.skipif(not shutil.which("nix"), reason="nix is not on PATH (Debian: nix-bin)")


@pytest.fixture
def nix(tmp_path: Path) -> dict[str, str]:
    """The environment of a Nix that has everything of its own, and no network."""
    own = {f"NIX_{name}_DIR": str(tmp_path / name.lower()) for name in ("STORE", "STATE", "LOG", "CONF", "LOCALSTATE")}
    config = "experimental-features = nix-command flakes\nbuild-users-group =\nsubstituters =\n"
    return {**os.environ, **own, "HOME": str(tmp_path), "NIX_CONFIG": config}


def run(environment: dict[str, str], *command: str | Path) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def evaluate(environment: dict[str, str], expression: str) -> Any:
    return json.loads(run(environment, "nix-instantiate", "--eval", "--strict", "--json", "--expr", expression))


@needs_nix
@pytest.mark.parametrize("file", NIX_FILES, ids=str)
def test_a_nix_file_parses(nix: dict[str, str], file: Path) -> None:
    assert run(nix, "nix-instantiate", "--parse", ROOT / file)


@needs_nix
def test_default_nix_hands_the_poetry_project_to_poetry2nix(nix: dict[str, str]) -> None:
    application = evaluate(
        nix,
        f"import {PET_TAXI}/default.nix {{ pkgs = null; poetry2nix.mkPoetryApplication = a: a // "
        "{ projectDir = toString a.projectDir; }; }",
    )
    assert application == {"projectDir": str(PET_TAXI), "preferWheels": True, "meta": {"mainProgram": "app"}}


@needs_nix
def test_package_nix_takes_name_version_and_command_from_the_poetry_project(nix: dict[str, str]) -> None:
    project = tomllib.loads((PET_TAXI / "pyproject.toml").read_text())["tool"]["poetry"]
    package = evaluate(
        nix,
        f"""import {PET_TAXI}/package.nix {{
          lib.importTOML = file: builtins.fromTOML (builtins.readFile file);
          lib.fileset = {{ toSource = set: map toString set.fileset; unions = files: files; }};
          python3Packages = {{ buildPythonApplication = a: a; poetry-core = "poetry-core"; flask = "flask"; }};
        }}""",
    )
    assert (package["pname"], package["version"]) == (project["name"], project["version"])
    assert package["meta"]["mainProgram"] in project["scripts"]
    assert [Path(file).name for file in package["src"]] == ["pyproject.toml", "demo.py"]
    assert package["dependencies"] == sorted(project["dependencies"].keys() - {"python"})


@needs_nix
def test_the_flake_offers_a_package_and_a_shell_without_any_input(nix: dict[str, str]) -> None:
    flake = f"path:{PET_TAXI}"
    for output in ("packages", "devShells"):
        systems = run(nix, "nix", "eval", "--json", f"{flake}#{output}", "--apply", "builtins.attrNames")
        assert json.loads(systems) == ["aarch64-linux", "x86_64-linux"]
    assert not (PET_TAXI / "flake.lock").exists()


@needs_nix
@pytest.mark.parametrize(
    ("pins", "revision", "digest", "names"),
    [
        ("nix/sources.nix", "rev", "sha256", ["nixpkgs", "poetry2nix"]),
        ("npins", "revision", "hash", ["nixpkgs"]),
    ],
)
def test_pins_name_an_archive_of_one_revision_and_its_digest(
    nix: dict[str, str], pins: str, revision: str, digest: str, names: list[str]
) -> None:
    found = evaluate(nix, f'builtins.mapAttrs (_: pin: removeAttrs pin [ "outPath" ]) (import {PET_TAXI}/{pins})')
    assert sorted(found) == names
    for pin in found.values():
        assert re.fullmatch("[0-9a-f]{40}", pin[revision])
        assert pin["url"].endswith(f"/archive/{pin[revision]}.tar.gz")
        assert re.fullmatch("[0-9a-df-np-sv-z]{52}", pin[digest])


def test_the_shell_is_entered_by_direnv_below_a_folder_of_others() -> None:
    assert (PET_TAXI / ".envrc").read_text().splitlines() == ["source_up", "use nix"]


def test_hello_go_is_one_static_executable_that_says_its_version(tmp_path: Path) -> None:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
    subprocess.run(
        [go(), "build", "-C", HELLO_GO, "-buildvcs=false", "-o", tmp_path / "hello-go"], check=True, env=environment
    )
    assert run({}, tmp_path / "hello-go", "--version") == f"hello-go {(HELLO_GO / 'VERSION').read_text()}"
    assert "Hello from one static executable" in run({}, tmp_path / "hello-go")
