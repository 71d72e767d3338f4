"""Receipts by data_sm through the whole line: settled like any other, answered only once they are on record."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.errors import StoreUnavailable
from gateway.smpp import channel
from tests.support.line import channel_to, line_settings, worker
from tests.support.messages import message
from tests.support.scenario import accepted, carrier, end_as
from tests.support.until import until
from tests.support.valkey import ValkeyServer


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "_UNBIND_S", 0.5)


@pytest.mark.parametrize("layout", [{}, {"receipt_text": False}, {"receipt_tlvs": False}], ids=["both", "tlvs", "text"])
async def test_they_settle_messages(valkey: ValkeyServer, layout: dict[str, bool]) -> None:
    async with carrier(receipt_pdu="data_sm", **layout) as smsc:
        async with worker(line_settings([channel_to(smsc, "a")]), valkey) as w:
            sids = await accepted(w.store, [message(w.store) for _ in range(20)])
            await end_as(w.store, sids, D=20)
            await until(lambda: smsc.counters.settled == 20)
            assert {row.ack for row in smsc.ledger.receipts} == {0}


async def test_they_are_answered_after_the_record(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with carrier(receipt_pdu="data_sm", redeliver_s=0.05) as smsc:
        async with worker(line_settings([channel_to(smsc, "a")]), valkey) as w:
            apply, gate, calls = w.store.apply_receipts, asyncio.Event(), []

            async def held(*args: Any, **kwargs: Any) -> Any:
                calls.append(len(smsc.ledger.receipts))
                if len(calls) == 1:
                    raise StoreUnavailable("as if it were down", outcome="not_stored")
                await gate.wait()
                return await apply(*args, **kwargs)

            monkeypatch.setattr(w.store, "apply_receipts", held)
            sids = await accepted(w.store, [message(w.store)])
            # The store was down: the SMSC is asked to send it again, and does.
            await until(lambda: len(calls) == 2)
            assert [row.ack for row in smsc.ledger.receipts] == [0x08, None]
            # A second message goes through the same session meanwhile; the receipt is still not answered.
            sids += await accepted(w.store, [message(w.store)])
            await until(lambda: smsc.counters.answered_ok == 2)
            assert smsc.ledger.receipts[1].ack is None
            gate.set()
            await end_as(w.store, sids, D=2)
            await until(lambda: smsc.counters.settled == 2)
