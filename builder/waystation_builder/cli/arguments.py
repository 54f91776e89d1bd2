"""The command line's grammar: the verbs, their options, and the order that comes of those of a build."""

from __future__ import annotations

import argparse
import shlex
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from waystation_builder.building import Order
from waystation_builder.bundlers import DEFAULT_NIX_BUNDLER, NAMES, Wishes
from waystation_builder.checks import Smoke
from waystation_builder.identity import Identity
from waystation_builder.smoke import NOMAD_EXEC, PROFILES

PROGRAM = "waystation-builder"
DEFAULT_OUTPUT = Path("dist")


class WrongUse(Exception):
    """The arguments are not what the grammar takes."""

    def __init__(self, message: str, program: str) -> None:
        super().__init__(message)
        self.program = program
        """As its help is asked for, such as ``waystation-builder build``."""


class _Parser(argparse.ArgumentParser):
    """Raises where argparse would print and end the process."""

    def error(self, message: str) -> NoReturn:
        raise WrongUse(message, self.prog)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read a command line; `--help` and `--version` print and end.

    Raises:
        WrongUse: it is none.
    """
    asked = _parser().parse_args(arguments)
    if "command" in asked and asked.command is not None and asked.bundler not in {"auto", "command"}:
        raise WrongUse(f"--command is not what the {asked.bundler} bundler builds with", f"{PROGRAM} {asked.verb}")
    return asked


def order_of(asked: argparse.Namespace) -> Order:
    """Make an order of a build's options."""
    return Order(
        asked.source,
        asked.output,
        asked.bundler,
        Wishes(
            asked.command,
            asked.executable,
            asked.nix_bundler,
            asked.attr,
            tuple((name, value) for name, value in asked.nix_option),
            asked.python,
            tuple(asked.pyinstaller_args),
        ),
        Identity(asked.app, asked.version),
        asked.arch,
        tuple(asked.env),
        Smoke(tuple(asked.smoke_args), PROFILES[asked.smoke_profile], asked.smoke_timeout, wanted=asked.smoke),
        twice=asked.check,
        echo=asked.verbose,
    )


def _parser() -> _Parser:
    parser = _Parser(
        prog=PROGRAM,
        description="Turns a project into one self-contained executable, checks it, and publishes it.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {version(PROGRAM)}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    build = "build SOURCE into one executable, check it, and put it into DIR as <app>-<version>-<arch>"
    publish = "upload what `build` left as <app>/<app>-<version>-<arch>, and print the stanza that uses it"
    common = _common()
    verbs.add_parser(
        "build",
        parents=[_building(), common],
        allow_abbrev=False,
        help=build,
        description=f"{_sentence(build)}; print its path. Beside it lies a record of what the checks found, for "
        "`publish`. Of a build that fails nothing is left there.",
    )
    verbs.add_parser(
        "publish",
        parents=[_file(), _origin(), common],
        allow_abbrev=False,
        help=publish,
        description=f"{_sentence(publish)}. The same bytes again are no error; other bytes under the same name are. "
        "A publish that died is finished by running it again.",
    )
    verbs.add_parser(
        "run",
        parents=[_building(), _origin(), common],
        allow_abbrev=False,
        help="build SOURCE, check what comes of it, publish it, and print the stanza that uses it",
        description="Build, then publish.",
    )
    return parser


def _building() -> _Parser:
    parser = _Parser(add_help=False)
    parser.add_argument(
        "source", metavar="SOURCE", type=Path, nargs="?", default=Path(), help="the project's folder; else this one"
    )
    parser.add_argument(
        "--bundler", choices=["auto", *NAMES], default="auto", help="how to build it; auto: by what is in the folder"
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        default=DEFAULT_OUTPUT,
        help=f"where the executable is put; else {DEFAULT_OUTPUT}",
    )
    named = parser.add_argument_group("its name", "the project's own files say it where it is not given")
    named.add_argument("--app", metavar="APP", help="the app, such as pet-taxi")
    named.add_argument("--version", metavar="VERSION", help="its version, such as 0.1.0")
    named.add_argument("--arch", metavar="ARCH", help="x86_64, aarch64, …; else this machine's")
    how = parser.add_argument_group("how it is built")
    how.add_argument(
        "--command", metavar="COMMAND", help="with this shell command, which puts the executable into $OUT"
    )
    how.add_argument("--executable", metavar="NAME", help="which one to take, where there are several")
    how.add_argument(
        "--env", metavar="NAME[=VALUE]", action="append", default=[], help="pass a variable on to the build; repeatable"
    )
    how.add_argument("--attr", metavar="NAME", help="what of the flake or default.nix; else its default")
    how.add_argument(
        "--nix-bundler",
        metavar="FLAKE",
        help=f"bundle with this one, also what needs no bundling; else {DEFAULT_NIX_BUNDLER}",
    )
    how.add_argument(
        "--nix-option",
        metavar=("NAME", "VALUE"),
        nargs=2,
        action="append",
        default=[],
        help="pass an option on to Nix; repeatable",
    )
    how.add_argument(
        "--python", metavar="VERSION", help="the Python to bundle; else the builder's own, or what PATH has"
    )
    how.add_argument(
        "--pyinstaller-args", metavar="ARGS", type=shlex.split, default=[], help="pass arguments on to PyInstaller"
    )
    how.add_argument("--check", action="store_true", help="build twice, and refuse what differs")
    how.add_argument("--verbose", action="store_true", help="show what the build writes, on standard error")
    tried = parser.add_argument_group("the smoke run")
    tried.add_argument(
        "--smoke",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether the executable is run for a try; it is where nothing is said",
    )
    tried.add_argument(
        "--smoke-args",
        metavar="ARGS",
        type=shlex.split,
        default=["--version"],
        help="with what arguments; else --version",
    )
    tried.add_argument(
        "--smoke-profile",
        choices=list(PROFILES),
        default=NOMAD_EXEC.name,
        help="in which root; empty: for static executables alone",
    )
    tried.add_argument(
        "--smoke-timeout",
        metavar="SECONDS",
        type=_seconds,
        default=Smoke().timeout_s,
        help=f"and how long at most; else {Smoke().timeout_s:g}",
    )
    return parser


def _file() -> _Parser:
    parser = _Parser(add_help=False)
    parser.add_argument("file", metavar="FILE", type=Path, help="what `build` left")
    return parser


def _origin() -> _Parser:
    parser = _Parser(add_help=False)
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help="Waystation's configuration; else WAYSTATION_CONFIG, else the system's own",
    )
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="override one setting, such as origin.url=…; repeatable",
    )
    return parser


def _common() -> _Parser:
    parser = _Parser(add_help=False)
    parser.add_argument("--json", action="store_true", help="write JSON to standard output, and errors as JSON")
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ValueError
    return seconds


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
