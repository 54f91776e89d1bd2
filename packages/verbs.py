"""The command line as data, read from the program itself: for the manual page and the completions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import typer
from typer.main import get_command

from waystation.cli.entry import VERBS, app


@dataclass(frozen=True, slots=True)
class Parameter:
    """An option (its spellings begin with ``-``) or an argument, and what `--help` says of it."""

    spellings: tuple[str, ...]
    shown: str
    help: str
    takes_value: bool

    @property
    def is_option(self) -> bool:
        return self.spellings[0].startswith("-")


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb; ``path`` is what is typed behind the program's name, the program itself has an empty one."""

    path: tuple[str, ...]
    usage: str
    help: str
    parameters: tuple[Parameter, ...]
    verbs: tuple[Verb, ...]

    @property
    def summary(self) -> str:
        return self.help.partition("\n")[0]

    def all(self) -> tuple[Verb, ...]:
        """This one and all below it, in the order of `--help`."""
        return (self, *(each for verb in self.verbs for each in verb.all()))


def program() -> Verb:
    """The whole command line."""
    command: Any = get_command(app)
    below = [(name, command.get_command(None, name)) for name in VERBS]
    return _read(command, (), below)


def _read(command: Any, path: tuple[str, ...], below: list[tuple[str, Any]]) -> Verb:
    context = typer.Context(command, info_name=" ".join(("waystation", *path)))
    parameters = [_parameter(each, context) for each in command.get_params(context) if not each.hidden]
    return Verb(
        path,
        " ".join(piece for piece in command.collect_usage_pieces(context) if piece != "[OPTIONS]"),
        "\n\n".join(" ".join(part.split()) for part in (command.help or "").split("\n\n")),
        tuple(parameters),
        tuple(_read(each, (*path, name), list(getattr(each, "commands", {}).items())) for name, each in below),
    )


def _parameter(parameter: Any, context: typer.Context) -> Parameter:
    shown, said = parameter.get_help_record(context)
    return Parameter(
        (*parameter.opts, *parameter.secondary_opts), shown, said, not getattr(parameter, "is_flag", False)
    )
