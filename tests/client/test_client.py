"""Both HTTP clients: answers as values, and repeats that never double a message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.client import (
    Accepted,
    ApiError,
    AsyncClient,
    Busy,
    Client,
    Feedback,
    Message,
    NotFound,
    Refused,
    Retry,
    Unreachable,
)
from tests.support.api_peer import ApiPeer
from tests.support.until import until

QUICK = Retry(deadline_s=2.0, attempt_timeout_s=2.0, first_wait_s=0.01, longest_wait_s=0.05)
ONCE = Retry(deadline_s=0.0)


class Threaded:
    """The blocking client behind the asynchronous one's face, so that one test holds for both."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._client, name)

        async def call(*args: Any, **named: Any) -> Any:
            return await asyncio.to_thread(method, *args, **named)

        return call

    async def send_many(self, *args: Any, **named: Any) -> AsyncIterator[Any]:
        for pair in await asyncio.to_thread(lambda: list(self._client.send_many(*args, **named))):
            yield pair


@pytest.fixture(params=["async", "sync"])
def opened(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Return what opens a client of either kind, used in the same way."""

    @asynccontextmanager
    async def open_client(url: str, key: str = "k", **options: Any) -> AsyncIterator[Any]:
        if request.param == "async":
            async with AsyncClient(url, key, **options) as client:
                yield client
        else:
            with Client(url, key, **options) as blocking:
                yield Threaded(blocking)

    return open_client


def message(number: int = 0, ref: str | None = None) -> Message:
    return Message(to=f"+861380013{number:04}", category="notification", text="hello", ref=ref)


async def test_a_message_is_accepted_and_found_again(opened: Any) -> None:
    async with ApiPeer() as peer, opened(peer.url, retry=ONCE) as client:
        accepted = await client.send(message())
        assert (accepted.id, accepted.state, accepted.parts, accepted.replayed) == ("id-0", "queued", 1, False)
        status = await client.get(accepted.id)
        assert (status.state, status.reason.code) == ("delivered", "ok")
        (stored,) = peer.stored.values()
        assert stored == {"to": "+8613800130000", "category": "notification", "text": "hello", "id": "id-0"}


@pytest.mark.parametrize("fault", [503, 429, 502, "cut", "lost", "odd"])
async def test_a_repeat_keeps_its_key_and_doubles_nothing(opened: Any, fault: int | str) -> None:
    async with ApiPeer() as peer, opened(peer.url, retry=QUICK) as client:
        peer.faults = [fault, fault]
        accepted = await client.send(message())
        assert len(peer.stored) == 1
        assert accepted.replayed == (fault == "lost")
        assert len(peer.keys) == 3
        assert len(set(peer.keys)) == 1
        assert peer.keys[0]


async def test_an_attempt_that_hangs_is_given_up_and_repeated(opened: Any) -> None:
    retry = Retry(deadline_s=5.0, attempt_timeout_s=0.2, first_wait_s=0.01)
    async with ApiPeer() as peer, opened(peer.url, retry=retry) as client:
        peer.faults = ["hang"]
        await client.send(message())
        assert len(peer.keys) == 2
        assert len(set(peer.keys)) == 1


async def test_every_call_has_a_key_of_its_own_or_the_caller_s(opened: Any) -> None:
    async with ApiPeer() as peer, opened(peer.url, retry=ONCE) as client:
        await client.send(message())
        await client.send(message())
        first = await client.send(message(1), idempotency_key="mine")
        again = await client.send(message(1), idempotency_key="mine")
        assert len(set(peer.keys)) == 3
        assert (again.id, again.replayed) == (first.id, True)


async def test_refs_make_a_key_needless(opened: Any) -> None:
    async with ApiPeer() as peer, opened(peer.url, retry=QUICK) as client:
        peer.faults = ["lost"]
        await client.send_batch([message(1, "a"), message(2, "b")])
        assert peer.keys == ["", ""]
        assert len(peer.stored) == 2


async def test_a_batch_answers_in_order(opened: Any) -> None:
    async with ApiPeer() as peer, opened(peer.url, retry=ONCE) as client:
        peer.refuse = lambda sent: {"code": "no_route", "field": "to"} if sent["ref"] == "b" else None
        first, second, third = await client.send_batch([message(i, ref) for i, ref in enumerate("abc")])
        assert isinstance(first, Accepted)
        assert isinstance(third, Accepted)
        assert isinstance(second, Refused)
        assert (second.code, second.field, second.retryable) == ("no_route", "to", False)


async def test_a_long_list_is_cut_by_number_and_by_bytes(opened: Any) -> None:
    async with ApiPeer() as peer, opened(peer.url, retry=QUICK) as client:
        many = [message(i) for i in range(2300)]
        answers = await client.send_batch(many, idempotency_key="k")
        assert [one.id for one in answers] == [f"id-{i}" for i in range(2300)]
        assert peer.keys == ["k.0", "k.1", "k.2"]
        again = await client.send_batch(many, idempotency_key="k")
        assert all(one.replayed for one in again)
        large = [Message(f"+861380013{i:04}", "notification", "x" * 20_000, ref=f"l{i}") for i in range(300)]
        peer.bodies.clear()
        assert len(await client.send_batch(large, defaults={"sender": "1"})) == 300
        assert len(peer.bodies) == 2
        assert max(peer.bodies) <= 4 << 20


async def test_items_refused_for_now_are_posted_again_where_they_have_a_ref(opened: Any) -> None:
    async with ApiPeer() as peer, opened(peer.url, retry=QUICK) as client:
        peer.faults = ["busy", "busy"]
        with_ref, without = await client.send_batch([message(1, "a"), message(2)])
        assert isinstance(with_ref, Accepted)
        assert isinstance(without, Refused)
        assert without.retryable
        assert peer.posts == {("a", message(1).to): 1}
        peer.faults = ["busy"]
        (left,) = await client.send_batch([message(3, "c")], retry_items=False)
        assert isinstance(left, Refused)


async def test_many_are_sent_a_few_batches_at_a_time(opened: Any) -> None:
    async with ApiPeer() as peer, opened(peer.url, retry=QUICK) as client:
        peer.faults = ["lost", 503, "cut"]
        peer.hold = asyncio.Event()

        async def collect() -> list[Any]:
            return [pair async for pair in client.send_many((message(i, f"r{i}") for i in range(230)), batch=10)]

        task = asyncio.create_task(collect())
        await until(lambda: peer.now == 4)
        peer.hold.set()
        taken = await task
        assert {sent.ref for sent, _ in taken} == {f"r{i}" for i in range(230)}
        assert all(isinstance(answer, Accepted) for _, answer in taken)
        assert len(peer.stored) == 230
        assert peer.most == 4


async def test_many_stop_at_the_first_refused_call(opened: Any) -> None:
    async with ApiPeer(key="other") as peer, opened(peer.url, retry=QUICK) as client:
        with pytest.raises(ApiError, match="unauthorized"):
            [pair async for pair in client.send_many((message(i, f"r{i}") for i in range(100)), batch=10)]
        assert len(peer.keys) <= 4


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422])
async def test_a_refusal_is_not_repeated(opened: Any, status: int) -> None:
    async with ApiPeer() as peer, opened(peer.url, retry=QUICK) as client:
        peer.faults = [status]
        with pytest.raises(ApiError) as caught:
            await client.send(message())
        assert caught.value.status == status
        assert (caught.value.code, caught.value.outcome) == ("made_up", "not_stored")
        assert len(peer.keys) == 1


async def test_a_redirect_is_not_followed(opened: Any) -> None:
    async with ApiPeer() as peer, opened(peer.url, retry=QUICK) as client:
        peer.faults = ["elsewhere"]
        with pytest.raises(ApiError, match="http_302"):
            await client.send(message())
        assert len(peer.keys) == 1


@pytest.mark.parametrize("fault", [503, "cut", "lost"])
async def test_feedback_told_again_counts_once(opened: Any, fault: int | str) -> None:
    async with ApiPeer() as peer, opened(peer.url, retry=QUICK) as client:
        peer.faults = [fault]
        told = Feedback("converted", "e-1", amount="19.90", currency="CNY")
        assert await client.feedback("id-0", told) == (fault != "lost")
        assert peer.told == {
            ("id-0", "e-1"): {"outcome": "converted", "event_id": "e-1", "amount": "19.90", "currency": "CNY"}
        }


async def test_nobody_there_is_unreachable_and_nothing_was_stored(opened: Any) -> None:
    async with ApiPeer() as peer:
        url = peer.url
    async with opened(url, retry=Retry(deadline_s=0.05, first_wait_s=0.01)) as client:
        with pytest.raises(Unreachable) as caught:
            await client.send(message())
        assert caught.value.outcome == "not_stored"


async def test_busy_until_the_deadline_says_so(opened: Any) -> None:
    async with ApiPeer() as peer, opened(peer.url, retry=ONCE) as client:
        peer.faults = [503]
        with pytest.raises(Busy) as caught:
            await client.send(message())
        assert caught.value.refused.retryable
        assert caught.value.outcome == "not_stored"


async def test_busy_after_a_lost_answer_does_not_claim_that_nothing_was_stored(opened: Any) -> None:
    async with ApiPeer() as peer, opened(peer.url, retry=Retry(deadline_s=0.5, first_wait_s=0.01)) as client:
        peer.faults = ["lost", 503]
        peer.retry_after = "60"
        with pytest.raises(Busy) as caught:
            await client.send(message(), idempotency_key="mine")
        assert len(peer.stored) == 1
        assert (caught.value.outcome, caught.value.retry_after_s) == ("unknown", 60.0)


async def test_a_connection_that_the_gateway_closed_meanwhile_costs_nothing(opened: Any) -> None:
    async with ApiPeer() as peer, opened(peer.url, retry=ONCE) as client:
        peer.faults = [404]
        with pytest.raises(NotFound):
            await client.send(message(1))
        await peer.close_idle()
        await client.send(message(2))
        assert len(peer.stored) == 1


async def test_an_id_is_one_part_of_the_path(opened: Any) -> None:
    async with ApiPeer() as peer, opened(peer.url, retry=ONCE) as client:
        for odd in ("../blacklist/1", "..", "a/feedback", "a?b=c", "é\r\nX: y"):
            with pytest.raises(NotFound):
                await client.get(odd)
        assert peer.looked_up == ["../blacklist/1", "..", "a/feedback", "a?b=c", "é\r\nX: y"]


def test_a_deadline_longer_than_a_key_holds_is_refused() -> None:
    with pytest.raises(ValueError, match="deadline_s"):
        Retry(deadline_s=86_400)
