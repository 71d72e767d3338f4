"""The load test: the whole gateway, a simulated carrier and a load client as processes of this machine; one
JSON line.

    python loadtests/bench.py --mode batch|single|priority|backlog|idle [--smoke]

It writes its own configuration (embedded store, durability strict, one channel of two binds with a window of
500, a carrier that answers after 5 ms and sends receipts after 1 s), starts everything through the public
commands, warms up, and takes counters at both ends of a steady window: what was accepted, submitted, and had
its receipt recorded. Nothing of the gateway is imported into the measured path; the load client and the
carrier are counted apart. How each figure is made stands in loadtests/README.md.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import http.client
import json
import os
import platform
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import redis

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # run as a script, only loadtests/ would be searched

from gateway.settings import load  # noqa: E402
from gateway.store.blacklists import PAGE, Blacklists  # noqa: E402
from gateway.store.store import Store  # noqa: E402

PATTERN = "vnmnnvmnnm"
"""Of ten messages two are verification, five notification, three marketing."""
LABELS = {"v": "verification", "n": "notification", "m": "marketing"}
BLACKLISTED = 100_000
READY_TIMEOUT_S = 60.0
DRAIN_TIMEOUT_S = 60.0
RECORDS_SAMPLED = 2_000


@dataclass(slots=True)
class Setup:
    """What is started. Defaults: 2 binds, window 500, answers after 5 ms, receipts after 1 s, strict."""

    workdir: Path
    api_workers: int = 1
    dispatch_workers: int = 1
    binds: int = 2
    window: int = 500
    max_tps: int = 0
    latency_s: float = 0.005
    receipt_delay_s: float = 1.0
    durability: str = "strict"
    shards: int = 1
    capacity: int = 4_000_000
    checks: bool = True
    rules: bool = False  # every rule there is on top: windows, caps by all names, consent, words, links, prices
    max_queued: int = 3_000_000
    key: str = field(default_factory=lambda: "sg_live_bench_" + secrets.token_urlsafe(32))
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    api_port: int = 0
    admin_port: int = 0
    smsc_port: int = 0
    webhook: str = ""  # what stands in the account's [account.webhook]; empty: it has none

    def environment(self) -> dict[str, str]:
        """Return the environment of every process: its secrets, and the checkout to import from."""
        secrets_of_the_run = {"SMSGW_ADMIN_TOKEN": self.token, "BENCH_SMSC_PASSWORD": "bench"}
        return {**os.environ, **secrets_of_the_run, "PYTHONPATH": str(ROOT)}

    @property
    def config_dir(self) -> Path:
        return self.workdir / "config"

    @property
    def data_dir(self) -> Path:
        return self.workdir / "data"

    @property
    def smsc_stats(self) -> Path:
        return self.workdir / "smsc.json"

    @property
    def tally(self) -> Path:
        return self.workdir / "tally"


def write_config(setup: Setup) -> None:
    """Write the configuration directory of the run; tables not written come from the shipped ones."""
    setup.config_dir.mkdir(parents=True, exist_ok=True)
    caps = {
        "verification": '["1/60s", "5/3600s", "10/86400s"]',
        "notification": '["20/1d"]',
        "marketing": '["1/7d"]',
    }
    per_number = {c: (rule if setup.checks else "[]") for c, rule in caps.items()}
    more_caps, price, account_rules = "", "", ""
    if setup.rules:
        more_caps = 'per_number_all = ["200/1d"]\nper_signature = ["100/1d"]\nper_tag = { bench = ["50/1d"] }'
        price = "price = 0.045"
        account_rules = 'consent_required = true\nlink_domains = ["acme.example"]\noptout_scope = "signature"'
    files = {
        "gateway.toml": f"""
