"""The table of command_status and the decision after an attempt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dispatch.outcome import (
    HOLD_MS,
    RESEND_GRACE_MS,
    SAME_DELAYS_MS,
    SLOW_FIRST_MS,
    SLOW_MOST_MS,
    Outcome,
    Situation,
    classify,
    decide,
)
from gateway.model import Category
from gateway.settings.values import default_categories

RULES = default_categories()[Category.NOTIFICATION]
THERE = Situation(category=1, attempt=1, slow=0, rank=0, next_rank=1, status=0x45, parts=1, accepted=0, jitter=0.5)


def at(**changes: Any) -> Situation:
    values = {field: getattr(THERE, field) for field in Situation.__slots__}
    return Situation(**{**values, **changes})


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (0x00, Outcome.SENT),
        (0x01, Outcome.PERMANENT),
        (0x65, Outcome.PERMANENT),
        (0x66, Outcome.PERMANENT),
        (0x101, Outcome.PERMANENT),
        (0x08, Outcome.SAME),
        (0x64, Outcome.SAME),
        (0xFE, Outcome.SAME),
        (0xFF, Outcome.SAME),
        (0x14, Outcome.SLOW),
        (0x58, Outcome.SLOW),
        (0x0B, Outcome.NEXT),
        (0x45, Outcome.NEXT),
        (0x0A, Outcome.NEXT),
        (0x4FF, Outcome.NEXT),
        (0xFFFFFFFF, Outcome.NEXT),
    ],
)
def test_classes(status: int, outcome: Outcome) -> None:
    assert classify(status) is outcome


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


def test_same_is_tried_twice_on_its_channel_then_the_next_then_it_fails() -> None:
    assert [decide(Outcome.SAME, RULES, at(slow=n)).verb for n in (0, 1, 2)] == ["r", "r", "n"]
    assert [decide(Outcome.SAME, RULES, at(slow=n)).delay_ms for n in (0, 1)] == list(SAME_DELAYS_MS)
    assert decide(Outcome.SAME, RULES, at(slow=2)).rank == 1
    assert decide(Outcome.SAME, RULES, at(slow=2, next_rank=None)).verb == "F"


def test_next_takes_the_next_rank_at_once_or_fails() -> None:
    decision = decide(Outcome.NEXT, RULES, at())
    assert (decision.verb, decision.delay_ms, decision.rank) == ("n", 0, 1)
    assert decide(Outcome.NEXT, RULES, at(next_rank=None)).reason == "refused"


@pytest.mark.parametrize("outcome", [Outcome.SAME, Outcome.NEXT])
def test_attempts_run_out(outcome: Outcome) -> None:
    last = decide(outcome, RULES, at(attempt=RULES.max_attempts))
    assert (last.verb, last.reason) == ("F", "attempts_exhausted")
    assert decide(outcome, RULES, at(attempt=RULES.max_attempts - 1)).verb != "F"


def test_with_parts_out_there_is_no_other_channel() -> None:
    partly = {"parts": 3, "accepted": 0b101}
    assert decide(Outcome.SLOW, RULES, at(**partly)).verb == "P"
    assert decide(Outcome.SAME, RULES, at(**partly, slow=5)).verb == "p"
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
    next_rank=st.none() | st.integers(1, 15),
    parts=st.integers(1, 10),
    accepted=st.integers(0, 1023),
    jitter=st.floats(0, 1),
)
def test_every_situation_has_a_decision(outcome: Outcome, policy: str, accepted: int, parts: int, **rest: Any) -> None:
    accepted &= (1 << parts) - 1
    decision = decide(
        outcome, replace(RULES, on_uncertain=policy), at(rank=0, status=8, parts=parts, accepted=accepted, **rest)
    )
    assert decision.verb in "srnlpPuUF"
    assert 0 <= decision.delay_ms <= max(RULES.dlr_wait_s * 1000, HOLD_MS)
    if decision.verb == "F":
        assert decision.reason
    if decision.verb == "n":
        assert decision.rank == rest["next_rank"]
        assert not accepted  # parts that are out keep their message where it is
    if accepted and outcome is not Outcome.UNCERTAIN and decision.verb != "F":
        assert decision.verb in "psP"
