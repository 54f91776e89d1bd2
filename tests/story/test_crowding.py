"""One machine that connects too often: `tests/netns/peers_of_a_hub.py` has the case."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).parents[1] / "netns" / "peers_of_a_hub.py"


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root")
def test_one_machine_holds_no_more_connections_than_it_may() -> None:
    run = f"ip link set lo up && exec '{sys.executable}' -m pytest -q -p no:cacheprovider '{CASES}'"
    inside = subprocess.run(["unshare", "--net", "sh", "-c", run], capture_output=True, text=True, check=False)
    assert inside.returncode == 0, inside.stdout[-8000:] + inside.stderr[-2000:]
    assert "1 passed" in inside.stdout
