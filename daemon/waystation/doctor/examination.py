"""The examination: every check once, those that need the origin only where it can be asked."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, TypeVar

from waystation.admin.client import AdminClient
from waystation.config import load_settings
from waystation.doctor.certificate import MirrorCertificate
from waystation.doctor.checksums import Checksums
from waystation.doctor.clock import Clock
from waystation.doctor.configuration import Configuration
from waystation.doctor.daemon import Daemon, DaemonHere
from waystation.doctor.disk import DiskSpace
from waystation.doctor.finding import Finding, Level, failure_of, worst
from waystation.doctor.listing import Listing
from waystation.doctor.needs import Needs
from waystation.doctor.ports import Ports
from waystation.doctor.reading import Reading
from waystation.doctor.store import StoreFolder
from waystation.doctor.takeover import Takeover
from waystation.doctor.versions import Versions
from waystation.doctor.writes import Writes
from waystation.errors import ConfigError, DaemonError, ReadOnlyOrigin
from waystation.origin.opening import open_origin
from waystation.publish import open_writer
from waystation.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from waystation.config import Settings
    from waystation.doctor.finding import Check
    from waystation.model import TargetPath

PATIENCE_S = 120.0
"""So long one check may take."""

_Seen = TypeVar("_Seen")


async def examine_configuration(
    path: Path | None,
    flags: Sequence[str] = (),
    *,
    environment: Mapping[str, str] | None = None,
    wall: Callable[[], float] = time.time,
) -> tuple[Settings | None, list[Finding]]:
    """Read the settings as the daemon would; None where it could not."""
    environment = os.environ if environment is None else environment
    settings: Settings | ConfigError
    try:
        settings = load_settings(path, environment=environment, flags=flags)
    except ConfigError as error:
        settings = error
    findings = await _findings(Configuration(settings, path=path, environment=environment))
    if isinstance(settings, ConfigError):
        return None, findings
    return settings, findings + await _findings(MirrorCertificate(settings, wall=wall))


async def examine_machine(settings: Settings, *, publish: bool, wall: Callable[[], float] = time.time) -> list[Finding]:
    """Make every check; `publish`: also write to the origin, one scratch key, as a publisher would."""
    here = await _daemon_here(settings)
    parts = await asyncio.gather(
        _findings(Versions(here)),
        _findings(Clock(settings.origin, wall=wall)),
        _findings(DiskSpace(settings.store)),
        _findings(StoreFolder(settings.store.path, here)),
        _findings(Daemon(here)),
        _findings(Ports(settings.mirror.listen, here)),
        _findings(Takeover(settings, here)),
        _examine_origin(settings, publish=publish),
    )
    return [finding for part in parts for finding in part]


async def examine_needs(settings: Settings, target: TargetPath) -> list[Finding]:
    """Check whether this machine has what one target needs to run."""
    origin = open_origin(settings, Metrics())
    try:
        return await _findings(Needs(origin, target))
    finally:
        await origin.close()


async def _examine_origin(settings: Settings, *, publish: bool) -> list[Finding]:
    """Ask the origin one thing after the other: a step that fails spares the machine's owner the ones behind it."""
    origin = open_origin(settings, Metrics())
    try:
        listing = Listing(origin, url=settings.origin.url, wanted_by=settings.unlistable())
        findings = await _findings(listing)
        if worst(findings) is Level.FAILURE:
            return findings
        if listing.is_listable:
            findings += await _findings(Reading(origin))
        if settings.origin.http_base is not None:
            # What a hub lists it vouches for, or will not serve; counting would make it ask for each.
            return findings + ([failure_of(Writes.name, _read_only(settings))] if publish else [])
        findings += await _findings(Checksums(origin, settings.catalog.missing_checksum))
        if publish:
            findings += await _findings(Writes(settings.origin, origin, open_writer))
        return findings
    finally:
        await origin.close()


def _read_only(settings: Settings) -> ReadOnlyOrigin:
    return ReadOnlyOrigin(f"{settings.origin.url} can only be read")


async def _findings(check: Check[_Seen]) -> list[Finding]:
    try:
        async with asyncio.timeout(PATIENCE_S):
            seen = await check.look()
    except TimeoutError:
        return [Finding(check.name, Level.FAILURE, f"not done within {PATIENCE_S:g} s", "Run the command again.")]
    return list(check.judge(seen))


async def _daemon_here(settings: Settings) -> DaemonHere:
    try:
        return DaemonHere.of(await AdminClient(settings.admin.socket).status())
    except DaemonError as error:
        return DaemonHere(trouble=error)
