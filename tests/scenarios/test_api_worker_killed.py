"""An api worker killed at any moment of a post: the client repeats with its key and there is one message a key."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from gateway.model import CATEGORY_LABELS
from tests.support.gateway_process import Answer, AuditedGateway
from tests.support.scenario import carrier
from tests.support.until import until

pytestmark = pytest.mark.timeout(240)  # fifteen starts of a process, on whatever machine

ROUNDS = 15
POSTS = 10


async def test_one_message_a_key_however_the_worker_dies(tmp_path: Path) -> None:
    dice = random.Random(20_261)
    async with carrier() as smsc, AuditedGateway(tmp_path, {"cm-a": smsc.port}) as gateway:
        cut = replayed = 0
        for turn in range(ROUNDS):
            [worker] = await until(lambda: gateway.workers("api"))
            # It serves: a connection that waits in the listener's queue has nothing to lose.
            await gateway.send_surely(gateway.message(), key=f"serves-{turn}")
            before = len(gateway.client)
            posts = [asyncio.create_task(_post(gateway, f"key-{turn}-{i}", i)) for i in range(POSTS)]
            await asyncio.sleep(dice.uniform(0.0, 0.005))  # the instant is the subject
            worker.kill()
            answers = await asyncio.gather(*posts)
            cut += sum(row.status == 0 for row in gateway.client[before:])
            replayed += sum(bool(answer.body.get("replayed")) for answer in answers)
        # The kills met posts on their way: some before the store had them, some after.
        assert 0 < replayed < cut
        states = await gateway.until_final()
        report = await gateway.audit([smsc])
        # Every number was posted until it was accepted: one record for each, and one submit_sm.
        assert states == {"delivered": ROUNDS * (POSTS + 1)}
        assert report.accepted == report.submits == ROUNDS * (POSTS + 1)
        await until(lambda: _restarts(gateway))


async def _restarts(gateway: AuditedGateway) -> bool:
    return await gateway.metric("smsgw_worker_restarts_total", role="api") == ROUNDS


async def _post(gateway: AuditedGateway, key: str, i: int) -> Answer:
    """Post one message until it is accepted, alone or as a batch of one."""
    body = gateway.message(CATEGORY_LABELS[i % 3])
    if i % 2:
        return await gateway.send_surely(body, key=key)
    [answer] = await gateway.send_batch_surely([body], key=key)
    return answer
