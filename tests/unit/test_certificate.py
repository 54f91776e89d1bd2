"""What a certificate and a key must be, each refusal in words; nothing listens here."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certificates import Pair, issue, write
from waystation.errors import CertificateError
from waystation.mirror.certificate import Certificate, read_certificate

if TYPE_CHECKING:
    from pathlib import Path

NAME = "my.local.domain"
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def pair(tmp_path: Path, authority: trustme.CA) -> Pair:
    return issue(authority, tmp_path, NAME)


def read(pair: Pair, now: float | None = None) -> Certificate:
    return read_certificate(pair.cert, pair.key, now=time.time() if now is None else now)


def refusal(pair: Pair, now: float | None = None) -> str:
    with pytest.raises(CertificateError) as caught:
        read(pair, now)
    assert caught.value.advice
    assert "PRIVATE KEY" not in str(caught.value)
    return str(caught.value)


def made_by_hand(pair: Pair, *extensions: x509.ExtensionType) -> None:
    """Write a certificate that signs itself, with these extensions alone."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "by hand")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW - timedelta(1)).not_valid_after(NOW + timedelta(9))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    pair.cert.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def test_a_good_pair_says_its_names_its_issuer_and_its_end(tmp_path: Path, authority: trustme.CA) -> None:
    pair = Pair(tmp_path / "cert", tmp_path / "key")
    until = datetime(2199, 1, 2, tzinfo=UTC)
    write(authority.issue_cert(NAME, "*.apps.internal", "192.0.2.7", "2001:db8::7", not_after=until), pair)
    shown = read(pair)
    assert set(shown.names) == {NAME, "*.apps.internal", "192.0.2.7", "2001:db8::7"}
    assert shown.not_after == until.timestamp()
    assert "trustme" in shown.issuer


@pytest.mark.parametrize(
    ("host", "covered"),
    [
        (NAME, True),
        ("MY.Local.Domain", True),
        ("my.local.domain.", True),
        ("other.local.domain", False),
        ("local.domain", False),
        ("one.apps.internal", True),
        ("two.one.apps.internal", False),
        ("apps.internal", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("2001:db8:0::7", True),
    ],
)
def test_a_name_is_covered_as_clients_see_it(host: str, covered: bool) -> None:
    shown = Certificate((NAME, "*.apps.internal", "192.0.2.7", "2001:db8::7"), "x", 0, 0)
    assert shown.covers(host) is covered


def test_a_key_of_another_certificate_does_not_fit(pair: Pair, authority: trustme.CA) -> None:
    authority.issue_cert(NAME).private_key_pem.write_to_path(str(pair.key))
    assert "does not fit" in refusal(pair)


def test_a_key_that_everyone_can_read_is_refused_and_one_of_the_group_is_not(pair: Pair) -> None:
    pair.key.chmod(0o640)
    read(pair)
    pair.key.chmod(0o644)
    assert "mode is 644" in refusal(pair)


def test_an_encrypted_key_is_refused_in_words(pair: Pair) -> None:
    key = load_pem_private_key(pair.key.read_bytes(), None)
    for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
        pair.key.write_bytes(key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret")))
        assert "is encrypted" in refusal(pair)


@pytest.mark.parametrize("which", ["cert", "key"])
@pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_what_is_no_certificate_or_no_key_is_refused(pair: Pair, which: str, content: bytes) -> None:
    file = pair.cert if which == "cert" else pair.key
    file.write_bytes(content)
    assert f"tls_{which}" in refusal(pair)


@pytest.mark.parametrize("which", ["cert", "key"])
def test_a_file_that_is_not_there_is_named(pair: Pair, which: str) -> None:
    file = pair.cert if which == "cert" else pair.key
    file.unlink()
    assert f"{file} can't be read: No such file" in refusal(pair)


def test_a_certificate_has_its_time(tmp_path: Path, authority: trustme.CA) -> None:
    pair = Pair(tmp_path / "cert", tmp_path / "key")
    write(authority.issue_cert(NAME, not_before=NOW, not_after=NOW + timedelta(days=9)), pair)
    read(pair, (NOW + timedelta(days=8)).timestamp())
    assert "expired at" in refusal(pair, (NOW + timedelta(days=9, seconds=1)).timestamp())
    assert "not valid before" in refusal(pair, (NOW - timedelta(days=1)).timestamp())


def test_the_chain_stands_in_order_from_the_server_s_own_to_its_issuers(tmp_path: Path, authority: trustme.CA) -> None:
    between = authority.create_child_ca()
    leaf = between.issue_cert(NAME)
    pair = Pair(tmp_path / "cert", tmp_path / "key")
    write(leaf, pair)
    own, issuer = (blob.bytes() for blob in leaf.cert_chain_pems)
    root, stranger = authority.cert_pem.bytes(), trustme.CA().cert_pem.bytes()
    for chain in ((own,), (own, issuer), (own, issuer, root)):
        pair.cert.write_bytes(b"".join(chain))
        read(pair)
    pair.cert.write_bytes(issuer + own)
    assert "own certificate is number 2" in refusal(pair)
    for chain in ((own, root), (own, root, issuer), (own, issuer, stranger)):
        pair.cert.write_bytes(b"".join(chain))
        assert "did not issue number" in refusal(pair)


def test_an_issuer_that_expires_first_ends_the_whole(tmp_path: Path, authority: trustme.CA) -> None:
    pair = Pair(tmp_path / "cert", tmp_path / "key")
    leaf = authority.issue_cert(NAME, not_after=datetime(9998, 1, 1, tzinfo=UTC))
    write(leaf, pair)
    pair.cert.write_bytes(pair.cert.read_bytes() + authority.cert_pem.bytes())
    root = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    assert read(pair).not_after == root.not_valid_after_utc.timestamp()


def test_a_certificate_without_names_or_not_for_servers_is_refused(pair: Pair) -> None:
    names = x509.SubjectAlternativeName([x509.DNSName(NAME)])
    made_by_hand(pair)
    assert "no names" in refusal(pair)
    made_by_hand(pair, names, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]))
    assert "not for servers" in refusal(pair)
    made_by_hand(pair, names)
    assert read(pair).names == (NAME,)


def test_who_has_no_certificate_imports_nothing_that_reads_one() -> None:
    script = "import sys, waystation.station; print('cryptography' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
