"""What an S3 client needs from this machine: the service's model, whom to trust, and the keys; read from disk.

Everything here blocks: it runs in a worker thread.
"""

from __future__ import annotations

import configparser
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiobotocore.session import AioSession

from waystation.config import PASSED_TO_THE_UNIT
from waystation.errors import NoCredentials
from waystation.origin.s3_model import slim_loader
from waystation.origin.s3_session import session_that_trusts
from waystation.origin.tls import trust

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from aiobotocore.httpsession import AIOHTTPSession

    from waystation.config import OriginSettings

PASSED_ADVICE = (
    "waystation.service has them while it runs (LoadCredential=), for itself and for root; else name the file itself:"
    " --set origin.credentials_file=/etc/waystation/credentials"
)


@dataclass(frozen=True, slots=True)
class Access:
    """What a client is made of; without keys it looks for them along the standard AWS chain."""

    session: AioSession
    http_session: type[AIOHTTPSession]
    tls: ssl.SSLContext | None
    keys: dict[str, str]


def prepare(settings: OriginSettings) -> Access:
    """Read it all.

    Raises:
        NoCredentials: the credentials file can't be used.
        Unreachable: the CA bundle can't be used.
    """
    session, loader = AioSession(), slim_loader()
    session.register_component("data_loader", loader)
    loader.load_service_model("s3", "service-2")
    loader.load_service_model("s3", "endpoint-rule-set-1")
    secure = settings.endpoint_url is None or urlsplit(settings.endpoint_url).scheme == "https"
    tls = trust(settings.ca_bundle) if secure else None
    return Access(
        session=session,
        http_session=session_that_trusts(tls),
        tls=tls,
        keys=_read_keys(file) if (file := settings.credentials_path) else {},
    )


def _read_keys(file: Path) -> dict[str, str]:
    """Read an AWS shared-credentials file, the profile of AWS_PROFILE or ``default``; no message shows its content."""
    advice = (
        PASSED_ADVICE
        if file.parent == PASSED_TO_THE_UNIT
        else "Correct [origin] credentials_file: an AWS credentials file, readable by the daemon's user."
    )
    profile = os.environ.get("AWS_PROFILE") or "default"
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(file.read_text(encoding="utf-8"))
        return {
            "aws_access_key_id": parser.get(profile, "aws_access_key_id"),
            "aws_secret_access_key": parser.get(profile, "aws_secret_access_key"),
            **(
                {"aws_session_token": token} if (token := parser.get(profile, "aws_session_token", fallback="")) else {}
            ),
        }
    except OSError as error:
        raise NoCredentials(f"credentials_file {file} can't be read: {error.strerror}", advice=advice) from error
    except configparser.NoSectionError:
        raise NoCredentials(f"credentials_file {file} has no profile [{profile}]", advice=advice) from None
    except configparser.NoOptionError as error:
        raise NoCredentials(f"credentials_file {file}: [{profile}] has no {error.option}", advice=advice) from None
    except (configparser.Error, UnicodeDecodeError):
        raise NoCredentials(f"credentials_file {file} is not an AWS credentials file", advice=advice) from None
