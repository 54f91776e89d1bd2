"""From arguments to an exit status: 0 done, 1 failed, 2 wrong use or wrong configuration."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from waystation.publish import BadTarget, ConfigError, WaystationError, configure_logs
from waystation_builder.cli.arguments import PROGRAM, WrongUse, parse
from waystation_builder.cli.verbs import perform
from waystation_builder.errors import BuildFailed, SmokeFailed

if TYPE_CHECKING:
    from types import FrameType

_DONE, _FAILED, _WRONG_USE, _INTERRUPTED = 0, 1, 2, 130
_PR_SET_DUMPABLE = 4


def main() -> NoReturn:
    """Run the command line of this process."""
    # What a build starts runs as the same user: it must not read the publisher's keys in our memory or environment.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit status; errors are told on standard error."""
    as_json = "--json" in arguments
    configure_logs("silent")  # what fails is told by its error
    try:
        perform(parse(arguments or ["--help"]))
        sys.stdout.flush()
    except WaystationError as error:
        _tell_error(error, as_json=as_json)
        return _WRONG_USE if isinstance(error, ConfigError | BadTarget) else _FAILED
    except WrongUse as error:
        _tell("usage", str(error), f"See `{error.program} --help`.", (), as_json=as_json)
        return _WRONG_USE
    except SystemExit as ended:  # of --help and --version
        return int(ended.code or 0) if arguments else _WRONG_USE
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the exit's own flush shall be quiet
        return _FAILED
    return _DONE


def _tell_error(error: WaystationError, *, as_json: bool) -> None:
    last_lines = error.last_lines if isinstance(error, BuildFailed | SmokeFailed) else ()
    _tell(error.reason, str(error), error.advice, last_lines, as_json=as_json, transient=error.transient)


def _tell(
    reason: str, message: str, advice: str, last_lines: tuple[str, ...], *, as_json: bool, transient: bool = False
) -> None:
    if as_json:
        told: dict[str, object] = {"reason": reason, "message": message, "advice": advice, "transient": transient}
        if last_lines:
            told["last_lines"] = last_lines
        print(json.dumps({"error": told}), file=sys.stderr)
        return
    for line in last_lines:
        print(f"  {printable(line)}", file=sys.stderr)
    sentences = [f"{message.rstrip('.')}.", advice] if advice else [message]
    print(f"{PROGRAM}:", printable(" ".join(" ".join(sentences).split())), file=sys.stderr)


def printable(text: str) -> str:
    """Escape what would steer a terminal: a build's output is its author's."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text.expandtabs())


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    """End as an exception does, so that what was started is ended and what was made is removed."""
    sys.exit(128 + number)
