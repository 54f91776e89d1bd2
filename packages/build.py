"""One build: everything that `scripts/package` writes, from this commit and what it locks."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

from packages.bill import licence_texts, materials
from packages.pack import pack
from packages.tree import HOME, ROOT, Build, bundled, lay_out

OLDEST_PYTHON = (3, 11)


def build_all(out: Path, python: str, *, release: int = 1, keep: Path | None = None) -> list[Path]:
    """Write everything into `out`, which is made, and return the files."""
    started = time.monotonic()
    os.umask(0o022)  # what is installed does not hang on who built it
    build = prepare(python, release)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="waystation-package-") as folder:
        tree = Path(folder) / "tree"
        wheel = _wheel(build, out)
        lay_out(build, wheel, tree)
        parts = bundled(build, tree)
        bill = materials(parts, build.version, build.epoch_s)
        licences = licence_texts(parts)
        made = [wheel, out / f"waystation-{build.version}.cdx.json", out / f"waystation-{build.version}.licences.txt"]
        made[1].write_text(bill)
        made[2].write_text(licences)
        shutil.copy(made[1], tree / HOME / "share/doc/waystation.cdx.json")
        shutil.copy(made[2], tree / HOME / "share/doc/licences.txt")
        made += pack(build, tree, out)
        if keep:
            shutil.copytree(tree, keep, symlinks=True)
    sums = out / "SHA256SUMS"
    sums.write_text("".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in made))
    _say(f"built in {time.monotonic() - started:.0f} s")
    return [*made, sums]


def prepare(python: str, release: int) -> Build:
    """What a build goes by: the interpreter, and what the commit says."""
    uv = os.environ.get("WAYSTATION_UV", "uv")  # scripts/package says which
    found = subprocess.run([uv, "python", "find", "--no-project", python], capture_output=True, text=True, check=False)
    if found.returncode:
        raise SystemExit(f"scripts/package: no interpreter {python}; name one with --python")
    interpreter = Path(found.stdout.strip())
    asked = "import sys; print(*sys.version_info[:2], sep='.')"
    version = subprocess.run([interpreter, "-c", asked], capture_output=True, text=True, check=True).stdout.strip()
    if tuple(map(int, version.split("."))) < OLDEST_PYTHON:
        raise SystemExit(f"scripts/package: {interpreter} is Python {version}; Waystation needs 3.11 or later")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    epoch = os.environ.get("SOURCE_DATE_EPOCH") or _git("%ct")
    return Build(uv, interpreter, version, project["version"], release, _git("%an <%ae>"), int(epoch))


def _git(what: str) -> str:
    """What this commit says of itself, so that it gives the same packages everywhere."""
    asked = ["git", "-C", str(ROOT), "log", "-1", f"--format={what}"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def _wheel(build: Build, out: Path) -> Path:
    """Build the wheel with the locked build system, not with the newest that the network has."""
    command = [build.uv, "build", "--quiet", "--wheel", "--package", "waystation", "--no-build-isolation"]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(build.epoch_s)}
    subprocess.run([*command, "--python", sys.executable, "--out-dir", out, str(ROOT)], env=environment, check=True)
    (out / ".gitignore").unlink(missing_ok=True)
    return out / f"waystation-{build.version}-py3-none-any.whl"


def _say(line: str) -> None:
    sys.stderr.write(f"scripts/package: {line}\n")