[store]
data_dir = "{setup.data_dir}"
durability = "{setup.durability}"
shards = {setup.shards}
max_queued = {setup.max_queued}
[api]
listen = "127.0.0.1:{setup.api_port}"
workers = {setup.api_workers}
[admin]
listen = "127.0.0.1:{setup.admin_port}"
token = "${{env:SMSGW_ADMIN_TOKEN}}"
[dispatch]
workers = {setup.dispatch_workers}
[categories.verification]
ttl_s = 300
per_number = {per_number["verification"]}
{more_caps}
[categories.notification]
ttl_s = 86400
per_number = {per_number["notification"]}
{more_caps}
[categories.marketing]
ttl_s = 172800
send_hours = "{"00:00-23:59" if setup.rules else "00:00-24:00"}"
per_number = {per_number["marketing"]}
{more_caps}
""",
        "channels.toml": f"""
[[channel]]
id = "bench"
host = "127.0.0.1"
port = {setup.smsc_port}
system_id = "bench"
password = "${{env:BENCH_SMSC_PASSWORD}}"
bind = "transceiver"
binds = {setup.binds}
window = {setup.window}
max_tps = {setup.max_tps}
{price}
""",
        "routes.toml": """
[[route]]
id = "cn"
match = { country = "CN" }
channels = [ { id = "bench", rank = 0 } ]
""",
        "accounts.toml": f"""
