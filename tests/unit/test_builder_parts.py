"""The builder's pure parts: names and versions, scripts, locks, surroundings, the choice of a bundler."""

from __future__ import annotations

import os
import struct
import subprocess
import time
import tomllib
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from waystation_builder.bundlers import Wishes, choose
from waystation_builder.bundlers.poetry_lock import poetry_requirements
from waystation_builder.carried import carried_libraries
from waystation_builder.elf import read_elf
from waystation_builder.errors import MissingTool, NothingToBuild, Unnamed, Unrunnable
from waystation_builder.identity import Identity, app_name, derivation_identity, read_identity
from waystation_builder.libraries import library_needs
from waystation_builder.script import read_script
from waystation_builder.surroundings import build_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]


def lay_out(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("file", "text", "name", "version"),
    [
        ("pyproject.toml", '[project]\nname = "Pet_Taxi"\nversion = "1.0"', "Pet_Taxi", "1.0"),
        ("pyproject.toml", '[tool.poetry]\nname = "app"\nversion = "0.1.0"', "app", "0.1.0"),
        ("pyproject.toml", '[project]\nname = "app"\ndynamic = ["version"]', "app", None),
        ("Cargo.toml", '[package]\nname = "app"\nversion = "2.0.0"', "app", "2.0.0"),
        ("package.json", '{"name": "@pets/taxi", "version": "3.1.4"}', "@pets/taxi", "3.1.4"),
        ("go.mod", "module example.com/pets/taxi\n\ngo 1.22\n", "taxi", None),
        ("go.mod", "// a comment\nmodule example.com/pets/taxi/v2\n", "taxi", None),
        ("README.md", "# app", None, None),
    ],
)
def test_a_projects_own_files_say_its_name_and_version(
    tmp_path: Path, file: str, text: str, name: str | None, version: str | None
) -> None:
    assert read_identity(lay_out(tmp_path, {file: text})) == Identity(name, version)


def test_a_crates_version_may_be_its_workspaces(tmp_path: Path) -> None:
    lay_out(
        tmp_path,
        {
            "Cargo.toml": '[workspace]\nmembers = ["app"]\n[workspace.package]\nversion = "4.2.0"',
            "app/Cargo.toml": '[package]\nname = "app"\nversion.workspace = true',
        },
    )
    assert read_identity(tmp_path / "app") == Identity("app", "4.2.0")


def test_a_crate_may_be_its_workspaces_root(tmp_path: Path) -> None:
    text = '[workspace.package]\nversion = "4.2.0"\n[package]\nname = "app"\nversion.workspace = true'
    assert read_identity(lay_out(tmp_path, {"Cargo.toml": text})) == Identity("app", "4.2.0")


@pytest.mark.parametrize(
    ("tags", "folder", "version"),
    [
        (["v0.1.0"], ".", "0.1.0"),
        (["0.1.0"], "sub", "0.1.0"),
        (["v0.9.0", "v0.10.0"], ".", "0.10.0"),
        (["v1.0.0-rc1", "v1.0.0"], ".", "1.0.0"),
        (["v1.0.0", "sub/v0.2.0", "other/v9.0.0"], ".", "1.0.0"),
        (["v1.0.0", "sub/v0.2.0", "other/v9.0.0"], "sub", "0.2.0"),
        (["tested", "other/v9.0.0"], "sub", None),
    ],
)
def test_the_tag_of_the_commit_that_is_checked_out_says_the_version(
    tmp_path: Path, tags: list[str], folder: str, version: str | None
) -> None:
    lay_out(tmp_path, {"go.mod": "module example.com/taxi\n", "sub/go.mod": "module example.com/taxi/sub\n"})
    git = ("git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.com")
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "First"], check=True)
    for tag in tags:
        subprocess.run([*git, "tag", tag], check=True)
    assert read_identity(tmp_path / folder).version == version


@pytest.mark.parametrize("text", ["not toml", 'project = "text"'])
def test_a_project_file_that_cant_be_read_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(Unnamed, match=r"pyproject\.toml can't be read"):
        read_identity(lay_out(tmp_path, {"pyproject.toml": text}))


@pytest.mark.parametrize(
    ("name", "app"), [("Pet_Taxi", "pet-taxi"), ("@pets/taxi", "taxi"), ("app", "app"), ("a..b__c", "a-b-c")]
)
def test_a_projects_name_becomes_an_apps(name: str, app: str) -> None:
    assert app_name(name) == app


@pytest.mark.parametrize(
    ("name", "identity"),
    [
        ("hello-2.12.1", Identity("hello", "2.12.1")),
        ("hello-static-0.1.0", Identity("hello-static", "0.1.0")),
        ("python3.12-app-1.0", Identity("python3.12-app", "1.0")),
        ("hello", Identity("hello", None)),
    ],
)
def test_a_derivations_name_is_split_as_nix_does(name: str, identity: Identity) -> None:
    assert derivation_identity(name) == identity


