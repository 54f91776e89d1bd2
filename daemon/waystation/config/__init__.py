"""One settings model, and the way in which it is read."""

from waystation.config.loading import ENV_PREFIX, load_settings
from waystation.config.places import ENV_CONFIG, PASSED_TO_THE_UNIT, default_config_path, is_out_of_sight
from waystation.config.settings import (
    NO_LIST,
    WILDCARDS,
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
    has_wildcards,
    is_loopback,
)
from waystation.config.units import human_size, parse_duration, parse_size

__all__ = [
    "ENV_CONFIG",
    "ENV_PREFIX",
    "NO_LIST",
    "PASSED_TO_THE_UNIT",
    "WILDCARDS",
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
    "has_wildcards",
    "human_size",
    "is_loopback",
    "is_out_of_sight",
    "load_settings",
    "parse_duration",
    "parse_size",
]
