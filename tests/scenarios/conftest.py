"""What all scenarios share: a carrier that is taken away is looked for again soon, not after production's pauses."""

from __future__ import annotations

import pytest

from gateway.dispatch import timers
from gateway.smpp import channel


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "_BACKOFF_FIRST_S", 0.05)
    monkeypatch.setattr(channel, "_BACKOFF_MOST_S", 0.3)
    monkeypatch.setattr(channel, "_UNBIND_S", 0.5)
    monkeypatch.setattr(timers, "DUE_S", 0.05)
