"""Turns answers into settled messages, a batch at a time, and then applies the receipts that came before them.

Keeps every claimed message of this worker until the store knows what became of it. When the store is down it holds the
results in memory (bounded by the windows) and says so, and nothing new is claimed until they are written.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from gateway import journal
from gateway.dispatch.destinations import FullQueues, UnreachedPrefixes
from gateway.dispatch.flight import Flight, Taken
from gateway.dispatch.outcome import (
    INVALID_DESTINATION,
    OVERRIDES,
    QUEUE_FULL,
    TABLE,
    Choice,
    Decision,
    Outcome,
    Row,
    Situation,
    classify,
    decide,
)
from gateway.errors import StoreUnavailable
from gateway.metrics import Cell, Hist, Metrics
from gateway.model import CATEGORY_LABELS, Category, message_id, route_name
from gateway.reasons import ended, overrides
from gateway.routing.table import RouteTable
from gateway.settings import Settings
from gateway.smpp.channel import ANSWERED, UNSENT
from gateway.store.moves import ALL_PARTS, Settlement, SettleRow, SmscId, named
from gateway.store.record_log import WITHOUT_WORDS, attempt_log
from gateway.store.records import FLAG_REDELIVERED
from gateway.store.store import Store

logger = logging.getLogger(__name__)

_MOST = 200
_CALLS = 2
_RETRY_FIRST_S, _RETRY_MOST_S = 0.1, 2.0
_KNOWN_CELLS = 4096
_STATE_OF_VERB = {"s": "submitted", "F": "failed", "u": "uncertain", "U": "uncertain"}

SubmitKey = Callable[[str, str], str]
OnFault = Callable[[str, Row, int], None]
"""A channel answered with its own fault, or ours: channel, row, status."""
LeaveOut = Callable[[str, int], bool]
"""A channel's SMSC will not have a field (WITHOUT_*): leave it out from now on. False where it is not sent anyway."""


class OnParked(Protocol):
    """Applies parked receipts; `waited` says that they have waited for their own message long enough."""

    def __call__(self, parked: list[bytes], *, waited: bool = False) -> Awaitable[None]: ...


