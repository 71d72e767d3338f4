"""Something to see on every page of the console: what a gateway has after a busy and not quite lucky moment.

`liven` sends messages of every category and end through a running `World`, lets recipients answer, closes and blocks
things. Numbers end in 0900 and three digits that choose what the simulated carrier does: gateway/simulator/behaviour.py
has the list.
"""

from __future__ import annotations

from typing import Final

from tests.support.console import World
from tests.support.until import until

BLOCKED: Final = "+8613900000013"
SCHEDULED: Final = "2099-01-01T09:00:00Z"

# How the carrier ends each: absent subscriber, expired, rejected, deleted, a vendor's word, no receipt yet.
_ENDS: Final = ("320", "321", "322", "323", "329", "314", "069", "011")


async def liven(world: World, delivered: int = 12) -> dict[str, str]:
    """Do it; returns ids by what became of the message: delivered, failed, waiting, long."""
    ids = [
        await world.send(f"+8613800000{n:03d}", f"Your parcel {n} is on its way", tags=["parcels"], ref=f"p-{n}")
        for n in range(delivered)
    ]
    await world.send("+8613800000900", "Your code is 246810", category="verification")
    await world.send("+85261234567", "Autumn sale, ten percent off", category="marketing", tags=["autumn"])
    long = await world.send("+8613800001000", "长短信由多个部分组成，" * 12, ref="long")
    ends = [await world.send(f"+86138{i}0900{end}", f"An unlucky message {i}") for i, end in enumerate(_ENDS)]
    await world.until_state(ids[0], "delivered")
    await world.until_state(ends[0], "undeliverable")
    assert (await world.gateway.admin("PUT", "/admin/v1/channels", {"id": "hk-a", "action": "pause"}))[0] == 200
    waiting = await world.send("+85261234568", "This one waits for its channel")
    reason = {"number": BLOCKED, "reason": "complaint", "categories": ["marketing"], "scope": "global"}
    status, body = await world.gateway.admin("PUT", "/admin/v1/blacklist", reason)
    assert status in (200, 201), body
    await world.gateway.post({"to": BLOCKED, "text": "Never sent", "category": "marketing"})
    carrier = world.carriers["cm-a"]
    carrier.send_mo("8613800000001", "106900001", b"TD")
    carrier.send_mo("8613800000002", "106900001", "请不要再发了".encode("utf-16-be"), data_coding=8)
    carrier.send_mo("8613800000003", "106900001", b"thank you very much")

    async def answered() -> bool:
        status, body = await world.gateway.admin("GET", "/admin/v1/inbound")
        return status == 200 and len(body["messages"]) >= 3

    await until(answered, timeout_s=15, every_s=0.1)
    return {"delivered": ids[0], "failed": ends[0], "waiting": waiting, "long": long}
