"""Messages from handsets, from the wire to the store: read, joined, tied to an account, obeyed where they opt out.

Owns the order of it: parts gather in the store until a message is whole; then the store says what was sent to that
number of late, `ties` whose the reply is, `policy` what it wants, and one move records and does all of it. Nothing here
acknowledges: whoever called does, when `record` has returned. Refuses to know webhooks: the move tells the account.
A text is never logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from gateway.dlr import handset
from gateway.dlr.handset import Alphabets, Piece
from gateway.dlr.ties import EVERYBODY, Tie, mask_of, scope_of, tie
from gateway.errors import StoreUnavailable
from gateway.metrics import Metrics
from gateway.model import message_id
from gateway.policy.keywords import KeywordRules
from gateway.policy.optout import OTHER, REVIEW, START, STOP, OptoutWords, load_optout_words
from gateway.routing.inbound import ReturnRoutes
from gateway.settings import KeywordSettings, Settings
from gateway.smpp.channel import Inbound
from gateway.store import keys
from gateway.store.inbox import InboundStore, Latest, PartRow, Recorded, Result
from gateway.store.store import Store

logger = logging.getLogger(__name__)

MONTH_S: Final = 31 * 86_400
OVERDUE_EVERY_S: Final = 5.0
_OVERDUE_MOST: Final = 50
_PARTS_MAY_WAIT: Final = 50_000
BLOCK_NUMBERS: Final = 10_000  # numbers that share all but their last four digits
BLOCK_SHARE: Final = 0.01


@dataclass(slots=True)
class _Whole:
    """One whole message, not decided yet."""

    channel: str
    source: str
    destination: str
    text: str
    smsc_id: bytes = b""
    parts: int = 1
    partial: bool = False
    set_name: str = ""
    parts_done: bytes = b""
    numbers: tuple[str, ...] = ()
    country: str = ""


class Inbox:
    """Takes what handsets send to one dispatch worker.

    Raises:
        ConfigError: the table of opt-out words is wrong.
    """

    def __init__(self, settings: Settings, store: Store, metrics: Metrics) -> None:
        self._store = InboundStore(store)
        self._metrics = metrics
        self.use(settings, load_optout_words(settings.optout_words_file))
        self._alarmed: dict[tuple[str, str], int] = {}
        self._stopped = asyncio.Event()

    def use(self, settings: Settings, words: OptoutWords) -> None:
        """Take other settings, and their table of opt-out words, into use."""
        self._returns = ReturnRoutes(settings)
        self._words = words
        self._keywords = KeywordRules(settings.keywords)
        self._channels = {channel.id: channel for channel in settings.channels}
        self._alphabets = {channel.id: Alphabets.of(channel) for channel in settings.channels}
        self._accounts = {account.id: account for account in settings.accounts}
        self._countries = tuple(dict.fromkeys(a.default_country for a in settings.accounts)) or ("CN",)
        self._rules = settings.inbound
        self._keep_s = settings.inbound.keep_months * MONTH_S
        self._keep_optouts_s = settings.inbound.keep_optout_months * MONTH_S

    async def record(self, batch: Sequence[Inbound]) -> None:
        """Record messages from handsets; they are durable when it returns, and a repeat of them records nothing twice.

        Raises:
            StoreUnavailable: some may not be recorded; whoever sent them must send them again.
        """
        wholes: list[_Whole] = []
        parts: dict[int, list[tuple[Inbound, Piece]]] = {}
        for one in batch:
            piece = handset.read(
                one.source, one.destination, one.short_message, one.tlvs, one.esm_class, one.data_coding
            )
            if piece.total == 1:
                text = handset.text_of(piece, self._of_channel(one.channel))
                wholes.append(_Whole(one.channel, piece.source, piece.destination, text, piece.smsc_id))
            else:
                parts.setdefault(self._store.shard_of(piece.source), []).append((one, piece))
        for shard, some in parts.items():
            wholes += await self._gather(shard, some)
        await self._record(wholes)

    async def run(self) -> None:
        """Deliver long messages whose rest did not come, until stopped."""
        while not self._stopped.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(OVERDUE_EVERY_S):
                    await self._stopped.wait()
            if not self._stopped.is_set():
                try:
                    await self.deliver_overdue()
                except StoreUnavailable as exc:
                    logger.warning("inbound: %s", exc)
                except Exception:  # the boundary of this task: a set that cannot be read must not end it
                    logger.exception("inbound: incomplete messages could not be delivered")

    def stop(self) -> None:
        """Let `run` return."""
        self._stopped.set()

    async def deliver_overdue(self) -> int:
        """Record long messages that are given up with the parts that came; returns how many."""
        n = 0
        for shard in range(self._store.shards):
            wholes = []
            for name, about, parts in await self._store.overdue(shard, _OVERDUE_MOST, _PARTS_MAY_WAIT):
                known = orjson.loads(about)
                channel, total = known["c"], int(known["n"])
                text = handset.joined(parts, total, self._of_channel(channel))
                wholes.append(
                    _Whole(
                        channel, known["s"], known["d"], text,
                        parts=len(parts), partial=len(parts) < total, set_name=name,
                    )
                )  # fmt: skip
            await self._record(wholes)
            n += len(wholes)
        return n

    # --- parts

    def _of_channel(self, channel: str) -> Alphabets:
        return self._alphabets.get(channel) or Alphabets()

    async def _gather(self, shard: int, some: Sequence[tuple[Inbound, Piece]]) -> list[_Whole]:
        rows = [
            PartRow(
                handset.set_name(one.channel, piece), handset.about(one.channel, piece), piece.total, piece.place,
                handset.packed_part(piece),
            )
            for one, piece in some
        ]  # fmt: skip
        answers = await self._store.keep_parts(shard, rows, self._rules.parts_wait_s * 1000)
        wholes = []
        for (one, piece), row, (letter, octets) in zip(some, rows, answers, strict=True):
            self._count(one.channel, {"w": "part", "d": "repeated_part"}.get(letter, "part"))
            if letter == "c":
                in_order = dict(enumerate(octets, 1))
                wholes.append(
                    _Whole(
                        one.channel, piece.source, piece.destination,
                        handset.joined(in_order, piece.total, self._of_channel(one.channel)),
                        parts=piece.total, set_name=row.name, parts_done=handset.fingerprints(in_order),
                    )
                )  # fmt: skip
        return wholes

    # --- whole messages

    async def _record(self, wholes: Sequence[_Whole]) -> None:
        groups: dict[int, list[_Whole]] = {}
        for whole in wholes:
            whole.numbers, whole.country = handset.spellings(whole.source, self._countries)
            groups.setdefault(self._store.shard_of(whole.source), []).append(whole)
        if groups:
            await self._store.audit.prepare()
        for shard, some in groups.items():
            latest = await self._store.latest(shard, [whole.numbers for whole in some])
            decided = [self._decide(shard, whole, known) for whole, known in zip(some, latest, strict=True)]
            results = await self._store.record(shard, decided, keep_s=self._keep_s, keep_optouts_s=self._keep_optouts_s)
            for whole, one, result in zip(some, decided, results, strict=True):
                self._account(whole, one, result)

    def _decide(self, shard: int, whole: _Whole, latest: Latest) -> Recorded:
        owner = self._returns.of(whole.channel, whole.destination.encode("latin-1", "replace"))
        rule = self._keywords.find(whole.text, whole.destination, owner.account)
        found = tie(
            owner, latest, whole.destination, self._channels.get(whole.channel), self._accounts,
            rule.account if rule is not None else "",
        )  # fmt: skip
        if not found.account and len(self._accounts) == 1:
            found = found._replace(account=next(iter(self._accounts)))
        if rule is not None and rule.account and rule.account != found.account:
            rule = None
        opt, word = self._wanted(whole, found, rule)
        sid = keys.new_id(shard)
        now_ms = time.time_ns() // 1_000_000
        told = self._event(sid, whole, latest, found, rule, opt, now_ms)
        one = Recorded(
            sid, latest.msisdn,
            handset.digest_of(whole.channel, whole.source, whole.destination, whole.text, whole.smsc_id),
            found.account, opt, orjson.dumps(told), whole.channel,
            answers=found.answers.id if found.answers is not None else b"",
            signature=found.signature, parts=whole.set_name, parts_done=whole.parts_done,
        )  # fmt: skip
        if opt in ("stop", "start") and latest.msisdn:
            self._obey(one, word, told, found)
        return one

    def _wanted(self, whole: _Whole, found: Tie, rule: KeywordSettings | None) -> tuple[str, str]:
        """Return stop, start, review or '', and the word that decided."""
        reply = self._words.read(whole.text, whole.country, answers=self._keywords.answers(found.account))
        kind, word = reply.kind, reply.word
        if rule is not None and kind in (OTHER, REVIEW):
            kind, word = (rule.action if rule.action != "none" else OTHER), rule.words[0]
        if whole.partial and kind in (STOP, START):
            kind = REVIEW  # what is missing may have said something else
        if kind == STOP and not whole.numbers:
            kind = REVIEW  # from no number: there is nothing to put on a list
        return ("" if kind == OTHER else kind), word

    def _event(
        self, sid: bytes, whole: _Whole, latest: Latest, found: Tie, rule: KeywordSettings | None, opt: str, now_ms: int
    ) -> dict[str, Any]:
        told: dict[str, Any] = {
            "id": message_id(sid),
            "account": found.account,
            "from": latest.msisdn or whole.source,
            "to": whole.destination,
            "text": whole.text,
            "received_at": _iso(now_ms),
            "in_reply_to": message_id(found.answers.id) if found.answers is not None else None,
            "channel": whole.channel,
            "signature": found.signature,
            "keyword": rule.words[0] if rule is not None else "",
            "opt": opt,
        }
        if rule is not None and rule.tag:
            told["tag"] = rule.tag
        if whole.parts > 1 or whole.partial:
            told["parts"] = whole.parts
        if whole.partial:
            told["partial"] = True
        return told

    def _obey(self, one: Recorded, word: str, told: dict[str, Any], found: Tie) -> None:
        """Add what an opt-out or opt-in does, in the same step as the message is recorded."""
        account = self._accounts.get(found.account)
        sender = found.answers.sender if found.answers is not None else ""
        one.scope, one.mask = scope_of(account, sender, found.signature), mask_of(account)
        one.source = f"mo.{one.channel}"
        audit = self._store.audit
        one.audit = audit.what(
            one.source, "blacklist.add" if one.opt == "stop" else "blacklist.remove", one.scope,
            **audit.named(one.msisdn), word=word, inbound=told["id"],
        )  # fmt: skip
        one.opted = orjson.dumps(
            {
                "id": told["id"],
                "account": one.account,
                "number": one.msisdn,
                "scope": "global" if one.scope == EVERYBODY else one.scope,
                "reason": "td",
                "word": word,
                "in_reply_to": told["in_reply_to"],
                "campaign": found.answers.campaign if found.answers is not None else "",
                "at": told["received_at"],
            }
        )

    # --- what came of it

    def _account(self, whole: _Whole, one: Recorded, result: Result) -> None:
        if not result.new:
            self._count(whole.channel, "repeated")
            return
        self._metrics.counter("inbound_total", channel=whole.channel).n += 1
        self._count(whole.channel, one.opt or "other")
        if whole.partial:
            self._count(whole.channel, "partial")
        if one.opt != "stop":
            return
        if result.ended:
            self._metrics.counter("inbound_ended_total", channel=whole.channel).n += result.ended
        # Numbers are spread over the shards by their last digits, so each sees its share of a flood.
        most = self._rules.optout_alarm_per_hour
        if most and result.of_channel * self._store.shards > most:
            self._alarm(whole.channel, "channel", f"more than {most} opt-outs within the hour")
        if result.of_block * self._store.shards > BLOCK_NUMBERS * BLOCK_SHARE:
            self._alarm(whole.channel, "block", "more than 1 % of a block of numbers opted out within the hour")

    def _alarm(self, channel: str, cause: str, what: str) -> None:
        """Count each, say it once an hour."""
        self._metrics.counter("optout_alarms_total", channel=channel, cause=cause).n += 1
        hour = int(time.time()) // 3600
        if self._alarmed.get((channel, cause)) != hour:
            self._alarmed[channel, cause] = hour
            logger.error(
                "channel %s: %s; if they are forged: smsgw blacklist undo --source mo.%s", channel, what, channel
            )

    def _count(self, channel: str, what: str) -> None:
        self._metrics.counter("inbound_read_total", channel=channel, what=what).n += 1


def _iso(at_ms: int) -> str:
    at = datetime.fromtimestamp(at_ms // 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"
