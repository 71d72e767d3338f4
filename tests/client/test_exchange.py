"""How a call is repeated, without sockets and without waiting: flows fed by hand, at times of the test's making."""

from __future__ import annotations

from dataclasses import dataclass, field

import orjson
import pytest

from gateway.api import problem
from gateway.client import ApiError, BadRequest, Busy, Message, Refused, Retry, Unauthorized, Unreachable
from gateway.client import calls as all_calls
from gateway.client.errors import BY_CODE, api_error
from gateway.client.exchange import Broken, Clock, Effort, Pause, Request, Response, answered
from gateway.client.reading import refused_call

POST = Request("POST", "/v1/messages", headers={"Idempotency-Key": "k"}, body=b"{}")


@dataclass
class Driver:
    """Feeds a flow and notes what it asked for; pauses pass at once on its own clock, attempts take `takes_s`."""

    answers: list[Response | Broken]
    chance: float = 0.5
    takes_s: float = 0.0
    now: float = 1000.0
    requests: list[Request] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.now, lambda: 1_700_000_000.0, lambda: self.chance)

    def run(self, retry: Retry) -> Response:
        flow = answered(POST, Effort(retry, self.clock))
        step = next(flow)
        try:
            while True:
                if isinstance(step, Pause):
                    self.pauses.append(step.seconds)
                    self.now += step.seconds
                    step = flow.send(None)
                else:
                    self.requests.append(step)
                    self.now += self.takes_s
                    step = flow.send(self.answers.pop(0))
        except StopIteration as end:
            return end.value[1]


OK = Response(202, {}, b'{"id": "x"}')


def refusal(status: int, code: str = "overloaded", after: str = "", outcome: str = "not_stored") -> Response:
    headers = {"retry-after": after} if after else {}
    return Response(status, headers, orjson.dumps({"code": code, "detail": "d", "outcome": outcome}))


def test_pauses_double_with_chance_and_never_pass_the_longest() -> None:
    driver = Driver([Broken("x")] * 6 + [OK])
    driver.run(Retry(deadline_s=60, first_wait_s=0.1, longest_wait_s=1.0))
    assert driver.pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    for chance, first in ((0.0, 0.05), (1.0, 0.15)):
        driver = Driver([Broken("x"), OK], chance)
        driver.run(Retry(first_wait_s=0.1))
        assert driver.pauses == pytest.approx([first])


def test_retry_after_is_kept_and_spread() -> None:
    driver = Driver([refusal(429, after="3"), refusal(503, after="20"), OK], chance=1.0)
    driver.run(Retry(deadline_s=60))
    assert driver.pauses[0] == pytest.approx(3.15)
    assert 20 < driver.pauses[1] <= 22


def test_a_retry_after_behind_the_deadline_ends_it_at_once() -> None:
    driver = Driver([refusal(429, "quota_exceeded", after="7200")])
    with pytest.raises(Busy) as caught:
        driver.run(Retry(deadline_s=60))
    assert (caught.value.code, caught.value.retry_after_s, driver.pauses) == ("quota_exceeded", 7200.0, [])


def test_the_deadline_holds_for_all_attempts_together() -> None:
    driver = Driver([Broken("x")] * 50, takes_s=4.0)
    with pytest.raises(Unreachable):
        driver.run(Retry(deadline_s=10, attempt_timeout_s=8, first_wait_s=0.5))
    assert driver.now <= 1000 + 10 + 4
    assert [one.timeout_s for one in driver.requests] == pytest.approx([8, 5.5, 0.5])


def test_every_attempt_is_the_same_request() -> None:
    driver = Driver([Broken("x"), refusal(503, after="1"), Response(504, {}, b""), OK])
    driver.run(Retry(deadline_s=60))
    assert {(one.method, one.path, one.body, one.headers["Idempotency-Key"]) for one in driver.requests} == {
        ("POST", "/v1/messages", b"{}", "k")
    }
    assert len(driver.requests) == 4


@pytest.mark.parametrize("status", [400, 401, 404, 409, 413, 422, 500])
def test_what_a_repeat_would_not_change_is_not_repeated(status: int) -> None:
    driver = Driver([refusal(status, "made_up")])
    with pytest.raises(ApiError):
        driver.run(Retry(deadline_s=60))
    assert len(driver.requests) == 1


