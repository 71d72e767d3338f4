"""Keys to accounts, and the count of wrong ones."""

from __future__ import annotations

import pytest

from gateway.api.auth import FAILURE_WINDOW_S, MAX_FAILURES, FailedTries, KeyRing
from gateway.apikey import key_hash
from gateway.errors import Backpressure, RequestError
from gateway.settings import AccountSettings

SHOP = AccountSettings("shop", (key_hash("first"), key_hash("second")))
BANK = AccountSettings("bank", (key_hash("other"),))


@pytest.fixture
def ring() -> KeyRing:
    return KeyRing([SHOP, BANK])


@pytest.mark.parametrize("header", ["Bearer first", "bearer first", "Bearer second", "Bearer  first "])
def test_a_known_key_names_its_account(ring: KeyRing, header: str) -> None:
    assert ring.account(header) is SHOP


@pytest.mark.parametrize(
    "header", [None, "", "first", "Basic first", "Bearer", "Bearer ", "Bearer firs", "Bearer first2", "Bearer \udcff"]
)
def test_anything_else_names_nobody(ring: KeyRing, header: str | None) -> None:
    assert ring.account(header) is None


def test_wrong_keys_are_slowed_by_address() -> None:
    now = [100.0]
    failed = FailedTries(lambda: now[0])
    first = [failed.refuse("10.0.0.1") for _ in range(MAX_FAILURES)]
    assert all(isinstance(error, RequestError) and error.status == 401 for error in first)
    error = failed.refuse("10.0.0.1")
    assert isinstance(error, Backpressure)
    assert (error.status, error.retry_after_s) == (429, FAILURE_WINDOW_S)
    assert isinstance(failed.refuse("10.0.0.2"), RequestError)
    now[0] += FAILURE_WINDOW_S
    assert isinstance(failed.refuse("10.0.0.1"), RequestError)


def test_the_table_of_addresses_is_bounded() -> None:
    now = [0.0]
    failed = FailedTries(lambda: now[0])
    for i in range(10_100):
        failed.refuse(f"a{i}")
    assert len(failed._failures) <= 10_001
    now[0] += FAILURE_WINDOW_S
    failed.refuse("fresh")
    assert len(failed._failures) == 1
