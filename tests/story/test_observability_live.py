"""A real Prometheus scrapes a real station: the dashboard has data, the alert of a stopped MinIO comes and goes."""

from __future__ import annotations

import math
import re
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trustme

from certificates import issue, trusting
from observability import RULES, dashboard_queries
from peers.processes import free_port, wait_until
from peers.prometheus import PROGRAM, running_prometheus
from peers.station import Config, Station, s3_config
from waystation.telemetry.page import page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from peers.minio import MinioServer

TARGET = "app/app-0.1.0-x86_64"


@contextmanager
def running(folder: Path, config: Config, secure: str) -> Iterator[Station]:
    """A daemon that listens at this https address too."""
    station = Station(folder, config)
    station.config["mirror"]["listen"].append(secure)
    with station.process:
        station.start()
        yield station


@pytest.mark.skipif(PROGRAM is None, reason="prometheus is not on PATH (Debian: prometheus)")
def test_the_dashboard_has_data_and_the_alert_of_a_stopped_origin_fires_and_clears(
    tmp_path: Path, minio_alone: MinioServer
) -> None:
    bucket = minio_alone.create_bucket("artifacts")
    bucket.put_vouched(TARGET, b"#!/bin/sh\n" * 5000)
    config = s3_config(bucket, tmp_path) | {"catalog": {"refresh": "1s"}, "prefetch": [{"match": "app/*"}]}
    authority, secure = trustme.CA(), f"https://127.0.0.1:{free_port()}"
    config["mirror"] = issue(authority, tmp_path, "127.0.0.1").settings
    with (
        running(tmp_path / "station", config, secure) as station,
        running_prometheus(tmp_path / "prometheus", station.url.removeprefix("http://"), RULES) as prometheus,
    ):

        def used() -> bool:
            assert station.artifact(TARGET).code == 200
            station.artifact("app/none-0.1.0-x86_64")
            with urllib.request.urlopen(f"{secure}/healthz", timeout=30, context=trusting(authority)):  # noqa: S310
                pass
            return all(map(has_data, dashboard_queries()))

        def has_data(query: str) -> bool:
            return any(not math.isnan(float(sample["value"][1])) for sample in prometheus.query(query))

        try:
            wait_until(used, "every panel shows data", timeout_s=40)
        except Exception as error:
            error.add_note(f"without data: {[query for query in dashboard_queries() if not has_data(query)]}")
            raise
        samples = re.findall(r'\b(cache|op|route|state|where)="([^"]*)"', station.get("/metrics").body.decode())
        told = page()
        assert [one for one in sorted(set(samples)) if f"`{one[1]}`" not in told] == []
        assert prometheus.firing() <= {"WaystationNoChecksum"}

        def fires() -> bool:
            station.artifact("app/new-0.1.0-x86_64")
            return "WaystationOriginDown" in prometheus.firing()

        minio_alone.stop()
        wait_until(fires, "the alert fires", timeout_s=60)
        minio_alone.start()
        wait_until(lambda: not fires(), "the alert clears", timeout_s=60)
