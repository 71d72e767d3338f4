"""From a checked request to stored messages: whose, to which number, by which route, in how many parts.

Owns the decisions that need the configuration (categories, senders, signature, number, route, limits), the order in
which the rules of `policy` are asked, and the form in which a message goes to the store. Refuses to know HTTP and JSON
shapes of answers, and channels: the carrier is chosen late. Stands between the api and the store; preparing a message
is one plain function of 7 µs without an await, so a batch is prepared and stored in slices of 100 with the loop
running in between. `check` goes the same way and stores nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import orjson

from gateway import journal
from gateway.errors import Backpressure, GatewayError, RequestError, StoreUnavailable
from gateway.metrics import Cell, Metrics
from gateway.model import (
    CATEGORY_BY_LABEL,
    STATE_LABELS,
    Accepted,
    Category,
    MessageKind,
    NewMessage,
    State,
    ValidMessage,
    route_name,
)
from gateway.policy import caps
from gateway.policy.content import REFUSE, LinkRule, rejected
from gateway.policy.policy import Policy, load_policy
from gateway.policy.send_window import OPEN, SendWindow, spread_ms
from gateway.policy.texts import MAX_SIGNATURE_CHARS, TextRules
from gateway.routing.msisdn import Number, normalise
from gateway.routing.router import Decision, Router
from gateway.settings import AccountSettings, Settings
from gateway.signature import signature_of
from gateway.smpp.text import plan
from gateway.store.keys import new_id, shard_of
from gateway.store.limits import AccountLimiter
from gateway.store.records import Record, pack_body, pack_content

SLICE: Final = 100
MAX_PARTS: Final = 10
MAX_ADDRESS_CHARS: Final = 20
"""Digits of a numeric source address with its sub-number (SMPP 3.4 §5.2.8: 21 octets with the NUL)."""
FULL_RETRY_S: Final = 5.0


class MessageStore(Protocol):
    """The part of the store that intake writes to and reads back from."""

    shards: int

    def ready(self) -> list[str]: ...
    async def accept(self, messages: list[NewMessage]) -> list[Accepted | StoreUnavailable]: ...
    async def get(self, sid: bytes) -> Record | None: ...


@dataclass(slots=True)
class Taken:
    """A message that is stored: what the caller is told about it."""

    id: bytes  # StoreId
    state: str  # at acceptance
    parts: int
    encoding: str
    route: str  # the lane's id where the route has lanes
    expires_at_ms: int  # 0: no longer known (a replay whose record is gone)
    replayed: bool = False


ItemResult = Taken | GatewayError
"""One item's end: stored, or the error that kept it out."""


Prepared = tuple[int, NewMessage, str, ValidMessage]
"""A message ready for the store: its place in the request, itself, its encoding, what was asked."""


class _CategoryTerms:
    """What holds for an account's messages of one category, compiled once."""

    __slots__ = ("caps", "consent", "number", "ruled", "spread_s", "texts", "texts_in", "ttl_ms", "words")

    def __init__(self, account: AccountSettings, category: Category, settings: Settings, policy: Policy) -> None:
        rules = settings.categories[category]
        self.number = int(category)
        self.ttl_ms = rules.ttl_s * 1000
        self.spread_s = rules.spread_s
        self.caps = caps.CategoryCaps(account, category, rules)
        self.consent = account.consent_required and category is Category.MARKETING
        self.ruled = category in policy.windows.ruled
        self.texts = TextRules(rules)
        self.texts_in = self.texts.countries
        self.words = policy.words.search(account.id, category)


class _Terms:
    """What an account may do, looked up once a request."""

    __slots__ = ("account", "categories", "kinds", "limited", "links", "mark", "senders", "signatures")

    def __init__(self, account: AccountSettings, settings: Settings, policy: Policy) -> None:
        self.account = account
        self.limited = bool(account.max_per_s or account.daily_quota)
        self.senders = frozenset(account.senders)
        self.signatures = frozenset(account.signatures)
        self.links = LinkRule(account.link_domains) if account.link_domains is not None else None
        self.mark = _mark_of(account.id)
        self.kinds: dict[tuple[Any, ...], MessageKind] = {}
        self.categories = {
            label: _CategoryTerms(account, category, settings, policy)
            for label, category in CATEGORY_BY_LABEL.items()
            if category in account.categories
        }


