"""A hundred posts at once with one key through two api workers: one message, one id in every answer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.gateway_process import Answer, AuditedGateway
from tests.support.scenario import carrier
from tests.support.until import until

POSTS = 100


@pytest.mark.parametrize("shards", [1, 4])
async def test_one_key_is_one_message(tmp_path: Path, shards: int) -> None:
    async with (
        carrier() as smsc,
        AuditedGateway(tmp_path, {"cm-a": smsc.port}, shards=shards, api_workers=2) as gateway,
    ):
        for turn in range(5):
            body, batch = gateway.message(), [gateway.message("verification") for _ in range(3)]
            ref = gateway.message("marketing", ref=f"ref-{turn}")
            alone = _at_once([gateway.send(body, key=f"key-{turn}") for _ in range(POSTS)])
            together = _at_once([gateway.send_batch(batch, key=f"key-{turn}") for _ in range(POSTS // 4)])
            by_ref = _at_once([gateway.send(ref) for _ in range(POSTS // 4)])
            one, three, with_ref = await asyncio.gather(alone, together, by_ref)
            _are_one(one)
            _are_one(with_ref)
            for item in range(3):
                _are_one([answers[item] for answers in three])

        await _the_same_key_for_something_else(gateway)
        states = await gateway.until_final()
        report = await gateway.audit([smsc])
        assert states == {"delivered": report.accepted}
        assert report.submits == report.accepted == 5 * 5 + 1
        # Both workers had their share of the posts.
        assert await until(lambda: _asked(gateway)) == 2


async def _at_once(posts: list[object]) -> list[Answer]:
    return await asyncio.gather(*posts)  # type: ignore[call-overload,no-any-return]


def _are_one(answers: list[Answer]) -> None:
    assert {answer.status for answer in answers} == {202}
    assert len({answer.id for answer in answers}) == 1
    assert sum(not answer.body.get("replayed") for answer in answers) == 1


async def _the_same_key_for_something_else(gateway: AuditedGateway) -> None:
    body = gateway.message()
    assert (await gateway.send(body, key="once")).status == 202
    other = await gateway.send({**body, "text": "Something else"}, key="once")
    assert (other.status, other.code, other.outcome) == (422, "idempotency_mismatch", "not_stored")
    again = await gateway.send(body, key="once")
    assert (again.status, again.headers["Idempotent-Replayed"]) == (202, "true")


async def _asked(gateway: AuditedGateway) -> int:
    """Return how many api workers have used CPU for requests."""
    return sum(worker.cpu_times().user > 0.2 for worker in gateway.workers("api"))
