"""Counters do not fall when workers are killed, labels stay few, and nothing about people is in metrics or logs.

Canaries (a number, a text, a code, a key, a password and more) go through every door, at the most talkative log level;
afterwards nobody may find one in what the gateway wrote for operators.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import FAMILIES
from tests.support.gateway import ADMIN_TOKEN
from tests.support.gateway_process import VERIFICATION, AuditedGateway
from tests.support.scenario import carrier
from tests.support.until import until

NUMBER = "13957924681"
CODE = "739164"
CANARIES = {
    "number": NUMBER,
    "text": "zebra quartz",
    "code": CODE,
    "ref": "ref-canary-5531",
    "tag": "tag-canary-5532",
    "contact": "contact-canary-5533",
    "meta": "meta-canary-5534",
    "campaign": "campaign-canary-5535",
    "key in a URL": "sg_live_canary_5536",
    "wrong key": "sg_live_canary_5537",
    "idempotency key": "idem-canary-5538",
    "unknown field": "field-canary-5539",
    "path": "path-canary-5540",
    "what a handset wrote": "octopus violin",
}
LABELS = re.compile(r"[A-Za-z0-9._ |-]{0,64}|\+Inf|[0-9.e+-]+")
MOST_SERIES = 2_000

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def test_counters_never_fall_and_tell_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMSGW_LOG_LEVEL", "debug")
    options = {"double_rate": 0.1, "unknown_rate": 0.1, "wrong_destination_rate": 0.1, "failed_rate": 0.1}
    async with carrier(**options) as smsc, AuditedGateway(tmp_path, {"cm-a": smsc.port}) as gateway:
        seen: Samples = {}
        async with gateway.traffic(every_s=0.05):
            await _plant(gateway)
            smsc.send_mo(f"86{NUMBER}", "106900001", CANARIES["what a handset wrote"].encode())
            smsc.send_raw(b"\x00\x00\x00\x10\x00\x00\x7f\x7f\x00\x00\x00\x00\x00\x00\x00\x09")  # an unknown command
            for role in ("dispatch", "api", "admin"):
                seen = await _through_a_kill(gateway, role, seen)
        await until(lambda: _counts(gateway, "smsgw_worker_restarts_total", above=2))
        seen, shown = await _not_fallen(gateway, seen)
        assert sum(_counting(name) for name, _ in seen) > 100
        _check_labels(seen)
        assert await gateway.terminate() == 0
        _check_canaries(gateway, shown)


async def _through_a_kill(gateway: AuditedGateway, role: str, seen: Samples) -> Samples:
    """Kill a role's worker between two looks at the metrics, and look until it is back; returns the last ones."""
    submits = _total(seen)
    await until(lambda: _counts(gateway, "smsgw_submits_total", above=submits))
    [worker] = gateway.workers(role)
    seen, _ = await _not_fallen(gateway, seen)
    worker.kill()
    await until(lambda: _ready_again(gateway, worker.pid, role), timeout_s=30)
    for _ in range(3):
        seen, _ = await _not_fallen(gateway, seen)
    return seen


async def _plant(gateway: AuditedGateway) -> None:
    """Send the canaries: accepted, refused for their content, and in requests that are no requests."""
    c = CANARIES
    good = {
        **gateway.message(VERIFICATION, to=f"+86{NUMBER}", text=f"{c['text']} {CODE}", ref=c["ref"], tags=[c["tag"]]),
        "contact": c["contact"],
        "meta": c["meta"],
        "origin": {"campaign": c["campaign"]},
    }
    assert (await gateway.send(good)).status == 202
    assert (await gateway.send({**good, "text": "other"})).code == "ref_conflict"
    assert (await gateway.send(gateway.message(text=c["text"]), key=c["idempotency key"])).status == 202
    assert (await gateway.send({**gateway.message(), c["unknown field"]: c["text"]})).status == 422
    assert (await gateway.send({**gateway.message(), "to": f"+86{NUMBER}99999"})).status == 422
    assert gateway.session is not None
    url, bearer = f"http://127.0.0.1:{gateway.api_port}", {"Authorization": f"Bearer {gateway.key}"}
    for method, path, headers, data in (
        ("POST", "/v1/messages", bearer, f'{{"to": "+86{NUMBER}", "text": "{c["text"]} {CODE}'),
        ("POST", "/v1/messages", {"Authorization": f"Bearer {c['wrong key']}"}, "{}"),
        ("GET", f"/v1/messages?to=%2B86{NUMBER}", bearer, ""),
        ("GET", f"/v1/messages?to=%2B86{NUMBER}&api_key={c['key in a URL']}", bearer, ""),
        ("GET", f"/v1/{c['path']}/{NUMBER}", bearer, ""),
        ("DELETE", f"/v1/messages/{c['path']}", bearer, ""),
    ):
        async with gateway.session.request(method, url + path, headers=headers, data=data or None) as answer:
            assert answer.status < 500
    await gateway.admin("PUT", f"/admin/v1/gates?x={NUMBER}", {"kind": c["unknown field"], "name": c["tag"]})


def _samples(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _counting(name: str) -> bool:
    """Whether a sample only ever rises."""
    family = FAMILIES.get(re.sub(r"_(bucket|count|sum)$", "", name).removeprefix("smsgw_"))
    plain = FAMILIES.get(name.removeprefix("smsgw_"))
    return bool((family and family.kind == "histogram") or (plain and plain.kind == "counter"))


async def _not_fallen(gateway: AuditedGateway, before: Samples) -> tuple[Samples, str]:
    """Read /metrics and compare: every counter seen before is there, and has not fallen."""
    _, text = await gateway.admin("GET", "/metrics")
    now = _samples(text)
    for key, value in before.items():
        if _counting(key[0]):
            assert now.get(key, -1.0) >= value, key
    await asyncio.sleep(0.3)  # less than a snapshot's period: moments between two of them are looked at as well
    return now, text


def _total(samples: Samples) -> float:
    return sum(value for (name, _), value in samples.items() if name == "smsgw_submits_total")


async def _counts(gateway: AuditedGateway, name: str, *, above: float) -> bool:
    return await gateway.metric(name) > above


async def _ready_again(gateway: AuditedGateway, old_pid: int, role: str) -> bool:
    living = [worker.pid for worker in gateway.workers(role)]
    try:
        return living not in ([], [old_pid]) and (await gateway.readyz())[0] == 200
    except aiohttp.ClientError:
        return False


def _check_labels(samples: Samples) -> None:
    assert len(samples) < MOST_SERIES
    for name, labels in samples:
        for label, value in labels:
            assert LABELS.fullmatch(value), (name, label)


def _check_canaries(gateway: AuditedGateway, metrics: str) -> None:
    """Look for every canary in all that is written for operators; the append-only file is not."""
    written = {"metrics": metrics, "log": gateway.log()}
    for path in gateway.data_dir.rglob("*"):
        if path.is_file() and "appendonlydir" not in path.parts:
            written[str(path.relative_to(gateway.data_dir))] = path.read_text("utf-8", errors="replace")
    assert '"level":"debug"' in written["log"]
    assert any(name.endswith("store.log") for name in written)
    assert any("metrics" in name and name.endswith(".json") for name in written)
    secrets = {"api key": gateway.key, "admin token": ADMIN_TOKEN, "another number": gateway.client[-1].to[1:]}
    for where, text in written.items():
        for what, canary in {**CANARIES, **secrets}.items():
            at = text.find(canary)
            assert at < 0, f"{what} in {where}: {text[max(0, at - 120) : at + 120]!r}"