class Renderer(Protocol):
    """Makes texts of templates; see `gateway.templates.registry`."""

    def render(self, account: str, item: ValidMessage) -> ValidMessage: ...


class Intake:
    """Accepts messages for all accounts of one api worker."""

    def __init__(
        self,
        settings: Settings,
        router: Router,
        store: MessageStore,
        limiter: AccountLimiter,
        metrics: Metrics,
        templates: Renderer | None = None,
        policy: Policy | None = None,
    ) -> None:
        """`policy` is what the tables of the configuration say; they are read here where it is not given.

        Raises:
            ConfigError: they had to be read, and a line is wrong.
        """
        self._templates = templates
        self._settings = settings
        self._policy = policy or load_policy(settings)
        self._windows = self._policy.windows
        self._router = router
        self._by_signature = router.table.by_signature
        self._store = store
        self._limiter = limiter
        self._metrics = metrics
        self._terms: dict[str, _Terms] = {}
        self._cells: dict[tuple[str, str, str, str], Cell] = {}
        self._of_account: dict[tuple[str, str], Cell] = {}

    async def accept(
        self,
        account: AccountSettings,
        items: Sequence[ValidMessage | RequestError],
        idempotency_key: str | None,
    ) -> list[ItemResult]:
        """Store what can be stored; one result an item, in order, each decided by itself.

        Nothing is raised for an item: an error stands in its place, one from `items` unchanged.
        """
        terms = self._terms_of(account)
        results: list[ItemResult] = list(items)  # type: ignore[arg-type]  # every place is overwritten below
        if len(items) <= SLICE:
            await self._accept_slice(terms, items, 0, idempotency_key, results)
        else:
            await self._accept_slices(terms, items, idempotency_key, results)
        self._count(account.id, items, results)
        return results

    def _terms_of(self, account: AccountSettings) -> _Terms:
        terms = self._terms.get(account.id)
        if terms is None or terms.account is not account:
            terms = self._terms[account.id] = _Terms(account, self._settings, self._policy)
        return terms

    def prepare(
        self,
        account: AccountSettings,
        items: Sequence[ValidMessage | RequestError],
        start: int,
        key: str | None,
        results: list[ItemResult],
    ) -> list[Prepared]:
        """Do what `accept` does before it asks the store, for a slice of a request that begins at place `start`.

        Returns what would go to the store; in `results` every other place has its error.
        """
        return self._prepared(self._terms_of(account), items, start, key, results)

    @property
    def router(self) -> Router:
        """The routes it decides by."""
        return self._router

    async def close(self) -> None:
        """Give back what was drawn of the accounts' quotas and not spent; wait 2 s for it at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await self._limiter.close(self._settings.accounts)

    async def _accept_slices(
        self,
        terms: _Terms,
        items: Sequence[ValidMessage | RequestError],
        key: str | None,
        results: list[ItemResult],
    ) -> None:
        # Slices overlap: while the store writes one the next is prepared. A task starts in the next turn of
        # the loop, so other requests get theirs in between.
        async with asyncio.TaskGroup() as group:
            for start in range(0, len(items), SLICE):
                part = items[start : start + SLICE]
                group.create_task(self._accept_slice(terms, part, start, key, results))
                await asyncio.sleep(0)

    async def _accept_slice(
        self,
        terms: _Terms,
        items: Sequence[ValidMessage | RequestError],
        start: int,
        key: str | None,
        results: list[ItemResult],
    ) -> None:
        prepared = self._prepared(terms, items, start, key, results)
        if not prepared:
            return
        if terms.limited:
            prepared = await self._within_limits(terms.account, prepared, results)
        if prepared:
            await self._store_prepared(terms, prepared, results)

    def _prepared(
        self,
        terms: _Terms,
        items: Sequence[ValidMessage | RequestError],
        start: int,
        key: str | None,
        results: list[ItemResult],
    ) -> list[Prepared]:
        """Return the messages among `items` that may go to the store; why the others may not stands in `results`."""
        prepared: list[Prepared] = []
        now_ms = time.time_ns() // 1_000_000
        for index, item in enumerate(items, start):
            if item.__class__ is not ValidMessage:
                continue
            try:
                prepared.append(self._prepare(terms, item, index, key, now_ms))
            except RequestError as error:
                results[index] = error
        if prepared and self._store.ready():
            _refuse(prepared, results, StoreUnavailable("not ready", outcome="not_stored"))
            return []
        return prepared

    def _prepare(self, terms: _Terms, item: ValidMessage, index: int, key: str | None, now_ms: int) -> Prepared:
        """Decide everything about one message that needs no store.

        Raises:
            RequestError: category_not_allowed, invalid_number, sender_not_allowed, no_route, missing_signature,
                signature_not_allowed, signature_not_registered, missing_optout_text, consent_required,
                content_rejected, link_not_allowed, text_too_long, outside_window or invalid_field.
        """
        account = terms.account
        rules = terms.categories.get(item.category)
        if rules is None:
            raise RequestError("category_not_allowed", "the account may not send it", field="category")
        if item.template:
            item = self._rendered(account, item)
        category = rules.number
        msisdn, country = normalise(item.to, account.default_country)
        sender = _sender(terms, item)
        text = item.text
        signature = signature_of(text)
        if terms.signatures:
            _check_signature(terms, signature)
        decision = self._router.route(msisdn, country, category, account.id, sender)
        if decision is None:
            raise RequestError("no_route", "no configured route takes this message", field="to")
        if self._by_signature:
            decision = self._lane(decision, signature)
        if country in rules.texts_in:
            rules.texts.check(text, signature, country)
        if rules.words or rules.consent or terms.links:
            self._check_content(terms, rules, item)
        route = decision.route
        planned = plan(text, alphabet=route.alphabet, reference_bits=route.reference_bits)
        if planned.parts > MAX_PARTS:
            detail = f"the text needs {planned.parts} parts in {planned.encoding}, {MAX_PARTS} are the most"
            raise RequestError("text_too_long", detail, field="text")
        send_at_ms = item.send_at_ms if item.send_at_ms > now_ms else 0
        given = item.given
        # Most messages have nothing but to, category, text and ref: of these nothing else need be asked.
        bare = len(given) <= (4 if "ref" in given else 3)
        window = OPEN
        if rules.ruled or (not bare and item.local_window):
            window = self._window(rules, item, country, send_at_ms or now_ms, bool(item.ref) or key is not None)
        rest = pack_content(text, item.ref) if bare else _content(item)
        idem = digest = b""
        ref = item.ref
        if ref or key is not None:
            # The item's number is part of a key's mark: one key serves a batch, where a number may stand twice.
            mark = terms.mark.copy()
            mark.update((f"r\0{ref}\0{msisdn}" if ref else f"k\0{key}\0{msisdn}\0{index}").encode())
            idem = mark.digest()
            digest = _digest(item, _content(item, asked=True) if item.template else rest)
        shard = shard_of(msisdn, self._store.shards)
        message = NewMessage(
            new_id(shard),
            shard,
            _kind(terms, rules, item, decision, sender, signature, send_at_ms, window, bare),
            msisdn,
            planned.parts,
            pack_body(planned.encoding, rest),
            idem,
            digest,
        )
        return index, message, planned.encoding, item

    def _window(self, rules: _CategoryTerms, item: ValidMessage, country: str, at_ms: int, marked: bool) -> SendWindow:
        """Return in which window a message leaves that is due at `at_ms`.

        One that opens too late for `not_after` is returned where the message is `marked` as a possible repeat: it may
        have been taken while the window was open, which only the store knows (see `not_taken`).

        Raises:
            RequestError: outside_window, or invalid_field for a window on a verification.
        """
        if item.local_window and rules.number == Category.VERIFICATION:
            detail = "a verification is sent at any hour, because who asks for a code waits for it"
            raise RequestError("invalid_field", detail, field="local_window")
        not_after_ms = 0 if marked else item.not_after_ms
        return self._windows.window(at_ms, rules.number, country, item.zone, item.local_window, not_after_ms)

    def _check_content(self, terms: _Terms, rules: _CategoryTerms, item: ValidMessage) -> None:
        """Ask the rules on contents that this account has.

        Raises:
            RequestError: consent_required, content_rejected or link_not_allowed.
        """
        if rules.consent and not item.consent:
            detail = 'marketing must say that its recipient agreed: "consent": true'
            raise RequestError("consent_required", detail, field="consent")
        for word in rules.words.hits(item.text) if rules.words else ():
            self._metrics.counter("content_hits_total", rule=word.id, action=word.action).n += 1
            if word.action == REFUSE:
                raise rejected(word)
        if terms.links is not None:
            terms.links.check(item.text)

    def _rendered(self, account: AccountSettings, item: ValidMessage) -> ValidMessage:
        """Return the message with the text that its template makes of its params.

        Raises:
            RequestError: as `templates.registry.Templates.render`.
        """
        if self._templates is None:
            raise RequestError("unknown_template", "there is no such template", field="template")
        return self._templates.render(account.id, item)

    def _lane(self, decision: Decision, signature: str) -> Decision:
        """Return the decision with the lane in the place of its route, where the route has lanes.

        Raises:
            RequestError: missing_signature or signature_not_registered.
        """
        route, carrier, origin = decision
        lane = self._router.table.lane(route, signature)
        if lane is route:
            return decision
        if not signature:
            raise _no_signature()
        if lane is None:
            detail = f"no channel of route {route.name} carries this signature"
            raise RequestError("signature_not_registered", detail, field="text")
        return Decision(lane, carrier, origin)

    async def _within_limits(
        self, account: AccountSettings, prepared: list[Prepared], results: list[ItemResult]
    ) -> list[Prepared]:
        """Return the first of `prepared` that the account's rate and quota let through."""
        if self._limiter.take_now(account, len(prepared)):
            return prepared
        try:
            grant = await self._limiter.take(account, len(prepared))
        except StoreUnavailable as error:
            _refuse(prepared, results, error)
            return []
        if grant.refusal is not None:
            _refuse(prepared[grant.granted :], results, grant.refusal)
        return prepared[: grant.granted]

    async def _store_prepared(self, terms: _Terms, prepared: list[Prepared], results: list[ItemResult]) -> None:
        answers = await self._store.accept([message for _, message, _, _ in prepared])
        if journal.on:
            journal.accepted(prepared, answers)
        unspent = 0
        replays: list[tuple[Prepared, bytes]] = []
        for one, answer in zip(prepared, answers, strict=True):
            index, message, encoding, _ = one
            if isinstance(answer, StoreUnavailable):
                results[index] = answer
                unspent += answer.outcome == "not_stored"
            elif answer.code == "accepted":
                results[index] = Taken(
                    answer.id,
                    STATE_LABELS[State.DEFERRED if answer.deferred_to_ms else message.kind.state],
                    message.parts,
                    encoding,
                    message.kind.route,
                    answer.expires_at_ms,
                )
            else:
                unspent += 1
                if answer.code == "replay":
                    replays.append((one, answer.id))
                else:
                    results[index] = not_taken(one, answer)
        if unspent and terms.limited:
            self._limiter.give_back(terms.account, unspent)
        if replays:
            taken = await asyncio.gather(*(self.replayed(one, sid) for one, sid in replays))
            for (one, _), first in zip(replays, taken, strict=True):
                results[one[0]] = first

    async def replayed(self, one: Prepared, sid: bytes) -> Taken:
        """Return the first answer again; what the record says, if it is still kept, goes first."""
        _, message, encoding, item = one
        first = Taken(
            sid, STATE_LABELS[message.kind.state], message.parts, encoding, message.kind.route, 0, replayed=True
        )
        try:
            record = await self._store.get(sid)
        except StoreUnavailable:
            return first  # the id is certain, and it is what the caller asked again for
        if record is not None:
            first.state = STATE_LABELS[_state_then(record, item)]
            first.parts = record.parts
            first.encoding = record.encoding or encoding
            first.route = record.route
            first.expires_at_ms = record.expires_at_ms
        return first

    def _count(self, account: str, items: Sequence[ValidMessage | RequestError], results: list[ItemResult]) -> None:
        """Count each item once: its state when taken, else `refused` with the code. Replays are not new."""
        last_key: tuple[str, str, str, str] | None = None
        accepted = len(results)
        for item, result in zip(items, results, strict=True):
            category = item.category if isinstance(item, ValidMessage) else ""
            if isinstance(result, Taken):
                if result.replayed:
                    accepted -= 1
                    continue
                key = (category, result.route, result.state, "")
            else:
                accepted -= 1
                key = (category, "", "refused", getattr(result, "code", "store_unavailable"))
                self._account_cell(account, key[3]).n += 1
            if key != last_key:
                last_key = key
                cell = self._cells.get(key) or self._new_cell(key)
            cell.n += 1
        if accepted:
            self._account_cell(account, "accepted").n += accepted

    def _account_cell(self, account: str, result: str) -> Cell:
        cell = self._of_account.get((account, result))
        if cell is None:
            cell = self._metrics.counter("account_messages_total", account=account, result=result)
            self._of_account[account, result] = cell
        return cell

    def _new_cell(self, key: tuple[str, str, str, str]) -> Cell:
        labels = dict(zip(("category", "route", "state", "reason"), key, strict=True))
        labels["route"] = route_name(labels["route"])
        cell = self._cells[key] = self._metrics.counter("messages_total", **labels)
        return cell


