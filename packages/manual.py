"""The manual page, waystation(1), in roff, written from the command line itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packages.verbs import Parameter, Verb

STATUSES = {"0": "done", "1": "failed", "2": "wrong use or wrong configuration", "130": "interrupted"}
PURPOSE = (
    "Waystation fetches the executables that Nomad jobs need from an S3 bucket once, verifies them, keeps them on "
    "disk, and serves them to Nomad's own artifact stanzas from a local HTTP mirror."
)
FILES = {
    "/etc/waystation/waystation.toml": "The configuration.",
    "/etc/waystation/credentials": "The S3 keys, root's alone; systemd hands the daemon a copy.",
    "/var/lib/waystation": "The store.",
    "/run/waystation/admin.sock": "Where the daemon is told things, by root and the group waystation.",
    "/opt/waystation/share/doc": "The documentation.",
}
VARIABLES = {
    "WAYSTATION_CONFIG": "The configuration file, where --config names none.",
    "WAYSTATION_SECTION__KEY": "One setting, over the file's, such as WAYSTATION_STORE__MAX_SIZE=5GiB.",
    "AWS_…": "The standard AWS variables, where the configuration names no credentials_file.",
}


def manual(program: Verb, version: str, epoch_s: int) -> str:
    """The page as man(7) text; `epoch_s` is the date that it carries."""
    date = datetime.fromtimestamp(epoch_s, UTC).date().isoformat()
    lines = [
        f'.TH WAYSTATION 1 "{date}" "Waystation {version}" "User Commands"',
        ".SH NAME",
        "waystation \\- a verifying artifact cache and local mirror for Nomad clients",
        ".SH SYNOPSIS",
        ".B waystation",
        "VERB [OPTIONS] [ARGUMENTS]",
        ".SH DESCRIPTION",
        *_text(PURPOSE),
        ".PP",
        *_text("Every verb writes for people, or with --json for machines, and ends with a status that tells."),
        *_parameters(program.parameters),
        ".SH VERBS",
    ]
    for verb in program.all()[1:]:
        lines += _verb(verb)
    for title, entries in (("FILES", FILES), ("ENVIRONMENT", VARIABLES), ("EXIT STATUS", STATUSES)):
        lines += [f".SH {title}", *(line for name, said in entries.items() for line in _entry(name, said))]
    lines += [".SH SEE ALSO", *_text("/opt/waystation/share/doc/install.md, operating.md and configuration.md")]
    return "\n".join(lines) + "\n"


def _verb(verb: Verb) -> list[str]:
    name = " ".join(("waystation", *verb.path))
    lines = [f'.SS "{_escape(f"{name} {verb.usage}".rstrip())}"']
    for number, paragraph in enumerate(verb.help.split("\n\n")):
        lines += ([".PP"] if number else []) + _text(paragraph)
    return lines + ([] if verb.verbs else _parameters(verb.parameters))


def _parameters(parameters: tuple[Parameter, ...]) -> list[str]:
    return [line for each in parameters for line in _entry(each.shown, each.help)]


def _entry(name: str, said: str) -> list[str]:
    return [".TP", f'.B "{_escape(name)}"', *_text(said)]


def _text(text: str) -> list[str]:
    escaped = _escape(text)
    return ["\\&" + escaped if escaped.startswith((".", "'")) else escaped]


def _escape(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq").replace("…", "...")
