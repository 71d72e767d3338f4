"""Metrics: every name, label and bucket of the gateway, counted in plain numbers and exposed in one place.

Owns the table of families below, the cells that workers increment, the snapshot each worker writes once a
second, and the hub that adds the snapshots up for Prometheus. Refuses to know who counts what: callers take a
cell once, keep it, and add to an attribute; `labels()` plus `observe()` of prometheus-client cost 2 µs a
call, which eight times a message would be half of the whole budget. Stands beside the path.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import resource
import sys
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

PREFIX: Final = "smsgw_"
OTHER: Final = "other"

# Seconds. Fine around 100 ms, where the promise for verification lies, up to an hour for queued marketing.
LATENCY_S: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0,
)  # fmt: skip
COMMIT_S: Final = (
    0.0005,
    0.001,
    0.002,
    0.003,
    0.005,
    0.0075,
    0.01,
    0.02,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
)
DELAY_S: Final = (
    0.1,
    0.5,
    1.0,
    2.0,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
    1800.0,
    3600.0,
    21600.0,
    86400.0,
    259200.0,
)
BATCH: Final = (1, 2, 5, 10, 20, 50, 100, 150, 200, 500, 1000)


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: what it counts, its labels, and how the workers' values become one."""

    kind: str  # counter | gauge | histogram
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()  # upper bounds, ascending, without +Inf
    merge: str = "sum"  # gauges: sum | max | min over the living workers
    max_series: int = 400  # above it a new label set is counted as `other`: a label can never flood the store


def _counter(text: str, *labels: str, max_series: int = 400) -> Family:
    return Family("counter", text, labels, max_series=max_series)


def _gauge(text: str, *labels: str, merge: str = "sum", max_series: int = 400) -> Family:
    return Family("gauge", text, labels, merge=merge, max_series=max_series)


def _histogram(text: str, buckets: tuple[float, ...], *labels: str, max_series: int = 60) -> Family:
    return Family("histogram", text, labels, buckets, max_series=max_series)


