"""The supervisor and the workers as processes: start, restart, reaping at once, and an end in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import psutil
import pytest
import pytest_asyncio
import redis.asyncio

from gateway import worker
from gateway.settings import Settings
from gateway.simulator.behaviour import SimulatorOptions
from gateway.simulator.smsc import Smsc
from gateway.supervisor import BACKOFF_S, READY_FAILURES, Supervisor, _Slot
from tests.support.gateway import ADMIN_TOKEN, GatewayProcess
from tests.support.until import until

# One gateway serves the tests that leave it as they found it; the others start their own.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@contextlib.asynccontextmanager
async def smsc(**options: object) -> AsyncIterator[Smsc]:
    peer = Smsc(SimulatorOptions(**{"receipt_delay_s": 0.05, "by_number": False, **options}))  # type: ignore[arg-type]
    await peer.start()
    try:
        yield peer
    finally:
        await peer.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    async with smsc() as peer, GatewayProcess(tmp_path_factory.mktemp("gw"), {"cm-a": peer.port}) as gateway:
        yield gateway


def message(n: int, category: str = "notification") -> dict[str, object]:
    return {"to": f"+8613800{n:06d}", "category": category, "text": f"hello {n}"}


async def state(gateway: GatewayProcess, message_id: str) -> str:
    _, body = await gateway.get(f"/v1/messages/{message_id}")
    return str(body["state"])


async def test_a_post_becomes_a_receipt_and_the_metrics_say_so(shared: GatewayProcess) -> None:
    before = await shared.metric("smsgw_submits_total")
    status, body = await shared.post(message(1))
    assert status == 202, body
    assert body["durability"] == "fsync"
    await until(lambda: _is(shared, body["id"], "delivered"))
    # Snapshots come each second.
    await until(lambda: _has(shared, "smsgw_receipts_total", 1, state="delivered"))
    await until(lambda: _has(shared, "smsgw_submits_total", before + 1, channel="cm-a"))
    assert await shared.metric("smsgw_accept_to_submit_seconds_count", category="notification") >= 1
    assert await shared.metric("smsgw_channel_up", channel="cm-a") == 1
    assert await shared.metric("smsgw_store_ready") == 1
    assert "hello" not in shared.log()
    assert "13800000001" not in shared.log()
    assert shared.data_dir.stat().st_mode & 0o077 == 0


async def _is(gateway: GatewayProcess, message_id: str, wanted: str) -> bool:
    return await state(gateway, message_id) == wanted


async def _has(gateway: GatewayProcess, name: str, value: float, **labels: str) -> bool:
    return await gateway.metric(name, **labels) >= value


@pytest.mark.parametrize("role", ["api", "dispatch", "admin"])
async def test_a_killed_worker_is_back_and_counters_do_not_fall(shared: GatewayProcess, role: str) -> None:
    _, body = await shared.post(message(1))
    await until(lambda: _is(shared, body["id"], "delivered"))
    submitted = await until(lambda: shared.metric("smsgw_submits_total"))
    restarted = await shared.metric("smsgw_worker_restarts_total", role=role)
    [old] = shared.workers(role)
    old.kill()
    await until(lambda: [p.pid for p in shared.workers(role)] not in ([], [old.pid]))
    await until(lambda: _ready(shared))
    status, body = await shared.post(message(2))
    assert status == 202
    await until(lambda: _is(shared, body["id"], "delivered"))
    await until(lambda: _has(shared, "smsgw_submits_total", submitted + 1))
    await until(lambda: _has(shared, "smsgw_worker_restarts_total", restarted + 1, role=role))


async def test_a_worker_that_dies_whenever_it_is_ready_is_not_started_without_a_pause_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each start costs half a second of a core, which those that work could use."""
    one = Supervisor(Settings(config_dir=tmp_path), tmp_path)
    slot = _Slot("admin", 0)
    pauses: list[float] = []

    async def live_through(slot: _Slot) -> str:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.send(worker.READY)
            slot.link, slot.ready = ours, False
            one._heard(slot)
            assert slot.ready
        return "code 1"

    async def pause(pause_s: float) -> None:
        pauses.append(pause_s)
        one._stopping = len(pauses) == 10

    monkeypatch.setattr(one, "_live_through", live_through)
    monkeypatch.setattr(one, "_pause", pause)
    await one._keep(slot)
    assert pauses[0] == 0.0
    assert pauses == sorted(pauses)
    assert pauses[-1] == BACKOFF_S[READY_FAILURES] > 0