[[account]]
id = "bench"
key_hashes = ["sha256:{hashlib.sha256(setup.key.encode()).hexdigest()}"]
categories = ["verification", "notification", "marketing"]
senders = ["106900001"]
signature = "【Acme】"
default_country = "CN"
max_per_s = {200_000 if setup.checks else 0}
daily_quota = {1_000_000_000 if setup.checks else 0}
{account_rules}
{"[account.webhook]" if setup.webhook else ""}
{setup.webhook}
""",
    }
    if setup.rules:
        hours = "CN,marketing,00:00,23:59,all,Asia/Shanghai,bench"
        files["quiet_hours.csv"] = f"place,categories,allowed_from,allowed_to,days,time_zone,source\n{hours}\n"
        words = "\n".join(f"w{n},禁词{n}号,refuse,all,all" for n in range(500))
        files["content_words.csv"] = f"id,word,action,categories,accounts\n{words}\n"
    for name, text in files.items():
        (setup.config_dir / name).write_text(text.lstrip(), encoding="utf-8")


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Machine:
    """The processes of one run, and what can be read of them from outside."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self._started: list[subprocess.Popen[bytes]] = []
        self._logs: list[Any] = []
        self.gateway: subprocess.Popen[bytes] | None = None
        self.smsc: subprocess.Popen[bytes] | None = None
        self.client: subprocess.Popen[bytes] | None = None
        self._environment = setup.environment()

    def start(self) -> None:
        """Start carrier and gateway; return when both binds are up and the gateway says it is ready."""
        setup = self.setup
        setup.api_port, setup.admin_port = free_port(), free_port()
        setup.smsc_port = setup.smsc_port or free_port()
        write_config(setup)
        self.smsc = self._spawn(
            "smsc",
            [
                *(sys.executable, "-m", "gateway.simulator.cli"),
                *("--listen", f"127.0.0.1:{setup.smsc_port}", "--no-by-number"),
                *("--latency-s", str(setup.latency_s), "--receipt-delay-s", str(setup.receipt_delay_s)),
                *("--stats", str(setup.smsc_stats), "--tally", str(setup.tally)),
                *("--tally-capacity", str(setup.capacity)),
            ],
        )
        self.gateway = self._spawn(
            "gateway", [sys.executable, "-m", "gateway", "run", "--config", str(setup.config_dir)]
        )
        self.wait(self._ready, "the gateway did not become ready", READY_TIMEOUT_S)
        self.wait(
            lambda: self.smsc_stats().get("sessions", 0) >= setup.binds,
            "the channel did not bind",
            READY_TIMEOUT_S,
        )

    def start_client(self, streams: list[dict[str, Any]], *, feedback: bool = True) -> None:
        """Start the load client on `streams` (see client.StreamPlan)."""
        setup = self.setup
        plan = {
            "host": "127.0.0.1",
            "port": setup.api_port,
            "key": setup.key,
            "streams": streams,
            "stats": str(setup.workdir / "client.stats"),
            "out": str(setup.workdir / "client"),
            "feedback": str(setup.smsc_stats) if feedback else None,
        }
        path = setup.workdir / "plan.json"
        path.write_text(json.dumps(plan))
        self.client = self._spawn(
            "client", [sys.executable, str(ROOT / "loadtests" / "client.py"), "--plan", str(path)]
        )

    def finish_client(self, timeout_s: float = 60.0) -> dict[str, Any]:
        """Tell the client to stop, wait for its open requests, and return its summary by stream."""
        assert self.client is not None
        self.client.send_signal(signal.SIGTERM)
        return self.await_client(timeout_s)

    def await_client(self, timeout_s: float) -> dict[str, Any]:
        """Wait until the client ends by itself; return its summary by stream."""
        assert self.client is not None
        if self.client.wait(timeout_s) != 0:
            raise BenchError(f"the load client failed; see {self.setup.workdir / 'client.log'}")
        summary: dict[str, Any] = json.loads((self.setup.workdir / "client.json").read_text())
        return summary

    def stop_smsc(self) -> None:
        """Stop the carrier, which writes its tally at its end."""
        assert self.smsc is not None
        self.smsc.send_signal(signal.SIGTERM)
        self.smsc.wait(30)

    def stop(self) -> None:
        """End every process that was started, the gateway first so that it can drain."""
        order = [self.client, self.gateway, self.smsc]
        for process in order:
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(40)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(10)
        for log in self._logs:
            log.close()

    def wait(self, predicate: Callable[[], Any], what: str, timeout_s: float) -> None:
        """Poll until `predicate` holds; a process that died, or the time, ends the run with `what`."""
        deadline = time.monotonic() + timeout_s
        while not predicate():
            for name in ("gateway", "smsc"):
                process = getattr(self, name)
                if process is not None and process.poll() is not None:
                    raise BenchError(f"{name} ended with {process.returncode}: {self._tail(name)}")
            if time.monotonic() > deadline:
                raise BenchError(f"{what} within {timeout_s:.0f} s: {self._tail('gateway')}")
            time.sleep(0.05)

    def smsc_stats(self) -> dict[str, Any]:
        return _read_json(self.setup.smsc_stats)

    def client_stats(self) -> dict[str, Any]:
        return _read_json(self.setup.workdir / "client.stats")

    def metrics(self) -> dict[str, float]:
        """Return the samples of /metrics by their whole name with labels."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.setup.admin_port}/metrics",
            headers={"Authorization": f"Bearer {self.setup.token}"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            page = answer.read().decode()
        (self.setup.workdir / "metrics.txt").write_text(page)
        lines = page.splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def roles(self) -> dict[str, list[psutil.Process]]:
        """Return the running processes by role: api, dispatch, admin, store, supervisor, client, …"""
        roles: dict[str, list[psutil.Process]] = defaultdict(list)
        assert self.gateway is not None
        supervisor = psutil.Process(self.gateway.pid)
        roles["supervisor"].append(supervisor)
        for child in supervisor.children(recursive=True):
            try:
                roles[_role_of(child.cmdline())].append(child)
            except psutil.NoSuchProcess:
                continue
        if "store" not in roles:
            roles["store"].extend(_adopted_store(self.setup.data_dir))
        for name, process in (("client", self.client), ("simulator", self.smsc)):
            if process is not None and process.poll() is None:
                roles[name].append(psutil.Process(process.pid))
        return dict(roles)

    def store_socket(self) -> str:
        """Return the path of the embedded store's unix socket, as the server itself has it open."""
        for process in self.roles().get("store", []):
            for connection in process.net_connections(kind="unix"):
                if connection.laddr and str(connection.laddr).startswith("/"):
                    return str(connection.laddr)
        raise BenchError("the embedded store's socket was not found")

    def store_info(self) -> dict[str, Any]:
        """Return INFO of the store."""
        with redis.Redis(unix_socket_path=self.store_socket()) as client:
            info: dict[str, Any] = client.info()
        return info

    def aof_bytes(self) -> int:
        return sum(p.stat().st_size for p in self.setup.data_dir.rglob("*.aof"))

    def _ready(self) -> bool:
        url = f"http://127.0.0.1:{self.setup.admin_port}/readyz"
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _spawn(self, name: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        log = (self.setup.workdir / f"{name}.log").open("wb")
        self._logs.append(log)
        return subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=self._environment, cwd=self.setup.workdir
        )

    def _tail(self, name: str) -> str:
        text = (self.setup.workdir / f"{name}.log").read_text(errors="replace")
        return text[-2000:]


