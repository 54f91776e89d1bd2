"""Reads of botocore's own descriptions only what an origin needs: that spares the daemon some 8 MB for good.

botocore's S3 knows about a hundred calls with their whole documentation, and the endpoints of every AWS service.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.loaders import JSONFileLoader, Loader

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS = frozenset(
    {
        "HeadBucket",
        "HeadObject",
        "GetObject",
        "ListObjectsV2",
        "PutObject",
        "CreateMultipartUpload",
        "UploadPart",
        "CompleteMultipartUpload",
        "AbortMultipartUpload",
        "DeleteObject",  # for the scratch key of `waystation doctor --publish` alone
        "CreateSession",  # botocore's own, for directory buckets
    }
)
SERVICES = frozenset({"s3", "sts", "sso", "oidc"})  # the last three may give credentials


def slim_loader() -> Loader:
    """Make a loader for an aiobotocore session."""
    return Loader(file_loader=_SlimFiles())


class _SlimFiles(JSONFileLoader):  # type: ignore[misc]  # botocore is untyped
    """botocore's data files, without what is never used."""

    def load_file(self, file_path: str) -> Any:
        file = Path(file_path)
        if file.match("data/s3/*/service-2"):
            return _with_calls(_read(file, object_hook=_without_documentation), CALLS)
        if file.match("data/endpoints"):
            data = _read(file)
            for partition in data["partitions"]:
                services = partition["services"]
                partition["services"] = {name: services[name] for name in SERVICES & services.keys()}
            return data
        return super().load_file(file_path)


def _read(file: Path, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    packed = file.with_name(f"{file.name}.json.gz")
    text = gzip.decompress(packed.read_bytes()) if packed.exists() else packed.with_suffix("").read_bytes()
    return json.loads(text, object_hook=object_hook)


def _without_documentation(part: dict[str, Any]) -> dict[str, Any]:
    if isinstance(part.get("documentation"), str):
        part["documentation"] = ""  # botocore reads some of them without asking whether they are there
    return part


def _with_calls(model: dict[str, Any], calls: frozenset[str]) -> dict[str, Any]:
    """Keep some calls of a service model, and the shapes that they lead to."""
    operations = {name: each for name, each in model["operations"].items() if name in calls}
    kept: dict[str, Any] = {}
    waiting = [name for operation in operations.values() for name in _shapes_in(operation)]
    while waiting:
        name = waiting.pop()
        if name not in kept:
            kept[name] = model["shapes"][name]
            waiting += _shapes_in(kept[name])
    return {**model, "operations": operations, "shapes": kept}


def _shapes_in(part: Any) -> list[str]:
    """Every name that stands as ``"shape"`` anywhere in a part of the model."""
    if isinstance(part, dict):
        own = [part["shape"]] if isinstance(part.get("shape"), str) else []
        return own + [name for each in part.values() for name in _shapes_in(each)]
    if isinstance(part, list):
        return [name for each in part for name in _shapes_in(each)]
    return []
