"""Run as a process of its own: shuts itself into a root, gives up its rights, and becomes the executable.

Reads one JSON object from its first argument. What goes wrong before the executable runs is written, as JSON, to the
descriptor that it names, which the executable does not inherit; nothing there means that it ran.

The root is made in a mount namespace of its own: a tmpfs with the profile's folders bound read-only, `/local` with the
executable, `/alloc`, `/secrets`, `/tmp`, and a small `/dev` and `/proc`. No network, no other processes, no rights.
Asked to probe, it tries instead whether a user namespace can be made there.

Its constants are those of the kernel's headers.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import resource
import signal
import sys
from typing import Any, NoReturn

NOBODY = 65534
_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
_DETACH = 2
_PDEATHSIG, _CAPBSET_DROP, _NO_NEW_PRIVS = 1, 24, 38
_LAST_CAP = 63
_SYS_ADMIN = 21
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "i686": 217, "armv7l": 218, "ppc64le": 203, "s390x": 217}
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_MAX_FILE_BYTES = 8 * 1024**3
_STATUS_OF_SIGNAL = 128

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> NoReturn:
    """Confine and execute; the process ends with the executable's own status, a signal's as shells say it."""
    order: dict[str, Any] = json.loads(sys.argv[1])
    failures = int(order["failures"])
    _libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.set_inheritable(failures, False)
    try:
        if not _may_mount():
            _enter_user_namespace()
        _unshare(_NEWNS | _NEWPID | _NEWIPC | _NEWUTS | _NEWNET)
        child = os.fork()
        if child == 0:
            _check(_libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
            _make_root(order)
            _give_up_rights()
    except OSError as error:
        _tell(failures, "confinement", error)
    if child == 0:
        _execute(order, failures)
    os.close(failures)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else _STATUS_OF_SIGNAL - code)


def _may_mount() -> bool:
    """Whether this process has the rights of root over its mounts, and knows the user nobody.

    In a container root seldom has them, and may all the same make a user namespace like anybody else.
    """
    rights = re.search(r"^CapEff:\t([0-9a-f]+)$", _read("/proc/self/status"), re.MULTILINE)
    if os.geteuid() != 0 or rights is None or not int(rights[1], 16) >> _SYS_ADMIN & 1:
        return False
    ranges = [list(map(int, line.split())) for line in _read("/proc/self/uid_map").splitlines()]
    return any(first <= NOBODY < first + count for first, _, count in ranges)


def _enter_user_namespace() -> None:
    """Get those rights over a namespace of our own, in which this user is nobody."""
    user, group = os.geteuid(), os.getegid()
    _unshare(_NEWUSER)
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{NOBODY} {user} 1")
    _write("/proc/self/gid_map", f"{NOBODY} {group} 1")


def _make_root(order: dict[str, Any]) -> None:
    root = order["root"]
    _mount("none", "/", None, _REC | _PRIVATE)
    executable = os.open(order["file"], os.O_PATH | os.O_CLOEXEC)
    _mount("tmpfs", root, "tmpfs", _NOSUID | _NODEV, "mode=755")
    for folder in order["folders"]:
        _bring_in(folder, root + folder)
    for name, mode in (("alloc", 0o777), ("local", 0o777), ("secrets", 0o777), ("tmp", 0o1777)):
        os.mkdir(f"{root}/{name}")
        os.chmod(f"{root}/{name}", mode)
    _make_devices(root)
    _make_proc(root)
    inside = f"{root}{order['arguments'][0]}"
    os.close(os.open(inside, os.O_CREAT | os.O_WRONLY, 0o755))
    _bind(f"/proc/self/fd/{executable}", inside)
    if order["user_namespaces"]:
        os.chdir(root)
        _check(
            _libc.syscall(_PIVOT_ROOT[os.uname().machine], b".", b"."), "pivot_root"
        )  # old and new, one on the other
        _check(_libc.umount2(b".", _DETACH), "umount")
    else:
        os.chroot(root)  # in a root that is not its mount namespace's, the kernel makes no user namespace
    os.chdir("/")


def _bring_in(folder: str, to: str) -> None:
    """Put a folder of the machine there: bound read-only, or where it is a link, the link."""
    os.makedirs(os.path.dirname(to), exist_ok=True)
    if os.path.islink(folder):
        os.symlink(os.readlink(folder), to)
    elif os.path.isdir(folder):
        os.mkdir(to)
        _bind(folder, to)


def _bind(source: str, to: str) -> None:
    _mount(source, to, None, _BIND | _REC)
    kept = os.statvfs(to).f_flag & (_NOSUID | _NODEV | _NOEXEC)  # a user namespace may add flags, and take none away
    _mount("none", to, None, _BIND | _REMOUNT | _RDONLY | _NOSUID | kept)


def _make_devices(root: str) -> None:
    os.makedirs(f"{root}/dev/shm")  # noqa: S108 - in the new root
    os.chmod(f"{root}/dev/shm", 0o1777)  # noqa: S103, S108 - as it is everywhere
    for name in _DEVICES:
        if os.path.exists(f"/dev/{name}"):
            os.close(os.open(f"{root}/dev/{name}", os.O_CREAT | os.O_WRONLY))
            _mount(f"/dev/{name}", f"{root}/dev/{name}", None, _BIND)
    for name, target in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        os.symlink(f"/proc/self/{target}", f"{root}/dev/{name}")


def _make_proc(root: str) -> None:
    os.mkdir(f"{root}/proc")
    try:
        _mount("proc", f"{root}/proc", "proc", _NOSUID | _NODEV | _NOEXEC)
    except PermissionError:  # in a container whose own /proc is covered in part
        _mount("/proc", f"{root}/proc", None, _BIND | _REC)
    os.mkdir(f"{root}/sys")
    with contextlib.suppress(PermissionError):  # as above; few programs look there
        _mount("sysfs", f"{root}/sys", "sysfs", _RDONLY | _NOSUID | _NODEV | _NOEXEC)


def _give_up_rights() -> None:
    for capability in range(_LAST_CAP + 1):
        _libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0)  # those that this kernel does not know are an error to ignore
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    _check(_libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MAX_FILE_BYTES, _MAX_FILE_BYTES))


def _execute(order: dict[str, Any], failures: int) -> NoReturn:
    arguments: list[str] = order["arguments"]
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and what it starts would too
        signal.signal(number, signal.SIG_DFL)
    try:
        if order["probe"]:
            _unshare(_NEWUSER | _NEWNS)  # with the rights in it that the archives use
            os._exit(0)
        os.execve(arguments[0], arguments, order["environment"])  # noqa: S606 - this is what it is for
    except OSError as error:
        _tell(failures, "exec", error)


def _tell(failures: int, stage: str, error: OSError) -> NoReturn:
    what = f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
    os.write(failures, json.dumps({"stage": stage, "errno": error.errno, "message": what}).encode())
    os._exit(1)


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    encoded = [None if word is None else os.fsencode(word) for word in (source, target, kind, data)]
    _check(_libc.mount(*encoded[:3], ctypes.c_ulong(flags), encoded[3]), f"mounting {target}")


def _unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "making namespaces")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


if __name__ == "__main__":
    main()
