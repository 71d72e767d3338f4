"""The ledger checker must find what is planted, and must be quiet about what is right."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from loadtests.check import (
    ClientRow,
    ReceiptRow,
    RecordRow,
    Report,
    SubmitRow,
    check,
    main,
    read_rows,
    read_smsc,
)

N = 50


class Ledgers:
    """A run of N messages in which everything went right; each test plants one thing."""

    def __init__(self) -> None:
        self.client = [
            ClientRow(to=f"+8613800000{i:03d}", id=f"id-{i}", account="shop", ref=f"ref-{i}") for i in range(N)
        ]
        self.submits = [SubmitRow(to=f"8613800000{i:03d}", at_ms=5_000, smsc_id=str(i)) for i in range(N)]
        self.receipts = [ReceiptRow(to=f"8613800000{i:03d}", smsc_id=str(i), ack=0) for i in range(N)]
        self.records = [
            RecordRow(
                id=f"id-{i}",
                to=f"8613800000{i:03d}",
                state="delivered",
                account="shop",
                category="verification",
                accepted_at_ms=4_900,
                expires_at_ms=300_000,
            )
            for i in range(N)
        ]

    def check(self, **options: object) -> Report:
        return check(self.client, self.submits, self.records, self.receipts, **options)  # type: ignore[arg-type]


@pytest.fixture
def ledgers() -> Ledgers:
    return Ledgers()


def test_a_clean_run_has_no_violation(ledgers: Ledgers) -> None:
    report = ledgers.check(verification_p99_ms=1_000)
    assert report.ok, report.text()
    assert (report.accepted, report.final, report.live, report.copies) == (N, N, 0, 0)
    assert report.lost == report.duplicated == []


def test_a_message_missing_on_record_is_lost(ledgers: Ledgers) -> None:
    del ledgers.records[7]
    report = ledgers.check()
    assert report.lost == ["id-7"]
    assert [v.ids for v in report.of("I1")] == [("id-7",)]
    assert [v.ids for v in report.of("I2")] == [("id-7",)], "and its submit_sm belongs to nothing stored"


def test_a_message_recorded_as_delivered_but_never_submitted_is_lost(ledgers: Ledgers) -> None:
    del ledgers.submits[3]
    report = ledgers.check()
    assert report.lost == ["id-3"]
    assert report.of("I3")[0].ids == ("id-3",)


def test_a_message_still_queued_after_the_run_is_lost_and_while_it_runs_is_not(ledgers: Ledgers) -> None:
    ledgers.records[4].state = "queued"
    del ledgers.submits[4], ledgers.receipts[4]
    assert ledgers.check().lost == ["id-4"]
    running = ledgers.check(settled=False)
    assert running.ok
    assert (running.final, running.live) == (N - 1, 1)


def test_a_planted_copy_breaks_the_budget_and_must_be_flagged(ledgers: Ledgers) -> None:
    ledgers.submits.append(dataclasses.replace(ledgers.submits[9], smsc_id="copy"))
    report = ledgers.check()
    assert report.copies == 1
    assert report.duplicated == ["id-9"]
    assert len(report.of("I3")) == 1
    assert {v.detail.split(",")[0] for v in report.of("I4")} == {"1 copies", "copied"}
    ledgers.records[9].possible_duplicate = True
    assert ledgers.check(copies_allowed=1).ok


def test_a_copy_that_was_answered_with_an_error_is_no_copy(ledgers: Ledgers) -> None:
    ledgers.submits.insert(0, dataclasses.replace(ledgers.submits[9], status=0x58, smsc_id=""))
    assert ledgers.check().ok


def test_an_unanswered_submit_counts_as_taken(ledgers: Ledgers) -> None:
    ledgers.submits.append(dataclasses.replace(ledgers.submits[9], status=None, smsc_id=""))
    assert ledgers.check().duplicated == ["id-9"]


@pytest.mark.parametrize("state", ["cancelled", "blocked"])
def test_what_was_never_to_be_sent_must_not_be_seen(ledgers: Ledgers, state: str) -> None:
    ledgers.records[2].state = state
    report = ledgers.check()
    assert report.of("I3")[0].ids == ("id-2",)


def test_parts_are_counted_apart(ledgers: Ledgers) -> None:
    ledgers.records[0].parts = 3
    first = ledgers.submits[0]
    ledgers.submits[0] = dataclasses.replace(first, part=1, parts=3, smsc_id="a")
    ledgers.submits.append(dataclasses.replace(first, part=2, parts=3, smsc_id="b"))
    report = ledgers.check()
    assert report.lost == ["id-0"], "the third part is missing"
    ledgers.submits.append(dataclasses.replace(first, part=3, parts=3, smsc_id="c"))
    assert ledgers.check().ok
    ledgers.submits.append(dataclasses.replace(first, part=3, parts=3, smsc_id="d"))
    assert ledgers.check().duplicated == ["id-0"]


def test_several_messages_to_one_number_are_counted_together(ledgers: Ledgers) -> None:
    ledgers.client.append(dataclasses.replace(ledgers.client[0], id="second", ref="other"))
    ledgers.records.append(dataclasses.replace(ledgers.records[0], id="second"))
    assert ledgers.check().of("I3"), "two on record, one seen"
    ledgers.submits.append(dataclasses.replace(ledgers.submits[0], smsc_id="s2"))
    assert ledgers.check().ok


def test_refs_in_the_ledger_tell_messages_to_one_number_apart(ledgers: Ledgers) -> None:
    for i in range(N):
        ledgers.submits[i].ref = ledgers.records[i].ref = f"ref-{i}"
    ledgers.client.append(dataclasses.replace(ledgers.client[0], id="second", ref="other"))
    ledgers.records.append(dataclasses.replace(ledgers.records[0], id="second", ref="other"))
    ledgers.submits.append(dataclasses.replace(ledgers.submits[0], smsc_id="s2"))
    report = ledgers.check()
    assert report.duplicated == ["id-0"]
    assert report.lost == ["second"]


def test_one_key_with_two_ids_is_found(ledgers: Ledgers) -> None:
    ledgers.client.append(dataclasses.replace(ledgers.client[5], id="another"))
    ledgers.records.append(dataclasses.replace(ledgers.records[5], id="another"))
    ledgers.submits.append(dataclasses.replace(ledgers.submits[5], smsc_id="x"))
    report = ledgers.check()
    assert [v.ids for v in report.of("I5")] == [("another", "id-5")]


def test_a_replay_with_the_same_id_is_one_message(ledgers: Ledgers) -> None:
    ledgers.client.append(dataclasses.replace(ledgers.client[5]))
    report = ledgers.check()
    assert report.ok
    assert report.accepted == N


def test_refused_items_do_not_count(ledgers: Ledgers) -> None:
    ledgers.client.append(ClientRow(to="+8613900000000", status=422))
    report = ledgers.check()
    assert report.ok
    assert report.refused == 1


def test_a_record_under_another_account_is_found(ledgers: Ledgers) -> None:
    ledgers.records[1].account = "bank"
    assert ledgers.check().of("I1")[0].ids == ("id-1",)


def test_a_changed_final_state_is_found_and_a_correction_is_allowed(ledgers: Ledgers) -> None:
    report = ledgers.check(history=[{"id-1": "undeliverable"}, {"id-2": "queued"}])
    assert [v.ids for v in report.of("I6")] == [("id-1",)]
    ledgers.records[1].late_correction = True
    assert ledgers.check(history=[{"id-1": "unknown"}]).ok
    assert not ledgers.check(history=[{"id-1": "undeliverable"}]).ok


def test_an_acknowledged_receipt_without_a_record_of_it_is_found(ledgers: Ledgers) -> None:
    ledgers.records[6].state = "submitted"
    assert ledgers.check(settled=False).of("I7")[0].ids == ("id-6",)
    ledgers.records[6].state = "uncertain"  # the answer with the id was lost, so the receipt is parked
    assert ledgers.check(settled=False).ok
    ledgers.receipts[6].ack = 0x08
    assert ledgers.check(settled=False).ok


def test_a_submit_after_expiry_is_found(ledgers: Ledgers) -> None:
    ledgers.records[8].expires_at_ms = 4_000
    assert ledgers.check().of("I11")[0].ids == ("id-8",)
    assert ledgers.check(late_by_ms=2_000).ok


def test_slow_verification_is_found(ledgers: Ledgers) -> None:
    for i in (1, 2):
        ledgers.submits[i].at_ms = 7_000
    report = ledgers.check(verification_p99_ms=1_000)
    assert set(report.of("I9")[0].ids) == {"id-1", "id-2"}


def test_the_text_report_is_short_and_names_offenders(ledgers: Ledgers) -> None:
    ledgers.records.clear()
    text = ledgers.check().text()
    assert "id-0" in text
    assert f"I1: {N} broken" in text
    assert text.count("\n") < 60


def test_the_command_reads_files_and_tells_by_its_exit_code(
    ledgers: Ledgers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(name: str, rows: list[dict[str, object]]) -> str:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    client = write("client.jsonl", [dataclasses.asdict(r) for r in ledgers.client])
    records = write("records.jsonl", [dataclasses.asdict(r) | {"extra": 1} for r in ledgers.records])
    seen = [{"kind": "submit", "session": 1} | dataclasses.asdict(r) for r in ledgers.submits]
    seen += [{"kind": "receipt"} | dataclasses.asdict(r) for r in ledgers.receipts]
    smsc = write("smsc.jsonl", seen)
    assert main(["--client", client, "--smsc", smsc, "--records", records]) == 0
    submits, receipts = read_smsc(Path(smsc))
    assert (len(submits), len(receipts)) == (N, N)
    assert read_rows(Path(client), ClientRow) == ledgers.client
    short = write("short.jsonl", seen[1:])
    assert main(["--client", client, "--smsc", short, "--records", records, "--json"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert json.loads(out[-1])["lost"] == ["id-0"]
