"""Planted secrets that must show nowhere: a number, a code, a key, a password, a webhook secret, in everything a whole
gateway says of messages that go well, badly and not at all; and after erasure in nothing that it keeps either.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis
from aiohttp import web

from gateway.apikey import new_key
from gateway.settings import Settings, load
from gateway.simulator.behaviour import Plan, ReceiptPlan
from gateway.simulator.smsc import Smsc
from gateway.smpp.codec import encode_deliver_sm
from gateway.smpp.pdu import DeliverSm
from tests.support.collector import Collector
from tests.support.gateway import ADMIN_TOKEN
from tests.support.gateway_process import CATEGORIES, AuditedGateway
from tests.support.scenario import carrier, receipt_pdu
from tests.support.snapshot import snapshot
from tests.support.until import until

NUMBER, LOCAL = "8613871946205", "13871946205"
CODE, WORD = "739164", "zanzibarcanary"
PASSWORD, WEBHOOK = "pwCnry77", "whsec_" + base64.b64encode(b"canary-of-webhooks-32-octets-xx!").decode()
COLLECTOR = "canary-of-the-collector"
TEXT = f"【Acme】{CODE} is your code {WORD}"
AD = f"【Acme】Sale for {WORD} {CODE} 拒收请回复R"
# In whatever form a text passes: as characters, as GSM octets (ASCII for these), as UCS-2.
TEXTS = [WORD, CODE, WORD.encode("utf-16-be"), CODE.encode("utf-16-be")]
NUMBERS = [LOCAL, LOCAL.encode("utf-16-be")]


def found(canaries: list[str | bytes], where: bytes | str) -> list[str | bytes]:
    """Return the canaries that sing in some octets; in JSON and hex they would too."""
    octets = where.encode() if isinstance(where, str) else where
    forms = {c: c.encode() if isinstance(c, str) else c for c in canaries}
    return [c for c, form in forms.items() if form in octets or form.hex().encode() in octets.lower()]


class Planted(AuditedGateway):
    """A gateway whose secrets are canaries, that logs and traces all it can."""

    def __init__(self, directory: Path, smsc: Smsc, webhook: str, collector: str) -> None:
        told = (
            '[log]\nmessages = "all"\nmessages_per_s = 0\n'
            f'[tracing]\nsample = 1.0\nendpoint = "{collector}"\nheaders = {{ X-Key = "${{env:CANARY_COLLECTOR}}" }}\n'
        )
        super().__init__(directory, {"cm-a": smsc.port}, categories=CATEGORIES + told)
        channels = self.config_dir / "channels.toml"
        channels.write_text(channels.read_text().replace("SMSC_PASSWORD", "CANARY_PASSWORD"))
        accounts = self.config_dir / "accounts.toml"
        accounts.write_text(
            accounts.read_text() + f'[account.webhook]\nurl = "{webhook}"\nsecret = "${{env:CANARY_WEBHOOK}}"\n'
            "allow_insecure = true\nallow_private = true\n"
            f"allow_ports = [{webhook.rpartition(':')[2].partition('/')[0]}]\n"
        )
        (self.config_dir / "templates.toml").write_text(
            '[[template]]\nid = "otp"\ncategory = "verification"\ntext = "Code {{ code }}"\n'
            '[template.params.code]\ntype = "code"\n'
        )
        self.said: list[str] = []
        self.wrong_key, _ = new_key()

    @property
    def secrets(self) -> list[str | bytes]:
        return [self.key, self.key[8:], self.wrong_key[8:], PASSWORD, WEBHOOK, WEBHOOK[6:], COLLECTOR, ADMIN_TOKEN]

    def settings(self) -> Settings:
        return load(self.config_dir, {**os.environ, "SMSGW_ADMIN_TOKEN": ADMIN_TOKEN})

    async def ask(
        self, method: str, path: str, body: Any = None, *, key: str = "", raw: bytes = b""
    ) -> tuple[int, str]:
        """Ask the API and keep what it said."""
        assert self.session is not None
        headers = {"Authorization": f"Bearer {key or self.key}", "Content-Type": "application/json"}
        url = f"http://127.0.0.1:{self.api_port}{path}"
        data = raw or (json.dumps(body).encode() if body is not None else None)
        async with self.session.request(method, url, data=data, headers=headers) as answer:
            said = await answer.text()
            self.said.append(said)
            return answer.status, said


@pytest.fixture
async def sink() -> AsyncIterator[tuple[str, list[bytes]]]:
    """An application's webhook that takes everything."""
    bodies: list[bytes] = []

    async def take(request: web.Request) -> web.Response:
        bodies.append(await request.read())
        return web.Response()

    app = web.Application()
    app.router.add_post("/hook", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}/hook", bodies
    await runner.cleanup()


