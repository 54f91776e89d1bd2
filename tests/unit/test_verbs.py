"""What the README says of all verbs holds for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from typer.main import get_command

from waystation.cli.entry import app

if TYPE_CHECKING:
    from collections.abc import Iterator

WITHOUT_CONFIGURATION = {"demo", "takeover off", "takeover status"}


def verbs(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        if hasattr(command, "list_commands"):
            yield from verbs(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


@pytest.mark.parametrize(("name", "verb"), [pytest.param(*each, id=each[0]) for each in verbs(get_command(app))])
def test_a_verb_writes_json_and_takes_a_configuration_where_it_reads_one(name: str, verb: Any) -> None:
    options = {option for parameter in verb.params for option in parameter.opts}
    assert "--json" in options
    assert ({"--config", "--set"} <= options) == (name not in WITHOUT_CONFIGURATION)
