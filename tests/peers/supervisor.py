"""Stands in for systemd where it is not PID 1: runs one service and its socket as their unit files say.

What is kept of systemd's order (systemd.service(5), systemd.socket(5), systemd.unit(5), sd_notify(3)):

start       the socket is opened first; ExecStart=, READY=1 within TimeoutStartSec=, then ExecStartPost=
watchdog    from READY=1 on; WatchdogSec= without WATCHDOG=1: SIGABRT, after TimeoutAbortSec= SIGKILL
stop        ExecStop= (of a service that had started), SIGTERM, after TimeoutStopSec= SIGKILL
any end     ExecStopPost=, with SERVICE_RESULT
restart     Restart=always: after every end that nobody asked for, RestartSec= later
start limit more than StartLimitBurst= starts within StartLimitIntervalSec=: failed, and the socket closed with it
socket      kept over restarts; of a stopped service, a connection starts it; to stop the socket stops the service

A signal that is to end a process is followed by SIGCONT, unless it is SIGKILL, as systemd does it: one that is stopped
could not take it otherwise. Limits of memory and tasks are left out: they are cgroups' business.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from peers.manager import Ears
from peers.processes import LEASH, PeerFailed, wait_until
from peers.units import Unit, command

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from peers.units import Command

SANDBOX = Path(__file__).with_name("sandbox.py")
ACTIVATED = Path(__file__).with_name("activated.py")
POLL_S = 0.01
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _words(text: str) -> list[str]:
    return text.split()


HERE = frozenset(
    _words("""
    Type ExecStart ExecStartPost ExecStop ExecStopPost ExecReload TimeoutStartSec TimeoutStopSec TimeoutAbortSec
    WatchdogSec Restart RestartSec User Group UMask StateDirectory StateDirectoryMode RuntimeDirectory
    RuntimeDirectoryMode LoadCredential SetCredential Environment
    """)
)
"""What this file does of [Service]."""
IN_SANDBOX = frozenset(
    _words("""
    LimitNOFILE LimitCORE NoNewPrivileges CapabilityBoundingSet AmbientCapabilities ProtectSystem ProtectHome
    PrivateTmp PrivateDevices PrivateIPC PrivateMounts ProtectControlGroups ProtectHostname ProtectKernelTunables
    ProtectProc ReadWritePaths RestrictAddressFamilies RestrictNamespaces MemoryDenyWriteExecute SystemCallFilter
    SystemCallErrorNumber
    """)
)
"""What `sandbox` does."""
LEFT_OUT = frozenset(
    _words("""
    TasksMax MemoryMax OOMScoreAdjust ProtectClock ProtectKernelLogs ProtectKernelModules RestrictRealtime
    RestrictSUIDSGID LockPersonality RemoveIPC KeyringMode SystemCallArchitectures
    """)
)
"""Limits of cgroups, the order of the OOM killer, and what would forbid only what other lines forbid here too."""


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to the service, and when, on the monotonic clock."""

    at: float
    what: str
    """``started``, ``ready``, ``watchdog``, ``signal``, ``ended``, the name of an Exec line, ``failed``, ``socket``…"""
    detail: str = ""


