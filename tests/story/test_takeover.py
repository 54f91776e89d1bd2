"""The takeover, in network namespaces of its own: the files of `tests/netns` have the cases, this starts them there."""

from __future__ import annotations

import pytest

from netns.namespaces import run_cases


@pytest.mark.timeout(300)
@pytest.mark.parametrize("cases", ["takeover.py", "own_name.py"])
def test_the_bucket_s_own_address_is_answered_by_the_mirror_while_it_lives_and_by_the_bucket_when_not(
    cases: str,
) -> None:
    run_cases(cases)
