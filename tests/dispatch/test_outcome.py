"""The table of command_status and the decision after an attempt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dispatch.outcome import (
    HOLD_MS,
    OVERRIDES,
    RESEND_GRACE_MS,
    SAME_DELAYS_MS,
    SLOW_FIRST_MS,
    SLOW_MOST_MS,
    TABLE,
    Choice,
    Decision,
    Outcome,
    Row,
    Situation,
    classify,
    decide,
)
from gateway.model import WITHOUT_TLVS, WITHOUT_VALIDITY, Category
from gateway.settings.values import default_categories

RULES = default_categories()[Category.NOTIFICATION]
BACKUP = Choice("b", 1, 0, False)
THERE = Situation(
    category=1, attempt=1, slow=0, rank=0, status=0x45, row=Row(Outcome.NEXT), parts=1, accepted=0, jitter=0.5,
    choices=(BACKUP,),
)  # fmt: skip


def at(**changes: Any) -> Situation:
    values = {field: getattr(THERE, field) for field in Situation.__slots__}
    return Situation(**{**values, **changes})


CONTRACT = {
    # The delivery contract's table (§1.7), row by row.
    Outcome.SENT: [0x00],
    Outcome.SLOW: [0x14, 0x58],
    Outcome.SAME: [0x08, 0x64, 0xFE, 0xFF],
    Outcome.NEXT: [0x0A, 0x0B, 0x45, 0x102, 0x400, 0x401, 0x40A, 0x4FF, 0x09, 0x10, 0x94, 0x5A, 0x500, 0xFFFFFFFF],
    Outcome.PERMANENT: [0x01, 0x65, 0x66, 0x101],
    Outcome.CHANNEL: [0x04, 0x05, 0x0D, 0x0E, 0x0F, 0x53, 0x67],
    Outcome.BUG: [
        0x02, 0x03, 0x06, 0x07, 0x0C, 0x11, 0x13, 0x15, 0x33, 0x34, 0x40, 0x42, 0x43, 0x44, 0x48, 0x49, 0x4A, 0x4B,
        0x50, 0x51, 0x54, 0x55, 0x61, 0x62, 0x63, 0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0x100, *range(0x103, 0x113),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("outcome", "status"), [(o, status) for o, found in CONTRACT.items() for status in found])
def test_every_row_of_the_contract(outcome: Outcome, status: int) -> None:
    assert classify(status).outcome is outcome


def test_the_table_has_no_row_that_the_contract_lacks() -> None:
    assert set(TABLE) <= {status for found in CONTRACT.values() for status in found}


def test_what_differs_inside_a_class() -> None:
    assert [classify(s).retries for s in (0x08, 0x64, 0xFE, 0xFF)] == [2, 2, 1, 1]
    assert all(classify(s).once for s in (0x0A, 0x0B, 0x45, 0x401, 0x999, 0x06))
    assert all(classify(s).auth for s in (0x0D, 0x0E, 0x0F, 0x53))
    assert all(classify(s).alarm for s in (0x01, 0x04, 0x06, 0x0E, 0x401))
    assert not any(classify(s).alarm for s in (0x00, 0x08, 0x45, 0x58, 0x66, 0x999))


def test_two_fields_can_be_left_out() -> None:
    assert [classify(s).without for s in (0x61, 0x62)] == [WITHOUT_VALIDITY] * 2
    assert [classify(s).without for s in range(0xC0, 0xC5)] == [WITHOUT_TLVS] * 5
    assert {s for s, row in TABLE.items() if row.without} == {0x61, 0x62, *range(0xC0, 0xC5)}
    assert not classify(0x62, {0x62: OVERRIDES["bug"]}).without, "an operator's word is taken as it is"


def test_without_a_field_it_goes_again_at_once_by_the_same_channel_and_keeps_its_attempt() -> None:
    decision = decide(Outcome.WITHOUT, RULES, at(channel="a", rank=3, attempt=RULES.max_attempts))
    assert decision == Decision("N", 0, 3, target="a")
    partly = decide(Outcome.WITHOUT, RULES, at(channel="a", parts=2, accepted=1))
    assert (partly.verb, partly.delay_ms) == ("P", 0)


def test_a_channel_overrides_the_table() -> None:
    mine = {0x45: OVERRIDES["permanent"], 0x401: OVERRIDES["channel"], 0x58: OVERRIDES["next"]}
    found = [classify(s, mine).outcome.value for s in (0x45, 0x401, 0x58, 0x08)]
    assert found == ["permanent", "channel", "next", "same"]


def test_sent_waits_for_its_receipt() -> None:
    decision = decide(Outcome.SENT, RULES, at(accepted=1))
    assert (decision.verb, decision.delay_ms) == ("s", RULES.dlr_wait_s * 1000)


def test_sent_as_far_as_the_window_went_goes_on_at_once() -> None:
    decision = decide(Outcome.SENT, RULES, at(parts=3, accepted=0b011))
    assert (decision.verb, decision.delay_ms) == ("P", 0)


def test_permanent_is_final_at_once_also_with_parts_out() -> None:
    assert decide(Outcome.PERMANENT, RULES, at()).verb == "F"
    assert decide(Outcome.PERMANENT, RULES, at(parts=2, accepted=1)).reason == "refused"


@pytest.mark.parametrize(
    ("slow", "delay_ms"), [(0, SLOW_FIRST_MS), (1, 2 * SLOW_FIRST_MS), (5, 32 * SLOW_FIRST_MS), (255, SLOW_MOST_MS)]
)
def test_slow_waits_longer_each_time_and_keeps_its_attempt(slow: int, delay_ms: int) -> None:
    decision = decide(Outcome.SLOW, RULES, at(slow=slow, attempt=250))
    assert decision.verb == "l"
    assert decision.delay_ms == min(delay_ms, SLOW_MOST_MS)


def test_same_is_tried_twice_on_its_channel_then_elsewhere() -> None:
    same = Row(Outcome.SAME)
    assert [decide(Outcome.SAME, RULES, at(row=same, slow=n)).verb for n in (0, 1, 2)] == ["r", "r", "n"]
    assert [decide(Outcome.SAME, RULES, at(row=same, slow=n)).delay_ms for n in (0, 1)] == list(SAME_DELAYS_MS)
    assert decide(Outcome.SAME, RULES, at(row=same, slow=2)).rank == 1
    assert decide(Outcome.SAME, RULES, at(row=Row(Outcome.SAME, retries=1), slow=1)).verb == "n"


def test_next_takes_a_channel_that_has_not_refused_it() -> None:
    decision = decide(Outcome.NEXT, RULES, at())
    assert (decision.verb, decision.delay_ms, decision.rank, decision.target) == ("n", 0, 1, "")
    sibling, earlier, refused = Choice("s", 1, 0, True), Choice("e", 0, 0, False), Choice("r", 1, 1, True)
    far = Choice("f", 2, 0, False)
    # Its own rank first (and there the channel is named, or the one that refused could take it again), then later, then
    # earlier ones; never one that refused it while another is left.
    assert decide(Outcome.NEXT, RULES, at(rank=1, choices=(earlier, refused, sibling, far))).target == "s"
    assert decide(Outcome.NEXT, RULES, at(rank=1, choices=(earlier, refused, far))).rank == 2
    assert decide(Outcome.NEXT, RULES, at(rank=1, choices=(earlier, refused))).rank == 0


def test_round_again_later_and_later() -> None:
    refused = Choice("b", 1, 1, False)
    first = decide(Outcome.NEXT, RULES, at(choices=(refused,), attempt=2))
    later = decide(Outcome.NEXT, RULES, at(choices=(refused,), attempt=3))
    assert (first.verb, first.rank) == ("n", 1)
    assert 0 < first.delay_ms < later.delay_ms
    alone = decide(Outcome.NEXT, RULES, at(choices=()))
    assert (alone.verb, alone.rank) == ("n", 0)
    assert alone.delay_ms > 0
    assert decide(Outcome.NEXT, RULES, at(category=0, choices=())).delay_ms <= 3_000, "a code does not wait a minute"


def test_once_is_asked_of_one_other_channel() -> None:
    once = Row(Outcome.NEXT, once=True)
    assert decide(Outcome.NEXT, RULES, at(row=once)).verb == "n"
    assert decide(Outcome.NEXT, RULES, at(row=once, refusals=1)).reason == "refused"
    assert decide(Outcome.NEXT, RULES, at(row=once, choices=())).reason == "refused"
    assert decide(Outcome.BUG, RULES, at(row=classify(0x06))).verb == "n"


def test_the_channels_own_fault_costs_no_attempt() -> None:
    assert decide(Outcome.CHANNEL, RULES, at(attempt=99)).verb == "N"
    alone = decide(Outcome.CHANNEL, RULES, at(attempt=99, choices=()))
    assert (alone.verb, alone.rank) == ("l", 0)
    assert alone.delay_ms > 1000
    assert decide(Outcome.CHANNEL, RULES, at(parts=2, accepted=1)).verb == "P"


@pytest.mark.parametrize(("status", "patience_ms"), [(0x58, 3_000), (0x14, 5_000)])
def test_a_code_does_not_wait_for_a_slow_carrier_for_ever(status: int, patience_ms: int) -> None:
    slow = {"status": status, "row": classify(status)}
    assert decide(Outcome.SLOW, RULES, at(**slow, category=0, waited_ms=patience_ms - 1)).verb == "l"
    assert decide(Outcome.SLOW, RULES, at(**slow, category=0, waited_ms=patience_ms + 1)).verb == "N"
    assert decide(Outcome.SLOW, RULES, at(**slow, category=1, waited_ms=patience_ms + 1)).verb == "l"
    assert decide(Outcome.SLOW, RULES, at(**slow, category=0, waited_ms=60_000, choices=())).verb == "l"


@pytest.mark.parametrize("outcome", [Outcome.SAME, Outcome.NEXT])
def test_attempts_run_out(outcome: Outcome) -> None:
    last = decide(outcome, RULES, at(attempt=RULES.max_attempts))
    assert (last.verb, last.reason) == ("F", "attempts_exhausted")
    assert decide(outcome, RULES, at(attempt=RULES.max_attempts - 1)).verb != "F"


def test_with_parts_out_there_is_no_other_channel() -> None:
    partly = {"parts": 3, "accepted": 0b101}
    assert decide(Outcome.SLOW, RULES, at(**partly)).verb == "P"
    assert decide(Outcome.SAME, RULES, at(**partly, row=Row(Outcome.SAME), slow=5)).verb == "p"
    assert decide(Outcome.NEXT, RULES, at(**partly)).reason == "partly_refused"


@pytest.mark.parametrize(
    ("policy", "category", "verb", "delay_ms"),
    [
        ("resend", 0, "U", 0),
        ("resend", 1, "u", RESEND_GRACE_MS),
        ("hold", 2, "u", HOLD_MS),
        ("hold", 0, "u", HOLD_MS),
        ("fail", 1, "u", 0),
    ],
)
def test_uncertain_follows_the_categorys_policy(policy: str, category: int, verb: str, delay_ms: int) -> None:
    decision = decide(Outcome.UNCERTAIN, replace(RULES, on_uncertain=policy), at(category=category, status=None))
    assert (decision.verb, decision.delay_ms) == (verb, delay_ms)


@given(
    outcome=st.sampled_from(Outcome),
    policy=st.sampled_from(["resend", "hold", "fail"]),
    category=st.integers(0, 2),
    attempt=st.integers(1, 255),
    slow=st.integers(0, 255),
    choices=st.lists(
        st.builds(Choice, st.sampled_from("bcd"), st.integers(0, 3), st.integers(0, 3), st.booleans()), max_size=3
    ).map(tuple),
    refusals=st.integers(0, 3),
    waited_ms=st.floats(0, 1e7),
    row=st.sampled_from(list(TABLE.values())),
    parts=st.integers(1, 10),
    accepted=st.integers(0, 1023),
    jitter=st.floats(0, 1),
)
def test_every_situation_has_a_decision(outcome: Outcome, policy: str, accepted: int, parts: int, **rest: Any) -> None:
    accepted &= (1 << parts) - 1
    decision = decide(
        outcome, replace(RULES, on_uncertain=policy), at(rank=0, status=8, parts=parts, accepted=accepted, **rest)
    )
    assert decision.verb in "srnNlpPuUF"
    assert 0 <= decision.delay_ms <= max(RULES.dlr_wait_s * 1000, HOLD_MS)
    if decision.verb == "F":
        assert decision.reason
    if decision.verb in "nN":
        assert decision.rank in {0, *(c.rank for c in rest["choices"])}
        assert not accepted  # parts that are out keep their message where it is
    if accepted and outcome is not Outcome.UNCERTAIN and decision.verb != "F":
        assert decision.verb in "psP"
