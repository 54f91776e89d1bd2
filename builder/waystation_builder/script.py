"""What a script calls, or an archive that unpacks itself: its interpreter, and the programs named in its text."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

MAGIC = b"#!"
HEAD_BYTES = 256 * 1024
"""So much of a file is looked at: an archive's own text stands before what it carries."""

_NOT_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1f]")
_PACKED = {
    b"BZh": "bzip2",
    b"\x1f\x8b\x08": "gzip",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": None,
    b"\x7fELF": None,
}
"""What an archive carries, by its first bytes, and the program that unpacks it; a zip is read by its interpreter."""
_PROGRAMS = """
awk base64 bash basename bunzip2 bzcat bzip2 cat chmod chown cksum cp curl cut date dd df dirname du env expr find
fusermount fusermount3 gawk getconf grep gunzip gzip head id java jq ld-linux ldd ln ls lz4 md5sum mkdir mkfifo
mktemp mount mv node nproc od openssl perl php printenv proot ps python python2 python3 readlink realpath rm rmdir
ruby sed seq sh sha1sum sha256sum sleep sort stat su sudo tac tail tar tee timeout touch tput tr umount uname uniq
unshare unxz unzip unzstd wc wget which whoami xargs xxd xz xzcat zcat zstd zstdcat
"""
"""What scripts call that is no part of the shell; another word in a text is no need, for it may be anything."""
_PROGRAM_NAMES = frozenset(_PROGRAMS.split())
_CALLED = re.compile(
    r"""(?=(?:\btrap[ \t]['"]|\b(?:then|do|else|elif|if|while|until|exec|command|xargs)[ \t]|^|[|;&(`{!])[ \t]{0,80}"""
    r"""(?:[A-Za-z_]\w{0,80}=\S{0,200}[ \t]{1,20}){0,5}"""
    r"""(?:/usr/bin/|/bin/)?([a-z][a-z0-9.+-]{0,30})(?=[\s;|&)`'"<>]|$))""",
    re.MULTILINE,
)
"""A word where a command stands; without width, for behind `then` or `xargs` the next one follows.

Bounded everywhere: what was built may be anything, and is looked at in time that grows with its length alone.
"""
_DEFINED = re.compile(r"^[ \t]{0,80}([a-z][a-z0-9_-]{0,30})[ \t]{0,20}\(\)", re.MULTILINE)
_USUAL = ("/bin/", "/usr/bin/")


@dataclass(frozen=True, slots=True)
class Script:
    """A text that an interpreter runs."""

    interpreter: str
    """Its path."""
    programs: tuple[str, ...]
    """What it calls, the interpreter first; by name, or by path where that is no usual one."""
    is_archive: bool
    """It carries something that it unpacks."""


def read_script(head: bytes) -> Script:
    """Read a script's first bytes, `HEAD_BYTES` of them at most.

    Raises:
        ValueError: its first line names no interpreter.
    """
    first, _, rest = head.partition(b"\n")
    words = shlex.split(first.removeprefix(MAGIC).decode(errors="replace"))
    if not words or not words[0].startswith("/"):
        raise ValueError("its first line names no interpreter by its path")
    binary = _NOT_TEXT.search(rest)
    text_end = rest.rfind(b"\n", 0, binary.start()) + 1 if binary else len(rest)
    text, carried = rest[:text_end].decode(errors="replace"), rest[text_end:]
    interpreters = [_named(words[0])]
    if interpreters == ["env"]:
        interpreters += [word for word in words[1:] if not word.startswith("-") and "=" not in word][:1]
    called = set(_called(text)) if interpreters[-1] in ("sh", "bash", "dash") else set()
    called |= {program for magic, program in _PACKED.items() if program and carried.startswith(magic)}
    return Script(words[0], (*interpreters, *sorted(called - set(interpreters))), is_archive=binary is not None)


def _called(text: str) -> list[str]:
    defined = set(_DEFINED.findall(text))
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return [word for word in _CALLED.findall(lines) if word in _PROGRAM_NAMES and word not in defined]


def _named(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return name if f"{folder}/" in _USUAL else path
