"""From arguments to an exit status: 0 done, 1 failed, 2 wrong use or wrong configuration."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_command

from waystation.errors import BadTarget, ConfigError, WaystationError
from waystation.model import printable

PLAIN: dict[str, Any] = {"rich_markup_mode": None, "add_completion": False, "pretty_exceptions_enable": False}
"""How every `typer.Typer` here is made: help without rich, which would cost each start."""

VERBS = {
    "serve": "Run the daemon: fetch, verify, cache and mirror artifacts.",
    "publish": "Upload a bundle under a name that never changes, and print its stanza.",
    "adopt": "Add checksums and pieces to objects that others uploaded.",
    "list": "List the catalog's targets.",
    "show": "Show what the catalog says of a target.",
    "stanza": "Print the Nomad artifact block that uses a target.",
    "fetch": "Download a target and verify it, without a daemon.",
    "status": "Show what the daemon here is doing.",
    "prefetch": "Have the daemon here fetch a target before a job asks for it.",
    "explain": "Say what a client that asks for a target gets now, and why.",
    "catalog": "Change what the daemon here remembers of targets.",
    "store": "List, check, keep or drop what the daemon here has stored.",
    "log-level": "Change how much the daemon here logs, until it ends.",
    "doctor": "Check whether this machine is fit for a daemon, and say what to do.",
    "config": "Check the configuration.",
    "takeover": "Let the mirror answer at the bucket's own address, so that no job is edited.",
    "demo": "Tell the whole story in a temporary folder, without a server.",
}
_DONE, _FAILED, _WRONG_USE, _INTERRUPTED = 0, 1, 2, 130


class Verbs(TyperGroup):
    """Knows every verb's name and purpose, and loads a verb's file only when it is called."""

    def list_commands(self, _ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, _ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in VERBS:
            return None
        command = get_command(import_module(f"waystation.cli.{cmd_name.replace('-', '_')}").app)
        command.help = command.help or VERBS[cmd_name]
        return command

    def format_commands(self, _ctx: Any, formatter: Any) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


app = typer.Typer(cls=Verbs, **PLAIN)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it with the option's value
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - costs each start, and only this asks

        print(f"waystation {version('waystation')}")
        raise typer.Exit


@app.callback(help="A verifying artifact cache and local mirror for Nomad clients.")
def _every_verb(
    *,
    _version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """What may stand before the verb."""


def main() -> NoReturn:
    """Run the command line of this process."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit status; errors are told on standard error."""
    as_json = "--json" in arguments
    try:
        outcome = get_command(app).main(args=arguments or ["--help"], prog_name="waystation", standalone_mode=False)
        sys.stdout.flush()
    except WaystationError as error:
        status = _fail(error, as_json=as_json)
    except ExceptionGroup as group:  # of tasks that ran together: the first that failed tells why
        known, unknown = group.split((WaystationError, BrokenPipeError))
        if unknown or not known:
            raise
        first = _first(known)
        status = _fail(first, as_json=as_json) if isinstance(first, WaystationError) else _hang_up()
    except typer.TyperException as error:
        path = getattr(getattr(error, "ctx", None), "command_path", "waystation")
        message = error.format_message().replace(": Value error, ", ": ")  # what a validator says, as it says it
        _tell("usage", message, f"See `{path} --help`.", transient=False, as_json=as_json)
        status = _WRONG_USE
    except KeyboardInterrupt:
        status = _INTERRUPTED
    except BrokenPipeError:
        status = _hang_up()
    else:
        status = outcome if isinstance(outcome, int) else _DONE
    return status if arguments else _WRONG_USE


def _fail(error: WaystationError, *, as_json: bool) -> int:
    _tell(error.reason, str(error), error.advice, transient=error.transient, as_json=as_json)
    return _WRONG_USE if isinstance(error, ConfigError | BadTarget) else _FAILED


def _hang_up() -> int:
    """Nobody reads on: let the exit's own flush be quiet."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _FAILED


def _first(group: ExceptionGroup[Exception]) -> Exception:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error


def _tell(reason: str, message: str, advice: str, *, transient: bool, as_json: bool) -> None:
    if as_json:
        told = {"reason": reason, "message": message, "advice": advice, "transient": transient}
        print(json.dumps({"error": told}), file=sys.stderr)
    else:
        sentences = [f"{message.rstrip('.')}.", advice] if advice else [message]
        print("waystation:", printable(" ".join(" ".join(sentences).split())), file=sys.stderr)