_KINDS: Final = 1024
"""Kinds kept an account; campaigns come and go."""


def _kind(
    terms: _Terms,
    rules: _CategoryTerms,
    item: ValidMessage,
    decision: Decision,
    sender: str,
    signature: str,
    send_at_ms: int,
    window: SendWindow,
    bare: bool,
) -> MessageKind:
    """Return what the message shares with others, the same object for the same values."""
    opens_ms, closes_ms = window
    key: tuple[Any, ...]
    if not bare:
        origin = item.origin
        campaign = origin.get("campaign", "") if origin else ""
        variant = origin.get("variant", "") if origin else ""
        tags = tuple(item.tags) if item.tags else ()
        ttl_ms = item.ttl_s * 1000 or rules.ttl_ms
        times = (ttl_ms, send_at_ms, item.not_after_ms)
        places = (campaign, variant, item.gate, tags, item.test, item.template)
        key = (decision, sender, rules.number, signature, opens_ms, closes_ms, *times, *places)
    else:
        ttl_ms, campaign, variant, tags = rules.ttl_ms, "", "", ()
        key = (decision, sender, rules.number, signature, opens_ms, closes_ms)
    kind = terms.kinds.get(key)
    if kind is None:
        if len(terms.kinds) >= _KINDS:
            terms.kinds.clear()
        account = terms.account.id
        # What is longer is nobody's name; the store counts and looks up by those that can be configured.
        known = signature if len(signature) <= MAX_SIGNATURE_CHARS else ""
        kind = terms.kinds[key] = MessageKind(
            account,
            rules.number,
            decision.route.id,
            decision.carrier,
            sender,
            ttl_ms,
            opens_ms or send_at_ms,
            item.not_after_ms,
            State.DEFERRED if opens_ms else State.SCHEDULED if send_at_ms else State.QUEUED,
            item.template,
            campaign,
            variant,
            item.gate,
            tags,
            item.test,
            caps=caps.written(rules.caps.of(known, tags, test=item.test)),
            scopes=blacklist_scopes(account, sender, known),
            signature=known,
            window_until_ms=closes_ms,
            spread_ms=spread_ms(window, rules.spread_s, item.not_after_ms) if opens_ms else 0,
            defer_capped=terms.account.when_capped == "defer",
        )
    return kind


