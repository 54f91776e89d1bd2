"""Which path leads where, and which tricks lead nowhere."""

from __future__ import annotations

import pytest

from waystation.errors import DirectoryAsked, MalformedRequest, Misdirected, NotAnArtifact
from waystation.mirror.paths import Hosts, Paths, Route, RouteName, host_of, split_target

HEX = "ab" * 32
PREFIXED = Paths("bundles/live")
FOLDER = Paths(None)


@pytest.mark.parametrize(
    ("target", "route"),
    [
        ("/artifacts/app/app-1-x86_64", Route(RouteName.ARTIFACT, "app/app-1-x86_64")),
        ("/artifacts/app/a%2Bb", Route(RouteName.ARTIFACT, "app/a+b")),
        ("/artifacts/app%2Fa", Route(RouteName.ARTIFACT, "app/a")),
        ("/artifacts/app/a+b", Route(RouteName.ARTIFACT, "app/a+b")),
        ("/artifacts/app/%C3%A4", Route(RouteName.ARTIFACT, "app/ä")),
        ("/artifacts/app/%252e%252e", Route(RouteName.ARTIFACT, "app/%2e%2e")),
        ("/artifacts/app/x?checksum=sha256:0&archive=false", Route(RouteName.ARTIFACT, "app/x")),
        ("/artifacts/app/x?terraform-gets=1", Route(RouteName.ARTIFACT, "app/x")),
        ("/artifacts/app/x?a=terraform-get", Route(RouteName.ARTIFACT, "app/x")),
        ("/artifacts/app/x?", Route(RouteName.ARTIFACT, "app/x")),
        ("/artifacts/x", Route(RouteName.ARTIFACT, "x")),
        ("/artifacts/app/x.sha256", Route(RouteName.CHECKSUM, "app/x")),
        ("/artifacts/app/x.pieces", Route(RouteName.PIECES, "app/x")),
        ("/bundles/live/app/x", Route(RouteName.BUCKET, "app/x")),
        ("/bundles/live/app/x.sha256", Route(RouteName.CHECKSUM, "app/x")),
        (f"/blobs/sha256/{HEX}", Route(RouteName.BLOB, HEX)),
        (f"/blobs/sha256/{HEX.upper()}", Route(RouteName.BLOB, HEX)),
        ("/healthz", Route(RouteName.HEALTH)),
        ("/readyz?verbose", Route(RouteName.READY)),
        ("/metrics", Route(RouteName.METRICS)),
        ("/api/v1/status", Route(RouteName.STATUS)),
    ],
)
def test_a_path_leads_to_its_route(target: str, route: Route) -> None:
    assert PREFIXED.route(target) == route


@pytest.mark.parametrize(
    ("bucket_path", "target", "subject"),
    [
        ("artifacts", "/artifacts/app/x", "app/x"),
        ("artifacts/", "/artifacts/app/x", "app/x"),
        ("artifacts/live", "/artifacts/live/app/x", "app/x"),
        ("artifacts/live/", "/artifacts/app/x", "app/x"),
        ("artifacts/live/", "/artifacts/lively/x", "lively/x"),
        ("bundles", "/artifacts/bundles/x", "bundles/x"),
    ],
)
def test_a_bucket_called_artifacts_has_its_prefix_stripped(bucket_path: str, target: str, subject: str) -> None:
    assert Paths(bucket_path).route(target) == Route(RouteName.ARTIFACT, subject)


@pytest.mark.parametrize("bucket", ["metrics", "blobs", "api", "healthz"])
def test_a_bucket_may_be_called_like_a_route(bucket: str) -> None:
    assert Paths(bucket).route(f"/{bucket}/app/x") == Route(RouteName.BUCKET, "app/x")


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/artifacts",
        "/artifacts/",
        "/bundles",
        "/bundles/?list-type=2&prefix=live",
        "/bundles/other/app/x",
        "/bundles/live",
        "/other-bucket/app/x",
        "/blobs/sha256/abcd",
        f"/blobs/sha256/{HEX}0",
        f"/blobs/md5/{HEX}",
        "/api/v1/other",
        "/healthz/x",
        "/Artifacts/app/x",
    ],
)
def test_what_is_no_artifact_says_so(target: str) -> None:
    with pytest.raises(NotAnArtifact):
        PREFIXED.route(target)


def test_a_folder_as_origin_has_no_bucket_path() -> None:
    with pytest.raises(NotAnArtifact):
        FOLDER.route("/bundles/live/app/x")


