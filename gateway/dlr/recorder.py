"""Receipts from the wire to the record: parse, find the message, apply, and only then acknowledge.

Works in batches: while one goes through the store the next gathers. A receipt whose message is not known yet is parked
durably and acknowledged; when the store is down everything is answered with 0x08 so that the SMSC sends it again.
Knows the protocol's octets only as far as `receipt.parse` does; messages from handsets are kept for a later stage.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections import deque
from dataclasses import dataclass

import orjson

from gateway.dlr.receipt import Receipt, parse, receipt_keys
from gateway.errors import StoreUnavailable
from gateway.metrics import Cell, Metrics
from gateway.model import STATE_LABELS, shard_of_id
from gateway.settings import Settings
from gateway.smpp.channel import Channel, Inbound
from gateway.store.store import AppliedReceipt, Correlation, FoundReceipt, Store

logger = logging.getLogger(__name__)

_MOST = 200
_STATUS_AGAIN = 0x08  # ESME_RSYSERR: "temporary" to every SMSC we know of, unlike 0x64
_ID_CHARS = 22
_WAITING_MOST = 20_000


@dataclass(slots=True)
class _Item:
    inbound: Inbound
    receipt: Receipt


class Recorder:
    """The receipt processor of one dispatch worker."""

    def __init__(self, settings: Settings, store: Store, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._formats = {c.id: c.id_format for c in settings.channels}
        self._waiting: deque[Inbound] = deque()
        self._ready = asyncio.Event()
        self._stopping = False
        self._cells: dict[tuple[str, str], Cell] = {}
        self._errors = metrics.counter("dispatch_errors_total", where="receipts")

    def receive(self, items: list[Inbound]) -> None:
        """Take what a session received (a channel's on_inbound)."""
        if len(self._waiting) > _WAITING_MOST:
            # The SMSC's own window bounds this; one that has none is told to come again.
            Channel.acknowledge(items, _STATUS_AGAIN)
            return
        self._waiting.extend(items)
        self._ready.set()

    def stop(self) -> None:
        """Let `run` return once everything received has been recorded."""
        self._stopping = True
        self._ready.set()

    async def run(self) -> None:
        """Record batches until stopped and nothing is left."""
        while True:
            if not self._waiting:
                if self._stopping:
                    return
                self._ready.clear()
                await self._ready.wait()
                await asyncio.sleep(0)
                continue
            batch = [self._waiting.popleft() for _ in range(min(_MOST, len(self._waiting)))]
            try:
                await self._record(batch)
            except StoreUnavailable as exc:
                self._errors.n += 1
                logger.warning("receipts: %s", exc)
                Channel.acknowledge(batch, _STATUS_AGAIN)
            except Exception:
                # The boundary of this task: a fault of ours must not end receipt processing. Not acknowledged as
                # recorded, so nothing is lost: the SMSC sends these again.
                self._errors.n += 1
                logger.exception("receipts: a batch failed")
                Channel.acknowledge(batch, _STATUS_AGAIN)

    async def _record(self, batch: list[Inbound]) -> None:
        items: list[_Item] = []
        dead: list[bytes] = []
        handset: list[bytes] = []
        for inbound in batch:
            receipt = None
            if not inbound.malformed:
                receipt = parse(inbound.short_message, inbound.tlvs, inbound.esm_class, inbound.data_coding)
            if receipt is not None and receipt.id and receipt.final:
                items.append(_Item(inbound, receipt))
            elif receipt is not None and not receipt.final and receipt.id:
                self._count(inbound.channel, "intermediate")
            elif receipt is None and not inbound.malformed:
                handset.append(_kept(inbound))
                self._metrics.counter("inbound_total", channel=inbound.channel).n += 1
            else:
                dead.append(_kept(inbound))
                self._count(inbound.channel, "unreadable")
        if dead:
            await self._store.keep_inbound("dead", dead)
        if handset:
            await self._store.keep_inbound("mo", handset)
        if items:
            await self._apply(items)
        Channel.acknowledge(batch)

    async def _apply(self, items: list[_Item]) -> None:
        found = await self._store.find_receipts(
            [
                FoundReceipt(
                    i.inbound.channel,
                    receipt_keys(i.receipt.id, self._formats.get(i.inbound.channel, "auto"), i.receipt.text_id),
                    True,
                    _payload(i),
                )
                for i in items
            ]
        )
        known: dict[int, list[AppliedReceipt]] = {}
        for item, answer in zip(items, found, strict=True):
            if len(answer) > _ID_CHARS:
                r = item.receipt
                sid = answer[:_ID_CHARS]
                known.setdefault(shard_of_id(sid), []).append(
                    AppliedReceipt(
                        sid,
                        shard_of_id(sid),
                        int(answer[_ID_CHARS:]),
                        item.inbound.channel,
                        r.state,
                        item.inbound.source.decode("latin-1"),
                        r.stat,
                        r.network_error or r.err,
                    )
                )
            else:
                self._count(item.inbound.channel, "parked" if answer == "P" else "dropped")
        for shard, group in known.items():
            self._account(group, await self._store.apply_receipts(shard, group))

    async def apply_parked(self, parked: list[tuple[Correlation, bytes]]) -> None:
        """Apply early receipts whose message is known by now (the settler's and the timers' callback)."""
        known: dict[int, list[AppliedReceipt]] = {}
        done: list[tuple[str, str]] = []
        for correlation, raw in parked:
            data = orjson.loads(raw)
            sid, part = correlation.id, correlation.part
            if not sid:
                answer = (
                    await self._store.find_receipts(
                        [FoundReceipt(correlation.channel, (correlation.smsc_id,), True, raw)]
                    )
                )[0]
                if len(answer) <= _ID_CHARS:
                    continue
                sid, part = answer[:_ID_CHARS], int(answer[_ID_CHARS:])
            shard = shard_of_id(sid)
            known.setdefault(shard, []).append(
                AppliedReceipt(sid, shard, part, correlation.channel, data["s"], data["a"], data["w"], data["e"])
            )
            done.extend((correlation.channel, key) for key in data["k"])
        for shard, group in known.items():
            self._account(group, await self._store.apply_receipts(shard, group))
        if done:
            await self._store.unpark(done)

    def _account(self, group: list[AppliedReceipt], answers: list[str]) -> None:
        for receipt, answer in zip(group, answers, strict=True):
            if answer in "fpc":
                self._count(receipt.channel, STATE_LABELS[receipt.state])
                if answer == "c":
                    self._count(receipt.channel, "corrected")
            else:
                self._count(receipt.channel, {"d": "duplicate", "q": "quarantined"}.get(answer, "orphan"))

    def _count(self, channel: str, state: str) -> None:
        cell = self._cells.get((channel, state))
        if cell is None:
            cell = self._cells[channel, state] = self._metrics.counter("receipts_total", channel=channel, state=state)
        cell.n += 1


def _payload(item: _Item) -> bytes:
    """What is kept of a receipt that comes before its message is known: enough to apply it later."""
    r = item.receipt
    return orjson.dumps(
        {
            "s": r.state,
            "a": item.inbound.source.decode("latin-1"),
            "w": r.stat,
            "e": r.network_error or r.err,
            "k": receipt_keys(r.id, "auto", r.text_id),
        }
    )


def _kept(inbound: Inbound) -> bytes:
    return orjson.dumps(
        {
            "at": int(time.time() * 1000),
            "channel": inbound.channel,
            "from": inbound.source.decode("latin-1"),
            "to": inbound.destination.decode("latin-1"),
            "coding": inbound.data_coding,
            "esm_class": inbound.esm_class,
            "octets": base64.b64encode(inbound.malformed or inbound.short_message).decode(),
        }
    )
