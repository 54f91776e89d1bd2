"""The bundlers: each knows one way from a project to an executable; `choose` picks among them and says why."""

from waystation_builder.bundlers.choice import NAMES, choose, named
from waystation_builder.bundlers.interface import Bundler
from waystation_builder.bundlers.wishes import DEFAULT_NIX_BUNDLER, Wishes

__all__ = ["DEFAULT_NIX_BUNDLER", "NAMES", "Bundler", "Wishes", "choose", "named"]
