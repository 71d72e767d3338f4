"""The ledger checker: compares what clients were told, what the SMSC saw and what the gateway has on record.

It takes three ledgers and computes the invariants of the delivery contract that they can show, names every
offending message id and knows nothing of how the gateway works inside. Used by scenarios, the demo and the
bench, and by hand:

    python loadtests/check.py --client client.jsonl --smsc smsc.jsonl --records records.jsonl [--copies 50]

Messages are joined by recipient. Several messages to one number form one group: counts are then exact for the
group, and offenders are named as a group. Where a submit row carries `ref`, groups are by recipient and ref.

    I1   accepted = final + live: every accepted id is on record, under its account
    I2   every submit_sm belongs to a stored message
    I3   exactly one submit_sm taken by the SMSC for each part; none for what was never to be sent
    I4   copies within the budget, and every copied message flagged `possible_duplicate`
    I5   one idempotency key (or ref), one recipient: one id
    I6   a final state never changes, except unknown|expired → delivered with `late_correction`
    I7   a final receipt that was acknowledged with status 0 is on record (that of an uncertain message may be parked:
         the id it names was never recorded)
    I9   verification is submitted within its limit (99th percentile)
    I11  nothing is submitted after its `expires_at`
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

FINAL_STATES = frozenset(
    {"delivered", "undeliverable", "rejected", "expired", "failed", "cancelled", "blocked", "unknown"}
)
SENT_STATES = frozenset({"submitted", "delivered", "undeliverable", "rejected"})
"""States that are only reached when the SMSC took every part."""
NEVER_SENT_STATES = frozenset({"cancelled", "blocked", "scheduled", "deferred"})
FINAL_RECEIPTS = frozenset({"DELIVRD", "EXPIRED", "DELETED", "UNDELIV", "REJECTD", "SKIPPED", "UNKNOWN"})
SHOWN = 20
"""How many offenders of one invariant are printed; the count is always whole."""

T = TypeVar("T")


@dataclass(slots=True)
class ClientRow:
    """One answered item of a request. `id` is empty when it was refused; `key` is the Idempotency-Key and
    item number.
    """

    to: str
    id: str = ""
    status: int = 202
    account: str = ""
    ref: str = ""
    key: str = ""
    category: str = ""
    answered_at_ms: int = 0
    parts: int = 1


@dataclass(slots=True)
class SubmitRow:
    """One submit_sm as the SMSC saw it. `status` is what it answered, None when it took the message and said
    nothing.
    """

    to: str
    status: int | None = 0
    at_ms: int = 0
    smsc_id: str = ""
    part: int = 1
    parts: int = 1
    ref: str = ""


@dataclass(slots=True)
class ReceiptRow:
    """One receipt the SMSC sent. `ack` is the status of the deliver_sm_resp, None when there was none."""

    to: str
    smsc_id: str = ""
    stat: str = "DELIVRD"
    ack: int | None = None


@dataclass(slots=True)
class RecordRow:
    """One message as the gateway has it, states by their API names."""

    id: str
    to: str
    state: str
    account: str = ""
    ref: str = ""
    category: str = ""
    parts: int = 1
    accepted_at_ms: int = 0
    expires_at_ms: int = 0
    possible_duplicate: bool = False
    late_correction: bool = False


@dataclass(slots=True, frozen=True)
class Violation:
    """One broken invariant: which, the message ids concerned, and what is wrong."""

    invariant: str
    ids: tuple[str, ...]
    detail: str

    def __str__(self) -> str:
        return f"{self.invariant} {', '.join(self.ids) or '-'}: {self.detail}"


@dataclass(slots=True)
class Report:
    """What the ledgers say. `lost` and `duplicated` hold message ids; `copies` counts short messages too
    many.
    """

    accepted: int = 0
    refused: int = 0
    final: int = 0
    live: int = 0
    submits: int = 0
    copies: int = 0
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.violations

    def add(self, invariant: str, ids: Iterable[str], detail: str) -> None:
        self.violations.append(Violation(invariant, tuple(ids), detail))

    def of(self, invariant: str) -> list[Violation]:
        """Return the violations of one invariant."""
        return [v for v in self.violations if v.invariant == invariant]

    def text(self) -> str:
        """Return a page for people: the counts, then the offenders, at most SHOWN an invariant."""
        states = ", ".join(f"{state} {n}" for state, n in self.states.most_common()) or "none"
        lines = [
            f"accepted {self.accepted}, refused {self.refused}; on record: final {self.final}, live {self.live}",
            f"states: {states}",
            f"submit_sm {self.submits}, copies {self.copies}",
            f"lost {len(self.lost)}, duplicated {len(self.duplicated)}",
        ]
        for invariant, n in sorted(Counter(v.invariant for v in self.violations).items()):
            shown = self.of(invariant)[:SHOWN]
            lines.append(f"{invariant}: {n} broken")
            lines.extend(f"  {violation}" for violation in shown)
            if n > len(shown):
                lines.append(f"  … and {n - len(shown)} more")
        lines.append("all invariants hold" if self.ok else "NOT all invariants hold")
        return "\n".join(lines)


@dataclass(slots=True)
class _Group:
    """All that is known of the messages to one recipient (and ref)."""

    accepted: list[ClientRow] = field(default_factory=list)
    records: list[RecordRow] = field(default_factory=list)
    submits: list[SubmitRow] = field(default_factory=list)
    receipts: list[ReceiptRow] = field(default_factory=list)

    def ids(self) -> list[str]:
        return list(dict.fromkeys([r.id for r in self.records] or [a.id for a in self.accepted]))


def check(
    client: Sequence[ClientRow],
    submits: Sequence[SubmitRow],
    records: Sequence[RecordRow],
    receipts: Sequence[ReceiptRow] = (),
    *,
    copies_allowed: int = 0,
    settled: bool = True,
    history: Sequence[Mapping[str, str]] = (),
    late_by_ms: int = 250,
    verification_p99_ms: int = 0,
) -> Report:
    """Compare the ledgers and return what does not fit.

    `copies_allowed` is the duplicate budget of the faults that were caused (0: no fault). With `settled` the
    run is over: a message still live counts as lost if it should have been sent. `history` holds earlier
    snapshots (id → state), oldest first. `late_by_ms` is the slack for I11: the SMSC's clock reads a little
    after our write.
    """
    report = Report(submits=len(submits), states=Counter(r.state for r in records))
    by_id = {r.id: r for r in records}
    accepted = [c for c in client if c.status == 202 and c.id]
    report.refused = len(client) - len(accepted)
    report.accepted = len({c.id for c in accepted})
    report.final = sum(r.state in FINAL_STATES for r in records)
    report.live = len(records) - report.final
    _check_accounting(report, accepted, by_id)
    _check_idempotency(report, accepted)
    groups = _grouped(accepted, submits, records, receipts)
    for group in groups.values():
        _check_submits(report, group)
        _check_receipts(report, group)
        _check_deadline(report, group, late_by_ms)
    _check_live(report, records, settled)
    _check_copies(report, copies_allowed)
    _check_history(report, by_id, history)
    if verification_p99_ms:
        _check_waits(report, groups.values(), verification_p99_ms)
    report.lost = list(dict.fromkeys(report.lost))
    return report


def _grouped(
    accepted: Sequence[ClientRow],
    submits: Sequence[SubmitRow],
    records: Sequence[RecordRow],
    receipts: Sequence[ReceiptRow],
) -> dict[tuple[str, str], _Group]:
    by_ref = any(s.ref for s in submits)
    groups: dict[tuple[str, str], _Group] = defaultdict(_Group)
    for c in accepted:
        groups[_digits(c.to), c.ref if by_ref else ""].accepted.append(c)
    for r in records:
        groups[_digits(r.to), r.ref if by_ref else ""].records.append(r)
    ref_of: dict[str, str] = {}
    for s in submits:
        groups[_digits(s.to), s.ref].submits.append(s)
        ref_of[s.smsc_id] = s.ref
    for d in receipts:
        groups[_digits(d.to), ref_of.get(d.smsc_id, "")].receipts.append(d)
    return groups


def _digits(number: str) -> str:
    return number.lstrip("+")


def _check_accounting(report: Report, accepted: Sequence[ClientRow], by_id: Mapping[str, RecordRow]) -> None:
    for row in {c.id: c for c in accepted}.values():
        record = by_id.get(row.id)
        if record is None:
            report.lost.append(row.id)
            report.add("I1", [row.id], "accepted, not on record")
        elif row.account and record.account and row.account != record.account:
            report.add("I1", [row.id], "on record under another account")
        elif _digits(row.to) != _digits(record.to):
            report.add("I1", [row.id], "on record for another recipient")


def _check_idempotency(report: Report, accepted: Sequence[ClientRow]) -> None:
    ids: dict[tuple[str, str, str, str], set[str]] = defaultdict(set)
    for row in accepted:
        if row.ref:
            ids[row.account, "ref", row.ref, _digits(row.to)].add(row.id)
        elif row.key:
            ids[row.account, "key", row.key, _digits(row.to)].add(row.id)
    for found in ids.values():
        if len(found) > 1:
            report.add("I5", sorted(found), f"one key, one recipient, {len(found)} ids")


def _check_submits(report: Report, group: _Group) -> None:
    """I2 and I3 of one group, and its copies."""
    taken = Counter(s.part for s in group.submits if not s.status)
    if not group.records:
        if group.submits:
            ids = group.ids() or [s.smsc_id for s in group.submits]
            report.add("I2", ids, f"{len(group.submits)} submit_sm for no stored message")
        return
    may, must = Counter[int](), Counter[int]()
    for record in group.records:
        parts = range(1, record.parts + 1)
        if record.state not in NEVER_SENT_STATES:
            may.update(parts)
        if record.state in SENT_STATES:
            must.update(parts)
    ids = group.ids()
    for part in sorted(taken.keys() | must.keys()):
        if taken[part] < must[part]:
            never = must[part] - taken[part]
            report.lost.extend(ids[:never])
            report.add("I3", ids, f"part {part}: on record as sent {must[part]} times, seen {taken[part]} times")
        elif taken[part] > may[part]:
            report.copies += taken[part] - may[part]
            if may[part] == 0:
                report.add("I3", ids, f"part {part}: submitted {taken[part]} times, was never to be sent")
    if any(taken[part] > may[part] for part in taken):
        report.duplicated.extend(ids)
        # In a group of several messages it cannot be told whose copy it was: one flag among them has to do.
        if not any(r.possible_duplicate for r in group.records):
            report.add("I4", ids, "copied, not flagged possible_duplicate")


def _check_receipts(report: Report, group: _Group) -> None:
    acked = {d.smsc_id for d in group.receipts if d.ack == 0 and d.stat in FINAL_RECEIPTS}
    known = {s.smsc_id for s in group.submits if s.status == 0 and s.smsc_id}
    if not known or not known <= acked:
        return
    open_ids = [r.id for r in group.records if r.state not in FINAL_STATES and r.state != "uncertain"]
    if open_ids and sum(r.parts for r in group.records) <= len(known):
        report.add("I7", open_ids, "every receipt was acknowledged, the record is not final")


def _check_deadline(report: Report, group: _Group, late_by_ms: int) -> None:
    limits = [r.expires_at_ms for r in group.records if r.expires_at_ms]
    if len(limits) < len(group.records) or not limits:
        return
    latest = max(s.at_ms for s in group.submits) if group.submits else 0
    if latest > max(limits) + late_by_ms:
        report.add("I11", group.ids(), f"submitted {latest - max(limits)} ms after expires_at")


def _check_live(report: Report, records: Sequence[RecordRow], settled: bool) -> None:
    if not settled:
        return
    waiting = [r.id for r in records if r.state not in FINAL_STATES | NEVER_SENT_STATES]
    for message_id in waiting:
        report.lost.append(message_id)
        report.add("I1", [message_id], "the run is over and it is still live")


def _check_copies(report: Report, allowed: int) -> None:
    if report.copies > allowed:
        report.add("I4", report.duplicated, f"{report.copies} copies, {allowed} allowed")
        if allowed == 0:
            report.add("I3", report.duplicated, "more than one submit_sm for a part, and no fault to excuse it")


def _check_history(report: Report, by_id: Mapping[str, RecordRow], history: Sequence[Mapping[str, str]]) -> None:
    was: dict[str, str] = {}
    now = {message_id: record.state for message_id, record in by_id.items()}
    for snapshot in [*history, now]:
        for message_id, state in snapshot.items():
            before = was.get(message_id)
            if before in FINAL_STATES and state != before:
                record = by_id.get(message_id)
                corrected = record is not None and record.late_correction
                if not (corrected and before in ("unknown", "expired") and state == "delivered"):
                    report.add("I6", [message_id], f"final state changed from {before} to {state}")
            was[message_id] = state


def _check_waits(report: Report, groups: Iterable[_Group], limit_ms: int) -> None:
    waits: list[tuple[int, str]] = []
    for group in groups:
        if len(group.records) == 1 and group.submits and group.records[0].category == "verification":
            record = group.records[0]
            if record.accepted_at_ms:
                waits.append((min(s.at_ms for s in group.submits) - record.accepted_at_ms, record.id))
    waits.sort()
    if waits and waits[max(0, -(-len(waits) * 99 // 100) - 1)][0] > limit_ms:
        slow = [message_id for wait_ms, message_id in waits if wait_ms > limit_ms]
        report.add("I9", slow, f"verification waited longer than {limit_ms} ms")


def read_rows(path: Path, row: type[T]) -> list[T]:
    """Read JSON lines into rows; keys a row does not know are left out (ledgers hold more than is checked)."""
    names = {f.name for f in fields(row)}  # type: ignore[arg-type]
    with path.open(encoding="utf-8") as lines:
        raw: Iterable[dict[str, Any]] = (json.loads(line) for line in lines if line.strip())
        return [row(**{k: v for k, v in item.items() if k in names}) for item in raw]


def read_smsc(path: Path) -> tuple[list[SubmitRow], list[ReceiptRow]]:
    """Read the ledger that `smsgw simulate --ledger FILE` writes: submit and receipt rows, told apart by
    `kind`.
    """
    submits: list[SubmitRow] = []
    receipts: list[ReceiptRow] = []
    submit_names = {f.name for f in fields(SubmitRow)}
    receipt_names = {f.name for f in fields(ReceiptRow)}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            item = json.loads(line)
            if item.get("kind") == "submit":
                submits.append(SubmitRow(**{k: v for k, v in item.items() if k in submit_names}))
            elif item.get("kind") == "receipt":
                receipts.append(ReceiptRow(**{k: v for k, v in item.items() if k in receipt_names}))
    return submits, receipts


def main(argv: Sequence[str] | None = None) -> int:
    """Check three ledger files; exit 1 when an invariant is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--client", type=Path, required=True)
    parser.add_argument("--smsc", type=Path, required=True, nargs="+", help="one file a simulated SMSC")
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--copies", type=int, default=0, help="the duplicate budget of the faults of this run")
    parser.add_argument("--running", action="store_true", help="the run is not over: live messages are not lost")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    submits: list[SubmitRow] = []
    receipts: list[ReceiptRow] = []
    for path in args.smsc:
        more_submits, more_receipts = read_smsc(path)
        submits += more_submits
        receipts += more_receipts
    report = check(
        read_rows(args.client, ClientRow),
        submits,
        read_rows(args.records, RecordRow),
        receipts,
        copies_allowed=args.copies,
        settled=not args.running,
    )
    if args.json:
        print(
            json.dumps(
                {
                    "ok": report.ok,
                    "accepted": report.accepted,
                    "final": report.final,
                    "live": report.live,
                    "copies": report.copies,
                    "lost": report.lost,
                    "duplicated": report.duplicated,
                    "violations": [str(v) for v in report.violations],
                }
            )
        )
    else:
        print(report.text())
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
