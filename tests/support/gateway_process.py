"""A supervised gateway whose every answer is booked, so that a fault's aftermath can be counted.

`async with AuditedGateway(tmp_path, {"cm-a": carrier.port}) as gateway:` is `GatewayProcess` with a client's ledger:
`send` and `send_batch` post once and book the answer, `send_surely` and `traffic` repeat with the same key until it
is decided. `audit` compares that ledger with the carriers' and with the records, which `records` reads from the
store itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import psutil
import redis

from gateway.model import CATEGORY_LABELS, STATE_LABELS, MessageId, State, message_id, store_id
from gateway.settings import Settings, load
from gateway.simulator.smsc import Smsc
from gateway.store import records
from gateway.store.embedded import socket_path
from gateway.store.keys import prefix
from gateway.store.records import Record
from gateway.store.store import Store
from loadtests.check import ClientRow, ReceiptRow, RecordRow, Report, SubmitRow, check
from tests.support.gateway import ADMIN_TOKEN, GatewayProcess
from tests.support.snapshot import check_consistent, snapshot
from tests.support.until import until

VERIFICATION, NOTIFICATION, MARKETING = CATEGORY_LABELS
UNCERTAIN = STATE_LABELS[State.UNCERTAIN]
ACCOUNT = "shop"
REPEAT_S = 0.05
"""How long a client of ours waits before it repeats; the answers' Retry-After is for clients that have time."""
READ_TIMEOUT_S = 30.0

# Repeated faults must not use up a code's attempts: what is counted here is copies, not patience.
CATEGORIES = """
[categories.verification]
per_number = []
max_attempts = 50
[categories.marketing]
per_number = []
send_hours = ""
require_signature = []
require_optout_text = {}
"""


