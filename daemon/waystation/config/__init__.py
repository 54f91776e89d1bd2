"""One settings model, and the way in which it is read."""

from waystation.config.loading import ENV_PREFIX, load_settings
from waystation.config.places import ENV_CONFIG, PASSED_TO_THE_UNIT, default_config_path
from waystation.config.settings import (
    AdminSettings,
    CatalogSettings,
    LogLevel,
    MirrorSettings,
    OriginSettings,
    PrefetchSettings,
    Settings,
    StoreSettings,
    TakeoverSettings,
    TransferSettings,
    is_loopback,
)
from waystation.config.units import human_size, parse_duration, parse_size

__all__ = [
    "ENV_CONFIG",
    "ENV_PREFIX",
    "PASSED_TO_THE_UNIT",
    "AdminSettings",
    "CatalogSettings",
    "LogLevel",
    "MirrorSettings",
    "OriginSettings",
    "PrefetchSettings",
    "Settings",
    "StoreSettings",
    "TakeoverSettings",
    "TransferSettings",
    "default_config_path",
    "human_size",
    "is_loopback",
    "load_settings",
    "parse_duration",
    "parse_size",
]
