"""The comparison of ledgers: what counts as lost, as a copy, as unfinished."""

from __future__ import annotations

from typing import Any

from gateway.demo.load import ClientLedger, Sent, messages
from gateway.demo.report import Report, compare
from gateway.simulator.ledger import Submit

UDH = b"\x05\x00\x03\x01\x02"  # concatenation, reference 1, two parts; the part's number follows


def submit(destination: str, at: float = 1.0, status: int | None = 0, part: int = 0) -> Submit:
    text = UDH + bytes([part]) + b"x" if part else b"x"
    return Submit(at, 0, 1, "esme", 1, "s", destination, text, 0x40 if part else 0, 0, 1, "", None, status)


def client(*numbers: str) -> ClientLedger:
    ledger = ClientLedger(posted=len(numbers))
    for number in numbers:
        ledger.accepted[number] = Sent(number, "verification", 0.5, id=f"id-{number}")
    return ledger


def record(state: str = "delivered", final: bool = True, **more: Any) -> dict[str, Any]:
    return {"state": state, "final": final, "possible_duplicate": False, "reason": None, **more}


def test_all_well() -> None:
    report = compare(client("1", "2"), [submit("1"), submit("2")], {"id-1": record(), "id-2": record()})
    assert report.well
    assert (report.accepted, report.states["delivered"], report.parts) == (2, 2, 2)
    assert report.latency["verification"].p50_s == 0.5


def test_an_accepted_message_without_a_record_is_lost() -> None:
    report = compare(client("1", "2"), [submit("1")], {"id-1": record(), "id-2": None})
    assert (report.lost, report.well) == (1, False)


def test_one_that_never_ends_is_not_well() -> None:
    report = compare(client("1"), [], {"id-1": record("queued", final=False)})
    assert (report.unfinished, report.unfinished_states["queued"], report.well) == (1, 1, False)


def test_a_failure_with_its_reason_is_well() -> None:
    reason = {"code": "UNDELIV", "carrier_code": "001"}
    report = compare(client("1"), [submit("1")], {"id-1": record("undeliverable", reason=reason)})
    assert report.failed == {("undeliverable", "UNDELIV 001"): 1}
    assert report.well


def test_copies_are_counted_by_part_and_must_be_flagged() -> None:
    parts = [submit("1", part=1), submit("1", part=2)]
    assert compare(client("1"), parts, {"id-1": record()}).copies == 0
    again = [*parts, submit("1", part=2, status=None)]
    report = compare(client("1"), again, {"id-1": record()})
    assert (report.copies, report.unflagged_copies, report.well) == (1, 1, False)
    flagged = {"id-1": record(possible_duplicate=True)}
    report = compare(client("1"), again, flagged, uncertain_budget=1)
    assert (report.copies, report.unflagged_copies, report.well) == (1, 0, True)
    assert not compare(client("1"), again, flagged).well


def test_doubt_is_allowed_within_what_was_in_flight() -> None:
    records = {"id-1": record("uncertain", final=False), "id-2": record()}
    submits = [submit("1", status=None), submit("2")]
    report = compare(client("1", "2"), submits, records, uncertain_budget=1)
    assert (report.uncertain, report.unfinished, report.well) == (1, 0, True)
    assert not compare(client("1", "2"), submits, records).well


def test_a_refused_submit_is_no_copy() -> None:
    report = compare(client("1"), [submit("1", status=0x58), submit("1")], {"id-1": record()})
    assert (report.copies, report.parts) == (0, 1)


def test_a_submit_nobody_asked_for_is_seen() -> None:
    assert compare(client(), [submit("9")], {}) == Report(parts=1, unasked=1)


def test_recipients_are_distinct_and_mixed() -> None:
    sent = list(messages(3000))
    assert len({message.to for message in sent}) == 3000
    assert len({message.ref for message in sent}) == 3000
    for prefixes in (("138", "159", "188"), ("186", "130", "176"), ("189", "133", "199")):
        for category in ("verification", "notification", "marketing"):
            assert any(m.category == category and m.to[3:6] in prefixes for m in sent)
