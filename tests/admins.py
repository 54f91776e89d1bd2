"""An admin socket over a real mirror and its parts, with every verb that the station gives it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from mirrors import running_mirror, status_of
from waystation.admin.catalog_verbs import catalog_verbs
from waystation.admin.client import AdminClient
from waystation.admin.server import AdminServer
from waystation.admin.station_verbs import station_verbs
from waystation.admin.store_verbs import StoreVerbs
from waystation.explain.explainer import Explainer, Surroundings
from waystation.mirror.replies import status_code

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mirrors import World


@asynccontextmanager
async def running_admin(
    tmp_path: Path, path: Path | None = None, **options: Any
) -> AsyncIterator[tuple[AdminClient, World]]:
    path = path or tmp_path / "run" / "admin.sock"
    async with running_mirror(tmp_path, **options) as world:
        parts = world.parts
        explainer = Explainer(
            parts.admission,
            parts.origin,
            named=world.mirror.name_in,
            meaning=status_code,
            daemon=Surroundings(parts.store, parts.transfers, world.mirror.refusals),
        )
        server = AdminServer(
            path,
            (
                *station_verbs(lambda: status_of(parts, world.mirror, ready=True), explainer),
                *catalog_verbs(parts.catalog),
                *StoreVerbs(parts.store, parts.catalog, parts.admission, pins_changed=parts.prefetch.look).verbs(),
            ),
            metrics=world.metrics,
        )
        await server.start()
        try:
            yield AdminClient(path), world
        finally:
            await server.close()
