"""What was measured: for each quantity and each server, the values of all rounds."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Quantity:
    """Something that is measured; its title may name sizes in braces, as `words_of` knows them."""

    title: str
    unit: str
    digits: int = 2
    more_is_better: bool = False


class Results:
    """All values, in the order in which they came."""

    def __init__(self) -> None:
        self._values: dict[Quantity, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    def record(self, quantity: Quantity, who: str, value: float) -> None:
        self._values[quantity][who].append(value)

    def quantities(self) -> list[Quantity]:
        return list(self._values)

    def servers(self, quantity: Quantity) -> list[str]:
        return sorted(self._values.get(quantity, {}))

    def values(self, quantity: Quantity, who: str) -> list[float]:
        return list(self._values.get(quantity, {}).get(who, ()))

    def median(self, quantity: Quantity, who: str) -> float | None:
        """The middle value; None where nothing was measured."""
        values = self.values(quantity, who)
        return median(values) if values else None

    def best(self, quantity: Quantity, who: str) -> float | None:
        """The best round's value."""
        return (max if quantity.more_is_better else min)(self.values(quantity, who), default=None)
