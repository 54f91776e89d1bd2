"""Runs nft(8), which alone touches the kernel's tables, and only ever ours."""

from __future__ import annotations

import asyncio
import json

from waystation.errors import NoCgroup, TakeoverError
from waystation.takeover.ruleset import FAMILY, TABLE, Standing, parse_listing

TIMEOUT_S = 10.0


class Nft:
    """One way to the program; it needs CAP_NET_ADMIN."""

    def __init__(self, program: str = "nft") -> None:
        self._program = program

    async def load(self, script: str) -> None:
        """Load a script in one transaction.

        Raises:
            NoCgroup: the matched cgroup does not exist; nothing changed.
            TakeoverError: nft is not there, or refuses; nothing changed.
        """
        code, _, complaint = await self._run(("-f", "-"), script)
        if code:
            raise _refused(complaint)

    async def standing(self) -> list[Standing] | None:
        """The rules of our table; None where it does not stand.

        Raises:
            TakeoverError: nft is not there, refuses, or shows rules that are none of ours.
        """
        code, listing, complaint = await self._run(("--json", "list", "table", FAMILY, TABLE))
        if code and "No such file or directory" in complaint:
            return None
        if code:
            raise _refused(complaint)
        try:
            return parse_listing(json.loads(listing))
        except ValueError as error:
            raise TakeoverError(
                f"the nftables table {FAMILY} {TABLE} holds what Waystation did not write: {error}",
                advice="Look at it with `nft list table inet waystation`; `waystation takeover off` removes it whole.",
            ) from error

    async def _run(self, arguments: tuple[str, ...], script: str = "") -> tuple[int, str, str]:
        try:
            process = await asyncio.create_subprocess_exec(
                self._program,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
            )
        except FileNotFoundError as error:
            raise TakeoverError(
                "the program nft is not there", advice="Install nftables (Debian: apt install nftables)."
            ) from error
        try:
            async with asyncio.timeout(TIMEOUT_S):
                output, complaint = await process.communicate(script.encode())
        except TimeoutError as error:
            process.kill()
            await process.wait()
            raise TakeoverError(f"nft did not end within {TIMEOUT_S:g} s") from error
        return process.returncode or 0, output.decode(errors="replace"), complaint.decode(errors="replace")


def _refused(complaint: str) -> TakeoverError:
    lines = [line.strip() for line in complaint.splitlines() if line.strip()]
    first = lines[0] if lines else "it gave no reason"
    if "cgroupv2 path fails" in complaint:
        return NoCgroup(
            "the matched cgroup does not exist now",
            advice="Start Nomad first, or name its cgroup in [takeover] match.",
        )
    if "Operation not permitted" in complaint:
        return TakeoverError(f"nft refuses: {first}", advice="Run this as root: it needs CAP_NET_ADMIN.")
    return TakeoverError(f"nft refuses: {first}")
