"""Every rule of the simulator's table, without a socket."""

from __future__ import annotations

from collections import Counter

import pytest

from gateway.simulator.behaviour import (
    FAILED_BY_RULE,
    Behaviour,
    IdMaker,
    Plan,
    SimulatorOptions,
    magic_rule,
)


def decide(
    rule: int | None = None, *, options: SimulatorOptions | None = None, nth: int = 1, **changes: object
) -> Plan:
    options = options or SimulatorOptions(**changes)  # type: ignore[arg-type]
    number = "8613800000001" if rule is None else f"8613800900{rule:03d}"
    return Behaviour(options).decide(number, nth=nth, unanswered=0, wants_receipt=True, now=0.0)


def test_the_default_answers_at_once_and_delivers() -> None:
    plan = decide(receipt_delay_s=1.5, latency_s=0.2)
    assert (plan.status, plan.delay_s, plan.connection, plan.reply) == (0, 0.2, "", None)
    assert [(r.delay_s, r.state, r.err) for r in plan.receipts] == [(1.5, "DELIVRD", "000")]


@pytest.mark.parametrize(
    ("number", "rule"),
    [
        ("8613800900088", 88),
        ("8613800900300", 300),
        ("0900000", 0),
        ("8613800000300", None),
        ("300", None),
        ("", None),
        ("8613800900３00", None),
    ],
)
def test_a_magic_number_is_known_by_its_last_digits(number: str, rule: int | None) -> None:
    assert magic_rule(number) == rule


def test_magic_numbers_can_be_switched_off() -> None:
    assert decide(88, by_number=False).status == 0


@pytest.mark.parametrize("code", [1, 8, 20, 88, 255])
def test_a_number_chooses_a_status(code: int) -> None:
    plan = decide(code)
    assert plan.status == code
    assert plan.receipts == ()


def test_a_number_chooses_a_vendor_status() -> None:
    assert decide(510).status == 0x40A


def test_rules_for_the_answer() -> None:
    assert decide(300) == Plan(status=None)
    assert decide(301, late_response_s=7.0).delay_s == 7.0
    assert (decide(302).status, decide(302).connection) == (None, "cut")
    assert (decide(303).status, decide(303).connection) == (0, "cut")
    assert decide(304).empty_id
    assert (decide(305).as_generic_nack, decide(305).status) == (True, 8)
    assert decide(306).connection == "unbind"
    assert decide(307).repeat_answer
    assert decide(308).stray_answer
    assert (decide(309).status, len(decide(309).receipts)) == (None, 1)


def test_rules_for_the_receipt() -> None:
    assert decide(310).receipts[0].early
    assert decide(311, late_receipt_s=9.0).receipts[0].delay_s == 9.0
    assert [len(decide(rule).receipts) for rule in (312, 313, 314)] == [2, 5, 0]
    assert decide(315).receipts[0].unknown_id
    assert decide(316).receipts[0].wrong_destination
    assert decide(317).receipts[0].id_as_hex
    assert [r.state for r in decide(318).receipts] == ["ENROUTE", "DELIVRD"]
    assert [r.state for r in decide(319).receipts] == ["DELIVRD", "UNDELIV"]
    assert decide(326).receipts[0].garbage
    assert (decide(327).receipts[0].text, decide(327).receipts[0].tlvs) == (False, True)
    assert (decide(328).receipts[0].text, decide(328).receipts[0].tlvs) == (True, False)
    assert (decide(330).reply, decide(331).reply) == ("TD", "")


@pytest.mark.parametrize(("rule", "expected"), FAILED_BY_RULE.items())
def test_rules_for_failed_states(rule: int, expected: tuple[str, str]) -> None:
    assert [(r.state, r.err) for r in decide(rule).receipts] == [expected]


@pytest.mark.parametrize(
    ("rule", "status", "connection"), [(403, 88, ""), (413, 8, ""), (423, None, ""), (433, None, "cut")]
)
def test_the_first_n_submits_of_a_number_fail(rule: int, status: int | None, connection: str) -> None:
    behaviour = Behaviour(SimulatorOptions())
    plans = [behaviour.decide(f"8613800900{rule}", nth=i, unanswered=0, wants_receipt=True, now=0.0) for i in range(5)]
    assert [(p.status, p.connection) for p in plans] == [(status, connection)] * 3 + [(0, "")] * 2


