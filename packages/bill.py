"""What the packages bundle: a CycloneDX bill of materials, and the licences' own texts."""

from __future__ import annotations

import re
import tomllib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.factory.license import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import LicenseAcknowledgement
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.utils import canonicalize_name, parse_wheel_filename

from packages.tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.metadata import Distribution, PackageMetadata
    from pathlib import Path

    from cyclonedx.model.license import License

CLASSIFIERS = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: BSD License": "BSD-3-Clause",
    "License :: OSI Approved :: ISC License (ISCL)": "ISC",
    "License :: OSI Approved :: MIT License": "MIT",
}
"""For metadata from before licence expressions (PEP 639)."""
TEXTS = ("LICENSE", "LICENCE", "COPYING", "NOTICE")


def materials(bundled: Iterable[Distribution], version: str, epoch_s: int) -> str:
    """The bill of materials as CycloneDX 1.6 JSON, checked against its schema; the same bytes for the same parts.

    Raises:
        ValueError: a part is not in uv.lock, or the bill is not as the schema wants it.
    """
    locked = {each["name"]: each for each in tomllib.loads((ROOT / "uv.lock").read_text())["package"]}
    ours = Component(name="waystation", version=version, type=ComponentType.APPLICATION, bom_ref="waystation")
    parts = {canonicalize_name(each.metadata["Name"]): each for each in bundled}
    components = {name: _component(each, locked) for name, each in parts.items() if name != "waystation"}
    bom = Bom(components=components.values())
    bom.metadata.component = ours
    bom.metadata.timestamp = datetime.fromtimestamp(epoch_s, UTC)
    refs = sorted(str(each.bom_ref) for each in components.values())
    bom.serial_number = uuid5(NAMESPACE_URL, " ".join((f"waystation {version} {epoch_s}", *refs)))
    for name, component in [("waystation", ours), *components.items()]:
        needed = {each["name"] for each in locked[name].get("dependencies", [])}
        bom.register_dependency(component, [components[each] for each in sorted(needed & set(components))])
    written = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2)
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(written)
    if wrong:
        raise ValueError(f"the bill of materials is not CycloneDX: {wrong}")
    return written + "\n"


def licence_texts(bundled: Iterable[Distribution]) -> str:
    """Every licence and notice that the parts came with, behind the names of the parts.

    Raises:
        ValueError: a part came without.
    """
    chapters = []
    for each in bundled:
        name, version = each.metadata["Name"], each.version
        if name == "waystation":
            continue
        texts = [path for path in _files(each) if path.name.upper().startswith(TEXTS)]
        if not texts:
            raise ValueError(f"{name} {version} came without the text of its licence")
        heading = f"{name} {version}: {licence_of(each)}"
        bodies = [path.read_text(errors="replace").strip() for path in texts]
        chapters.append("\n\n".join((f"{'=' * 80}\n{heading}\n{'=' * 80}", *bodies)))
    return "\n\n\n".join(chapters) + "\n"


def licence_of(distribution: Distribution) -> str:
    """Its licence as an SPDX expression, by its own metadata.

    Raises:
        ValueError: the metadata say none.
    """
    metadata = distribution.metadata
    classified = [CLASSIFIERS[each] for each in metadata.get_all("Classifier", []) if each in CLASSIFIERS]
    said = _field(metadata, "License-Expression") or " OR ".join(classified) or _field(metadata, "License")
    if not said:
        raise ValueError(f"{metadata['Name']} {distribution.version} does not say what its licence is")
    return str(said)


def _component(distribution: Distribution, locked: dict[str, Any]) -> Component:
    name, version = canonicalize_name(distribution.metadata["Name"]), distribution.version
    if name not in locked or locked[name]["version"] != version:
        raise ValueError(f"{name} {version} is not what uv.lock says")
    wheel = _installed_wheel(distribution, locked[name]["wheels"])
    digest = HashType(alg=HashAlgorithm.SHA_256, content=wheel["hash"].removeprefix("sha256:"))
    licence: License | Any = LicenseFactory().make_from_string(
        licence_of(distribution), license_acknowledgement=LicenseAcknowledgement.DECLARED
    )
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{name}@{version}",
        purl=PackageURL("pypi", None, name, version),
        licenses=[licence],
        hashes=[digest],
        description=_field(distribution.metadata, "Summary"),
        external_references=[
            ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(wheel["url"]), hashes=[digest])
        ],
    )


def _installed_wheel(distribution: Distribution, wheels: list[dict[str, str]]) -> dict[str, str]:
    """Which of the locked files this was installed from: the one with the tags that the installed metadata name."""
    tags = set(re.findall(r"^Tag: (\S+)", distribution.read_text("WHEEL") or "", flags=re.MULTILINE))
    for wheel in wheels:
        _, _, _, named = parse_wheel_filename(wheel["url"].rpartition("/")[2])
        if tags & {str(tag) for tag in named}:
            return wheel
    raise ValueError(f"{distribution.metadata['Name']} was installed from no file that uv.lock knows")


def _field(metadata: PackageMetadata, name: str) -> str | None:
    return next(iter(metadata.get_all(name, [])), None)


def _files(distribution: Distribution) -> list[Path]:
    folder: Path = distribution._path  # type: ignore[attr-defined]  # noqa: SLF001 - its RECORD is gone
    return sorted(path for path in folder.rglob("*") if path.is_file())
