"""The files that are installed, laid out below a folder as they will lie below /."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packages import completion, manual
from packages.verbs import program

HOME = "opt/waystation"
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
AWS_SERVICES = {"s3", "signin", "sso", "sso-oidc", "sts"}
"""What the daemon asks of AWS: objects, and the services that hand out credentials. botocore describes 400 others."""
UNIT_FOLDERS = {"sysusers.d": "usr/lib/sysusers.d", "tmpfiles.d": "usr/lib/tmpfiles.d"}
LAUNCHER = """\
#!/opt/waystation/bin/python3 -I
from waystation.cli import main

main()
"""
PYVENV = """\
home = /usr/bin
include-system-site-packages = false
"""


@dataclass(frozen=True, slots=True)
class Build:
    """What all parts of one build share."""

    uv: str
    python: Path
    python_version: str
    version: str
    release: int
    maintainer: str
    epoch_s: int

    @property
    def site_packages(self) -> str:
        return f"{HOME}/lib/python{self.python_version}/site-packages"


def lay_out(build: Build, wheel: Path, tree: Path) -> None:
    """Fill `tree`, an empty folder: the environment, and all that surrounds it."""
    _install(build, wheel, tree)
    _trim(tree / build.site_packages)
    _compile(build, tree)
    _surround(build, tree)


def bundled(build: Build, tree: Path) -> list[Distribution]:
    """The distributions in the environment, sorted by name."""
    found = distributions(path=[str(tree / build.site_packages)])
    return sorted(found, key=lambda each: each.metadata["Name"].lower())


def _install(build: Build, wheel: Path, tree: Path) -> None:
    """Exactly what uv.lock says, with its hashes, and the wheel; then the environment's own frame."""
    home = tree / HOME
    environment = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(home), "UV_LINK_MODE": "copy"}
    environment.pop("VIRTUAL_ENV", None)
    sync = ["sync", "--locked", "--no-dev", "--no-install-project", "--no-build", "--python", str(build.python)]
    _run([build.uv, *sync, "--quiet", "--project", str(ROOT)], environment)
    install = ["pip", "install", "--quiet", "--offline", "--no-deps", "--python", str(home / "bin/python"), str(wheel)]
    _run([build.uv, *install], environment)
    shutil.rmtree(home / "bin")
    (home / "bin").mkdir()
    (home / "bin/python3").symlink_to(f"/usr/bin/python{build.python_version}")
    _write(home / "bin/waystation", LAUNCHER, mode=0o755)
    _write(home / "pyvenv.cfg", PYVENV)
    for left in ("CACHEDIR.TAG", ".gitignore", ".lock", "lib64"):
        (home / left).unlink(missing_ok=True)


def _trim(packages: Path) -> None:
    """Take out what no installed daemon reads: others' tests, descriptions of AWS services, an installer's notes."""
    for folder in [*packages.rglob("tests"), *packages.rglob("__pycache__")]:
        shutil.rmtree(folder, ignore_errors=True)
    for service in (packages / "botocore/data").iterdir():
        if service.is_dir() and service.name not in AWS_SERVICES:
            shutil.rmtree(service)
    notes = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"}
    for path in packages.glob("*.dist-info/*"):
        if path.name in notes:
            path.unlink()
    for path in [*packages.rglob("*.pyi"), *packages.rglob("_testcapi.*.so")]:
        path.unlink()


def _compile(build: Build, tree: Path) -> None:
    """Bytecode that counts unchecked: whatever becomes of the files' times, no start compiles or writes anything."""
    command = [build.python, "-I", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    options = ["-s", tree, "-p", "/", tree / build.site_packages]
    # The same bytes each time: sets are written in the order of their hashes.
    _run([str(part) for part in (*command, *options)], {**os.environ, "PYTHONHASHSEED": "0"})


def _surround(build: Build, tree: Path) -> None:
    """Units, configuration, manual, completions, documentation."""
    for source in sorted((ROOT / "systemd").rglob("*.*")):
        if source.is_file():
            within = source.relative_to(ROOT / "systemd")
            folder = UNIT_FOLDERS.get(str(within.parent), f"usr/lib/systemd/system/{within.parent}")
            _write(tree / folder / within.name, source.read_text())
    _write(tree / "etc/waystation/waystation.toml", (ROOT / "examples/waystation.toml").read_text(), mode=0o640)
    verbs = program()
    _write_gzipped(tree / "usr/share/man/man1/waystation.1.gz", manual.manual(verbs, build.version, build.epoch_s))
    _write(tree / "usr/share/bash-completion/completions/waystation", completion.bash(verbs))
    _write(tree / "usr/share/zsh/vendor-completions/_waystation", completion.zsh(verbs))
    _write(tree / "usr/share/fish/vendor_completions.d/waystation.fish", completion.fish(verbs))
    for page in sorted((ROOT / "docs").rglob("*.md")):
        _write(tree / HOME / "share/doc" / page.relative_to(ROOT / "docs"), page.read_text())
    papers = tree / "usr/share/doc/waystation"
    _write(papers / "copyright", (HERE / "debian/copyright").read_text())
    _write_gzipped(papers / "changelog.Debian.gz", _debian_changelog(build))
    _write(tree / "usr/share/lintian/overrides/waystation", (HERE / "debian/lintian-overrides").read_text())
    _write_gzipped(papers / "changelog.gz", (ROOT / "CHANGELOG.md").read_text())
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/bin/waystation").symlink_to("/opt/waystation/bin/waystation")


def _debian_changelog(build: Build) -> str:
    return f"""\
waystation ({build.version}-{build.release}) unstable; urgency=medium

  * What a user notices is in changelog.gz.

 -- {build.maintainer}  {format_datetime(datetime.fromtimestamp(build.epoch_s, UTC))}
"""


def _write(path: Path, text: str, *, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _write_gzipped(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    path.chmod(0o644)


def _run(command: list[str], environment: dict[str, str]) -> None:
    subprocess.run(command, env=environment, check=True)
