"""Everything killed -9 with 20,000 messages queued and a window in flight: all of it is sent once, in order.

Only what was claimed at that moment may leave twice, flagged; adverts among it leave once at most.
"""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from pathlib import Path

import pytest

from tests.support.gateway_process import (
    CATEGORY_LABELS,
    MARKETING,
    NOTIFICATION,
    UNCERTAIN,
    VERIFICATION,
    AuditedGateway,
)
from tests.support.scenario import carrier
from tests.support.until import until

pytestmark = pytest.mark.timeout(240)

COUNTS = {MARKETING: 12_000, NOTIFICATION: 6_000, VERIFICATION: 2_000}  # posted in the wrong order on purpose
WINDOW = 50
BATCH = 500


async def test_twenty_thousand_queued_survive_a_crash_of_everything(tmp_path: Path) -> None:
    async with (
        carrier(silence=True) as smsc,
        AuditedGateway(tmp_path, {"cm-a": smsc.port}, channel=f"window = {WINDOW}") as gateway,
    ):
        for category, count in COUNTS.items():
            for first in range(0, count, BATCH):
                bodies = [gateway.message(category) for _ in range(BATCH)]
                answers = await gateway.send_batch_surely(bodies, key=f"{category}-{first}")
                assert {answer.status for answer in answers} == {202}
        # The carrier keeps its answers to itself: a window of adverts, then the reserve with codes.
        await until(lambda: smsc.counters.submits == WINDOW)
        claimed = Counter(_categories(gateway, smsc.ledger.destinations()))
        assert claimed[VERIFICATION] >= 1

        await gateway.crash()
        smsc.options.silence = False
        await gateway.start()
        # The dead worker's lease ends after 10 s; then its claims follow their category's policy.
        states = await gateway.until_final(timeout_s=120, but=[UNCERTAIN])
        assert states == {"delivered": sum(COUNTS.values()) - claimed[MARKETING], UNCERTAIN: claimed[MARKETING]}
        report = await gateway.audit([smsc], copies_allowed=claimed[VERIFICATION], settled=False)
        assert report.accepted == sum(COUNTS.values())
        assert (len(report.lost), report.copies) == (0, claimed[VERIFICATION])

        after = smsc.ledger.destinations()[WINDOW:]
        in_flight = set(smsc.ledger.destinations()[:WINDOW])
        order = [category for category, _ in groupby(_categories(gateway, [n for n in after if n not in in_flight]))]
        assert order == list(CATEGORY_LABELS)


def _categories(gateway: AuditedGateway, numbers: list[str]) -> list[str]:
    """Return the category of the message to each number."""
    of = {row.to.lstrip("+"): row.category for row in gateway.client}
    return [of[number] for number in numbers]
