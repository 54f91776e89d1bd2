"""What a certificate and its key are: read whole, and refused in words where clients would refuse them.

`cryptography` is imported by those alone who have a certificate.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import pairwise
from typing import TYPE_CHECKING

from waystation.errors import CertificateError
from waystation.model import printable

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes


@dataclass(frozen=True, slots=True)
class Certificate:
    """What one that can be used says of itself."""

    names: tuple[str, ...]
    """DNS names and addresses."""
    issuer: str
    """Who signed the last one of the file."""
    not_before: float
    not_after: float
    """Of the chain's certificates, the earliest end; seconds since the epoch, as `not_before`."""

    def covers(self, host: str) -> bool:
        """Whether a client that calls the server so accepts it (RFC 6125 §6.4): ``*`` stands for one first label."""
        try:
            address = ip_address(host)
        except ValueError:
            wanted = host.lower().rstrip(".")
            any_first = f"*.{wanted.partition('.')[2]}"
            return any(name.lower() in (wanted, any_first) for name in self.names)
        return str(address) in self.names


def read_certificate(cert_file: Path, key_file: Path, *, now: float) -> Certificate:
    """Read both files, and see whether they can be used together at this time.

    Raises:
        CertificateError: they can't; nothing of the key is in its words.
    """
    chain = _read_chain(cert_file)
    key = _read_key(key_file)
    _check_fit(cert_file, chain, key_file, key)
    _check_order(cert_file, chain)
    for one in chain:
        _check_time(cert_file, one, now)
    _check_purpose(cert_file, chain[0])
    return Certificate(
        _names(cert_file, chain[0]),
        _called(chain[-1].issuer.rfc4514_string()),
        max(one.not_valid_before_utc.timestamp() for one in chain),
        min(one.not_valid_after_utc.timestamp() for one in chain),
    )


def _read_chain(file: Path) -> list[x509.Certificate]:
    from cryptography.x509 import load_pem_x509_certificates  # noqa: PLC0415 - only who has a certificate pays for it

    try:
        return load_pem_x509_certificates(_read(file, "tls_cert"))
    except ValueError as error:
        raise CertificateError(
            f"[mirror] tls_cert {file} holds no certificate that can be read",
            advice="It is to be PEM: the server's certificate first, then each one's issuer.",
        ) from error


def _read_key(file: Path) -> PrivateKeyTypes:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    data = _read(file, "tls_key")
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise CertificateError(
            f"everyone on this machine can read or replace [mirror] tls_key {file}: its mode is {mode:o}",
            advice=f"Run `chmod o= {file}`, and take a new key: this one is no secret any more.",
        )
    try:
        return load_pem_private_key(data, password=None)
    except TypeError as error:
        raise CertificateError(
            f"[mirror] tls_key {file} is encrypted, and there is nobody to ask for its password",
            advice="Decrypt it (`openssl pkey -in KEY -out NEW`) into a file that only the daemon can read.",
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError(
            f"[mirror] tls_key {file} holds no private key that can be read", advice="It is to be one key, in PEM."
        ) from error


def _read(file: Path, key: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CertificateError(
            f"[mirror] {key} {file} can't be read: {error.strerror}",
            advice=f"Correct [mirror] {key}, or let the daemon's user read it.",
        ) from error


def _check_fit(cert_file: Path, chain: list[x509.Certificate], key_file: Path, key: PrivateKeyTypes) -> None:
    public = _spelled(key.public_key())
    fitting = next((number for number, one in enumerate(chain) if _spelled(one.public_key()) == public), None)
    if fitting is None:
        raise CertificateError(
            f"[mirror] tls_key {key_file} does not fit tls_cert {cert_file}, which was issued for another key",
            advice="Replace both files together.",
        )
    if fitting:
        raise CertificateError(
            f"the server's own certificate is number {fitting + 1} in [mirror] tls_cert {cert_file}",
            advice="It is to be the first, and behind it each one's issuer.",
        )


def _spelled(key: PublicKeyTypes) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _check_order(file: Path, chain: list[x509.Certificate]) -> None:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415

    for number, (one, issuer) in enumerate(pairwise(chain), start=1):
        try:
            one.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise CertificateError(
                f"certificate {number + 1} of [mirror] tls_cert {file} ({_called(issuer.subject.rfc4514_string())})"
                f" did not issue number {number} ({_called(one.subject.rfc4514_string())}):"
                f" {_called(one.issuer.rfc4514_string())} did",
                advice="The server's certificate is to be the first, and behind it each one's issuer.",
            ) from error


def _check_time(file: Path, one: x509.Certificate, now: float) -> None:
    called = _called(one.subject.rfc4514_string())
    if one.not_valid_after_utc.timestamp() <= now:
        raise CertificateError(
            f"the certificate {called} of [mirror] tls_cert {file} expired at {one.not_valid_after_utc:%Y-%m-%d %H:%M}"
            " UTC",
            advice="Have a new one issued.",
        )
    if one.not_valid_before_utc.timestamp() > now:
        raise CertificateError(
            f"the certificate {called} of [mirror] tls_cert {file} is not valid before"
            f" {one.not_valid_before_utc:%Y-%m-%d %H:%M} UTC",
            advice="Check this machine's clock, or wait.",
        )


def _check_purpose(file: Path, one: x509.Certificate) -> None:
    from cryptography.x509 import ExtendedKeyUsage, ExtensionNotFound  # noqa: PLC0415
    from cryptography.x509.oid import ExtendedKeyUsageOID  # noqa: PLC0415

    try:
        purposes = set(one.extensions.get_extension_for_class(ExtendedKeyUsage).value)
    except ExtensionNotFound:
        return
    if not purposes & {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}:
        raise CertificateError(
            f"the certificate in [mirror] tls_cert {file} is not for servers",
            advice="Have one issued with the extended key usage serverAuth.",
        )


def _names(file: Path, one: x509.Certificate) -> tuple[str, ...]:
    from cryptography.x509 import DNSName, ExtensionNotFound, IPAddress, SubjectAlternativeName  # noqa: PLC0415

    try:
        names = one.extensions.get_extension_for_class(SubjectAlternativeName).value
    except ExtensionNotFound as error:
        raise CertificateError(
            f"the certificate in [mirror] tls_cert {file} has no names (subjectAltName), so every client refuses it",
            advice="Have one issued with the names by which clients call the mirror.",
        ) from error
    dns = [_called(name) for name in names.get_values_for_type(DNSName)]
    return (*dns, *map(str, names.get_values_for_type(IPAddress)))


def _called(name: str) -> str:
    """Show a name on one line, whatever is in it."""
    return printable(name) or "without a name"
