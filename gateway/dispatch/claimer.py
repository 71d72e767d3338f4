"""Takes messages for the free capacity of the channels and hands them over: the loop where priority is enforced.

Asks for no more than the sessions can send within the next tens of milliseconds, so that a verification code never
waits behind what was taken before it. Decides nothing about outcomes; the settler hears of every claimed message.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable

from gateway import journal
from gateway.dispatch.allowance import Allowance
from gateway.dispatch.flight import Flight, Taken
from gateway.dispatch.health import HealthKeeper
from gateway.dispatch.lease import LeaseKeeper
from gateway.dispatch.settler import Settler
from gateway.dispatch.sources import SourceTable
from gateway.errors import EncodeError, GatewayError, SignatureNotCarried, StoreUnavailable
from gateway.metrics import Metrics
from gateway.model import CATEGORY_LABELS, Category, message_id
from gateway.settings import Settings
from gateway.smpp.channel import Channel, Outbound
from gateway.store.moves import ClaimRequest, ClaimSource
from gateway.store.records import FLAG_REDELIVERED, Claimed, moment_of
from gateway.store.store import Store

logger = logging.getLogger(__name__)

POLL_S = 0.25
"""How long to wait for a wake-up that may have been lost."""
_PAUSE_S = 0.002
_MOST_PARTS = 400
_RETRY_S = 0.5

Registered = Callable[[bytes, bytes, str], tuple[tuple[int, bytes], ...]]
"""Given a record's dims and carried fields and a channel: the TLVs its template is registered with there."""


