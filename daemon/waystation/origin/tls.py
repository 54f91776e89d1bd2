"""Whom to trust where the origin speaks https."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from waystation.errors import Unreachable

if TYPE_CHECKING:
    from pathlib import Path

TLS_ADVICE = "Check [origin] ca_bundle and the name in the origin's URL against the origin's certificate."


def trust(ca_bundle: Path | None) -> ssl.SSLContext:
    """Trust the bundle alone, or without one what the system trusts; reads files.

    Raises:
        Unreachable: the CA bundle can't be used.
    """
    try:
        return ssl.create_default_context(cafile=str(ca_bundle) if ca_bundle else None)
    except OSError as error:
        why = "it holds no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise Unreachable(
            f"ca_bundle {ca_bundle} can't be used: {why}",
            advice="Correct [origin] ca_bundle: a file of certificates in PEM.",
        ) from error
