"""One run for a try: bounded in time and in what it may write, and what came of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import IO, TYPE_CHECKING

from waystation_builder.errors import NoConfinement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from waystation_builder.smoke.profile import Profile

MAX_OUTPUT_BYTES = 1024 * 1024
_LAST_LINES = 20
_PORTION_BYTES = 64 * 1024
_CONFINEMENT = Path(__file__).with_name("confinement.py")
_SIGNALLED = 128
_PROBE_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of a run."""

    trouble: str | None
    """In words; None: it ended by itself, with status 0."""
    output: bytes
    """What it wrote, both ways, up to the bound."""
    is_final: bool = False
    """Run with more rights, it would end no better: it was slow, or wrote too much."""

    @property
    def last_lines(self) -> tuple[str, ...]:
        return tuple(self.output.decode(errors="replace").splitlines()[-_LAST_LINES:])


def try_out(
    file: Path, arguments: Sequence[str], profile: Profile, *, timeout_s: float, user_namespaces: bool
) -> Trial:
    """Run an executable as nobody in a profile's root, with no variable of ours.

    `user_namespaces`: whether it may make some, where the machine allows it.

    Raises:
        NoConfinement: this machine does not let us make such a root.
    """
    return _run(file, arguments, profile, timeout_s=timeout_s, user_namespaces=user_namespaces, probe=False)


def user_namespaces_allowed(profile: Profile) -> bool:
    """Look whether nobody may make user namespaces in a profile's root.

    Raises:
        NoConfinement: this machine does not let us make such a root.
    """
    interpreter = Path(sys.executable)
    trial = _run(interpreter, (), profile, timeout_s=_PROBE_TIMEOUT_S, user_namespaces=True, probe=True)
    return trial.trouble is None


def _run(
    file: Path,
    arguments: Sequence[str],
    profile: Profile,
    *,
    timeout_s: float,
    user_namespaces: bool,
    probe: bool,
) -> Trial:
    told, failures = os.pipe()
    with tempfile.TemporaryDirectory(prefix="waystation-builder-root-") as root, os.fdopen(told, "rb") as told_file:
        inside = f"/local/{file.name}"
        order = {
            "file": str(file.resolve()),
            "root": root,
            "folders": profile.folders,
            "arguments": [inside, *arguments],
            "environment": _environment(profile),
            "user_namespaces": user_namespaces,
            "probe": probe,
            "failures": failures,
        }
        try:
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-I", "-S", _CONFINEMENT, json.dumps(order)],
                env={},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[failures],
                start_new_session=True,
            )
        finally:
            os.close(failures)
        with process:
            try:
                output, trouble = _listen(process, time.monotonic() + timeout_s, timeout_s)
            finally:
                _end(process)
        failure = told_file.read()
    if failure:
        what = json.loads(failure)
        if what["stage"] == "confinement":
            raise NoConfinement(f"no root for the smoke run can be made here ({what['message']})")
        return Trial(f"could not be started: {what['message']}", output)
    if trouble is not None:
        return Trial(trouble, output, is_final=True)
    return Trial(_words(process.returncode) if process.returncode else None, output)


def _listen(process: subprocess.Popen[bytes], deadline: float, timeout_s: float) -> tuple[bytes, str | None]:
    """Take what the process writes until it ends, or goes beyond a bound."""
    assert process.stdout  # noqa: S101 - it is a pipe
    output = bytearray()
    with DefaultSelector() as selector:
        selector.register(process.stdout, EVENT_READ)
        while (left_s := deadline - time.monotonic()) > 0:
            if not selector.select(left_s):
                continue
            portion = _portion(process.stdout)
            if not portion:
                break
            output += portion
            if len(output) > MAX_OUTPUT_BYTES:
                return bytes(output[:MAX_OUTPUT_BYTES]), f"wrote more than {MAX_OUTPUT_BYTES} bytes"
    try:
        process.wait(max(deadline - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        return bytes(output), f"did not end within {timeout_s:g} s"
    return bytes(output), None


def _portion(stdout: IO[bytes]) -> bytes:
    return os.read(stdout.fileno(), _PORTION_BYTES)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it where it still runs; all that is in its process namespace ends with it."""
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _environment(profile: Profile) -> dict[str, str]:
    """Write the few variables that a task has anyway."""
    return {
        "PATH": ":".join(profile.search_path) or "/bin",
        "HOME": "/local",
        "LANG": "C.UTF-8",
        "NOMAD_ALLOC_DIR": "/alloc",
        "NOMAD_SECRETS_DIR": "/secrets",
        "NOMAD_TASK_DIR": "/local",
        "TMPDIR": "/tmp",  # noqa: S108 - in its own root
    }


def _words(status: int) -> str:
    if status > _SIGNALLED and status - _SIGNALLED in set(signal.Signals):
        return f"was ended by {signal.Signals(status - _SIGNALLED).name}"
    return f"ended with status {status}"