def blacklist_scopes(account: str, sender: str, signature: str) -> tuple[str, ...]:
    """Return the blacklists that hold for a message, besides the one for all."""
    return (account, *dict.fromkeys(f"{account}/{name}" for name in (sender, signature) if name))


def _state_then(record: Record, item: ValidMessage) -> str:
    """Return the state at acceptance of a message that was asked for again with the same content."""
    if not record.send_at_ms:
        return State.QUEUED
    return State.SCHEDULED if record.send_at_ms == item.send_at_ms else State.DEFERRED


def recipient(account: AccountSettings, raw: str) -> Number:
    """Return the number `raw` names for this account, as `accept` would read it. Raises RequestError."""
    return normalise(raw, account.default_country)


def ref_mark(account: str, ref: str, msisdn: str) -> bytes:
    """Return the 16 bytes under which the store remembers a `ref` of an account towards a number."""
    mark = _mark_of(account)
    mark.update(f"r\0{ref}\0{msisdn}".encode())
    return mark.digest()


def _mark_of(account: str) -> hashlib.blake2b:
    # NUL between the parts: it cannot stand inside one of them.
    return hashlib.blake2b(f"{account}\0".encode(), digest_size=16)


def _digest(item: ValidMessage, rest: bytes) -> bytes:
    """Return 8 bytes over what the application asked for, however it ordered its fields.

    Only what was sent counts: a default that the configuration fills in may change between two repeats.
    """
    asked = "\0" + item.category
    given = item.given
    if len(given) > (4 if "ref" in given else 3):  # more than to, category, text and ref
        asked += f"\0{item.ttl_s}\0{item.send_at_ms}\0{item.not_after_ms}\0{item.sender}\0{item.gate}\0{item.test}"
        if item.tags:
            asked += "\0" + "\0".join(item.tags)
    return hashlib.blake2b(rest + asked.encode(), digest_size=8).digest()


