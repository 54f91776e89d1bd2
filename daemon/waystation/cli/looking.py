"""The origin and its catalog as the verbs that need no daemon look at them: nothing is remembered behind the verb."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from waystation.admission import Admission
from waystation.assembly import open_catalog, open_origin
from waystation.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from waystation.catalog.interface import Catalog
    from waystation.config import Settings
    from waystation.model import Artifact
    from waystation.origin.resilient import ResilientOrigin


@dataclass(frozen=True, slots=True)
class View:
    """What a verb sees."""

    origin: ResilientOrigin
    catalog: Catalog
    admission: Admission
    metrics: Metrics


@asynccontextmanager
async def open_view(settings: Settings) -> AsyncIterator[View]:
    """Open origin and catalog for one verb.

    Raises:
        ConfigError: the settings can't be used.
    """
    metrics = Metrics()
    origin = open_origin(settings, metrics)
    try:
        catalog = open_catalog(settings, origin, metrics, remember=False)
        try:
            yield View(origin, catalog, Admission(catalog), metrics)
        finally:
            await catalog.close()
    finally:
        await origin.close()


async def look_up(settings: Settings, name: str) -> Artifact:
    """Ask the catalog once what a target must be.

    Raises:
        BadTarget, CatalogError, OriginError: it can't say.
    """
    async with open_view(settings) as view:
        return await view.admission.admit(name)
