"""One account's deliveries: takes its events, makes the calls, settles what became of them.

Owns the order (events of one message one after another, the rest side by side), the number of calls at a time and what
a result means: done, later, given up, disabled. Refuses to know leases, HTTP and the scripts. One task talks to the
store, so that settling and taking never overtake each other; each call is a task of its own. Stands between
`store.outbox` and `webhook_client`.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from gateway import journal
from gateway.dlr import events
from gateway.dlr.webhook_client import DELIVERED, GONE, Answer, WebhookClient
from gateway.dlr.webhook_schedule import Circuit, next_delay_s
from gateway.dlr.webhook_sign import Signer
from gateway.errors import StoreUnavailable
from gateway.metrics import Metrics
from gateway.settings import WebhookSettings
from gateway.store.outbox import BACK, DONE, GIVEN_UP, LATER, NotHeld, Outbox, Taken, Verdict

log = logging.getLogger(__name__)

AHEAD_LEAST: Final = 64
"""Events taken ahead of the calls, at least: one call to the store then serves many calls to the endpoint."""
AHEAD_MOST: Final = 1000
RETRY_S: Final = 0.5
SETTLE_PAUSE_S: Final = 0.005
"""What becomes known within this time is settled together."""
SETTLE_MOST: Final = 1000
UNREADABLE: Final = "unreadable"


@dataclass(slots=True)
class _Item:
    """A taken event, read."""

    taken: Taken
    key: bytes  # b"": ordered with nothing
    event: events.Event
    after: list[_Item] = field(default_factory=list)  # of the same message, taken later


@dataclass(slots=True)
class Seen:
    """What an endpoint did lately, for operators."""

    last_ok_ms: int = 0
    last_failure_ms: int = 0
    last_result: str = ""
    circuit: str = "closed"


class Endpoint:
    """Serves one account under one epoch. Life: `run()` as a task, `poke` when there may be events, `stop()`."""

    def __init__(
        self,
        account: str,
        webhook: WebhookSettings,
        epoch: int,
        outbox: Outbox,
        client: WebhookClient,
        metrics: Metrics,
        *,
        name: str,
        on_gone: Callable[[str], Awaitable[None]],
    ) -> None:
        self.account = account
        self.epoch = epoch
        self.seen = Seen()
        self.lost = False
        """Another worker serves the account by now."""
        self.gone = False
        """The endpoint said 410: this one makes no more calls; whoever is enabled again begins anew."""
        self._sure_until = float("inf")
        self.webhook = webhook
        self._outbox = outbox
        self._client = client
        self._metrics = metrics
        self._seconds = metrics.histogram("webhook_seconds")
        self._results: dict[str, Any] = {}
        self._signer = Signer([secret.reveal() for secret in webhook.secrets])
        self._circuit = Circuit(webhook.concurrency)
        self._on_gone = on_gone
        self._name = name
        self._tokens = 0
        self._token: dict[int, str] = {}  # shard → token of a take whose answer was lost
        self._ready: deque[_Item] = deque()
        self._active: dict[bytes, _Item] = {}  # key → the item of that message which is out, or not settled yet
        self._verdicts: dict[int, list[Verdict]] = {}
        self._waiting: dict[bytes, Verdict] = {}  # key → what is not settled yet and keeps its message waiting
        self._due: set[int] = set(range(outbox.shards))
        self._calls: set[asyncio.Task[None]] = set()
        self._signal = asyncio.Event()
        self._stopping = False
        self._timer: asyncio.TimerHandle | None = None
        self._most = min(AHEAD_MOST, max(AHEAD_LEAST, 2 * webhook.concurrency * webhook.batch))

    # --- from outside

    def poke(self, shard: int) -> None:
        """Look at a shard: it may have events."""
        self._due.add(shard)
        self._signal.set()

    def sure(self, until: float) -> None:
        """Begin calls until then (monotonic seconds): nobody can have taken the account over before."""
        self._sure_until = until
        if self._ready:
            self._signal.set()

    @property
    def in_flight(self) -> int:
        return len(self._calls)

    async def run(self) -> None:
        """Deliver until stopped, or until another worker serves the account; then close the connections."""
        try:
            while not self._ended():
                await self._signal.wait()
                self._signal.clear()
                await self._turn()
        finally:
            await self._client.close()

    async def stop(self, grace_s: float) -> None:
        """Take nothing more, let running calls end within `grace_s`, give back what was not tried; `run` settles it."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
        if self._calls:
            await asyncio.wait(list(self._calls), timeout=grace_s)
        for call in list(self._calls):
            call.cancel()  # its events come again: nobody knows whether they arrived
        self._give_back()
        self._signal.set()

    def _ended(self) -> bool:
        return self.lost or (self._stopping and not (self._calls or self._verdicts or self._ready))

    async def _turn(self) -> None:
        try:
            await self._settle()
            if not self._stopping:
                await self._take()
                self._start_calls()
        except NotHeld:
            self._lose()
        except StoreUnavailable as exc:
            log.warning("webhooks of %s: %s", self.account, exc)
            self._again_in(RETRY_S)
        except Exception:
            # The boundary of this task: a fault of ours must not end an account's deliveries.
            log.exception("webhooks of %s: a turn failed", self.account)
            self._again_in(RETRY_S)

    # --- the store

    async def _settle(self) -> None:
        while self._verdicts:
            shard = next(iter(self._verdicts))
            rows = self._verdicts[shard][:SETTLE_MOST]
            buried = await self._outbox.settle(shard, self.account, self.epoch, rows)
            if buried:
                self._count("dead", buried)
            rest = self._verdicts[shard][len(rows) :]  # calls ended meanwhile
            if rest:
                self._verdicts[shard] = rest
            else:
                del self._verdicts[shard]
            if any(row.what != DONE for row in rows):
                self._due.add(shard)
                settled = {id(row) for row in rows}
                self._waiting = {key: row for key, row in self._waiting.items() if id(row) not in settled}

    async def _take(self) -> None:
        for shard in list(self._due):
            room = self._room()
            if room <= 0:
                return
            token = self._token.get(shard)
            if token is None:
                self._tokens += 1
                token = self._token[shard] = f"{self._name}.{self._tokens}"
            taken = await self._outbox.take(shard, self.account, self.epoch, token, room)
            del self._token[shard]
            for one in taken:
                self._accept(one)
            if len(taken) < room:
                self._due.discard(shard)

    def _room(self) -> int:
        """Return how many events to take now: none while the endpoint is left alone, few while it is tried."""
        allowed = self._circuit.room(time.monotonic())
        if allowed == 0:
            return 0
        if allowed < self.webhook.concurrency:
            return 0 if self._calls or self._ready else self.webhook.batch
        room = self._most - len(self._ready)
        return room if room >= self._most // 2 else 0

    def _accept(self, taken: Taken) -> None:
        """Queue an event, or put it behind the one of the same message that is out."""
        try:
            event = events.read(
                taken.event, full_number=self.webhook.full_number, include_text=self.webhook.include_text
            )
            key = events.key_of(taken.event)
        except events.Unreadable as exc:
            log.error("webhooks of %s: an event cannot be read (%s)", self.account, exc)
            self._add_verdict(taken.shard, Verdict(taken.number, GIVEN_UP, reason=UNREADABLE))
            return
        if event.type not in self.webhook.events:
            self._add_verdict(taken.shard, Verdict(taken.number, DONE))
            return
        item = _Item(taken, key, event)
        if key in self._waiting:  # what failed before it is not on record as waiting yet
            self._waiting[key].followers.append(taken.number)
            return
        active = self._active.get(key) if key else None
        if active is not None:
            active.after.append(item)
            return
        if key:
            self._active[key] = item
        self._ready.append(item)

    def _add_verdict(self, shard: int, verdict: Verdict) -> None:
        self._verdicts.setdefault(shard, []).append(verdict)
        self._wake_soon()

    def _keep(self, item: _Item, what: str, delay_ms: int = 0, reason: str = "") -> None:
        """Settle an event that was not delivered, and with it what comes after it."""
        verdict = Verdict(item.taken.number, what, delay_ms, reason, [after.taken.number for after in item.after])
        if item.key:
            del self._active[item.key]
            self._waiting[item.key] = verdict
        self._add_verdict(item.taken.shard, verdict)

    def _wake_soon(self) -> None:
        if self._stopping or (self._due and self._room() > 0):
            self._signal.set()
        else:
            self._again_in(SETTLE_PAUSE_S)

    def _again_in(self, pause_s: float) -> None:
        loop = asyncio.get_running_loop()
        when = loop.time() + pause_s
        if self._timer is not None and not self._timer.cancelled() and loop.time() < self._timer.when() <= when:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(when, self._signal.set)

    def _lose(self) -> None:
        log.warning("webhooks of %s are served by another worker now", self.account)
        self.lost = True
        self._ready.clear()
        self._verdicts.clear()
        for call in self._calls:
            call.cancel()

    # --- calls

    def _start_calls(self) -> None:
        now = time.monotonic()
        while self._ready and now < self._sure_until and len(self._calls) < self._circuit.room(now):
            group = self._next_group()
            task = asyncio.create_task(self._deliver(group))
            self._calls.add(task)
            task.add_done_callback(self._call_ended)
        if self._circuit.open:
            if now < self._circuit.until:
                self._give_back()
                self._again_in(self._circuit.until - now)
        elif self._due and self._room() > 0:
            self._signal.set()

    def _give_back(self) -> None:
        """Put what is not out back in line while the endpoint is left alone: it is visible there, and safe."""
        while self._ready:
            item = self._ready.popleft()
            self._keep(item, BACK)

    def _next_group(self) -> list[_Item]:
        """Return what goes out together.

        What failed together before goes in ever smaller groups: one event that the application cannot take must not
        keep ninety-nine others from it.
        """
        first = self._ready.popleft()
        most = max(1, self.webhook.batch >> (2 * min(first.taken.attempts, 8)))
        group = [first]
        while len(group) < most and self._ready and self._ready[0].taken.attempts == first.taken.attempts:
            group.append(self._ready.popleft())
        return group

    def _call_ended(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            log.error("webhooks of %s: a call failed: %s", self.account, type(exc).__name__, exc_info=exc)
        if not self.lost and not self._stopping:
            if self._circuit.open:
                self._signal.set()
            else:
                self._start_calls()
        elif not self._calls:
            self._signal.set()

    async def _deliver(self, group: list[_Item]) -> None:
        at_s = time.time()
        if self.webhook.batch == 1:
            webhook_id, body = group[0].event.id, group[0].event.body()
        else:
            webhook_id, body = events.batch([item.event for item in group], int(at_s * 1000))
        started = time.monotonic()
        answer = await self._client.call(self._signer.headers(webhook_id, int(at_s), body), body)
        now = time.monotonic()
        self._seconds.observe(now - started)
        self._count(answer.result, len(group))
        await self._judge(group, answer, now)

    async def _judge(self, group: list[_Item], answer: Answer, now: float) -> None:
        wall_ms = int(time.time() * 1000)
        if answer.result == DELIVERED:
            self.seen.last_ok_ms = wall_ms
            self._circuit.succeeded(now)
            if journal.on:
                journal.told(self.account, [(i.key, i.event.type, i.taken.attempts + 1) for i in group])
            for item in group:
                self._taken_well(item)
            return
        self.seen.last_failure_ms, self.seen.last_result = wall_ms, answer.result
        if answer.result == GONE:
            self._circuit.pause(now, 3600.0)
            for item in group:
                self._keep(item, BACK)
            if not self.gone:
                self.gone = True  # told once: an operator may enable it while other calls still hear the same
                await self._on_gone(self.account)
            return
        # A failure like any other: an endpoint that always asks for a moment must not be tried with all that waits.
        self._circuit.failed(now, random.random())
        if answer.retry_after_s:
            self._circuit.pause(now, answer.retry_after_s)
        for item in group:
            self._failed(item, answer, wall_ms)

    def _taken_well(self, item: _Item) -> None:
        """Settle a delivered event, and let the next one of its message go first of all."""
        if item.key:
            del self._active[item.key]
        if item.after:
            following = item.after.pop(0)
            following.after = item.after
            self._active[following.key] = following
            self._ready.appendleft(following)
        self._add_verdict(item.taken.shard, Verdict(item.taken.number, DONE))

    def _failed(self, item: _Item, answer: Answer, wall_ms: int) -> None:
        attempts = item.taken.attempts + 1
        age_s = max(0.0, (wall_ms - item.taken.first_ms) / 1000) if item.taken.first_ms else 0.0
        delay_s = next_delay_s(attempts, age_s, random.random())
        if delay_s is None:
            self._keep(item, GIVEN_UP, reason=answer.result)
            if journal.on:
                journal.untold(self.account, item.key, item.event.type, attempts, answer.result)
        else:
            self._keep(item, LATER, int(max(delay_s, answer.retry_after_s or 0.0) * 1000), answer.result)

    def _count(self, result: str, n: int) -> None:
        cell = self._results.get(result)
        if cell is None:
            cell = self._results[result] = self._metrics.counter(
                "webhook_deliveries_total", account=self.account, result=result
            )
        cell.n += n

    def look(self) -> dict[str, Any]:
        """Return what operators see of it."""
        self.seen.circuit = self._circuit.label(time.monotonic())
        return {**asdict(self.seen), "in_flight": self.in_flight, "worker": self._name}
