"""The Nomad `artifact` block that uses a target: always with a literal sha256, so that Nomad checks it too."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from waystation.errors import ConfigError

if TYPE_CHECKING:
    from waystation.model import Digest, TargetPath

ARTIFACTS_PATH = "/artifacts"
"""The mirror's own route to targets by name."""

_UNPACKED = re.compile(r"\.(tar|tgz|tbz2|txz|tzst|zip|gz|bz2|xz|zst)$")
"""Endings at which Nomad's getter unpacks what it fetched."""
_ESCAPES = {"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"}
_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - compared with, not bound to


def artifact_stanza(target: TargetPath, digest: Digest, *, base: str) -> str:
    """Write the block for a task, `base` being the URL that targets' names are appended to.

    Raises:
        ConfigError: the base is no http or https URL.
    """
    file_name = target.rpartition("/")[2]
    url = f"{_checked_base(base)}/{quote(target, safe='/')}"
    if _UNPACKED.search(file_name):
        hint = "# Nomad unpacks it into local/."
    else:
        hint = f"# In the same task's config: command = {hcl_string(f'local/{file_name}')}"
    return (
        "artifact {\n"
        f"  source      = {hcl_string(url)}\n"
        '  destination = "local/"\n'
        "\n"
        "  options {\n"
        f'    checksum = "sha256:{digest}"\n'
        "  }\n"
        "}\n"
        f"{hint}\n"
    )


def mirror_base(*listen: str) -> str:
    """Of the addresses that the mirror listens on, turn the best into the base at which this machine's jobs reach it.

    That is the first without TLS: its certificate need not be for an address.
    """
    parts = urlsplit(next((address for address in listen if address.startswith("http:")), listen[0]))
    host = _EVERY_ADDRESS.get(parts.hostname or "")
    netloc = f"{host}:{parts.port}" if host else parts.netloc
    return f"{parts.scheme}://{netloc}{ARTIFACTS_PATH}"


def hcl_string(text: str) -> str:
    """Quote text for HCL: nothing in it is taken for an escape, a template or a line's end."""
    escaped = "".join(_ESCAPES.get(character) or _printable(character) for character in text)
    return f'"{escaped.replace("${", "$${").replace("%{", "%%{")}"'


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - HCL's two lengths


def _checked_base(base: str) -> str:
    """Strip the end of a base and join its doubled slashes: ``//`` in a path means a subfolder to Nomad's getter."""
    scheme, separator, rest = base.partition("://")
    netloc, _, path = rest.partition("/")
    if scheme not in ("http", "https") or not separator or not netloc or re.search(r'[\s"?#\\]', base):
        raise ConfigError(
            f"{base[:200]!a} can't be the base of a source",
            advice='Give a URL such as "http://127.0.0.1:4650/artifacts", without query.',
        )
    return "/".join([f"{scheme}://{netloc}", *(part for part in path.split("/") if part)])
