"""Lets a thread step back for whoever else reads from the disk (ioprio_set(2))."""

from __future__ import annotations

import ctypes
import platform

_IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "riscv64": 30}
_THIS_THREAD = (1, 0)  # IOPRIO_WHO_PROCESS; 0: the caller
_CLASS_BITS = 13
_IDLE = 3 << _CLASS_BITS
_LAST_OF_BEST_EFFORT = 2 << _CLASS_BITS | 7


def step_back(*, urgent: bool) -> None:
    """Put the calling thread behind all others: into the idle class, or last in the common one where it is urgent.

    On a disk that is never idle the idle class may wait for ever. Where this can't be done, the thread goes on as any.
    """
    number = _IOPRIO_SET.get(platform.machine())
    if number is not None:
        ctypes.CDLL(None).syscall(number, *_THIS_THREAD, _LAST_OF_BEST_EFFORT if urgent else _IDLE)