# Label values come from configured sets only (category, route, channel, account, state, code): never a
# number, a text, an id, a path with an id or a raw error.
FAMILIES: Final[dict[str, Family]] = {
    # --- what happened to messages
    "messages_total": _counter(
        "Messages by what became of them: the state at acceptance, each final state, and refused.",
        "category", "route", "state", "reason", max_series=1500,
    ),
    "account_messages_total": _counter(
        "Messages an account posted: accepted, or the code they were refused with. Repeats are not counted again.",
        "account", "result", max_series=1000,
    ),
    "deliveries_total": _counter(
        "Messages that ended by their receipt or for want of one (delivered, undeliverable, rejected, expired, "
        "unknown), and late corrections.", "channel", "category", "state", max_series=1000,
    ),
    "content_hits_total": _counter(
        "Texts that held a word of content_words.csv, by the word's id.", "rule", "action", max_series=200
    ),
    "accept_seconds": _histogram("From the whole request read to its answer.", LATENCY_S),
    "accept_to_submit_seconds": _histogram(
        "From the time a message was due to its first submit_sm.", LATENCY_S, "category"
    ),
    "possible_duplicates_total": _counter("Copies sent while the first may have arrived.", "cause", max_series=20),
    # --- the HTTP side
    "http_requests_total": _counter("Requests answered.", "endpoint", "status"),
    "http_connections": _gauge("Open client connections."),
    "http_connections_closed_total": _counter("Connections closed by our own guards.", "cause", max_series=20),
    # --- queues and store (read once, in the admin worker)
    "queue_depth": _gauge("Queue entries waiting.", "route", "rank", "category", merge="max", max_series=600),
    "queue_oldest_age_seconds": _gauge(
        "Age of the oldest waiting entry.", "route", "rank", "category", merge="max", max_series=600
    ),
    "parked_receipts": _gauge("Receipts whose message is not known yet.", "channel", merge="max", max_series=200),
    "webhook_backlog": _gauge("Events waiting for an account's webhook.", "account", merge="max"),
    "webhook_oldest_age_seconds": _gauge(
        "Age of the event at the head of an account's line.", "account", merge="max"
    ),
    "webhook_dead_letters": _gauge("Events given up and kept (`smsgw webhooks`).", "account", merge="max"),
    "webhook_deliveries_total": _counter(
        "Events by what became of a call with them, and dead letters.", "account", "result", max_series=600
    ),
    "webhook_seconds": _histogram("Duration of one call to a webhook.", LATENCY_S, max_series=1),
    "waiting_messages": _gauge("Stored messages that wait to be sent.", merge="max"),
    "store_memory_bytes": _gauge("Memory of the store: used, and the limit.", "kind", merge="max", max_series=20),
    "store_intake": _gauge("What the store has room for: 0 everything, 1 verification, 2 nothing.", merge="max"),
    "disk_bytes": _gauge("Disk of store.data_dir: free, and total.", "kind", merge="max", max_series=20),
    "store_ready": _gauge("1 while the store keeps its durability promise.", merge="min"),
    "store_setting_mismatch": _gauge(
        "1 for each store setting that is weaker than the promise.", "setting", merge="max"
    , max_series=50),
    "store_restarts_total": _counter("Restarts of the embedded store."),
    # --- store calls
    "store_batch_size": _histogram("Items in one call to the store.", BATCH, "move"),
    "store_commit_seconds": _histogram("Duration of one store call, fsync included.", COMMIT_S, "move"),
    "store_errors_total": _counter("Calls to the store that failed.", "move", "kind", max_series=200),
    "statistics_folds_total": _counter("Hours of statistics folded into tables, a shard each."),
    "statistics_fold_failures_total": _counter("Rounds in which statistics could not be folded."),
    # --- channels
    "submits_total": _counter("submit_sm answered, by command_status.", "channel", "status", max_series=600),
    "submit_response_seconds": _histogram("From submit_sm to its response.", LATENCY_S, "channel"),
    "receipts_total": _counter("Receipts by state, and parked, duplicate, quarantined.", "channel", "state"),
    "receipt_delay_seconds": _histogram("From the submit to its receipt.", DELAY_S, "channel"),
    "channel_up": _gauge("1 while at least one session can submit.", "channel", merge="max", max_series=200),
    "channel_sessions": _gauge("Sessions by state.", "channel", "state", max_series=200),
    "channel_window_used": _gauge("Submitted and unanswered PDUs.", "channel", max_series=200),
    "channel_tps_limit": _gauge("Rate in force: parts a second.", "channel", merge="max", max_series=200),
    "binds_total": _counter("Binds tried, by result.", "channel", "result"),
    "smpp_faults_total": _counter("Faults of the peer's protocol.", "channel", "kind"),
    "channel_left_out": _gauge(
        "1 for a field the SMSC refused and gets no more.", "channel", "field", merge="max", max_series=200
    ),
    "deferred_total": _counter("Messages that wait for a window, by where that was decided.", "where", max_series=8),
    "late_results_total": _counter("Responses after the timer or after the lease.", "channel", max_series=200),
    "inbound_total": _counter("Messages from handsets (MO).", "channel", max_series=200),
    "inbound_read_total": _counter(
        "Messages from handsets, and parts: stop, start, review, other, partial, repeated, part, repeated_part.",
        "channel", "what", max_series=200,
    ),
    "inbound_review_waiting": _gauge("Replies that a person should read (`smsgw inbound`).", merge="max"),
    "blacklist_entries": _gauge("Numbers listed, by reason, over all scopes.", "reason", merge="max", max_series=20),
    "inbound_ended_total": _counter("Waiting messages that an opt-out ended.", "channel", max_series=64),
    "optout_alarms_total": _counter("Opt-outs beyond what is usual within an hour.", "channel", "cause", max_series=64),
    "failovers_total": _counter("Messages moved to another rank.", "route", "from", "to", "cause"),
    "dispatch_errors_total": _counter("Faults inside a dispatch worker.", "where", max_series=20),
    "channel_breaker": _gauge("Breaker: 0 closed, 1 half open, 2 open.", "channel", merge="max", max_series=200),
    "channel_operator": _gauge(
        "What an operator says: 0 run, 1 pause, 2 drain.", "channel", merge="max", max_series=200
    ),
    "breaker_opened_total": _counter("Times a worker saw a breaker open.", "channel", max_series=200),
    "channel_alarms_total": _counter("Answers that mean a fault of the channel or of ours.", "channel", "outcome"),
    "channel_delivered_ratio": _gauge("Share of rated messages delivered.", "channel", merge="max", max_series=64),
    "channel_receipt_share": _gauge("Share of messages with a receipt.", "channel", merge="max", max_series=64),
    "channel_receipt_p95_seconds": _gauge("Within this 95 % of receipts come.", "channel", merge="max", max_series=64),
    "channel_share": _gauge(
        "Share of a route's traffic where quality decides.", "route", "category", "channel", merge="max", max_series=200
    ),
    "redeliveries_total": _counter("Decisions about copies on another channel.", "decision", max_series=4),
    # --- what receipts look like as a whole (over receipts.signals_window_s)
    "unknown_failure_codes_total": _counter(
        "Failed receipts whose code no table has (`smsgw codes unknown`).", "channel", max_series=64
    ),
    "receipts_impossible_total": _counter(
        "Receipts that say delivered for a number nobody has.", "channel", max_series=64
    ),
    "receipts_rated": _gauge("Messages that ended by their receipt, or without one.", "channel", merge="max",
                             max_series=64),
    "receipts_delivered_ratio": _gauge("Share of these that were delivered.", "channel", merge="max", max_series=64),
    "receipt_delay_p50_seconds": _gauge("Half of the deliveries within this.", "channel", merge="max", max_series=64),
    "receipt_delay_p90_seconds": _gauge("90 % of the deliveries within this.", "channel", merge="max", max_series=64),
    "receipt_delay_std_seconds": _gauge("Spread of the delay of deliveries.", "channel", merge="max", max_series=64),
    "receipts_fast_share": _gauge("Share of deliveries within one second.", "channel", merge="max", max_series=64),
    "templates": _gauge("Versions of templates that a worker knows.", merge="max"),
    # --- ported numbers
    "ported_rows": _gauge("Numbers in the imported table of a country.", "country", merge="max", max_series=20),
    "ported_learned": _gauge("Numbers learned from receipts that a worker knows.", merge="max"),
    "ported_learned_total": _counter(
        "Receipts that taught a ported number, by the carrier left.", "carrier", max_series=20
    ),
    "ported_faults_total": _counter("Tables refused, and reads of learned numbers that failed.", "what", max_series=5),
    # --- processes
    "worker_up": _gauge("1 for each running worker.", "role", "worker", max_series=100),
    "worker_ready": _gauge("1 while the worker can do its work.", "role", "worker", merge="min", max_series=100),
    "worker_restarts_total": _counter("Workers restarted after an unexpected end.", "role", max_series=20),
    "worker_cpu_seconds_total": _counter("CPU time used.", "role", "worker", max_series=100),
    "worker_memory_bytes": _gauge("Resident memory.", "role", "worker", max_series=100),
    "worker_open_files": _gauge("Open files and sockets.", "role", "worker", max_series=100),
    "worker_open_files_limit": _gauge("How many it may open.", "role", "worker", max_series=100),
    "event_loop_lag_seconds": _gauge(
        "How late a one-second timer was, the latest of the last 15.", "role", merge="max", max_series=20
    ),
    "log_records_total": _counter("Log records written.", "level", max_series=20),
    "log_suppressed_total": _counter(
        "Log records dropped by the rate limit of their source, or (writer) by a target that takes no more.",
        "source", max_series=100,
    ),
    "message_records_total": _counter("Records of changes of messages that were logged.", max_series=1),
    "trace_spans_total": _counter("Spans by what became of them: exported, dropped, failed.", "result", max_series=4),
    # --- configuration
    "config_reload_success": _gauge("1 when the last reading of the configuration succeeded.", merge="min"),
    "config_revision_info": _gauge("The configuration in force, by its digest.", "revision", merge="max", max_series=9),
    "config_revision": _gauge("Number of the revision that runs: the lowest of this machine's workers.", merge="min"),
    "config_files_differ": _gauge("1 while this machine's files say something else than is in force.", merge="max"),
    "config_reloads_total": _counter("Changes of the configuration that were asked for here.", "result", max_series=8),
}  # fmt: skip


