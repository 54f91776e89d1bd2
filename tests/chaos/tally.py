"""What the rounds counted, and the table of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

MB = 1000 * 1000


@dataclass
class Tally:
    """Counts of one run."""

    rounds: int = 0
    kills_while_starting: int = 0
    power_cuts: int = 0
    """Kills that looked like the machine's own end; each cost one blob a bit."""
    asked: Counter[str] = field(default_factory=Counter)
    """What the load did, by kind, and came to its end."""
    cut: int = 0
    """Answers that the kill cut off; what came of them was right."""
    refused: Counter[str] = field(default_factory=Counter)
    """Answers without bytes, by code and reason."""
    served_bytes: int = 0
    scrubbed_bytes: int = 0
    """Read again by daemons of their own accord, as far as they could be asked before they were killed."""
    checked_blobs: int = 0
    """Hashed on the disk of a daemon that was just killed."""
    checked_bytes: int = 0
    commits: int = 0
    """Reported as stored before a kill, and looked for behind it."""
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """Errors in a daemon's log."""
    fallen: list[str] = field(default_factory=list)
    """Daemons that ended before they were killed."""

    @property
    def faults(self) -> tuple[str, ...]:
        return (*self.wrong, *self.lost, *self.leftovers, *self.broken, *self.fallen)

    def table(self, *, seconds: float, seed: int) -> str:
        """Write it for a person."""
        refused = ", ".join(f"{count} with {why}" for why, count in sorted(self.refused.items())) or "none"
        rows = [
            ("rounds, each ended by kill -9", f"{self.rounds}, {self.kills_while_starting} of them while starting"),
            ("of them looked like power cuts", f"{self.power_cuts}, each with a bit flipped"),
            *((what, f"{count}") for what, count in sorted(self.asked.items())),
            ("answers cut off by a kill", f"{self.cut}"),
            ("refused", refused),
            ("bytes served and compared", f"{self.served_bytes / MB:.0f} MB"),
            ("bytes scrubbed meanwhile", f"{self.scrubbed_bytes / MB:.0f} MB"),
            ("blobs hashed behind kills", f"{self.checked_blobs}, {self.checked_bytes / MB:.0f} MB"),
            ("reported commits looked for", f"{self.commits}"),
            ("wrong bytes", f"{len(self.wrong)}"),
            ("lost commits", f"{len(self.lost)}"),
            ("leftovers", f"{len(self.leftovers)}"),
            ("errors in a log", f"{len(self.broken)}"),
            ("daemons that ended by themselves", f"{len(self.fallen)}"),
        ]
        width = max(len(name) for name, _ in rows)
        lines = [f"{name:<{width}}  {value}" for name, value in rows]
        return "\n".join([*lines, *(f"  {fault}" for fault in self.faults), f"{seconds:.0f} s, seed {seed}"])