def _check_signature(terms: _Terms, signature: str) -> None:
    """Raise RequestError unless a text's signature ('': none) is one of the account's."""
    if not signature:
        raise _no_signature()
    if signature not in terms.signatures:
        raise RequestError("signature_not_allowed", "not among the account's signatures", field="text")


def _no_signature() -> RequestError:
    detail = "the text must begin or end with a signature in 【】"
    return RequestError("missing_signature", detail, field="text")


def _sender(terms: _Terms, item: ValidMessage) -> str:
    sender = item.sender
    if not sender:
        senders = terms.account.senders
        sender = senders[0] if senders else ""
    elif sender not in terms.senders:
        raise RequestError("sender_not_allowed", "not among the account's senders", field="sender")
    if item.ext and (not sender.isdigit() or len(sender) + len(item.ext) > MAX_ADDRESS_CHARS):
        detail = f"ext needs a numeric sender, together at most {MAX_ADDRESS_CHARS} digits"
        raise RequestError("invalid_field", detail, field="ext")
    return sender


def _content(item: ValidMessage, *, asked: bool = False) -> bytes:
    """Return the text, the ref and what the record has no place of its own for, as the record keeps them.

    Written in one order, so that equal requests give equal bytes. With `asked` for the digest of a rendered message:
    the template and the params in the place of the text, because the template may have another version at the repeat.
    """
    carried: dict[str, Any] = {}
    if item.origin:
        carried["o"] = item.origin
    if item.contact:
        carried["c"] = item.contact
    if item.meta:
        carried["m"] = item.meta
    if item.ext:
        carried["x"] = item.ext
    if item.zone:
        carried["z"] = item.zone
    if item.local_window:
        carried["w"] = item.local_window
    if item.consent:
        carried["y"] = True
    if item.template and not asked:
        carried["t"] = item.template_version
    text = item.asked if asked else item.text
    if not carried:
        return pack_content(text, item.ref)
    return pack_content(text, item.ref, orjson.dumps(carried, option=orjson.OPT_SORT_KEYS))


