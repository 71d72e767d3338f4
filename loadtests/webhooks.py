"""How many events a second an events worker delivers: a full outbox, a real endpoint on loopback, one JSON line.

    python loadtests/webhooks.py --batch 100        # or: make bench-webhooks ARGS="--batch 1"
    python loadtests/webhooks.py --batch 100 --with-traffic    # while the whole gateway sends 2,000 messages a second

The worker (`smsgw events`), the store (embedded, durability `strict`) and the endpoint are processes of their own. The
events are about real records, written to the outbox before the worker starts; what is measured is from the first call
to the last. The endpoint answers 204 at once and counts events; it is part of the machine's load, and its CPU is told
apart. `--with-traffic` measures something else: what an outbox that was closed for a while costs a gateway at work, in
events a second while the backlog lasts, and in the wait of codes before and meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import urllib.request
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gateway.dlr.events import entry
from gateway.settings import load
from gateway.store import keys
from gateway.store.embedded import EmbeddedServer
from gateway.store.outbox import Outbox
from gateway.store.records import FIXED_BYTES, pack_body, pack_content
from gateway.store.store import Store
from loadtests import bench
from tests.support.messages import message

LEFT_LEAST = 1000
"""With fewer in line the backlog counts as gone: what is delivered then is what is being sent."""
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def endpoint(told: Connection) -> None:
    """Be the application: HTTP/1.1 on a free port, 204 to everything, the time of the first and latest call."""
    counted = {"calls": 0, "events": 0, "first": 0.0, "last": 0.0}

    class Http(asyncio.Protocol):
        def __init__(self) -> None:
            self.have = b""

        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.have += data
            while (end := self.have.find(b"\r\n\r\n")) >= 0:
                head = self.have[:end].lower()
                at = head.index(b"content-length:") + 15
                size = int(head[at:].split(b"\r\n", 1)[0])
                if len(self.have) < end + 4 + size:
                    return
                body, self.have = self.have[end + 4 : end + 4 + size], self.have[end + 4 + size :]
                now = time.monotonic()
                counted["first"] = counted["first"] or now
                counted["last"] = now
                counted["calls"] += 1
                counted["events"] += body.count(b'"data":{')
                self.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Http, "127.0.0.1", 0)
        told.send(server.sockets[0].getsockname()[1])
        while not await asyncio.to_thread(told.poll, 0.05):
            pass
        while told.recv() == "count":
            told.send({**counted, "cpu_s": time.process_time()})
            while not await asyncio.to_thread(told.poll, 0.05):
                pass

    uvloop.run(serve())


def configure(folder: Path, port: int, options: argparse.Namespace) -> None:
    """Write a configuration with one account whose webhook is the endpoint."""
    (folder / "gateway.toml").write_text(f'[store]\ndata_dir = "{folder}/var"\n')
    (folder / "channels.toml").write_text("")
    (folder / "routes.toml").write_text("")
    (folder / "accounts.toml").write_text(
        f'[[account]]\nid = "shop"\n[account.webhook]\nurl = "http://127.0.0.1:{port}/"\nsecret = "${{env:HOOK}}"\n'
        f"allow_insecure = true\nallow_private = true\nallow_ports = [{port}]\nbatch = {options.batch}\n"
        f"concurrency = {options.concurrency}\n"
    )


async def fill(store: Store, n: int, account: str = "shop") -> None:
    """Write `n` final events, each about a message of its own, as the scripts do."""
    # A number that no load client uses: a gateway that runs may send it.
    m = message(
        store,
        "8613999999999",
        account=account,
        body=pack_body("gsm7", pack_content("Your code is 482913", "login-7781")),
    )
    await store.accept([m])
    raw: bytes = await store.client.execute("GET", b"gw:{s00}:msg:" + m.id)
    t = len(raw) - 26
    raw = raw[:t] + b"D" + raw[t + 1 :]
    digits = FIXED_BYTES + len(m.msisdn)
    assert raw[FIXED_BYTES:digits].decode() == m.msisdn
    now = int(time.time() * 1000)
    for start in range(0, n, 500):
        entries = [
            entry("f", now, keys.new_id(0), raw[: digits - 8] + b"%08d" % i + raw[digits:])
            for i in range(start, min(start + 500, n))
        ]
        await Outbox(store).put(0, account, entries)


async def measure(folder: Path, told: Connection, options: argparse.Namespace) -> dict[str, Any]:
    settings = load(folder)
    server = EmbeddedServer(settings.store)
    await server.begin()
    await server.until_ready()
    store = await Store.open(settings, server.url)
    try:
        await fill(store, options.events)
        valkey = next(p for p in psutil.process_iter(["name", "cmdline"]) if "valkey" in p.info["name"]
                      and str(folder) in " ".join(p.info["cmdline"]))  # fmt: skip
        store_before = sum(valkey.cpu_times()[:2])
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "events", "--config", str(folder)),
            env={**os.environ, "SMSGW_STORE_URL": server.url},
            stderr=asyncio.subprocess.DEVNULL if not options.verbose else None,
        )
        process = psutil.Process(worker.pid)
        counted: dict[str, Any] = {}
        begun_s: float | None = None
        stop = time.monotonic() + options.limit_s
        while time.monotonic() < stop and counted.get("events", 0) < options.events:
            await asyncio.sleep(0.1)
            told.send("count")
            counted = told.recv()
            if begun_s is None and counted["calls"]:
                begun_s = sum(process.cpu_times()[:2])
        ended_s, store_s = sum(process.cpu_times()[:2]), sum(valkey.cpu_times()[:2]) - store_before
        with contextlib.suppress(ProcessLookupError):
            worker.send_signal(signal.SIGTERM)
        await asyncio.wait_for(worker.wait(), 15)
        left = (await Outbox(store).look(["shop"]))["shop"]
    finally:
        await store.close()
        await server.stop()
    seconds = counted["last"] - counted["first"]
    events = counted["events"]
    return {
        "batch": options.batch,
        "concurrency": options.concurrency,
        "events": events,
        "calls": counted["calls"],
        "events_per_s": round(events / seconds) if seconds else 0,
        "cpu_us_per_event": {
            "events": round((ended_s - (begun_s or 0.0)) / events * 1e6, 1),
            "store": round(store_s / events * 1e6, 1),
            "endpoint": round(counted["cpu_s"] / events * 1e6, 1),
        },
        "left": left.waiting + left.taken + left.retrying,
    }


class Traffic:
    """A whole gateway that sends `--rate` messages a second in batches, and the endpoint of its account's webhook."""

    def __init__(self, machine: bench.Machine, told: Connection, options: argparse.Namespace) -> None:
        self._machine, self._told, self._options = machine, told, options

    def measure(self) -> dict[str, Any]:
        """Send with the webhook closed, then open it with `--events` events and more in line, and watch both."""
        machine, options = self._machine, self._options
        self._ask({"account": "bench", "action": "disable"})
        asyncio.run(self._fill())
        load = {"name": "load", "pattern": bench.PATTERN, "count": machine.setup.capacity, "batch": 100}
        load |= {"connections": 16, "rate_per_s": options.rate, "max_outstanding": 40_000}
        machine.start_client([load])
        time.sleep(options.warmup_s)
        quiet = bench.Sample.take(machine)
        time.sleep(options.steady_s / 2)
        before, seen = bench.Sample.take(machine), self._seen()
        backlog = self._ask({"account": "bench", "action": "enable"})["backlog"]
        opened = time.monotonic()
        while True:
            time.sleep(0.1)
            now, left = self._seen(), self._backlog()
            if left < LEFT_LEAST or now["at"] - opened >= options.steady_s:
                break
        after = bench.Sample.take(machine)
        summary = machine.finish_client()
        accepted = summary["load"]["accepted"]
        settled = bench.drain(machine, accepted)
        stop = time.monotonic() + options.limit_s
        while self._backlog() and time.monotonic() < stop:
            time.sleep(0.25)
        at_the_end = self._backlog()
        machine.stop_smsc()
        ledgers = bench.Ledgers(machine.setup, summary)
        lost, duplicated = ledgers.lost_and_duplicated()
        seconds, events = now["at"] - opened, now["events"] - seen["events"]
        return {
            "batch": options.batch,
            "concurrency": options.concurrency,
            "seconds": round(seconds, 1),
            "events_per_s": round(events / seconds),
            "calls_per_s": round((now["calls"] - seen["calls"]) / seconds),
            "backlog": {"opened_with": backlog, "measured_until": left, "at_the_end": at_the_end},
            "accepted_per_s": bench.rate(before.accepted, after.accepted),
            "submitted_per_s": bench.rate(before.submitted, after.submitted),
            "codes_post_to_submit_ms": {
                "closed": self._codes(ledgers, quiet.at, opened),
                "delivering": self._codes(ledgers, opened, now["at"]),
            },
            "cpu_of_cores": {
                "events": self._cores("events", before, after),
                "store": self._cores("store", before, after),
                "endpoint": round((now["cpu_s"] - seen["cpu_s"]) / seconds, 2),
                **bench.cores(before, after),
            },
            # Every message of the run has one final event; more than one copy of an event is allowed.
            "events_missing": max(0, options.events + settled - self._seen()["events"]),
            "lost": lost + max(0, accepted - settled),
            "duplicated": duplicated,
            "machine": bench.about_machine(),
        }

    async def _fill(self) -> None:
        machine = self._machine
        url = f"unix://{machine.store_socket()}"
        store = await Store.open(load(machine.setup.config_dir, machine.setup.environment()), url)
        try:
            await fill(store, self._options.events, "bench")
        finally:
            await store.close()

    def _seen(self) -> dict[str, Any]:
        self._told.send("count")
        return {**self._told.recv(), "at": time.monotonic()}

    def _backlog(self) -> int:
        return int(self._ask()["webhooks"][0]["backlog"])

    def _ask(self, body: dict[str, str] | None = None) -> Any:
        setup = self._machine.setup
        request = urllib.request.Request(
            f"http://127.0.0.1:{setup.admin_port}/admin/v1/webhooks",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {setup.token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read())

    @staticmethod
    def _codes(ledgers: bench.Ledgers, since: float, until: float) -> dict[str, float]:
        return bench.percentiles(ledgers.waits("load", since, until).get("verification", []))

    @staticmethod
    def _cores(role: str, before: bench.Sample, after: bench.Sample) -> float:
        return round((after.cpu_s.get(role, 0.0) - before.cpu_s.get(role, 0.0)) / (after.at - before.at), 2)


def with_traffic(port: int, told: Connection, options: argparse.Namespace) -> dict[str, Any]:
    """Start everything, measure, end everything."""
    workdir = Path(tempfile.mkdtemp(prefix="smsgw-hooks-"))
    webhook = (
        f'url = "http://127.0.0.1:{port}/"\nsecret = "${{env:HOOK}}"\nallow_insecure = true\nallow_private = true\n'
        f"allow_ports = [{port}]\nbatch = {options.batch}\nconcurrency = {options.concurrency}"
    )
    machine = bench.Machine(bench.Setup(workdir=workdir, webhook=webhook))
    try:
        machine.start()
        return Traffic(machine, told, options).measure()
    finally:
        machine.stop()
        shutil.rmtree(workdir, ignore_errors=True)


def main() -> int:
    """Measure and print; exit 1 when not every event arrived."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=100, help="events a call")
    parser.add_argument("--concurrency", type=int, default=8, help="calls at a time")
    parser.add_argument("--events", type=int, default=50_000, help="how many")
    parser.add_argument("--limit-s", type=float, default=120, help="give up after so long")
    parser.add_argument("--verbose", action="store_true", help="show the worker's log")
    parser.add_argument("--with-traffic", action="store_true", help="while the whole gateway is sending")
    parser.add_argument("--rate", type=float, default=2000, help="with traffic: messages a second, in batches of 100")
    parser.add_argument("--warmup-s", type=float, default=5, help="with traffic: before anything is measured")
    parser.add_argument("--steady-s", type=float, default=20, help="with traffic: measured at most, once it is open")
    options = parser.parse_args()
    os.environ["HOOK"] = SECRET
    ours, theirs = multiprocessing.Pipe()
    application = multiprocessing.get_context("spawn").Process(target=endpoint, args=(theirs,), daemon=True)
    application.start()
    if options.with_traffic:
        found = with_traffic(ours.recv(), ours, options)
        ours.send("end")
        application.join(5)
        print(json.dumps(found, ensure_ascii=False))
        return 1 if found["events_missing"] or found["lost"] or found["backlog"]["at_the_end"] else 0
    with tempfile.TemporaryDirectory(prefix="smsgw-hooks-") as name:
        folder = Path(name)
        configure(folder, ours.recv(), options)
        found = asyncio.run(measure(folder, ours, options))
    ours.send("end")
    application.join(5)
    print(json.dumps(found))
    return 0 if found["events"] == options.events and not found["left"] else 1


if __name__ == "__main__":
    sys.exit(main())
