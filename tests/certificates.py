"""Certificates of a test authority, in files, and the client's side of TLS that trusts it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from secrecy import made_up

if TYPE_CHECKING:
    from pathlib import Path

    import trustme


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with its chain, and its key, as `[mirror]` names them."""

    cert: Path
    key: Path

    @property
    def settings(self) -> dict[str, str]:
        return {"tls_cert": str(self.cert), "tls_key": str(self.key)}


def issue(authority: trustme.CA, folder: Path, *names: str, called: str = "mirror") -> Pair:
    """Have a certificate issued for these names and addresses."""
    pair = Pair(folder / f"{called}.pem", folder / f"{called}-key.pem")
    write(authority.issue_cert(*names), pair)
    return pair


def write(leaf: trustme.LeafCert, pair: Pair) -> None:
    """Put a certificate and its key into these files."""
    pair.cert.parent.mkdir(parents=True, exist_ok=True)
    pair.cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    pair.key.touch(mode=0o600)
    leaf.private_key_pem.write_to_path(str(pair.key))
    made_up(pair.key.read_text().splitlines()[1])


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """Make a client's context that trusts this authority alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    return context
