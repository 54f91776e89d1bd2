"""The documentation says what the code does: every key of the configuration, and the examples."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from pydantic import BaseModel

from reloading import PARTS
from waystation.config import PrefetchSettings, Settings, load_settings, places
from waystation.errors import ChangesMissed, NotListable, NotWatchable, StoreFormat, StoreLocked, WaystationError
from waystation.mirror.replies import FAULT, MEANINGS

ROOT = Path(__file__).parents[2]
_ROW = re.compile(r"\| `(?P<key>\w+)` \| (?P<type>[^|]+) \| (?P<default>[^|]+) \| (?P<meaning>.+) \|")


def documented() -> dict[str, dict[str, re.Match[str]]]:
    sections: dict[str, dict[str, re.Match[str]]] = {}
    section: dict[str, re.Match[str]] = {}
    for line in (ROOT / "docs/configuration.md").read_text().splitlines():
        if heading := re.fullmatch(r"## \[{1,2}(\w+)\]{1,2}", line):
            section = sections.setdefault(heading[1], {})
        elif row := _ROW.fullmatch(line):
            section[row["key"]] = row
    return sections


def section_of(name: str) -> BaseModel:
    """The section with its defaults; of one that may be there several times, one of them."""
    section = getattr(Settings(prefetch=(PrefetchSettings(match="*"),)), name)
    found = section[0] if isinstance(section, tuple) else section
    assert isinstance(found, BaseModel)
    return found


def as_set() -> dict[str, list[str]]:
    return {name: list(type(section_of(name)).model_fields) for name in Settings.model_fields}


def documented_reloads() -> set[str]:
    """The keys of the table of what takes effect while the daemon runs."""
    page = (ROOT / "docs/configuration.md").read_text().partition("## Reloading")[2]
    found: set[str] = set()
    for section, keys in re.findall(r"^\| `\[{1,2}(\w+)\]{1,2}` \| (.+) \|$", page, re.MULTILINE):
        found |= {section} if keys == "all" else {f"{section}.{key}" for key in re.findall(r"`(\w+)`", keys)}
    return found


def test_what_a_reload_takes_up_is_documented_and_nothing_else_is() -> None:
    assert documented_reloads() == frozenset[str]().union(*(part.reloads for part in PARTS))


KEYS = [(section, key) for section, keys in as_set().items() for key in keys]


def test_every_key_is_documented_in_the_order_of_the_model_and_no_other_key_is() -> None:
    assert {name: list(rows) for name, rows in documented().items()} == as_set()


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_the_documented_default_is_the_real_one(section: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_as_user", lambda: False)
    text = documented()[section][key]["default"]
    real = getattr(section_of(section), key)
    if text == "not set":
        assert real is None
        return
    if text == "must be set":
        assert type(section_of(section)).model_fields[key].is_required()
        return
    value = tomllib.loads(f"value = {text.strip('`')}")["value"]
    given = type(section_of(section)).model_validate({**section_of(section).model_dump(), key: value})
    assert getattr(given, key) == real


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_every_choice_and_every_limit_is_named(section: str, key: str) -> None:
    model = type(section_of(section))
    hint = get_type_hints(model)[key]
    row = documented()[section][key]
    if get_origin(hint) is Literal:
        assert row["type"] == "choice"
        assert all(f"`{choice}`" in row["meaning"] for choice in get_args(hint))
    upper = [limit.le for limit in model.model_fields[key].metadata if hasattr(limit, "le")]
    assert all(f"to {limit}" in row["meaning"] for limit in upper)


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_the_documented_type_is_the_real_one(section: str, key: str) -> None:
    words: dict[Any, str] = {str: "text", bool: "yes/no", Path: "path", int: "number", tuple[str, ...]: "list"}
    model = type(section_of(section))
    hint = model.__annotations__[key]
    named = {"Size": "size", "PositiveSize": "size", "Duration": "duration", "PositiveDuration": "duration"}
    expected = named.get(str(hint).removesuffix(" | None")) or words.get(
        _without_none(get_type_hints(model)[key]), "choice"
    )
    assert documented()[section][key]["type"] == expected


def _without_none(hint: Any) -> Any:
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    return kinds[0] if type(None) in get_args(hint) and len(kinds) == 1 else hint


def test_the_example_configuration_can_be_used_as_it_stands() -> None:
    settings = load_settings(ROOT / "examples/waystation.toml", environment={})
    assert settings.origin.url == "s3://artifacts"


def test_the_commented_keys_of_the_example_are_real_too(tmp_path: Path) -> None:
    text = (ROOT / "examples/waystation.toml").read_text()
    uncommented = re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE)
    assert uncommented != text
    file = tmp_path / "waystation.toml"
    file.write_text(uncommented)
    assert load_settings(file, environment={}).mirror.hosts == ("artifacts.internal",)


def documented_codes() -> dict[str, int]:
    rows = re.findall(
        r"^\| (\d{3})(?:, with[^|]+)? \|[^|]+\|([^|]*)\|$", (ROOT / "docs/http.md").read_text(), re.MULTILINE
    )
    return {reason: int(code) for code, reasons in rows for reason in re.findall(r"`(\w+)`", reasons)}


def answered() -> list[type[WaystationError]]:
    """The errors that a request can be answered with: not those that only start, verbs or parts of the daemon meet."""
    elsewhere = {NotListable, NotWatchable, StoreFormat, StoreLocked, ChangesMissed}
    return [
        kind
        for kind, meaning in MEANINGS.items()
        if meaning.code != FAULT.code and kind not in elsewhere and not kind.__subclasses__()
    ]


@pytest.mark.parametrize("kind", answered())
def test_every_reason_of_a_refusal_stands_beside_its_code(kind: type[WaystationError]) -> None:
    assert documented_codes().get(kind.reason) == MEANINGS[kind].code


def test_every_dependency_is_explained_and_no_other_one_is() -> None:
    daemon, builder = (tomllib.loads((ROOT / folder / "pyproject.toml").read_text()) for folder in (".", "builder"))
    needed = [
        *daemon["project"]["dependencies"],
        *(each for group in daemon["dependency-groups"].values() for each in group if isinstance(each, str)),
        *builder["project"]["dependencies"],
    ]
    rows = re.findall(r"^\| ([a-z][a-z0-9, -]*) \|", (ROOT / "docs/dependencies.md").read_text(), re.MULTILINE)
    explained = {name for row in rows for name in row.split(", ")} - {"package"}
    ours = {"waystation", "waystation-builder"}
    assert explained == {re.split(r"[^a-z0-9-]", requirement)[0] for requirement in needed} - ours


def test_every_test_that_a_page_names_is_there() -> None:
    there = {name for file in ROOT.glob("tests/**/*.py") for name in re.findall(r"def (test_\w+)", file.read_text())}
    security = set(re.findall(r"`(test_\w+)`", (ROOT / "SECURITY.md").read_text()))
    elsewhere = {name for page in ROOT.glob("docs/**/*.md") for name in re.findall(r"`(test_\w+)`", page.read_text())}
    assert len(security) > 40
    assert security | elsewhere <= there


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_the_five_lines_for_minio_are_a_configuration_in_five_lines(tmp_path: Path) -> None:
    block = re.search(r"(?:^    .*\n)+", (ROOT / "README.md").read_text().partition("## With MinIO")[2], re.MULTILINE)
    assert block
    lines = [line.strip() for line in block[0].splitlines()]
    file = tmp_path / "waystation.toml"
    file.write_text("\n".join(lines))
    assert len(lines) == 5
    assert load_settings(file, environment={}).origin.endpoint_url == "http://minio.internal:9000"