@pytest.mark.parametrize(
    ("first", "outcome"),
    [(Broken("x", sent=True), "unknown"), (Broken("x", sent=False), "not_stored"), (refusal(503), "not_stored"),
     (refusal(503, "store_unavailable", outcome="unknown"), "unknown"), (Response(502, {}, b"<html>"), "unknown")],
)  # fmt: skip
def test_doubt_once_had_stays(first: Response | Broken, outcome: str) -> None:
    for last, error in ((refusal(503, after="99"), Busy), (refusal(401, "unauthorized"), Unauthorized)):
        with pytest.raises(error) as caught:
            Driver([first, last]).run(Retry(deadline_s=30))
        assert caught.value.outcome == outcome
    with pytest.raises(Unreachable) as gone:
        Driver([first, *[Broken("x", sent=False)] * 50]).run(Retry(deadline_s=1))
    assert gone.value.outcome == outcome


def test_a_fault_of_the_content_would_have_stopped_the_first_attempt_too() -> None:
    with pytest.raises(BadRequest) as caught:
        Driver([Broken("x"), refusal(422, "invalid_field")]).run(Retry(deadline_s=30))
    assert caught.value.outcome == "not_stored"


def test_every_code_of_the_gateway_has_a_type() -> None:
    assert BY_CODE.keys() == problem.TITLES.keys()
    assert all(issubclass(kind, ApiError) and kind is not ApiError for kind in BY_CODE.values())


@pytest.mark.parametrize(("status", "kind"), [(429, Busy), (502, Busy), (418, BadRequest), (302, ApiError)])
def test_what_is_not_of_the_gateway_goes_by_its_status(status: int, kind: type[ApiError]) -> None:
    found = refused_call(status, {}, b"<html>", 0.0)
    assert (found.code, found.outcome) == (f"http_{status}", "unknown")
    assert type(api_error(status, found)) is kind


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("3", 3.0), ("Thu, 01 Jan 1970 00:01:40 GMT", 40.0), ("soon", None), ("-1", None), ("٣", None), ("", None)],
)
def test_retry_after_in_every_spelling(header: str, seconds: float | None) -> None:
    assert refused_call(503, {"retry-after": header}, b'{"code": "overloaded"}', 60.0).retry_after_s == seconds


def test_batches_are_cut_the_same_way_every_time() -> None:
    rows = [{"to": "1", "text": "x" * (i % 9000)} for i in range(2500)]
    first = list(all_calls.batched(rows, {"category": "marketing"}))
    assert first == list(all_calls.batched(rows, {"category": "marketing"}))
    assert sum(count for count, _ in first) == 2500
    assert all(count <= 1000 and len(body) <= all_calls.MAX_BATCH_BYTES for count, body in first)
    assert [m for _, body in first for m in orjson.loads(body)["messages"]] == rows


def test_a_batch_exactly_as_large_as_allowed_is_one() -> None:
    row = {"text": "x" * 10}
    fixed = len(b'{"messages":[') + len(b"]}")
    fill = all_calls.MAX_BATCH_BYTES - fixed - len(orjson.dumps(row)) - 1 - len(b'{"text":""}')
    ((count, body),) = all_calls.batched([row, {"text": "y" * fill}], None)
    assert (count, len(body)) == (2, all_calls.MAX_BATCH_BYTES)
    assert [count for count, _ in all_calls.batched([row, {"text": "y" * (fill + 1)}], None)] == [1, 1]


def test_commas_in_what_is_filtered_by_are_kept() -> None:
    assert all_calls.stats_query("2026-11-01", None, ("day", "tag"), "+08:00", {"campaign": ["a,b", "c"]}) == {
        "from": "2026-11-01",
        "zone": "+08:00",
        "by": "day,tag",
        "campaign": "a\\,b,c",
    }


def test_a_time_without_its_offset_is_refused() -> None:
    from datetime import UTC, datetime

    with pytest.raises(ValueError, match="offset"):
        Message("+1", send_at=datetime(2026, 12, 1)).to_json()
    assert Message("+1", send_at=datetime(2026, 12, 1, tzinfo=UTC)).to_json()["send_at"] == "2026-12-01T00:00:00+00:00"


def test_items_after_a_lost_answer_are_in_doubt_only_where_the_content_did_not_decide() -> None:
    effort = Effort(Retry(), Driver([]).clock)
    effort.doubt = True
    assert effort.judged(Refused("overloaded")).outcome == "unknown"
    assert effort.judged(Refused("invalid_number")).outcome == "not_stored"