@dataclass(slots=True)
class _Batch:
    """What one call settles on one shard."""

    items: list[tuple[Flight, Decision]] = field(default_factory=list)
    rows: list[SettleRow] = field(default_factory=list)
    smsc_ids: list[SmscId] = field(default_factory=list)


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
        available: Callable[[], frozenset[str]],
        on_fault: OnFault,
        leave_out: LeaveOut,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._submit_key = submit_key
        self._on_parked = on_parked
        self._available = available
        self._on_fault = on_fault
        self._leave_out = leave_out
        self._spared: dict[tuple[str, int], int] = {}  # answers not held against a channel, by status
        self._throttled: dict[str, int] = {}
        self._unreached = UnreachedPrefixes()
        self._full = FullQueues()
        self._accepted_before: dict[str, tuple[int, float]] = {}  # at the last full queue: how many, and since when
        self.connection_faults: dict[str, int] = {}
        """Answers that did not come, by channel: time-outs and lost sessions so far."""
        self._done: deque[Flight] = deque()
        self._ready = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._stopping = False
        self._submits: dict[tuple[str, int], Cell] = {}
        self._response: dict[str, Hist] = {}
        self._formats: dict[str, str] = {}
        self._prices: dict[str, int] = {}
        self._states: dict[tuple[int, bytes, str, str], Cell] = {}
        self._errors = metrics.counter("dispatch_errors_total", where="settle")
        self._tasks: set[asyncio.Task[None]] = set()  # one-off tasks, held so that they are not collected
        self.failing = False
        self.flights: dict[bytes, Flight] = {}
        """Everything claimed and not settled yet, by id."""
        self.redeliver_after_ms: Callable[[str, int, str], int] | None = None
        """When to look for the receipt of what a channel took (lane, category, channel); None: never."""
        self._taken: dict[tuple[int, str], Taken] = {}
        self._finished: dict[int, list[str]] = {}
        self.use(settings, table)

    def use(self, settings: Settings, table: RouteTable) -> None:
        """Take other settings into use. What is under way on a channel that left is settled by what it had."""
        self._table = table
        self._rules = [settings.categories[c] for c in Category]
        self._sent = [Decision("s", r.dlr_wait_s * 1000) for r in self._rules]
        self._overrides = {
            c.id: {code: OVERRIDES[word] for code, word in c.outcomes} for c in settings.channels if c.outcomes
        }
        self._own_codes = {c.id: overrides(c.failure_codes) for c in settings.channels if c.failure_codes}
        for c in settings.channels:
            self._formats[c.id], self._prices[c.id] = c.id_format, round(c.price * 1_000_000)
            self._throttled.setdefault(c.id, 0)
            self.connection_faults.setdefault(c.id, 0)
            self._response[c.id] = self._metrics.histogram("submit_response_seconds", channel=c.id)

    # --- the claimer's side

    def took(self, call: Taken) -> None:
        """A claim call took something: it is known until all of it is settled and the store has forgotten it."""
        self._taken[call.shard, call.field] = call

    def knows(self, shard: int, field: str) -> bool:
        """Whether a claim field of the store is one of ours that is under way or about to be forgotten."""
        return (shard, field) in self._taken or field in self._finished.get(shard, ())

    async def forget_finished(self, shard: int) -> None:
        """Tell the store which claim calls are settled, when no settling is there to take the news along."""
        finished = self._finished.pop(shard, [])
        if finished:
            try:
                await self._store.release(shard, [], finished)
            except BaseException:
                self._finished.setdefault(shard, []).extend(finished)
                raise

    def begin(self, flight: Flight) -> None:
        """A message was claimed; from here on it is accounted for."""
        self.flights[flight.message.id] = flight
        self._empty.clear()

    def fail(self, flight: Flight, reason: str) -> None:
        """A message could not be put into PDUs: it is final, its neighbours go on."""
        flight.note(Outcome.PERMANENT, None)
        flight.cause = reason
        self._finish(flight)

    def refuse(self, flight: Flight) -> None:
        """Its channel may not carry a message that came to it all the same: the others are asked, as after `next`."""
        flight.note(Outcome.NEXT, None)
        self._finish(flight)

    def fail_unreadable(self, call: Taken, claim: bytes, attempt: int) -> None:
        """A claimed record cannot be read: end it, so that it does not come back for ever."""
        logger.error("record %s cannot be read and ends as failed", message_id(claim[:16]))
        call.left += 1
        task = asyncio.create_task(
            self._settle_one(call, Settlement(claim, attempt, "F", "", reason="record_unreadable", permanent=True))
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _settle_one(self, call: Taken, item: Settlement) -> None:
        try:
            await self._store.settle(call.shard, [item])
        except StoreUnavailable:
            # The claim stays, and is given back when nobody knows its call any more: it comes once more.
            self._errors.n += 1
            self._taken.pop((call.shard, call.field), None)
        else:
            self._one_less(call)

    async def release(self, shard: int, flights: list[Flight]) -> None:
        """Give messages of which nothing was sent back to the head of their queues."""
        try:
            await self._store.release(shard, [f.message.claim for f in flights])
        finally:
            for f in flights:
                self._forget(f)

    # --- the channels' side

    def answered(
        self, flight: Flight, part: int, kind: str, status: int, smsc_id: str, seconds: float, late: bool
    ) -> None:
        """Take one part's answer, or the news that none came (a channel's OnAnswer).

        A part of -n is a message that went as one submit_sm: its answer is that of all its n parts, and its SMSC id and
        the one receipt that comes for it stand for them all.
        """
        if part < 0:
            self._answered_as_one(flight, -part, kind, status, smsc_id, seconds, late)
            return
        if kind == ANSWERED:
            self._count(flight.channel, status)
            self._response[flight.channel].observe(seconds)
            if status == 0:
                if self._unreached.watching:
                    self._unreached.note(flight.channel, flight.message.msisdn, False, time.monotonic())
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
            flight.note(self._refused(flight, status) if status else Outcome.SENT, status)
        elif kind == UNSENT:
            flight.unsent += 1
            flight.note(Outcome.SLOW, None)
        else:
            flight.note(Outcome.UNCERTAIN, None)
            flight.cause = kind
            self.connection_faults[flight.channel] += 1
        flight.pending -= 1
        if flight.pending <= 0:
            self._finish(flight)

    def _answered_as_one(
        self, flight: Flight, parts: int, kind: str, status: int, smsc_id: str, seconds: float, late: bool
    ) -> None:
        if kind == ANSWERED and status == 0 and smsc_id:
            flight.smsc_ids.append((ALL_PARTS, smsc_id))
        for number in range(parts):
            self.answered(flight, number, kind, status, "", seconds, late)

    def _refused(self, flight: Flight, status: int) -> Outcome:
        channel = flight.channel
        row = self.row_of(channel, status)
        if row.without and not flight.without & row.without and self._leave_out(channel, row.without):
            self._spare(channel, status)
            return Outcome.WITHOUT
        if row.alarm:
            self._on_fault(channel, row, status)
        if status == INVALID_DESTINATION and row is TABLE[status]:
            return self._unreachable(flight, row)
        if status == QUEUE_FULL and row.outcome is Outcome.SLOW and self._one_queue(flight):
            return row.outcome  # the carrier has room for others: its rate stays
        if row.outcome is Outcome.SLOW:
            self._throttled[channel] += 1
        return row.outcome

    def _unreachable(self, flight: Flight, row: Row) -> Outcome:
        """Return what an invalid destination means: the number's fault, unless the whole prefix is refused."""
        channel, msisdn = flight.channel, flight.message.msisdn
        if self._unreached.note(channel, msisdn, True, time.monotonic()):
            flight.unreached = True
            self._spare(channel, INVALID_DESTINATION)
            self._on_fault(channel, Row(Outcome.NEXT, alarm=True), INVALID_DESTINATION)
        return row.outcome

    def _spare(self, channel: str, status: int) -> None:
        self._spared[channel, status] = self._spared.get((channel, status), 0) + 1

    def _one_queue(self, flight: Flight) -> bool:
        """Return whether a full queue is that of this recipient alone."""
        now, channel = time.monotonic(), flight.channel
        accepted = self.tally(channel)[0]
        before, at = self._accepted_before.get(channel, (0, -math.inf))
        at = now if accepted > before else at
        self._accepted_before[channel] = (accepted, at)
        times = self._full.of_one(channel, flight.message.msisdn, at, now)
        flight.one_queue = times > 1  # once may be chance
        return times > 0

    def row_of(self, channel: str, status: int) -> Row:
        """Return what a status means on a channel."""
        return classify(status, self._overrides.get(channel))

    def tally(self, channel: str) -> tuple[int, int]:
        """Return how many parts a channel has accepted and throttled so far."""
        accepted = self._submits.get((channel, 0))
        return (int(accepted.n) if accepted is not None else 0, self._throttled[channel])

    def answers(self) -> dict[tuple[str, int], int]:
        """Return how often each channel has answered with each status so far.

        Those after which a field was left out are not counted: the channel is not to be judged by them.
        """
        spared = self._spared
        return {key: int(cell.n) - spared.get(key, 0) for key, cell in self._submits.items()}

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

    def _one_less(self, call: Taken) -> None:
        call.left -= 1
        if call.left <= 0 and self._taken.pop((call.shard, call.field), None) is not None:
            self._finished.setdefault(call.shard, []).append(call.field)

    def _forget(self, flight: Flight) -> None:
        if flight.taken is not None:
            self._one_less(flight.taken)
            flight.taken = None
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
                # It can be repeated: SMSC ids are written again, settled items answer `0`.
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
        # A message that this worker has claimed again was settled by a call whose answer was lost.
        for f in batch:
            if not f.late and self.flights.get(f.message.id) is not f:
                self._forget(f)
        batch = [f for f in batch if f.late or self.flights.get(f.message.id) is f]
        groups, released = self._lay_out(batch)
        for shard, claims in released.items():
            await self._store.release(shard, claims)
        parked: list[bytes] = []
        for shard, group in groups.items():
            finished = self._finished.pop(shard, [])
            try:
                answers, early = await self._store.settle_rows(shard, group.rows, group.smsc_ids, finished)
            except BaseException:
                self._finished.setdefault(shard, []).extend(finished)
                raise
            parked += early
            for (f, decision), answer in zip(group.items, answers, strict=True):
                self._account(f, decision, answer)
            if journal.on:
                journal.settled(group.items, answers)
        for f in batch:
            self._forget(f)
        if parked:
            await self._apply_parked(parked)

    def _lay_out(self, batch: list[Flight]) -> tuple[dict[int, _Batch], dict[int, list[bytes]]]:
        """Return by shard what the store is told of these flights, and the claims of those that never left."""
        groups: dict[int, _Batch] = {}
        released: dict[int, list[bytes]] = {}
        after, again = self.redeliver_after_ms, 0
        for f in batch:
            if f.unsent and not f.accepted and f.outcome is Outcome.SLOW and f.status is None:
                released.setdefault(f.shard, []).append(f.message.claim)
                continue
            m = f.message
            if f.complete and not f.cause:
                # The plain case, laid out without asking: most messages take it.
                f.outcome, f.status = Outcome.SENT, 0
                decision = self._sent[m.category]
                price = self._prices[f.channel]
                log = attempt_log(m.attempt, f.channel, 0, "sent", f.smsc_ids, price)
                if after is not None:
                    again = after(m.route, m.category, f.channel)
                row = (
                    m.claim, m.attempt, "s", f.channel, decision.delay_ms, f.accepted, 0, "", "", "", again, price, "",
                    log,
                )  # fmt: skip
            else:
                decision = self._explained(f, self._decide(f))
                row = self._settlement(f, decision).row()
            group = groups.get(f.shard)
            if group is None:
                group = groups[f.shard] = _Batch()
            group.items.append((f, decision))
            group.rows.append(row)
            for part, raw in f.smsc_ids:
                key = self._submit_key(raw, self._formats[f.channel])
                if key:
                    group.smsc_ids.append((f"{f.channel}:{key}", named(m.id, part)))
        return groups, released

    async def _apply_parked(self, parked: list[bytes]) -> None:
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
        row = self.row_of(f.channel, f.status) if f.status is not None else Row(f.outcome)
        refusals: dict[str, int] = {}
        choices: tuple[Choice, ...] = ()
        if route is not None and f.outcome not in (Outcome.SENT, Outcome.UNCERTAIN, Outcome.PERMANENT):
            refusals = m.refusals
            available = self._available()
            if m.flags & FLAG_REDELIVERED:
                # A copy never goes where the message was already: which of the two a receipt means would be lost.
                available -= m.took
            choices = tuple(
                Choice(c.id, c.rank, refusals.get(c.id, 0), len(route.at_rank(c.rank)) > 1)
                for c in route.channels
                if c.id != f.channel and c.id in available
            )
        if m.flags & FLAG_REDELIVERED and f.outcome is Outcome.NEXT and not choices:
            return Decision("F", reason="refused")
        return decide(
            f.outcome,
            self._rules[m.category],
            Situation(
                m.category,
                m.attempt,
                m.slow,
                m.rank,
                f.status,
                row,
                m.parts,
                f.all_accepted,
                random.random(),
                sum(n for channel, n in refusals.items() if channel != f.channel),
                choices,
                time.time() * 1000 - m.due_at_ms,
                f.channel,
                f.one_queue,
                f.unreached,
            ),
        )

    def _explained(self, f: Flight, decision: Decision) -> Decision:
        """Return a decision that ends a message with the reason an application is told."""
        if decision.verb == "F":
            word, own = decision.reason, self._own_codes.get(f.channel)
            decision.reason, decision.permanent = ended(word, f.status, own)
        return decision

    def _settlement(self, f: Flight, decision: Decision) -> Settlement:
        m = f.message
        refused = f.outcome not in (Outcome.SENT, Outcome.UNCERTAIN)
        code = f"0x{f.status:08X}" if f.status is not None and refused else ""
        word = f.outcome.value
        if f.outcome is Outcome.WITHOUT and f.status is not None:
            # Read again when the message is claimed, perhaps by a worker whose channel does not know yet.
            word = WITHOUT_WORDS[self.row_of(f.channel, f.status).without]
        # That of an attempt without an answer is counted when a receipt says that it was taken (`lua/receipt.lua`).
        price = self._prices[f.channel] if f.accepted or f.outcome is Outcome.UNCERTAIN else 0
        log = attempt_log(m.attempt, f.channel, f.status, word, f.smsc_ids, price)
        return Settlement(
            m.claim, m.attempt, decision.verb, f.channel, decision.delay_ms, f.accepted, decision.rank,
            decision.reason, code, decision.target, price=price, permanent=decision.permanent, log=log,
        )  # fmt: skip

    def _account(self, f: Flight, decision: Decision, answer: str) -> None:
        m = f.message
        if answer == "0":
            self._metrics.counter("late_results_total", channel=f.channel).n += 1
            return
        if decision.verb in "nN" and decision.target != f.channel:
            self._metrics.counter(
                "failovers_total",
                **{"route": route_name(m.route), "from": f.channel, "to": str(decision.rank), "cause": f.outcome.value},
            ).n += 1
        key = (m.category, m.dims, decision.verb, decision.reason)
        cell = self._states.get(key)
        if cell is None:
            if len(self._states) >= _KNOWN_CELLS:
                self._states.clear()  # campaigns come and go
            cell = self._states[key] = self._metrics.counter(
                "messages_total",
                category=CATEGORY_LABELS[m.category],
                route=route_name(m.route),
                state=_STATE_OF_VERB.get(decision.verb, "retried"),
                reason=decision.reason,
            )
        cell.n += 1