class Cell:
    """One counter or gauge series. The path adds to `n` and nothing else."""

    __slots__ = ("n",)

    def __init__(self) -> None:
        self.n: float = 0


class Hist:
    """One histogram series: plain counts by bucket, made cumulative only when exposed."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, n: int = 1) -> None:
        """Count `n` observations of `value` (a bound belongs to its bucket, as Prometheus' `le` says)."""
        self.counts[bisect_left(self.bounds, value)] += n
        self.sum += value * n


class Metrics:
    """The cells of one worker process.

    `counter`, `gauge` and `histogram` look a series up and are meant for start-up; keep what they return.
    Names and labels must stand in FAMILIES: an unknown one is a fault of the program (KeyError, ValueError).
    """

    def __init__(self, role: str, worker: str, incarnation: str = "") -> None:
        self.role = role
        self.worker = worker
        self.incarnation = incarnation or f"{role}-{worker}-{os.getpid()}"
        self._cells: dict[str, dict[tuple[str, ...], Cell]] = {}
        self._hists: dict[str, dict[tuple[str, ...], Hist]] = {}
        self._cpu = self.counter("worker_cpu_seconds_total", role=role, worker=worker)
        self._memory = self.gauge("worker_memory_bytes", role=role, worker=worker)
        self._files = self.gauge("worker_open_files", role=role, worker=worker)
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.gauge("worker_open_files_limit", role=role, worker=worker).n = most
        self.gauge("worker_up", role=role, worker=worker).n = 1

    def counter(self, name: str, **labels: str) -> Cell:
        """Return the counter series `name{labels}`; add to its `.n`."""
        return self._cell(name, "counter", labels)

    def gauge(self, name: str, **labels: str) -> Cell:
        """Return the gauge series `name{labels}`; set its `.n`."""
        return self._cell(name, "gauge", labels)

    def histogram(self, name: str, **labels: str) -> Hist:
        """Return the histogram series `name{labels}`; call its `.observe(value, n)`."""
        family = _family(name, "histogram")
        return _series(self._hists, name, family, labels, lambda: Hist(family.buckets))

    def forget(self, name: str, **labels: str) -> None:
        """Drop a counter's or gauge's series: what it told of is no more."""
        self._cells.get(name, {}).pop(tuple(str(labels[label]) for label in FAMILIES[name].labels), None)

    def _cell(self, name: str, kind: str, labels: Mapping[str, str]) -> Cell:
        return _series(self._cells, name, _family(name, kind), labels, Cell)

    def drop_gauges(self, **labels: str) -> None:
        """Forget every gauge series that has these labels: what they stand for has left the configuration."""
        for name, series in self._cells.items():
            family = FAMILIES[name]
            if family.kind == "gauge" and labels.keys() <= set(family.labels):
                places = [(family.labels.index(label), value) for label, value in labels.items()]
                for key in [key for key in series if all(key[at] == value for at, value in places)]:
                    del series[key]

    def snapshot(self) -> dict[str, Any]:
        """Return every series: `cells` [name, labels, n], `hists` [name, labels, counts, sum]."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self._cpu.n = round(usage.ru_utime + usage.ru_stime, 3)
        self._memory.n = _resident_bytes()
        self._files.n = _open_files()
        return {
            "v": 1,
            "incarnation": self.incarnation,
            "role": self.role,
            "worker": self.worker,
            "pid": os.getpid(),
            "pid_started": _process_start(os.getpid()),
            "pid_namespace": _pid_namespace(),
            "cells": [[name, labels, c.n] for name, by in self._cells.items() for labels, c in by.items()],
            "hists": [
                [name, labels, h.counts[:], h.sum] for name, by in self._hists.items() for labels, h in by.items()
            ],
        }


_S = TypeVar("_S", Cell, Hist)


def _family(name: str, kind: str) -> Family:
    family = FAMILIES[name]
    if family.kind != kind:
        raise ValueError(f"{name} is a {family.kind}, not a {kind}")
    return family


def _series(
    store: dict[str, dict[tuple[str, ...], _S]],
    name: str,
    family: Family,
    labels: Mapping[str, str],
    make: Callable[[], _S],
) -> _S:
    if labels.keys() != set(family.labels):
        raise ValueError(f"{name} has the labels {family.labels}, not {tuple(labels)}")
    key = tuple(str(labels[label]) for label in family.labels)
    series = store.setdefault(name, {})
    if key not in series:
        if len(series) >= family.max_series:
            key = (OTHER,) * len(key)
        if key not in series:
            series[key] = make()
    return series[key]


# --- snapshots on disk


def snapshot_dir(data_dir: Path) -> Path:
    """Return where the workers of one data directory leave their snapshots."""
    return data_dir / "run" / "metrics"


HEARTBEAT_S: Final = 5.0
"""A snapshot is written when something changed, and at least this often: its age says who is alive."""
_LAG_SECONDS: Final = 15
"""As long as the usual pause between two scrapes: a stall between them shows in the next one."""


class SnapshotWriter:
    """Writes one worker's snapshot to `<directory>/<incarnation>.json`, whole or not at all."""

    def __init__(self, metrics: Metrics, directory: Path) -> None:
        self._metrics = metrics
        self._path = directory / f"{metrics.incarnation}.json"
        self._last: Any = None
        self._written_at = float("-inf")
        self._lag = metrics.gauge("event_loop_lag_seconds", role=metrics.role)
        self._lags: deque[float] = deque(maxlen=_LAG_SECONDS)

    async def run(self, interval_s: float = 1.0) -> None:
        """Write once a second until cancelled, and a last time then; its lateness is the lag metric."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                due = loop.time() + interval_s
                await asyncio.sleep(interval_s)
                self._lags.append(round(max(0.0, loop.time() - due), 3))
                self._lag.n = max(self._lags)
                self.write()
        finally:
            self.write(final=True)

    def write(self, *, final: bool = False) -> None:
        """Write now. A snapshot that only repeats the last one is skipped until its heartbeat is due.

        `final` marks the worker's end: the hub may fold it at once. A full disk must not stop a worker, so an
        OSError here is only lost resolution: the next second tries again.
        """
        snapshot = self._metrics.snapshot()
        state = (_without_noise(snapshot["cells"]), snapshot["hists"])
        now = time.monotonic()
        if not final and state == self._last and now - self._written_at < HEARTBEAT_S:
            return
        if final:
            snapshot["final"] = True
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _write_atomically(self._path, snapshot)
            self._last, self._written_at = state, now


_NOISE = ("worker_cpu_seconds_total", "worker_memory_bytes", "worker_open_files", "event_loop_lag_seconds")


def _without_noise(cells: list[list[Any]]) -> list[list[Any]]:
    return [cell for cell in cells if cell[0] not in _NOISE]


def _write_atomically(path: Path, value: Any) -> None:
    # No fsync: these are counters, and the store's fsync on the same disk must not wait for them.
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(orjson.dumps(value))
    temporary.replace(path)


# --- the admin side

_BASE: Final = "base.json"
_FILES_MOST: Final = 256
_READ_TRIES: Final = 3
_DEAD_AFTER_S = 3 * HEARTBEAT_S
_Key = tuple[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class GaugeReading:
    """One value read from the store for a gauge family; `labels` in the family's order."""

    name: str
    labels: tuple[str, ...]
    value: float


@dataclass(frozen=True, slots=True)
class Series:
    """Some families as they are now, over all workers: (name, label values) → value, or counts by bucket."""

    counters: dict[_Key, float]
    gauges: dict[_Key, float]
    hists: dict[_Key, list[int]]


class _Totals:
    """Sums by series; gauges keep the list of values until their family's merge rule is applied."""

    def __init__(self, only: frozenset[str] | None = None) -> None:
        self._only = only
        self.counters: dict[_Key, float] = {}
        self.gauges: dict[_Key, list[float]] = {}
        self.hists: dict[_Key, tuple[list[int], float]] = {}

    def add(self, snapshot: Mapping[str, Any], *, with_gauges: bool) -> None:
        only = self._only
        for name, labels, n in snapshot.get("cells", ()):
            if only is not None and name not in only:
                continue
            family, key = FAMILIES.get(name), (name, tuple(labels))
            if family is None or len(labels) != len(family.labels):
                continue  # written by another version
            if family.kind == "counter":
                self.counters[key] = self.counters.get(key, 0) + n
            elif with_gauges:
                self.gauges.setdefault(key, []).append(n)
        for name, labels, counts, total in snapshot.get("hists", ()):
            if only is not None and name not in only:
                continue
            family, key = FAMILIES.get(name), (name, tuple(labels))
            if family is None or len(counts) != len(family.buckets) + 1 or len(labels) != len(family.labels):
                continue
            have, have_total = self.hists.get(key, ([0] * len(counts), 0.0))
            self.hists[key] = ([a + b for a, b in zip(have, counts, strict=True)], have_total + total)

    def as_snapshot(self) -> dict[str, Any]:
        """Return the counters and histograms in the form `add` reads (gauges die with their worker)."""
        return {
            "cells": [[name, labels, n] for (name, labels), n in self.counters.items()],
            "hists": [[name, labels, counts, total] for (name, labels), (counts, total) in self.hists.items()],
        }


class MetricsHub:
    """Adds up the snapshots of all workers of a data directory, the living and the dead.

    A dead worker's last snapshot is folded into `base.json` and its file removed, in an order that a crash
    between the two cannot count twice; so counters never fall, also when the admin worker is restarted.
    """

    def __init__(self, directory: Path, own: Metrics | None = None) -> None:
        self._directory = directory
        self._own = own
        self._files: dict[Path, tuple[tuple[int, int], dict[str, Any]]] = {}
        """What was read last, by the time and inode of the file: a worker that has nothing to do writes rarely."""
        directory.mkdir(parents=True, exist_ok=True)

    def render(self, readings: Iterable[GaugeReading] = ()) -> bytes:
        """Return everything in Prometheus' text format; `readings` are the store's gauges."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collector(self._totals(readings)))
        return generate_latest(registry)

    def totals(self) -> dict[_Key, float]:
        """Return the counters by (name, label values): for the bench and tests."""
        return dict(self._totals(()).counters)

    def read(self, names: frozenset[str]) -> Series:
        """Return these families alone: for whoever looks every few seconds, and must cost next to nothing."""
        base = self._directory / _BASE
        for _ in range(_READ_TRIES):
            stamp = _stamp(base)
            totals = self._totals((), names)
            if _stamp(base) == stamp:
                break  # else a dead worker was folded meanwhile, and may have been missed, or met twice
        gauges = {key: _MERGE[FAMILIES[key[0]].merge](values) for key, values in totals.gauges.items()}
        return Series(totals.counters, gauges, {key: counts for key, (counts, _) in totals.hists.items()})

    def marks(self, name: str) -> list[tuple[str, ...]]:
        """Return the label values of a gauge's series that are not 0 in some living worker."""
        found = {key: values for (n, key), values in self._totals(()).gauges.items() if n == name}
        return sorted(key for key, values in found.items() if any(values))

    def workers(self) -> list[dict[str, str]]:
        """Return role, worker and incarnation of the workers that live, by their snapshots."""
        return [
            {field: str(s[field]) for field in ("role", "worker", "incarnation")}
            for path, s in self._snapshots()
            if not _is_dead(path, s)
        ]

    def ready_workers(self) -> set[str]:
        """Return the roles that have at least one living worker that said it is ready."""
        return {
            str(s["role"])
            for path, s in self._snapshots()
            if not _is_dead(path, s) and any(c[0] == "worker_ready" and c[2] for c in s.get("cells", ()))
        }

    def _totals(self, readings: Iterable[GaugeReading], only: frozenset[str] | None = None) -> _Totals:
        with self._lock() as alone:
            may_fold = alone and only is None
            base = self._load(self._directory / _BASE) or {"folded": []}
            folded = list(base.get("folded", ()))
            base_totals, totals = _Totals(only), _Totals(only)
            base_totals.add(base, with_gauges=False)
            gone: list[Path] = []
            for path, snapshot in self._snapshots():
                if snapshot["incarnation"] in folded:
                    gone.append(path)
                    continue
                if self._own is not None and snapshot["incarnation"] == self._own.incarnation:
                    continue  # counted live below
                if may_fold and _is_dead(path, snapshot):
                    base_totals.add(snapshot, with_gauges=False)
                    folded.append(snapshot["incarnation"])
                    gone.append(path)
                    continue
                totals.add(snapshot, with_gauges=not _is_dead(path, snapshot))
            if may_fold and gone:
                self._fold(base_totals, folded, gone)
        totals.add(base_totals.as_snapshot(), with_gauges=False)
        if self._own is not None:
            totals.add(self._own.snapshot(), with_gauges=True)
        for reading in readings:
            totals.gauges.setdefault((reading.name, reading.labels), []).append(reading.value)
        return totals

    def _fold(self, base: _Totals, folded: Sequence[str], gone: Iterable[Path]) -> None:
        try:
            _write_atomically(self._directory / _BASE, {**base.as_snapshot(), "folded": folded[-256:]})
        except OSError:
            return  # disk full: the files stay, the next scrape counts them from there
        for path in gone:
            path.unlink(missing_ok=True)

    def _snapshots(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        for path in sorted(self._directory.glob("*.json")):
            if path.name != _BASE and (snapshot := self._load(path)) is not None and "incarnation" in snapshot:
                yield path, snapshot

    def _load(self, path: Path) -> dict[str, Any] | None:
        """Read a file, unless it is the one that was read last."""
        stamp = _stamp(path)
        known = self._files.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        value = _read(path)
        if value is None:
            self._files.pop(path, None)
        else:
            if len(self._files) >= _FILES_MOST:
                self._files.clear()
            self._files[path] = (stamp, value)
        return value

    @contextlib.contextmanager
    def _lock(self) -> Iterator[bool]:
        """Hold the right to fold: two admin workers on one directory must not add the same file twice."""
        with (self._directory / "lock").open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
            else:
                yield True


def _stamp(path: Path) -> tuple[int, int]:
    """Return what changes when a file is written anew (they are replaced whole); of one that is gone, nothing."""
    try:
        stat = path.stat()
    except OSError:
        return (0, 0)
    return (stat.st_mtime_ns, stat.st_ino)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    return value if isinstance(value, dict) else None


def _is_dead(path: Path, snapshot: Mapping[str, Any]) -> bool:
    """Tell whether the writer has ended: it said so, its process is gone, or its file is old.

    A worker in another container may share the directory but not our process table; only its file tells then.
    """
    if snapshot.get("final"):
        return True
    if _process_start(int(snapshot.get("pid", 0))) == snapshot.get("pid_started", -1):
        return False
    if snapshot.get("pid_namespace") == _pid_namespace():
        return True
    try:
        return time.time() - path.stat().st_mtime > _DEAD_AFTER_S
    except OSError:
        return True


def _pid_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")  # namespaces(7): processes that see each other's pids
    except OSError:
        return ""


def _process_start(pid: int) -> int | None:
    """Return a process' start time, in clock ticks since boot, which tells a reused pid apart; None: gone."""
    if sys.platform == "linux":
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            return None
        return int(stat.rpartition(b")")[2].split()[19])  # proc(5): field 22, counted after the command's ')'
    try:
        os.kill(pid, 0)
    except OSError:
        return None
    return 0


def _open_files() -> int:
    with contextlib.suppress(OSError):
        return len(os.listdir("/proc/self/fd"))  # proc(5); one of them is this listing's own
    return 0


def _resident_bytes() -> int:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return int(Path("/proc/self/statm").read_bytes().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


_MERGE: Final[dict[str, Callable[[list[float]], float]]] = {"sum": sum, "max": max, "min": min}


class _Collector:
    """The one prometheus-client collector: turns totals into metric families, each exactly once."""

    def __init__(self, totals: _Totals) -> None:
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        for name, family in FAMILIES.items():
            yield getattr(self, f"_{family.kind}")(name, family)

    def _counter(self, name: str, family: Family) -> Metric:
        metric = CounterMetricFamily(PREFIX + name, family.help, labels=family.labels)
        for (series, labels), n in self._totals.counters.items():
            if series == name:
                metric.add_metric(labels, n)
        return metric

    def _gauge(self, name: str, family: Family) -> Metric:
        metric = GaugeMetricFamily(PREFIX + name, family.help, labels=family.labels)
        for (series, labels), values in self._totals.gauges.items():
            if series == name:
                metric.add_metric(labels, _MERGE[family.merge](values))
        return metric

    def _histogram(self, name: str, family: Family) -> Metric:
        metric = HistogramMetricFamily(PREFIX + name, family.help, labels=family.labels)
        for (series, labels), (counts, total) in self._totals.hists.items():
            if series == name:
                buckets, below = [], 0
                for bound, count in zip((*family.buckets, float("inf")), counts, strict=True):
                    below += count
                    buckets.append((_le(bound), float(below)))
                metric.add_metric(labels, buckets, total)
        return metric


def _le(bound: float) -> str:
    return "+Inf" if bound == float("inf") else str(float(bound))
