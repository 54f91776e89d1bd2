"""Which pins follow from what is wanted, and from what can be told of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from waystation.model import Artifact, Digest, Priority, TargetPath
from waystation.prefetch.reconcile import Known, pins_for
from waystation.wants import Want

ONE, TWO, THREE = (Digest(str(number) * 64) for number in (1, 2, 3))
A, B = TargetPath("app/app-1-x86_64"), TargetPath("app/app-2-x86_64")


@dataclass
class Told:
    """What a catalog says without asking."""

    standing: dict[TargetPath, Digest] = field(default_factory=dict)
    refused: dict[TargetPath, Digest] = field(default_factory=dict)

    def known(self) -> Known:
        every = {**self.refused, **self.standing}
        return Known(
            standing=lambda name: artifact(name, self.standing[name]) if name in self.standing else None,
            names=lambda digest: tuple(name for name, its in every.items() if its == digest),
            by_digest=lambda _: None,
        )


def artifact(target: TargetPath, digest: Digest) -> Artifact:
    return Artifact(target, digest, 1, datetime.now(UTC), target, None, None)


def wants(*targets: TargetPath, hold: bool = True) -> frozenset[Want]:
    return frozenset(Want(target, Priority.PREFETCH, hold) for target in targets)


def pins(wanted: frozenset[Want], pinned: set[Digest], told: Told) -> frozenset[Digest]:
    return pins_for(wanted, frozenset(pinned), told.known())


def test_what_is_wanted_is_pinned_before_it_is_here_and_nothing_else_stays() -> None:
    told = Told({A: ONE, B: TWO}, {})
    assert pins(wants(A), {TWO, THREE}, told) == {ONE}
    assert pins(wants(), {ONE}, told) == frozenset()


def test_what_is_only_to_be_fetched_is_not_pinned() -> None:
    assert pins(wants(A, hold=False), {ONE}, Told({A: ONE})) == frozenset()


def test_as_long_as_a_name_tells_nothing_its_pin_and_those_of_no_name_stay() -> None:
    told = Told({A: ONE}, {B: TWO})  # B was seen with TWO; now it is refused, or its revision is in doubt
    assert pins(wants(A, B), {ONE, TWO, THREE}, told) == {ONE, TWO, THREE}


def test_a_pin_that_belongs_to_another_name_goes_all_the_same() -> None:
    other = TargetPath("app/app-0-x86_64")
    told = Told({A: ONE, other: THREE}, {})
    assert pins(wants(A, B), {THREE}, told) == {ONE}, "B is not known yet, but THREE is not B's"
