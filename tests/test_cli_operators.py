"""What an operator types, on one running gateway: queues, routes, accounts, messages, gates, `top`; words and codes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import sys
import time
from pathlib import Path
from typing import Any

from gateway.commands.top_data import Sample, view_of
from gateway.commands.top_frame import SORTS, frame
from tests.support.gateway import ADMIN_TOKEN, GatewayProcess
from tests.support.scenario import carrier
from tests.support.until import until

NUMBER = "+8613800138000"


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "SMSGW_ADMIN_TOKEN": ADMIN_TOKEN, "COLUMNS": "80", "LINES": "24", **more}


async def smsgw(gateway: GatewayProcess, *args: str, token: str = ADMIN_TOKEN) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *args, "--config", str(gateway.config_dir)),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=environment(SMSGW_ADMIN_TOKEN=token),
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def answers(gateway: GatewayProcess, *calls: tuple[str, ...]) -> list[Any]:
    """Run commands side by side, each with --json, and return what they said."""
    done = await asyncio.gather(*[smsgw(gateway, *call, "--json") for call in calls])
    for call, (code, _, err) in zip(calls, done, strict=True):
        assert code == 0, f"{call}: {err}"
    return [json.loads(out) for _, out, _ in done]


async def test_an_operator_looks_and_acts(tmp_path: Path) -> None:
    async with carrier(receipt_delay_s=0.05) as smsc, GatewayProcess(tmp_path, {"a": smsc.port}) as gateway:
        far = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
        body = {"to": NUMBER, "category": "notification", "text": "a secret text", "ref": "r1", "meta": "m"}
        _, sent = await gateway.post(body)
        _, timed = await gateway.post({**body, "to": "+8613800138001", "ref": "r2", "send_at": far, "tags": ["t"]})

        async def delivered() -> bool:
            return (await gateway.get(f"/v1/messages/{sent['id']}"))[1]["state"] == "delivered"

        await until(delivered)
        shown, full, found, queues, routes, accounts, preview, top = await answers(
            gateway,
            ("message", "show", sent["id"]),
            ("message", "show", sent["id"], "--full"),
            ("message", "find", NUMBER, "--account", "shop", "--ref", "r1"),
            ("queues",),
            ("routes", "cn"),
            ("accounts", "shop"),
            ("gate", "close", "--tag", "t", "--dry-run"),
            ("top", "--once", "--interval", "0.3"),
        )
        # One message: masked, unless it is asked for.
        assert (shown["state"], shown["to"], shown["ref"]) == ("delivered", "+86138****8000", "r1")
        assert (full["to"], full["text"], full["meta"]) == (NUMBER, "a secret text", "m")
        assert "secret" not in json.dumps(shown) + json.dumps(found)
        assert [e["what"] for e in shown["timeline"]] == ["accepted", "attempt", "receipt", "state"]
        assert shown["timeline"][1]["parts"][0]["smsc_id"]
        assert [m["id"] for m in found["messages"]] == [sent["id"]]
        # The lists.
        assert (queues["waiting"], queues["scheduled"], queues["queues"]) == (1, 1, [])
        assert [(c["id"], c["takes"]) for c in routes["routes"][0]["channels"]] == [("a", True)]
        (shop,) = accounts["accounts"]
        assert (shop["keys"], shop["webhook"], shop["senders"]) == (1, None, ["106900001"])
        assert "sha256" not in json.dumps(accounts)
        assert (preview["waiting"], preview["scheduled"], preview["rows"][0]["account"]) == (1, 1, "shop")
        assert [(c["id"], c["state"], c["sessions"]) for c in top["channels"]] == [("a", "up", 1)]

        _, other = await gateway.post({**body, "to": "+8613800138002", "ref": "r3", "send_at": far})
        await _acts(gateway, sent["id"], timed["id"], other["id"])
        await _frames(gateway)


async def _acts(gateway: GatewayProcess, sent: str, timed: str, other: str) -> None:
    refused, unknown, bad, wrong, none, asked = await asyncio.gather(
        smsgw(gateway, "message", "resend", sent),
        smsgw(gateway, "message", "show", "0193a1b2-7c3d-7e4f-8a5b-6c7d8e9f0a1b"),
        smsgw(gateway, "message", "show", "x"),
        smsgw(gateway, "queues", token="wrong"),
        smsgw(gateway, "message", "find", "+8613999999999"),
        smsgw(gateway, "routes", "nowhere"),
    )
    assert (refused[0], "what is final stays so" in refused[2]) == (4, True)
    assert (unknown[0], "no such message" in unknown[2]) == (4, True)
    assert (bad[0], "id: a message id is wanted" in bad[2]) == (4, True)
    assert (wrong[0], "SMSGW_ADMIN_TOKEN" in wrong[2]) == (4, True)
    assert (none[0], none[1]) == (1, "no message to this number is kept\n")
    assert (asked[0], "there are: cn" in asked[2]) == (4, True)

    # A held gate, then a closed one: what was scheduled ends, and the list says so.
    assert (await smsgw(gateway, "gate", "hold", "--tag", "t"))[:2] == (
        0,
        "tag t: hold, 1 messages wait behind it\n",
    )
    unasked, typo = await asyncio.gather(
        smsgw(gateway, "gate", "close", "--tag", "t"), smsgw(gateway, "queues", "--route", "nope")
    )
    assert (unasked[0], "--yes is wanted" in unasked[2]) == (2, True)
    assert (typo[0], "no such route (there are: cn)" in typo[2]) == (4, True)
    code, out, _ = await smsgw(gateway, "gate", "close", "--tag", "t", "--yes")
    assert (code, out.splitlines()[0]) == (0, "tag t: closed")

    async def swept() -> bool:
        _, listed = await gateway.admin("GET", "/admin/v1/gates")
        return bool(listed["gates"][0]["sweep"]["done"])

    await until(swept)
    line, after, already, cancelled = await asyncio.gather(
        smsgw(gateway, "gate", "list"),
        smsgw(gateway, "message", "show", timed),
        smsgw(gateway, "message", "cancel", timed, "--json"),
        smsgw(gateway, "message", "cancel", other),
    )
    assert line[1].startswith("tag t: closed, 1 closed, swept in ")
    assert "cancelled, gate_closed" in after[1]
    assert json.loads(already[1])["result"] == "already"
    assert cancelled[1] == f"{other}: cancelled, now cancelled\n"
    audit = await smsgw(gateway, "audit", "--json")
    entries = [(e["actor"].partition("@")[0], e["action"], e["object"]) for e in json.loads(audit[1])["entries"]]
    for wanted in (
        ("admin", "gate.set", "tag:t"),
        ("gateway", "gate.swept", "tag:t"),
        ("admin", "message.read_full", sent),
        ("admin", "message.cancel", other),
    ):
        assert wanted in entries
    assert (await smsgw(gateway, "gate", "open", "--tag", "t"))[:2] == (0, "tag t: open\n")


async def _frames(gateway: GatewayProcess) -> None:
    """One frame without colours, and the live view in a terminal of its own: keys work, and it is left as it was."""
    code, out, _ = await smsgw(gateway, "top", "--once", "--interval", "0.2", "--sort", "rate")
    assert (code, "\x1b" in out) == (0, False)
    lines = out.splitlines()
    assert len(lines) <= 24
    assert max(len(line) for line in lines) <= 80
    assert "(now rate)" in lines[-1]

    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "top", "--interval", "0.2", "--config", str(gateway.config_dir)),
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment(TERM="xterm-256color"),
    )  # fmt: skip
    os.close(theirs)
    os.set_blocking(ours, False)
    seen = bytearray()

    def shows(words: bytes) -> bool:
        with contextlib.suppress(OSError):
            seen.extend(os.read(ours, 65536))
        return words in seen

    try:
        await until(lambda: shows(b"messages a second"), timeout_s=20)
        for key, words in ((b"w", b"(now window)"), (b"p", b"PAUSED")):
            os.write(ours, key)
            await until(lambda words=words: shows(words))
        os.write(ours, b"q")
        assert await asyncio.wait_for(process.wait(), 20) == 0
        assert shows(b"\x1b[?1049l")  # the other screen is left
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(ours)


# --- figures and frames, of readings made here


def reading(at: float, **counters: float) -> Sample:
    text = "".join(f"smsgw_{series} {value}\n" for series, value in counters.items())
    channels = [
        {"id": f"ch-{i:02d}", "operator": "run", "bound": i != 3, "breaker": "open" if i == 2 else "closed",
         "cause": "answers", "binds": 2, "window": 50, "max_tps": 300}
        for i in range(30)
    ]  # fmt: skip
    queues = [
        {"route": f"r{i}", "rank": 0, "category": "marketing", "depth": i, "oldest_age_s": 200.0 * i,
         "accounts": [{"account": "shop", "depth": i, "oldest_age_s": 1.0}]}
        for i in range(20)
    ]  # fmt: skip
    gates = [{"kind": "tag", "name": "t", "state": "hold", "held": 3, "closed": 0}]
    hooks = [{"account": "shop", "state": "disabled", "backlog": 7}]
    answer = {
        "channels": {"channels": channels},
        "queues": {"waiting": 5, "queues": queues},
        "gates": {"gates": gates},
        "webhooks": {"webhooks": hooks},
    }
    return Sample.of(at, text, answer)


ACCEPTED = 'messages_total{category="verification",route="r",state="queued",reason=""}'
SUBMITS = 'submits_total{channel="ch-00",status="0x00000000"}'
ERRORS = 'submits_total{channel="ch-00",status="0x00000058"}'
FAST = 'accept_to_submit_seconds_bucket{category="verification",le="0.1"}'
SLOW = 'accept_to_submit_seconds_bucket{category="verification",le="+Inf"}'
ALARM = 'channel_alarms_total{channel="ch-00",outcome="bug"}'


def test_rates_are_differences_and_survive_a_restart() -> None:
    before = reading(10.0, **{ACCEPTED: 100, SUBMITS: 50, ERRORS: 0, FAST: 10, SLOW: 10, ALARM: 1})
    now = reading(12.0, **{ACCEPTED: 150, SUBMITS: 80, ERRORS: 10, FAST: 110, SLOW: 110, ALARM: 3})
    view = view_of(now, before)
    assert (view.rates[0].accepted, view.channels[0].per_s, view.channels[0].errors) == (25.0, 20.0, 0.25)
    assert view.verification_p99_s == 0.1
    assert view.alarms == ["answers that mean a fault: ch-00 bug (+2)"]
    assert [view.channels[i].state for i in (1, 2, 3)] == ["up", "breaker open", "down"]
    # A worker began anew: what it counted since is what grew.
    assert view_of(reading(14.0, **{ACCEPTED: 6, FAST: 1, SLOW: 1}), now).rates[0].accepted == 3.0


def test_a_frame_fits_its_terminal() -> None:
    from rich.console import Console

    view = view_of(reading(2.0, **{ACCEPTED: 1, ALARM: 2}), reading(1.0, **{ACCEPTED: 0}))
    for width, height in ((80, 24), (160, 50), (80, 60)):
        for sort in SORTS:
            console = Console(width=width, height=height, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
            console.print(frame(view, width=width, height=height, sort=sort, title="http://127.0.0.1:8081"))
            lines = console.export_text().splitlines()
            assert len(lines) <= height, (width, height, sort)
            assert any("gates: tag t hold" in line for line in lines)
            assert any("shop disabled 7 waiting" in line for line in lines)
            assert any(line.startswith("ch-") for line in lines)
            assert "q quit" in lines[-1]
