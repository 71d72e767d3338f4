"""Receipts from the wire to the record: parse, find the message, apply, and only then acknowledge.

Works in batches: while one goes through the store the next gathers. A receipt whose message is not known yet is parked
durably and acknowledged; when the store is down everything is answered with 0x08 so that the SMSC sends it again.
Knows the protocol's octets only as far as `receipt.parse` does; messages from handsets are `inbound`'s affair.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import orjson

from gateway.dlr.inbound import Inbox
from gateway.dlr.notes import Notes
from gateway.dlr.ported import Teacher
from gateway.dlr.reasons import FailureReasons, Verdict
from gateway.dlr.receipt import IdLearner, Receipt, parse, receipt_keys, submit_key, sure_keys
from gateway.errors import StoreUnavailable
from gateway.metrics import Cell, Metrics
from gateway.model import STATE_LABELS, State
from gateway.policy.optout import OptoutWords
from gateway.routing.ported_codes import PortedCode
from gateway.settings import Settings
from gateway.smpp.channel import Channel, Inbound
from gateway.store.blacklists import Blacklists
from gateway.store.moves import BY_ADDRESS, ParkedReceipt, ReceiptRow, spellings
from gateway.store.store import Store

logger = logging.getLogger(__name__)

_MOST = 200
_LANES = 2
_STATUS_AGAIN = 0x08  # ESME_RSYSERR: "temporary" to every SMSC we know of, unlike 0x64
_WAITING_MOST = 20_000
_ROUNDS = 3
"""How often a receipt is looked up whose id turns up between looking and parking it."""


@dataclass(slots=True)
class _Lane:
    """Receipts that wait to be recorded one batch after the other; two lanes keep the store busy."""

    waiting: deque[Inbound] = field(default_factory=deque)
    ready: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class _Item:
    inbound: Inbound
    receipt: Receipt
    keys: tuple[str, ...] = ()
    """The spellings of its id that are looked up, the likeliest first."""
    guesses: tuple[str, ...] = ()
    """Further ones, which may as well be another message's id: an early receipt's own is not known yet."""
    forged: bool = False
    """Its id is known, as that of a message to another number or through another channel."""
    elsewhere: bool = False
    """Through another channel: it is kept, since two carriers may give the same id to messages of one number."""
    ported: PortedCode | None = None
    """What it says about portability, once it has been applied."""
    verdict: Verdict | None = None
    """What its words mean; None where it says delivered."""
    unused: bool = False
    """It says for sure that its number is not in use, and has been applied."""


class Recorder:
    """The receipt processor of one dispatch worker."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        metrics: Metrics,
        teacher: Teacher | None = None,
        reasons: FailureReasons | None = None,
        notes: Notes | None = None,
    ) -> None:
        """`teacher`, where given, hears of receipts that say "ported"; `reasons` says what failures mean.

        `notes` gathers what operators are told of receipts; it is only written where somebody runs it.
        """
        self._reasons = reasons or FailureReasons()
        self.notes = notes or Notes(settings, store, metrics)
        self._blacklists = Blacklists(store)
        self._store = store
        self._teacher = teacher
        self._metrics = metrics
        self._inbox = Inbox(settings, store, metrics)
        self._formats: dict[str, str] = {}  # also of channels that left: their last receipts still come
        self._learners: dict[str, IdLearner] = {}
        self._take(settings)
        self._lanes = [_Lane() for _ in range(_LANES)]
        self._stopping = False
        self._cells: dict[tuple[str, str], Cell] = {}
        self._errors = metrics.counter("dispatch_errors_total", where="receipts")

    def use(self, settings: Settings, reasons: FailureReasons, words: OptoutWords) -> None:
        """Take other settings and their tables (failure codes, opt-out words) into use."""
        self._reasons = reasons
        self.notes.use(settings)
        self._inbox.use(settings, words)
        self._take(settings)

    def _take(self, settings: Settings) -> None:
        for channel in settings.channels:
            if self._formats.get(channel.id) != channel.id_format:
                self._learners.pop(channel.id, None)
                if channel.id_format == "auto":
                    self._learners[channel.id] = IdLearner()
            self._formats[channel.id] = channel.id_format

    def receive(self, items: list[Inbound]) -> None:
        """Take what a session received (a channel's on_inbound)."""
        if sum(len(lane.waiting) for lane in self._lanes) > _WAITING_MOST:
            # The SMSC's own window bounds this; one that has none is told to come again.
            Channel.acknowledge(items, _STATUS_AGAIN)
            return
        for item in items:
            # By the handset's number, so that all receipts of a message keep their order.
            lane = self._lanes[item.source[-1] % _LANES if item.source else 0]
            lane.waiting.append(item)
            lane.ready.set()

    def stop(self) -> None:
        """Let `run` return once everything received has been recorded."""
        self._stopping = True
        self._inbox.stop()
        for lane in self._lanes:
            lane.ready.set()

    async def run(self) -> None:
        """Record batches until stopped and nothing is left."""
        await asyncio.gather(*(self._run_lane(lane) for lane in self._lanes), self._inbox.run())

    async def _run_lane(self, lane: _Lane) -> None:
        while True:
            if not lane.waiting:
                if self._stopping:
                    return
                lane.ready.clear()
                await lane.ready.wait()
                await asyncio.sleep(0)
                continue
            batch = [lane.waiting.popleft() for _ in range(min(_MOST, len(lane.waiting)))]
            try:
                await self._record(batch)
            except StoreUnavailable as exc:
                self._errors.n += 1
                logger.warning("receipts: %s", exc)
                # What waits would only wait for the next time-out, and the SMSC for its answer: 5 s is the limit.
                Channel.acknowledge([*batch, *lane.waiting], _STATUS_AGAIN)
                lane.waiting.clear()
            except Exception:
                # The boundary of this task: a fault of ours must not end receipt processing. Not acknowledged as
                # recorded, so nothing is lost: the SMSC sends these again, except the one we cannot digest.
                self._errors.n += 1
                logger.exception("receipts: a batch failed")
                await self._record_singly(batch)

    async def _record_singly(self, batch: list[Inbound]) -> None:
        """Record a batch that failed as a whole; what fails alone as well becomes a dead letter."""
        for inbound in batch:
            try:
                await self._record([inbound])
            except StoreUnavailable:
                Channel.acknowledge([inbound], _STATUS_AGAIN)
            except Exception:
                logger.exception("receipts: one cannot be recorded and is kept as a dead letter")
                await self._keep_dead(inbound)

    async def _keep_dead(self, inbound: Inbound) -> None:
        try:
            await self._store.keep_dead([_kept(inbound)])
        except StoreUnavailable:
            Channel.acknowledge([inbound], _STATUS_AGAIN)
            return
        self._count(inbound.channel, "unreadable")
        Channel.acknowledge([inbound])

    async def _record(self, batch: list[Inbound]) -> None:
        items: list[_Item] = []
        dead: list[bytes] = []
        handset: list[Inbound] = []
        for inbound in batch:
            receipt = None
            if not inbound.malformed:
                receipt = parse(inbound.short_message, inbound.tlvs, inbound.esm_class, inbound.data_coding)
            if receipt is not None and receipt.id and receipt.final:
                items.append(self._read(inbound, receipt))
            elif receipt is not None and not receipt.final and receipt.id:
                self._count(inbound.channel, "intermediate")
            elif receipt is None and not inbound.malformed:
                handset.append(inbound)
            else:
                dead.append(_kept(inbound))
                self._count(inbound.channel, "unreadable")
        if dead:
            await self._store.keep_dead(dead)
        if handset:
            await self._inbox.record(handset)
        if items:
            await self._apply(items)
        Channel.acknowledge(batch)

    def _read(self, inbound: Inbound, receipt: Receipt) -> _Item:
        """Find out what a final receipt means."""
        if receipt.state == State.DELIVERED:
            return _Item(inbound, receipt)
        verdict = self._reasons.explain(inbound.channel, receipt.stat, receipt.network_error, receipt.err)
        if verdict.own_word and receipt.state == State.UNKNOWN:
            receipt.state = State.UNDELIVERABLE  # a reason stands where the state stands: it did not arrive
        if verdict.unknown:
            self.notes.unknown_code(inbound.channel, verdict.unknown)
        return _Item(inbound, receipt, verdict=verdict)

    async def _apply(self, items: list[_Item]) -> None:
        """Apply a batch: the likeliest spelling of every id first, all in one call; then the rest the long way."""
        rows: list[ReceiptRow] = []
        for item in items:
            channel, r = item.inbound.channel, item.receipt
            item.keys = (self._likeliest(channel, r),)
            rows.append(self._row(item, f"{channel}:{item.keys[0]}"))
        rest = self._note(items, await self._store.apply_receipts(rows))
        if rest:
            await self._apply_rest(rest)
        if self._teacher is not None:
            # Before the acknowledgement: what the store does not take now is taught when the receipt comes again.
            lessons = [(self._row(item), item.ported) for item in items if item.ported is not None]
            if lessons:
                await self._teacher.teach(lessons)
        await self._note_unused([self._row(item) for item in items if item.unused])

    async def _note_unused(self, rows: list[ReceiptRow]) -> None:
        """Note the numbers that carriers say nobody has; the second day on which one does puts it on everybody's list.

        By the message's number and not by the receipt's address, which carriers shorten. A receipt that comes again
        says nothing new, even on another day; so what the store does not take now is not noted.
        """
        if not rows:
            return
        numbers = {msisdn for msisdn, _, _ in await self._store.recipients(rows) if msisdn}
        listed = await self._blacklists.note_invalid(sorted(numbers), int(time.time()) // 86_400)
        if listed:
            logger.info("%d numbers are not in use, as receipts of two days say: on everybody's blacklist", len(listed))

    def _note(self, items: list[_Item], answers: list[tuple[str, int]]) -> list[_Item]:
        """Count what came of receipts and learn from it; returns those whose message was not found."""
        rest = []
        for item, (answer, which) in zip(items, answers, strict=True):
            channel = item.inbound.channel
            if answer in "nqx":
                item.forged = answer != "n"
                item.elsewhere = answer == "x"
                rest.append(item)
                continue
            self._account(channel, item.receipt.state, answer)
            if item.verdict is None and answer in "fpc":
                self.notes.delivered(channel, item.inbound.source)
            item.unused = answer in "fpr" and item.verdict is not None and item.verdict.failure.suppress
            if self._teacher is not None:
                item.ported = self._teacher.meaning(item.receipt)
            if which == BY_ADDRESS:
                self._metrics.counter("late_results_total", channel=channel).n += 1
            elif answer in "fpr" and which >= 0:
                learner = self._learners.get(channel)
                if learner is None or (learner.learned and len(item.keys) + len(item.guesses) == 1):
                    continue
                self._learn(channel, (item.receipt.id, item.receipt.text_id), (item.keys + item.guesses)[which])
        return rest

    def _learn(self, channel: str, spelt: tuple[str, str], key: str) -> None:
        learner = self._learners.get(channel)
        if learner is not None and learner.matched(spelt, key):
            logger.warning("channel %s: receipts spell ids in another form than before", channel)

    def _likeliest(self, channel: str, receipt: Receipt) -> str:
        learner = self._learners.get(channel)
        if learner is None:
            return receipt_keys(receipt.id, self._formats.get(channel, "text"), receipt.text_id)[0]
        if learner.learned in ("", "same"):
            return submit_key(receipt.id)
        return learner.keys((receipt.id, receipt.text_id))[0][0]

    async def _apply_rest(self, items: list[_Item]) -> None:
        """Try every spelling of ids that nobody knows, or that stand for a message to another number; park the rest."""
        pending = items
        for turn in range(_ROUNDS):
            several = []
            for item in pending:
                item.keys, item.guesses = self._spellings(item.inbound.channel, item.receipt)
                if turn or len(item.keys) + len(item.guesses) > 1:
                    several.append(item)
            missing = [item for item in pending if not turn and len(item.keys) + len(item.guesses) <= 1]
            if several:
                missing += self._note(several, await self._store.apply_receipts([self._row(item) for item in several]))
            waiting = []
            for item in missing:
                if item.forged and len(item.keys) + len(item.guesses) == 1 and not item.elsewhere:
                    self._count(item.inbound.channel, "quarantined")
                else:
                    waiting.append(item)
            if not waiting:
                return
            again = turn < _ROUNDS - 1
            answers = await self._store.park(
                [ParkedReceipt(self._row(item), _payload(item), again and not item.forged) for item in waiting]
            )
            pending = []
            for item, answer in zip(waiting, answers, strict=True):
                if answer == "K":
                    pending.append(item)
                else:
                    # Where an id is known, but as another number's, it looks like a forged one.
                    self._count(item.inbound.channel, "quarantined" if item.forged else "parked")
            if not pending:
                return

    def _row(self, item: _Item, names: str = "") -> ReceiptRow:
        channel, verdict = item.inbound.channel, item.verdict
        names = names or spellings(channel, item.keys, item.guesses)
        source, state = item.inbound.source, item.receipt.state
        if verdict is None:
            return (channel, names, source, state, "", "", False, False)
        why = verdict.failure
        return (channel, names, source, state, why.reason, verdict.code, why.passes_elsewhere, why.permanent)

    def _spellings(self, channel: str, receipt: Receipt) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the spellings of a receipt's id to look up, and those that are guesses."""
        learner = self._learners.get(channel)
        if learner is not None:
            return learner.keys((receipt.id, receipt.text_id))
        id_format = self._formats.get(channel, "auto")
        sure = sure_keys(receipt.id, id_format, receipt.text_id)
        keys = receipt_keys(receipt.id, id_format, receipt.text_id)
        return sure, tuple(key for key in keys if key not in sure)

    async def apply_parked(self, parked: list[bytes], *, waited: bool = False) -> None:
        """Apply early receipts whose message is known by now (the settler's and the timers' callback).

        `waited`: long enough for their own message to be known, so that guesses at their spelling count.
        """
        items: list[tuple[ParkedReceipt, dict[str, Any]]] = []
        for payload in dict.fromkeys(parked):  # parked under several spellings it comes more than once
            data = orjson.loads(payload)
            items.append((ParkedReceipt(self._parked_row(data, waited=waited), payload), data))
        answers = await self._store.apply_receipts([item.row for item, _ in items])
        done = []
        lessons = []
        unused: list[ReceiptRow] = []
        for (item, data), (answer, which) in zip(items, answers, strict=True):
            if which == BY_ADDRESS:
                self._metrics.counter("late_results_total", channel=item.row[0]).n += 1
            if answer not in "nqx":  # else parked under this spelling by another message's receipt: it stays
                self._account(item.row[0], item.row[3], answer)
                done.append(item)
                if "i" in data and answer in "fpr" and 0 <= which < BY_ADDRESS:
                    self._learn(item.row[0], tuple(data["i"]), (*data["k"], *data["m"])[which])
                if data.get("x"):
                    unused.append(item.row)
                if item.row[3] == State.DELIVERED:
                    if answer in "fpc":
                        self.notes.delivered(item.row[0], item.row[2])
                elif self._teacher is not None:
                    ported = self._teacher.of_words(data["e"], data["w"])
                    if ported is not None:
                        lessons.append((item.row, ported))
        if lessons and self._teacher is not None:
            await self._teacher.teach(lessons)
        await self._note_unused(unused)
        if done:
            await self._store.unpark(done)

    def _parked_row(self, data: dict[str, Any], *, waited: bool) -> ReceiptRow:
        """Return a parked receipt as it is applied. Those of before say no reason, only words (`w`, `e`)."""
        channel, state = data["c"], data["s"]
        sure, guesses = data["k"], data.get("m", [])
        names = spellings(channel, sure + guesses) if waited else spellings(channel, sure, guesses)
        address = data["a"].encode("latin-1")
        if state == State.DELIVERED:
            return (channel, names, address, state, "", "", False, False)
        if "r" in data:
            return (channel, names, address, state, data["r"], data["d"], data["g"], data["p"])
        verdict = self._reasons.explain(channel, data["w"], "", data["e"])
        why = verdict.failure
        return (channel, names, address, state, why.reason, verdict.code, why.passes_elsewhere, why.permanent)

    def _account(self, channel: str, state: str, answer: str) -> None:
        if answer in "fpcr":
            self._count(channel, STATE_LABELS[state])
            if answer == "c":
                self._count(channel, "corrected")
        else:
            self._count(channel, {"d": "duplicate", "q": "quarantined"}.get(answer, "orphan"))

    def _count(self, channel: str, state: str) -> None:
        cell = self._cells.get((channel, state))
        if cell is None:
            cell = self._cells[channel, state] = self._metrics.counter("receipts_total", channel=channel, state=state)
        cell.n += 1


def _payload(item: _Item) -> bytes:
    """What is kept of a receipt that comes before its message is known: enough to apply it later."""
    r = item.receipt
    kept: dict[str, Any] = {
        "c": item.inbound.channel,
        "k": item.keys,
        "m": item.guesses,
        "i": (r.id, r.text_id),
        "a": item.inbound.source.decode("latin-1"),
        "s": r.state,
        "w": r.stat,
        "e": r.network_error or r.err,
    }
    if item.verdict is not None:
        why = item.verdict.failure
        kept |= {"r": why.reason, "d": item.verdict.code, "g": why.passes_elsewhere, "p": why.permanent}
        kept |= {"x": True} if why.suppress else {}
    return orjson.dumps(kept)


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
