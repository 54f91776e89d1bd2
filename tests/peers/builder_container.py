"""The builder's image in a container of its own: run by buildah, which needs no more than chroot and plain folders."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from peers.processes import clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

IN_MEMORY = Path("/dev/shm")  # noqa: S108 - what it is for
ROOMY_BYTES = 6 * 1024**3
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_ENTER = (
    """
mount --rbind "$0" "$0"
cd "$0"
mount -t proc proc proc
mount --rbind /dev dev
""",
    """
pivot_root . .
python3 -c 'import ctypes; ctypes.CDLL(None).umount2(b".", 2)'
cd /work
exec setpriv --reuid=builder --regid=builder --clear-groups --bounding-set=-all \
  env -i PATH=/opt/waystation/bin:/usr/bin:/bin HOME=/home/builder "$@"
""",
)
"""What lies before the mounts of folders, and behind."""


@contextmanager
def roomy_folder() -> Iterator[Path]:
    """A folder for storage, images and what makes them; in memory where there is plenty, which halves the time."""
    in_memory = IN_MEMORY.is_dir() and min(_available_memory(), shutil.disk_usage(IN_MEMORY).free) > ROOMY_BYTES
    with tempfile.TemporaryDirectory(prefix="builder-", dir=IN_MEMORY if in_memory else None) as folder:
        yield Path(folder)


def _available_memory() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("MemAvailable:"))
    return int(line.split()[1]) * 1024


def way_to_pypi() -> dict[str, str]:
    """The variables by which uv finds packages on this machine; certificates are where `Container` puts them."""
    settings = {name: value for name, value in os.environ.items() if name.startswith("UV_")}
    for own in ("UV_CACHE_DIR", "UV_PROJECT_ENVIRONMENT", "UV_PYTHON", "UV_CONFIG_FILE"):
        settings.pop(own, None)
    return settings | {"SSL_CERT_FILE": str(CERTIFICATES)}


class Container:
    """One container; what is written in it stays from one command to the next."""

    def __init__(self, storage: Path, name: str) -> None:
        self._buildah = buildah(storage)
        self.name = name

    def run(
        self,
        *command: str,
        environment: Mapping[str, str] | None = None,
        folders: Mapping[str, Path] | None = None,
        offline: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as the image's own user; `folders` of this machine are there to be read.

        `offline`: without any network, not even loopback's.
        """
        there = {**(folders or {}), **({str(CERTIFICATES): CERTIFICATES} if CERTIFICATES.exists() else {})}
        volumes = [f"--volume={path}:{inside}:ro" for inside, path in there.items()]
        variables = [f"--env={name}={value}" for name, value in (environment or {}).items()]
        shut_off = ["unshare", "--net"] if offline else []
        return subprocess.run(
            [*shut_off, *self._buildah, "run", "--isolation=chroot", *volumes, *variables, self.name, "--", *command],
            env=clean_environment(Path.home()),
            check=False,
            capture_output=True,
            text=True,
        )

    def run_in_namespaces(self, *command: str, folders: Mapping[str, Path]) -> subprocess.CompletedProcess[str]:
        """Run a command as that user in namespaces that are the container's own, as Podman does; without network.

        What is only chrooted, as in `run`, can't make user namespaces.
        """
        root = Path(subprocess.check_output([*self._buildah, "mount", self.name], text=True).strip())
        mounts = "".join(f"mkdir -p .{inside} && mount --bind {path} .{inside}\n" for inside, path in folders.items())
        own = ("--mount", "--pid", "--fork", "--net", "--propagation=private")
        return subprocess.run(
            ["unshare", *own, "sh", "-euc", mounts.join(_ENTER), str(root), *command],
            env=clean_environment(Path.home()),
            check=False,
            capture_output=True,
            text=True,
        )


@contextmanager
def running_container(archive: Path, storage: Path) -> Iterator[Container]:
    """A container from an image's archive."""
    name = subprocess.check_output([*buildah(storage), "from", f"oci-archive:{archive}"], text=True).strip()
    yield Container(storage, name)
    subprocess.run([*buildah(storage), "rm", "--all"], check=True, stdout=subprocess.DEVNULL)


def buildah(storage: Path) -> Sequence[str]:
    """Buildah with storage of its own, of the kind that every machine has."""
    places = (f"--root={storage / 'root'}", f"--runroot={storage / 'run'}")
    return ["buildah", *places, "--storage-driver=vfs", "--log-level=error"]
