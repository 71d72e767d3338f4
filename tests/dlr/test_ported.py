"""gateway.dlr.ported: which carrier a code accuses, what the teacher notes, what a follower brings to its router."""

from __future__ import annotations

import logging
import os
from array import array
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.dlr.ported import Follower, Teacher, accused
from gateway.errors import StoreUnavailable
from gateway.metrics import Metrics
from gateway.routing.learned import Fact
from gateway.routing.loader import build_codes, build_router
from gateway.routing.ported_codes import PortedCode
from gateway.routing.ported_table import TableWriter
from gateway.settings import RankedChannel, RouteMatch, RouteSettings, Settings, packaged_config_dir
from gateway.simulator.smsc import Smsc
from gateway.store.store import Store
from tests.support.line import Worker, channel_to, line_settings
from tests.support.messages import message, number
from tests.support.scenario import accepted, carrier, end_as
from tests.support.until import until
from tests.support.valkey import ValkeyServer

MOBILE, UNICOM, TELECOM = "china-mobile", "china-unicom", "china-telecom"
OURS = PortedCode((MOBILE, "china-broadnet"), "")
ANYS = PortedCode((), "")
NAMED = PortedCode((), UNICOM)


@pytest.mark.parametrize(
    ("code", "route", "record", "fact"),
    [
        (OURS, MOBILE, MOBILE, Fact(MOBILE, "")),
        (OURS, "", MOBILE, Fact(MOBILE, "")),
        (OURS, "china-broadnet", "china-broadnet", Fact("china-broadnet", "")),
        (OURS, UNICOM, UNICOM, None),  # another carrier's code
        (OURS, MOBILE, UNICOM, Fact(MOBILE, "")),  # the route tells where its channels lead
        (OURS, "ported", "ported", Fact(MOBILE, "")),  # only the code tells who refused
        (OURS, "", "", Fact(MOBILE, "")),
        (ANYS, TELECOM, TELECOM, Fact(TELECOM, "")),
        (ANYS, "ported", "ported", None),
        (ANYS, "", "", None),
        (NAMED, MOBILE, MOBILE, Fact(MOBILE, UNICOM)),
        (NAMED, "ported", "ported", Fact("", UNICOM)),
        (NAMED, UNICOM, UNICOM, None),  # "ported to Unicom", says Unicom
    ],
)
def test_whom_a_code_accuses(code: PortedCode, route: str, record: str, fact: Fact | None) -> None:
    assert accused(code, route, record) == fact


def with_tables(settings: Settings, data_dir: Path, **ported: Any) -> Settings:
    """Return settings with the shipped data tables, a data directory of their own, and other [ported] keys."""
    folder = packaged_config_dir()
    return replace(
        settings,
        number_segments_files={"CN": folder / "number_segments" / "cn.csv"},
        ported_codes_file=folder / "ported_codes.csv",
        store=replace(settings.store, data_dir=data_dir),
        ported=replace(settings.ported, **ported),
        routes=tuple(settings.routes)
        or (
            RouteSettings("m", RouteMatch(country="CN", carrier=MOBILE), (RankedChannel("a", 0),)),
            RouteSettings("u", RouteMatch(country="CN", carrier=UNICOM), (RankedChannel("a", 0),)),
        ),
    )


async def facts_of(store: Store) -> list[tuple[str, ...]]:
    found = [await store.ported_since(shard, 0) for shard in range(store.shards)]
    return sorted(fact[:3] for _, facts in found for fact in facts)


class Taught(Worker):
    """A dispatch worker with a teacher."""

    def __init__(self, settings: Settings, store: Store) -> None:
        super().__init__(settings, store)
        self.recorder._teacher = Teacher(settings, build_codes(settings), store, self.metrics)