@dataclass(slots=True)
class Answer:
    """What a client was told. `status` 0: the connection ended, or time ran out, before an answer came."""

    status: int
    body: dict[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def id(self) -> str:
        return str(self.body.get("id", ""))

    @property
    def outcome(self) -> str:
        """`not_stored`, `unknown`, or empty for an accepted message."""
        return str(self.body.get("outcome", "" if self.status else "unknown"))

    @property
    def code(self) -> str:
        return str(self.body.get("code", ""))

    @property
    def decided(self) -> bool:
        """Whether repeating it would be pointless."""
        return self.status == 202 or (400 <= self.status < 500 and self.status != 429)


@dataclass(slots=True)
class Traffic:
    """Clients that post until the block ends; how often each answer came."""

    answers: Counter[tuple[int, str]] = field(default_factory=Counter)
    accepted: int = 0
    stop: asyncio.Event = field(default_factory=asyncio.Event)


class AuditedGateway(GatewayProcess):
    """One `smsgw run` with a client's ledger in `client`; the arguments are those of `GatewayProcess`.

    `shards` and further lines for `[store]` make another store; categories have no per-number caps. With `wait` the
    block begins when it is ready.
    """

    def __init__(
        self,
        directory: Path,
        channels: dict[str, int],
        *,
        shards: int = 1,
        store: str = "",
        categories: str = CATEGORIES,
        wait: bool = True,
        **options: Any,
    ) -> None:
        self._wait = wait
        store = f"shards = {shards}\n{store}"
        super().__init__(directory, channels, store=store, categories=categories, **options)
        self.client: list[ClientRow] = []
        self.not_stored: set[str] = set()
        self.undecided: set[str] = set()
        self._numbers = itertools.count(1)

    async def start(self, *, ready: bool | None = None, **env: str) -> None:
        """Start it (again); wait until it is ready, unless told otherwise here or with `wait`."""
        # The events of the log are read by `events`.
        await super().start(ready=self._wait if ready is None else ready, **{"SMSGW_LOG_FORMAT": "json", **env})

    async def crash(self) -> None:
        """Kill -9 every process of the gateway, the store included, in one moment; returns when all are gone."""
        family = self.processes()
        for sign in (signal.SIGSTOP, signal.SIGKILL):  # stopped first: nobody sees another's end and acts on it
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(sign)
        assert self.process is not None
        await self.process.wait()
        await until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in family))

    def incarnation(self, worker: psutil.Process) -> str:
        """Return the name a worker's claims and lease carry."""
        return str(worker.environ()["SMSGW_INCARNATION"])

    def events(self, words: str) -> list[dict[str, Any]]:
        """Return the log's records whose event holds these words."""
        lines = (orjson.loads(line) for line in self.log().splitlines() if line.startswith("{") and words in line)
        return [line for line in lines if words in line.get("event", "")]

    # --- the client's side

    def message(self, category: str = NOTIFICATION, **more: Any) -> dict[str, Any]:
        """Return a message to a number nobody else in this run has."""
        n = next(self._numbers)
        return {"to": f"+86138{n:08d}", "category": category, "text": f"Hello {n}", **more}

    async def send(self, body: dict[str, Any], *, key: str = "") -> Answer:
        """Post one message once, and book the answer."""
        answer = await self._post("/v1/messages", body, key)
        self._book(body, answer, key)
        return answer

    async def send_batch(self, bodies: Sequence[dict[str, Any]], *, key: str = "") -> list[Answer]:
        """Post a batch once, and book each item's answer."""
        whole = await self._post("/v1/messages/batch", {"messages": list(bodies)}, key)
        if whole.status == 202:
            answers = [_item(result, whole) for result in whole.body["results"]]
        else:
            answers = [whole] * len(bodies)
        for i, (body, answer) in enumerate(zip(bodies, answers, strict=True)):
            self._book(body, answer, f"{key}/{i}" if key else "")
        return answers

    async def send_surely(self, body: dict[str, Any], *, key: str) -> Answer:
        """Post until it is decided, each time with the same key."""
        while True:
            answer = await self.send(body, key=key)
            if answer.decided:
                return answer
            await asyncio.sleep(REPEAT_S)

    async def send_batch_surely(self, bodies: Sequence[dict[str, Any]], *, key: str) -> list[Answer]:
        """Post a batch until every item is decided, each time whole and with the same key."""
        while True:
            answers = await self.send_batch(bodies, key=key)
            if all(a.decided for a in answers):
                return answers
            await asyncio.sleep(REPEAT_S)

    async def _post(self, path: str, body: dict[str, Any], key: str) -> Answer:
        assert self.session is not None
        headers = {"Authorization": f"Bearer {self.key}", **({"Idempotency-Key": key} if key else {})}
        began = time.monotonic()
        try:
            async with self.session.post(
                f"http://127.0.0.1:{self.api_port}{path}", json=body, headers=headers
            ) as response:
                answer = Answer(response.status, orjson.loads(await response.read()), response.headers.copy())
        except (aiohttp.ClientError, TimeoutError, OSError):
            answer = Answer(0)
        answer.seconds = time.monotonic() - began
        # What the contract knows; a 500 or a 503 without an outcome is a fault of ours.
        assert answer.status in (0, 202, 503) or 400 <= answer.status < 500, answer
        if answer.status == 503:
            assert answer.outcome in ("not_stored", "unknown"), answer
            assert int(answer.headers["Retry-After"]) >= 1, answer
        return answer

    def _book(self, body: dict[str, Any], answer: Answer, key: str) -> None:
        row = ClientRow(
            to=body["to"],
            id=answer.id,
            status=answer.status,
            account=ACCOUNT,
            ref=body.get("ref", ""),
            key=key,
            category=body["category"],
            answered_at_ms=int(time.time() * 1000),
        )
        self.client.append(row)
        if answer.outcome == "unknown":
            self.undecided.add(body["to"])
        elif answer.outcome == "not_stored":
            self.not_stored.add(body["to"])

    @contextlib.asynccontextmanager
    async def traffic(
        self,
        *,
        clients: int = 4,
        batch: int = 10,
        every_s: float = 0.05,
        mix: Sequence[str] = (VERIFICATION, NOTIFICATION, NOTIFICATION, MARKETING),
        surely: bool = True,
    ) -> AsyncIterator[Traffic]:
        """Let clients post batches of mixed messages while the block runs, half of them one message a request.

        With `surely` each repeats until it is decided, and the block's end waits for that.
        """
        traffic = Traffic()
        tasks = [
            asyncio.create_task(self._one_client(traffic, i, batch if i % 2 else 1, every_s, mix, surely))
            for i in range(clients)
        ]
        try:
            yield traffic
            traffic.stop.set()
            async with asyncio.timeout(60):
                await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one_client(
        self, traffic: Traffic, number: int, batch: int, every_s: float, mix: Sequence[str], surely: bool
    ) -> None:
        for turn in itertools.count():
            if traffic.stop.is_set():
                return
            bodies = [self.message(mix[(turn + i) % len(mix)]) for i in range(batch)]
            key = f"traffic-{id(traffic):x}-{number}-{turn}"
            while True:
                answers = (
                    [await self.send(bodies[0], key=key)] if batch == 1 else await self.send_batch(bodies, key=key)
                )
                traffic.answers.update((a.status, a.outcome) for a in answers)
                if not surely or all(a.decided for a in answers):
                    break
                await asyncio.sleep(REPEAT_S)
            traffic.accepted += sum(a.status == 202 for a in answers)
            await asyncio.sleep(every_s * (0.5 + random.random()))

    # --- the store's side

    def settings(self) -> Settings:
        """Return the configuration as the gateway reads it."""
        return load(self.config_dir, {"SMSGW_ADMIN_TOKEN": ADMIN_TOKEN, "SMSC_PASSWORD": "secret"})

    def store_url(self) -> str:
        """Return where its store is, the embedded one's too."""
        return self.settings().store.url or f"unix://{socket_path(self.data_dir)}"

    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        """Open the gateway's store as a reader of our own."""
        store = await Store.open(self.settings(), self.store_url(), incarnation="the-test")
        store.client.timeout_s = READ_TIMEOUT_S
        try:
            yield store
        finally:
            await store.close()

    async def record(self, shown_id: str) -> Record | None:
        """Return one record by the id the API gave."""
        async with self.store() as store:
            return await store.get(store_id(MessageId(shown_id)))

    async def records(self) -> list[Record]:
        """Return every record there is, whoever stored it."""
        async with self.store() as store:
            return [records.parse(sid, raw) for sid, raw in await _raw_records(store)]

    async def states(self) -> Counter[str]:
        """Count all records by the state an application sees."""
        async with self.store() as store:
            found = Counter(chr(raw[-records.TRAILER_BYTES]) for _, raw in await _raw_records(store))
        counted: Counter[str] = Counter()
        for letter, n in found.items():
            counted[STATE_LABELS[letter]] += n
        return counted

    async def until_final(self, *, timeout_s: float = 30.0, but: Iterable[str] = ()) -> Counter[str]:
        """Wait until every record is final, or in one of the states `but`; returns the states."""
        ends = {label for letter, label in STATE_LABELS.items() if letter.isupper()} | set(but)
        seen: Counter[str] = Counter()

        async def all_final() -> bool:
            nonlocal seen
            seen = await self.states()
            return bool(seen) and set(seen) <= ends

        try:
            await until(all_final, timeout_s=timeout_s, every_s=0.2)
        except AssertionError:
            raise AssertionError(f"after {timeout_s} s the states are {dict(seen)}\n{self.log()[-4000:]}") from None
        return seen

    async def claims(self, incarnation: str) -> int:
        """Return how many claims, leases and marks of a worker the store still holds, over all shards."""
        async with self.store() as store:
            total = 0
            for shard in range(store.shards):
                mine = prefix(shard)
                total += await store.client.execute("HLEN", f"{mine}claims:{incarnation}")
                total += await store.client.execute("HEXISTS", f"{mine}lease", incarnation)
                total += await store.client.execute("SISMEMBER", f"{mine}holders", incarnation)
            return total

    # --- the comparison

    async def audit(self, carriers: Sequence[Smsc], *, copies_allowed: int = 0, settled: bool = True) -> Report:
        """Compare the ledgers and return the report; a broken invariant is an AssertionError with the page.

        What the store keeps beside the records (queues, rings, claims, the counter of what waits) must fit them too.
        """
        found = await self.records()
        rows = [row_of(record) for record in found]
        submits, receipts = carrier_rows(carriers)
        report = check(self.client, submits, rows, receipts, copies_allowed=copies_allowed, settled=settled)
        assert report.ok, f"{report.text()}\n{self.log()[-4000:]}"
        # `not_stored` is a promise as well: whoever was told nothing else has nothing here.
        accepted = {row.to for row in self.client if row.status == 202}
        refused = {to.lstrip("+") for to in self.not_stored - self.undecided - accepted}
        assert not refused & {row.to for row in rows}, "refused as not_stored, and yet stored"
        await self._check_bookkeeping()
        return report

    async def _check_bookkeeping(self) -> None:
        # A move that was under way while it was read may show once, a fault shows every time.
        for tries_left in (2, 1, 0):
            with redis.Redis.from_url(self.store_url()) as client:
                snap = snapshot(client)
            try:
                check_consistent(snap)
                return
            except AssertionError:
                if not tries_left:
                    raise
            await asyncio.sleep(0.2)