@pytest.mark.parametrize(
    ("files", "bundler", "why"),
    [
        (["flake.nix", "pyproject.toml", "go.mod"], "nix", "there is a flake.nix"),
        (["default.nix"], "nix", "there is a default.nix"),
        (["pyproject.toml", "Cargo.toml"], "pyinstaller", "pyproject.toml names the command app"),
        (["go.mod"], "command", "there is a go.mod"),
        (["Cargo.toml"], "command", "there is a Cargo.toml"),
    ],
)
def test_the_bundler_is_chosen_by_what_is_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], bundler: str, why: str
) -> None:
    lay_out(tmp_path, dict.fromkeys(files, '[project.scripts]\napp = "app:main"\n'))
    lay_out(tmp_path, {"bin/nix": ""})
    (tmp_path / "bin/nix").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    chosen, reason = choose(tmp_path, Wishes())
    assert (chosen.name, reason) == (bundler, why)


def test_without_nix_another_bundler_is_taken_or_nix_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    lay_out(tmp_path, {"default.nix": ""})
    with pytest.raises(MissingTool, match=r"there is a default\.nix, but no nix on PATH"):
        choose(tmp_path, Wishes())
    lay_out(tmp_path, {"pyproject.toml": '[tool.poetry.scripts]\napp = "app:main"\n'})
    chosen, why = choose(tmp_path, Wishes())
    assert chosen.name == "pyinstaller"
    assert why == "pyproject.toml names the command app; there is a default.nix, but no nix on PATH"


def test_a_command_that_is_given_goes_before_all(tmp_path: Path) -> None:
    assert choose(lay_out(tmp_path, {"flake.nix": ""}), Wishes(command="make"))[0].name == "command"


def test_a_library_without_a_command_is_nothing_to_build(tmp_path: Path) -> None:
    with pytest.raises(NothingToBuild):
        choose(lay_out(tmp_path, {"pyproject.toml": '[project]\nname = "lib"'}), Wishes())


@pytest.mark.parametrize(
    ("text", "programs"),
    [
        (b"#!/bin/sh\necho hello\n", ("sh",)),
        (b"#!/usr/bin/env python3\nimport os\n", ("env", "python3")),
        (b"#!/usr/bin/env -S python3 -u\n", ("env", "python3")),
        (b"#!/opt/bin/special\n", ("/opt/bin/special",)),
        (b"#!/bin/sh\n# awk is not called\ncat x | sed s/a/b/ && ! grep y\n", ("sh", "cat", "grep", "sed")),
        (
            b"#!/bin/sh\nif test x; then mktemp; fi; find . | xargs rm\nX=$(id -u)\n",
            ("sh", "find", "id", "mktemp", "rm", "xargs"),
        ),
        (b"#!/bin/sh\ntrap 'rm -rf x' EXIT\nTMP=/x A=b mkdir y\n", ("sh", "mkdir", "rm")),
        (b"#!/bin/sh\nhead () {\n :\n}\nhead\necho sort\n", ("sh",)),
        (b"#!/bin/sh\nexec tail -c +9 $0 | tar xz\n\x1f\x8b\x08\x00", ("sh", "gzip", "tail", "tar")),
        (b"#!/usr/bin/env python3\nPK\x03\x04\x00", ("env", "python3")),
    ],
)
def test_the_programs_that_a_script_calls_are_found(text: bytes, programs: tuple[str, ...]) -> None:
    assert read_script(text).programs == programs


def test_a_script_that_carries_something_is_an_archive() -> None:
    assert read_script(b"#!/bin/sh\nexit\nBZh91AY\x00").is_archive
    assert not read_script("#!/bin/sh\necho größer\n".encode()).is_archive


