"""The redirect of the origin's address: does it stand, and does it lead where it should now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from waystation.doctor.finding import Finding, Level
from waystation.takeover.comparison import in_words, look_at_takeover
from waystation.takeover.nft import Nft

if TYPE_CHECKING:
    from collections.abc import Iterator

    from waystation.config import Settings
    from waystation.doctor.daemon import DaemonHere
    from waystation.takeover.comparison import TakeoverSeen

_MAKE_ANEW = "Run `waystation takeover on`, which makes it anew."
_GIVE_BACK = "Run `waystation takeover off`, or start the daemon."


class Takeover:
    """Compares what stands with what would be made now."""

    name = "takeover"

    def __init__(self, settings: Settings, here: DaemonHere) -> None:
        self._settings = settings
        self._here = here

    async def look(self) -> TakeoverSeen:
        return await look_at_takeover(self._settings, self._here.answering, Nft())

    def judge(self, seen: TakeoverSeen) -> Iterator[Finding]:
        enabled = self._settings.takeover.enabled
        if seen.unseen_because:
            level = Level.WARNING if enabled else Level.OK
            advice = "Run the doctor as root, with nftables installed." if enabled else ""
            yield Finding(self.name, level, f"not looked at: {seen.unseen_because}", advice)
        elif seen.rules is None:
            if enabled and seen.answered:
                says = "[takeover] enabled is set, and the bucket's address is not taken over"
                yield Finding(
                    self.name, Level.WARNING, says, "Run `waystation takeover on`: it says what is in the way."
                )
            else:
                yield Finding(self.name, Level.OK, "nothing is taken over")
        elif not seen.answered:
            says = f"{in_words(seen.rules)}, and no daemon answers there: jobs can't fetch"
            yield Finding(self.name, Level.FAILURE, says, _GIVE_BACK)
        elif seen.wrong:
            for wrong in seen.wrong:
                yield Finding(self.name, Level.FAILURE, wrong, _MAKE_ANEW)
        else:
            count = sum(rule.connections for rule in seen.rules)
            yield Finding(self.name, Level.OK, f"{in_words(seen.rules)}; {count} connections so far")
