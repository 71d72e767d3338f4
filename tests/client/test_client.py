"""The HTTP client: answers as values, and repeats that never double a message."""

from __future__ import annotations

import pytest

from gateway.client import Accepted, ApiError, Client, Feedback, Message, Refused, Retry, Unreachable
from tests.support.api_peer import ApiPeer

QUICK = Retry(deadline_s=2.0, attempt_timeout_s=2.0, first_wait_s=0.01, longest_wait_s=0.05)
ONCE = Retry(deadline_s=0.0)


def message(number: int = 0, ref: str | None = None) -> Message:
    return Message(to=f"+861380013{number:04}", category="notification", text="hello", ref=ref)


async def test_a_message_is_accepted_and_found_again() -> None:
    async with ApiPeer() as peer, Client(peer.url, "k", retry=ONCE) as client:
        accepted = await client.send(message())
        assert (accepted.id, accepted.state, accepted.parts, accepted.replayed) == (
            "id-0",
            "queued",
            1,
            False,
        )
        status = await client.get(accepted.id)
        assert (status.state, status.reason) == ("delivered", "ok")
        (stored,) = peer.stored.values()
        assert stored == {"to": "+8613800130000", "category": "notification", "text": "hello", "id": "id-0"}


@pytest.mark.parametrize("fault", [503, 429, 502, "cut", "lost"])
async def test_a_repeat_keeps_its_key_and_doubles_nothing(fault: int | str) -> None:
    async with ApiPeer() as peer, Client(peer.url, "k", retry=QUICK) as client:
        peer.faults = [fault, fault]
        accepted = await client.send(message())
        assert len(peer.stored) == 1
        assert accepted.replayed == (fault == "lost")
        assert len(peer.keys) == 3
        assert len(set(peer.keys)) == 1
        assert peer.keys[0]


async def test_refs_make_a_key_needless() -> None:
    async with ApiPeer() as peer, Client(peer.url, "k", retry=QUICK) as client:
        peer.faults = ["lost"]
        await client.send_batch([message(1, "a"), message(2, "b")])
        assert peer.keys == ["", ""]
        assert len(peer.stored) == 2


async def test_a_batch_answers_in_order() -> None:
    async with ApiPeer() as peer, Client(peer.url, "k", retry=ONCE) as client:
        peer.refuse = lambda sent: {"code": "no_route", "field": "to"} if sent["ref"] == "b" else None
        first, second, third = await client.send_batch([message(i, ref) for i, ref in enumerate("abc")])
        assert isinstance(first, Accepted)
        assert isinstance(third, Accepted)
        assert isinstance(second, Refused)
        assert (second.code, second.field, second.retryable) == ("no_route", "to", False)


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422])
async def test_a_refusal_is_not_repeated(status: int) -> None:
    async with ApiPeer() as peer, Client(peer.url, "k", retry=QUICK) as client:
        peer.faults = [status]
        with pytest.raises(ApiError) as caught:
            await client.send(message())
        assert caught.value.status == status
        assert caught.value.refused.code == "made_up"
        assert len(peer.keys) == 1


@pytest.mark.parametrize("fault", [503, "cut", "lost"])
async def test_feedback_told_again_counts_once(fault: int | str) -> None:
    async with ApiPeer() as peer, Client(peer.url, "k", retry=QUICK) as client:
        peer.faults = [fault]
        told = Feedback("converted", "e-1", amount="19.90", currency="CNY")
        assert await client.feedback("id-0", told) == (fault != "lost")
        assert peer.told == {
            ("id-0", "e-1"): {"outcome": "converted", "event_id": "e-1", "amount": "19.90", "currency": "CNY"}
        }


async def test_nobody_there_is_unreachable() -> None:
    async with ApiPeer() as peer:
        url = peer.url
    async with Client(url, "k", retry=Retry(deadline_s=0.05, first_wait_s=0.01)) as client:
        with pytest.raises(Unreachable):
            await client.send(message())


async def test_busy_until_the_deadline_says_so() -> None:
    async with ApiPeer() as peer, Client(peer.url, "k", retry=Retry(deadline_s=0.0)) as client:
        peer.faults = [503]
        with pytest.raises(ApiError) as caught:
            await client.send(message())
        assert caught.value.refused.retryable
