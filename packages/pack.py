"""Makes a .deb and an .rpm of a laid-out tree, with nfpm; the same bytes for the same tree."""

from __future__ import annotations

import json
import os
import platform
import re
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packages.tree import HOME

if TYPE_CHECKING:
    from packages.tree import Build

HERE = Path(__file__).parent
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
SUMMARY = "verifying artifact cache and local mirror for Nomad clients"
DESCRIPTION = f"""\
{SUMMARY}
Waystation fetches the executables that Nomad jobs need from an S3 bucket once,
verifies them, keeps them on disk, and serves them to Nomad's own artifact
stanzas from a local HTTP mirror."""
CONFIGURATION = "/etc/waystation/waystation.toml"
OWN_FOLDERS = ("etc/waystation/", f"{HOME}/", "usr/share/doc/waystation/")
"""Below these every folder belongs to the package; others are the system's."""
DEBIAN_ALONE = ("/usr/share/doc/waystation/changelog.Debian.gz", "/usr/share/lintian/")
ZSH = {"deb": "/usr/share/zsh/vendor-completions/", "rpm": "/usr/share/zsh/site-functions/"}


def pack(build: Build, tree: Path, out: Path) -> list[Path]:
    """Write the two packages into `out`."""
    description = out / "nfpm.json"
    description.write_text(json.dumps(_description(build, tree), indent=1))
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(build.epoch_s)}
    made = []
    for packager, name in (
        ("deb", f"waystation_{build.version}-{build.release}_{MACHINES[platform.machine()]}.deb"),
        ("rpm", f"waystation-{build.version}-{build.release}.{platform.machine()}.rpm"),
    ):
        target = out / name
        nfpm = Path(sys.executable).with_name("nfpm")
        command: list[str | Path] = [
            nfpm,
            "package",
            "--config",
            description,
            "--packager",
            packager,
            "--target",
            target,
        ]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        made.append(target)
    description.unlink()
    return made


def _description(build: Build, tree: Path) -> dict[str, Any]:
    python, libc = f"python{build.python_version}", _oldest_libc(build, tree)
    when = datetime.fromtimestamp(build.epoch_s, UTC).isoformat().replace("+00:00", "Z")
    return {
        "name": "waystation",
        "arch": MACHINES[platform.machine()],
        "version": build.version,
        "release": str(build.release),
        "section": "net",
        "priority": "optional",
        "maintainer": build.maintainer,
        "description": DESCRIPTION,
        "mtime": when,
        "recommends": ["nftables"],
        "contents": _contents(tree, when),
        "overrides": {
            "deb": {
                "depends": [python, f"libc6 (>= {libc})", "libgcc-s1", "systemd | systemd-sysusers"],
                "scripts": {
                    "postinstall": str(HERE / "debian/postinst"),
                    "preremove": str(HERE / "debian/prerm"),
                    "postremove": str(HERE / "debian/postrm"),
                },
            },
            "rpm": {
                "depends": [
                    f"/usr/bin/{python}",
                    f"libc.so.6(GLIBC_{libc})(64bit)",
                    "libgcc_s.so.1()(64bit)",
                    "systemd",
                ],
                "scripts": {
                    "postinstall": str(HERE / "rpm/post"),
                    "preremove": str(HERE / "rpm/preun"),
                    "postremove": str(HERE / "rpm/postun"),
                },
            },
        },
        "deb": {"compression": "gzip"},
        "rpm": {"summary": SUMMARY, "compression": "zstd", "buildhost": "localhost"},
    }


def _contents(tree: Path, when: str) -> list[dict[str, Any]]:
    """Every file of the tree by name, and the folders that are the package's own."""
    contents: list[dict[str, Any]] = []
    for path in sorted(tree.rglob("*")):
        within = str(path.relative_to(tree))
        one: dict[str, Any] = {"dst": f"/{within}", "file_info": {"owner": "root", "group": "root", "mtime": when}}
        if path.is_symlink():
            one |= {"src": os.readlink(path), "type": "symlink"}
        elif path.is_dir():
            if not f"{within}/".startswith(OWN_FOLDERS):
                continue
            one |= {"type": "dir"}
            one["file_info"]["mode"] = 0o755
        else:
            one |= {"src": str(path), "type": "config|noreplace" if one["dst"] == CONFIGURATION else "file"}
            one["file_info"]["mode"] = stat.S_IMODE(path.stat().st_mode)
        contents += _for_each_packager(one)
    return contents


def _for_each_packager(one: dict[str, Any]) -> list[dict[str, Any]]:
    """Where Debian and the others disagree: what is Debian's alone, and where zsh looks."""
    if one["dst"].startswith(DEBIAN_ALONE):
        return [{**one, "packager": "deb"}]
    if one["dst"].startswith(ZSH["deb"]):
        name = one["dst"].removeprefix(ZSH["deb"])
        return [{**one, "dst": there + name, "packager": packager} for packager, there in ZSH.items()]
    return [one]


def _oldest_libc(build: Build, tree: Path) -> str:
    """The glibc that every bundled extension module runs on, by the tags of their wheels (PEP 600)."""
    needed = (2, 17)
    for wheel in (tree / build.site_packages).glob("*.dist-info/WHEEL"):
        said = re.findall(r"^Tag: .*manylinux_(\d+)_(\d+)_", wheel.read_text(), flags=re.MULTILINE)
        if said:
            needed = max(needed, min((int(major), int(minor)) for major, minor in said))
    return "{}.{}".format(*needed)
