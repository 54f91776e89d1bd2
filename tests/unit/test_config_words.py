"""A wrong setting is one line in our words, not in those of the library that found it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from waystation.config import Settings, load_settings
from waystation.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

KEYS = [
    f"{section}.{key}"
    for section in Settings.model_fields
    if section != "prefetch"  # tables of their own, checked in test_prefetch_settings.py
    for key in type(getattr(Settings(), section)).model_fields
]
WRONG = ["[]", "{}", '""', '"nonsense"', "[7]", "7.5", "-1", "true", "{ a = 1 }", "2026-11-25"]
BESIDE = {"mirror.tls_cert": 'tls_key = "k"', "mirror.tls_key": 'tls_cert = "c"'}
"""What a key is never without."""
OF_THE_LIBRARY = re.compile(r"Input|Tuple|Value error|validation|dictionary|instance|<class|pydantic")


def complaint(tmp_path: Path, text: str) -> str | None:
    file = tmp_path / "waystation.toml"
    file.write_text(text + "\n")
    try:
        load_settings(file, environment={})
    except ConfigError as error:
        place, _, said = str(error).partition(": ")
        return said if place == str(file) else str(error)
    return None


@pytest.mark.parametrize("key", KEYS)
def test_whatever_is_wrong_with_a_key_is_said_in_our_words(tmp_path: Path, key: str) -> None:
    section, name = key.split(".")
    complaints = [complaint(tmp_path, f"[{section}]\n{name} = {value}\n{BESIDE.get(key, '')}") for value in WRONG]
    said = [each for each in complaints if each is not None]
    assert len(said) >= 3
    for each in said:
        assert each.startswith((f"{key}: ", "unknown key"))
        assert not OF_THE_LIBRARY.search(each), each
        assert each.isprintable()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[mirror]\ntls_cert = "c"', "mirror.tls_key: expected both or none of tls_cert and tls_key"),
        ('[mirror]\ntls_key = "k"', "mirror.tls_key: expected both or none of tls_cert and tls_key, not 'k'"),
        (
            '[mirror]\nlisten = ["https://127.0.0.1:1"]',
            'mirror.listen: "https://127.0.0.1:1" needs tls_cert and tls_key',
        ),
        (
            '[mirror]\nlisten = ["http://[::1]:1", "http://192.0.2.1:1"]',
            (
                'mirror.listen: "http://192.0.2.1:1" is open to other machines without TLS: expected https://,'
                " a loopback address, or allow_insecure = true"
            ),
        ),
        ("[mirror]\nlisten = []", "mirror.listen: expected a list with at least 1 entry"),
        ('[mirror]\nlisten = "x"', """mirror.listen: expected a list, such as ["one", "two"], not 'x'"""),
        ('[catalog]\nmode = "signed"', "catalog.mode: expected 'plain', not 'signed'"),
        ("[origin]\nmax_connections = 0", "origin.max_connections: expected 1 or more, not 0"),
        ("mirror = 7", "mirror: expected a section, with its keys below it, not 7"),
    ],
)
def test_it_names_the_key_and_what_was_expected(tmp_path: Path, text: str, said: str) -> None:
    assert complaint(tmp_path, text) == said


@pytest.mark.parametrize("url", ["s3://b", "s3://ab", f"s3://{'b' * 64}", "s3://Bucket", "s3://-bucket", "s3://b_b_b"])
def test_a_name_that_no_bucket_can_have_is_told_the_rule(tmp_path: Path, url: str) -> None:
    assert "3 to 63" in (complaint(tmp_path, f'[origin]\nurl = "{url}"') or "")


@pytest.mark.parametrize("url", ["s3://abc", f"s3://{'b' * 63}/prefix", "s3://my.bucket-1"])
def test_a_name_that_a_bucket_can_have_is_taken(tmp_path: Path, url: str) -> None:
    assert complaint(tmp_path, f'[origin]\nurl = "{url}"') is None


@pytest.mark.parametrize("key", ["origin.endpoint_url", "origin.url", "mirror.listen"])
@pytest.mark.parametrize(
    "url", ["http://u:{}@h/path?x", "http://u:{}@h:no", "ftp://u:{}@h", "http://u:{}@[h", "u:{}@h"]
)
def test_credentials_in_a_url_are_refused_and_not_repeated_whatever_else_is_wrong_with_it(
    tmp_path: Path, key: str, url: str
) -> None:
    section, name = key.split(".")
    secret, file = "hunter-two", tmp_path / "waystation.toml"
    value = url.format(secret)
    file.write_text(f"[{section}]\n{name} = {json.dumps([value] if key == 'mirror.listen' else value)}\n")
    refusals = []
    with pytest.raises(ConfigError) as of_file:
        load_settings(file, environment={})
    refusals.append(of_file.value)
    with pytest.raises(ConfigError) as of_variable:
        load_settings(environment={f"WAYSTATION_{section}__{name}".upper(): value})
    refusals.append(of_variable.value)
    with pytest.raises(ConfigError) as of_flag:
        load_settings(environment={}, flags=[f"{key}={value}"])
    refusals.append(of_flag.value)
    for refusal in refusals:
        assert key in str(refusal)
        assert secret not in f"{refusal} {refusal.advice}"


@pytest.mark.parametrize("key", ["origin.credentials_file", "origin.ca_bundle", "mirror.tls_cert", "mirror.tls_key"])
@pytest.mark.parametrize(
    "content", ["[default]\naws_secret_access_key = hunter-two\n", "-----BEGIN KEY-----hunter-two"]
)
def test_a_key_that_stands_where_its_file_is_to_be_named_is_refused_and_not_repeated(
    tmp_path: Path, key: str, content: str
) -> None:
    section, name = key.split(".")
    file = tmp_path / "waystation.toml"
    file.write_text(f"[{section}]\n{name} = {json.dumps(content)}\n{BESIDE.get(key, '')}\n")
    with pytest.raises(ConfigError, match="expected the path of a file") as refusal:
        load_settings(file, environment={})
    assert "hunter-two" not in str(refusal.value)
