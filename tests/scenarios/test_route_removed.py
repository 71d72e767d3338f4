"""A route leaves the configuration while messages wait for it: they go where the routes of today lead."""

from __future__ import annotations

from dataclasses import replace

from gateway.model import State
from gateway.routing.loader import build_router
from gateway.settings import RankedChannel, RouteMatch, RouteSettings
from gateway.store.store import Store
from tests.support.line import Worker, channel_to, line_settings, smsc, states
from tests.support.messages import accept, message
from tests.support.until import until
from tests.support.valkey import ValkeyServer


async def test_messages_of_a_removed_route_are_sent_by_another(valkey: ValkeyServer) -> None:
    carrier = smsc()
    await carrier.start()
    settings = line_settings([channel_to(carrier, "a")])
    new = RouteSettings("new", RouteMatch(country="CN"), (RankedChannel("a", 0),))
    settings = replace(settings, routes=(new,))
    store = await Store.open(settings, valkey.url, incarnation="worker01")
    kept = [message(store, route="old", category=i % 3, account=("shop", "bank")[i % 2]) for i in range(250)]
    homeless = message(store, "442079460000", route="old")
    assert set(await accept(store, *kept, homeless)) == {"accepted"}
    worker = Worker(settings, store, router=build_router(settings))
    await worker.start()

    async def sent() -> bool:
        return await states(store, [m.id for m in kept]) == {State.DELIVERED: 250}

    await until(sent, timeout_s=20)
    record = await store.get(homeless.id)
    assert record is not None
    assert (record.state, record.reason) == (State.FAILED, "no_route")
    assert (await store.get(kept[0].id)).route == "new"  # type: ignore[union-attr]
    assert await store.waiting() == 0
    assert [r for r in await store.rings(0) if r.startswith("old:")] == []
    await worker.stop()
    await store.close()
    await carrier.stop()
