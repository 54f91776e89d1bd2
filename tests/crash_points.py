"""Runs an operation with a fault at its file call 0, 1, 2, … until no call is left that it can come to."""

from __future__ import annotations

import random
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from crash_disk import CrashDisk, Fault, PowerCut

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Literal

RANDOM_CUTS = 3
"""How many random parts of what was not synced are tried at each call."""


class Scene(Protocol):
    """One operation on one disk, and what must hold whatever becomes of it."""

    async def prepare(self) -> None:
        """Come to where the operation begins, without faults."""
        ...

    async def act(self) -> None:
        """Do it, and take note of what it reports; errors that it may raise are taken note of too."""
        ...

    async def go_on(self) -> None:
        """After a fault that did not end the process: what was reported holds, and everything works again."""
        ...

    async def leave(self) -> None:
        """End what runs in this process, also where its disk is gone."""
        ...

    async def check(self, root: Path, *, same_boot: bool) -> None:
        """Start again on what was left in `root`: what was reported is there, what is there is right."""
        ...


async def at_every_call(folder: Path, scene_on: Callable[[CrashDisk], Scene], fault: Fault) -> int:
    """Let the fault come to every call in turn; return to how many it came."""
    at = 0
    while await at_one_call(folder / f"{at}", scene_on, fault, at):
        at += 1
    return at


async def at_one_call(folder: Path, scene_on: Callable[[CrashDisk], Scene], fault: Fault, at: int) -> bool:
    """Let the fault come to one call; False where there is none with this number."""
    root = folder / "disk"
    root.mkdir(parents=True)
    disk = CrashDisk(root)
    scene = scene_on(disk)
    try:
        await scene.prepare()
        disk.arm(fault, at)
        try:
            with suppress(PowerCut):
                await scene.act()
            struck = disk.struck is not None
            if fault is not Fault.POWER:
                disk.disarm()
                await scene.go_on()
        finally:
            await scene.leave()
        if fault is not Fault.POWER:
            assert not disk.open_files, "descriptors are left open"
        disk.end_process()
        for name, keep in _survivals(fault, at):
            survivor = folder / name
            disk.survive(survivor, keep=keep)
            try:
                await scene.check(survivor, same_boot=keep == "all")
            except BaseException as error:
                error.add_note(f"left: {name}")
                raise
            shutil.rmtree(survivor)
    except BaseException as error:
        error.add_note(f"{fault.name} at call {at}: {disk.struck}; the calls before it: {', '.join(disk.calls[:-1])}")
        raise
    shutil.rmtree(folder)
    return struck


def _survivals(fault: Fault, at: int) -> list[tuple[str, Literal["all", "synced"] | random.Random]]:
    """After a fault that the process outlived, what was synced tells whether what it reported since then lasts."""
    if fault is not Fault.POWER:
        return [("synced", "synced")]
    parts = [(f"part {number}", random.Random(1000 * at + number)) for number in range(RANDOM_CUTS)]
    return [("all", "all"), ("synced", "synced"), *parts]
