"""A name whose second address is a hub: `tests/netns/two_addresses.py` has the case, this starts it in namespaces."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).parents[1] / "netns" / "two_addresses.py"
NAMESPACES = ["unshare", "--net", "--mount", "--propagation", "private"]


def test_jobs_fall_back_to_the_hub_where_the_daemon_on_their_machine_is_dead() -> None:
    if os.geteuid() != 0:
        pytest.skip("network and mount namespaces need root")
    if subprocess.run([*NAMESPACES, "ip", "link", "set", "lo", "up"], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces here")
    inside = subprocess.run(
        [*NAMESPACES, sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", str(CASES)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert inside.returncode == 0, inside.stdout[-8000:] + inside.stderr[-2000:]
    assert " passed" in inside.stdout
