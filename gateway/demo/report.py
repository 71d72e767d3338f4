"""Compare three ledgers: what the client was told, what the carriers saw, what the gateway has on record.

Pure. A message is lost when it was accepted and is now neither on record nor at a final state with a reason; a copy
is a part that a carrier took more than once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from gateway.demo.load import ClientLedger
from gateway.model import CATEGORY_LABELS
from gateway.simulator.ledger import Submit


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds from the client's post to the carrier's submit_sm, for one category."""

    count: int
    p50_s: float
    p99_s: float
    worst_s: float


@dataclass(slots=True)
class Report:
    """What the demonstration shows at its end."""

    posted: int = 0
    accepted: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    states: Counter[str] = field(default_factory=Counter)
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)  # (state, reason) → messages
    lost: int = 0
    uncertain: int = 0  # the answer was lost with the carrier; the category's policy decides later
    uncertain_budget: int = 0
    unfinished: int = 0
    unfinished_states: Counter[str] = field(default_factory=Counter)
    copies: int = 0
    unflagged_copies: int = 0
    unasked: int = 0  # submits to numbers nobody was accepted for
    parts: int = 0
    latency: dict[str, Latency] = field(default_factory=dict)

    @property
    def well(self) -> bool:
        """Nothing lost, nothing stuck, no copy that the record does not own up to, no more doubt than allowed."""
        within = self.uncertain + self.copies <= self.uncertain_budget
        return within and not (self.lost or self.unfinished or self.unflagged_copies or self.unasked)

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        failed = [{"state": state, "reason": why, "messages": n} for (state, why), n in sorted(self.failed.items())]
        latency = {category: asdict(one) for category, one in self.latency.items()}
        return {"well": self.well, **plain, "failed": failed, "latency": latency}


def compare(
    client: ClientLedger,
    submits: Iterable[Submit],
    records: Mapping[str, Mapping[str, Any] | None],
    *,
    uncertain_budget: int = 0,
) -> Report:
    """Return the report.

    `records` holds, by message id, the gateway's answer, or None where it knows nothing. `uncertain_budget` is what
    was at most in flight when a carrier was killed: so many attempts may be in doubt or have been repeated.
    """
    report = Report(posted=client.posted, accepted=len(client.accepted), refused=dict(client.refused))
    report.uncertain_budget = uncertain_budget
    taken: dict[str, Counter[tuple[int, int]]] = {}
    first_at: dict[str, float] = {}
    for submit in submits:
        first_at.setdefault(submit.destination, submit.at)
        if submit.status in (0, None):
            _, parts, part = submit.part()
            taken.setdefault(submit.destination, Counter())[(parts, part)] += 1
            report.parts += 1
    waits: dict[str, list[float]] = {}
    for msisdn, sent in client.accepted.items():
        record = records.get(sent.id)
        copies = sum(count - 1 for count in taken.get(msisdn, Counter()).values())
        report.copies += copies
        if copies and not (record and record.get("possible_duplicate")):
            report.unflagged_copies += copies
        if msisdn in first_at:
            waits.setdefault(sent.category, []).append(first_at[msisdn] - sent.posted_at)
        _enter_state(report, record)
    report.unasked = sum(1 for msisdn in taken if msisdn not in client.accepted)
    report.latency = {label: _latency(waits[label]) for label in CATEGORY_LABELS if label in waits}
    return report


def _enter_state(report: Report, record: Mapping[str, Any] | None) -> None:
    if record is None:
        report.lost += 1
        return
    state = str(record["state"])
    report.states[state] += 1
    if state == "uncertain":
        report.uncertain += 1
    elif not record["final"]:
        report.unfinished += 1
        report.unfinished_states[state] += 1
    elif state != "delivered":
        reason = record.get("reason") or {}
        words = " ".join(str(word) for word in (reason.get("code"), reason.get("carrier_code")) if word)
        report.failed[(state, words)] += 1


def _latency(waits: Sequence[float]) -> Latency:
    ordered = sorted(waits)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]

    return Latency(len(ordered), at(0.50), at(0.99), ordered[-1])
