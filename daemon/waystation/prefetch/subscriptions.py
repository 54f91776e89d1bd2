"""Which of the published targets this machine wants: the newest versions that it can run. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from fnmatch import translate
from itertools import chain, islice, zip_longest
from typing import TYPE_CHECKING

from waystation.catalog.listing import literal_prefix
from waystation.config import has_wildcards
from waystation.model import Priority, TargetPath
from waystation.prefetch.versions import parse_bundle
from waystation.wants import Want

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from waystation.config import PrefetchSettings
    from waystation.prefetch.versions import Bundle


class Ranking:
    """What of the published a machine could run, for each subscription and app the newest first."""

    def __init__(self, ranked: Iterable[tuple[Sequence[TargetPath], int]]) -> None:
        self._ranked = tuple(ranked)

    def choose(
        self, is_here: Callable[[TargetPath], bool], lacks_room: Callable[[TargetPath], bool]
    ) -> tuple[Want, ...]:
        """Choose the newest versions of each app; and until those are here, hold the newest ones that are.

        They are given in the order in which they should come: first the newest of each app, then the one before.

        So a new version takes the place of an old one only once it has come, and losing the origin in between
        leaves this machine with what it had. Where nothing but room is in its way, the old one makes that room.
        """
        chosen = []
        for newest_first, count in self._ranked:
            taken = list(newest_first[:count])
            chosen.append(taken)
            missing = sum(1 for target in taken if not is_here(target) and not lacks_room(target))
            if missing:
                taken.extend(islice(filter(is_here, newest_first[count:]), missing))
        in_turn = dict.fromkeys(chain.from_iterable(zip_longest(*chosen)))
        return tuple(Want(target, Priority.PREFETCH, hold=True) for target in in_turn if target)


class Subscriptions:
    """What ``[[prefetch]]`` asks for, on a machine of one architecture."""

    def __init__(self, subscriptions: Sequence[PrefetchSettings], *, arch: str) -> None:
        self._subscriptions = [(re.compile(translate(each.match)).match, each.newest) for each in subscriptions]
        self._arch = arch
        self._bundles: dict[TargetPath, Bundle | None] = {}
        """What the names say that were ranked the last time: reading a version costs more than all the rest."""
        self.prefixes = _outermost({literal_prefix(each.match) for each in subscriptions})
        """The fewest listings that show every target that can match."""
        self.names = _names(subscriptions)
        """What is subscribed to by name; None: some of it has wildcards."""

    def match(self, target: TargetPath) -> bool:
        """Whether any of them is about this target."""
        return any(matches(target) for matches, _ in self._subscriptions)

    def rank(self, published: Iterable[TargetPath]) -> Ranking:
        """Sort what is published; of tens of thousands of names it takes a second the first time, so in a thread."""
        known = self._bundles
        self._bundles = {target: known[target] if target in known else parse_bundle(target) for target in published}
        apps: dict[str, dict[Bundle, TargetPath]] = defaultdict(dict)
        for target, bundle in self._bundles.items():
            if bundle is not None and bundle.arch == self._arch:
                # One version under two spellings is one version; any may stand for both, but always the same one.
                apps[bundle.app][bundle] = max(apps[bundle.app].get(bundle, target), target)
        ranked = []
        for bundles in apps.values():
            newest_first = [target for _, target in sorted(bundles.items(), key=_version, reverse=True)]
            for matches, newest in self._subscriptions:
                if matching := [target for target in newest_first if matches(target)]:
                    ranked.append((matching, newest))
        return Ranking(ranked)


def _names(subscriptions: Iterable[PrefetchSettings]) -> tuple[TargetPath, ...] | None:
    if any(has_wildcards(each.match) for each in subscriptions):
        return None
    return tuple(TargetPath(each.match) for each in subscriptions)


def _version(item: tuple[Bundle, TargetPath]) -> tuple[object, ...]:
    return item[0].version


def _outermost(prefixes: set[str]) -> tuple[str, ...]:
    """Drop the prefixes that lie below others."""
    return tuple(
        sorted(each for each in prefixes if not any(each != other and each.startswith(other) for other in prefixes))
    )
