"""Becomes the command it is given, in the sandbox of a unit (systemd.exec(5)), where systemd is not there to make it.

Run as ``python -I -S sandbox.py JSON COMMAND [ARGUMENT…]`` by `peers.supervisor`, as root: a private view of the
filesystem, then a user without capabilities, then the filters of system calls. A call outside of SystemCallFilter=
kills the process here, instead of failing: no test is to miss it because the caller went another way. Nothing is
imported once the filesystem is entered: this Python may lie in somebody's home.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import socket
import sys
from pathlib import Path
from typing import Any

libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
NAMESPACES = (CLONE_NEWNS, 0x2000000, CLONE_NEWUTS, CLONE_NEWIPC, 0x10000000, 0x20000000, 0x40000000)
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_SLAVE = 32, 4096, 16384, 1 << 19
KEPT = {"nosuid": MS_NOSUID, "nodev": MS_NODEV, "noexec": MS_NOEXEC, "noatime": 1024, "relatime": 1 << 21}
PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 38, 24, 47, 4
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

KILL, ALLOW = 0x80000000, 0x7FFF0000
EQUAL, MASKED_EQUAL = 4, 7
PROT_WRITE, PROT_EXEC, SHM_EXEC = 2, 4, 0o100000


def main() -> None:
    unit: dict[str, Any] = json.loads(sys.argv[1])
    enter_filesystem(unit)
    for key, limit in (("LimitNOFILE", resource.RLIMIT_NOFILE), ("LimitCORE", resource.RLIMIT_CORE)):
        if key in unit:
            highest = resource.getrlimit(limit)[1]
            most = int(unit[key]) if highest == resource.RLIM_INFINITY else min(int(unit[key]), highest)
            resource.setrlimit(limit, (most, most))
    become(unit)
    if unit["syscalls"] is not None:
        refuse(unit)
        only(unit["syscalls"])
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - becoming the command is the point


# --- what it sees ----------------------------------------------------------------------------------


def enter_filesystem(unit: dict[str, Any]) -> None:
    check(libc.unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS), "unshare")
    mount("", "/", flags=MS_REC | MS_SLAVE)
    writable = [*unit["writable"]]
    if unit.get("PrivateTmp") == "yes":
        writable += make_temporary()
    if unit.get("ProtectHome") == "yes":
        hide_homes()
    if unit.get("PrivateDevices") == "yes":
        make_devices()
    if unit.get("ProtectProc") == "invisible":
        mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "hidepid=invisible")
    for folder in writable:
        mount(folder, folder, flags=MS_BIND)
    read_only = ["/proc/sys", "/sys"] if unit.get("ProtectKernelTunables") == "yes" else []
    for folder in read_only:
        mount(folder, folder, flags=MS_BIND | MS_REC)
    if unit.get("ProtectSystem") == "strict":
        make_read_only(exempt=(*writable, "/dev", "/proc", "/sys"), also=tuple(read_only))


def make_temporary() -> tuple[str, str]:
    folders = "/tmp", "/var/tmp"  # noqa: S108 - which it makes private
    for folder in folders:
        mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    return folders


def hide_homes() -> None:
    for folder in ("/home", "/root", "/run/user"):
        if Path(folder).is_dir():
            mount("tmpfs", folder, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=000")


def make_devices() -> None:
    held = {name: os.open(f"/dev/{name}", os.O_PATH) for name in DEVICES}
    mount("tmpfs", "/dev", "tmpfs", MS_NOSUID, "mode=755")
    for name, fd in held.items():
        (Path("/dev") / name).touch()
        mount(f"/proc/self/fd/{fd}", f"/dev/{name}", flags=MS_BIND)
        os.close(fd)
    Path("/dev/shm").mkdir()  # noqa: S108
    Path("/dev/shm").chmod(0o1777)  # noqa: S108
    for name, where in (("fd", "/proc/self/fd"), ("stderr", "/proc/self/fd/2"), ("stdout", "/proc/self/fd/1")):
        (Path("/dev") / name).symlink_to(where)


def make_read_only(*, exempt: tuple[str, ...], also: tuple[str, ...]) -> None:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        is_exempt = any(point == each or point.startswith(f"{each}/") for each in exempt)
        if is_exempt and not any(point == each or point.startswith(f"{each}/") for each in also):
            continue
        kept = sum(KEPT.get(option, 0) for option in fields[5].split(","))
        if Path(point).exists():  # or another mount lies above it
            mount("", point, flags=MS_REMOUNT | MS_BIND | MS_RDONLY | kept)


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    result = libc.mount(source.encode(), target.encode(), kind.encode(), flags, options.encode())
    check(result, f"mount {source} on {target}")


# --- who it is -------------------------------------------------------------------------------------


def become(unit: dict[str, Any]) -> None:
    os.umask(unit["umask"])
    if unit.get("CapabilityBoundingSet") == "":
        last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
        for capability in range(last + 1):
            check(libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0), "prctl")
    os.setgroups([])
    os.setresgid(unit["gid"], unit["gid"], unit["gid"])
    os.setresuid(unit["uid"], unit["uid"], unit["uid"])
    if unit.get("NoNewPrivileges") == "yes":
        check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")


# --- what it may ask of the kernel -----------------------------------------------------------------


class Compare(ctypes.Structure):
    """`struct scmp_arg_cmp` (seccomp_rule_add(3))."""

    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


class Filter:
    """One filter of libseccomp; where several are loaded, the strictest answer counts (seccomp(2))."""

    def __init__(self, default: int) -> None:
        self._lib = ctypes.CDLL("libseccomp.so.2")
        self._lib.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._lib.seccomp_init(ctypes.c_uint32(default)))

    def add(self, action: int, name: str, *compares: Compare) -> None:
        number = self._lib.seccomp_syscall_resolve_name(name.encode())
        if number < 0:
            return  # of another architecture, or newer than the library
        array = (Compare * len(compares))(*compares)
        self._lib.seccomp_rule_add_array(self._context, ctypes.c_uint32(action), number, len(compares), array)

    def load(self) -> None:
        check(self._lib.seccomp_load(self._context), "seccomp_load")
        self._lib.seccomp_release(self._context)


def only(names: list[str]) -> None:
    """SystemCallFilter=."""
    allowed = Filter(KILL)
    for name in names:
        allowed.add(ALLOW, name)
    # systemd adds what every process needs before it becomes the command.
    for name in ("execve", "exit", "exit_group", "rt_sigreturn", "getrlimit", "clock_gettime", "restart_syscall"):
        allowed.add(ALLOW, name)
    allowed.load()


def refuse(unit: dict[str, Any]) -> None:
    """What is forbidden by arguments: RestrictAddressFamilies=, RestrictNamespaces=, MemoryDenyWriteExecute=."""
    denied = Filter(ALLOW)
    if families := unit.get("RestrictAddressFamilies", "").split():
        allowed = {int(getattr(socket, family)) for family in families}
        for family in range(64):
            if family not in allowed:
                denied.add(errno_action(97), "socket", Compare(0, EQUAL, family, 0))
    if unit.get("RestrictNamespaces") == "yes":
        for flag in NAMESPACES:
            denied.add(errno_action(1), "clone", Compare(0, MASKED_EQUAL, flag, flag))
            denied.add(errno_action(1), "unshare", Compare(0, MASKED_EQUAL, flag, flag))
    if unit.get("MemoryDenyWriteExecute") == "yes":
        both = PROT_WRITE | PROT_EXEC
        denied.add(errno_action(1), "mmap", Compare(2, MASKED_EQUAL, both, both))
        for name in ("mprotect", "pkey_mprotect"):
            denied.add(errno_action(1), name, Compare(2, MASKED_EQUAL, PROT_EXEC, PROT_EXEC))
        denied.add(errno_action(1), "shmat", Compare(2, MASKED_EQUAL, SHM_EXEC, SHM_EXEC))
    denied.load()


def errno_action(number: int) -> int:
    return 0x00050000 | number


def check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno() or -result
        raise OSError(number, f"{what}: {os.strerror(number)}")


main()
