"""What every test may ask for: a clean environment, one MinIO for the session, a fresh bucket for each test.

minio           the session's MinIO server; tests that stop it start one of their own (`minio_alone`)
versitygw       the session's other S3 server, the Versity gateway
s3              the server of `bucket`: MinIO, but where a folder or a file says that its tests run on both
bucket          a new, empty bucket on it
bucket_settings the `OriginSettings` with which its owner reads and writes it
minio_alone     a MinIO of the test's own, to be stopped and started at will
toxiproxy       the session's toxiproxy; ask it for a `proxy(port)` of the test's own
metrics         fresh metrics
disk            the real disk
"""

from __future__ import annotations

import itertools
import os
import signal
from typing import TYPE_CHECKING

import hypothesis
import pytest
import structlog

from peers.minio import MinioServer, running_minio
from peers.toxiproxy import Toxiproxy, running_toxiproxy
from peers.versitygw import VersityServer, running_versitygw
from secrecy import SecretTold, search, watch_child_processes
from waystation.disk import Disk
from waystation.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from peers.s3 import Bucket, S3Server
    from waystation.config import OriginSettings

_DEVELOPERS_OWN = ("AWS_", "WAYSTATION_", "MINIO_", "XDG_")
_PROXIES = {"http_proxy", "https_proxy", "all_proxy", "no_proxy", "ftp_proxy"}
_bucket_numbers = itertools.count(1)


# how long an example takes is the machine's business
hypothesis.settings.register_profile("shared", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("shared")


def pytest_configure() -> None:
    """Give child processes the same start everywhere: no credentials, settings or proxies of the developer's own."""
    for name in list(os.environ):
        if name.startswith(_DEVELOPERS_OWN) or name.lower() in _PROXIES:
            del os.environ[name]
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background: child processes would inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _no_secret_is_told() -> Iterator[None]:
    """Whatever test makes a program of ours tell a secret fails; see `secrecy`."""
    end = watch_child_processes()
    yield
    end()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Search also what parts of ours print within the tests' own process."""
    report = yield
    try:
        for name, text in report.sections:
            search(text, name)
    except SecretTold as told:
        report.outcome, report.longrepr = "failed", str(told)
    return report


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MinioServer]:
    with running_minio(tmp_path_factory.mktemp("minio")) as server:
        yield server


@pytest.fixture(scope="session")
def versitygw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VersityServer]:
    with running_versitygw(tmp_path_factory.mktemp("versitygw")) as server:
        yield server


@pytest.fixture(scope="session")
def s3(minio: MinioServer) -> S3Server:
    return minio


@pytest.fixture
def minio_alone(tmp_path: Path) -> Iterator[MinioServer]:
    with running_minio(tmp_path / "minio") as server:
        yield server


@pytest.fixture
def bucket(s3: S3Server) -> Bucket:
    return s3.create_bucket(f"bucket-{next(_bucket_numbers)}")


@pytest.fixture
def bucket_settings(bucket: Bucket, tmp_path: Path) -> OriginSettings:
    return bucket.settings(bucket.server.keys.write(tmp_path / "credentials"))


@pytest.fixture(scope="session")
def toxiproxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toxiproxy]:
    with running_toxiproxy(tmp_path_factory.mktemp("toxiproxy")) as server:
        yield server


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """A test that runs a verb in this process silences its log: not that of the tests behind it."""
    yield
    structlog.reset_defaults()
