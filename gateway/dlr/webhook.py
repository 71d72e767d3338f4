"""The events worker: which accounts' webhooks this process serves, and when each is looked at.

Owns the leases (one worker an account, dead workers' accounts taken over), the wake-ups, disabled endpoints, replays.
Refuses to know events and HTTP: an `Endpoint` delivers. Stands above `webhook_endpoint`; `roles.events` runs it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final
from zlib import crc32

from gateway.dlr import webhook_replay
from gateway.dlr.webhook_client import GONE, WebhookClient
from gateway.dlr.webhook_endpoint import Endpoint
from gateway.dlr.webhook_guard import Lookup, SystemLookup
from gateway.dlr.webhook_replay import Replay
from gateway.errors import StoreUnavailable
from gateway.metrics import Metrics
from gateway.settings import Settings, WebhookSettings
from gateway.store.outbox import Holders, Outbox
from gateway.store.store import Store

log = logging.getLogger(__name__)

BEAT_S: Final = 2.0
DEAD_AFTER_S: Final = 10.0
"""A worker whose beats stood still for so long, by our own clock, is dead."""
SURE_FOR_S: Final = 7.0
"""How long after a beat a worker begins calls: less than others wait until they take it for dead, so that one that was
frozen does not tell once more, behind what came later, what another has told meanwhile."""
POLL_S: Final = 0.25
WAKE_PAUSE_S: Final = 0.005
"""Wake-ups within this time are one: under load every emptied list gives one."""
REPLAY_PAUSE_S: Final = 0.2
NOT_OURS_S: Final = 3.0
"""How long an account stays free for the worker that it belongs to by its name, before others take it."""
CLOSED, SEEN = "closed", "seen"


@dataclass(slots=True)
class _Served:
    endpoint: Endpoint
    task: asyncio.Task[None]


class Webhooks:
    """One events worker. Life: `run()` until cancelled, then `stop()`."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        metrics: Metrics,
        *,
        incarnation: str,
        number: int = 0,
        lookup: Lookup | None = None,
    ) -> None:
        self._workers, self._number = settings.webhooks.workers, number
        self._outbox = Outbox(store)
        self._metrics = metrics
        self._me = incarnation
        self._system = SystemLookup() if lookup is None else None
        self._lookup: Lookup = lookup or self._system  # type: ignore[assignment]  # one of the two is there
        self._served: dict[str, _Served] = {}
        self._ending: dict[asyncio.Task[None], str] = {}
        self._beats: dict[str, tuple[int, float]] = {}  # worker → beats, our time when they last moved
        self._free_since: dict[str, float] = {}
        self._held: frozenset[str] = frozenset()  # accounts that are ours by the last beat, served or not
        self._look = asyncio.Event()
        self._beat_now = asyncio.Event()
        self._told: dict[str, dict[str, Any]] = {}
        self._noted_at = 0.0
        self._beating = asyncio.Lock()
        self._stopping = False
        self.use(settings)

    def use(self, settings: Settings) -> None:
        """Take other accounts into use: an endpoint whose entry changed ends its running calls and begins anew."""
        self._accounts = {a.id: a.webhook for a in settings.accounts if a.webhook is not None}
        # Other texts end with their message, and an event may outlive it (see `tell` in `lua/_counts.lua`).
        self._kept = frozenset(c for c, rules in settings.categories.items() if rules.text_after_final == "keep")
        for account, one in list(self._served.items()):
            if self._accounts.get(account) != one.endpoint.webhook:
                self._end(account)
        self._beat_now.set()

    async def run(self) -> None:
        """Serve until cancelled."""
        await asyncio.gather(
            self._every(self._beat, BEAT_S, self._beat_now),
            self._every(self._poll, POLL_S, self._look),
            self._every(self._replay, BEAT_S, asyncio.Event()),
            self._outbox.listen(self._look.set, self._beat_now.set),
        )

    async def stop(self, grace_s: float) -> None:
        """End every account's deliveries in order, within about `grace_s`, and give the accounts up."""
        self._stopping = True
        async with self._beating:  # one that runs may still take accounts
            pass
        for account in list(self._served):
            self._end(account, grace_s)
        if self._ending:
            _, late = await asyncio.wait(list(self._ending), timeout=grace_s + 1.0)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        try:
            await self._outbox.leave(self._me)
        except StoreUnavailable as exc:
            log.warning("webhooks: the accounts are not given up in order: %s", exc)
        if self._system is not None:
            self._system.close()

    async def _every(self, work: Callable[[], Awaitable[None]], pause_s: float, wake: asyncio.Event) -> None:
        while True:
            try:
                await work()
            except StoreUnavailable as exc:
                log.warning("webhooks: %s", exc)
            except Exception:
                # The boundary of this task: a fault of ours must not stop the clock.
                log.exception("webhooks: a look failed")
            try:
                async with asyncio.timeout(pause_s):
                    await wake.wait()
                    await asyncio.sleep(WAKE_PAUSE_S)
            except TimeoutError:
                pass
            wake.clear()

    # --- leases

    async def _beat(self) -> None:
        """Keep what is ours, take what is free, and follow what operators said."""
        async with self._beating:
            if not self._stopping:
                await self._beat_once()

    async def _beat_once(self) -> None:
        now = time.monotonic()
        closed = await self._closed()
        for account, one in list(self._served.items()):
            if account in closed or one.task.done() or one.endpoint.gone:
                self._end(account)
        busy = {*self._served, *closed, *self._ending.values()}
        wanted = [a for a in self._accounts if a not in busy and self._may_take(a, now)]
        holders = await self._outbox.beat(self._me, wanted, self._dead(now))
        for account, one in list(self._served.items()):
            if holders.accounts.get(account) != (one.endpoint.epoch, self._me):
                self._end(account)
        for account in wanted:
            epoch, holder = holders.accounts.get(account, (0, ""))
            if holder == self._me and account in self._accounts:  # else it left the configuration meanwhile
                self._begin(account, epoch)
        for one in self._served.values():
            one.endpoint.sure(now + SURE_FOR_S)
        self._note(holders, now)
        await self._tell_seen()

    def _may_take(self, account: str, now: float) -> bool:
        """Tell whether to ask for an account: it is ours by its name, ours already, or free for a while.

        What is ours and not served ended here, as when its entry changed: nobody else takes it while we live.
        """
        since = self._free_since.get(account)
        mine = crc32(account.encode()) % self._workers == self._number % self._workers
        return mine or account in self._held or (since is not None and now - since >= NOT_OURS_S)

    def _dead(self, now: float) -> list[tuple[str, int]]:
        return [(name, beats) for name, (beats, at) in self._beats.items() if now - at >= DEAD_AFTER_S]

    def _note(self, holders: Holders, now: float) -> None:
        """Remember whose beats moved, and which accounts nobody holds."""
        if now - self._noted_at > DEAD_AFTER_S / 2:
            self._beats.clear()  # time in which we could not look does not count against anybody
        self._noted_at = now
        self._held = frozenset(a for a, (_, holder) in holders.accounts.items() if holder == self._me)
        alive = {name: beats for name, beats in holders.workers.items() if name != self._me}
        before = self._beats
        self._beats = {
            name: before[name] if name in before and before[name][0] == beats else (beats, now)
            for name, beats in alive.items()
        }
        free = [a for a in self._accounts if holders.accounts.get(a, (0, ""))[1] not in holders.workers]
        self._free_since = {account: self._free_since.get(account, now) for account in free}

    def _begin(self, account: str, epoch: int) -> None:
        webhook = self._accounts[account]
        try:
            client = WebhookClient(webhook, self._lookup)
        except OSError as exc:
            log.error("webhooks of %s: tls_ca cannot be used (%s)", account, exc.strerror or type(exc).__name__)
            return
        endpoint = Endpoint(
            account, webhook, epoch, self._outbox, client, self._metrics, name=self._me, on_gone=self._gone
        )
        task = asyncio.create_task(endpoint.run(), name=f"webhooks of {account}")
        self._served[account] = _Served(endpoint, task)
        for shard in range(self._outbox.shards):
            endpoint.poke(shard)

    def _end(self, account: str, grace_s: float | None = None) -> None:
        one = self._served.pop(account)
        grace_s = one.endpoint.webhook.timeout_s if grace_s is None else grace_s
        ending = asyncio.create_task(_ended(one, grace_s))
        self._ending[ending] = account

        def ended(task: asyncio.Task[None]) -> None:
            del self._ending[task]
            self._beat_now.set()  # one that begins anew waits for it

        ending.add_done_callback(ended)

    # --- what operators said and see

    async def _closed(self) -> set[str]:
        """Return the accounts whose endpoint is disabled; one that said 410 is tried again when its entry changed."""
        closed = set()
        for account, entry in (await self._outbox.told(CLOSED)).items():
            webhook = self._accounts.get(account)
            if webhook is not None and entry["why"] == GONE and entry.get("form") != form_of(webhook):
                await self._outbox.tell(CLOSED, account, None)
                log.info("webhooks of %s: its configuration changed, the endpoint is tried again", account)
            else:
                closed.add(account)
        return closed

    async def _gone(self, account: str) -> None:
        """Disable an endpoint that said 410: it wants no more."""
        webhook = self._accounts.get(account)
        if webhook is None:
            return  # it left the configuration meanwhile
        log.error("webhooks of %s: the endpoint said 410 and is disabled (`smsgw webhooks enable`)", account)
        entry = {"why": GONE, "at_ms": int(time.time() * 1000), "form": form_of(webhook)}
        await self._outbox.tell(CLOSED, account, entry)
        self._beat_now.set()

    async def _tell_seen(self) -> None:
        for account, one in list(self._served.items()):
            seen = one.endpoint.look()
            if self._told.get(account) != seen:
                await self._outbox.tell(SEEN, account, seen)
                self._told[account] = seen

    # --- looks

    async def _poll(self) -> None:
        """Poke the endpoints that have something to take."""
        for shard in range(self._outbox.shards):
            for account in await self._outbox.due(shard, list(self._served)):
                one = self._served.get(account)
                if one is not None:
                    one.endpoint.poke(shard)

    async def _replay(self) -> None:
        """Go on with the replays of our accounts until none has anything left to do."""
        while True:
            found = await self._outbox.told(webhook_replay.FAMILY)
            running = [(a, Replay(**r)) for a, r in found.items() if a in self._served and not r["done"]]
            if not running:
                return
            moved = False
            for account, replay in running:
                webhook = self._accounts.get(account)
                if webhook is None:  # it left the configuration meanwhile
                    continue
                kept = self._kept if webhook.include_text else frozenset()
                moved |= await webhook_replay.go_on(self._outbox, account, replay, keep_text=kept)
            self._look.set()
            await asyncio.sleep(0.01 if moved else REPLAY_PAUSE_S)


async def _ended(one: _Served, grace_s: float) -> None:
    await one.endpoint.stop(grace_s)
    await asyncio.gather(one.task, return_exceptions=True)


def form_of(webhook: WebhookSettings) -> str:
    """Return a name for where an endpoint is and how it is called: another one means that its entry changed."""
    return hashlib.sha256(repr((webhook.url, webhook.batch, sorted(webhook.events))).encode()).hexdigest()[:16]
