"""A carrier says that a number was ported: the next message takes another route within seconds, until forgotten."""

from __future__ import annotations

import time
from pathlib import Path

from gateway.simulator.smsc import Smsc
from tests.support.gateway_process import AuditedGateway
from tests.support.scenario import carrier
from tests.support.until import until

TTL_S = 8
ROUTES = "".join(
    f'[[route]]\nid = "{name}"\nmatch = {{ country = "CN", carrier = "china-{name}" }}\n'
    f'channels = [{{ id = "{channel}", rank = 0 }}]\n'
    for name, channel in (("mobile", "cm-a"), ("unicom", "cu-a"))
)


async def test_the_next_message_takes_the_other_route_until_it_is_forgotten(tmp_path: Path) -> None:
    async with (
        carrier(failed_rate=1.0, failed_states=(("UNDELIV", "MH:0007"),)) as mobile,
        carrier() as unicom,
    ):
        gateway = AuditedGateway(tmp_path, {"cm-a": mobile.port, "cu-a": unicom.port}, shards=4, api_workers=2)
        (gateway.config_dir / "routes.toml").write_text(ROUTES)
        with (gateway.config_dir / "gateway.toml").open("a") as config:
            config.write(f"[ported]\nlearned_ttl_s = {TTL_S}.0\n")
        async with gateway:
            await _a_number_is_learned_and_forgotten(gateway, mobile, unicom)


async def _a_number_is_learned_and_forgotten(gateway: AuditedGateway, mobile: Smsc, unicom: Smsc) -> None:
    first, neighbour = gateway.message(), gateway.message()
    assert await _route_of(gateway, first["to"]) == "mobile"
    assert dict(await gateway.until_final()) == {"undeliverable": 1}
    failed_at = time.monotonic()

    # Every api worker, whichever takes the connection: five answers in a row.
    async def everywhere() -> bool:
        return {await _route_of(gateway, first["to"]) for _ in range(5)} == {"unicom"}

    await until(everywhere, timeout_s=5, every_s=0.1)
    learned_s = time.monotonic() - failed_at
    assert learned_s < 5
    assert await _route_of(gateway, neighbour["to"]) == "mobile", "only that number was taught"
    await gateway.until_final()
    assert all(row.destination == first["to"][1:] for row in unicom.ledger.submits)
    assert len(unicom.ledger.submits) >= 5
    assert neighbour["to"][1:] in {row.destination for row in mobile.ledger.submits}
    assert (await gateway.states())["delivered"] == len(unicom.ledger.submits)

    async def forgotten() -> bool:
        return await _route_of(gateway, first["to"]) == "mobile"

    await until(forgotten, timeout_s=TTL_S + 10, every_s=0.5)
    await gateway.until_final()
    await gateway.audit([mobile, unicom])


async def _route_of(gateway: AuditedGateway, to: str) -> str:
    answer = await gateway.send({**gateway.message(), "to": to})
    assert answer.status == 202, answer
    return str(answer.body["route"])
