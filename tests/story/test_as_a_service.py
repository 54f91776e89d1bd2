"""The shipped units as systemd runs them, on a machine of the tests' own: `tests/netns` has the cases."""

from __future__ import annotations

import pytest

from netns.namespaces import run_cases

SYSTEMD = ("systemd-analyze", "systemd-sysusers", "systemd-tmpfiles")


@pytest.mark.timeout(300)
def test_jobs_get_the_right_file_while_the_daemon_stops_dies_hangs_or_can_t_start() -> None:
    run_cases("failing_open.py", programs=(*SYSTEMD, "curl"))


@pytest.mark.timeout(300)
def test_everything_works_in_the_sandbox_of_the_unit() -> None:
    run_cases("sandbox.py", programs=(*SYSTEMD, "setpriv", "nsenter"))
