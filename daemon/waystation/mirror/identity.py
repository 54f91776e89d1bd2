"""The certificate in force: a new pair is read and checked whole before it takes the place of the one before."""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from waystation.errors import CertificateError
from waystation.mirror.certificate import read_certificate
from waystation.status import CertificateStatus

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from waystation.config import MirrorSettings
    from waystation.mirror.certificate import Certificate
    from waystation.telemetry.metrics import Metrics

log = structlog.get_logger()

EXPIRES_SOON_S = 14 * 86400.0


@dataclass(frozen=True, slots=True)
class _Pair:
    context: ssl.SSLContext
    certificate: Certificate


class Identity:
    """What https clients are shown; `origin_host` is the name that jobs may use for an https origin and the mirror."""

    def __init__(self, origin_host: str | None, *, metrics: Metrics, wall: Callable[[], float] = time.time) -> None:
        self._origin_host = origin_host
        self._expiry = metrics.tls_certificate_expiry
        self._wall = wall
        self._prepared: _Pair | None = None
        self._pair: _Pair | None = None

    async def prepare(self, settings: MirrorSettings) -> None:
        """Read and check what `take_up` is to take up.

        Raises:
            CertificateError: it can't be used.
        """
        files = settings.tls_files
        self._prepared = await asyncio.to_thread(self._read, *files) if files else None

    def take_up(self) -> None:
        """Show what was prepared to those who connect from now on."""
        self._pair = self._prepared
        certificate = self._pair.certificate if self._pair else None
        self._expiry.set(certificate.not_after if certificate else 0.0)
        if certificate is None:
            return
        if certificate.not_after - self._wall() < EXPIRES_SOON_S:
            log.warning("certificate_expires_soon", not_after=certificate.not_after, advice="Have a new one issued.")
        if self._origin_host and not certificate.covers(self._origin_host):
            log.warning(
                "certificate_lacks_the_origins_name",
                names=certificate.names,
                origin=self._origin_host,
                advice="For jobs that use the bucket's own https URL, have one issued with that name too.",
            )

    @property
    def context(self) -> ssl.SSLContext | None:
        """What a new connection speaks TLS by; None: there is no certificate."""
        return self._pair.context if self._pair else None

    @property
    def status(self) -> CertificateStatus | None:
        """What is shown, in words."""
        if self._pair is None:
            return None
        shown, host = self._pair.certificate, self._origin_host
        covers = shown.covers(host) if host else None
        return CertificateStatus(shown.names, shown.issuer, shown.not_before, shown.not_after, covers)

    def _read(self, cert_file: Path, key_file: Path) -> _Pair:
        certificate = read_certificate(cert_file, key_file, now=self._wall())
        return _Pair(server_context(cert_file, key_file), certificate)


def server_context(cert_file: Path, key_file: Path) -> ssl.SSLContext:
    """TLS 1.2 and 1.3, HTTP/1.1 alone, and no second handshake that a client could ask for again and again.

    Raises:
        CertificateError: OpenSSL refuses the pair.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # OpenSSL 3 refuses it by itself, 1.1.1 does not
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert_file, key_file, password="")  # never asks a terminal for one
    except (ssl.SSLError, OSError) as error:
        said = (error.reason if isinstance(error, ssl.SSLError) else error.strerror) or "it gave no reason"
        raise CertificateError(
            f"OpenSSL refuses [mirror] tls_cert {cert_file} with tls_key {key_file}: {said.lower().replace('_', ' ')}",
        ) from error
    return context