class Claimer:
    """The claim loop of one worker over all its channels and shards."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        metrics: Metrics,
        channels: dict[str, Channel],
        sources: SourceTable,
        settler: Settler,
        lease: LeaseKeeper,
        *,
        health: HealthKeeper,
        available: Callable[[], frozenset[str]],
        unsteady: Callable[[], frozenset[str]] = frozenset,
        registered: Registered | None = None,
    ) -> None:
        self._registered = registered
        self._unsteady = unsteady
        self._store = store
        self._health = health
        self._settler = settler
        self._lease = lease
        self._available = available
        self._work = asyncio.Event()
        self._allowances: dict[str, Allowance] = {}  # also of channels that left: their last claims are spent there
        self.use(settings, channels, sources)
        self._wait = [metrics.histogram("accept_to_submit_seconds", category=c) for c in CATEGORY_LABELS]
        self._errors = metrics.counter("dispatch_errors_total", where="claim")
        self._metrics = metrics
        self._passed_over: set[str] = set()  # channels with few free slots, in this round
        self._passed_before: set[str] = set()  # and in the one before
        self._stopping = False
        self._turn = 0
        self._tokens = 0
        self._lost_answers: dict[int, str] = {}  # shard → token of a claim whose answer did not come

    def use(self, settings: Settings, channels: dict[str, Channel], sources: SourceTable) -> None:
        """Take other settings into use from the next claim on."""
        self._channels = channels
        self._sources = sources
        self._reserve = settings.categories[Category.VERIFICATION].window_reserve
        for channel in self._channels.values():
            allowance = self._allowances.setdefault(channel.id, Allowance(channel.id, channel.settings.max_tps))
            allowance.use(channel.settings.max_tps)
        self._work.set()

    def rates(self) -> dict[str, float]:
        """Return the rate in force by channel: parts a second, 0 for none."""
        return {channel: self._allowances[channel].in_force for channel in self._channels}

    def wake(self) -> None:
        """Something may be there to take, or some capacity is free."""
        self._work.set()

    def stop(self) -> None:
        """Take nothing more; `run` returns after the call that is under way."""
        self._stopping = True
        self._work.set()

    async def run(self) -> None:
        """Claim and submit until stopped."""
        while not self._stopping:
            try:
                await self._round()
            except StoreUnavailable as exc:
                self._errors.n += 1
                logger.warning("claiming: %s", exc)
                await asyncio.sleep(_RETRY_S)
            except Exception:
                # The boundary of this task: an unforeseen fault must not end dispatch; the claims it left are
                # found by the lease keeper's comparison and given back.
                self._errors.n += 1
                logger.exception("claiming failed")
                await asyncio.sleep(_RETRY_S)

    async def _round(self) -> None:
        self._work.clear()
        if not self._lease.valid() or self._settler.failing:
            await self._pause(POLL_S)
            return
        more = False
        asked = False
        shards = self._store.shards
        first = self._turn % shards
        self._turn += 1
        self._passed_before, self._passed_over = self._passed_over, set()
        for k in range(shards):
            requests = await self._requests()
            if not requests:
                continue
            asked = True
            more |= await self._claim((first + k) % shards, requests)
            if self._stopping:
                return
        if not asked:
            await self._pause(self._next_s())
        elif not more:
            await self._pause(POLL_S)
        else:
            await asyncio.sleep(0)

    def _next_s(self) -> float:
        """Return how long nothing can be sent: until a rate allows it, or a moment when windows are full."""
        now = time.monotonic()
        waits = [
            max(_PAUSE_S, self._allowances[c.id].wait_s(now))
            for c in self._channels.values()
            if c.up and (self._allowances[c.id].parts(now) <= 0 or c.in_flight)
        ]
        return min([*waits, POLL_S])

    async def _pause(self, seconds: float) -> None:
        if seconds <= _PAUSE_S:
            # Windows are full or nearly so: let a few answers gather, so that a claim takes more than one message.
            await asyncio.sleep(seconds)
            return
        try:
            async with asyncio.timeout(seconds):
                await self._work.wait()
        except TimeoutError:
            return

    async def _requests(self) -> list[ClaimRequest]:
        """Work out what each channel could send now, drawing from its rate where it has one."""
        available, unsteady = self._available(), self._unsteady()
        now = time.monotonic()
        open_channels = []
        for channel in self._channels.values():
            free, window = channel.free, channel.window
            if not free:
                continue
            if not self._health.open_for_all(channel.id):
                if self._health.may_probe(channel.id, now):
                    open_channels.append((channel, 1, window))
                continue
            # A few free slots are passed over once, so that answers gather and a claim is worth its call; not twice,
            # since they may be all there is for a code while the SMSC answers slowly.
            if free >= min(64, max(1, window // 8)) or channel.id in self._passed_before:
                open_channels.append((channel, free, window))
            else:
                self._passed_over.add(channel.id)
        await self._draw(open_channels, now)
        now = time.monotonic()
        requests = []
        for channel, free, window in open_channels:
            parts = min(free, self._allowances[channel.id].parts(now), _MOST_PARTS)
            reserved = max(1, math.ceil(window * self._reserve)) if self._reserve and window > 1 else 0
            rest = min(parts, free - reserved)
            if parts > 0:
                sources = self._sources.of(channel.id, available, unsteady)
                if not self._health.open_for_all(channel.id):
                    sources = self._probe_sources(channel.id, sources, now)
                    rest = parts = 1
                if sources or channel.id in unsteady:  # the rest of a long message waits for its channel alone
                    turn = self._turn % max(1, len(sources))
                    requests.append(ClaimRequest(channel.id, parts, max(0, rest), sources[turn:] + sources[:turn]))
        return requests

    async def _draw(self, open_channels: list[tuple[Channel, int, int]], now: float) -> None:
        """Draw from these channels' rates for their free slots, and tell how the carriers took what was sent."""
        for channel, _, _ in open_channels:
            self._allowances[channel.id].heard(*self._settler.tally(channel.id))
        limited = [(c, free) for c, free, _ in open_channels if self._allowances[c.id].limited]
        if len(limited) == 1:
            await self._allowances[limited[0][0].id].draw(self._store, limited[0][1], now)
        elif limited:
            await asyncio.gather(*(self._allowances[c.id].draw(self._store, free, now) for c, free in limited))

    def _probe_sources(self, channel: str, sources: list[ClaimSource], now: float) -> list[ClaimSource]:
        """Return where a half-open channel takes its one message from: its own queues, codes only as a last resort."""
        codes = self._health.codes_may_probe(channel, now)
        own = [s for s in sources if s.min_wait_ms == (0, 0, 0)]
        return own if codes else [ClaimSource(s.route, s.rank, (-1, 0, 0)) for s in own]

    async def _claim(self, shard: int, requests: list[ClaimRequest]) -> bool:
        """Claim on one shard and submit what comes; returns whether more may be waiting there."""
        self._tokens += 1
        token = f"{self._tokens:x}"
        lost = self._lost_answers.pop(shard, "")
        started = time.monotonic()
        try:
            now_ms, claimed, unreadable = await self._store.claim(shard, lost or token, requests, again=bool(lost))
        except StoreUnavailable as exc:
            # It may have been carried out: what it took is asked for before anything new.
            if lost or exc.outcome == "unknown":
                self._lost_answers[shard] = lost or token
            raise
        calls: dict[int, Taken] = {}
        for place, claim, attempt in unreadable:
            self._settler.fail_unreadable(self._take(calls, shard, lost or token, requests, place), claim, attempt)
        if not claimed:
            return bool(lost)
        arrived = time.monotonic()
        drift_ms = (arrived - started) * 1000 / 2
        latest = moment_of(now_ms + (arrived - started) * 1000)  # the store's time by now, at most
        taken = [0] * len(requests)
        unsent: list[Flight] = []
        for place, message in claimed:
            channel_id = requests[place].channel
            taken[place] += message.parts - message.accepted.bit_count()
            call = calls.get(place) or self._take(calls, shard, lost or token, requests, place)
            call.left += 1
            flight = Flight(message, shard, channel_id, call)
            self._settler.begin(flight)
            expired = message.expires_by(latest)  # while the answer was on its way: the next claim ends it
            if message.logged and message.flags & FLAG_REDELIVERED and channel_id in message.took:
                self._settler.refuse(flight)  # a copy that came back to where the message was already
            elif expired or not self._lease.valid() or not self._submit(flight, now_ms + drift_ms):
                unsent.append(flight)
        for place, parts in enumerate(taken):
            self._allowances[requests[place].channel].spend(parts)
            if parts and not self._health.open_for_all(requests[place].channel):
                self._health.probed(requests[place].channel, arrived)
        if unsent:
            await self._settler.release(shard, unsent)
            await asyncio.sleep(_PAUSE_S)
        return any(parts and parts >= r.parts_rest for parts, r in zip(taken, requests, strict=True))

    def _take(self, calls: dict[int, Taken], shard: int, token: str, requests: list[ClaimRequest], place: int) -> Taken:
        """Return the note of what this claim call took for one of its requests."""
        call = calls.get(place)
        if call is None:
            call = calls[place] = Taken(shard, self._store.claim_field(token, requests[place].channel), 0)
            self._settler.took(call)
        return call

    def _submit(self, flight: Flight, now_ms: float) -> bool:
        """Give a message to its channel; False when no session could take it and it must go back."""
        message = flight.message
        channel = self._channels.get(flight.channel)
        try:
            out = outbound(message, now_ms)
            if message.logged:
                out.without = message.without(flight.channel)
            if message.carried and self._registered is not None:
                out.tlvs = self._registered(message.dims, message.carried, flight.channel)
            # Without a channel it left the configuration while the answer was on its way.
            mask = channel.submit(out, flight) if channel is not None else 0
        except SignatureNotCarried:
            self._settler.refuse(flight)  # queued for this channel by name, and unregistered there since
            return True
        except EncodeError:
            self._settler.fail(flight, "cannot_be_encoded")
            return True
        except GatewayError:
            mask = 0
        except Exception as exc:
            # A record that a fault of ours (or of another version) made unusable must not stop its neighbours. Not
            # logged with its traceback: the error may quote the text.
            logger.error(
                "message %s cannot be built (%s) and ends as failed", message_id(message.id), type(exc).__name__
            )
            self._settler.fail(flight, "cannot_be_built")
            return True
        if not mask:
            return False
        if journal.traced:
            journal.submitting(message)
        flight.pending += mask.bit_count()
        if out.without:
            flight.without = out.without
        if message.attempt == 1:
            self._wait[message.category].observe(max(0.0, (now_ms - message.due_at_ms) / 1000))
        if message.flags & 1:
            cause = "redelivery" if message.flags & FLAG_REDELIVERED else "uncertain"
            self._metrics.counter("possible_duplicates_total", cause=cause).n += 1
        return True


def outbound(message: Claimed, now_ms: float) -> Outbound:
    """Return a claimed message as a channel sends it."""
    out = Outbound(
        message.destination,
        message.sender,
        message.text,
        message.encoding,
        message.reference,
        (message.expires_at_ms - now_ms) / 1000,
        message.accepted,
        message.category,
    )
    if message.carried:
        out.ext = message.ext
    return out
