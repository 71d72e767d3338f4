"""A mixed load for Locust: shows how latency bends as users are added. For figures use `bench.py`.

Locust's own client costs several times the CPU of the gateway's intake, so on one machine its rates are
Locust's, not the gateway's; its charts of latency by endpoint are what it is good for. Against a gateway
started with `make run`:

    SMSGW_KEY=… locust -f loadtests/locustfile.py --host http://127.0.0.1:8080

Knows only the public HTTP API. Every message has its own recipient and its own `ref`.
"""

from __future__ import annotations

import itertools
import os
import random
from typing import Any

from locust import HttpUser, between, task

KEY = os.environ.get("SMSGW_KEY", "")
SIGNATURE = os.environ.get("SMSGW_SIGNATURE", "【Acme】")
PREFIX = os.environ.get("SMSGW_PREFIX", "+86138")
_RUN = f"{random.getrandbits(32):08x}"
_places = itertools.count(random.randrange(10_000_000))


def message(category: str) -> dict[str, Any]:
    """Return one message to a number that no other message of this process goes to."""
    place = next(_places)
    return {
        "to": f"{PREFIX}{place % 100_000_000:08d}",
        "category": category,
        "text": f"{SIGNATURE}Order {place:08d} is on its way.",
        "ref": f"{_RUN}-{place}",
    }


class Application(HttpUser):
    """An application with all three kinds of traffic: codes one by one, notifications and campaigns in
    batches.
    """

    wait_time = between(0.01, 0.05)

    def on_start(self) -> None:
        self.client.headers["Authorization"] = f"Bearer {KEY}"

    @task(6)
    def verification(self) -> None:
        self._post("/v1/messages", message("verification"), "POST verification")

    @task(3)
    def notifications(self) -> None:
        self._batch("notification", 20)

    @task(1)
    def campaign(self) -> None:
        self._batch("marketing", 100)

    @task(1)
    def look_up(self) -> None:
        """Post one message and read its state back by the id of the answer."""
        answer = self._post("/v1/messages", message("notification"), "POST notification")
        if answer:
            self.client.get(f"/v1/messages/{answer['id']}", name="GET by id")

    def _batch(self, category: str, n: int) -> None:
        body = {"messages": [message(category) for _ in range(n)]}
        with self.client.post(
            "/v1/messages/batch", json=body, name=f"POST batch of {n}", catch_response=True
        ) as answer:
            if answer.status_code != 202:
                answer.failure(f"{answer.status_code}")
            elif answer.json()["rejected"]:
                answer.failure("some items were rejected")

    def _post(self, path: str, body: dict[str, Any], name: str) -> dict[str, Any] | None:
        with self.client.post(path, json=body, name=name, catch_response=True) as answer:
            if answer.status_code != 202:
                answer.failure(f"{answer.status_code}")
                return None
            result: dict[str, Any] = answer.json()
            return result
