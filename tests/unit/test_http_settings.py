"""An http origin in the configuration: what a URL may be, and what can't be subscribed to through it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from waystation.config import OriginSettings, Settings, load_settings
from waystation.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("url", "base", "api", "path"),
    [
        ("http://hub:4650/artifacts", "http://hub:4650/artifacts", "http://hub:4650/api/v1", "artifacts"),
        ("https://hub/artifacts/", "https://hub/artifacts", "https://hub/api/v1", "artifacts"),
        ("https://site/hub/artifacts", "https://site/hub/artifacts", "https://site/hub/api/v1", "hub/artifacts"),
        ("http://[::1]:3/artifacts", "http://[::1]:3/artifacts", "http://[::1]:3/api/v1", "artifacts"),
        ("http://hub:4650", "http://hub:4650", None, None),
        ("http://artifacts", "http://artifacts", None, None),
        ("https://s3.example/bucket/a%20b", "https://s3.example/bucket/a%20b", None, "bucket/a b"),
    ],
)
def test_keys_lie_below_the_url_and_a_hub_answers_beside_it(
    url: str, base: str, api: str | None, path: str | None
) -> None:
    settings = OriginSettings(url=url)
    assert (settings.http_base, settings.hub_api, settings.folder) == (base, api, None)
    assert (settings.own_base, settings.own_path) == (base, path)


@pytest.mark.parametrize(
    ("url", "endpoint_url", "base", "path", "host"),
    [
        ("s3://bkt/live/", "https://minio.test:9000/", "https://minio.test:9000/bkt/live", "bkt/live", "minio.test"),
        ("s3://bkt", "http://10.0.0.9", "http://10.0.0.9/bkt", "bkt", "10.0.0.9"),
        ("s3://bkt", None, None, "bkt", None),
        ("file:///srv/artifacts", "http://minio.test:9000", None, None, None),
        (
            "http://hub.test:4650/artifacts",
            "http://minio.test",
            "http://hub.test:4650/artifacts",
            "artifacts",
            "hub.test",
        ),
    ],
)
def test_jobs_ask_the_origin_itself_at_a_url_of_its_own(
    url: str, endpoint_url: str | None, base: str | None, path: str | None, host: str | None
) -> None:
    settings = OriginSettings(url=url, endpoint_url=endpoint_url)
    assert (settings.own_base, settings.own_path, settings.own_host) == (base, path, host)


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http:///x",
        "http://h/a?b",
        "http://h/a#b",
        "http://h/a b",
        "http://h/ü",
        "http://h:99999/",
        "ftp://h/x",
    ],
)
def test_what_is_no_such_url_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"origin\.url: expected"):
        load(tmp_path, f'[origin]\nurl = "{url}"\n')


@pytest.mark.parametrize("path", ["/../x", "/a//b", "/./a", "/%2e%2e/a"])
def test_a_path_that_servers_read_differently_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigError, match="can't be empty"):
        load(tmp_path, f'[origin]\nurl = "http://h{path}"\n')


def test_credentials_in_a_url_are_refused_and_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="without credentials") as error:
        load(tmp_path, '[origin]\nurl = "http://me:s3cret@h/x"\n')
    assert "s3cret" not in str(error.value)


def test_wildcards_on_what_cannot_be_listed_are_an_error_that_names_key_and_file(tmp_path: Path) -> None:
    text = '[origin]\nurl = "http://h/x"\n[[prefetch]]\nmatch = "app/a-1-x86_64"\n[[prefetch]]\nmatch = "app/*"\n'
    with pytest.raises(ConfigError) as error:
        load(tmp_path, text)
    assert str(error.value).startswith(f"{tmp_path / 'waystation.toml'}: prefetch[2].match: http://h/x can't be listed")
    assert load(tmp_path, text.replace("*", "b-1-x86_64")).unlistable() is None


def test_where_only_asking_tells_the_settings_know_whom_to_blame(tmp_path: Path) -> None:
    text = '[origin]\nurl = "http://h/artifacts"\n[[prefetch]]\nmatch = "app/*"\n'
    assert load(tmp_path, text).unlistable() == f"{tmp_path / 'waystation.toml'}: prefetch[1].match"


def load(folder: Path, text: str) -> Settings:
    file = folder / "waystation.toml"
    file.write_text(text)
    return load_settings(file, environment={})
