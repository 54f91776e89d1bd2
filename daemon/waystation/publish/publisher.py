"""The publisher: a file becomes a target that never changes, and objects that others uploaded become targets too."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from waystation.errors import AlreadyExists, BadTarget, Conflict, Missing, Overwritten, SourceChanged
from waystation.model import ARCH_ALIASES, published_target
from waystation.publish.adoption import adopt_objects
from waystation.publish.announcement import announce, missing_parts
from waystation.publish.fingerprint import fingerprint_file, fingerprint_object, silent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from waystation.model import Digest, TargetPath
    from waystation.origin.interface import ObjectInfo, Origin, OriginWriter
    from waystation.publish.adoption import Adopted
    from waystation.publish.fingerprint import Fingerprint, Progress

_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]*")
_ARCH = re.compile(r"[a-z0-9_]+")


@dataclass(frozen=True, slots=True)
class Published:
    """What a publish left in the origin."""

    target: TargetPath
    digest: Digest
    size_bytes: int
    already: bool
    """The same bytes were there, whole and announced: nothing was written."""


def machine_arch() -> str:
    """This machine's architecture, in the kernel's words."""
    machine = platform.machine().lower()
    return ARCH_ALIASES.get(machine, machine)


def bundle_target(app: str, version: str, arch: str) -> TargetPath:
    """Name a bundle, ``<app>/<app>-<version>-<arch>``; Go's words for an architecture become the kernel's.

    Raises:
        BadTarget: a part is outside its alphabet.
    """
    arch = ARCH_ALIASES.get(arch, arch)
    if not _VERSION.fullmatch(version):
        raise BadTarget(f"'{_shown(version)}' can't be a version: letters, digits and ._+~-, such as 0.1.0")
    if not _ARCH.fullmatch(arch):
        raise BadTarget(f"'{_shown(arch)}' can't be an architecture: lower-case letters, digits and _, such as x86_64")
    return published_target(app, f"{app}-{version}-{arch}")


class Publisher:
    """Writes to an origin what its readers can trust; everything it does can be done again."""

    def __init__(self, origin: Origin, writer: OriginWriter) -> None:
        self._origin = origin
        self._writer = writer

    async def publish(
        self,
        file: Path,
        *,
        app: str,
        version: str,
        arch: str | None = None,
        needs: tuple[str, ...] = (),
        digest: Digest | None = None,
        progress: Progress = silent,
    ) -> Published:
        """Hash a file, create its object, then announce it; run again, it finishes what died.

        `needs`: what it needs of the machine that runs it; kept where it is published for the first time.
        `digest`: what the file must be, where somebody has looked at it before.

        Raises:
            BadTarget, BadBundle: the name or the file can't be published.
            Conflict: other bytes are published, or announced, under this name.
            Overwritten: somebody else published under this name at the same time.
            SourceChanged: the file changed meanwhile; nothing was announced.
            OriginError: the origin refuses or is away.
        """
        target = bundle_target(app, version, machine_arch() if arch is None else arch)
        fingerprint = replace(await fingerprint_file(file, progress), needs=needs)
        if digest not in (None, fingerprint.digest):
            raise SourceChanged(f"{file} has changed since it was checked: its sha256 was {digest}")
        await missing_parts(self._origin, target, fingerprint)  # a conflict shows before anything is uploaded
        etag, created = await self._create(target, file, fingerprint, progress)
        if created:  # looked at before it is announced, too: no longer than needed may the two contradict each other
            await self._read_back(target, etag, fingerprint, progress)
        try:
            announced = await announce(self._origin, self._writer, target, fingerprint)
        except Conflict as conflict:
            if not created or isinstance(conflict, Overwritten):
                raise
            raise Overwritten(f"{conflict}, although this file was created under the name just now") from conflict
        if created or announced:
            await self._read_back(target, etag, fingerprint, progress)
        return Published(target, fingerprint.digest, fingerprint.size_bytes, already=not created and not announced)

    async def adopt(
        self,
        prefix: str = "",
        *,
        report: Callable[[Adopted], None] = lambda _: None,
        progress: Progress = silent,
    ) -> list[Adopted]:
        """Announce the objects below a prefix that others uploaded; `report` hears of each as it is done.

        Raises:
            OriginError: the origin can't list, or refuses to be written to.
        """
        return await adopt_objects(self._origin, self._writer, prefix, report=report, progress=progress)

    async def _create(
        self, target: TargetPath, file: Path, fingerprint: Fingerprint, progress: Progress
    ) -> tuple[str, bool]:
        """Have the object there with our bytes; return its ETag, and whether we created it."""
        try:
            present = await self._origin.head(target)
        except Missing:
            await self._look_above(target)
            what = f"uploading {file.name}"
            progress(what, 0, fingerprint.size_bytes)
            try:
                etag = await self._writer.create(
                    target,
                    file,
                    sha256=fingerprint.digest,
                    progress=lambda done_bytes: progress(what, done_bytes, fingerprint.size_bytes),
                )
            except AlreadyExists:
                present = await self._holder(target)
            else:
                return etag, True
        await self._confirm(present, fingerprint, progress)
        return present.etag, False

    async def _read_back(self, target: TargetPath, etag: str, fingerprint: Fingerprint, progress: Progress) -> None:
        """Make sure that the object still is that revision, or another one of our bytes.

        Of two who publish other bytes at once, where the origin lets both write, none may take it for done: each
        writes its object before it looks for an announcement, so whoever is overwritten sees it here at the latest.
        """
        try:
            present = await self._origin.head(target)
            if present.etag != etag:
                await self._confirm(present, fingerprint, progress)
        except (Missing, Conflict) as error:
            raise Overwritten(f"{target} was written, but that is not what is there any more: {error}") from error

    async def _look_above(self, target: TargetPath) -> None:
        """Refuse a name below an object: a folder can't hold both, and MinIO leaves it out of every listing."""
        app = target.partition("/")[0]
        try:
            await self._origin.head(app)
        except Missing:
            return
        raise Conflict(
            f"the origin has an object '{app}', and what is published below an object's name is not listed everywhere",
            advice="Publish under another app, or remove that object from the origin.",
        )

    async def _holder(self, target: TargetPath) -> ObjectInfo:
        """Describe what took the name before us."""
        try:
            return await self._origin.head(target)
        except Missing as error:
            raise Conflict(
                f"{target} is taken by something that is no object, such as a folder",
                advice="Remove it from the origin, or publish under a new version.",
            ) from error

    async def _confirm(self, present: ObjectInfo, fingerprint: Fingerprint, progress: Progress) -> None:
        """Make sure that the object that is there has our bytes: by its record, else by reading it."""
        if present.size_bytes != fingerprint.size_bytes:
            raise Conflict(
                f"{present.key} is there already: it has {present.size_bytes} bytes, this file {fingerprint.size_bytes}"
            )
        digest = present.sha256 or (await fingerprint_object(self._origin, present, progress)).digest
        if digest != fingerprint.digest:
            raise Conflict(f"{present.key} is there already: its sha256 is {digest}, this file's {fingerprint.digest}")


def _shown(text: str) -> str:
    return text[:80].encode("unicode_escape").decode("ascii")