class BenchError(Exception):
    """The run could not be made, so there is no figure."""


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value


def _role_of(command: Sequence[str]) -> str:
    text = " ".join(command)
    if "gateway" in text:
        for role in ("api", "dispatch", "events", "admin"):
            if role in command:
                return role
    if any(name in text for name in ("valkey-server", "redis-server", "valkey", "redis")):
        return "store"
    return "other"


def _adopted_store(data_dir: Path) -> list[psutil.Process]:
    """Return the store's process when it is not the supervisor's child: by its open data directory."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if _role_of(process.info["cmdline"] or []) == "store":
            try:
                if str(data_dir) in process.cwd() or any(str(data_dir) in a for a in process.info["cmdline"]):
                    found.append(process)
            except psutil.Error:
                continue
    return found


@dataclass(slots=True)
class Sample:
    """The counters of one moment. Each count has the time at which its owner wrote it down."""

    at: float
    accepted: tuple[float, int]
    submitted: tuple[float, int]
    settled: tuple[float, int]
    cpu_s: dict[str, float]
    rss_bytes: dict[str, int]
    aof_bytes: int
    busy_s: float  # of all cores, whoever used them
    blocked_s: float  # of all cores, waiting for the disk

    @classmethod
    def take(cls, machine: Machine) -> Sample:
        smsc, client = machine.smsc_stats(), machine.client_stats()
        whole = psutil.cpu_times()
        cpu_s: dict[str, float] = {}
        rss: dict[str, int] = {}
        for role, processes in machine.roles().items():
            times = [p.cpu_times() for p in processes]
            cpu_s[role] = sum(t.user + t.system for t in times)
            rss[role] = sum(p.memory_info().rss for p in processes)
        return cls(
            at=time.monotonic(),
            accepted=(client.get("at", 0.0), client.get("accepted", 0)),
            submitted=(smsc.get("at", 0.0), smsc.get("submits", 0)),
            settled=(smsc.get("at", 0.0), smsc.get("settled", 0)),
            cpu_s=cpu_s,
            rss_bytes=rss,
            aof_bytes=machine.aof_bytes(),
            busy_s=sum(whole) - whole.idle - getattr(whole, "iowait", 0.0),
            blocked_s=getattr(whole, "iowait", 0.0),
        )


def rate(before: tuple[float, int], after: tuple[float, int]) -> float:
    return round((after[1] - before[1]) / max(1e-9, after[0] - before[0]), 1)


def percentiles(values: Iterable[float], scale: float = 1000.0) -> dict[str, float]:
    """Return p50, p99 and max of `values` (seconds), by default in milliseconds."""
    ordered = sorted(values)
    if not ordered:
        return {}
    last = len(ordered) - 1
    return {
        "p50": round(ordered[round(last * 0.50)] * scale, 2),
        "p99": round(ordered[round(last * 0.99)] * scale, 2),
        "max": round(ordered[last] * scale, 2),
        "n": len(ordered),
    }


class Ledgers:
    """The client's arrays and the carrier's tally of a finished run, joined by the message's place in it."""

    def __init__(self, setup: Setup, summary: dict[str, Any]) -> None:
        self._setup = setup
        self.summary = summary
        self.counts = Path(f"{setup.tally}.counts").read_bytes()
        self.first_at = _doubles(Path(f"{setup.tally}.first_at"))

    def requests(self, stream: str) -> list[tuple[int, float, float]]:
        """Return (place of the first message, sent at, answered at) of each request of a stream."""
        raw = _doubles(self._setup.workdir / f"client.{stream}.requests")
        first = self.summary[stream]["first"]
        return [(first + int(raw[i]), raw[i + 1], raw[i + 2]) for i in range(0, len(raw), 3)]

    def lost_and_duplicated(self) -> tuple[int, int]:
        """Return how many accepted messages the carrier never saw, and how many submits it saw too many."""
        lost = 0
        for name, stream in self.summary.items():
            accepted = (self._setup.workdir / f"client.{name}.accepted").read_bytes()
            seen = self.counts[stream["first"] : stream["first"] + len(accepted)]
            lost += sum(1 for ok, n in zip(accepted, seen, strict=True) if ok and not n)
        return lost, sum(n - 1 for n in self.counts if n > 1)

    def waits(self, stream: str, since: float, until: float) -> dict[str, list[float]]:
        """Return, by category, seconds from the request leaving the client to the submit_sm reaching the
        carrier.
        """
        plan = self.summary[stream]
        batch, pattern, first_place = plan["batch"], plan["pattern"], plan["first"]
        waits: dict[str, list[float]] = defaultdict(list)
        for first, sent_at, answered_at in self.requests(stream):
            if not since <= answered_at <= until:
                continue
            for place in range(first, min(first + batch, first_place + plan["offered"])):
                submitted_at = self.first_at[place]
                if submitted_at:
                    at = (place - first_place) if batch == 1 else (place - first)
                    waits[LABELS[pattern[at % len(pattern)]]].append(submitted_at - sent_at)
        return waits

    def accept_s(self, stream: str, since: float, until: float) -> list[float]:
        return [answered - sent for _, sent, answered in self.requests(stream) if since <= answered <= until]


