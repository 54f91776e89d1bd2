from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from waystation.errors import ConfigError
from waystation.model import Digest, parse_target
from waystation.publish.stanza import artifact_stanza, hcl_string, mirror_base

if TYPE_CHECKING:
    from waystation.model import TargetPath

DIGEST = Digest("ab" * 32)
BASE = "http://127.0.0.1:4650/artifacts"


def source_of(target: TargetPath, base: str = BASE) -> str:
    lines = artifact_stanza(target, DIGEST, base=base).splitlines()
    return next(line.partition("=")[2].strip() for line in lines if line.strip().startswith("source"))


def test_a_stanza_names_source_checksum_and_command() -> None:
    assert artifact_stanza(parse_target("app/app-0.1.0-x86_64"), DIGEST, base=BASE) == (
        "artifact {\n"
        '  source      = "http://127.0.0.1:4650/artifacts/app/app-0.1.0-x86_64"\n'
        '  destination = "local/"\n'
        "\n"
        "  options {\n"
        f'    checksum = "sha256:{DIGEST}"\n'
        "  }\n"
        "}\n"
        '# In the same task\'s config: command = "local/app-0.1.0-x86_64"\n'
    )


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("app/app-1.0+b1~rc-x86_64", "app/app-1.0%2Bb1~rc-x86_64"),
        ("a b.bin", "a%20b.bin"),
        ("what?.bin#1", "what%3F.bin%231"),
        ("100%.bin", "100%25.bin"),
        ("${attr.kernel.arch}", "%24%7Battr.kernel.arch%7D"),
        ('quo"te', "quo%22te"),
        ("zoë/ß", "zo%C3%AB/%C3%9F"),
        ("git::x", "git%3A%3Ax"),
    ],
)
def test_every_name_stays_a_path_of_the_url(name: str, path: str) -> None:
    assert source_of(parse_target(name)) == f'"{BASE}/{path}"'


@pytest.mark.parametrize("base", ["http://m:1/a/", "http://m:1//a", "http://m:1/a//", "http://m:1/a"])
def test_no_base_makes_a_double_slash_which_the_getter_would_take_for_a_subfolder(base: str) -> None:
    assert source_of(parse_target("app/f"), base) == '"http://m:1/a/app/f"'


def test_a_base_may_be_a_host_alone_and_may_hold_nomads_own_variables() -> None:
    assert source_of(parse_target("app/f"), "https://host") == '"https://host/app/f"'
    assert source_of(parse_target("app/f"), "http://${attr.ip}:4650/a") == '"http://$${attr.ip}:4650/a/app/f"'


@pytest.mark.parametrize(
    "base", ["", "127.0.0.1:4650", "ftp://x/", "http://", 'http://x/"', "http://x/?a=b", "http://x y/"]
)
def test_a_base_that_is_no_plain_http_url_is_refused_in_words(base: str) -> None:
    with pytest.raises(ConfigError, match="can't be the base"):
        artifact_stanza(parse_target("app/f"), DIGEST, base=base)


@pytest.mark.parametrize("name", ["app.tar.gz", "app.zip", "app.tgz", "dump.zst"])
def test_what_nomad_unpacks_is_not_offered_as_a_command(name: str) -> None:
    hint = artifact_stanza(parse_target(name), DIGEST, base=BASE).splitlines()[-1]
    assert "command" not in hint
    assert "unpacks" in hint


def test_the_hint_stays_a_comment_whatever_the_name() -> None:
    block = artifact_stanza(parse_target('x\u2028\x85"${y}%{z}'), DIGEST, base=BASE)
    assert block.splitlines()[-1].endswith('command = "local/x\\u2028\\u0085\\"$${y}%%{z}"')


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("plain", '"plain"'),
        ('a"b\\c', r'"a\"b\\c"'),
        ("a\nb\tc", r'"a\nb\tc"'),
        ("${a} %{b} $x %y", '"$${a} %%{b} $x %y"'),
        ("\x00\U000e0001", r'"\u0000\U000e0001"'),
        ("zoë", '"zoë"'),
    ],
)
def test_hcl_strings_say_exactly_their_text(text: str, quoted: str) -> None:
    assert hcl_string(text) == quoted


@pytest.mark.parametrize(
    ("listen", "base"),
    [
        ("http://127.0.0.1:4650", "http://127.0.0.1:4650/artifacts"),
        ("http://0.0.0.0:80", "http://127.0.0.1:80/artifacts"),
        ("http://[::]:80/", "http://[::1]:80/artifacts"),
        ("http://mirror.internal:4650", "http://mirror.internal:4650/artifacts"),
    ],
)
def test_the_mirrors_base_is_where_this_machines_jobs_reach_it(listen: str, base: str) -> None:
    assert mirror_base(listen) == base
