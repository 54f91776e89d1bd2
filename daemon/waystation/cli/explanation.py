"""An explanation in words: a row for each thing on a request's way, and what comes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from waystation.cli.output import counted, human_age, human_duration
from waystation.cli.screen import certificate_line, origin_line
from waystation.config import human_size

if TYPE_CHECKING:
    from collections.abc import Sequence

Record = dict[str, Any]
Row = tuple[str, str]


def explanation_rows(told: Record, *, now: float, way_here: Sequence[Row] = ()) -> list[Row]:
    """Lay out an `Explanation`, as JSON has it, for a person; `way_here` is how a client comes to the mirror."""
    here = told["here"]
    rows = [*_name(told), *_catalog(told, now)]
    if here is not None and told["looked"]:
        rows += [*_stored(here, now), *_room(told)]
    rows.append(("origin", origin_line(told["origin"])))
    if here is None:
        rows.append(("daemon", "none runs here: what it remembers, has stored and has refused can't be said"))
    else:
        rows += [("refused" if not row else "", _refused(one, now)) for row, one in enumerate(here["refusals"])]
    return [*rows, *way_here, ("now", _answer(told)), ("to do", told["answer"]["advice"] or "nothing")]


def _name(told: Record) -> list[Row]:
    *others, last = told["names"]
    if not told["looked"]:
        return [("name", last["refusal"]["message"])]
    rows = [f"{other['name']}: {other['refusal']['message']}" for other in others]
    if others:
        rows.append(f"{last['name']}, with the kernel's word for the machine, is asked for instead")
    else:
        rows.append(f"{last['name']}, as it stands")
    return [("name" if not row else "", text) for row, text in enumerate(rows)]


def _catalog(told: Record, now: float) -> list[Row]:
    last, vouched = told["names"][-1]["refusal"], told["catalog"]
    if last:
        return [("catalog", last["message"])] if told["looked"] else []
    if vouched is None:
        size = human_size(told["unread_bytes"])
        text = f"nothing vouches for its {size}: whoever asks first makes the daemon read all of them (pin-first)"
        return [("catalog", text), ("", "the digest that it finds holds from then on; explaining reads nothing")]
    count = vouched["pieces"]
    pieces = "no pieces: released only as a whole" if count is None else counted(count, "piece")
    return [
        ("catalog", f"sha256 {vouched['sha256']}"),
        ("", f"{human_size(vouched['size_bytes'])}, {pieces}; vouched for by {vouched['vouched_by']}"),
        ("", _freshness(vouched, now)),
    ]


def _freshness(vouched: Record, now: float) -> str:
    if vouched["known_since"] is None:
        return "the origin says so now; the first client's request will remember it"
    known = f"first seen {human_age(vouched['known_since'], now)}"
    if vouched["not_refreshed"]:
        return f"{known}; that holds while the origin gives no answer: {vouched['not_refreshed']['message']}"
    if vouched["fresh_for_s"] is not None:
        return f"{known}, from memory: the origin is not asked again for {human_duration(vouched['fresh_for_s'])}"
    return f"{known}, and the origin says the same now"


def _stored(here: Record, now: float) -> list[Row]:
    blob, flight = here["blob"], here["flight"]
    pinned = f"pinned by {', '.join(here['pinned_by'])}" if here["pinned_by"] else "not pinned"
    if blob is None:
        rows = [f"no, {pinned}"]
        if here["partial"]:
            rows.append("a part is kept from an earlier transfer: what of it is right is not asked for again")
    elif blob["suspect"]:
        rows = [f"yes, but suspect: it is checked again before it is served; {pinned}"]
    else:
        checked, used = human_age(blob["verified"], now), human_age(blob["used"], now)
        rows = [f"yes, verified {checked}, last used {used}, {pinned}"]
    if flight is not None:
        held, size = human_size(flight["held_bytes"]), human_size(flight["size_bytes"])
        rows.append(f"{flight['state']}, {held} of {size}, for {counted(flight['riders'], 'client')}")
    return [("stored" if not row else "", text) for row, text in enumerate(rows)]


def _room(told: Record) -> list[Row]:
    here = told["here"]
    room = here["room"]
    if room is None or here["blob"] or here["flight"]:
        return []
    if room["short_bytes"]:
        return [("room", f"none: {human_size(room['short_bytes'])} are missing, whatever is evicted"), *_memory(here)]
    if room["evicts"]:
        return [("room", f"yes, once {counted(room['evicts'], 'other file')} of the store are evicted")]
    return [("room", "yes")]


def _memory(here: Record) -> list[Row]:
    memory = here["memory"]
    if memory is None:
        return [("", "and without pieces it can't be passed through memory")]
    taken = f"{human_size(memory['used_bytes'])} of {human_size(memory['limit_bytes'])} are taken"
    return [("", f"passing it through needs {human_size(memory['need_bytes'])} of memory: {taken}")]


def way_here_rows(takeover: Record, certificate: Record | None, *, now: float) -> list[Row]:
    """Lay out where jobs that use the bucket's own URL are sent (a `TakeoverSeen`), and what https clients see."""
    rows = [("takeover" if not row else "", text) for row, text in enumerate(_taken_over(takeover))]
    return [*rows, ("certificate", certificate_line(certificate, now))] if certificate else rows


def _taken_over(seen: Record) -> list[str]:
    if seen["unseen_because"]:
        return [f"not looked at: {seen['unseen_because']}"]
    if seen["rules"] is None:
        return ["none: jobs that use the bucket's own URL reach the bucket"]
    led = [
        f"port {rule['port']} of {', '.join(rule['addresses'])} leads here, for {rule['match']}"
        for rule in seen["rules"]
    ]
    if not seen["answered"]:
        led.append("NOBODY answers here: `waystation takeover off` gives the address back")
    return led + [f"WRONG: {wrong}; `waystation takeover on` makes it anew" for wrong in seen["wrong"]]


def _refused(refusal: Record, now: float) -> str:
    cut_off = "cut off, " if refusal["code"] < 400 else ""  # noqa: PLR2004 - RFC 9110 §15
    told = f"{human_age(refusal['at'], now)}: {cut_off}{refusal['code']} {refusal['reason']}"
    return f"{told}: {refusal['detail']}" if refusal["detail"] else told


def _answer(told: Record) -> str:
    answer = told["answer"]
    verdict = f"{answer['code']} {answer['reason']}"
    if answer["code"] == 200 and answer["reason"] == "ok":  # noqa: PLR2004 - RFC 9110 §15
        verdict = f"200, {answer['message']}"
    elif answer["certain"]:
        verdict += f": {answer['message']}"
    else:
        verdict += f", as the last time; only fetching it would tell: {answer['message']}"
    if told["here"] is None:
        return f"nobody answers; a daemon that has nothing stored would say: {verdict}"
    return verdict
