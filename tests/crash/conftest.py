"""What crash tests may ask for: a folder in memory, since they write and remove thousands of small files."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_MEMORY = "/dev/shm"  # noqa: S108 - Linux's own tmpfs, where it may be used


@pytest.fixture
def memory_folder(tmp_path: Path) -> Iterator[Path]:
    if not os.access(_MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="waystation-crash-", dir=_MEMORY) as folder:
        yield Path(folder)
