"""The ledger checker for a line without HTTP: what was accepted, what the carriers saw, what is on record.

The same comparison as `AuditedGateway.audit`, for scenarios that run the worker in their own process. Knows only the
messages it is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from gateway.model import CATEGORY_LABELS, NewMessage, message_id
from gateway.simulator.smsc import Smsc
from gateway.store.store import Store
from loadtests.check import ClientRow, Report, check
from tests.support.gateway_process import carrier_rows, row_of
from tests.support.scenario import record
from tests.support.snapshot import check_consistent, snapshot
from tests.support.valkey import ValkeyServer


async def audit_line(
    store: Store,
    valkey: ValkeyServer,
    messages: Iterable[NewMessage],
    carriers: Sequence[Smsc],
    *,
    copies_allowed: int = 0,
    settled: bool = True,
) -> Report:
    """Compare the ledgers of the accepted `messages`; a broken invariant is an AssertionError with the page.

    `copies_allowed` is the budget of the faults that were caused; with `settled` nothing may be live any more.
    """
    ms = list(messages)
    client = [
        ClientRow(to=m.msisdn, id=message_id(m.id), account=m.kind.account, category=CATEGORY_LABELS[m.kind.category])
        for m in ms
    ]
    rows = [row_of(await record(store, m.id)) for m in ms]
    submits, receipts = carrier_rows(carriers)
    report = check(client, submits, rows, receipts, copies_allowed=copies_allowed, settled=settled)
    assert report.ok, report.text()
    assert report.accepted == report.final + report.live == len(ms)
    await _check_bookkeeping(valkey)
    return report


async def _check_bookkeeping(valkey: ValkeyServer) -> None:
    # A move that was under way while it was read may show once, a fault shows every time.
    for tries_left in (2, 1, 0):
        with valkey.sync() as client:
            snap = snapshot(client)
        try:
            check_consistent(snap)
            return
        except AssertionError:
            if not tries_left:
                raise
        await asyncio.sleep(0.1)
