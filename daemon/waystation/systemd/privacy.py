"""What others of this machine may see of a process that holds keys: nothing of its memory or environment."""

from __future__ import annotations

import ctypes
import resource

_PR_SET_DUMPABLE = 4  # prctl(2)


def keep_memory_private() -> None:
    """Let no core dump be made of this process, and let nobody but root look into it.

    The unit's LimitCORE= alone would not do: where /proc/sys/kernel/core_pattern names a program, the kernel hands it
    the core whatever the limit says (core(5)).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
