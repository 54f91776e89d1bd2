"""The configuration: can it be used, and can the files be read that it names."""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from waystation.config import ENV_CONFIG, ENV_PREFIX, default_config_path, is_out_of_sight
from waystation.doctor.finding import Finding, Level, failure_of
from waystation.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from waystation.config import Settings


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that a setting names."""

    key: str
    path: Path
    trouble: str | None
    """Why it can't be read."""
    mode: int = 0
    is_out_of_sight: bool = False
    """Whether it is passed to the daemon and to nobody else."""


@dataclass(frozen=True, slots=True)
class ConfigurationSeen:
    """Where the settings came from, and what they lead to."""

    file: Path | None
    """None: there is none, the defaults hold."""
    variables: int
    named: tuple[NamedFile, ...]


class Configuration:
    """Settings, or why there are none."""

    name = "configuration"

    def __init__(self, settings: Settings | ConfigError, *, path: Path | None, environment: Mapping[str, str]) -> None:
        self._settings = settings
        self._file = path or Path(environment.get(ENV_CONFIG) or default_config_path())
        self._variables = sum(name.startswith(ENV_PREFIX) and name != ENV_CONFIG for name in environment)

    async def look(self) -> ConfigurationSeen:
        return await asyncio.to_thread(self._look)

    def judge(self, seen: ConfigurationSeen) -> Iterator[Finding]:
        if isinstance(self._settings, ConfigError):
            yield failure_of(self.name, self._settings)
            return
        source = f"{seen.file} can be used" if seen.file else f"there is no {self._file}, the defaults hold"
        variables = f", with {seen.variables} from the environment" if seen.variables else ""
        yield Finding(self.name, Level.OK, source + variables)
        for named in seen.named:
            if named.is_out_of_sight:
                yield Finding(
                    self.name, Level.OK, f"[origin] {named.key} is the daemon's alone: not looked at from here"
                )
            elif named.trouble:
                says = f"[origin] {named.key} {named.path} can't be read: {named.trouble}"
                yield Finding(
                    self.name, Level.FAILURE, says, f"Correct [origin] {named.key}, or let this user read it."
                )
            elif named.key == "credentials_file" and named.mode & stat.S_IROTH:
                says = f"everyone on this machine can read [origin] credentials_file {named.path}"
                yield Finding(self.name, Level.WARNING, says, f"Run `chmod o= {named.path}`.")

    def _look(self) -> ConfigurationSeen:
        file = self._file if self._file.exists() else None
        if isinstance(self._settings, ConfigError):
            return ConfigurationSeen(file, self._variables, ())
        origin = self._settings.origin
        named = []
        if origin.credentials_path and is_out_of_sight(origin.credentials_file):
            named.append(NamedFile("credentials_file", origin.credentials_path, None, is_out_of_sight=True))
        elif origin.credentials_path:
            named.append(_try("credentials_file", origin.credentials_path))
        if origin.ca_bundle:
            named.append(_try("ca_bundle", origin.ca_bundle))
        return ConfigurationSeen(file, self._variables, tuple(named))


def _try(key: str, path: Path) -> NamedFile:
    try:
        with path.open("rb") as file:
            return NamedFile(key, path, None, os.fstat(file.fileno()).st_mode)
    except OSError as error:
        return NamedFile(key, path, error.strerror)
