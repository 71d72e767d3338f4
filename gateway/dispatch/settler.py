"""Turns answers into settled messages, a batch at a time: correlations first, then the messages, then early receipts.

Keeps every claimed message of this worker until the store knows what became of it. When the store is down it holds the
results in memory (bounded by the windows) and says so, and nothing new is claimed until they are written.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable

from gateway.dispatch.flight import Flight
from gateway.dispatch.outcome import Decision, Outcome, Situation, classify, decide
from gateway.errors import StoreUnavailable
from gateway.metrics import Cell, Hist, Metrics
from gateway.model import CATEGORY_LABELS, Category
from gateway.routing.table import RouteTable
from gateway.settings import Settings
from gateway.smpp.channel import ANSWERED, UNSENT
from gateway.store.moves import Correlation, Settlement, SettleRow
from gateway.store.records import attempt_log
from gateway.store.store import Store

logger = logging.getLogger(__name__)

_MOST = 200
_CALLS = 2
_RETRY_FIRST_S, _RETRY_MOST_S = 0.1, 2.0
_KNOWN_CELLS = 4096
_STATE_OF_VERB = {"s": "submitted", "F": "failed", "u": "uncertain", "U": "uncertain"}

SubmitKey = Callable[[str, str], str]
OnParked = Callable[[list[tuple[Correlation, bytes]]], Awaitable[None]]


class Settler:
    """The flights of one worker, from claim to settled."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        metrics: Metrics,
        table: RouteTable,
        *,
        submit_key: SubmitKey,
        on_parked: OnParked,
    ) -> None:
        self._settings = settings
        self._store = store
        self._metrics = metrics
        self._table = table
        self._submit_key = submit_key
        self._on_parked = on_parked
        self._formats = {c.id: c.id_format for c in settings.channels}
        self._rules = [settings.categories[c] for c in Category]
        self._sent = [Decision("s", r.dlr_wait_s * 1000) for r in self._rules]
        self._done: deque[Flight] = deque()
        self._ready = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._stopping = False
        self._submits: dict[tuple[str, int], Cell] = {}
        self._response: dict[str, Hist] = {
            c.id: metrics.histogram("submit_response_seconds", channel=c.id) for c in settings.channels
        }
        self._states: dict[tuple[int, bytes, str, str], Cell] = {}
        self._errors = metrics.counter("dispatch_errors_total", where="settle")
        self._tasks: set[asyncio.Task[None]] = set()  # one-off tasks, held so that they are not collected
        self.failing = False
        self.flights: dict[str, Flight] = {}
        """Everything claimed and not settled yet, by id."""

    # --- the claimer's side

    def begin(self, flight: Flight) -> None:
        """A message was claimed; from here on it is accounted for."""
        self.flights[flight.message.id] = flight
        self._empty.clear()

    def fail(self, flight: Flight, reason: str) -> None:
        """A message could not be put into PDUs: it is final, its neighbours go on."""
        flight.note(Outcome.PERMANENT, None)
        flight.cause = reason
        self._finish(flight)

    def fail_unreadable(self, sid: str, shard: int, attempt: int) -> None:
        """A claimed record cannot be read: end it, so that it does not come back for ever."""
        logger.error("record %s cannot be read and ends as failed", sid)
        item = Settlement(sid, shard, attempt, "F", "", reason="record_unreadable")
        task = asyncio.create_task(self._settle_one(item))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _settle_one(self, item: Settlement) -> None:
        try:
            await self._store.settle(item.shard, [item])
        except StoreUnavailable:
            self._errors.n += 1  # the claim stays and is looked at again by the lease keeper's comparison

    async def release(self, shard: int, flights: list[Flight]) -> None:
        """Give messages of which nothing was sent back to the head of their queues."""
        try:
            await self._store.release(shard, [(f.message.id, f.message.attempt) for f in flights])
        finally:
            for f in flights:
                self._forget(f)

    # --- the channels' side

    def answered(
        self, flight: Flight, part: int, kind: str, status: int, smsc_id: str, seconds: float, late: bool
    ) -> None:
        """Take one part's answer, or the news that none came (a channel's OnAnswer)."""
        if kind == ANSWERED:
            self._count(flight.channel, status)
            self._response[flight.channel].observe(seconds)
            if status == 0:
                flight.accepted |= 1 << part
                if smsc_id:
                    flight.smsc_ids.append((part, smsc_id))
            if late:
                self._metrics.counter("late_results_total", channel=flight.channel).n += 1
                if status == 0 and flight.complete:
                    flight.outcome, flight.status = Outcome.SENT, 0
                    flight.late = flight.pending <= 0 and not flight.done
                    if flight.late:
                        self._finish(flight)
                return
            flight.note(classify(status), status)
        elif kind == UNSENT:
            flight.unsent += 1
            flight.note(Outcome.SLOW, None)
        else:
            flight.note(Outcome.UNCERTAIN, None)
            flight.cause = kind
        flight.pending -= 1
        if flight.pending <= 0:
            self._finish(flight)

    def _finish(self, flight: Flight) -> None:
        if not flight.done:
            flight.done = True
            self._done.append(flight)
            self._ready.set()

    def _count(self, channel: str, status: int) -> None:
        cell = self._submits.get((channel, status))
        if cell is None:
            cell = self._metrics.counter("submits_total", channel=channel, status=f"0x{status:08X}")
            self._submits[channel, status] = cell
        cell.n += 1

    def _forget(self, flight: Flight) -> None:
        if self.flights.get(flight.message.id) is flight:
            del self.flights[flight.message.id]
        if not self.flights:
            self._empty.set()

    # --- the loop

    async def run(self) -> None:
        """Settle batches until stopped and nothing is left: one at a time, a second beside it when it is a full one."""
        busy: set[asyncio.Task[None]] = set()

        def ended(task: asyncio.Task[None]) -> None:
            busy.discard(task)
            self._ready.set()

        while True:
            if self._done and (not busy or (len(busy) < _CALLS and len(self._done) >= _MOST // 2)):
                batch = [self._done.popleft() for _ in range(min(_MOST, len(self._done)))]
                for f in batch:
                    f.done = False
                task = asyncio.create_task(self._settle_surely(batch), name="settle-batch")
                busy.add(task)
                task.add_done_callback(ended)
                continue
            if self._stopping and not self._done and not busy:
                return
            self._ready.clear()
            await self._ready.wait()
            # One turn of the loop: answers of one read join the batch.
            await asyncio.sleep(0)

    async def idle(self) -> None:
        """Wait until nothing is claimed by this worker."""
        await self._empty.wait()

    def stop(self) -> None:
        """Let `run` return once everything that is done has been settled."""
        self._stopping = True
        self._ready.set()

    async def _settle_surely(self, batch: list[Flight]) -> None:
        delay_s = _RETRY_FIRST_S
        while True:
            try:
                await self._settle(batch)
            except StoreUnavailable as exc:
                # Every step can be repeated: correlations are written again, settled items answer `0`.
                self.failing = True
                self._errors.n += 1
                logger.warning("settling: %s", exc)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, _RETRY_MOST_S)
            except Exception:
                # The boundary of this task: a fault of ours in one message must not end settling for all. It stays
                # claimed, and is uncertain when this worker ends.
                self._errors.n += 1
                logger.exception("settling failed for %d messages", len(batch))
                if len(batch) > 1:
                    for f in batch:
                        await self._settle_surely([f])
                return
            else:
                self.failing = False
                return

    async def _settle(self, batch: list[Flight]) -> None:
        # A message that this worker has claimed again was settled by a call whose answer was lost: its next attempt
        # may bear the same number, so the call must not be repeated.
        batch = [f for f in batch if f.late or self.flights.get(f.message.id) is f]
        correlations = [
            Correlation(f.channel, key, f.message.id, part)
            for f in batch
            for part, raw in f.smsc_ids
            if (key := self._submit_key(raw, self._formats[f.channel]))
        ]
        parked = await self._store.correlate(correlations) if correlations else []
        groups: dict[int, list[tuple[Flight, SettleRow, Decision]]] = {}
        released: dict[int, list[tuple[str, int]]] = {}
        for f in batch:
            if f.unsent and not f.accepted and f.outcome is Outcome.SLOW and f.status is None:
                released.setdefault(f.shard, []).append((f.message.id, f.message.attempt))
                continue
            if f.complete and not f.cause:
                # The plain case, laid out without asking: most messages take it.
                m = f.message
                f.outcome, f.status = Outcome.SENT, 0
                decision = self._sent[m.category]
                log = attempt_log(m.attempt, f.channel, 0, "sent", f.smsc_ids)
                row = (m.id, m.attempt, "s", f.channel, decision.delay_ms, f.accepted, 0, "", "", log)
            else:
                decision = self._decide(f)
                row = self._settlement(f, decision).row()
            groups.setdefault(f.shard, []).append((f, row, decision))
        for shard, pairs in released.items():
            await self._store.release(shard, pairs)
        for shard, items in groups.items():
            answers = await self._store.settle_rows(shard, [row for _, row, _ in items])
            for (f, _, decision), answer in zip(items, answers, strict=True):
                self._account(f, decision, answer)
        for f in batch:
            self._forget(f)
        if parked:
            await self._apply_parked(parked)

    async def _apply_parked(self, parked: list[tuple[Correlation, bytes]]) -> None:
        try:
            await self._on_parked(parked)
        except StoreUnavailable as exc:
            # They stay parked, and the timers look at them again.
            self._errors.n += 1
            logger.warning("applying early receipts: %s", exc)

    def _decide(self, f: Flight) -> Decision:
        m = f.message
        if f.cause.startswith("cannot_be"):
            return Decision("F", reason=f.cause)
        if f.complete:
            f.outcome, f.status = Outcome.SENT, 0
        route = self._table.get(m.route)
        return decide(
            f.outcome,
            self._rules[m.category],
            Situation(
                m.category,
                m.attempt,
                m.slow,
                m.rank,
                route.next_rank(m.rank) if route else None,
                f.status,
                m.parts,
                f.all_accepted,
                random.random(),
            ),
        )

    def _settlement(self, f: Flight, decision: Decision) -> Settlement:
        m = f.message
        refused = f.outcome not in (Outcome.SENT, Outcome.UNCERTAIN)
        code = f"0x{f.status:08X}" if f.status is not None and refused else ""
        log = attempt_log(m.attempt, f.channel, f.status, f.outcome.value, f.smsc_ids)
        return Settlement(
            m.id, f.shard, m.attempt, decision.verb, f.channel, decision.delay_ms, f.accepted, decision.rank,
            decision.reason, code, log,
        )  # fmt: skip

    def _account(self, f: Flight, decision: Decision, answer: str) -> None:
        m = f.message
        if answer == "0":
            self._metrics.counter("late_results_total", channel=f.channel).n += 1
            return
        if decision.verb == "n":
            self._metrics.counter(
                "failovers_total",
                **{"route": m.route, "from": f.channel, "to": str(decision.rank), "cause": f.outcome.value},
            ).n += 1
        key = (m.category, m.dims, decision.verb, decision.reason)
        cell = self._states.get(key)
        if cell is None:
            if len(self._states) >= _KNOWN_CELLS:
                self._states.clear()  # campaigns come and go
            cell = self._states[key] = self._metrics.counter(
                "messages_total",
                category=CATEGORY_LABELS[m.category],
                route=m.route,
                state=_STATE_OF_VERB.get(decision.verb, "retried"),
                reason=decision.reason,
            )
        cell.n += 1