async def test_canaries_are_heard_nowhere(
    tmp_path: Path, sink: tuple[str, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, bodies = sink
    for name, value in (("PASSWORD", PASSWORD), ("WEBHOOK", WEBHOOK), ("COLLECTOR", COLLECTOR)):
        monkeypatch.setenv(f"CANARY_{name}", value)
    monkeypatch.setenv("SMSGW_LOG_LEVEL", "debug")
    async with (
        carrier(system_id="esme", password=PASSWORD) as smsc,
        Collector() as collector,
        Planted(tmp_path, smsc, url, collector.url) as gateway,
    ):
        await send_all_kinds(gateway, smsc)
        await hear_all_kinds(gateway, smsc)
        await until(lambda: len(bodies) >= 3, timeout_s=20)

        # 1. What it says: logs, metrics, answers, webhooks.
        _, metrics = await gateway.admin("GET", "/metrics")
        everything = {"log": gateway.log(), "metrics": metrics, "answers": "\n".join(gateway.said)}
        webhooks = b"\n".join(bodies)
        for where, text in everything.items():
            assert len(text) > 1000, where
            assert found([*TEXTS, *gateway.secrets], text) == [], where
        assert found([*NUMBERS, *gateway.secrets, CODE.encode()], webhooks) == []
        assert found([*NUMBERS], everything["log"] + everything["metrics"]) == []
        assert "+86138****6205" in webhooks.decode()
        told = [line for line in gateway.events("") if line["source"] == "messages"]
        assert {line["event"] for line in told} >= {"accepted", "submitted", "delivered", "undeliverable", "failed"}
        await until(lambda: {span.name for span in collector.spans} >= {"accept", "claim", "submit", "receipt"})
        spans = b"\n".join(collector.raw)
        assert found([*TEXTS, *NUMBERS, *gateway.secrets], spans) == []

        # 2. What it keeps: after the final state no code of a verification, and nothing of a key anywhere.
        kept = repr(dump(gateway))
        assert found([*gateway.secrets], kept) == []
        assert "verification" not in kept or found([TEXT], kept) == []
        assert found(NUMBERS, kept) == [LOCAL]  # until it is erased

        files = [f for f in gateway.data_dir.rglob("*") if f.is_file()]
        assert any(found(NUMBERS, f.read_bytes()) for f in files), "or the search below would prove nothing"

        # 3. After erasure, and once the append-only file is rewritten, nothing.
        code, said = await smsgw(gateway, "erase", f"+{NUMBER}", "--cancel", "--also-blacklist", "--json")
        erased = json.loads(said)
        assert (code, erased["file"]) == (0, "rewriting"), said
        assert erased["erased"]["records"] >= 4
        assert erased["erased"]["inbound"] >= 1
        assert erased["erased"]["unreadable"] >= 1
        left = {key: value for key, value in dump(gateway).items() if found(NUMBERS + TEXTS, f"{key}{value!r}")}
        assert left == {}
        await until(lambda: rewritten(gateway), timeout_s=20)
        files = [f for f in gateway.data_dir.rglob("*") if f.is_file()]
        assert any("appendonly" in f.name for f in files)
        for file in files:
            assert found([*NUMBERS, *TEXTS, *gateway.secrets], file.read_bytes()) == [], file.name
        log = gateway.log()
        assert found([*NUMBERS, *TEXTS, *gateway.secrets], log + said) == []
        _, audit = await gateway.admin("GET", "/admin/v1/audit?limit=1000")
        assert "number.erase" in repr(audit)
        assert found([*NUMBERS, *TEXTS, *gateway.secrets], repr(audit)) == []


async def send_all_kinds(gateway: Planted, smsc: Smsc) -> None:
    """Messages that go well, that the carrier refuses or fails, and requests that are wrong in many ways."""
    failing = [
        Plan(receipts=(ReceiptPlan(0.0, "UNDELIV", "001"),)),
        Plan(receipts=(ReceiptPlan(0.0, "UNDELIV", "ZZ:7391"),)),
        Plan(receipts=(ReceiptPlan(0.0, garbage=True), ReceiptPlan(0.01, "REJECTD", "MK:0115"))),
        Plan(status=0x0B),
        Plan(status=0x45),
    ]
    verification = {"to": f"+{NUMBER}", "category": "verification", "text": TEXT}
    for body in (
        verification,
        {"to": LOCAL, "category": "marketing", "text": AD, "ref": f"r-{WORD[:4]}"},
        {"to": f"+{NUMBER}", "category": "verification", "template": "otp", "params": {"code": CODE}},
        {**verification, "send_at": "2027-01-01T00:00:00Z"},
    ):
        status, said = await gateway.ask("POST", "/v1/messages", body)
        assert status == 202, said
    message = json.loads(gateway.said[0])["id"]
    await gateway.until_final(but=("scheduled",))
    smsc.on_submit = lambda link, pdu: failing.pop(0) if failing else None
    for _ in range(5):
        status, said = await gateway.ask("POST", "/v1/messages", verification)
        assert status == 202, said
    await gateway.until_final(but=("scheduled", "submitted"))

    bad: list[dict[str, Any]] = [
        {**verification, "to": f"{NUMBER}99999"},
        {**verification, "to": TEXT},
        {**verification, "txet": TEXT},
        {**verification, f"{WORD} {CODE}": "x"},
        {**verification, "text": TEXT * 100},
        {**verification, "text": f"{TEXT}\x00"},
        {**verification, "sender": WORD},
        {**verification, "category": WORD},
        {**verification, "ttl_s": TEXT},
        {**verification, "template": "otp"},
        {**verification, "gate": TEXT},
        {"to": f"+{NUMBER}", "category": "verification", "template": "otp", "params": {"code": TEXT}},
        {"to": f"+{NUMBER}", "category": "verification", "template": "otp", "params": {"code": CODE, TEXT: TEXT}},
        {"to": LOCAL, "category": "marketing", "text": AD + CODE, "ref": f"r-{WORD[:4]}"},  # another text
    ]
    for body in bad:
        status, said = await gateway.ask("POST", "/v1/messages", body)
        assert 400 <= status < 500, (status, list(body))
    await gateway.ask("POST", "/v1/messages/batch", {"messages": bad})
    for raw in (f'{{"text": "{TEXT}", '.encode(), TEXT.encode(), b'{"a": "' + TEXT.encode("utf-16-be"), b"[" * 2000):
        assert (await gateway.ask("POST", "/v1/messages", raw=raw))[0] == 400
    assert (await gateway.ask("POST", "/v1/messages", verification, key=gateway.wrong_key))[0] == 401
    assert (await gateway.ask("GET", f"/v1/messages?to=%2B{NUMBER}&key={gateway.key}"))[0] == 400
    assert (await gateway.ask("GET", f"/v1/{WORD}/{CODE}"))[0] == 404
    assert (await gateway.ask("GET", f"/v1/messages/{message}"))[0] == 200
    told = {"outcome": "converted", "event_id": "e", "amount": TEXT}
    assert (await gateway.ask("POST", f"/v1/messages/{message}/feedback", told))[0] == 422
    explain = f"/admin/v1/explain?to=%2B{NUMBER}&category=verification&account=shop&text={TEXT}"
    status, explained = await gateway.admin("GET", explain)
    assert status == 200
    assert found([*TEXTS, *gateway.secrets], repr(explained)) == []
    for path, body in (
        ("/admin/v1/erase", {"number": TEXT}),
        ("/admin/v1/erase", {"number": f"+{NUMBER}"}),  # not all is final
        ("/admin/v1/erase", {"number": f"+{NUMBER}", TEXT: 1}),
        ("/admin/v1/templates/otp/preview", {"params": {"code": TEXT}}),
        ("/admin/v1/ported/forget", {"number": TEXT}),
    ):
        status, refused = await gateway.admin("POST", path, body)
        assert 400 <= status < 500
        assert found([*TEXTS, *NUMBERS], repr(refused)) == []


async def hear_all_kinds(gateway: Planted, smsc: Smsc) -> None:
    """Replies, receipts that nobody knows, PDUs that nobody can read."""
    mo = DeliverSm(source_addr=NUMBER.encode(), destination_addr=b"106900001", source_addr_ton=1, source_addr_npi=1)
    numbers = iter(range(1, 100))

    def send(**fields: Any) -> None:
        pdu = DeliverSm(**{**{name: getattr(mo, name) for name in ("source_addr", "destination_addr")}, **fields})
        smsc.send_raw(encode_deliver_sm(pdu, 0x20000 + next(numbers)))

    send(short_message=f"{WORD} {CODE}".encode())
    send(short_message=f"{WORD} {CODE}".encode("utf-16-be"), data_coding=8)
    send(short_message=b"\xff\xfe" + WORD.encode(), data_coding=8)
    send(short_message=f"id: sub:{CODE} text:{TEXT}".encode(), esm_class=4)
    send(short_message=WORD.encode(), esm_class=0x40)  # no header where one is announced
    smsc.send_raw(receipt_pdu("no-such-id", NUMBER, 50, "UNDELIV"))
    octets = encode_deliver_sm(DeliverSm(source_addr=NUMBER.encode(), short_message=TEXT.encode()), 0x20090)
    smsc.send_raw((len(octets) - 5).to_bytes(4, "big") + octets[4:-5])  # its text is shorter than it says

    def kept_unreadable() -> bool:
        rows = [row for name, rows in dump(gateway).items() if name.endswith(":dead") for row in rows]
        return any(NUMBER.encode() in base64.b64decode(json.loads(row)["octets"]) for row in rows)

    await until(kept_unreadable)

    async def heard() -> bool:
        return await gateway.metric("smsgw_inbound_total") >= 2 or "inbound" in gateway.log()

    await until(heard)


def dump(gateway: Planted) -> dict[str, Any]:
    with redis.Redis.from_url(gateway.store_url()) as client:
        return snapshot(client)


def rewritten(gateway: Planted) -> bool:
    with redis.Redis.from_url(gateway.store_url()) as client:
        info: Any = client.info("persistence")
    return not info["aof_rewrite_in_progress"] and not info["aof_rewrite_scheduled"]


async def smsgw(gateway: Planted, *args: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *args, "--config", str(gateway.config_dir),
        stdout=asyncio.subprocess.PIPE, env={**os.environ, "SMSGW_ADMIN_TOKEN": ADMIN_TOKEN},
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()
