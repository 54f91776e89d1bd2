"""Verbs that change what the catalog remembers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from waystation.admin.verbs import Arguments, Verb
from waystation.model import parse_target

if TYPE_CHECKING:
    from waystation.catalog.interface import Catalog


def catalog_verbs(catalog: Catalog) -> tuple[Verb, ...]:
    """Give the verbs of `waystation catalog`."""

    async def forget(arguments: Arguments) -> dict[str, bool]:
        return {"forgotten": await catalog.forget(parse_target(arguments.text("target")))}

    return (Verb("/catalog/forget", forget),)
