"""Where things lie by default: for root the system's folders, for others the XDG ones."""

from __future__ import annotations

import os
from pathlib import Path

SYSTEM_CONFIG = Path("/etc/waystation/waystation.toml")
ENV_CONFIG = "WAYSTATION_CONFIG"
PASSED = "%d"
"""In front of a file's name, as in a unit: the folder of the credentials that systemd passes to the daemon."""
PASSED_TO_THE_UNIT = Path("/run/credentials/waystation.service")
"""That folder for everyone else: root's verbs read what the daemon has (systemd.exec(5), "Credentials")."""


def _as_user() -> bool:
    return os.geteuid() != 0


def _xdg(variable: str, fallback: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / fallback)


def default_origin_url() -> str:
    """Where artifacts come from."""
    if _as_user():
        return (_xdg("XDG_DATA_HOME", ".local/share") / "waystation/artifacts").as_uri()
    return "file:///srv/artifacts"


def _of_systemd(variable: str) -> Path | None:
    """Give the folder that systemd made for the unit (StateDirectory=, RuntimeDirectory=), the first of them."""
    folder = os.environ.get(variable, "").partition(":")[0]
    return Path(folder) if folder else None


def default_store_path() -> Path:
    """Where the store is."""
    if made := _of_systemd("STATE_DIRECTORY"):
        return made
    return _xdg("XDG_CACHE_HOME", ".cache") / "waystation" if _as_user() else Path("/var/lib/waystation")


def default_socket() -> Path:
    """Where the admin socket is."""
    if made := _of_systemd("RUNTIME_DIRECTORY"):
        return made / "admin.sock"
    if _as_user():
        return _xdg("XDG_RUNTIME_DIR", ".cache") / "waystation/admin.sock"
    return Path("/run/waystation/admin.sock")


def default_config_path() -> Path:
    """Where the configuration is looked for when no ``--config`` names it."""
    if named := os.environ.get(ENV_CONFIG):
        return Path(named)
    return _xdg("XDG_CONFIG_HOME", ".config") / "waystation/waystation.toml" if _as_user() else SYSTEM_CONFIG


def is_out_of_sight(file: Path | None) -> bool:
    """Whether systemd passes this file to the daemon and not to us.

    Before version 254 not even the unit's ExecStartPost= and ExecReload= see what its ExecStart= does.
    """
    passed = passed_file(file)
    return file != passed and passed is not None and not os.access(passed.parent, os.X_OK)


def passed_file(file: Path | None) -> Path | None:
    """Find ``%d/…`` in the folder that systemd passes; any other file is where it says."""
    if file and file.parts[0] == PASSED:
        return Path(os.environ.get("CREDENTIALS_DIRECTORY") or PASSED_TO_THE_UNIT, *file.parts[1:])
    return file
