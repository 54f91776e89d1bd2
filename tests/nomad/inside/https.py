"""The bucket's own name over https, taken over: the mirror has a certificate of that name."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from certificates import issue
from nomad.inside.place import APP, SECURE_NAME, Site, in_place, publish
from peers.minio import running_minio
from peers.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import trustme

    from peers.nomad import Nomad
    from peers.s3 import Bucket

BASE = f"https://{SECURE_NAME}"


@pytest.fixture(scope="module")
def secure_bucket(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Iterator[Bucket]:
    folder = tmp_path_factory.mktemp("secure")
    pair = issue(authority, folder, "127.0.0.1", SECURE_NAME)
    certificates = folder / "certificates"
    certificates.mkdir()
    (certificates / "public.crt").write_bytes(pair.cert.read_bytes() + authority.cert_pem.bytes())
    pair.key.rename(certificates / "private.key")
    with running_minio(folder / "minio", certificates=certificates) as server:
        bucket = server.create_bucket("artifacts")
        bucket.make_public()
        publish(bucket, folder / "publisher", APP, "app", ca_bundle=str(certificates / "public.crt"))
        yield bucket


@pytest.fixture
def site(tmp_path: Path, nomad: Nomad, secure_bucket: Bucket, authority: trustme.CA) -> Iterator[Site]:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    pair = issue(authority, tmp_path, SECURE_NAME)
    changes = {
        "mirror": {**pair.settings, "listen": [f"https://127.0.0.1:{free_port()}"]},
        "origin": {"endpoint_url": BASE, "ca_bundle": str(tmp_path / "ca.pem")},
    }
    with in_place(tmp_path, nomad, secure_bucket, changes) as site:
        site.take_over()
        site.relay.reset_counts()
        yield site


def test_a_stanza_with_the_bucket_s_https_url_is_served_by_the_mirror_unedited(site: Site) -> None:
    site.run(base=BASE)
    site.assert_started()
    assert site.served() == 1


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_while_the_daemon_is_away_the_bucket_answers_at_its_name(site: Site, end: signal.Signals) -> None:
    site.station.process.signal(end)
    site.station.process.wait()
    site.give_back()
    site.run(base=BASE)
    site.assert_started()
    site.assert_came_from_the_bucket()
