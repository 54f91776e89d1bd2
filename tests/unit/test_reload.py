"""Which settings changed, and what becomes of them: no daemon, no file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from reloading import PARTS
from waystation.config import Settings
from waystation.errors import ConfigError, NoCredentials
from waystation.reload import NOT_THE_DAEMONS, Reload, changed_keys, with_keys_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from waystation.telemetry.metrics import Metrics


def settings(**sections: Any) -> Settings:
    return Settings.model_validate({"origin": {"url": "file:///o"}, **sections})


class Part:
    """Takes up one key, and remembers what it was given."""

    reloads: ClassVar[frozenset[str]] = frozenset({"store.max_size"})

    def __init__(self) -> None:
        self.given: list[Settings] = []

    def reload(self, settings: Settings) -> None:
        self.given.append(settings)


async def usable(_: Settings) -> None:
    """Nothing is wrong."""


async def unusable(_: Settings) -> None:
    raise NoCredentials("no keys", advice="Give some.")


def reload_of(read: Callable[[], Settings], part: Part, metrics: Metrics, check: Any = usable) -> Reload:
    return Reload(settings(), read, [part], check=check, metrics=metrics, wall=lambda: 5.0)


def told(reload: Reload) -> tuple[tuple[str, ...], tuple[str, ...], str | None]:
    assert reload.status
    return reload.status.taken_up, reload.status.needs_restart, reload.status.refused_because


def test_keys_are_named_as_in_the_file() -> None:
    after = settings(store={"max_size": 5}, prefetch=[{"match": "*"}], log={"level": "error"})
    assert changed_keys(settings(), after) == {"store.max_size", "prefetch", "log.level"}
    assert changed_keys(after, after) == set()


def test_only_what_was_asked_for_is_taken_over() -> None:
    before = settings()
    after = settings(store={"max_size": 5, "min_free": 6}, prefetch=[{"match": "*"}])
    mixed = with_keys_of(before, after, frozenset({"store.min_free", "prefetch"}))
    assert changed_keys(before, mixed) == {"store.min_free", "prefetch"}
    assert (mixed.store.min_free, mixed.prefetch) == (6, after.prefetch)


async def test_a_part_gets_new_values_of_what_some_part_takes_up_and_old_ones_of_all_else(metrics: Metrics) -> None:
    part = Part()
    reload = reload_of(lambda: settings(store={"max_size": 5, "pass_through_memory": 6}), part, metrics)
    await reload.reload()
    assert part.given == [settings(store={"max_size": 5})]
    assert told(reload) == (("store.max_size",), ("store.pass_through_memory",), None)
    await reload.reload()
    assert told(reload) == ((), ("store.pass_through_memory",), None)


@pytest.mark.parametrize("fault", ["file", "check"])
async def test_what_can_t_be_used_reaches_no_part(fault: str, metrics: Metrics) -> None:
    part = Part()

    def read() -> Settings:
        if fault == "file":
            raise ConfigError("bad file", advice="Mend it.")
        return settings(store={"max_size": 5})

    reload = reload_of(read, part, metrics, check=unusable)
    await reload.reload()
    assert part.given == []
    assert told(reload)[2] in ("bad file Mend it.", "no keys Give some.")


async def test_what_only_other_verbs_read_needs_no_restart(metrics: Metrics) -> None:
    reload = reload_of(lambda: settings(origin={"url": "file:///o", "writes": "single"}), Part(), metrics)
    await reload.reload()
    assert told(reload) == ((), (), None)


def test_every_key_that_a_part_takes_up_exists() -> None:
    sections = Settings.model_fields
    known = {
        f"{section}.{key}"
        for section in sections
        for key in getattr(type(getattr(settings(), section)), "model_fields", ())
    } | {"prefetch"}
    for part in PARTS:
        assert part.reloads <= known, part
    assert known >= NOT_THE_DAEMONS