async def _ready(gateway: GatewayProcess) -> bool:
    return (await gateway.readyz())[0] == 200


async def test_what_a_killed_dispatch_worker_held_is_taken_back_at_once(tmp_path: Path) -> None:
    # The SMSC keeps every answer to itself: all 20 are claimed and sent when the worker dies.
    at_any_hour = '[categories.marketing]\nsend_hours = ""\nrequire_signature = []\nrequire_optout_text = {}\n'
    async with (
        smsc(silence=True) as peer,
        GatewayProcess(tmp_path, {"cm-a": peer.port}, categories=at_any_hour) as gateway,
    ):
        ids = [(await gateway.post(message(n, "marketing")))[1]["id"] for n in range(20)]
        await until(lambda: peer.counters.submits == 20)
        killed = time.monotonic()
        gateway.workers("dispatch")[0].kill()
        for message_id in ids:
            await until(lambda i=message_id: _is(gateway, i, "uncertain"))
        assert time.monotonic() - killed < 2.0
        await until(lambda: "claims of a dead worker taken back" in gateway.log())


async def test_the_end_is_in_order_and_loses_nothing(tmp_path: Path) -> None:
    async with smsc(latency_s=1.0) as peer, GatewayProcess(tmp_path, {"cm-a": peer.port}) as gateway:
        ids = [(await gateway.post(message(n)))[1]["id"] for n in range(30)]
        await until(lambda: peer.counters.submits == 30)
        began = time.monotonic()
        ended = asyncio.create_task(gateway.terminate())
        # Not ready first; the admin worker is there to say so until the others have gone.
        status, reasons = await until(lambda: _not_ready(gateway))
        assert (status, "draining" in reasons) == (503, True)
        assert await ended == 0
        assert time.monotonic() - began < 35
        log = gateway.log()
        order = [log.index(f"{who}: stopped") for who in ("api-0 worker", "dispatch-0 worker", "admin-0 worker")]
        assert order == sorted(order)
        assert "killed" not in log
        assert peer.counters.answered_ok == 30

        await gateway.start()
        for message_id in ids:
            await until(lambda i=message_id: _is(gateway, i, "delivered"))
        assert peer.counters.submits == 30  # no copy


async def _not_ready(gateway: GatewayProcess) -> tuple[int, list[str]] | None:
    found = await gateway.readyz()
    return found if found[0] == 503 else None


async def test_posts_during_the_end_are_refused_and_not_stored(tmp_path: Path) -> None:
    async with smsc(latency_s=2.0) as peer, GatewayProcess(tmp_path, {"cm-a": peer.port}) as gateway:
        await gateway.post(message(1))
        await until(lambda: peer.counters.submits == 1)
        ended = asyncio.create_task(gateway.terminate())
        await until(lambda: _not_ready(gateway))
        answers: list[tuple[int, dict[str, object]]] = []
        with contextlib.suppress(aiohttp.ClientError):
            while True:
                answers.append(await gateway.post(message(100 + len(answers))))
        assert answers
        assert {(status, body.get("outcome")) for status, body in answers} == {(503, "not_stored")}
        assert await ended == 0


async def test_everything_ends_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    async with smsc() as peer, GatewayProcess(tmp_path, {"cm-a": peer.port}) as gateway:
        family = gateway.processes()
        assert len(family) == 5  # supervisor, store, api, dispatch, admin
        family[0].kill()
        await until(lambda: not any(_lives(p) for p in family), timeout_s=15)
        await gateway.start()
        assert (await gateway.post(message(1)))[0] == 202


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def test_the_store_killed_is_503_meanwhile_and_nothing_is_lost(shared: GatewayProcess) -> None:
    _, first = await shared.post(message(1))
    shared.store_process().kill()
    await until(lambda: _stored_again(shared, 2))
    await until(lambda: _is(shared, first["id"], "delivered"))
    await until(lambda: _has(shared, "smsgw_store_restarts_total", 1))
    await until(lambda: _ready(shared))


