"""The check of a webhook call against the gateway's own signer, and every event as the gateway writes it."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from gateway.client import (
    BadSignature,
    Event,
    InboundMessage,
    MessageCorrected,
    MessageDelivered,
    MessageFailed,
    MessageSubmitted,
    OptedOut,
    WebhookTest,
    verify,
)
from gateway.dlr import events
from gateway.dlr.webhook_sign import Signer

OLD, NEW, OTHER = ("whsec_" + base64.b64encode(bytes([i]) * 32).decode() for i in range(3))
NOW = 1_764_756_000
MESSAGE = {
    "id": "01a2020d-4f6e-7001-9c0b-5f2f7c1d8e90", "ref": "login-1", "state": "delivered", "final": True,
    "reason": None, "to": "+86138****5678", "category": "verification", "sender": "106900001", "tags": ["login"],
    "route": "cn", "carrier": "china-mobile", "channel": "cm-a", "smsc_ids": ["a1", "a2"], "parts": 2,
    "parts_delivered": 2, "possible_duplicate": False, "accepted_at": "2025-12-03T10:00:00.123Z",
    "submitted_at": "2025-12-03T10:00:00.200Z", "state_at": "2025-12-03T10:00:01.000Z",
    "expires_at": "2025-12-03T10:05:00.000Z",
}  # fmt: skip


def event(kind: str, data: dict[str, Any], name: str = "e-1") -> events.Event:
    return events.Event(name, kind, NOW * 1000, data)


def signed(body: bytes, *, secrets: list[str] | None = None, name: str = "e-1", at: int = NOW) -> dict[str, str]:
    return Signer(secrets or [NEW]).headers(name, at, body)


def received(kind: str, data: dict[str, Any]) -> Event:
    body = event(kind, data).body()
    (found,) = verify(signed(body), body, [NEW], now_s=NOW)
    assert (found.id, found.type, found.at) == ("e-1", kind, datetime.fromtimestamp(NOW, UTC))
    return found


@pytest.mark.parametrize(("signer", "known"), [([NEW], [NEW]), ([NEW, OLD], [OLD]), ([OLD], [NEW, OLD])])
def test_a_signature_holds_while_secrets_rotate(signer: list[str], known: list[str]) -> None:
    body = event(events.DELIVERED, MESSAGE).body()
    assert len(verify(signed(body, secrets=signer), body, known, now_s=NOW)) == 1


def test_headers_are_found_in_any_case_and_the_clock_is_this_machine_s() -> None:
    body = event(events.DELIVERED, MESSAGE).body()
    headers = signed(body, at=int(time.time()))
    assert verify({name.title(): value for name, value in headers.items()}, body, [NEW])


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "e-2"}, {"webhook-timestamp": str(NOW + 1)}, {"webhook-timestamp": "soon"},
        {"webhook-timestamp": ""}, {"webhook-timestamp": "9" * 400}, {"webhook-id": ""}, {"webhook-signature": ""},
        {"webhook-signature": "v1,"}, {"webhook-signature": "v1,é\udc80"}, {"webhook-signature": "v1"},
    ],
)  # fmt: skip
def test_what_was_changed_on_the_way_is_refused(change: dict[str, str]) -> None:
    body = event(events.DELIVERED, MESSAGE).body()
    with pytest.raises(BadSignature):
        verify(signed(body) | change, body, [NEW], now_s=NOW)


def test_another_body_secret_or_version_is_refused() -> None:
    body = event(events.DELIVERED, MESSAGE).body()
    headers = signed(body)
    for given, content, known in (
        (headers, body + b" ", [NEW]),
        (headers, body, [OTHER]),
        (headers, body, []),
        (headers | {"webhook-signature": headers["webhook-signature"].replace("v1,", "v2,")}, body, [NEW]),
        ({}, body, [NEW]),
    ):
        with pytest.raises(BadSignature):
            verify(given, content, known, now_s=NOW)


def test_old_and_future_calls_are_refused_beyond_the_tolerance() -> None:
    body = event(events.DELIVERED, MESSAGE).body()
    headers = signed(body)
    for away in (-300, 300):
        assert verify(headers, body, [NEW], 300, now_s=NOW + away)
    for away in (-301, 301):
        with pytest.raises(BadSignature):
            verify(headers, body, [NEW], 300, now_s=NOW + away)


def test_a_body_that_is_not_signed_is_not_read() -> None:
    headers = signed(b"{}")
    with pytest.raises(BadSignature, match="fits"):
        verify(headers, b"\xff" * 100, [NEW], now_s=NOW)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_AAAA", "whsec_!", NEW + "!"])
def test_a_secret_that_is_none_is_the_program_s_fault(secret: str) -> None:
    body = event(events.DELIVERED, MESSAGE).body()
    with pytest.raises(ValueError, match="whsec_"):
        verify(signed(body), body, [secret], now_s=NOW)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        (events.SUBMITTED, MessageSubmitted), (events.DELIVERED, MessageDelivered),
        (events.FAILED, MessageFailed), (events.CORRECTED, MessageCorrected),
    ],
)  # fmt: skip
def test_events_about_messages(kind: str, wanted: type) -> None:
    reason = {"code": "absent", "permanent": False, "carrier_code": "001"} if kind == events.FAILED else None
    found = received(kind, {**MESSAGE, "attempt": 2, "reason": reason, "text": "hello"})
    assert type(found) is wanted
    assert found.message.ref == "login-1"
    assert found.message.parts == 2
    assert (found.message.reason.carrier_code if reason else found.message.reason) == ("001" if reason else None)
    assert found.smsc_ids == ("a1", "a2")
    assert (found.channel, found.text) == ("cm-a", "hello")
    assert found.submitted_at == datetime(2025, 12, 3, 10, 0, 0, 200_000, tzinfo=UTC)
    if isinstance(found, MessageSubmitted):
        assert found.attempt == 2


def test_events_of_handsets() -> None:
    told = {
        "id": "i", "from": "+86138****5678", "to": "106900001", "text": "退订", "received_at": "2025-12-03T10:00:00Z",
        "in_reply_to": "m", "channel": "cm-a", "signature": "Acme", "keyword": "", "opt": "stop",
    }  # fmt: skip
    inbound = received(events.INBOUND, told)
    assert isinstance(inbound, InboundMessage)
    assert (inbound.sender, inbound.text, inbound.opt, inbound.in_reply_to) == ("+86138****5678", "退订", "stop", "m")
    opted = received(
        events.OPTED_OUT,
        {"id": "i", "number": "+86138****5678", "scope": "shop", "reason": "td", "word": "退订", "in_reply_to": None,
         "campaign": "spring", "at": "2025-12-03T10:00:00Z"},
    )  # fmt: skip
    assert isinstance(opted, OptedOut)
    assert (opted.scope, opted.campaign, opted.in_reply_to) == ("shop", "spring", None)
    assert opted.opted_at == datetime(2025, 12, 3, 10, tzinfo=UTC)


def test_a_batch_is_its_events_in_order_each_with_its_own_id() -> None:
    several = [event(events.DELIVERED, MESSAGE, f"e-{i}") for i in range(5)] + [event(events.INBOUND, {}, "e-5")]
    name, body = events.batch(several, NOW * 1000)
    found = verify(signed(body, name=name), body, [NEW], now_s=NOW)
    assert [one.id for one in found] == [f"e-{i}" for i in range(6)]
    assert [type(one) for one in found] == [MessageDelivered] * 5 + [InboundMessage]


def test_tests_and_types_of_tomorrow_are_events_too() -> None:
    assert type(received("webhook.test", {})) is WebhookTest
    later = received("message.read", {"id": "x"})
    assert type(later) is Event
    assert later.data == {"id": "x"}
    body = orjson.dumps({"type": 7, "data": []})
    (odd,) = verify(signed(body), body, [NEW], now_s=NOW)
    assert (type(odd), odd.data) == (Event, {})
