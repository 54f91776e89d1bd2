"""Lets a thread read from the disk only while nobody else does (ioprio_set(2), the idle class)."""

from __future__ import annotations

import ctypes
import os
import platform

import structlog

_IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "riscv64": 30}
_THIS_THREAD = (1, 0)  # IOPRIO_WHO_PROCESS; 0: the caller
_IDLE_CLASS = 3 << 13

log = structlog.get_logger()


def yield_the_disk() -> None:
    """Put the calling thread into the idle class; where that can't be done, it goes on as any other."""
    number = _IOPRIO_SET.get(platform.machine())
    if number is None:
        return
    if ctypes.CDLL(None, use_errno=True).syscall(number, *_THIS_THREAD, _IDLE_CLASS):
        log.info("idle_io_priority_refused", error=os.strerror(ctypes.get_errno()))
