"""The way into the origin: publish what was built, adopt what others uploaded, print the stanza that uses it.

The builder, a distribution of its own, imports from here and from nowhere else in Waystation.
"""

from waystation.config import Settings, human_size, load_settings
from waystation.errors import BadTarget, ConfigError, WaystationError
from waystation.model import ARCH_ALIASES, Digest
from waystation.publish.adoption import Adopted
from waystation.publish.fingerprint import Progress
from waystation.publish.opening import open_publisher, open_writer
from waystation.publish.publisher import Published, Publisher, bundle_target, machine_arch
from waystation.publish.stanza import artifact_stanza, mirror_base
from waystation.telemetry.logs import configure_logs

__all__ = [
    "ARCH_ALIASES",
    "Adopted",
    "BadTarget",
    "ConfigError",
    "Digest",
    "Progress",
    "Published",
    "Publisher",
    "Settings",
    "WaystationError",
    "artifact_stanza",
    "bundle_target",
    "configure_logs",
    "human_size",
    "load_settings",
    "machine_arch",
    "mirror_base",
    "open_publisher",
    "open_writer",
]
