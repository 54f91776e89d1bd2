"""A real Nomad agent, server and client in one; the one on PATH, which the project doesn't bring."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from peers.processes import PeerFailed, Process, clean_environment, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PROGRAM = shutil.which("nomad")

Allocation = dict[str, Any]
"""As the API tells it."""

# A laptop's or a cloud's answers take the fingerprinters half a minute where nobody answers; copying the default
# chroot takes another; and the test's jobs shall fit on any machine.
_CONFIG = """\
data_dir = "{folder}/data"
disable_update_check = true
ports {{
  http = {ports[0]}
  rpc  = {ports[1]}
  serf = {ports[2]}
}}
client {{
  network_interface = "lo"
  cpu_total_compute = 40000
  options {{
    "fingerprint.denylist" = "env_aws,env_azure,env_digitalocean,env_gce,consul,vault"
  }}
  chroot_env {{
{chroot}
  }}
{client}
}}
"""
_C_LIBRARY = ("libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1", "libresolv.so.2")
_INTO_CGROUP = """\
echo $$ > "$0/cgroup.procs" && exec unshare --mount sh -c 'umount /sys/fs/cgroup && exec "$@"' sh "$@"
"""


class Nomad:
    """One agent in `folder`. It needs root, for the exec driver.

    Its tasks find in their root what jobs that run `programs` need, and no more: the C library.
    With `cgroup` (a folder below /sys/fs/cgroup, mounted there for the test alone) the agent lives in it, and sees
    the machine's own hierarchy, in which it manages its tasks.
    `client` is added to that block of its configuration.
    """

    def __init__(self, folder: Path, programs: Sequence[Path], *, cgroup: Path | None = None, client: str = "") -> None:
        if PROGRAM is None:
            raise FileNotFoundError("nomad is not on PATH")
        folder.mkdir(parents=True, exist_ok=True)
        ports = [free_port() for _ in range(3)]
        self.address = f"http://127.0.0.1:{ports[0]}"
        config = folder / "agent.hcl"
        chroot = "\n".join(f'    "{path.resolve()}" = "{path}"' for path in _needed_by(programs))
        config.write_text(_CONFIG.format(folder=folder, ports=ports, chroot=chroot, client=client))
        self.environment = clean_environment(folder, NOMAD_ADDR=self.address)
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
            self.environment.pop(name, None)  # it trusts whom the machine trusts
        command: list[str | Path] = [PROGRAM, "agent", "-dev", "-config", config]
        self.process = Process(
            ["sh", "-c", _INTO_CGROUP, cgroup, *command] if cgroup else command,
            log=folder / "nomad.log",
            environment=self.environment,
            folder=folder,
        )

    def start(self) -> None:
        self.process.start()
        self.process.wait_ready(self._has_a_node, timeout_s=60)

    def command(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run the command line, whatever its exit status."""
        command: list[str | Path] = [str(PROGRAM), *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, check=False)

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Ask the API."""
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"{self.address}/v1/{path}", data, timeout=30) as answer:  # noqa: S310 - ours
            return json.load(answer)

    # --- jobs ----------------------------------------------------------------------------------

    def run(self, job: Path, **variables: str) -> None:
        """Run a job's file."""
        settings = [f"-var={name}={value}" for name, value in variables.items()]
        done = self.command("job", "run", "-detach", *settings, job)
        if done.returncode:
            raise PeerFailed(f"nomad job run {job}: {done.stdout}{done.stderr}")

    def keep(self, variable: str, **files: Path) -> None:
        """Put files into a Nomad variable, as a person does: what they hold is on no command line."""
        done = self.command(
            "var", "put", "-force", "-out=none", variable, *(f"{name}=@{file}" for name, file in files.items())
        )
        if done.returncode:
            raise PeerFailed(f"nomad var put {variable}: {done.stderr}")

    def allocations(self, job: str) -> list[Allocation]:
        """All that the server knows of the job, also those that ended; the latest first."""
        found: list[Allocation] = self.ask(f"job/{quote(job, safe='')}/allocations")
        return sorted(found, key=lambda one: int(one["CreateIndex"]), reverse=True)

    def wait_running(self, job: str, *, count: int = 1, timeout_s: float = 60.0) -> list[Allocation]:
        """Wait until so many allocations run, and return them."""

        def running() -> list[Allocation]:
            return [one for one in self.allocations(job) if one["ClientStatus"] == "running"]

        try:
            wait_until(lambda: len(running()) == count, f"{count} running", timeout_s=timeout_s)
        except PeerFailed as late:
            raise PeerFailed(f"{job}: {late}; {self.events(job)}; {self.said(job)}") from None
        return running()

    def events(self, job: str) -> list[str]:
        """What Nomad tells its user of the tasks of the job's latest allocation, in the order in which it happened."""
        (latest, *_) = self.allocations(job) or [{"TaskStates": None}]
        return [
            event["DisplayMessage"] for task in (latest["TaskStates"] or {}).values() for event in task["Events"] or ()
        ]

    def moments(self, job: str) -> dict[str, float]:
        """When each kind of event last happened to the tasks of the job's latest allocation, in epoch seconds."""
        states = self.allocations(job)[0]["TaskStates"].values()
        return {event["Type"]: event["Time"] / 1e9 for task in states for event in task["Events"]}

    def wait_event(self, job: str, words: str, *, timeout_s: float = 60.0) -> str:
        """Wait until an event of the latest allocation says these words, and return it whole."""
        try:
            wait_until(lambda: any(words in told for told in self.events(job)), repr(words), timeout_s=timeout_s)
        except PeerFailed as late:
            raise PeerFailed(f"{job}: {late}; {self.events(job)}") from None
        return next(told for told in self.events(job) if words in told)

    def said(self, job: str) -> str:
        """What the task of the job's latest allocation wrote."""
        (latest, *_) = self.allocations(job)
        return "".join(self.command("alloc", "logs", *which, latest["ID"]).stdout for which in ([], ["-stderr"]))

    def service(self, name: str) -> list[str]:
        """Where a service's instances are, as URLs."""
        return [f"http://{one['Address']}:{one['Port']}" for one in self.ask(f"service/{name}")]

    def checks(self, allocation: Allocation) -> list[str]:
        """How the allocation's service checks are."""
        return [check["Status"] for check in self.ask(f"client/allocation/{allocation['ID']}/checks").values()]

    def stop(self, job: str) -> None:
        """Stop a job, wait for the end of its tasks, and forget it."""
        self.command("job", "stop", "-detach", "-no-shutdown-delay", job)
        ended = ("complete", "failed", "lost")
        wait_until(lambda: all(one["ClientStatus"] in ended for one in self.allocations(job)), f"{job} is stopped")
        self.command("job", "stop", "-detach", "-purge", job)
        self.command("system", "gc")

    def stop_all(self) -> None:
        for job in self.ask("jobs"):
            self.stop(job["ID"])

    def _has_a_node(self) -> bool:
        try:
            return [node["Status"] for node in self.ask("nodes")] == ["ready"]
        except OSError:
            return False


@contextmanager
def running_nomad(
    folder: Path, programs: Sequence[Path], *, cgroup: Path | None = None, client: str = ""
) -> Iterator[Nomad]:
    """A started agent; at the end its tasks are ended with it."""
    nomad = Nomad(folder, programs, cgroup=cgroup, client=client)
    with nomad.process:
        nomad.start()
        yield nomad
        nomad.stop_all()
        nomad.process.stop()


def _needed_by(programs: Sequence[Path]) -> list[Path]:
    """The programs' loader and libraries, and the rest of the C library, which what they carry may need."""
    listed = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=True).stdout
    libraries = {Path(library) for library in re.findall(r"(/\S+) \(0x", listed)}
    parts = {library.with_name(part) for library in libraries if "libc.so" in library.name for part in _C_LIBRARY}
    return sorted(libraries | {part for part in parts if part.exists()})
