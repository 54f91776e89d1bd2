"""What a user said of how to build."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_NIX_BUNDLER = "github:NixOS/bundlers"


@dataclass(frozen=True, slots=True)
class Wishes:
    """None and empty where nothing was said."""

    command: str | None = None
    executable: str | None = None
    """Which one, where there are several."""
    nix_bundler: str | None = None
    """A flake with a bundler; said, it is used in any case."""
    nix_attribute: str | None = None
    nix_options: tuple[tuple[str, str], ...] = ()
    """Names and values, for every Nix command."""
    python: str | None = None
    """A version or a path, as uv takes it."""
    pyinstaller_arguments: tuple[str, ...] = ()
