"""Taking over the bucket's own name, http and https; run by `tests/story/test_takeover.py` in namespaces of its own.

A job's source is `https://my.local.domain/artifacts/app-0.1.0-x86_64`, and stays so: the bucket answers it, then the
mirror, by a certificate of the same name, then the bucket again.
"""

from __future__ import annotations

import json
import subprocess
from contextlib import ExitStack
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
import trustme

from certificates import Pair, issue
from netns.takeover import BODY, BUCKET_4, BUCKET_6, CGROUPS, NOMAD, Site, on, ruleset, run
from peers import provide
from peers.minio import running_minio
from peers.processes import free_port
from peers.relay import Relay
from peers.station import Station, s3_config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from peers.s3 import Bucket

NAME, BUCKET, KEY = "my.local.domain", "artifacts", "app-0.1.0-x86_64"
PORTS = {"http": 80, "https": 443}
FAMILIES = {"-4": BUCKET_4, "-6": BUCKET_6}
HOSTS = f"127.0.0.1 localhost\n{BUCKET_4} {NAME}\n{BUCKET_6} {NAME}\n"


@pytest.fixture(scope="module", autouse=True)
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    run("mount", "-t", "cgroup2", "none", str(CGROUPS))
    run("ip", "link", "set", "lo", "up")
    run("ip", "address", "add", f"{BUCKET_4}/32", "dev", "lo")
    run("ip", "address", "add", f"{BUCKET_6}/128", "dev", "lo")
    file = tmp_path_factory.mktemp("machine") / "hosts"
    file.write_text(HOSTS)
    run("mount", "--bind", str(file), "/etc/hosts")
    (CGROUPS / NOMAD).mkdir(parents=True)
    yield file
    (CGROUPS / NOMAD).rmdir()
    (CGROUPS / NOMAD).parent.rmdir()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def bundle(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return file


@pytest.fixture(scope="module", params=["http", "https"])
def bucket(
    request: pytest.FixtureRequest, authority: trustme.CA, bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bucket]:
    """The bucket, on a server that speaks http or https."""
    folder = tmp_path_factory.mktemp("minio")
    certificates = None
    if request.param == "https":
        certificates = folder / "certificates"
        pair = issue(authority, certificates, NAME, "127.0.0.1", "localhost")
        pair.key.rename(certificates / "private.key")
        (certificates / "public.crt").write_bytes(pair.cert.read_bytes() + bundle.read_bytes())
        pair.cert.unlink()
    with running_minio(folder / "data", certificates=certificates) as server:
        bucket = server.create_bucket(BUCKET)
        bucket.make_public()
        bucket.put_vouched(KEY, BODY)
        yield bucket


def station_for(bucket: Bucket, folder: Path, bundle: Path, pair: Pair) -> Station:
    """A daemon that speaks http and https on loopback of both families, each at a port of its own."""
    scheme = "https" if bucket.server.secure else "http"
    config = s3_config(bucket, folder, endpoint_url=f"{scheme}://{NAME}")
    config["origin"]["ca_bundle"] = str(bundle)
    config["takeover"] = {"match": NOMAD}
    config["mirror"] = pair.settings
    station = Station(folder / "station", config)
    ports = [free_port() for _ in range(3)]
    others = [f"https://127.0.0.1:{ports[0]}", f"https://[::1]:{ports[1]}", f"http://[::1]:{ports[2]}"]
    station.config["mirror"]["listen"] = [station.url, *others]
    return station


@pytest.fixture(scope="module")
def site(
    bucket: Bucket, authority: trustme.CA, bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    port = PORTS["https" if bucket.server.secure else "http"]
    with ExitStack() as stack:
        relays = {
            host: stack.enter_context(Relay(bucket.server.port, host=host, port=port)) for host in FAMILIES.values()
        }
        station = station_for(bucket, folder, bundle, issue(authority, folder / "tls", NAME))
        stack.enter_context(station.process)
        station.start()
        yield Site(station, bucket, relays)


@pytest.fixture(autouse=True)
def given_back() -> Iterator[None]:
    yield
    run("nft", "flush", "ruleset")


def source(site: Site) -> str:
    """What stands in the job."""
    return f"{'https' if site.bucket.server.secure else 'http'}://{NAME}/{BUCKET}/{KEY}"


def as_nomad(*command: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Run it inside Nomad's cgroup."""
    join = f'echo $$ > {CGROUPS / NOMAD}/cgroup.procs && exec "$@"'
    return subprocess.run(["sh", "-c", join, "sh", *map(str, command)], capture_output=True, check=False, timeout=60)


def fetch(site: Site, bundle: Path, family: str) -> bytes:
    options = [family, "--silent", "--show-error", "--fail", "--max-time", "20", "--cacert", str(bundle)]
    done = as_nomad("curl", *options, source(site))
    assert done.returncode == 0, done.stderr
    return done.stdout


def served(site: Site) -> float:
    return sum(
        site.station.metric("waystation_requests_total", route=route, code="200") for route in ("bucket", "artifacts")
    )


def handshakes(site: Site) -> float:
    return site.station.metric("waystation_tls_handshakes_total", outcome="ok")


@pytest.mark.parametrize("family", ["-4", "-6"])
def test_the_bucket_s_own_name_is_answered_by_the_mirror_and_given_back(site: Site, bundle: Path, family: str) -> None:
    relay = site.relays[FAMILIES[family]]
    asked, sent, shaken = relay.connections, served(site), handshakes(site)
    assert fetch(site, bundle, family) == BODY
    assert (relay.connections, served(site)) == (asked + 1, sent)
    on(site)
    for _ in range(2):  # cold and warm
        assert fetch(site, bundle, family) == BODY
    assert served(site) == sent + 2
    secure = 2 if site.bucket.server.secure else 0
    assert handshakes(site) == shaken + secure, "http is for the http listener, https for the https one"
    assert site.takeover("off").returncode == 0
    asked = relay.connections
    assert fetch(site, bundle, family) == BODY
    assert (relay.connections, served(site)) == (asked + 1, sent + 2)


def test_nomad_s_getter_fetches_an_unedited_source_through_the_mirror(site: Site, bundle: Path, tmp_path: Path) -> None:
    on(site)
    sent, file = served(site), tmp_path / KEY
    url = f"{source(site)}?checksum=sha256:{sha256(BODY).hexdigest()}"
    getter = provide.binary(provide.GO_GETTER)
    done = as_nomad("env", f"SSL_CERT_FILE={bundle}", getter, "-mode", "file", url, file)
    assert file.exists(), done.stdout + done.stderr
    assert file.read_bytes() == BODY
    assert served(site) > sent


def test_doctor_explain_and_stanza_know_what_stands(site: Site, hosts: Path) -> None:
    if not site.bucket.server.secure:
        pytest.skip("once, with a certificate, is enough")
    on(site)
    assert f'"{source(site)}"' in site.waystation("stanza", KEY).stdout
    found = takeover_of(site)
    assert (found["level"], f"of {BUCKET_4} leads to the mirror" in found["says"]) == ("ok", True)
    hosts.write_text(f"{HOSTS}10.99.0.2 {NAME}\n")
    try:
        explained = site.waystation("explain", source(site)).stdout
        found = takeover_of(site)
    finally:
        hosts.write_text(HOSTS)
    assert f"port 443 of {BUCKET_4} leads here, for {NOMAD}" in explained
    assert "WRONG: the origin is at 10.99.0.2 now, which is not redirected" in explained
    assert f"{NAME}, expires in" in explained
    assert (found["level"], found["says"]) == ("failure", "the origin is at 10.99.0.2 now, which is not redirected")


def takeover_of(site: Site) -> dict[str, str]:
    findings = json.loads(site.waystation("doctor", "--json").stdout)["findings"]
    (found,) = [one for one in findings if one["check"] == "takeover"]
    return dict(found)


def test_without_a_certificate_of_the_name_https_is_not_taken_over(
    site: Site, authority: trustme.CA, bundle: Path, tmp_path: Path
) -> None:
    if not site.bucket.server.secure:
        pytest.skip("http needs no certificate")
    other = station_for(site.bucket, tmp_path / "other", bundle, issue(authority, tmp_path / "other", "other.domain"))
    with other.process:
        other.start()
        elsewhere = Site(other, site.bucket, site.relays)
        refused = elsewhere.takeover("on")
        assert refused.returncode == 1
        assert f"does not have the name {NAME}" in refused.stderr
        assert "tls_cert" in refused.stderr
        (line,) = other.log_lines("certificate_lacks_the_origins_name")
        assert line["names"] == ["other.domain"]
    assert not ruleset()