@pytest.mark.parametrize(
    "target",
    [
        "/artifacts/../etc/passwd",
        "/artifacts/%2e%2e/etc/passwd",
        "/artifacts/.%2E/x",
        "/artifacts/app/..",
        "/artifacts/./app/x",
        "/artifacts/app/%2e",
        "/artifacts//app/x",
        "//artifacts/app/x",
        "/artifacts/app/x/",
        "/artifacts/app%2F%2Fx",
        "/artifacts/app/x%00",
        "/artifacts/app/x%0a",
        "/artifacts/app/x%7f",
        "/artifacts/app/%C2%9b31m",
        "/artifacts/app\\x",
        "/artifacts/app%5Cx",
        "/artifacts/app/x%",
        "/artifacts/app/x%2",
        "/artifacts/app/x%zz",
        "/artifacts/app/x%+1",
        "/artifacts/app/%ff",
        "/artifacts/app/%c0%ae",
        "/artifacts/app/%ed%a0%80",
        "/artifacts/app/x#fragment",
        "/artifacts/app/" + "x" * 5000,
        "artifacts/app/x",
        "",
        "*",
        "/%2e%2e/%2e%2e/etc/passwd",
    ],
)
def test_a_path_that_breaks_a_rule_is_refused_before_anything_is_looked_up(target: str) -> None:
    with pytest.raises(MalformedRequest):
        PREFIXED.route(target)


@pytest.mark.parametrize(
    "query", ["terraform-get=1", "terraform-get", "terraform-get=", "a=b&terraform-get=0", "terraform%2Dget=1"]
)
@pytest.mark.parametrize(
    "path", ["/artifacts/app/x", "/bundles/live/app/x", "/artifacts/app/x.sha256", "/", "/nowhere"]
)
def test_a_question_for_a_folder_is_never_answered_with_success(path: str, query: str) -> None:
    with pytest.raises(DirectoryAsked):
        PREFIXED.route(f"{path}?{query}")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/artifacts/app/x", ("/artifacts/app/x", "header")),
        ("http://other/artifacts/app/x?q", ("/artifacts/app/x?q", "other")),
        ("HTTPS://other:80/a", ("/a", "other:80")),
        ("http://other", ("/", "other")),
        ("http://other?q=/x", ("/?q=/x", "other")),
        ("http://user@other/x", ("/x", "user@other")),
        ("http:///x", ("/x", "")),
    ],
)
def test_an_absolute_target_brings_its_own_host(target: str, expected: tuple[str, str]) -> None:
    assert split_target(target, "header") == expected


@pytest.mark.parametrize("target", ["*", "localhost:80", "ftp://other/x", "file:///etc/passwd", "a/b", "?x", "://x/"])
def test_other_forms_of_a_target_are_refused(target: str) -> None:
    with pytest.raises(MalformedRequest):
        split_target(target, "header")


HOSTS = Hosts(("Artifacts.Internal", "rooted.example."), "minio.example")


@pytest.mark.parametrize(
    "authority",
    [
        "127.0.0.1",
        "127.0.0.1:4650",
        "10.1.2.3",
        "[::1]",
        "[::1]:4650",
        "[fe80::1]:80",
        "localhost",
        "LocalHost:4650",
        "localhost.",
        "artifacts.internal",
        "ARTIFACTS.INTERNAL:1",
        "rooted.example",
        "minio.example:9000",
        "localhost:",
    ],
)
def test_addresses_localhost_and_known_names_are_answered(authority: str) -> None:
    HOSTS.check(authority)


@pytest.mark.parametrize(
    "authority",
    ["evil.example", "evil.example:4650", "localhost.evil.example", "xartifacts.internal", "1.2.3", "127.0.0.1.nip.io"],
)
def test_a_foreign_name_is_misdirected(authority: str) -> None:
    with pytest.raises(Misdirected):
        HOSTS.check(authority)


@pytest.mark.parametrize(
    "authority",
    [
        "",
        ":80",
        "a b",
        "a/b",
        "a,b",
        "user@localhost",
        "localhost:port",
        "localhost:123456",
        "localhost\x80",
        "[::1",
        "::1",
        "[nonsense]",
        "[127.0.0.1]x",
    ],
)
def test_a_host_that_is_none_is_refused(authority: str) -> None:
    assert host_of(authority) is None
    with pytest.raises(MalformedRequest):
        HOSTS.check(authority)
