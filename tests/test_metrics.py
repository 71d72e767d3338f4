"""Metrics: cells and bounds, snapshots that survive their worker, and an exposition that counts once."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway import metrics
from gateway.metrics import FAMILIES, GaugeReading, Hist, Metrics, MetricsHub, SnapshotWriter
from tests.support.until import until


def sample(text: bytes, name: str, **labels: str) -> float | None:
    for family in text_string_to_metric_families(text.decode()):
        for s in family.samples:
            if s.name == name and all(s.labels.get(k) == v for k, v in labels.items()):
                return s.value
    return None


def submits(m: Metrics, n: int) -> None:
    m.counter("submits_total", channel="cm-a", status="0x00000000").n += n


def test_a_series_is_looked_up_once_and_then_only_added_to() -> None:
    m = Metrics("dispatch", "0")
    cell = m.counter("submits_total", channel="cm-a", status="0x00000000")
    cell.n += 3
    assert m.counter("submits_total", status="0x00000000", channel="cm-a") is cell


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda m: m.counter("no_such_thing"), KeyError),
        (lambda m: m.counter("submits_total", channel="a"), ValueError),
        (lambda m: m.counter("submits_total", channel="a", status="0", number="x"), ValueError),
        (lambda m: m.gauge("submits_total", channel="a", status="0"), ValueError),
        (lambda m: m.histogram("submits_total", channel="a", status="0"), ValueError),
    ],
)
def test_names_and_labels_must_stand_in_the_table(call, error) -> None:
    with pytest.raises(error):
        call(Metrics("api", "0"))


def test_a_flood_of_label_values_becomes_other() -> None:
    m = Metrics("api", "0")
    limit = FAMILIES["http_requests_total"].max_series
    for i in range(limit + 50):
        m.counter("http_requests_total", endpoint=f"e{i}", status="200").n += 1
    series = [c for c in m.snapshot()["cells"] if c[0] == "http_requests_total"]
    assert len(series) == limit + 1
    assert ["http_requests_total", ("other", "other"), 50] in series


def test_all_families_together_stay_below_ten_thousand_series_and_are_well_formed() -> None:
    assert sum(f.max_series for f in FAMILIES.values() if f.labels and f.kind != "histogram") < 15_000
    for name, family in FAMILIES.items():
        assert (family.kind == "counter") == name.endswith("_total"), name
        assert tuple(sorted(family.buckets)) == family.buckets, name
        assert (family.kind == "histogram") == bool(family.buckets), name


def test_histogram_counts_a_bound_into_its_own_bucket() -> None:
    hist = Hist((0.1, 1.0))
    hist.observe(0.1)
    hist.observe(0.1000001, 4)
    hist.observe(99.0)
    assert hist.counts == [1, 4, 1]
    assert hist.sum == pytest.approx(0.1 + 0.4000004 + 99)


def test_exposition_is_cumulative_and_names_every_family_once(tmp_path: Path) -> None:
    m = Metrics("dispatch", "0")
    m.histogram("accept_to_submit_seconds", category="verification").observe(0.04, 3)
    m.histogram("accept_to_submit_seconds", category="verification").observe(7200)
    text = MetricsHub(tmp_path, own=m).render([GaugeReading("queue_depth", ("cn", "0", "marketing"), 17)])
    bucket = "smsgw_accept_to_submit_seconds_bucket"
    assert sample(text, bucket, le="0.03", category="verification") == 0
    assert sample(text, bucket, le="0.05", category="verification") == 3
    assert sample(text, bucket, le="3600.0", category="verification") == 3
    assert sample(text, bucket, le="+Inf", category="verification") == 4
    assert sample(text, "smsgw_accept_to_submit_seconds_count", category="verification") == 4
    assert sample(text, "smsgw_queue_depth", route="cn", rank="0", category="marketing") == 17
    names = [line.split()[2] for line in text.decode().splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names)) == len(FAMILIES)


def test_gauges_of_workers_are_merged_by_their_rule(tmp_path: Path) -> None:
    for n in (1, 2):
        m = Metrics("dispatch", str(n), f"inc{n}")
        m.gauge("channel_up", channel="cm-a").n = n - 1
        m.gauge("channel_window_used", channel="cm-a").n = 10 * n
        m.gauge("store_ready").n = n - 1
        SnapshotWriter(m, tmp_path).write()
    text = MetricsHub(tmp_path).render()
    assert sample(text, "smsgw_channel_up", channel="cm-a") == 1
    assert sample(text, "smsgw_channel_window_used", channel="cm-a") == 30
    assert sample(text, "smsgw_store_ready") == 0


def test_counters_never_fall_when_a_worker_ends_or_the_admin_worker_restarts(tmp_path: Path) -> None:
    first = Metrics("dispatch", "0", "one")
    submits(first, 5)
    first.gauge("channel_up", channel="cm-a").n = 1
    writer = SnapshotWriter(first, tmp_path)
    writer.write()
    key = ("submits_total", ("cm-a", "0x00000000"))
    hub = MetricsHub(tmp_path)
    assert hub.totals()[key] == 5
    submits(first, 2)
    writer.write(final=True)
    assert hub.totals()[key] == 7
    assert not (tmp_path / "one.json").exists()
    assert sample(hub.render(), "smsgw_channel_up", channel="cm-a") is None

    second = Metrics("dispatch", "0", "two")
    submits(second, 1)
    SnapshotWriter(second, tmp_path).write()
    assert MetricsHub(tmp_path).totals()[key] == 8
    assert MetricsHub(tmp_path).totals()[key] == 8


def test_a_crash_between_folding_and_removing_counts_once(tmp_path: Path) -> None:
    m = Metrics("api", "0", "one")
    submits(m, 5)
    SnapshotWriter(m, tmp_path).write(final=True)
    kept = (tmp_path / "one.json").read_bytes()
    hub = MetricsHub(tmp_path)
    key = ("submits_total", ("cm-a", "0x00000000"))
    assert hub.totals()[key] == 5
    (tmp_path / "one.json").write_bytes(kept)  # the file comes back, as if the unlink had never happened
    assert hub.totals()[key] == 5
    assert not (tmp_path / "one.json").exists()


def test_a_worker_killed_without_a_last_word_keeps_its_counts(tmp_path: Path) -> None:
    code = (
        "import os,sys;from pathlib import Path;from gateway.metrics import *;"
        "m=Metrics('dispatch','0','dead');"
        "m.counter('submits_total',channel='cm-a',status='0x00000000').n+=9;"
        "m.gauge('channel_up',channel='cm-a').n=1;"
        "SnapshotWriter(m,Path(sys.argv[1])).write();os._exit(137)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 137
    hub = MetricsHub(tmp_path)
    key = ("submits_total", ("cm-a", "0x00000000"))
    assert hub.totals()[key] == 9
    assert not (tmp_path / "dead.json").exists()
    assert MetricsHub(tmp_path).totals()[key] == 9
    assert sample(hub.render(), "smsgw_channel_up", channel="cm-a") is None


def test_a_worker_of_another_process_table_is_judged_by_its_files_age(tmp_path: Path) -> None:
    m = Metrics("api", "0", "far")
    submits(m, 9)
    far = {**m.snapshot(), "pid": 1 << 22, "pid_namespace": "another container"}
    (tmp_path / "far.json").write_bytes(orjson.dumps(far))
    hub = MetricsHub(tmp_path)
    key = ("submits_total", ("cm-a", "0x00000000"))
    assert hub.totals()[key] == 9
    assert (tmp_path / "far.json").exists()
    old = (tmp_path / "far.json").stat().st_mtime - 60
    os.utime(tmp_path / "far.json", (old, old))
    assert hub.totals()[key] == 9
    assert not (tmp_path / "far.json").exists()


def test_snapshots_of_another_version_or_torn_files_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(
        b'{"incarnation": "x", "cells": [["gone_total", [], 3], ["submits_total", ["a"], 1]]}'
    )
    (tmp_path / "y.json").write_bytes(b'{"incarnation": ')
    (tmp_path / "z.json").write_bytes(orjson.dumps({"incarnation": "z", "hists": [["accept_seconds", [], [1], 1.0]]}))
    assert not MetricsHub(tmp_path).totals()


async def test_the_writer_writes_changes_and_skips_repeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "HEARTBEAT_S", 3600.0)
    m = Metrics("api", "0", "one")
    task = asyncio.create_task(SnapshotWriter(m, tmp_path).run(interval_s=0.01))
    path = tmp_path / "one.json"
    await until(path.exists)
    first = path.stat().st_mtime_ns
    submits(m, 1)
    await until(lambda: path.stat().st_mtime_ns != first)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert orjson.loads(path.read_bytes())["final"] is True


def test_an_unchanged_snapshot_is_not_written_again(tmp_path: Path) -> None:
    writer = SnapshotWriter(Metrics("api", "0", "one"), tmp_path)
    writer.write()
    first = (tmp_path / "one.json").stat().st_mtime_ns
    writer.write()
    assert (tmp_path / "one.json").stat().st_mtime_ns == first


def test_a_full_disk_does_not_stop_the_worker(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    SnapshotWriter(Metrics("api", "0"), tmp_path / "file" / "below").write()


def test_living_workers_are_listed(tmp_path: Path) -> None:
    SnapshotWriter(Metrics("api", "0", "one"), tmp_path).write()
    SnapshotWriter(Metrics("api", "1", "two"), tmp_path).write(final=True)
    assert [w["incarnation"] for w in MetricsHub(tmp_path).workers()] == ["one"]


def test_roles_with_a_ready_worker_are_told(tmp_path: Path) -> None:
    for role, ready in (("api", 1), ("dispatch", 0)):
        m = Metrics(role, "0", role)
        m.gauge("worker_ready", role=role, worker="0").n = ready
        SnapshotWriter(m, tmp_path).write()
    assert MetricsHub(tmp_path).ready_workers() == {"api"}


def test_some_families_alone_are_read_as_the_whole_is_and_only_anew_when_a_file_changed(tmp_path: Path) -> None:
    one, other = Metrics("dispatch", "0", "one"), Metrics("dispatch", "1", "other")
    submits(one, 3)
    submits(other, 4)
    one.counter("messages_total", category="verification", route="r", state="delivered", reason="").n = 5
    one.histogram("submit_response_seconds", channel="cm-a").observe(0.02, 7)
    for m in (one, other):
        m.gauge("channel_up", channel="cm-a").n = 1
        SnapshotWriter(m, tmp_path).write()
    hub = MetricsHub(tmp_path)
    wanted = frozenset({"submits_total", "channel_up", "submit_response_seconds"})
    found = hub.read(wanted)
    assert found.counters == {("submits_total", ("cm-a", "0x00000000")): 7}
    assert found.gauges == {("channel_up", ("cm-a",)): 1}, "as its family merges: max"
    assert sum(found.hists["submit_response_seconds", ("cm-a",)]) == 7
    (tmp_path / "one.json").write_bytes((tmp_path / "one.json").read_bytes())
    submits(one, 10)
    SnapshotWriter(one, tmp_path).write(final=True)
    assert hub.read(wanted).counters == {("submits_total", ("cm-a", "0x00000000")): 17}
    hub.render()  # folds the one that ended
    assert not (tmp_path / "one.json").exists()
    again = hub.read(wanted)
    assert again.counters == {("submits_total", ("cm-a", "0x00000000")): 17}
    assert sum(again.hists["submit_response_seconds", ("cm-a",)]) == 7
