"""A small Debian of the tests' own, with systemd as its first process, in namespaces of its own: nothing leaves it.

What it has: its files, processes, mounts, network (only loopback) and cgroups. mmdebstrap makes its files once, of the
suite and from the mirrors that this machine has; they are kept in ``.cache`` and unpacked for each machine.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from peers.processes import Process, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "debian"
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
NAMESPACES = ("--mount", "--net", "--ipc", "--uts", "--pid", "--fork", "--kill-child=KILL")
FIRST = """\
set -e
mount --make-rprivate /
mount --bind "$1" "$1"
cd "$1"
ip link set lo up
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mkdir "sys/fs/cgroup/$2"
echo 0 >"sys/fs/cgroup/$2/cgroup.procs"
umount sys/fs/cgroup
for folder in run tmp; do mount -t tmpfs tmpfs "$folder"; done
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do touch "dev/$device"; mount --bind "/dev/$device" "dev/$device"; done
mkdir dev/pts dev/shm
ln -s /proc/self/fd dev/fd
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount --make-rshared /
exec unshare --cgroup sh -ec 'mount -t cgroup2 cgroup2 sys/fs/cgroup; exec env -i container=test PATH="$0" \
  chroot . /lib/systemd/systemd --log-target=console --show-status=false --unit=multi-user.target' "$3"
"""
SWEEP = """\
set -e
mount -t cgroup2 cgroup2 "$1"
if [ -d "$1/$2" ]; then find "$1/$2" -depth -type d -exec rmdir {} +; fi
"""


class NoDebian(Exception):
    """It can't be had here; the message says why."""


def files(*packages: str) -> Path:
    """The archive of a Debian with these packages, made now where it is not there yet (half a minute or two).

    Raises:
        NoDebian: this machine can't make one.
    """
    if os.geteuid() != 0:
        raise NoDebian("a Debian of the test's own takes root")
    if not shutil.which("mmdebstrap"):
        raise NoDebian("mmdebstrap is not installed")
    if subprocess.run(["unshare", *NAMESPACES, "--cgroup", "true"], capture_output=True, check=False).returncode:
        raise NoDebian("namespaces can't be had here")
    suite = _suite()
    archive = CACHE / f"{suite}-{'-'.join(packages)}.tar"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.exists():
            made = archive.with_suffix(".part")
            leaner = ["--aptopt=Acquire::Languages none", "--dpkgopt=force-unsafe-io"]
            leaner += [f"--dpkgopt=path-exclude=/usr/share/{each}/*" for each in ("doc", "locale", "info")]
            command = ["mmdebstrap", "--quiet", "--format=tar", "--variant=essential", *leaner]
            done = subprocess.run(
                [*command, f"--include={','.join(packages)}", suite, made, *_mirrors()],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise NoDebian(f"mmdebstrap made none: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
            made.replace(archive)
    return archive


class Machine:
    """One running machine; its files lie in `root`, its commands run as root in it."""

    def __init__(self, archive: Path, folder: Path) -> None:
        self.root = folder / "root"
        self.root.mkdir(parents=True)
        subprocess.run(["tar", "-C", self.root, "-xf", archive], check=True)
        self.cgroup = f"waystation-test-{os.getpid()}-{folder.name}"
        command = ["unshare", *NAMESPACES, "sh", "-c", FIRST, "sh", str(self.root), self.cgroup, PATH]
        self.process = Process(command, log=folder / "machine.log", environment={"PATH": PATH})

    @property
    def init(self) -> int:
        """Its first process's number, outside."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0]) if children else 0

    def run(self, *command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in it, as root."""
        words = [str(each) for each in command]
        done = subprocess.run(
            ["nsenter", "--target", str(self.init), "--all", "--root", "--wd", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={"PATH": PATH, "DEBIAN_FRONTEND": "noninteractive"},
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    @property
    def up(self) -> bool:
        """Whether systemd is done with its start."""
        asked = self.run("systemctl", "is-system-running", check=False) if self.init else None
        return asked is not None and asked.stdout.strip() in {"running", "degraded"}

    def beside(self, *command: str | Path) -> list[str]:
        """A command of ours, with our files, on its network."""
        return ["nsenter", "--target", str(self.init), "--net", *map(str, command)]

    def show(self, unit: str, name: str) -> str:
        """A property of one of its units."""
        return self.run("systemctl", "show", "--value", "--property", name, unit).stdout.strip()


@contextmanager
def running(archive: Path, folder: Path) -> Iterator[Machine]:
    """Start a machine, wait until systemd is done with its start, and leave nothing of it."""
    machine = Machine(archive, folder)
    try:
        with machine.process:
            machine.process.start()
            machine.process.wait_ready(lambda: machine.up, timeout_s=60)
            yield machine
    finally:
        place = folder / "cgroup"
        place.mkdir()
        wait_until(
            lambda: (
                not subprocess.run(
                    ["unshare", "--mount", "sh", "-c", SWEEP, "sh", place, machine.cgroup],
                    capture_output=True,
                    check=False,
                ).returncode
            ),
            "the end of all that ran in it",
        )
        shutil.rmtree(machine.root)


def _suite() -> str:
    lines = Path("/etc/os-release").read_text().splitlines()
    named = dict(line.partition("=")[::2] for line in lines)
    if named.get("ID") != "debian":
        raise NoDebian("this machine is no Debian, and has no mirror of one")
    return named["VERSION_CODENAME"]


def _mirrors() -> list[Path]:
    """Where this machine has its Debian from; else mmdebstrap knows one."""
    return [each for each in (Path("/etc/apt/sources.list.d/debian.sources"),) if each.exists()]
