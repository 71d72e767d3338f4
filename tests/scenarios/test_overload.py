"""More than the queue may hold: 503 and when to come again, codes from their reserve, nothing half done."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.gateway import free_port
from tests.support.gateway_process import MARKETING, NOTIFICATION, VERIFICATION, Answer, AuditedGateway
from tests.support.scenario import carrier
from tests.support.until import until

MOST = 400


@pytest.mark.parametrize("shards", [1, 4])
async def test_a_full_queue_refuses_and_keeps_room_for_codes(tmp_path: Path, shards: int) -> None:
    port = free_port()  # nobody is there yet: everything waits
    async with AuditedGateway(tmp_path, {"cm-a": port}, shards=shards, store=f"max_queued = {MOST}") as gateway:
        answers: list[Answer] = []
        while not (answers and _is_full(answers[-1])):
            bodies = [gateway.message((NOTIFICATION, MARKETING)[i % 2]) for i in range(50)]
            answers += await gateway.send_batch(bodies)
            assert len(answers) < 3 * MOST
        taken = sum(answer.status == 202 for answer in answers)
        # A shard is full at its share of the whole; the last to fill decides when everything is.
        assert MOST // shards <= taken <= MOST
        assert {answer.status for answer in answers} == {202, 503}
        assert all(_is_full(answer) for answer in answers if answer.status == 503)

        alone = await until(lambda: _refused(gateway, NOTIFICATION))
        assert int(alone.headers["Retry-After"]) >= 1
        codes = [await gateway.send(gateway.message(VERIFICATION)) for _ in range(20)]
        assert {answer.status for answer in codes} == {202}
        # The reserve has an end too.
        await until(lambda: _refused(gateway, VERIFICATION), every_s=0)

        async with carrier(port=port) as smsc:
            states = await gateway.until_final()
            assert (await gateway.send(gateway.message(MARKETING))).status == 202
            states = await gateway.until_final()
            report = await gateway.audit([smsc])
            assert states == {"delivered": report.accepted}
            assert report.submits == report.accepted
            # Codes first, though they came last.
            code_numbers = {row.to.lstrip("+") for row in gateway.client if row.category == VERIFICATION}
            first = smsc.ledger.destinations()[: len(codes)]
            assert set(first) <= code_numbers


def _is_full(answer: Answer) -> bool:
    return (answer.status, answer.code, answer.outcome) == (503, "overloaded", "not_stored")


async def _refused(gateway: AuditedGateway, category: str) -> Answer | None:
    """Post one message; return the answer when it was refused as too much."""
    answer = await gateway.send(gateway.message(category))
    assert answer.status == 202 or _is_full(answer)
    return answer if _is_full(answer) else None
