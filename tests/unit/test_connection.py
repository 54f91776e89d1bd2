"""A connection's limits before it has begun."""

from __future__ import annotations

from unittest.mock import Mock

from waystation.config import MirrorSettings
from waystation.mirror.connection import Connection, Limits


def test_no_limit_runs_before_the_connection_has_begun() -> None:
    began, ended = Mock(), Mock()
    limits = Limits.of(MirrorSettings(listen=("http://127.0.0.1:0",)))
    connection = Connection(Mock(), limits, loop=Mock(), began=began, ended=ended, unused=Mock())
    connection.check(1e12)
    assert not connection.closing
    began.assert_not_called()
    ended.assert_not_called()
