"""A build from beginning to end: choose, name, build, check, and only then put the executable where it was wanted."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING

from waystation.publish import ARCH_ALIASES, bundle_target, machine_arch
from waystation_builder.bundlers import Wishes, choose, named
from waystation_builder.checks import DEFAULT_SMOKE, Smoke, check_executable
from waystation_builder.errors import BuildError, NothingToBuild, NotReproducible, Unnamed
from waystation_builder.identity import NOTHING_SAID, app_name
from waystation_builder.product import find_product
from waystation_builder.record import Record, write_record
from waystation_builder.workshop import open_workshop

if TYPE_CHECKING:
    from collections.abc import Callable

    from waystation_builder.bundlers import Bundler
    from waystation_builder.identity import Identity

_ADVICE = "Let the project's own file say so, or give --{}."


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be built, and how."""

    source: Path
    output: Path
    bundler: str = "auto"
    wishes: Wishes = field(default_factory=Wishes)
    identity: Identity = NOTHING_SAID
    """What goes before what the project says of itself."""
    arch: str | None = None
    """This machine's where None."""
    variables: tuple[str, ...] = ()
    """NAME or NAME=VALUE, for the build alone."""
    smoke: Smoke = DEFAULT_SMOKE
    twice: bool = False
    """Build again, and compare."""
    echo: bool = False


@dataclass(frozen=True, slots=True)
class Built:
    """An executable in its place, and its record."""

    file: Path
    record: Record


def build(order: Order, *, tell: Callable[[str], None]) -> Built:
    """Build, check and deliver; `tell` hears what is under way.

    Raises:
        BuildError: there is nothing that could be published; nothing was delivered.
        BadTarget: the name, version or architecture can't be published under.
    """
    if not order.source.is_dir():
        raise NothingToBuild(f"{order.source} is no folder")
    if order.bundler == "auto":
        bundler, why = choose(order.source, order.wishes)
    else:
        bundler, why = named(order.bundler, order.wishes), "--bundler says so"
    tell(f"bundler {bundler.name}: {why}")
    try:
        return _build(order, bundler, why, tell)
    except OSError as error:
        raise BuildError(
            f"{order.source} can't be built: {error}", advice="Check permissions and free space."
        ) from error


def _build(order: Order, bundler: Bundler, why: str, tell: Callable[[str], None]) -> Built:
    order.output.mkdir(parents=True, exist_ok=True)
    arch = order.arch or machine_arch()
    arch = ARCH_ALIASES.get(arch, arch)
    with tempfile.TemporaryDirectory(prefix=".waystation-builder-", dir=order.output) as folder:
        app, version, product = _build_once(order, bundler, arch, Path(folder), is_second=False)
        if order.twice:
            tell("building it again, to compare")
            _compare(product, _build_once(order, bundler, arch, Path(folder, "again"), is_second=True)[2])
        tell(f"checking {product.name}")
        findings = check_executable(product, arch=arch, smoke=order.smoke)
        with product.open("rb") as opened:
            digest = file_digest(opened, "sha256").hexdigest()
        record = Record(
            app=app,
            version=version,
            arch=arch,
            sha256=digest,
            size_bytes=product.stat().st_size,
            bundler=bundler.name,
            why=why,
            needs=findings.needs,
            smoke=findings.smoke,
        )
        file = order.output / product.name
        product.replace(file)
        write_record(file, record)
    return Built(file, record)


def _build_once(order: Order, bundler: Bundler, arch: str, to: Path, *, is_second: bool) -> tuple[str, str, Path]:
    """Build in a workshop of its own, and take the executable out of it; return app, version and the file."""
    to.mkdir(exist_ok=True)
    with open_workshop(
        order.source, without=order.output, asked_for=order.variables, is_second=is_second, echo=order.echo
    ) as workshop:
        identity = order.identity
        if identity.name is None or identity.version is None:
            identity = identity.over(bundler.identify(workshop))
        app, version = _complete(identity)
        file = to / bundle_target(app, version, arch).rpartition("/")[2]
        bundler.build(workshop, app, version)
        shutil.copyfile(find_product(workshop.out, wanted=order.wishes.executable), file)
        file.chmod(0o755)
    return app, version, file


def _complete(identity: Identity) -> tuple[str, str]:
    """Take name and version as a target has them.

    Raises:
        Unnamed: one of them is not known.
    """
    if identity.name is None:
        raise Unnamed("the project does not say its name", advice=_ADVICE.format("app"))
    if identity.version is None:
        raise Unnamed("the project does not say its version, and no git tag does", advice=_ADVICE.format("version"))
    return app_name(identity.name), identity.version


def _compare(first: Path, second: Path) -> None:
    with first.open("rb") as one, second.open("rb") as other:
        digests = [file_digest(file, "sha256").hexdigest() for file in (one, other)]
    if digests[0] != digests[1]:
        raise NotReproducible(f"built twice, the bytes differ: sha256 {digests[0]} and {digests[1]}")
