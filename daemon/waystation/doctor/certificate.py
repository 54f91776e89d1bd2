"""The mirror's certificate: can it be used, for how long, and would a client of this machine accept it."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from waystation.config import is_out_of_sight
from waystation.doctor.finding import Finding, Level, failure_of
from waystation.errors import CertificateError
from waystation.mirror.certificate import read_certificate
from waystation.mirror.identity import EXPIRES_SOON_S, server_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from waystation.config import Settings
    from waystation.mirror.certificate import Certificate

_TRUST_ADVICE = (
    "Put who signed it among the authorities that this machine trusts (update-ca-certificates), or what is missing "
    "between into [mirror] tls_cert."
)


@dataclass(frozen=True, slots=True)
class CertificateSeen:
    """Certificate and key as the daemon would read them; all None where there are none."""

    certificate: Certificate | None = None
    trouble: CertificateError | None = None
    is_out_of_sight: bool = False
    """Whether its files are passed to the daemon and to nobody else."""
    refused_because: str | None = None
    """Why a client that trusts what this machine trusts would end the handshake."""


class MirrorCertificate:
    """Reads the pair as the daemon does, and shakes hands with it in memory as a client of this machine would."""

    name = "certificate"

    def __init__(self, settings: Settings, *, wall: Callable[[], float]) -> None:
        self._settings = settings
        self._wall = wall

    async def look(self) -> CertificateSeen:
        return await asyncio.to_thread(self._look)

    def judge(self, seen: CertificateSeen) -> Iterator[Finding]:
        origin = self._settings.origin
        secure_origin = origin.own_scheme == "https"
        if seen.trouble is not None:
            yield failure_of(self.name, seen.trouble)
            return
        if seen.is_out_of_sight:
            yield Finding(self.name, Level.OK, "its key is the daemon's alone: not looked at from here")
            return
        if seen.certificate is None:
            if secure_origin and self._settings.takeover.enabled:
                says = "jobs use the bucket's own https URL, and the mirror has no certificate"
                yield Finding(
                    self.name, Level.FAILURE, says, "Set [mirror] tls_cert and tls_key, and listen on https://."
                )
            return
        shown = seen.certificate
        if secure_origin and origin.own_host and not shown.covers(origin.own_host):
            says = f"it is for {', '.join(shown.names)}, and jobs call the bucket {origin.own_host}"
            yield Finding(
                self.name, Level.WARNING, says, "To take the bucket over, have one issued with that name too."
            )
        until = f"{datetime.fromtimestamp(shown.not_after, UTC):%Y-%m-%d %H:%M} UTC"
        left_s = shown.not_after - self._wall()
        if left_s < EXPIRES_SOON_S:
            says = f"it expires in {left_s / 86400:.0f} days, at {until}"
            yield Finding(self.name, Level.WARNING, says, "Have a new one issued, and reload the daemon.")
        if seen.refused_because:
            says = f"a client of this machine would refuse it: {seen.refused_because}"
            yield Finding(self.name, Level.WARNING, says, _TRUST_ADVICE)
        else:
            yield Finding(self.name, Level.OK, f"for {', '.join(shown.names)}, until {until}, trusted by this machine")

    # --- blocking, in a worker thread ----------------------------------------------------------

    def _look(self) -> CertificateSeen:
        files = self._settings.mirror.tls_files
        if files is None:
            return CertificateSeen()
        if is_out_of_sight(self._settings.mirror.tls_cert) or is_out_of_sight(self._settings.mirror.tls_key):
            return CertificateSeen(is_out_of_sight=True)
        try:
            certificate = read_certificate(*files, now=self._wall())
            server = server_context(*files)
        except CertificateError as error:
            return CertificateSeen(trouble=error)
        return CertificateSeen(certificate, refused_because=_refusal(server, self._settings.origin.ca_bundle))


def _refusal(server: ssl.SSLContext, ca_bundle: Path | None) -> str | None:
    """Shake hands in memory, names aside: what this machine trusts, and the origin's own bundle, decide."""
    client = ssl.create_default_context()
    client.check_hostname = False
    try:
        if ca_bundle is not None:
            client.load_verify_locations(ca_bundle)
        _shake_hands(server, client)
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except (ssl.SSLError, OSError) as error:
        return str(error)
    return None


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(down, up)
    answering = server.wrap_bio(up, down, server_side=True)
    for _ in range(10):  # more turns than any handshake has
        done = [_one_turn(side) for side in (asking, answering)]
        if all(done):
            return


def _one_turn(side: ssl.SSLObject) -> bool:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