async def send(smsc: Smsc, valkey: ValkeyServer, tmp_path: Path, shards: int, n: int, **ported: Any) -> list[Any]:
    """Send messages whose receipts all say undeliverable; returns what was learned and the messages."""
    settings = with_tables(line_settings([channel_to(smsc, "a")], shards=shards), tmp_path, **ported)
    store = await Store.open(settings, valkey.url, incarnation="worker01")
    worker = Taught(settings, store)
    await worker.start()
    try:
        messages = [message(store, number()) for _ in range(n)]
        await end_as(store, await accepted(store, messages), U=n)
        learned = worker.metrics.counter("ported_learned_total", carrier=MOBILE)
        learns = bool(ported.get("learned_ttl_s", 1)) and smsc.options.failed_states[0][1] != "MK:0001"
        await until(lambda: int(learned.n) == (n if learns else 0))
        return [await facts_of(store), messages]
    finally:
        await worker.stop()
        await store.close()


@pytest.mark.parametrize("code", ["MH:0007", "mb1049", "-9000"])
@pytest.mark.parametrize("tlvs", [True, False])
async def test_receipts_teach_their_numbers(
    valkey: ValkeyServer, tmp_path: Path, shards: int, code: str, tlvs: bool
) -> None:
    failing: dict[str, Any] = {"failed_rate": 1.0, "failed_states": (("UNDELIV", code),), "receipt_tlvs": tlvs}
    async with carrier(**failing) as smsc:
        facts, messages = await send(smsc, valkey, tmp_path, shards, 30)
    assert facts == sorted((m.msisdn, MOBILE, "") for m in messages)


async def test_early_receipts_teach_too(valkey: ValkeyServer, tmp_path: Path, shards: int) -> None:
    failing: dict[str, Any] = {"failed_rate": 1.0, "failed_states": (("UNDELIV", "MH:0007"),)}
    async with carrier(early_rate=1.0, latency_s=0.05, **failing) as smsc:
        facts, messages = await send(smsc, valkey, tmp_path, shards, 30)
    assert facts == sorted((m.msisdn, MOBILE, "") for m in messages)


async def test_other_codes_and_a_ttl_of_nothing_teach_nothing(valkey: ValkeyServer, tmp_path: Path) -> None:
    async with carrier(failed_rate=1.0, failed_states=(("UNDELIV", "MK:0001"),)) as smsc:
        assert (await send(smsc, valkey, tmp_path, 1, 5))[0] == []
    async with carrier(failed_rate=1.0, failed_states=(("UNDELIV", "MH:0007"),)) as smsc:
        assert (await send(smsc, valkey, tmp_path, 1, 5, learned_ttl_s=0.0))[0] == []


