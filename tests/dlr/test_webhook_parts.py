"""The pure parts of webhooks: signatures, schedule and circuit, where calls may lead, what events say."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.dlr import events, webhook_guard
from gateway.dlr.webhook_client import RESULTS, WebhookClient
from gateway.dlr.webhook_guard import denied
from gateway.dlr.webhook_schedule import (
    DELAYS_S,
    GIVE_UP_S,
    OPEN_AFTER,
    RETRY_AFTER_MOST_S,
    Circuit,
    next_delay_s,
    retry_after_s,
)
from gateway.dlr.webhook_sign import Signer
from gateway.model import Category, message_id
from gateway.settings import WebhookSettings
from gateway.settings.values import EVENT_LETTERS
from gateway.settings.webhook_form import is_literal, secret_key, url_problem
from gateway.store import records
from gateway.store.record_log import attempt_log
from gateway.store.store import Store
from tests.store.test_repeat import settle, settlement
from tests.support.certificates import Authority
from tests.support.messages import accept, apply, claim, ids_of, message, receipt_row
from tests.support.outbox import SECRET, hook, in_state, raw_record, stored
from tests.support.sink import Sink


class TestSignature:
    def test_the_published_vector(self) -> None:
        signed = Signer(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]).headers(
            "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
        )
        assert signed == {
            "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "webhook-timestamp": "1614265330",
            "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        }

    def test_two_secrets_sign_both(self) -> None:
        keys = [bytes(24), bytes(range(64))]
        header = Signer(["whsec_" + base64.b64encode(k).decode() for k in keys]).headers("i", 1, b"{}")
        found = header["webhook-signature"].split(" ")
        wanted = [base64.b64encode(hmac.new(k, b"i.1.{}", hashlib.sha256).digest()).decode() for k in keys]
        assert found == [f"v1,{one}" for one in wanted]

    @pytest.mark.parametrize("n", [0, 23, 65])
    def test_keys_have_24_to_64_bytes(self, n: int) -> None:
        with pytest.raises(ValueError, match="24 to 64"):
            secret_key("whsec_" + base64.b64encode(bytes(n)).decode())

    @pytest.mark.parametrize("text", ["", "hunter2hunter2", "whsec_not base64!", "WHSEC_" + "A" * 32])
    def test_other_forms_are_refused_and_not_repeated(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"want|base64") as refused:
            secret_key(text)
        assert not text or text not in str(refused.value)

    def test_the_receiver_of_the_documentation_knows_them(self) -> None:
        """The Python of docs/webhooks.md, run as it stands there."""
        page = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text(encoding="utf-8")
        (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
        seen: list[str] = []
        application: dict[str, Any] = {}
        exec(example.replace("whsec_…", SECRET), application)
        application["remember_once"] = lambda name, event: seen.append(name)
        handle, signer, now = application["handle"], Signer([SECRET]), int(time.time())
        one = events.Event("a.delivered", "message.delivered", 0, {"x": 1})
        assert handle(signer.headers(one.id, now, one.body()), one.body()) == 204
        name, body = events.batch([one, events.Event("b.failed", "message.failed", 0, {})], 0)
        assert handle(signer.headers(name, now, body), body) == 204
        assert seen == ["a.delivered", "a.delivered", "b.failed"]
        assert handle(signer.headers(one.id, now - 301, one.body()), one.body()) == 401
        assert handle(signer.headers(one.id, now, one.body()), body) == 401
        assert handle(signer.headers("c.delivered", now, one.body()) | {"webhook-id": one.id}, one.body()) == 401


class TestSchedule:
    def test_pauses_of_the_specification_until_three_days(self) -> None:
        age_s, pauses, attempts = 0.0, [], 1
        while (pause_s := next_delay_s(attempts, age_s, 0.5)) is not None:
            pauses.append(pause_s)
            age_s += pause_s
            attempts += 1
        assert [round(p / 1.05) for p in pauses[:6]] == list(DELAYS_S)
        assert all(36_000 <= p <= 50_400 for p in pauses[6:])
        assert GIVE_UP_S - 50_400 < age_s <= GIVE_UP_S

    def test_chance_spreads_each_pause(self) -> None:
        assert next_delay_s(1, 0, 0.0) == 5
        assert next_delay_s(1, 0, 0.999) == pytest.approx(5.5, abs=0.01)
        assert next_delay_s(9, 0, 0.0) == 36_000

    @pytest.mark.parametrize(
        ("header", "pause_s"),
        [
            ("7", 7),
            (" 0 ", 0),
            ("99999", RETRY_AFTER_MOST_S),
            ("9" * 400, RETRY_AFTER_MOST_S),
            ("Thu, 01 Jan 1970 00:20:00 GMT", 200),
            ("Thu, 01 Jan 1970 00:00:01 GMT", 0),
            ("Fri, 01 Jan 2100 00:00:00 GMT", RETRY_AFTER_MOST_S),
            ("", None),
            ("soon", None),
            ("-5", None),
            ("１２", None),
            ("1.5", None),
        ],
    )
    def test_retry_after(self, header: str, pause_s: float | None) -> None:
        assert retry_after_s(header, 1000.0) == pause_s

    def test_the_circuit_opens_tries_one_and_closes(self) -> None:
        circuit = Circuit(8)
        for _ in range(OPEN_AFTER - 1):
            circuit.failed(0.0, 0.0)
        assert circuit.room(0.0) == 8
        circuit.failed(0.0, 0.0)
        assert (circuit.room(0.1), circuit.label(0.1)) == (0, "open")
        circuit.succeeded(0.2)  # sent before it opened
        assert circuit.room(0.3) == 0
        assert (circuit.room(5.0), circuit.label(5.0)) == (1, "half-open")
        circuit.failed(5.0, 0.0)
        assert circuit.room(14.9) == 0
        assert circuit.room(15.0) == 1
        circuit.succeeded(15.0)
        assert circuit.room(15.0) == 8

    def test_pauses_of_the_circuit_are_bounded(self) -> None:
        circuit, now = Circuit(1), 0.0
        for _ in range(60):
            circuit.failed(now, 0.999)
            now = max(now, circuit.until)
        before = now
        circuit.failed(now, 0.999)
        assert circuit.until - before <= 360


DENIED = [
    "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.255.0.9", "169.254.169.254", "172.16.0.1", "172.31.255.255",
    "192.0.0.8", "192.168.1.1", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "168.63.129.16",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1", "64:ff9b:1::1", "2001::1",
    "2002:7f00:1::", "fc00::1", "fd12::1", "fe80::1", "fe80::1%eth0", "ff02::1", "", "localhost", "127.1", "2130706433",
    "fec0::1", "::ffff:0:7f00:1", "64:ff9b:2::7f00:1", "100:0:0:1::1", "5f00::1", "3fff::1", "fe00::1", "192.88.99.1",
]  # fmt: skip
LITERALS = [
    "2130706433", "127.1", "0x7f000001", "0177.0.0.1", "[::ffff:127.0.0.1]", "::1", "127.0.0.1", "127.0.0.1.", "0x7f.1",
    "1.2.3.4", "0X7F.0.0.1", "017700000001", "999.1", "a.0x1", "[fe80::1%25eth0]", "8.8.8.8",
]  # fmt: skip


class TestWhereCallsMayLead:
    @pytest.mark.parametrize("address", DENIED)
    def test_denied(self, address: str) -> None:
        assert denied(address)

    @pytest.mark.parametrize("address", ["8.8.8.8", "203.119.1.1", "2606:4700::1111", "93.184.216.34"])
    def test_public_addresses_are_not(self, address: str) -> None:
        assert not denied(address)

    def test_ones_own_networks_are_opened_and_no_others(self) -> None:
        for address in ("127.0.0.1", "10.0.0.1", "192.168.0.1", "172.20.0.1", "::1", "fd00::1"):
            assert not denied(address, allow_private=True)
        for address in ("169.254.169.254", "168.63.129.16", "0.0.0.0", "fe80::1", "::ffff:127.0.0.1", "224.0.0.1"):
            assert denied(address, allow_private=True)

    @pytest.mark.parametrize("host", LITERALS)
    def test_addresses_in_any_spelling_are_no_hosts(self, host: str) -> None:
        assert is_literal(host)
        assert url_problem(f"https://{host}/x")

    @pytest.mark.parametrize("host", ["shop.example", "a.1b.example", "0x7f.example", "1.2.3.4.example", "x-1.cn"])
    def test_names_are(self, host: str) -> None:
        assert not is_literal(host)
        assert url_problem(f"https://{host}/x") == ""

    @pytest.mark.parametrize(
        ("url", "word"),
        [
            ("http://shop.example/", "allow_insecure"),
            ("ftp://shop.example/", "https"),
            ("https:///x", "host"),
            ("https://user:pw@shop.example/", "password"),
            ("https://shop.example:22/", "port 22"),
            ("https://shop.example:99999/", "not a URL"),
            ("https://shop.example/#x", "fragment"),
            ("https://shöp.example/", "ASCII"),
            ("https://１２７.0.0.1/", "ASCII"),
            ("https://localhost/", "localhost"),
            ("https://a.localhost./", "localhost"),
            ("https://shop example/", "ASCII"),
            ("https://sh_op!.example/", "host name"),
        ],
    )
    def test_other_urls_are_refused(self, url: str, word: str) -> None:
        assert word in url_problem(url)

    def test_what_must_be_said_to_be_allowed(self) -> None:
        assert url_problem("https://shop.example:8443/") == ""
        assert url_problem("https://shop.example:9000/", allow_ports=frozenset({9000})) == ""
        assert url_problem("http://shop.example/", allow_insecure=True) == ""
        assert url_problem("https://127.0.0.1/", allow_private=True) == ""
        assert url_problem("https://127.1/", allow_private=True)


class Names:
    """A DNS of a test: what it answers changes from question to question."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