@pytest.mark.parametrize("filler", [b"#", b"\n", b"a=", b";", b" ", b"A=b ", b"then "])
def test_whatever_a_script_is_made_of_it_is_read_in_little_time(filler: bytes) -> None:
    began = time.process_time()
    read_script(b"#!/bin/sh\n" + filler * (256 * 1024 // len(filler)))
    assert time.process_time() - began < 5


@pytest.mark.parametrize("line", [b"#!\n", b"#! \n", b"#!sh\n", b'#!"\n'])
def test_a_script_without_an_interpreter_is_none(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"interpreter|quotation"):
        read_script(line)


def test_an_executables_headers_say_what_it_needs() -> None:
    ls = read_elf(Path("/bin/ls"))
    assert ls.arch == os.uname().machine
    assert ls.interpreter
    assert "libc.so.6" in ls.libraries
    assert library_needs(ls)[0].startswith("glibc>=2.")
    assert not any("libc.so" in need for need in library_needs(ls))


def bundled(carried: bytes, *, is_packed: bool) -> bytes:
    """An executable as PyInstaller leaves it: a loader, then an archive."""
    content = zlib.compress(carried) if is_packed else carried
    entry = struct.pack("!IIIIBc", 32, 0, len(content), len(carried), is_packed, b"b") + b"libcarried.so\0"
    cookie = struct.pack(
        "!8sIIII64s", b"MEI\x0c\x0b\x0a\x0b\x0e", len(content) + 32 + 88, len(content), 32, 311, b"libpython"
    )
    return Path("/bin/ls").read_bytes() + content + entry + cookie


@pytest.mark.parametrize("is_packed", [False, True])
def test_the_libraries_that_an_executable_carries_say_what_c_library_it_needs(tmp_path: Path, is_packed: bool) -> None:
    glibc = read_elf(Path("/bin/ls")).glibc
    assert glibc
    usual = b"GLIBC_%d.%d" % glibc
    newer = Path("/bin/ls").read_bytes().replace(usual, b"GLIBC_9." + b"9" * (len(usual) - 8))
    (tmp_path / "app").write_bytes(bundled(newer, is_packed=is_packed))
    needs = library_needs(read_elf(tmp_path / "app"), carried_libraries(tmp_path / "app"))
    assert needs[0] == f"glibc>=9.{'9' * (len(usual) - 8)}"


def test_a_damaged_archive_carries_nothing_or_is_refused_in_words(tmp_path: Path) -> None:
    whole = bundled(Path("/bin/ls").read_bytes(), is_packed=True)
    (tmp_path / "app").write_bytes(whole[:-50])
    assert not list(carried_libraries(tmp_path / "app"))
    (tmp_path / "app").write_bytes(whole[:-200] + bytes(50) + whole[-150:])
    with pytest.raises(Unrunnable, match=r"libcarried\.so, which it carries, can't be unpacked"):
        list(carried_libraries(tmp_path / "app"))


@pytest.mark.parametrize("length", [4, 40, 64, 100, 2000])
def test_damaged_headers_are_refused_in_words(tmp_path: Path, length: int) -> None:
    (tmp_path / "cut").write_bytes(Path("/bin/ls").read_bytes()[:length].ljust(length + 40, b"\xff"))
    with pytest.raises(Unrunnable, match="ELF"):
        read_elf(tmp_path / "cut")


def test_a_build_gets_what_is_known_to_be_harmless_and_what_is_asked_for() -> None:
    own = {
        "PATH": "/bin",
        "AWS_SECRET_ACCESS_KEY": "s",
        "GITHUB_TOKEN": "s",
        "GOPROXY": "off",
        "MINE": "m",
        "TZ": "CET",
    }
    assert build_environment(own, epoch=7, asked_for=["MINE", "GIVEN=a=b", "ABSENT"]) == {
        "PATH": "/bin",
        "GOPROXY": "off",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": "7",
        "PYTHONHASHSEED": "0",
        "MINE": "m",
        "GIVEN": "a=b",
    }


def package(name: str, *, more: str = "") -> str:
    file = f'{{file = "{name}.whl", hash = "sha256:{name}"}}'
    return f'[[package]]\nname = "{name}"\nversion = "1.0"\nfiles = [{file}]\n{more}\n'


def test_an_old_poetry_lock_gives_what_the_projects_own_dependencies_lead_to() -> None:
    project = tomllib.loads(
        '[tool.poetry.dependencies]\npython = "^3.11"\nFlask = "^3"\n[tool.poetry.group.dev.dependencies]\npytest = "*"'
    )
    lock = tomllib.loads(
        package(
            "flask",
            more='[package.dependencies]\ncolorama = {version = "*", markers = "os_name == \\"nt\\""}\nclick = "*"',
        )
        + package("click")
        + package("colorama")
        + package("pytest", more='[package.dependencies]\npluggy = "*"')
        + package("pluggy")
        + '[metadata]\nlock-version = "2.0"\n'
    )
    assert poetry_requirements(lock, project).splitlines() == [
        "flask==1.0 --hash=sha256:flask",
        "click==1.0 --hash=sha256:click",
        'colorama==1.0 ; (os_name == "nt") --hash=sha256:colorama',
    ]


def test_a_new_poetry_lock_says_itself_what_belongs_to_the_main_group() -> None:
    lock = tomllib.loads(
        package("flask", more='groups = ["main", "dev"]')
        + package("colorama", more='groups = ["main"]\nmarkers = "os_name == \\"nt\\""')
        + package("both", more='groups = ["main", "dev"]\nmarkers = {main = "python_version < \\"3\\"", dev = ""}')
        + package("pytest", more='groups = ["dev"]')
        + '[metadata]\nlock-version = "2.1"\n'
    )
    assert poetry_requirements(lock, {}).splitlines() == [
        "flask==1.0 --hash=sha256:flask",
        'colorama==1.0 ; os_name == "nt" --hash=sha256:colorama',
        'both==1.0 ; python_version < "3" --hash=sha256:both',
    ]


def test_a_lock_with_what_no_index_has_is_refused() -> None:
    lock = tomllib.loads(
        package("fork", more='groups = ["main"]\n[package.source]\ntype = "git"') + '[metadata]\nlock-version = "2.1"\n'
    )
    with pytest.raises(ValueError, match="fork comes from git"):
        poetry_requirements(lock, {})


def test_the_examples_own_lock_can_be_used() -> None:
    example = ROOT / "examples/pet-taxi"
    lock, project = (tomllib.loads((example / name).read_text()) for name in ("poetry.lock", "pyproject.toml"))
    names = {line.partition("==")[0] for line in poetry_requirements(lock, project).splitlines()}
    assert {"flask", "werkzeug", "jinja2"} <= names