async def _stored_again(gateway: GatewayProcess, n: int) -> bool:
    status, body = await gateway.post(message(n))
    assert status in (202, 503), body
    return status == 202


async def test_a_weaker_setting_is_not_ready_and_named_and_never_a_202(shared: GatewayProcess) -> None:
    client = redis.asyncio.Redis(unix_socket_path=str(shared.data_dir / "run" / "store.sock"))
    await client.config_set("appendfsync", "everysec")
    # The workers look every 30 s; a new one looks when it starts.
    for role in ("api", "admin"):
        shared.workers(role)[0].kill()
    await until(lambda: _named(shared, "appendfsync is everysec"))
    await until(lambda: _refused(shared))
    await client.config_set("appendfsync", "always")
    await until(lambda: _ready(shared))
    # Each worker looks for itself, once a second while something is wrong: the api worker may come a second later.
    await until(lambda: _stored_again(shared, 2))
    await client.aclose()


async def _named(gateway: GatewayProcess, words: str) -> bool:
    return any(words in reason.replace(": is", " is") for reason in (await gateway.readyz())[1])


async def _refused(gateway: GatewayProcess) -> bool:
    try:
        status, body = await gateway.post(message(1))
    except aiohttp.ClientError:
        return False
    assert status == 503, body
    assert body["outcome"] == "not_stored"
    return True


async def test_a_second_gateway_on_the_directory_is_refused(shared: GatewayProcess, tmp_path: Path) -> None:
    second = GatewayProcess(tmp_path, {"cm-a": 1})
    toml = second.config_dir / "gateway.toml"
    toml.write_text(toml.read_text().replace(str(second.data_dir), str(shared.data_dir)))
    done = await _run("run", second.config_dir)
    assert (done.returncode, "another gateway runs on" in done.stderr) == (3, True)


async def test_an_address_in_use_is_a_configuration_error(tmp_path: Path) -> None:
    async with smsc() as peer:
        gateway = GatewayProcess(tmp_path, {"cm-a": peer.port})
        gateway_toml = gateway.config_dir / "gateway.toml"
        gateway_toml.write_text(gateway_toml.read_text().replace(_listens(gateway.api_port), _listens(peer.port)))
        done = await _run("run", gateway.config_dir)
        assert (done.returncode, "api.listen" in done.stderr) == (3, True)


def _listens(port: int) -> str:
    """Return an address as the files have it; the digits of a port may stand in a key's hash as well."""
    return f'"127.0.0.1:{port}"'


@pytest.mark.parametrize("role", ["api", "dispatch"])
async def test_a_role_alone_needs_a_store(tmp_path: Path, role: str) -> None:
    gateway = GatewayProcess(tmp_path, {"cm-a": 1})
    done = await _run(role, gateway.config_dir)
    assert (done.returncode, "store.url" in done.stderr) == (3, True)


async def test_a_role_alone_finds_the_embedded_store_of_its_directory(shared: GatewayProcess, tmp_path: Path) -> None:
    alone = GatewayProcess(tmp_path, {"cm-a": 1})
    alone.key = shared.key
    for name in ("gateway.toml", "accounts.toml"):
        text = (shared.config_dir / name).read_text()
        (alone.config_dir / name).write_text(text.replace(_listens(shared.api_port), _listens(alone.api_port)))
    api = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "api", "--config", str(alone.config_dir)), env=_env()
    )
    try:
        async with aiohttp.ClientSession() as alone.session:
            await until(lambda: _accepts(alone))
    finally:
        api.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(api.wait(), 15) == 0


async def _accepts(gateway: GatewayProcess) -> bool:
    try:
        return (await gateway.post(message(1)))[0] == 202
    except aiohttp.ClientError:
        return False


def _env() -> dict[str, str]:
    return {**os.environ, "SMSGW_ADMIN_TOKEN": ADMIN_TOKEN, "SMSC_PASSWORD": "secret"}


async def _run(command: str, config_dir: Path) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "gateway", command, "--config", str(config_dir)],
        env=_env(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
