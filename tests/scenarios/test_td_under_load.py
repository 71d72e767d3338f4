"""I10: recipients say TD while a campaign runs; nothing leaves to one of them a second after it was acknowledged."""

from __future__ import annotations

import time

from gateway.model import Category
from tests.support.inbound import messages, with_replies
from tests.support.line import channel_to, line_settings, worker
from tests.support.messages import accept, message, number
from tests.support.scenario import accepted, carrier, record, submits
from tests.support.until import until
from tests.support.valkey import ValkeyServer

VERIFICATION, MARKETING = 0, 2


async def test_nothing_leaves_a_second_after_the_opt_out(valkey: ValkeyServer, shards: int) -> None:
    """1,200 adverts at 500 a second to 300 recipients, 60 of whom opt out on the way, with codes to all of them."""
    rules = {c: {"per_number": ()} for c in Category}
    async with carrier() as smsc:
        settings = with_replies(line_settings([channel_to(smsc, "a", max_tps=500)], shards=shards, categories=rules))
        async with worker(settings, valkey) as w:
            numbers = [number() for _ in range(300)]
            ms = [message(w.store, to, category=MARKETING) for _ in range(3) for to in numbers]
            later = {"send_at_ms": int(time.time() * 1000) + 800, "state": "h", "category": MARKETING}
            ms += [message(w.store, to, **later) for to in numbers]
            sids = await accepted(w.store, ms)
            await until(lambda: len(smsc.ledger.submits) >= 300)
            leaving = numbers[::5]
            for to in leaving:
                smsc.send_mo(to, "1069", b"TD")
            await until(lambda: smsc.counters.mo_acked == len(leaving))
            acknowledged = {row.destination: row.acked_at for row in smsc.ledger.receipts if not row.stat}
            assert set(acknowledged) == set(leaving)
            blocked = await accept(w.store, *(message(w.store, to, category=MARKETING) for to in leaving))
            assert blocked == ["blocked"] * len(leaving)
            codes = await accepted(w.store, [message(w.store, to, category=VERIFICATION) for to in numbers])

            async def ended() -> bool:
                states = [(await record(w.store, sid)).state for sid in [*sids, *codes]]
                return all(state in "DB" for state in states)

            await until(ended, timeout_s=30, every_s=0.1)
            adverts = submits(smsc)
            stopped = [await record(w.store, m.id) for m in ms if m.msisdn in acknowledged]
            gone = sum(r.state == "D" for r in stopped)
            # What left to them: adverts before, codes after; nothing else, and their scheduled ones all ended.
            assert sum(adverts[to] for to in leaving) == gone + len(leaving)
            scheduled = [(await record(w.store, m.id)).state for m in ms[-300:] if m.msisdn in acknowledged]
            assert set(scheduled) == {"B"}
            assert {r.reason for r in stopped if r.state == "B"} <= {"user-unsubscribed", "blacklisted"}
            for r in stopped:
                if r.state == "D":
                    first = min(a.at_ms for a in r.attempts) / 1000 - time.time() + time.monotonic()
                    assert first < acknowledged[r.msisdn] + 1, "an advert left a second after the opt-out"
            # Everybody else got everything.
            others = set(numbers) - set(leaving)
            assert {adverts[to] for to in others} == {5}
            assert len(await messages(w.store)) == len(leaving)
            assert await w.store.waiting() == 0
