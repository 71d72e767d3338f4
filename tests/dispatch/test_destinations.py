"""Refusals of a whole prefix, and full queues of one recipient, told from the answers to others."""

from __future__ import annotations

from gateway.dispatch.destinations import MIN_ANSWERS, QUEUE_S, WINDOW_S, FullQueues, UnreachedPrefixes

MOBILE, OTHER = "8613800000001", "8618900000001"


def test_one_wrong_number_is_a_wrong_number() -> None:
    u = UnreachedPrefixes()
    assert not u.watching
    assert not u.note("a", MOBILE, True, 0.0)
    assert u.watching
    for i in range(100):
        assert not u.note("a", MOBILE, False, i / 100)
    assert not u.note("a", MOBILE, True, 1.0)


def test_a_prefix_that_is_refused_is_the_channels_fault() -> None:
    u = UnreachedPrefixes()
    found = [u.note("a", f"86138{i:08d}", True, i / 10) for i in range(MIN_ANSWERS + 5)]
    assert found == [False] * (MIN_ANSWERS - 1) + [True] * 6
    assert not u.note("a", OTHER, True, 3.0), "another prefix"
    assert not u.note("b", MOBILE, True, 3.0), "another channel"


def test_more_than_a_fifth_of_them() -> None:
    u = UnreachedPrefixes()
    found = False
    for i in range(200):
        found = u.note("a", MOBILE, i % 5 == 0, i / 100)
    assert not found
    for i in range(100):
        found = u.note("a", MOBILE, i % 3 == 0, 2 + i / 100)
    assert found


def test_it_is_forgotten_after_a_minute_without() -> None:
    u = UnreachedPrefixes()
    for i in range(MIN_ANSWERS):
        u.note("a", MOBILE, True, i / 100)
    assert not u.note("a", MOBILE, False, WINDOW_S + 30)
    assert not u.watching


def test_a_queue_is_one_recipients_while_others_pass() -> None:
    q = FullQueues()
    assert q.of_one("a", MOBILE, accepted_at=99.0, now=100.0) == 1
    assert q.of_one("a", MOBILE, accepted_at=101.0, now=102.0) == 2
    assert not q.of_one("a", OTHER, accepted_at=102.0, now=103.0), "two recipients: the SMSC's"
    assert q.of_one("b", OTHER, accepted_at=102.0, now=103.0)
    assert q.of_one("a", OTHER, accepted_at=120.0, now=103.0 + 2 * QUEUE_S)


def test_a_queue_is_the_smscs_while_nothing_passes() -> None:
    assert not FullQueues().of_one("a", MOBILE, accepted_at=0.0, now=100.0)
