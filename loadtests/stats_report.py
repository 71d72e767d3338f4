"""How long a month's report takes: synthetic statistics of 100 accounts in a real store, and the questions people ask.

    python loadtests/stats_report.py [--accounts 100] [--days 30]        # or: make bench-stats

Writes the tables of past days as the fold writes them, and the counters of the hour that is still open; then measures
folding one hour and each question, through the same calls as the admin listener. Prints one JSON line (milliseconds:
the middle of three). Exit 1 when one of `PROMISED` takes a second or more.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gateway import statistics
from gateway.settings import Settings
from gateway.store.statistics import Statistics
from gateway.store.stats_table import CONTENT, PATH, US, Table, narrowed, pack
from gateway.store.store import Store
from tests.support.valkey import ValkeyServer

CARRIERS = ("china-mobile", "china-unicom", "china-telecom")
CHANNELS = ("primary", "backup")
TAKEN = ("s", "+", "$", "u", "E", "K")
REASONS = ("absent", "unknown_number", "blocked_by_carrier")
QUESTIONS: dict[str, dict[str, str]] = {
    "total": {},
    "by_account": {"by": "account"},
    "by_day": {"by": "day"},
    "by_account_day": {"by": "account,day"},
    "by_channel_carrier": {"by": "channel,carrier"},
    "by_reason": {"by": "reason"},
    "by_campaign_one_account": {"by": "campaign,variant", "account": "account-007"},
    "by_day_zone": {"by": "day", "zone": "+08:00"},
    "by_account_zone": {"by": "account,day", "zone": "+08:00"},
    "by_campaign": {"by": "campaign"},
}
PROMISED = tuple(name for name in QUESTIONS if name != "by_account_zone")


def counts(account: int, day: int, random_: random.Random) -> dict[str, dict[str, int]]:
    """Return what an account counts: three carriers, ten kinds of messages, two channels; 870 counters."""
    kinds = [(f"otp-{i}", "", "", "0") for i in range(2)]
    kinds += [(f"order-{i}", "", "", "1") for i in range(4)]
    kinds += [("", f"run-{account}-{day // 7}-{i}", variant, "2") for i in range(2) for variant in "ab"]
    found: dict[str, dict[str, int]] = {}
    for carrier in CARRIERS:
        for template, campaign, variant, category in kinds:
            front = US.join((carrier, "cn-mobile", template, campaign, variant, category))
            found[f"{front}{US}"] = {f"accepted{US}": random_.randrange(1, 5_000)}
            for channel in CHANNELS:
                numbers = {f"{outcome}{US}": random_.randrange(1, 5_000) for outcome in TAKEN}
                numbers |= {f"U{US}{reason}": random_.randrange(1, 99) for reason in REASONS}
                numbers |= {f"D{US}t{n}": random_.randrange(1, 999) for n in range(5)}
                found[f"{front}{US}{channel}"] = numbers
    return found


async def fill(store: Store, accounts: int, days: int) -> tuple[int, int]:
    """Write the days before today, as folded; returns the octets of the tables by days and by hours of one day."""
    today, seeded = int(time.time()) // 86_400, random.Random(4)
    for day in range(today - days, today):
        hourly: list[Any] = []
        daily: list[Any] = []
        whole = Table()
        whole_hours = Table()
        for account in range(accounts):
            name, own = f"account-{account:03}", counts(account, day, seeded)
            path = narrowed(own, PATH)
            kinds = {name: own, f"{name}{US}p": path, f"{name}{US}c": narrowed(own, CONTENT)}
            whole.add(day * 24, path)
            for table, numbers in kinds.items():
                daily += (table, _packed(numbers, [day * 24]))
            if account % 10 == 0:  # the rest share it: making them all takes longer than the measurement
                hours = range(day * 24, day * 24 + 24)
                packed = [_packed(numbers, hours) for numbers in kinds.values()]
                for hour in hours:
                    whole_hours.add(hour, path)
            for table, raw in zip(kinds, packed, strict=True):
                hourly += (table, raw)
        daily += (f"{US}m", pack(whole))
        hourly += (f"{US}m", pack(whole_hours))
        prefix = store.prefixes[0]
        await store.client.execute("HSET", f"{prefix}statd:{day}", *daily, timeout_s=30)
        await store.client.execute("HSET", f"{prefix}stath:{day}", *hourly, timeout_s=30)
    return sum(len(raw) for raw in daily[1::2]), sum(len(raw) for raw in hourly[1::2])


def _packed(numbers: dict[str, dict[str, int]], hours: Sequence[int]) -> bytes:
    table = Table()
    for hour in hours:
        table.add(hour, numbers)
    return pack(table)


async def count_hour(store: Store, hour: int, accounts: int) -> int:
    """Write one hour's counters as the scripts count them; returns how many."""
    seeded, fields = random.Random(5), 0
    for account in range(accounts):
        flat: list[Any] = []
        for label, numbers in counts(account, hour // 24, seeded).items():
            for measure, n in numbers.items():
                flat += (US.join((f"account-{account:03}", label, measure)), n)
        fields += len(flat) // 2
        await store.client.execute("HSET", f"{store.prefixes[0]}stats:{hour}", *flat)
    return fields


async def measure(url: str, accounts: int, days: int) -> dict[str, Any]:
    """Return the figures."""
    store = await Store.open(Settings(config_dir=Path("config")), url, incarnation="bench001")
    try:
        statistics_ = Statistics(store)
        octets = await fill(store, accounts, days)
        now = time.time()
        fields = await count_hour(store, int(now) // 3_600 - 2, accounts)
        started = time.perf_counter()
        folded = await statistics_.fold(grace_s=0)
        fold_s = time.perf_counter() - started
        await count_hour(store, int(now) // 3_600, accounts)
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)  # as a worker's (gateway/worker.py)
        figures: dict[str, Any] = {}
        since = time.strftime("%Y-%m-%d", time.gmtime(now - days * 86_400))
        for name, asked in QUESTIONS.items():
            best = []
            for _ in range(3):
                query = statistics.parse({"from": since, **asked}, now_s=now)
                started = time.perf_counter()
                answer = (await statistics.collect(query, statistics_)).answer()
                best.append(round((time.perf_counter() - started) * 1000))
            figures[name] = {"ms": sorted(best)[1], "rows": len(answer["rows"])}
        return {
            "accounts": accounts,
            "days": days,
            "counters_a_day": fields,
            "fold_hour_s": round(fold_s, 2),
            "folded": folded,
            "bytes_an_account_and_day": {"by_day": octets[0] // accounts, "by_hour": octets[1] // accounts},
            "questions": figures,
        }
    finally:
        await store.close()


def main() -> int:
    """Start a store, measure, print; exit 1 when a month's report takes a second or more."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", type=int, default=100)
    parser.add_argument("--days", type=int, default=30)
    options = parser.parse_args()
    server = ValkeyServer(appendfsync="no")
    server.start()
    try:
        found = asyncio.run(measure(server.url, options.accounts, options.days))
    finally:
        server.stop()
    print(json.dumps(found))
    return 0 if all(found["questions"][name]["ms"] < 1_000 for name in PROMISED) else 1


if __name__ == "__main__":
    raise SystemExit(main())