async def call(webhook: WebhookSettings, lookup: Any) -> str:
    client = WebhookClient(webhook, lookup)
    try:
        answer = await client.call({"webhook-id": "x"}, b"{}")
        assert answer.result in RESULTS
        return answer.result
    finally:
        await client.close()


class TestGuard:
    """F77: no connection to a denied address, seen by a listener."""

    @pytest.mark.parametrize(
        "host", ["127.0.0.1", "[::ffff:127.0.0.1]", "127.1", "2130706433", "0x7f000001", "0177.0.0.1"]
    )
    async def test_literals_reach_nothing(self, host: str) -> None:
        async with Sink() as sink:
            found = await call(hook(f"http://{host}:{sink.port}/", allow_private=False), webhook_guard.SystemLookup())
            assert found != "delivered"
            assert not sink.calls

    @pytest.mark.parametrize("answers", [["127.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["169.254.169.254"], ["::1"]])
    async def test_one_bad_answer_denies_the_name(self, answers: list[str]) -> None:
        async with Sink() as sink:
            names = Names(answers)
            assert await call(hook(f"http://shop.example:{sink.port}/", allow_private=False), names) == "denied"
            assert not sink.calls

    async def test_a_name_that_turns_is_judged_each_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """First a public address (nobody answers there), then this machine."""
        monkeypatch.setattr(webhook_guard, "NAME_KEPT_S", -1.0)
        async with Sink() as sink:
            names = Names(["192.0.2.1"], ["127.0.0.1"])
            webhook = hook(f"http://shop.example:{sink.port}/", allow_private=False, timeout_s=0.3)
            client = WebhookClient(webhook, names)
            try:
                results = [(await client.call({"webhook-id": "x"}, b"{}")).result for _ in range(3)]
            finally:
                await client.close()
            assert names.asked >= 2
            assert results[1:] == ["denied", "denied"]
            assert not sink.calls

    async def test_the_socket_and_the_peer_are_judged_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A resolver that let something pass: the socket's address is looked at, and the peer of the connection."""
        async with Sink() as sink:
            webhook = hook(f"http://shop.example:{sink.port}/", allow_private=False)
            resolved = [{"hostname": "shop.example", "host": "127.0.0.1", "port": sink.port, "family": socket.AF_INET,
                         "proto": 6, "flags": 0}]  # fmt: skip

            async def pass_all(*args: Any, **options: Any) -> list[dict[str, Any]]:
                return resolved

            monkeypatch.setattr(webhook_guard._Resolver, "resolve", pass_all)
            assert await call(webhook, Names(["127.0.0.1"])) == "denied"
            monkeypatch.setattr(
                webhook_guard.GuardedConnector, "_socket", lambda self, info: socket.socket(info[0], info[1], info[2])
            )
            assert await call(webhook, Names(["127.0.0.1"])) == "denied"
            assert not sink.calls

    async def test_nobody_waits_for_a_look_up_that_hangs(self) -> None:
        async def hang(host: str, port: int) -> list[str]:
            await asyncio.Event().wait()
            return []

        assert await call(hook("http://shop.example/", timeout_s=0.2), hang) == "timeout"

    async def test_a_name_that_does_not_exist(self) -> None:
        async def unknown(host: str, port: int) -> list[str]:
            raise socket.gaierror(-2, "Name or service not known")

        assert await call(hook("http://shop.example/"), unknown) == "dns"

    async def test_proxies_of_the_environment_are_not_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with Sink() as sink, Sink() as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
            monkeypatch.setenv("http_proxy", proxy.url)
            assert await call(hook(sink.url), webhook_guard.SystemLookup()) == "delivered"
            assert len(sink.calls) == 1
            assert not proxy.calls


class TestTls:
    """F78: a certificate that does not hold is a failed delivery, and the class says why."""

    async def test_only_a_certificate_that_holds_is_called(self, tmp_path: Path) -> None:
        ours, foreign = Authority(tmp_path / "ours"), Authority(tmp_path / "foreign", "Somebody")
        names = Names(["127.0.0.1"])
        cases = [
            (ours.issue("good", "DNS:shop.example"), "delivered"),
            (ours.issue("expired", "DNS:shop.example", days=-1), "tls"),
            (ours.issue("other", "DNS:other.example"), "tls"),
            (foreign.issue("foreign", "DNS:shop.example"), "tls"),
        ]
        for pair, wanted in cases:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pair.cert, pair.key)
            async with Sink(tls=context) as sink:
                webhook = hook(f"https://shop.example:{sink.port}/", tls_ca=ours.cert)
                assert await call(webhook, names) == wanted, pair.cert
                assert len(sink.calls) == (wanted == "delivered")
                shouted = hook(f"HTTPS://shop.example:{sink.port}/", tls_ca=ours.cert)
                assert await call(shouted, names) == wanted
                assert (
                    await call(hook(f"https://shop.example:{sink.port}/"), names) == "tls"
                )  # the system's authorities


class TestEvents:
    async def test_a_delivered_message(self, store: Store) -> None:
        carried = orjson.dumps({"c": "p1", "m": "x=1", "o": {"run": "7"}})
        body = records.pack_body("gsm7", records.pack_content("secret text", "ref-1", carried))
        m = message(store, tags=("login",), campaign="spring", body=body)
        await accept(store, m)
        raw = in_state(await raw_record(store, m.id), "D")
        event = events.read(events.entry("f", 1_700_000_000_123, m.id, raw))
        assert (event.id, event.type) == (f"{message_id(m.id)}.delivered", "message.delivered")
        told = orjson.loads(event.body())
        assert told["timestamp"] == "2023-11-14T22:13:20.123Z"
        data = told["data"]
        assert data["id"] == message_id(m.id)
        assert data["ref"] == "ref-1"
        assert data["tags"] == ["login"]
        assert (data["contact"], data["meta"], data["origin"]) == ("p1", "x=1", {"run": "7"})
        assert data["reason"] is None
        assert m.msisdn not in event.body().decode()
        assert b"secret text" not in event.body()
        full = events.read(events.entry("f", 1, m.id, raw), full_number=True, include_text=True)
        assert full.data["to"] == f"+{m.msisdn}"
        assert full.data["text"] == "secret text"
        assert full.id == event.id

    async def test_ids_and_types_by_kind_and_state(self, store: Store) -> None:
        (sid,) = await stored(store)
        raw = await raw_record(store, sid)
        mid = message_id(sid)
        for kind, state, suffix, name in (
            ("f", "D", "delivered", "message.delivered"),
            ("f", "U", "failed", "message.failed"),
            ("f", "K", "failed", "message.failed"),
            ("c", "D", "corrected", "message.corrected"),
            ("s", "s", "submitted.0", "message.submitted"),
        ):
            event = events.read(events.entry(kind, 1, sid, in_state(raw, state)))
            assert (event.id, event.type) == (f"{mid}.{suffix}", name)

    def test_inbound_and_opted_out_keep_their_ids_and_hide_numbers(self) -> None:
        told = {"id": "0193", "from": "8613812345678", "to": "1069", "text": "TD", "account": "shop"}
        event = events.read(b"i" + bytes(6) + orjson.dumps(told))
        assert (event.id, event.type) == ("0193.inbound", "message.inbound")
        assert event.data["from"] == "+86138****5678"
        assert "text" not in event.data
        full = events.read(b"i" + bytes(6) + orjson.dumps(told), full_number=True, include_text=True)
        assert full.data == told
        gone = events.read(b"o" + bytes(6) + orjson.dumps({"id": "0193", "number": "8613812345678"}))
        assert (gone.id, gone.type) == ("0193.opted_out", "recipient.opted_out")
        assert gone.data["number"] == "+86138****5678"

    @pytest.mark.parametrize(
        "junk",
        [
            b"f",
            b"x" * 60,
            b"i" + bytes(6),
            b"i" + bytes(6) + b"[]",
            b"o" + bytes(6) + b"{}",
            b"i" + b"\xff" * 6 + b'{"id": "1"}',  # a time that no calendar has
        ],
    )
    def test_what_is_no_event(self, junk: bytes) -> None:
        with pytest.raises(events.Unreadable):
            events.read(junk)

    async def test_a_replay_tells_the_same_with_the_same_ids(self, store: Store) -> None:
        await accept(store, message(store), message(store))
        claimed = await claim(store)
        log = attempt_log(1, "ch", 0, "sent", [(0, "x1")])
        await settle(store, *(settlement(c, log=log) for c in claimed), ids=[i for c in claimed for i in ids_of(c)])
        assert await apply(store, receipt_row(claimed[0]), receipt_row(claimed[1], "U")) == "ff"
        found = []
        for c in claimed:
            raw = await raw_record(store, c.id)
            types = frozenset(events.TYPES)
            for one in events.entries_of(c.id, raw, 0, 1 << 47, types):
                assert b"hello" not in one
                found.append(events.read(one))
        a, b = (message_id(c.id) for c in claimed)
        assert [e.id for e in found] == [f"{a}.submitted.1", f"{a}.delivered", f"{b}.submitted.1", f"{b}.failed"]
        assert [e.data["state"] for e in found] == ["submitted", "delivered", "submitted", "undeliverable"]
        assert (found[0].data["channel"], found[0].data["smsc_ids"]) == ("ch", ["x1"])
        assert found[3].data["reason"]["code"] == "why"
        raw = await raw_record(store, claimed[0].id)
        assert list(events.entries_of(claimed[0].id, raw, 0, 1, types)) == []
        for kept in Category:  # these are notifications
            (_, said) = events.entries_of(claimed[0].id, raw, 0, 1 << 47, types, keep_text={kept})
            assert (b"hello" in said) == (kept is Category.NOTIFICATION)

    def test_a_batch_names_its_events(self) -> None:
        one, two = (events.Event(f"{i}.delivered", "message.delivered", 0, {}) for i in "ab")
        name, body = events.batch([one, two], 0)
        assert name == events.batch([one, two], 99)[0]
        assert name != events.batch([two, one], 0)[0]
        assert [e["id"] for e in orjson.loads(body)["events"]] == ["a.delivered", "b.delivered"]

    def test_the_types_are_those_of_the_settings(self) -> None:
        assert set(EVENT_LETTERS) == {
            events.SUBMITTED, events.DELIVERED, events.FAILED, events.CORRECTED, events.INBOUND, events.OPTED_OUT
        }  # fmt: skip
        assert WebhookSettings("https://a.example/", ()).letters == "fcio"
        assert hook("http://a/", include_text=True, events=frozenset(EVENT_LETTERS)).letters == "sfcioT"
        assert SECRET not in repr(hook("http://a/secret-path"))
        assert "secret-path" not in repr(hook("http://a/secret-path"))
