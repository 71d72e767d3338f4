"""The SMSC's ledger and tally: parts by their header, rows that the checker reads, counts that agree."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.simulator.ledger import Ledger, Receipt, Submit, Tally
from loadtests.check import read_smsc


def submit(short_message: bytes = b"hi", esm_class: int = 0, **changes: object) -> Submit:
    fields: dict[str, object] = {
        "at": 1.0,
        "at_ms": 1_000,
        "session": 1,
        "system_id": "acme",
        "sequence_number": 7,
        "source": "106900001",
        "destination": "8613800000001",
        "short_message": short_message,
        "esm_class": esm_class,
        "data_coding": 0,
        "registered_delivery": 1,
        "validity_period": "",
        "tlvs": None,
        "status": 0,
        "smsc_id": "0000000001",
    }
    return Submit(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("short_message", "esm_class", "expected"),
    [
        (b"\x05\x00\x03\xaa\x03\x02text", 0x40, (0xAA, 3, 2)),
        (b"\x06\x08\x04\x12\x34\x05\x01text", 0x40, (0x1234, 5, 1)),
        (b"\x08\x05\x01\x00\x00\x03\x07\x02\x01t", 0x40, (7, 2, 1)),
        (b"\x05\x00\x03\xaa\x03\x02text", 0x00, (0, 1, 1)),
        (b"\x7f\x00", 0x40, (0, 1, 1)),
        (b"", 0x40, (0, 1, 1)),
    ],
)
def test_a_part_is_known_by_its_header(short_message: bytes, esm_class: int, expected: tuple[int, int, int]) -> None:
    assert submit(short_message, esm_class).part() == expected


def test_the_checker_reads_what_the_ledger_writes(tmp_path: Path) -> None:
    ledger = Ledger()
    ledger.submits += [submit(), submit(b"\x05\x00\x03\xaa\x03\x02t", 0x40, status=None, smsc_id="")]
    ledger.receipts.append(Receipt(2.0, 2_000, 1, "0000000001", "8613800000001", "DELIVRD", ack=0))
    path = tmp_path / "ledger.jsonl"
    ledger.write(path)
    submits, receipts = read_smsc(path)
    assert [(s.to, s.status, s.part, s.parts) for s in submits] == [
        ("8613800000001", 0, 1, 1),
        ("8613800000001", None, 2, 3),
    ]
    assert [(r.smsc_id, r.stat, r.ack) for r in receipts] == [("0000000001", "DELIVRD", 0)]
    assert len(ledger.to("8613800000001")) == len(ledger.taken()) == 2
    ledger.clear()
    assert ledger.destinations() == []


def test_the_tally_counts_by_number_and_keeps_the_first_time(tmp_path: Path) -> None:
    tally = Tally(10)
    for number, now in ((b"8613800000003", 1.5), (b"8613800000003", 2.5), (b"8613800000099", 3.0)):
        tally.add(number, now)
    assert (tally.counts[3], tally.first_at[3], tally.others) == (2, 1.5, 1)
    tally.write(tmp_path / "tally")
    assert (tmp_path / "tally.counts").read_bytes() == bytes(tally.counts)
    assert (tmp_path / "tally.first_at").stat().st_size == 80


def test_a_part_is_known_by_its_tlvs_and_a_text_by_its_payload() -> None:
    sar = {0x020C: b"\x12\x34", 0x020E: b"\x03", 0x020F: b"\x02"}
    assert submit(b"text", tlvs=sar).part() == (0x1234, 3, 2)
    assert submit(b"text").octets() == b"text"
    assert submit(b"", tlvs={0x0424: b"whole"}).octets() == b"whole"
