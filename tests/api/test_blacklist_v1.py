"""`/v1/blacklist/{number}` over HTTP on a real store: the account's own entries, in force at once; complaints."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from gateway.store.audit import Audit
from gateway.store.blacklists import Blacklists
from tests.api.conftest import KEY, OTHER_KEY, Api, message
from tests.store.test_repeat import settlement
from tests.support.messages import claim, ids_of

TO = "+8613800000001"
PLACE = f"/v1/blacklist/{quote(TO)}"


async def test_put_get_delete_and_what_a_post_answers(api: Api) -> None:
    status, body, _ = await api.call("GET", PLACE)
    assert (status, body) == (200, {"number": TO, "listed": False, "entries": []})
    marketing = message(1, category="marketing")
    assert (await api.post(marketing))[0] == 202
    status, body, _ = await api.call("PUT", PLACE, {"reason": "td"})
    assert status == 200
    [entry] = body["entries"]
    assert entry | {"since": ""} == {
        "scope": "shop", "categories": ["marketing"], "reason": "td", "since": "", "source": "api",
    }  # fmt: skip
    assert (await api.call("GET", "/v1/blacklist/13800000001"))[1]["entries"] == [entry], "national, as in a post"
    status, refused, _ = await api.post(message(1, category="marketing"))
    assert (status, refused["code"], refused["field"]) == (422, "blocked_recipient", "to")
    assert (await api.post(message(1, category="verification")))[0] == 202
    # What was accepted before is met at its claim: none of it leaves.
    await api.store.heartbeat(0, first=True)
    claimed = await claim(api.store, channel="a", route="cn")
    assert [c.category for c in claimed] == [0]

    status, body, _ = await api.call("PUT", PLACE, {"categories": ["notification", "marketing"]})
    assert [(one["categories"], one["reason"]) for one in body["entries"]] == [
        (["notification", "marketing"], "operator"),
    ]  # fmt: skip
    assert (await api.post(message(1)))[1]["code"] == "blocked_recipient"
    # Another account neither sees nor changes it, and is not bound by it.
    assert (await api.call("GET", PLACE, key=OTHER_KEY))[1]["listed"] is False
    assert (await api.call("DELETE", PLACE, key=OTHER_KEY))[1]["removed"] == []
    await Blacklists(api.store).add(TO[1:], "shop/Acme", 4, "td", source="mo.a", actor="mo.a")
    assert len((await api.call("DELETE", PLACE))[1]["removed"]) == 2
    assert (await api.call("DELETE", PLACE))[1] == {"number": TO, "removed": []}
    assert (await api.post(message(1, category="marketing")))[0] == 202
    actors = {entry.actor for entry in await Audit(api.store).read()}
    assert actors == {"account:shop", "mo.a"}


@pytest.mark.parametrize(
    ("place", "body", "status", "field"),
    [
        ("/v1/blacklist/12", {}, 422, "to"),
        ("/v1/blacklist/", {}, 422, "to"),
        ("/v1/blacklist/%FF", {}, 422, "to"),
        (PLACE, {"categories": []}, 422, "categories"),
        (PLACE, {"categories": ["adverts"]}, 422, "categories"),
        (PLACE, {"categories": [["marketing"]]}, 422, "categories"),
        (PLACE, {"reason": "because"}, 422, "reason"),
        (PLACE, {"reason": 1}, 422, "reason"),
        (PLACE, {"colour": "red"}, 422, None),
        (PLACE, [], 400, None),
    ],
)
async def test_what_is_refused(api: Api, place: str, body: Any, status: int, field: str | None) -> None:
    got, answer, _ = await api.call("PUT", place, body)
    assert (got, answer.get("field")) == (status, field)
    assert await Blacklists(api.store).counts() == {}
    assert (await api.call("POST", PLACE, {}))[0] == 405
    assert (await api.call("GET", PLACE, key=None))[0] == 401


async def test_who_complained_gets_no_more(api: Api) -> None:
    status, answer, _ = await api.post(message(1, category="marketing"))
    assert status == 202
    await api.store.heartbeat(0, first=True)
    (c,) = await claim(api.store, channel="a", route="cn")
    assert await api.store.settle(0, [settlement(c, channel="a", log=f"1\x1fa\x1f0\x1f\x1f0={c.id.hex()}0")], ids_of(c))
    told = {"outcome": "complained", "event_id": "e1"}
    for repeated in (False, True):
        status, body, _ = await api.call("POST", f"/v1/messages/{answer['id']}/feedback", told, key=KEY)
        assert (status, body["repeated"]) == (200, repeated)
    [entry] = await Blacklists(api.store).get(TO[1:])
    assert (entry.scope, entry.mask, entry.reason, entry.source) == ("shop", 4, "complaint", "feedback")
    assert (await api.post(message(1, category="marketing")))[1]["code"] == "blocked_recipient"
    assert (await api.post(message(1)))[0] == 202
    assert len(await Audit(api.store).read()) == 1