_REFUSALS: Final[dict[str, tuple[str, str, str]]] = {
    # the store's answer → code, detail, field
    "ref_conflict": ("ref_conflict", "the ref was used for other content", "ref"),
    "conflict": (
        "idempotency_mismatch",
        "the Idempotency-Key was used for other content to this recipient",
        "Idempotency-Key",
    ),
    "blocked": ("blocked_recipient", "the recipient is on a blacklist", "to"),
    "capped": ("frequency_capped", "the recipient has had as many messages as the limits allow", "to"),
    "expired": ("expired", "not_after is in the past", "not_after"),
}


def not_taken(one: Prepared, answer: Accepted) -> GatewayError:
    """Return the error that stands for the store's refusal."""
    if answer.code == "full":
        return Backpressure("overloaded", "the queue is full", retry_after_s=FULL_RETRY_S)
    kind = one[1].kind
    if answer.code == "expired" and kind.state == State.DEFERRED and kind.not_after_ms <= kind.send_at_ms:
        detail = f"it may leave from {_utc(kind.send_at_ms)}, which is not before not_after"
        return RequestError("outside_window", detail, field="not_after", retry_at_ms=kind.send_at_ms)
    verdict = "ref_conflict" if answer.code == "conflict" and one[3].ref else answer.code
    code, detail, field = _REFUSALS[verdict]
    wait_s = max(1.0, answer.retry_at_ms / 1000 - time.time()) if answer.retry_at_ms else None
    return RequestError(code, detail, field=field, retry_after_s=wait_s, retry_at_ms=answer.retry_at_ms)


def _utc(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="minutes")


def _refuse(prepared: Sequence[Prepared], results: list[ItemResult], error: GatewayError) -> None:
    for one in prepared:
        results[one[0]] = error
