"""Sizes and durations as people write them."""

from __future__ import annotations

import re

_SIZE_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", start=1):
    _SIZE_UNITS[f"{_letter}b"] = 1000**_power
    _SIZE_UNITS[f"{_letter}ib"] = 1024**_power
_STEP, _UNITS = 1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_TOO_MUCH = 2.0**63
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size(value: object) -> int:
    """Read a size, ``"20GiB"`` or a whole number of bytes, as bytes.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        text = str(value)
    elif isinstance(value, str):
        text = value.strip()
    else:
        text = ""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text)
    if not match or match[2].lower() not in _SIZE_UNITS:
        raise ValueError('not a size: write it like "20GiB", "500MB" or a whole number of bytes')
    unit = _SIZE_UNITS[match[2].lower()]
    size_bytes = float(match[1]) * unit
    if size_bytes >= _TOO_MUCH:
        raise ValueError("so large a size means nothing")
    return int(size_bytes) if "." in match[1] else int(match[1]) * unit


def human_size(size_bytes: float) -> str:
    """Write a size, such as ``1.5 GiB``."""
    unit = 0
    while round(size_bytes, 1) >= _STEP and unit < len(_UNITS) - 1:
        size_bytes /= _STEP
        unit += 1
    return f"{size_bytes:.1f} {_UNITS[unit]}" if unit else f"{size_bytes:.0f} B"


def parse_duration(value: object) -> float:
    """Read a duration, ``"30s"`` or a number of seconds, as seconds.

    Raises:
        ValueError: it is neither.
    """
    text = str(value).strip() if isinstance(value, int | float | str) and not isinstance(value, bool) else ""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|[smhd]?)", text)
    if not match:
        raise ValueError('not a duration: write it like "30s", "500ms", "5m", "7d" or a number of seconds')
    seconds = float(match[1]) * _DURATION_UNITS[match[2] or "s"]
    if seconds >= _TOO_MUCH:
        raise ValueError("so long a duration means nothing")
    return seconds
