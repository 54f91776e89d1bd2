"""Which of the published targets this machine wants: the newest versions that it can run. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from fnmatch import translate
from typing import TYPE_CHECKING

from waystation.catalog.listing import literal_prefix
from waystation.model import Priority
from waystation.prefetch.versions import parse_bundle
from waystation.wants import Want

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from waystation.config import PrefetchSettings
    from waystation.model import TargetPath
    from waystation.prefetch.versions import Bundle


class Subscriptions:
    """What ``[[prefetch]]`` asks for, on a machine of one architecture."""

    def __init__(self, subscriptions: Iterable[PrefetchSettings], *, arch: str) -> None:
        self._subscriptions = [(re.compile(translate(each.match)).match, each.newest) for each in subscriptions]
        self._arch = arch
        self.prefixes = _outermost({literal_prefix(each.match) for each in subscriptions})
        """The fewest listings that show every target that can match."""

    def match(self, target: TargetPath) -> bool:
        """Whether any of them is about this target."""
        return any(matches(target) for matches, _ in self._subscriptions)

    def choose(self, published: Iterable[TargetPath], is_here: Callable[[TargetPath], bool]) -> frozenset[Want]:
        """Choose the newest versions of each app; and until those are here, hold the newest ones that are.

        So a new version takes the place of an old one only once it has come, and losing the origin in between
        leaves this machine with what it had.
        """
        apps: dict[str, dict[Bundle, TargetPath]] = defaultdict(dict)
        for target in published:
            bundle = parse_bundle(target)
            if bundle is not None and bundle.arch == self._arch:
                # One version under two spellings is one version; any may stand for both, but always the same one.
                known = apps[bundle.app].setdefault(bundle, target)
                apps[bundle.app][bundle] = max(known, target)
        chosen: set[TargetPath] = set()
        for matches, newest in self._subscriptions:
            for bundles in apps.values():
                matching = [target for _, target in sorted(bundles.items(), key=_version) if matches(target)]
                chosen.update(_newest(matching[::-1], newest, is_here))
        return frozenset(Want(target, Priority.PREFETCH, hold=True) for target in chosen)


def _newest(targets: list[TargetPath], count: int, is_here: Callable[[TargetPath], bool]) -> list[TargetPath]:
    """Take the first `count`, and behind them as many that are here as are missing of those."""
    taken = targets[:count]
    missing = count - sum(1 for target in taken if is_here(target))
    standing_in = [target for target in targets[count:] if is_here(target)]
    return taken + standing_in[:missing]


def _version(item: tuple[Bundle, TargetPath]) -> tuple[object, ...]:
    return item[0].version


def _outermost(prefixes: set[str]) -> tuple[str, ...]:
    """Drop the prefixes that lie below others."""
    return tuple(
        sorted(each for each in prefixes if not any(each != other and each.startswith(other) for other in prefixes))
    )