def _doubles(path: Path) -> array[float]:
    values = array("d")
    values.frombytes(path.read_bytes())
    return values


async def load_blacklist(socket_path: str, setup: Setup) -> None:
    """Put BLACKLISTED numbers that the run never uses on the account's blacklist, as an operator's import would."""
    settings = load(setup.config_dir, setup.environment())
    store = await Store.open(settings, f"unix://{socket_path}")
    try:
        lists = Blacklists(store)
        for first in range(0, BLACKLISTED, PAGE):
            rows = [(f"86139{n:08d}", 7, "complaint") for n in range(first, min(first + PAGE, BLACKLISTED))]
            await lists.add_many("bench", rows, source="operator")
    finally:
        await store.close()


def drain(machine: Machine, accepted: int) -> int:
    """Wait until every accepted message is settled, or nothing has moved for five seconds; return how many
    are.
    """
    deadline = time.monotonic() + DRAIN_TIMEOUT_S
    last, moved_at = -1, time.monotonic()
    while time.monotonic() < deadline:
        settled = int(machine.smsc_stats().get("settled", 0))
        if settled >= accepted:
            break
        if settled != last:
            last, moved_at = settled, time.monotonic()
        if time.monotonic() - moved_at > 5.0:
            break
        time.sleep(0.1)
    time.sleep(1.5)  # the workers' counters reach /metrics once a second
    return int(machine.smsc_stats().get("settled", 0))


def cpu_us(before: Sample, after: Sample, messages: int) -> dict[str, float]:
    """Return CPU microseconds a message by role, between two samples."""
    return {
        role: round((after.cpu_s[role] - before.cpu_s.get(role, 0.0)) * 1e6 / max(1, messages), 2)
        for role in sorted(after.cpu_s)
    }


def cores(before: Sample, after: Sample) -> dict[str, float]:
    """Return how many cores were busy on average, how many with this run, and how many waited for the disk.

    Where `busy` is well above `this_run` other programs were at work, and the figures are not worth quoting.
    """
    seconds = after.at - before.at
    own = sum(after.cpu_s[role] - before.cpu_s.get(role, 0.0) for role in after.cpu_s)
    return {
        "busy": round((after.busy_s - before.busy_s) / seconds, 2),
        "this_run": round(own / seconds, 2),
        "waiting_for_disk": round((after.blocked_s - before.blocked_s) / seconds, 2),
    }


