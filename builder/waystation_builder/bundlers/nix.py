"""The bundler for Nix projects: a flake or a ``default.nix`` is built, and its closure bundled into one file."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, ClassVar

from waystation_builder.bundlers.wishes import DEFAULT_NIX_BUNDLER
from waystation_builder.elf import MAGIC, read_elf
from waystation_builder.errors import BuildFailed, NothingToBuild, NotOneExecutable, NotReproducible
from waystation_builder.identity import Identity, derivation_identity
from waystation_builder.product import find_product

if TYPE_CHECKING:
    from pathlib import Path

    from waystation_builder.bundlers.wishes import Wishes
    from waystation_builder.workshop import Workshop

_FLAKE, _FILE = "flake.nix", "default.nix"
_DIFFERS = "may not be deterministic"
_NIX = ("nix", "--extra-experimental-features", "nix-command flakes")


class Nix:
    """Asks Nix; an executable that needs nothing else of the store is not bundled, unless a bundler is named."""

    name: ClassVar[str] = "nix"
    tool: ClassVar[str | None] = "nix"

    def __init__(self, wishes: Wishes) -> None:
        self._attribute = wishes.nix_attribute
        self._bundler = wishes.nix_bundler
        self._executable = wishes.executable
        self._options = [word for name, value in wishes.nix_options for word in ("--option", name, value)]

    def claim(self, folder: Path) -> str | None:
        return next((f"there is a {file}" for file in (_FLAKE, _FILE) if (folder / file).is_file()), None)

    def identify(self, workshop: Workshop) -> Identity:
        what = self._installable(workshop.folder)
        named = workshop.ask([*_NIX, "eval", *self._options, "--raw", *what, "--apply", "it: it.name"])
        return derivation_identity(named)

    def build(self, workshop: Workshop, name: str, version: str) -> None:  # noqa: ARG002 - a derivation has its own
        product = workshop.out / name
        built = workshop.scratch / "built"
        if (workshop.folder / _FLAKE).is_file():
            build = [*_NIX, "build", "--print-build-logs", *self._installable(workshop.folder)]
        else:
            build = ["nix-build", "--expr", self._expression(workshop.folder)]
        workshop.run([*build, *self._options, "--out-link", str(built)])
        self._prove(workshop, built)
        if self._bundler is None and (whole := self._whole(workshop, built)) is not None:
            shutil.copy(whole, product)
            return
        bundle = workshop.scratch / "bundle"
        bundler = ["--bundler", self._bundler or DEFAULT_NIX_BUNDLER]
        workshop.run(
            [*_NIX, "bundle", *self._options, *bundler, "--out-link", str(bundle), *self._installable(workshop.folder)]
        )
        self._prove(workshop, bundle)
        product.symlink_to(self._program(bundle) if (bundle / "bin").is_dir() else bundle.resolve())

    def _prove(self, workshop: Workshop, built: Path) -> None:
        """Where this build is made to compare: have Nix build again what it has, for by itself it would not."""
        if not workshop.is_second:
            return
        deriver = workshop.ask(["nix-store", *self._options, "--query", "--deriver", str(built.resolve())])
        try:
            workshop.run(["nix-store", *self._options, "--realise", "--check", deriver])
        except BuildFailed as failed:
            if not any(_DIFFERS in line for line in failed.last_lines):
                raise
            raise NotReproducible(f"built again by Nix, {deriver} differs") from failed

    def _installable(self, folder: Path) -> list[str]:
        """Name what is built, as Nix's commands take it."""
        if (folder / _FLAKE).is_file():
            return [f"path:{folder}{f'#{self._attribute}' if self._attribute else ''}"]
        return ["--impure", "--expr", self._expression(folder)]

    def _expression(self, folder: Path) -> str:
        """Write what the file gives, called with no arguments where it is a function, as nix-build does.

        Raises:
            NothingToBuild: there is no such file.
        """
        if not (folder / _FILE).is_file():
            raise NothingToBuild(f"the folder has neither a {_FLAKE} nor a {_FILE}, which the nix bundler builds")
        quoted = str(folder / _FILE).replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${")
        called = f'(let it = import (/. + "{quoted}"); in if builtins.isFunction it then it {{ }} else it)'
        return f"{called}.{self._attribute}" if self._attribute else called

    def _whole(self, workshop: Workshop, built: Path) -> Path | None:
        """Find the executable that runs without the store: a static one, or one that refers to nothing in it."""
        try:
            program = self._program(built)
        except NotOneExecutable:
            return None
        with program.open("rb") as opened:
            if opened.read(len(MAGIC)) == MAGIC and read_elf(program).interpreter is None:
                return program
        references = workshop.ask(["nix-store", *self._options, "--query", "--references", str(built.resolve())])
        return None if references else program

    def _program(self, built: Path) -> Path:
        """Find what a store path has to run: itself, or the one executable in its folder ``bin``.

        Raises:
            NotOneExecutable: there is none, or there are several.
        """
        return built.resolve() if built.is_file() else find_product(built / "bin", wanted=self._executable)
