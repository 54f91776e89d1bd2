"""Each error means one status, and tells a client no more than it may."""

from __future__ import annotations

import pytest

from waystation import errors
from waystation.errors import WaystationError
from waystation.mirror.replies import FAULT, MEANINGS, meaning_of, refusal

SECRET = "/var/lib/waystation AKIASECRET http://10.0.0.1:9000"  # noqa: S105 - what must not get out


def error_types() -> list[type[WaystationError]]:
    found = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, WaystationError)]
    return [kind for kind in found if kind is not WaystationError]


def raised(kind: type[WaystationError]) -> WaystationError:
    if kind is errors.RangeNotSatisfiable:
        return errors.RangeNotSatisfiable(SECRET, size_bytes=7)
    return kind(SECRET)


def test_the_table_knows_every_error_type_and_no_other() -> None:
    assert set(MEANINGS) == set(error_types())


def test_each_code_is_one_that_the_design_knows() -> None:
    known = {400, 404, 405, 408, 412, 416, 421, 429, 431, 500, 502, 503, 507}
    assert {meaning.code for meaning in MEANINGS.values()} == known


@pytest.mark.parametrize("kind", error_types())
def test_a_refusal_is_one_line_without_secrets(kind: type[WaystationError]) -> None:
    reply = refusal(raised(kind))
    text = reply.body.decode()
    assert text.count("\n") == 1
    assert text.endswith("\n")
    assert text.startswith(f"{kind.reason}: ")
    assert kind.advice in text
    assert not any(word in text for word in SECRET.split())
    assert reply.code >= 400


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (errors.Unreachable("x"), "5"),
        (errors.Unreachable("x", retry_after_s=0.2), "1"),
        (errors.Unreachable("x", retry_after_s=12.1), "13"),
        (errors.Denied("x"), "5"),
    ],
)
def test_a_503_says_when_to_come_back(error: WaystationError, seconds: str) -> None:
    assert ("Retry-After", seconds) in refusal(error).fields


def test_only_a_503_and_a_429_say_when_to_come_back() -> None:
    for kind in error_types():
        reply = refusal(raised(kind))
        assert (reply.code in (503, 429)) == any(name == "Retry-After" for name, _ in reply.fields)


def test_a_405_names_what_is_allowed_and_a_416_the_size() -> None:
    assert ("Allow", "GET, HEAD") in refusal(errors.MethodNotAllowed("x")).fields
    assert ("Content-Range", "bytes */7") in refusal(raised(errors.RangeNotSatisfiable)).fields


def test_every_refusal_names_its_reason_in_a_header_too() -> None:
    for kind in MEANINGS:
        assert refusal(raised(kind)).fields[0] == ("Waystation-Reason", kind.reason)


def test_an_error_that_is_none_of_ours_is_a_fault_that_tells_nothing() -> None:
    assert meaning_of(RuntimeError(SECRET)) is FAULT
    reply = refusal(RuntimeError(SECRET))
    assert reply.code == 500
    assert not any(word in reply.body.decode() for word in SECRET.split())


def test_a_new_kind_of_error_means_what_its_nearest_relative_does() -> None:
    class Later(errors.DigestMismatch):
        pass

    assert meaning_of(Later("x")).code == 502