def test_no_receipt_is_planned_where_none_was_asked_for() -> None:
    behaviour = Behaviour(SimulatorOptions(unknown_rate=1.0))
    for number in ("8613800000001", "8613800900312", "8613800900301", "8613800900400"):
        assert behaviour.decide(number, nth=1, unanswered=0, wants_receipt=False, now=0.0).receipts == ()


def test_above_the_tps_it_throttles_and_a_new_second_starts_afresh() -> None:
    behaviour = Behaviour(SimulatorOptions(max_tps=3))

    def second(now: float) -> list[int | None]:
        return [behaviour.decide("86138", nth=i, unanswered=0, wants_receipt=True, now=now).status for i in range(5)]

    assert second(10.1) == [0, 0, 0, 0x58, 0x58]
    assert second(11.0) == [0, 0, 0, 0x58, 0x58]


def test_limits_of_a_session() -> None:
    options = SimulatorOptions(answer_first=2)
    assert [decide(options=options, nth=n).status for n in (1, 2, 3)] == [0, 0, None]
    options = SimulatorOptions(disconnect_after=2)
    assert [decide(options=options, nth=n).connection for n in (1, 2)] == ["", "cut"]
    options = SimulatorOptions(unbind_after=2)
    assert [decide(options=options, nth=n).connection for n in (1, 2)] == ["", "unbind"]
    full = Behaviour(SimulatorOptions(max_unanswered=4))
    statuses = [full.decide("86138", nth=1, unanswered=n, wants_receipt=False, now=0.0).status for n in (4, 5)]
    assert statuses == [0, 0x14]


def test_rates_hold_and_a_seed_repeats_a_run() -> None:
    def run(seed: int) -> list[Plan]:
        behaviour = Behaviour(
            SimulatorOptions(
                error_rate=0.1,
                error_codes=(0x08, 0x14),
                double_rate=0.2,
                missing_rate=0.1,
                failed_rate=0.3,
                early_rate=0.05,
                lost_answer_rate=0.02,
                seed=seed,
            )
        )
        return [
            behaviour.decide("8613800000001", nth=i, unanswered=0, wants_receipt=True, now=0.0) for i in range(4000)
        ]

    plans = run(1)
    assert plans == run(1)
    assert plans != run(2)
    statuses = Counter(p.status for p in plans)
    assert 300 < statuses[0x08] + statuses[0x14] < 500
    assert 40 < statuses[None] < 120
    taken = [p for p in plans if p.status in (0, None)]
    assert 0.15 < sum(len(p.receipts) == 2 for p in taken) / len(taken) < 0.21
    assert 0.07 < sum(not p.receipts for p in taken) / len(taken) < 0.13
    failed = [p for p in taken if p.receipts and p.receipts[0].state == "UNDELIV"]
    assert 0.24 < len(failed) / len(taken) < 0.31


def test_ids_have_the_form_asked_for() -> None:
    assert IdMaker("decimal").new() == (b"0000000001", b"0000000001")
    hexadecimal = IdMaker("hex")
    assert [hexadecimal.new()[0] for _ in range(11)][-1] == b"B"
    mixed = IdMaker("resp_hex_dlr_dec")
    answer, receipt = [mixed.new() for _ in range(31)][-1]
    assert (answer, int(receipt)) == (b"1F", 31)
    answer, receipt = IdMaker("resp_dec_hex", 31).new()
    assert (answer, receipt) == (b"31", b"1F")
    uuids = IdMaker("uuid")
    assert len({uuids.new() for _ in range(100)}) == 100
    assert len(uuids.new()[0]) == 36


def test_options_know_when_nothing_is_asked_for() -> None:
    assert SimulatorOptions(by_number=False, latency_s=0.005).is_plain()
    assert not SimulatorOptions().is_plain()
    assert not SimulatorOptions(by_number=False, double_rate=0.1).is_plain()
