"""The category rules at intake: windows, caps, consent, texts and contents, as messages reach the store."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import RequestError
from gateway.intake import Intake, ItemResult, Taken
from gateway.metrics import Metrics
from gateway.model import Category, NewMessage, State, ValidMessage
from gateway.routing.loader import build_router
from gateway.settings import AccountSettings, Settings, packaged_config_dir
from gateway.settings.values import default_categories
from gateway.store.limits import AccountLimiter
from gateway.store.store import Store
from tests.api.conftest import api_settings
from tests.support.valkey import ValkeyServer

SHOP = AccountSettings("shop", senders=("106900001",))
TEXT = "【Acme】周末八折，拒收请回复R"
HOUR_MS = 3_600_000
EVENING = int(datetime.fromisoformat("2026-11-22T23:00+08:00").timestamp() * 1000)
MORNING, CLOSE = EVENING + 9 * HOUR_MS, EVENING + 21 * HOUR_MS


class Nowhere:
    """A store that is only ready."""

    shards = 1

    def ready(self) -> list[str]:
        return []


def rules(**marketing: Any) -> Settings:
    shipped = packaged_config_dir()
    categories = default_categories()
    categories[Category.MARKETING] = replace(categories[Category.MARKETING], **marketing)
    return replace(
        api_settings(),
        categories=categories,
        accounts=(SHOP,),
        quiet_hours_file=shipped / "quiet_hours.csv",
        time_zones_file=shipped / "time_zones.csv",
    )


def intake_of(settings: Settings, store: Any = None) -> Intake:
    store = store or Nowhere()
    return Intake(settings, build_router(settings), store, AccountLimiter(store), Metrics("api", "0"))


def prepare(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    *,
    account: AccountSettings = SHOP,
    now_ms: int = EVENING,
    **fields: Any,
) -> NewMessage:
    """Return what would go to the store at a time; raises what would be refused."""
    monkeypatch.setattr("gateway.intake.time.time_ns", lambda: now_ms * 1_000_000)
    item = ValidMessage({"to": "+8613800000001", "category": "marketing", "text": TEXT, **fields})
    results: list[ItemResult] = [RequestError("none", "")]
    prepared = intake_of(settings).prepare(account, [item], 0, None, results)
    if not prepared:
        assert isinstance(results[0], RequestError)
        raise results[0]
    return prepared[0][1]


def test_at_23_00_it_waits_for_the_opening(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = prepare(rules(), monkeypatch).kind
    assert (kind.state, kind.send_at_ms, kind.window_until_ms) == (State.DEFERRED, MORNING, CLOSE)
    assert kind.spread_ms == 1_800_000
    kind = prepare(rules(spread_s=0), monkeypatch).kind
    assert (kind.state, kind.spread_ms) == (State.DEFERRED, 0)


def test_within_its_hours_it_only_learns_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = prepare(rules(), monkeypatch, now_ms=MORNING).kind
    assert (kind.state, kind.send_at_ms, kind.window_until_ms, kind.spread_ms) == (State.QUEUED, 0, CLOSE, 0)


@pytest.mark.parametrize("category", ["verification", "notification"])
def test_other_categories_leave_at_any_hour(monkeypatch: pytest.MonkeyPatch, category: str) -> None:
    kind = prepare(rules(), monkeypatch, category=category).kind
    assert (kind.state, kind.send_at_ms, kind.window_until_ms) == (State.QUEUED, 0, 0)


def test_a_schedule_and_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    at_ten = MORNING + 2 * HOUR_MS
    kind = prepare(rules(), monkeypatch, send_at_ms=at_ten).kind
    assert (kind.state, kind.send_at_ms, kind.window_until_ms) == (State.SCHEDULED, at_ten, CLOSE)
    kind = prepare(rules(), monkeypatch, send_at_ms=MORNING - HOUR_MS).kind
    assert (kind.state, kind.send_at_ms) == (State.DEFERRED, MORNING)
    kind = prepare(rules(), monkeypatch, send_at_ms=CLOSE).kind
    assert (kind.state, kind.send_at_ms) == (State.DEFERRED, MORNING + 24 * HOUR_MS)


def test_the_campaigns_window(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"category": "notification", "local_window": "10:00-12:00", "zone": "Asia/Tokyo"}
    kind = prepare(rules(), monkeypatch, **asked).kind
    nine = MORNING + HOUR_MS  # ten in Tokyo
    assert (kind.state, kind.send_at_ms, kind.window_until_ms) == (State.DEFERRED, nine, nine + 2 * HOUR_MS)
    with pytest.raises(RequestError) as refused:
        prepare(rules(), monkeypatch, **{**asked, "category": "verification"})
    assert (refused.value.code, refused.value.field) == ("invalid_field", "local_window")


def test_what_cannot_leave_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError) as refused:
        prepare(rules(), monkeypatch, not_after_ms=MORNING)
    assert (refused.value.code, refused.value.retry_at_ms) == ("outside_window", MORNING)
    assert prepare(rules(), monkeypatch, not_after_ms=MORNING + 60_000).kind.spread_ms == 30_000


def test_messages_of_one_window_are_one_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.intake.time.time_ns", lambda: EVENING * 1_000_000)
    fields = {"category": "marketing", "text": TEXT}
    items = [ValidMessage({"to": f"+86138{i:08d}", **fields}) for i in range(3)]
    items.append(ValidMessage({"to": "+8613800000009", **fields, "text": TEXT.replace("Acme", "Other")}))
    prepared = intake_of(rules()).prepare(SHOP, items, 0, None, list[ItemResult]([RequestError("none", "")] * 4))
    kinds = [message.kind for _, message, _, _ in prepared]
    assert kinds[0] is kinds[1] is kinds[2]
    assert [kind.signature for kind in kinds[2:]] == ["Acme", "Other"]


def test_caps_and_scopes_of_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = rules(per_number_all=((9, 60),), per_signature=((2, 60),), per_tag=(("t", ((1, 9),)),))
    kind = prepare(settings, monkeypatch, tags=["t", "u"]).kind
    assert kind.caps == "\x1eshop\x1f1,604800\x1e*\x1f9,60\x1eshop#s:Acme\x1f2,60\x1eshop#t:t\x1f1,9"
    assert kind.scopes == ("shop", "shop/106900001", "shop/Acme")
    assert prepare(settings, monkeypatch, test=True).kind.caps == ""
    own = replace(SHOP, per_number=((Category.MARKETING, ((3, 86_400),)),), when_capped="defer")
    kind = prepare(rules(), monkeypatch, account=own).kind
    assert (kind.caps, kind.defer_capped) == ("\x1eshop\x1f3,86400", True)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"text": "周末八折，拒收请回复R"}, "missing_signature"),
        ({"text": "【Acme】周末八折"}, "missing_optout_text"),
        ({"text": "【Acme】周末八折", "category": "notification"}, ""),
        ({"text": "sale", "to": "+447911123456"}, ""),
    ],
)
def test_what_chinese_marketing_needs(monkeypatch: pytest.MonkeyPatch, fields: dict[str, str], code: str) -> None:
    if code:
        with pytest.raises(RequestError) as refused:
            prepare(rules(), monkeypatch, **fields)
        assert (refused.value.code, refused.value.field) == (code, "text")
    else:
        assert prepare(rules(), monkeypatch, **fields)
    off = rules(require_signature=frozenset(), require_optout_text=())
    assert prepare(off, monkeypatch, **fields)


def test_consent(monkeypatch: pytest.MonkeyPatch) -> None:
    careful = replace(SHOP, consent_required=True)
    for consent in ({}, {"consent": False}):
        with pytest.raises(RequestError) as refused:
            prepare(rules(), monkeypatch, account=careful, **consent)
        assert (refused.value.code, refused.value.field) == ("consent_required", "consent")
    assert b'"y":true' in prepare(rules(), monkeypatch, account=careful, consent=True).body
    assert prepare(rules(), monkeypatch, account=careful, category="notification")


def test_contents(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    words = tmp_path / "content_words.csv"
    words.write_text(
        "id,word,action,categories,accounts\na-1,八折,refuse,marketing,all\nb,周末,review,all,all\n", "utf-8"
    )
    settings = replace(rules(), content_words_file=words)
    with pytest.raises(RequestError) as refused:
        prepare(settings, monkeypatch)
    assert refused.value.code == "content_rejected"
    assert "a-1" in refused.value.detail
    assert "八折" not in str(refused.value)
    assert prepare(settings, monkeypatch, category="notification")
    strict = replace(SHOP, link_domains=("acme.example",))
    assert prepare(rules(), monkeypatch, account=strict, text=f"{TEXT} acme.example/x")
    with pytest.raises(RequestError) as refused:
        prepare(rules(), monkeypatch, account=strict, text=f"{TEXT} evil.com")
    assert refused.value.code == "link_not_allowed"


def test_hits_of_content_words_are_counted(tmp_path: Path) -> None:
    words = tmp_path / "content_words.csv"
    words.write_text("id,word,action,categories,accounts\na-1,casino,refuse,all,all\nb,sale,review,all,all\n")
    settings = replace(api_settings(), content_words_file=words)
    metrics = Metrics("api", "0")
    intake = Intake(settings, build_router(settings), Nowhere(), AccountLimiter(Nowhere()), metrics)  # type: ignore[arg-type]
    items = [
        ValidMessage({"to": "+8613800000001", "category": "notification", "text": t}) for t in ("sale", "casino sale")
    ]
    results: list[ItemResult] = [RequestError("none", "")] * 2
    assert len(intake.prepare(SHOP, items, 0, None, results)) == 1
    assert metrics.counter("content_hits_total", rule="b", action="review").n == 1
    assert metrics.counter("content_hits_total", rule="a-1", action="refuse").n == 1


# --- on a real store


async def test_deferred_messages_are_on_record(valkey: ValkeyServer) -> None:
    """A window that is closed now and for hours yet, wherever the tests run."""
    opens = time.gmtime(time.time() + 4 * 3600).tm_hour
    window = f"{opens:02}:00-{(opens + 2) % 24:02}:00"
    settings = api_settings()
    store = await Store.open(settings, valkey.url)
    intake = intake_of(settings, store)
    asked = {"category": "notification", "text": "hello", "zone": "Etc/UTC", "local_window": window, "ref": "r"}
    item = ValidMessage({"to": "+8613800000001", **asked, "ttl_s": 600})
    (result,) = await intake.accept(SHOP, [item], None)
    assert isinstance(result, Taken)
    assert result.state == "deferred"
    record = await store.get(result.id)
    assert record is not None
    opening = datetime.fromtimestamp(record.send_at_ms / 1000, UTC)
    assert (opening.hour == opens, opening > datetime.now(UTC)) == (True, True)
    assert (record.state, record.carried) == (State.DEFERRED, {"z": "Etc/UTC", "w": window})
    assert record.window_until_ms - record.send_at_ms > HOUR_MS
    assert record.expires_at_ms == record.send_at_ms + 600_000 == result.expires_at_ms
    (again,) = await intake.accept(SHOP, [item], None)
    assert again == replace(result, replayed=True)
    other = {**item.given, "local_window": f"{opens:02}:00-{(opens + 3) % 24:02}:00"}
    (conflict,) = await intake.accept(SHOP, [ValidMessage(other)], None)
    assert isinstance(conflict, RequestError)
    assert conflict.code == "ref_conflict"
    await store.close()


async def test_capped_messages_are_refused_or_deferred(valkey: ValkeyServer) -> None:
    settings = api_settings()
    capped = dict(settings.categories)
    capped[Category.NOTIFICATION] = replace(
        capped[Category.NOTIFICATION], per_number=((1, 3600),), per_number_all=((3, 86_400),)
    )
    settings = replace(settings, categories=capped)
    patient = replace(SHOP, when_capped="defer")
    other = AccountSettings("other")
    store = await Store.open(settings, valkey.url)
    intake = intake_of(settings, store)

    async def send(account: AccountSettings, **fields: Any) -> ItemResult:
        item = ValidMessage({"to": "+8613800000001", "category": "notification", "text": "hello", **fields})
        return (await intake.accept(account, [item], None))[0]

    assert isinstance(await send(SHOP), Taken)
    refused = await send(SHOP)
    assert isinstance(refused, RequestError)
    assert refused.code == "frequency_capped"
    assert abs(refused.retry_at_ms / 1000 - time.time() - 3600) < 5
    deferred = await send(patient)
    assert isinstance(deferred, Taken)
    assert deferred.state == "deferred"
    record = await store.get(deferred.id)
    assert record is not None
    assert record.send_at_ms == refused.retry_at_ms
    too_short = await send(patient, ttl_s=60, not_after_ms=int(time.time() * 1000) + 60_000)
    assert isinstance(too_short, RequestError)
    assert too_short.code == "frequency_capped"
    # All accounts together: three have been taken, the fourth is nobody's.
    assert isinstance(await send(other), Taken)
    everybody = await send(AccountSettings("third"))
    assert isinstance(everybody, RequestError)
    assert everybody.code == "frequency_capped"
    await asyncio.gather(store.close())


async def test_a_repeat_after_the_window_has_closed_gets_the_first_answer(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken in time; asked for again when it could not be taken any more. What was never taken is refused."""
    settings = api_settings()
    store = await Store.open(settings, valkey.url)
    intake = intake_of(settings, store)
    now_ms = int(time.time() * 1000)
    hour = time.gmtime().tm_hour
    asked = {"category": "notification", "text": "hello", "zone": "Etc/UTC", "not_after_ms": now_ms + 3 * HOUR_MS}
    asked |= {"to": "+8613800000001", "local_window": f"{hour:02}:00-{(hour + 2) % 24:02}:00", "ref": "r"}
    (result,) = await intake.accept(SHOP, [ValidMessage(asked)], None)
    assert isinstance(result, Taken)
    monkeypatch.setattr("gateway.intake.time.time_ns", lambda: (now_ms + 9 * HOUR_MS // 4) * 1_000_000)
    (again,) = await intake.accept(SHOP, [ValidMessage(asked)], None)
    assert again == replace(result, replayed=True)
    for other, key in (({**asked, "ref": "s"}, None), ({**asked, "ref": ""}, "k"), ({**asked, "ref": ""}, None)):
        (refused,) = await intake.accept(SHOP, [ValidMessage(other)], key)
        assert isinstance(refused, RequestError)
        assert (refused.code, refused.field) == ("outside_window", "not_after")
        assert refused.retry_at_ms == (now_ms // HOUR_MS + 24) * HOUR_MS
    await store.close()


@pytest.mark.parametrize("change", [{"zone": "Asia/Tokyo"}, {"local_window": "10:00-12:00"}, {"consent": True}])
def test_the_new_fields_are_part_of_the_content(monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]) -> None:
    plain = prepare(api_settings(), monkeypatch, category="notification", ref="r")
    changed = prepare(api_settings(), monkeypatch, category="notification", ref="r", **change)
    assert plain.idem == changed.idem
    assert plain.digest != changed.digest
