"""What ``[[prefetch]]`` may say, and in which words it is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from waystation.config import PrefetchSettings, load_settings
from waystation.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def test_there_may_be_several(tmp_path: Path) -> None:
    file = tmp_path / "waystation.toml"
    file.write_text('[[prefetch]]\nmatch = "app/*"\nnewest = 2\n[[prefetch]]\nmatch = "web/*"\n')
    assert load_settings(file, environment={}).prefetch == (
        PrefetchSettings(match="app/*", newest=2),
        PrefetchSettings(match="web/*", newest=1),
    )


def test_a_variable_or_a_flag_says_all_of_them_at_once(tmp_path: Path) -> None:
    file = tmp_path / "waystation.toml"
    file.write_text('[[prefetch]]\nmatch = "app/*"\n')
    variables = {"WAYSTATION_PREFETCH": '[{match = "web/*", newest = 3}]'}
    assert load_settings(file, environment=variables).prefetch == (PrefetchSettings(match="web/*", newest=3),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[prefetch]\nmatch = "app/*"', "prefetch: expected tables in double brackets, [[prefetch]]"),
        ("[[prefetch]]\nnewest = 2", "prefetch[1].match is not there, and it has no default"),
        (
            '[[prefetch]]\nmatch = "a/*"\n[[prefetch]]\nmatch = ""',
            "prefetch[2].match: expected a pattern of target names",
        ),
        ('[[prefetch]]\nmatch = "/app/*"', "prefetch[1].match: expected a pattern of target names"),
        ('[[prefetch]]\nmatch = "app/*.sha256"', "prefetch[1].match: a target never ends so"),
        ('[[prefetch]]\nmatch = "app/*"\nnewest = 0', "prefetch[1].newest: expected 1 or more, not 0"),
        ('[[prefetch]]\nmatch = "app/*"\nlatest = 2', "unknown key 'prefetch[1].latest'"),
    ],
)
def test_what_can_not_be_meant_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "waystation.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_settings(file, environment={})
    assert str(raised.value).startswith(f"{file}: {message}")


def test_a_wrong_variable_is_blamed_and_not_the_file(tmp_path: Path) -> None:
    file = tmp_path / "waystation.toml"
    file.write_text('[[prefetch]]\nmatch = "app/*"\n')
    with pytest.raises(ConfigError, match=r"^WAYSTATION_PREFETCH: prefetch\[1\]\.newest: .*, not 0$"):
        load_settings(file, environment={"WAYSTATION_PREFETCH": '[{match = "web/*", newest = 0}]'})
