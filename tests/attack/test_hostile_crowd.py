"""A short round of `scripts/chaos --requests`, and that its judge sees what must not be."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from chaos import hostile
from chaos.judge import Judge, Wrong
from chaos.sayings import Due, Hostile, Request

PATH = "/artifacts/app/app-1-x86_64"
BODY = b"0123456789"
SECRET = b"hidden away"
RIGHT = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n" + BODY
REFUSAL = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\nWaystation-Reason: malformed_request\r\n"
REFUSAL += b"Connection: close\r\n\r\nx\n"
GET = Request(b"", Due.ANSWER, PATH)
BROKEN = Request(b"", Due.END)


async def test_a_crowd_that_means_ill_gets_documented_answers_and_leaves_the_daemon_as_it_was() -> None:
    report = await hostile.run(6000, seed=11, say=print)
    assert not report.wrong, report.table(seed=11)
    codes = {code for code, _ in report.seen}
    assert codes >= {200, 206, 400, 404, 405, 408, 412, 416, 421, 431}, report.table(seed=11)
    assert {"smuggling", "flood", "broken", "mutated", "silent"} <= report.sent.keys()


def test_the_same_seed_says_the_same() -> None:
    first, again = (Hostile(random.Random(3), paths=[PATH], smuggled="/s", hidden=["secret"]) for _ in range(2))
    assert [first.saying() for _ in range(50)] == [again.saying() for _ in range(50)]


def judge() -> Judge:
    return Judge({PATH: BODY}, [SECRET], Counter())


def test_right_answers_are_right() -> None:
    judge().judge([GET, GET, BROKEN], RIGHT + RIGHT + REFUSAL)


@pytest.mark.parametrize(
    ("requests", "received"),
    [
        ([GET], b""),
        ([GET], RIGHT[:-1]),
        ([GET], RIGHT[:-1] + b"x"),
        ([GET], RIGHT + b"x"),
        ([GET], RIGHT + RIGHT),
        ([GET], RIGHT.replace(b"200 OK", b"500 Oops")),
        ([GET], RIGHT.replace(b"200 OK", b"418 Teapot")),
        ([GET], RIGHT.replace(b"Content-Length: 10", b"X: \x1b[31m")),
        ([GET], RIGHT.replace(b"Content-Length: 10", b"X: y")),
        ([GET], RIGHT.replace(BODY, SECRET[:10]) + SECRET),
        ([GET], REFUSAL.replace(b"malformed_request", b"Traceback (most recent call last)")),
        ([GET], REFUSAL.replace(b"x\n", b"\n\n")),
        ([GET], b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1-2/10\r\nContent-Length: 2\r\n\r\n01"),
        ([BROKEN], RIGHT),
        ([BROKEN], REFUSAL.replace(b"Connection: close\r\n", b"")),
        ([BROKEN, GET], REFUSAL + RIGHT),
    ],
)
def test_the_judge_sees_what_must_not_be(requests: list[Request], received: bytes) -> None:
    with pytest.raises(Wrong):
        judge().judge(requests, received)
