"""What scenario tests say again and again: carriers for a block, counting by state, submits by number.

Builds on `line` (a whole gateway line in the test's process) and `messages`; knows nothing of HTTP.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from typing import Any

from gateway.model import NewMessage
from gateway.simulator.smsc import Smsc
from gateway.smpp.codec import encode_deliver_sm
from gateway.smpp.pdu import DeliverSm
from gateway.store.records import Record
from gateway.store.store import Store
from tests.support.line import smsc, states
from tests.support.messages import accept
from tests.support.until import until
from tests.support.valkey import ValkeyServer

VERIFICATION, NOTIFICATION, MARKETING = 0, 1, 2


@contextlib.asynccontextmanager
async def carrier(**options: Any) -> AsyncIterator[Smsc]:
    """Run one simulated carrier on a free port."""
    one = smsc(**options)
    await one.start()
    try:
        yield one
    finally:
        await one.stop(timeout_s=0.5)


async def accepted(store: Store, messages: Iterable[NewMessage]) -> list[bytes]:
    """Accept messages, all of which must be taken; returns their ids."""
    ms = list(messages)
    for i in range(0, len(ms), 200):
        codes = Counter(await accept(store, *ms[i : i + 200]))
        assert set(codes) == {"accepted"}, codes
    return [m.id for m in ms]


async def end_as(store: Store, sids: list[bytes], timeout_s: float = 10.0, **expected: int) -> None:
    """Wait until the messages count by state as given (`D=3, u=1`), every one of them in one of these states."""
    assert sum(expected.values()) == len(sids)
    seen: dict[str, int] = {}

    async def so() -> bool:
        nonlocal seen
        seen = await states(store, sids)
        return seen == expected

    try:
        await until(so, timeout_s=timeout_s, every_s=0.02)
    except AssertionError:
        raise AssertionError(f"states are {seen}, not {expected}") from None


async def record(store: Store, sid: bytes) -> Record:
    """Return a record that must be there."""
    found = await store.get(sid)
    assert found is not None
    return found


def submits(carrier: Smsc) -> Counter[str]:
    """Count the short messages a carrier saw, by number."""
    return Counter(carrier.ledger.destinations())


def bring_forward(valkey: ValkeyServer, family: str, shards: int = 1) -> None:
    """Let the store's time buckets (`exp`, `wait`) be due now: their grain is minutes, a test's is not."""
    with valkey.sync() as client:
        for shard in range(shards):
            p = f"gw:{{s{shard:02d}}}:{family}:"
            past = int(time.time()) // 300 * 300 - 300
            for key in client.keys(p + "*"):
                if not key.endswith((b"cursor", b":%d" % past)):
                    client.rpush(f"{p}{past}", *client.lrange(key, 0, -1))
                    client.delete(key)
            client.set(p + "cursor", past)


def receipt_text(smsc_id: str, stat: str = "DELIVRD", err: str = "000") -> bytes:
    """Return a receipt's text in the standard layout."""
    return (
        f"id:{smsc_id} sub:001 dlvrd:001 submit date:2512010900 done date:2512010901 stat:{stat} err:{err} text:"
    ).encode()


def receipt_pdu(smsc_id: str, address: str, number: int, stat: str = "DELIVRD", **fields: Any) -> bytes:
    """Return the octets of a deliver_sm that holds a receipt; the sequence number is far from the simulator's own."""
    values: dict[str, Any] = {
        "source_addr_ton": 1,
        "source_addr_npi": 1,
        "source_addr": address.encode(),
        "destination_addr": b"1069",
        "esm_class": 4,
        "short_message": receipt_text(smsc_id, stat),
    }
    values.update(fields)
    return encode_deliver_sm(DeliverSm(**values), 0x10000 + number)
