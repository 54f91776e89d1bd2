"""The shipped units as systemd runs them, on a machine of the tests' own: `tests/netns` has the cases."""

from __future__ import annotations

import pytest

from netns.namespaces import run_cases


@pytest.mark.timeout(300)
def test_jobs_get_the_right_file_while_the_daemon_stops_dies_hangs_or_can_t_start() -> None:
    run_cases("failing_open.py", programs=("systemd-analyze", "systemd-sysusers", "systemd-tmpfiles", "curl"))