@dataclass
class Supervisor:
    """`waystation.service` and `waystation.socket` of `units`, run until the ``with`` block is left.

    `besides` names further socket units of that service, without ``.socket``, that are enabled. `runtime` and `state`
    stand for /run and /var/lib; `drop_ins` are texts by unit.
    """

    units: Path
    folder: Path
    name: str = "waystation"
    besides: tuple[str, ...] = ()
    drop_ins: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    runtime: Path = Path("/run")
    state: Path = Path("/var/lib")
    syscalls: frozenset[str] | None = None
    """What SystemCallFilter= comes to; None: no filter."""

    def __post_init__(self) -> None:
        service, listener = f"{self.name}.service", f"{self.name}.socket"
        self.service = Unit(self.units / service, *self.drop_ins.get(service, ()))
        self.socket = Unit(self.units / listener, *self.drop_ins.get(listener, ()))
        if unknown := self.service.keys("Service") - HERE - IN_SANDBOX - LEFT_OUT:
            raise ValueError(f"{service}: this supervisor does not know {', '.join(sorted(unknown))}")
        self.events: list[Event] = []
        self.log = self.folder / "journal"
        self.main: subprocess.Popen[bytes] | None = None
        self._listeners: list[tuple[str, socket.socket]] = []
        """By the names that their units give the descriptors."""
        self._ears: Ears | None = None
        self._heard = 0
        self._fed = 0.0
        self._wanted = "stopped"
        self._starts: deque[float] = deque()
        self._thread = threading.Thread(target=self._supervise, name="supervisor")
        self._over = False
        self._fault: Exception | None = None

    # --- what an operator does -------------------------------------------------------------------

    def __enter__(self) -> Self:
        notify = self.runtime / "systemd" / "notify"
        notify.parent.mkdir(exist_ok=True, parents=True)
        self._ears = Ears(str(notify))
        notify.chmod(0o666)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        if self.main and self.main.poll() is None and kind:
            self.main.kill()
        self._wanted = "stopped"
        self._thread.join(60)
        self._close()
        if self._ears:
            self._ears.close()
        (self.runtime / "systemd" / "notify").unlink()

    def start(self, *, timeout_s: float = 30.0) -> None:
        """``systemctl start``: the socket, the service, and wait until it is ready."""
        self._open()
        self.reset_failed()
        self._want("running")
        self.wait_for("running", since=self._asked, timeout_s=timeout_s)

    def reset_failed(self) -> None:
        """``systemctl reset-failed``: the starts so far count no more."""
        self._starts.clear()

    def stop(self) -> None:
        """``systemctl stop waystation.service``: the next client starts it again."""
        if self._wanted != "stopped":
            self._want("stopped")
            self.wait_for("stopped", since=self._asked)

    def stop_for_good(self) -> None:
        """``systemctl stop waystation.socket``: the service ends first, which has its After= on the socket."""
        self.stop()
        self._close()

    def restart(self) -> None:
        """``systemctl restart``."""
        self._want("restarted")
        self.wait_for("running", since=self._asked)

    def reload(self) -> int:
        """``systemctl reload``: give the status of the line that failed, or 0."""
        for line in self._lines("ExecReload"):
            if status := self._run("ExecReload", line):
                return status
        return 0

    def kill(self, number: signal.Signals) -> float:
        """Send the main process a signal, from outside; give when."""
        assert self.main
        at = time.monotonic()
        os.kill(self.main.pid, number)
        return at

    def count(self, what: str, detail: str = "") -> int:
        return sum(event.what == what and detail in event.detail for event in tuple(self.events))

    def wait_for(self, what: str, *, since: float = 0.0, timeout_s: float = 30.0) -> Event:
        """Wait for the first such event from then on."""
        found: list[Event] = []

        def there() -> bool:
            if self._fault:
                raise self._fault
            found[:] = [event for event in tuple(self.events) if event.what == what and event.at >= since]
            return bool(found)

        try:
            wait_until(there, what, timeout_s=timeout_s)
        except PeerFailed as failed:
            happened = "\n".join(f"{event.at - since:8.2f} {event.what} {event.detail}" for event in self.events[-20:])
            raise PeerFailed(f"{self.name}: {failed}\n{happened}\n{self.words()[-3000:]}") from None
        return found[0]

    def words(self) -> str:
        """All that the service wrote."""
        return self.log.read_text(errors="replace")

    # --- the service's life ----------------------------------------------------------------------

    def _want(self, what: str) -> None:
        self._asked = time.monotonic()
        self._wanted = what

    def _supervise(self) -> None:
        try:
            self._go_on()
        except Exception as fault:  # noqa: BLE001 - whoever waits is told
            self._fault = fault

    def _go_on(self) -> None:
        while not self._over:
            if self._wanted == "stopped":
                if self._has_callers():
                    self._wanted = "running"
                time.sleep(POLL_S)
                continue
            self._wanted = "running"
            if self._is_over_the_limit():
                self._say("failed", "start-limit-hit")
                self._wanted = "stopped"
                self._close()
                continue
            result = self._live()
            if self._wanted == "running" and self.service.last("Service", "Restart", "no") != "always":
                self._say("failed", result)
                self._wanted = "stopped"
            elif self._wanted == "running":
                self._pause(self.service.seconds("Service", "RestartSec", "100ms"))
            if self._wanted == "stopped":
                self._say("stopped", result)

    def _live(self) -> str:
        """One start, to its end, with all that belongs to it."""
        self._starts.append(time.monotonic())
        main = self._spawn_main()
        result = self._until_ready(main)
        if result is None:
            self._say("ready")
            self._fed = time.monotonic()
            if any(self._run("ExecStartPost", line) for line in self._lines("ExecStartPost")):
                result = "exit-code"
            else:
                self._say("running")
                result = self._until_it_ends(main)
        if result == "success" and main.poll() is None:
            for line in self._lines("ExecStop"):
                self._run("ExecStop", line)
        if main.poll() is None:
            self._end(main, aborting=result == "watchdog")
        self._say("ended", str(main.wait()))
        for line in self._lines("ExecStopPost"):
            self._run("ExecStopPost", line, SERVICE_RESULT=result)
        return result

    def _until_ready(self, main: subprocess.Popen[bytes]) -> str | None:
        """None: it is; else why it will not be."""
        deadline = time.monotonic() + self.service.seconds("Service", "TimeoutStartSec", "90")
        while all(word != "READY=1" for _, word in self._news()):
            if main.poll() is not None:
                return "signal" if main.returncode < 0 else "exit-code" if main.returncode else "protocol"
            if self._wanted != "running":
                return "stopped"
            if time.monotonic() > deadline:
                self._say("timeout")
                return "timeout"
            time.sleep(POLL_S)
        return None

    def _until_it_ends(self, main: subprocess.Popen[bytes]) -> str:
        watchdog_s = self.service.seconds("Service", "WatchdogSec", "0")
        while self._wanted == "running":
            self._fed = max([self._fed, *(at for at, word in self._news() if word == "WATCHDOG=1")])
            if main.poll() is not None:
                return "signal" if main.returncode < 0 else "exit-code" if main.returncode else "success"
            if watchdog_s and time.monotonic() - self._fed > watchdog_s:
                self._say("watchdog")
                return "watchdog"
            time.sleep(POLL_S)
        return "success"

    def _end(self, main: subprocess.Popen[bytes], *, aborting: bool) -> None:
        stop_s = self.service.seconds("Service", "TimeoutStopSec", "90")
        first, patience_s = signal.SIGTERM, stop_s
        if aborting:
            first, patience_s = signal.SIGABRT, self.service.seconds("Service", "TimeoutAbortSec", f"{stop_s}")
        for number, wait_s in ((first, patience_s), (signal.SIGKILL, stop_s)):
            self._say("signal", number.name)
            main.send_signal(number)
            if number != signal.SIGKILL:
                main.send_signal(signal.SIGCONT)
            try:
                main.wait(wait_s)
            except subprocess.TimeoutExpired:
                continue
            return

    def _is_over_the_limit(self) -> bool:
        burst = int(self.service.last("Unit", "StartLimitBurst", "5"))
        interval_s = self.service.seconds("Unit", "StartLimitIntervalSec", "10")
        now = time.monotonic()
        while self._starts and now - self._starts[0] > interval_s:
            self._starts.popleft()
        return len(self._starts) >= burst

    def _pause(self, pause_s: float) -> None:
        until = time.monotonic() + pause_s
        while time.monotonic() < until and self._wanted == "running":
            time.sleep(POLL_S)

    def _news(self) -> list[tuple[float, str]]:
        """What the service told since the last look, and when."""
        assert self._ears
        heard = tuple(self._ears.heard)[self._heard :]
        self._heard += len(heard)
        return [(at, word) for at, told in heard for word in told]

    def _say(self, what: str, detail: str = "") -> None:
        self.events.append(Event(time.monotonic(), what, detail))

    # --- the socket ------------------------------------------------------------------------------

    def _open(self) -> None:
        if self._listeners:
            return
        for unit in (self.socket, *(Unit(self.units / f"{name}.socket") for name in self.besides)):
            listener = socket.socket()
            self._listeners.append((unit.last("Socket", "FileDescriptorName", unit.name), listener))
            host, _, port = unit.last("Socket", "ListenStream").rpartition(":")
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, int(port)))
            listener.listen(int(unit.last("Socket", "Backlog", "4096")))
            if unit.is_on("Socket", "NoDelay"):
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._say("socket", "open")

    def _close(self) -> None:
        if self._listeners:
            for _, listener in self._listeners:
                listener.close()
            self._listeners.clear()
            for line in self.socket.all("Socket", "ExecStopPost"):
                self._run("socket's ExecStopPost", replace(command(line), privileged=True))  # it has no User=
            self._say("socket", "closed")

    def _has_callers(self) -> bool:
        listeners = [listener for _, listener in self._listeners]
        return bool(listeners and select.select(listeners, [], [], 0)[0])

    # --- processes -------------------------------------------------------------------------------

    def _lines(self, key: str) -> list[Command]:
        return [command(line) for line in self.service.all("Service", key)]

    def _spawn_main(self) -> subprocess.Popen[bytes]:
        (line,) = self._lines("ExecStart")
        self._news()
        variables = self._variables() | {"NOTIFY_SOCKET": str(self.runtime / "systemd" / "notify")}
        if watchdog_s := self.service.seconds("Service", "WatchdogSec", "0"):
            variables["WATCHDOG_USEC"] = str(int(watchdog_s * 1e6))
        argv = self._in_sandbox(line.given(variables))
        fds: tuple[int, ...] = ()
        if self._listeners:
            fds = tuple(listener.fileno() for _, listener in self._listeners)
            passed = ",".join(f"{name}:{listener.fileno()}" for name, listener in self._listeners)
            argv = [sys.executable, "-I", "-S", str(ACTIVATED), passed, *argv]
        self.main = self._popen(argv, variables, fds)
        self._say("started", str(self.main.pid))
        return self.main

    def _run(self, kind: str, line: Command, **variables: str) -> int:
        """Run one of the other Exec lines and give its status, 0 where it may fail."""
        known = self._variables() | variables
        if self.main and self.main.poll() is None:
            known["MAINPID"] = str(self.main.pid)
        argv = line.given(known)
        process = self._popen(argv if line.privileged else self._in_sandbox(argv), known)
        try:
            status = process.wait(self.service.seconds("Service", "TimeoutStartSec", "90"))
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        self._say(kind, f"{status} {' '.join(argv)}")
        return 0 if line.may_fail else status

    def _popen(self, argv: list[str], variables: dict[str, str], fds: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), *argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=variables,
                cwd="/",
                start_new_session=True,
                pass_fds=fds,
            )

    def _variables(self) -> dict[str, str]:
        variables = {"PATH": PATH, "LANG": "C.UTF-8"}
        if user := self.service.last("Service", "User"):
            entry = pwd.getpwnam(user)
            variables |= {"USER": user, "LOGNAME": user, "HOME": entry.pw_dir}
        for kind, root in (("State", self.state), ("Runtime", self.runtime)):
            if name := self.service.last("Service", f"{kind}Directory"):
                variables[f"{kind.upper()}_DIRECTORY"] = str(root / name)
        if self.service.all("Service", "LoadCredential"):
            variables["CREDENTIALS_DIRECTORY"] = str(self._credentials)
        return variables | dict(one.split("=", 1) for one in self.service.all("Service", "Environment"))

    @property
    def _credentials(self) -> Path:
        return self.runtime / "credentials" / self.service.name

    def _in_sandbox(self, argv: list[str]) -> list[str]:
        """Make the folders that the unit has, and go through the sandbox where it has a user."""
        user = self.service.last("Service", "User")
        if not user:
            return argv
        group = self.service.last("Service", "Group", user)
        writable = []
        for kind, root in (("State", self.state), ("Runtime", self.runtime)):
            if name := self.service.last("Service", f"{kind}Directory"):
                (root / name).mkdir(exist_ok=True)
                shutil.chown(root / name, user, group)
                (root / name).chmod(int(self.service.last("Service", f"{kind}DirectoryMode", "0755"), 8))
                writable.append(str(root / name))
        self._write_credentials(pwd.getpwnam(user).pw_uid)
        keys = IN_SANDBOX & self.service.keys("Service")
        sandbox = {
            "uid": pwd.getpwnam(user).pw_uid,
            "gid": grp.getgrnam(group).gr_gid,
            "umask": int(self.service.last("Service", "UMask", "0022"), 8),
            "writable": writable + self.service.all("Service", "ReadWritePaths"),
            "syscalls": sorted(self.syscalls) if self.syscalls is not None else None,
            **{key: self.service.last("Service", key) for key in keys - {"SystemCallFilter", "ReadWritePaths"}},
        }
        return [sys.executable, "-I", "-S", str(SANDBOX), json.dumps(sandbox), *argv]

    def _write_credentials(self, uid: int) -> None:
        """LoadCredential=, else SetCredential= (systemd.exec(5)): read-only, for the service's user and root."""
        if self._credentials.exists():
            shutil.rmtree(self._credentials)
        self._credentials.mkdir(parents=True)
        for line in (*self.service.all("Service", "SetCredential"), *self.service.all("Service", "LoadCredential")):
            name, _, content = line.partition(":")
            loaded = line in self.service.all("Service", "LoadCredential")
            if loaded and not Path(content).exists():
                continue
            (self._credentials / name).write_text(Path(content).read_text() if loaded else content)
            (self._credentials / name).chmod(0o400)
            os.chown(self._credentials / name, uid, -1)
        self._credentials.chmod(0o500)
        os.chown(self._credentials, uid, -1)