def row_of(record: Record) -> RecordRow:
    """Return a record as the checker reads it."""
    return RecordRow(
        id=message_id(record.id),
        to=record.msisdn,
        state=STATE_LABELS[record.state],
        account=record.account,
        ref=record.ref,
        category=CATEGORY_LABELS[record.category],
        parts=record.parts,
        accepted_at_ms=record.accepted_at_ms,
        expires_at_ms=record.expires_at_ms,
        possible_duplicate=record.possible_duplicate,
        late_correction=record.late_correction,
    )


def carrier_rows(carriers: Sequence[Smsc]) -> tuple[list[SubmitRow], list[ReceiptRow]]:
    """Return what the carriers saw as the checker reads it; ids of several carriers are kept apart."""
    submit_names = {f.name for f in fields(SubmitRow)}
    receipt_names = {f.name for f in fields(ReceiptRow)}
    submits: list[SubmitRow] = []
    receipts: list[ReceiptRow] = []
    for i, carrier in enumerate(carriers):
        for row in carrier.ledger.rows():
            values: dict[str, Any] = {**row, "smsc_id": f"{i}:{row['smsc_id']}" if row["smsc_id"] else ""}
            if row["kind"] == "submit":
                submits.append(SubmitRow(**{k: v for k, v in values.items() if k in submit_names}))
            elif row["stat"]:
                receipts.append(ReceiptRow(**{k: v for k, v in values.items() if k in receipt_names}))
    return submits, receipts


def _item(result: dict[str, Any], whole: Answer) -> Answer:
    """Return one item of a batch's 202 as an answer of its own."""
    error = result.get("error")
    if error is None:
        return Answer(202, result, whole.headers, whole.seconds)
    return Answer(int(error["status"]), error, whole.headers, whole.seconds)


async def _raw_records(store: Store) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    cursor = 0
    seen: set[bytes] = set()
    while True:
        raw_cursor, keys = await store.client.execute("SCAN", cursor, "MATCH", "gw:{s*}:msg:*", "COUNT", 2000)
        keys = [key for key in keys if key not in seen]  # SCAN may show a key twice
        seen.update(keys)
        if keys:
            values = await store.client.execute("MGET", *keys)
            sids = [key.split(b":msg:", 1)[1] for key in keys]
            found += [(sid, raw) for sid, raw in zip(sids, values, strict=True) if raw is not None]
        cursor = int(raw_cursor)
        if cursor == 0:
            return found
