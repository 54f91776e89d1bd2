"""What the store holds, as tables: a row a blob, or a row an app."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from waystation.cli.output import human_age
from waystation.config import human_size
from waystation.model import short_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Record = dict[str, Any]

BLOB_HEADINGS = ("target", "size", "used", "verified", "pinned by", "state", "sha256")
APP_HEADINGS = ("app", "blobs", "size", "pinned", "last used")
_NO_APP = "-"


def in_order(blobs: Iterable[Record]) -> list[Record]:
    """Sort by the names that people know, those without one last."""
    return sorted(blobs, key=lambda blob: (not blob["targets"], blob["targets"], blob["sha256"]))


def blob_rows(blobs: Iterable[Record], *, now: float, whole_digests: bool) -> list[Sequence[str]]:
    """Lay out blobs; a digest is cut where it is only looked at."""
    return [
        (
            ", ".join(blob["targets"]) or _NO_APP,
            human_size(blob["size_bytes"]) if "size_bytes" in blob else "-",
            human_age(blob["used"], now) if "used" in blob else "-",
            human_age(blob["verified"], now) if "verified" in blob else "-",
            ", ".join(blob["pinned_by"]) or "-",
            blob["state"],
            blob["sha256"] if whole_digests else short_digest(blob["sha256"]),
        )
        for blob in blobs
    ]


def by_app(blobs: Iterable[Record]) -> list[Record]:
    """Add up what is stored of each app, the largest first; a blob of several names counts for the first one."""
    apps: defaultdict[str, list[Record]] = defaultdict(list)
    for blob in blobs:
        if blob["state"] != "absent":
            apps[_app_of(blob)].append(blob)
    summed = [
        {
            "app": app,
            "blobs": len(own),
            "size_bytes": sum(blob["size_bytes"] for blob in own),
            "pinned_bytes": sum(blob["size_bytes"] for blob in own if blob["pinned_by"]),
            "used": max(blob["used"] for blob in own),
        }
        for app, own in apps.items()
    ]
    return sorted(summed, key=lambda app: (-app["size_bytes"], app["app"]))


def app_rows(apps: Iterable[Record], *, now: float) -> list[Sequence[str]]:
    """Lay out `by_app`."""
    return [
        (
            app["app"],
            str(app["blobs"]),
            human_size(app["size_bytes"]),
            human_size(app["pinned_bytes"]),
            human_age(app["used"], now),
        )
        for app in apps
    ]


def _app_of(blob: Record) -> str:
    app, slash, _ = (blob["targets"] or [""])[0].partition("/")
    return app if slash else _NO_APP