def delivered(machine: Machine) -> int:
    """Return how many receipts the gateway itself counts as recorded with state delivered."""
    prefix = "smsgw_receipts_total"
    return int(sum(v for k, v in machine.metrics().items() if k.startswith(prefix) and 'state="delivered"' in k))


def sample_records(machine: Machine, stream: dict[str, Any], run: str = "r") -> dict[str, int]:
    """Ask the HTTP API for RECORDS_SAMPLED accepted messages, evenly spread; return how many are in which state."""
    accepted = (machine.setup.workdir / "client.load.accepted").read_bytes()
    places = [stream["first"] + i for i, ok in enumerate(accepted) if ok]
    states: dict[str, int] = defaultdict(int)
    api = http.client.HTTPConnection("127.0.0.1", machine.setup.api_port, timeout=10)
    for place in places[:: max(1, len(places) // RECORDS_SAMPLED)]:
        query = f"/v1/messages?to=%2B86138{place:08d}&ref={run}-{place:08d}"
        api.request("GET", query, headers={"Authorization": f"Bearer {machine.setup.key}"})
        answer = api.getresponse()
        found = json.loads(answer.read())
        messages = found.get("messages", [found]) if answer.status == 200 else []
        states[messages[0]["state"] if len(messages) == 1 else f"{len(messages)} records"] += 1
    api.close()
    return dict(states)


def run_throughput(machine: Machine, args: argparse.Namespace) -> dict[str, Any]:
    """Modes batch and single: closed loop with a bound on what is outstanding, measured over the steady
    window.
    """
    batch = 100 if args.mode == "batch" else 1
    connections = args.connections or (16 if batch > 1 else 64)
    stream = {
        "name": "load",
        "pattern": PATTERN,
        "count": machine.setup.capacity,
        "batch": batch,
        "connections": connections,
        "max_outstanding": args.outstanding,
        "rate_per_s": args.rate,
        "rules": args.rules,
    }
    machine.start_client([stream])
    time.sleep(args.warmup)
    before = Sample.take(machine)
    time.sleep(args.steady)
    after = Sample.take(machine)
    memory = machine.store_info()
    summary = machine.finish_client()
    accepted = summary["load"]["accepted"]
    settled = drain(machine, accepted)
    on_record = delivered(machine)
    sampled = sample_records(machine, summary["load"])
    machine.stop_smsc()
    ledgers = Ledgers(machine.setup, summary)
    lost, duplicated = ledgers.lost_and_duplicated()
    messages = after.settled[1] - before.settled[1]
    waits = ledgers.waits("load", before.at, after.at)
    return {
        "steady_s": round(after.at - before.at, 1),
        "batch": batch,
        "connections": connections,
        "accepted_per_s": rate(before.accepted, after.accepted),
        "submitted_per_s": rate(before.submitted, after.submitted),
        "recorded_per_s": rate(before.settled, after.settled),
        "accept_ms": percentiles(ledgers.accept_s("load", before.at, after.at)),
        "post_to_submit_ms": {label: percentiles(values) for label, values in sorted(waits.items())},
        "cpu_us_per_message": cpu_us(before, after, messages),
        "cores": cores(before, after),
        "aof_bytes_per_message": round((after.aof_bytes - before.aof_bytes) / max(1, messages)),
        "rss_mb": _mb(after.rss_bytes),
        "redis_used_memory_mb": round(memory["used_memory"] / 1e6, 1),
        "accepted": accepted,
        "rejected": summary["load"]["rejected"],
        "backpressure": summary["load"]["backpressure"],
        "codes": summary["load"]["codes"],
        "settled": settled,
        "receipts_recorded": on_record,
        "records_sampled": sampled,
        "lost": lost + max(0, accepted - min(settled, on_record)),
        "duplicated": duplicated,
    }


def run_priority(machine: Machine, args: argparse.Namespace) -> dict[str, Any]:
    """Mode priority: verification probes behind a marketing queue, first alone, then while batches keep
    arriving.
    """
    queued = args.queued or 20_000
    phase_s = args.steady / 2
    flood_first, probe_first = queued, machine.setup.capacity - 100_000
    machine.start_client([_marketing("backlog", 0, queued)], feedback=False)
    backlog = machine.await_client(120)
    if backlog["backlog"]["accepted"] != queued:
        raise BenchError(f"only {backlog['backlog']['accepted']} of {queued} were queued: {backlog}")
    flood = _marketing("flood", flood_first, probe_first - flood_first)
    flood |= {"start_s": phase_s, "duration_s": phase_s, "rate_per_s": args.rate or 6_000.0}
    machine.start_client([_probes(probe_first, args, args.steady), flood], feedback=False)
    began = time.monotonic()
    summary = machine.await_client(args.steady + 60)
    time.sleep(1.0)
    machine.stop_smsc()
    ledgers = Ledgers(machine.setup, summary)
    middle, end = began + phase_s, began + args.steady + 60
    quiet = ledgers.waits("probe", began, middle).get("verification", [])
    flooded = ledgers.waits("probe", middle, end).get("verification", [])
    return {
        "queued": queued,
        "max_tps": machine.setup.max_tps,
        "flood_per_s": round(summary["flood"]["accepted"] / phase_s, 1),
        "verification_post_to_submit_ms": {
            "behind_backlog": percentiles(quiet),
            "while_flooded": percentiles(flooded),
        },
        "probe_accept_ms": {
            "behind_backlog": percentiles(ledgers.accept_s("probe", began, middle)),
            "while_flooded": percentiles(ledgers.accept_s("probe", middle, end)),
        },
        "probes_lost": summary["probe"]["accepted"] - len(quiet) - len(flooded),
    }


def run_backlog(machine: Machine, args: argparse.Namespace) -> dict[str, Any]:
    """Mode backlog: a million queued; what they cost in memory, and how long verification waits then."""
    queued = args.queued or 1_000_000
    probe_first = machine.setup.capacity - 100_000
    empty, empty_info = Sample.take(machine), machine.store_info()
    began = time.monotonic()
    machine.start_client([_marketing("backlog", 0, queued)], feedback=False)
    summary = machine.await_client(900)
    filled_s = time.monotonic() - began
    full, full_info = Sample.take(machine), machine.store_info()
    machine.start_client([_probes(probe_first, args, args.steady)], feedback=False)
    began = time.monotonic()
    probes = machine.await_client(args.steady + 60)
    time.sleep(1.0)
    last = Sample.take(machine)
    waiting = machine.smsc_stats().get("submits", 0)
    machine.stop_smsc()
    ledgers = Ledgers(machine.setup, probes)
    waits = ledgers.waits("probe", began, time.monotonic()).get("verification", [])
    stored = summary["backlog"]["accepted"]
    in_queue = max(1, stored - waiting)
    used = full_info["used_memory"] - empty_info["used_memory"]
    return {
        "queued": stored,
        "codes": summary["backlog"]["codes"],
        "queued_per_s": round(stored / filled_s, 1),
        "redis_used_memory_mb": round(full_info["used_memory"] / 1e6, 1),
        "redis_rss_mb": round(full_info["used_memory_rss"] / 1e6, 1),
        "redis_bytes_per_queued": round(used / in_queue),
        "rss_mb_before": _mb(empty.rss_bytes),
        "rss_mb_full": _mb(full.rss_bytes),
        "rss_mb_after": _mb(last.rss_bytes),
        "verification_post_to_submit_ms": percentiles(waits),
        "probes_lost": probes["probe"]["accepted"] - len(waits),
    }


def run_idle(machine: Machine, args: argparse.Namespace) -> dict[str, Any]:
    """Mode idle: bound and ready, nothing to do; share of one core by role."""
    time.sleep(min(5.0, args.warmup))
    before = Sample.take(machine)
    time.sleep(args.steady)
    after = Sample.take(machine)
    percent = {
        role: round((after.cpu_s[role] - before.cpu_s.get(role, 0.0)) / (after.at - before.at) * 100, 2)
        for role in sorted(after.cpu_s)
    }
    return {
        "seconds": round(after.at - before.at, 1),
        "cpu_percent_of_a_core": percent,
        "gateway_cpu_percent": round(sum(v for k, v in percent.items() if k not in ("client", "simulator")), 2),
        "rss_mb": _mb(after.rss_bytes),
    }


def _marketing(name: str, first: int, count: int) -> dict[str, Any]:
    return {"name": name, "pattern": "m", "first": first, "count": count, "batch": 100, "connections": 4}


def _probes(first: int, args: argparse.Namespace, duration_s: float) -> dict[str, Any]:
    return {
        "name": "probe",
        "pattern": "v",
        "first": first,
        "count": 100_000,
        "batch": 1,
        "connections": 4,
        "rate_per_s": args.probe_rate,
        "duration_s": duration_s,
    }


def _mb(by_role: dict[str, int]) -> dict[str, float]:
    return {role: round(n / 1e6, 1) for role, n in sorted(by_role.items())}


MODES: dict[str, Callable[[Machine, argparse.Namespace], dict[str, Any]]] = {
    "batch": run_throughput,
    "single": run_throughput,
    "priority": run_priority,
    "backlog": run_backlog,
    "idle": run_idle,
}


def about_machine() -> dict[str, Any]:
    """Return what a reader needs to judge the figures."""
    model = ""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        pass
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu": model,
        "python": platform.python_version(),
        "system": platform.system(),
    }


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=sorted(MODES), default="batch")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, and exit 1 if anything was lost")
    parser.add_argument("--warmup", type=float, default=8.0, help="seconds before the steady window")
    parser.add_argument("--steady", type=float, default=30.0, help="seconds measured")
    parser.add_argument("--connections", type=int, default=0, help="0: 16 for batches, 64 for single messages")
    parser.add_argument("--rate", type=float, default=0.0, help="messages a second; 0: as fast as answers come")
    parser.add_argument("--outstanding", type=int, default=40_000, help="accepted and not yet settled, at most")
    parser.add_argument("--queued", type=int, default=0, help="priority: 20,000; backlog: 1,000,000")
    parser.add_argument("--probe-rate", type=float, default=20.0, help="verification probes a second")
    parser.add_argument("--max-tps", type=int, default=0, help="0: none, but 200 in modes priority and backlog")
    parser.add_argument("--api-workers", type=int, default=1)
    parser.add_argument("--dispatch-workers", type=int, default=1)
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--rules", action="store_true", help="with every rule of the categories on")
    parser.add_argument("--no-checks", action="store_true", help="without caps, limits and blacklist")
    parser.add_argument("--keep", type=Path, help="work in this directory and leave it")
    args = parser.parse_args(argv)
    if args.smoke:
        args.warmup, args.steady = min(args.warmup, 1.5), min(args.steady, 3.0)
        args.queued = args.queued or (2_000 if args.mode == "priority" else 20_000)
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run one mode and print its JSON line."""
    args = parse(argv)
    workdir = args.keep or Path(tempfile.mkdtemp(prefix="smsgw-bench-"))
    workdir.mkdir(parents=True, exist_ok=True)
    throttled = args.mode in ("priority", "backlog")
    setup = Setup(
        workdir=workdir,
        api_workers=args.api_workers,
        dispatch_workers=args.dispatch_workers,
        max_tps=args.max_tps or (200 if throttled else 0),
        shards=args.shards,
        checks=not args.no_checks,
        rules=args.rules,
    )
    machine = Machine(setup)
    try:
        machine.start()
        if setup.checks:
            asyncio.run(load_blacklist(machine.store_socket(), setup))
        result = {
            "mode": args.mode,
            **MODES[args.mode](machine, args),
            "durability": setup.durability,
            "checks": "all, and every rule" if setup.rules else "all" if setup.checks else "none",
            "machine": about_machine(),
        }
    except (BenchError, urllib.error.URLError) as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 2
    finally:
        machine.stop()
        if not args.keep:
            shutil.rmtree(workdir, ignore_errors=True)
    print(json.dumps(result, ensure_ascii=False))
    return 1 if result.get("lost") or result.get("duplicated") or result.get("probes_lost") else 0


if __name__ == "__main__":
    sys.exit(main())
