"""The bundlers: each knows one way from a project to an executable; `choose` picks among them and says why."""

from waystation_builder.bundlers.choice import Wishes, choose, named
from waystation_builder.bundlers.interface import Bundler

__all__ = ["Bundler", "Wishes", "choose", "named"]
