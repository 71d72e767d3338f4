"""Sessions with a foreign SMSC: all kinds of bind, its refusal, TLS both ways, and the links kept alive."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.peer import Peer
from tests.support.certificates import Authority
from tests.support.gateway_process import AuditedGateway
from tests.support.until import until

pytestmark = pytest.mark.needs_peer

BOTH_WAYS = {"transceiver": {"transceiver": 1}, "transmitter_receiver": {"transmitter": 1, "receiver": 1}}


@pytest.mark.parametrize("bind", BOTH_WAYS)
async def test_a_post_becomes_one_submit_and_one_receipt(tmp_path: Path, bind: str) -> None:
    channel = f'bind = "{bind}"\nsystem_type = "VMA"'
    async with Peer(tmp_path) as peer, AuditedGateway(tmp_path, {"cm-a": peer.port}, channel=channel) as gateway:
        sent = [await gateway.send(gateway.message(text="Your code is 482913")) for _ in range(20)]
        assert {answer.status for answer in sent} == {202}
        assert await gateway.until_final() == {"delivered": 20}
        report = await gateway.audit([peer])
        assert (report.accepted, report.final, report.live, report.submits) == (20, 20, 0, 20)

        binds = {kind: len(peer.binds(bind=kind)) for kind in ("transmitter", "receiver", "transceiver")}
        assert {kind: n for kind, n in binds.items() if n} == BOTH_WAYS[bind]
        seen = {(row["system_id"], row["system_type"], row["interface_version"]) for row in peer.binds()}
        assert seen == {("esme", "VMA", 0x34)}
        sessions = {row["bind"]: row["session"] for row in peer.binds()}
        out, back = (sessions.get(kind, sessions.get("transceiver")) for kind in ("transmitter", "receiver"))
        assert {row["session"] for row in peer.ledger.submits()} == {out}
        assert {row["session"] for row in peer.ledger.all("receipt")} == {back}
        _, shown = await gateway.get(f"/v1/messages/{sent[0].id}")
        [submit] = [row for row in peer.ledger.submits() if "+" + row["to"] == shown["to"]]
        assert shown["attempts"][0]["smsc_ids"] == [submit["smsc_id"]]

        assert await gateway.terminate() == 0
        assert peer.commands("unbind") == len(binds := peer.binds())
        assert len(peer.ledger.all("close")) == len(binds)


async def test_a_wrong_password_is_refused_and_nothing_is_sent(tmp_path: Path) -> None:
    async with (
        Peer(tmp_path, password="other") as peer,
        AuditedGateway(tmp_path, {"cm-a": peer.port}, wait=False) as gateway,
    ):
        await until(lambda: peer.ledger.all("bind", status=0x0E), timeout_s=30)
        await until(lambda: _bind_results(gateway, "refused"))
        answer = await gateway.send(gateway.message())
        assert answer.status == 202
        assert await gateway.states() == {"queued": 1}
        assert not peer.ledger.submits()


async def test_over_verified_tls(tmp_path: Path) -> None:
    """Both sides show a certificate, and node's TLS and ours accept each other's."""
    authority = Authority(tmp_path / "ca")
    smsc = authority.issue("smsc", "IP:127.0.0.1")
    esme = authority.issue("esme", "DNS:esme.example")
    channel = f'tls = true\ntls_ca = "{authority.cert}"\ntls_cert = "{esme.cert}"\ntls_key = "{esme.key}"'
    async with (
        Peer(tmp_path, key=smsc.key, cert=smsc.cert, ca=authority.cert) as peer,
        AuditedGateway(tmp_path, {"cm-a": peer.port}, channel=channel) as gateway,
    ):
        async with gateway.traffic(every_s=0.01) as traffic:
            await until(lambda: traffic.accepted >= 100)
        states = await gateway.until_final()
        report = await gateway.audit([peer])
        assert states == {"delivered": report.accepted}
        assert report.submits == report.accepted >= 100
        assert [(row["tls"], row["certificate"]) for row in peer.ledger.all("connect")] == [(True, "esme")]


async def test_a_certificate_of_another_authority_gets_no_bind(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    smsc = theirs.issue("smsc", "IP:127.0.0.1")
    async with (
        Peer(tmp_path, key=smsc.key, cert=smsc.cert) as peer,
        AuditedGateway(
            tmp_path, {"cm-a": peer.port}, channel=f'tls = true\ntls_ca = "{ours.cert}"', wait=False
        ) as gateway,
    ):
        await until(lambda: _bind_results(gateway, "tls_failed"), timeout_s=30)
        answer = await gateway.send(gateway.message())
        assert answer.status == 202
        await until(lambda: peer.ledger.all("tls_error"))
        assert not peer.ledger.all("bind", "submit")
        assert await gateway.states() == {"queued": 1}


async def test_links_are_asked_after_from_both_sides(tmp_path: Path) -> None:
    async with (
        Peer(tmp_path) as peer,
        AuditedGateway(tmp_path, {"cm-a": peer.port}, channel="enquire_link_s = 0.2") as gateway,
    ):
        await until(lambda: peer.commands("enquire_link") >= 3)
        for _ in range(3):
            assert await peer.send("enquire_link") == 1
        await until(lambda: peer.replies("enquire_link")["enquire_link_resp", 0] == 3)
        await gateway.send(gateway.message())
        assert await gateway.until_final() == {"delivered": 1}
        assert len(peer.binds()) == 1
        assert not peer.ledger.all("close")


async def _bind_results(gateway: AuditedGateway, result: str) -> bool:
    return (await gateway.readyz())[0] != 0 and await gateway.metric("smsgw_binds_total", result=result) >= 1