async def test_what_the_store_did_not_take_is_taught_by_the_repeat(
    valkey: ValkeyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Store.learn_ported
    refused = []

    async def refuse_once(self: Store, facts: Sequence[tuple[str, str, str]], ttl_s: float) -> int:
        if not refused:
            refused.append(1)
            raise StoreUnavailable("scripted")
        return await real(self, facts, ttl_s)

    monkeypatch.setattr(Store, "learn_ported", refuse_once)
    failing: dict[str, Any] = {"failed_rate": 1.0, "failed_states": (("UNDELIV", "MH:0007"),), "redeliver_s": 0.1}
    async with carrier(**failing) as smsc:
        facts, messages = await send(smsc, valkey, tmp_path, 1, 1)
        assert refused == [1]
        await until(lambda: smsc.ledger.receipts[-1].ack == 0)
        assert smsc.ledger.receipts[0].ack == 8 or len(smsc.ledger.receipts) == 1
    assert facts == [(messages[0].msisdn, MOBILE, "")]


async def test_a_receipt_for_another_number_teaches_nothing(valkey: ValkeyServer, tmp_path: Path) -> None:
    failing: dict[str, Any] = {"failed_rate": 1.0, "failed_states": (("UNDELIV", "MH:0007"),)}
    async with carrier(wrong_destination_rate=1.0, **failing) as smsc:
        settings = with_tables(line_settings([channel_to(smsc, "a")]), tmp_path)
        store = await Store.open(settings, valkey.url, incarnation="worker01")
        worker = Taught(settings, store)
        await worker.start()
        try:
            m = message(store)
            await accepted(store, [m])
            counter = worker.metrics.counter("receipts_total", channel="a", state="quarantined")
            await until(lambda: counter.n == 1)
            await end_as(store, [m.id], s=1)
            assert await facts_of(store) == []
        finally:
            await worker.stop()
            await store.close()


async def test_a_follower_reads_all_pages_then_only_what_is_new(
    valkey: ValkeyServer, tmp_path: Path, shards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.dlr.ported._PAGE", 7)
    base = Settings(config_dir=tmp_path)
    settings = with_tables(replace(base, store=replace(base.store, shards=shards)), tmp_path)
    store = await Store.open(settings, valkey.url, incarnation="worker01")
    try:
        router = build_router(settings)
        metrics = Metrics("api", "0")
        follower = Follower(settings, router, store, metrics)
        numbers = [number() for _ in range(50)]
        for n in numbers:  # a call each: they lie some milliseconds apart
            await store.learn_ported([(n, MOBILE, "")], settings.ported.learned_ttl_s)
        await follower.refresh()
        assert {router.carrier_of(n) for n in numbers} == {(UNICOM, "learned")}
        assert metrics.gauge("ported_learned").n == 50
        await store.learn_ported([(numbers[0], UNICOM, "")], settings.ported.learned_ttl_s)
        await follower.refresh()
        assert router.carrier_of(numbers[0]) == ("ported", "learned")  # no route names what is left
        assert router.carrier_of(numbers[1]) == (UNICOM, "learned")
    finally:
        await store.close()


async def test_a_follower_forgets_after_the_ttl_and_without_the_store_too(valkey: ValkeyServer, tmp_path: Path) -> None:
    settings = with_tables(Settings(config_dir=tmp_path), tmp_path, learned_ttl_s=0.5)
    store = await Store.open(settings, valkey.url, incarnation="worker01")
    router = build_router(settings)
    metrics = Metrics("api", "0")
    follower = Follower(settings, router, store, metrics)
    n = number()
    await store.learn_ported([(n, MOBILE, "")], 0.5)
    await follower.refresh()
    assert router.carrier_of(n) == (UNICOM, "learned")
    await store.close()  # from here on every call fails

    async def forgotten() -> bool:
        await follower.refresh()
        return router.carrier_of(n) == (MOBILE, "segment")

    await until(forgotten)
    assert metrics.counter("ported_faults_total", what="learned").n >= 1


async def test_a_follower_takes_a_new_table_and_names_a_damaged_one_once(
    valkey: ValkeyServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = with_tables(Settings(config_dir=tmp_path), tmp_path)
    store = await Store.open(settings, valkey.url, incarnation="worker01")
    try:
        router = build_router(settings)
        metrics = Metrics("api", "0")
        follower = Follower(settings, router, store, metrics)
        n = number()
        assert router.carrier_of(n) == (MOBILE, "segment")
        folder = tmp_path / "ported"
        folder.mkdir()
        writer = TableWriter(folder / "cn.bin", "CN", [TELECOM])
        writer.add(array("Q", [int(n)]).tobytes(), b"\0")
        writer.finish(1)
        writer.close()
        with caplog.at_level(logging.INFO, "gateway.dlr.ported"):
            await follower.refresh()
            assert router.carrier_of(n) == (TELECOM, "imported")
            assert metrics.gauge("ported_rows", country="CN").n == 1
            (folder / "new").write_bytes(b"damaged" * 1000)
            os.replace(folder / "new", folder / "cn.bin")
            for _ in range(3):
                await follower.refresh()
        assert router.carrier_of(n) == (TELECOM, "imported")
        told = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
        assert len(told) == 1
        assert "ported/cn.bin: not a table of ported numbers; the one before stays in use" in told[0]
        assert metrics.counter("ported_faults_total", what="table").n == 1
    finally:
        await store.close()
