"""The story of nomad-jobs/app.nomad.hcl, the very file, with the bucket's own URL and the redirect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nomad.inside.place import APP, SHA256, TARGET, Site, in_place
from peers.processes import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from peers.minio import MinioServer
    from peers.nomad import Nomad


def test_the_job_as_it_stands_is_served_by_the_mirror_and_its_page_answers(site: Site) -> None:
    site.run()
    site.assert_started()
    assert site.served() == 1
    (allocation,) = site.nomad.wait_running("pet-taxi")
    wait_until(lambda: site.nomad.checks(allocation) == ["success"], "the check passes")


def test_ten_allocations_cost_one_download(site: Site) -> None:
    site.run(count=10)
    site.nomad.wait_running("pet-taxi", count=10)
    assert site.served() == 10
    assert APP.stat().st_size <= site.relay.received_bytes <= APP.stat().st_size * 1.01


def test_a_new_allocation_starts_from_the_cache_while_the_bucket_is_away(site: Site) -> None:
    site.run()
    site.nomad.wait_running("pet-taxi")
    site.nomad.stop("pet-taxi")
    site.bucket.server.stop()
    try:
        site.run()
        site.assert_started()
        assert site.served() == 2
    finally:
        site.bucket.server.start()


def test_a_job_that_names_the_mirror_waits_for_it_by_its_restart_policy(site: Site) -> None:
    site.station.stop()
    site.give_back()
    site.run(base=site.station.url)
    site.nomad.wait_event("pet-taxi", "connection refused")
    site.station.start()
    site.assert_started()
    assert site.served() == 1


def test_bytes_that_are_not_the_published_ones_fail_with_the_reason_that_explain_gives(
    tmp_path: Path, nomad: Nomad, server: MinioServer
) -> None:
    bucket = server.create_bucket("rotten")
    bucket.make_public()
    bucket.put(TARGET, b"somebody wrote over the executable")
    bucket.put(f"{TARGET}.sha256", f"{SHA256}  app-0.1.0-x86_64\n".encode())
    with in_place(tmp_path, nomad, bucket) as site:
        site.take_over()
        site.run()
        assert "bad response code: 502" in nomad.wait_event("pet-taxi", "ailed to download artifact")
        assert not site.station.blobs()
        answer = site.explain()["answer"]
        assert (answer["code"], answer["reason"]) == (502, "digest_mismatch")


def test_a_stanza_with_another_checksum_fails_and_explain_tells_the_right_one(site: Site) -> None:
    site.run(sha256="0" * 64)
    assert f"Got: {SHA256}" in site.nomad.wait_event("pet-taxi", "Checksums did not match")
    assert site.explain()["catalog"]["sha256"] == SHA256
