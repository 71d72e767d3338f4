"""Questions and reports, without a store: every parameter that is refused, reports against a naive sum, ratios, CSV."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import RequestError
from gateway.model import CATEGORY_LABELS
from gateway.statistics import Query, Report, columns, latency, parse, prefers_csv, to_csv
from gateway.store.stats_table import CONTENT, LABELS, MERGED, PATH, US, WHOLE, Table, narrowed, pack, unpack

NOW = datetime(2026, 7, 15, 10, 30, tzinfo=UTC)
NOW_S = NOW.timestamp()
HOUR = int(NOW_S) // 3_600


def hour_of(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp()) // 3_600  # type: ignore[misc]


def question(**given: str) -> Query:
    return parse({name.rstrip("_"): value for name, value in given.items()}, now_s=NOW_S)


# --- parameters


def test_without_parameters_it_is_today() -> None:
    query = question()
    assert (query.from_hour, query.to_hour) == (hour_of(2026, 7, 15), HOUR + 1)
    assert (query.by, dict(query.where), query.zone_name, query.format) == ((), {}, "UTC", "json")


def test_dates_are_of_the_zone_and_the_last_is_in_it() -> None:
    query = question(from_="2026-07-01", to="2026-07-02", zone="+08:00", by="day")
    assert (query.from_hour, query.to_hour) == (hour_of(2026, 6, 30, 16), hour_of(2026, 7, 2, 16))
    assert question(from_="2026-07-01", zone=" 08:00").from_hour == query.from_hour  # '+' unescaped
    assert question(from_="2026-07-01", zone="Asia/Shanghai").from_hour == query.from_hour
    india = question(from_="2026-07-01", zone="Asia/Kolkata")
    assert india.from_hour == hour_of(2026, 6, 30, 19)  # the first hour that begins on that day
    summer = question(from_="2026-07-01", zone="Europe/Berlin")
    assert summer.from_hour == hour_of(2026, 6, 30, 22)


def test_times_reach_to_whole_hours() -> None:
    query = question(from_="2026-07-14T23:30:00Z", to="2026-07-15T10:00:01+02:00")
    assert (query.from_hour, query.to_hour) == (hour_of(2026, 7, 14, 23), hour_of(2026, 7, 15, 9))
    assert question(from_="2026-07-15T08:00:00 02:00").from_hour == hour_of(2026, 7, 15, 6)


def test_whole_days_are_read_by_day_and_the_rest_by_hour() -> None:
    query = question(from_="2026-07-13T12:00:00Z", to="2026-07-14")
    day = HOUR // 24
    assert query.days() == [(day - 2, True), (day - 1, False)]
    assert question(from_="2026-07-14", to="2026-07-14", by="hour").days() == [(day - 1, True)]
    assert question(from_="2026-07-14", to="2026-07-14", by="day").days() == [(day - 1, False)]
    assert question(from_="2026-07-14", by="day", zone="+00:00").days()[0] == (day - 1, False)
    zoned = question(from_="2026-07-14", to="2026-07-14", by="day", zone="-01:00")
    assert zoned.days() == [(day - 1, True), (day, True)]
    far = question(from_="2026-07-14", to="2026-12-31")
    assert len(far.days()) == 3, "nothing is looked for in the future, a day's clock error aside"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"from": "9999-12-31"}, "from"),
        ({"to": "9999-12-30"}, "to"),
        ({"form": "csv"}, None),
        ({"from": "yesterday"}, "from"),
        ({"from": "2026-07-01 10:00:00Z"}, "from"),
        ({"from": "2026-07-01T10:00:00"}, "from"),
        ({"from": "2026-02-30"}, "from"),
        ({"from": "0001-01-01", "zone": "+08:00"}, "from"),
        ({"to": "9999-12-31"}, "to"),
        ({"from": "2026-07-15T10:00:00Z", "to": "2026-07-15T10:00:00Z"}, "to"),
        ({"from": "2026-07-15", "to": "2026-07-14"}, "to"),
        ({"from": "2025-07-15", "to": "2026-12-31"}, "to"),
        ({"from": "2025-01-01", "to": "2025-02-01"}, "from"),
        ({"from": "2026-04-01", "by": "hour"}, "from"),
        ({"from": "2026-04-01", "by": "day", "zone": "+08:00"}, "from"),
        ({"from": "2026-04-01T12:00:00Z"}, "from"),
        ({"zone": "Mars/Olympus"}, "zone"),
        ({"zone": "+15:00"}, "zone"),
        ({"zone": "EST"}, "zone"),
        ({"by": "phone"}, "by"),
        ({"by": "day,"}, "by"),
        ({"by": "day,hour"}, "by"),
        ({"by": "route,route"}, "by"),
        ({"category": "spam"}, "category"),
        ({"campaign": "x" * 2_001}, "campaign"),
        ({"format": "xml"}, "format"),
        ({"by": "signature,route"}, "by"),
        ({"by": "signature,hour"}, "by"),
        ({"by": "signature", "channel": "a"}, "channel"),
        ({"signature": "Acme", "zone": "+08:00"}, "zone"),
        ({"signature": "Acme", "from": "2026-07-14T12:00:00Z"}, "from"),
        ({"signature": "Acme", "from": "2026-07-14", "to": "2026-07-14T12:00:00Z"}, "to"),
    ],
)
def test_what_is_refused_is_named(given: dict[str, str], field: str | None) -> None:
    with pytest.raises(RequestError) as refused:
        parse(given, now_s=NOW_S)
    assert (refused.value.code, refused.value.field, refused.value.status) == ("invalid_parameter", field, 400)
    assert not any(word in refused.value.detail for word in ("yesterday", "Mars", "phone", "spam", "Acme", "xml", "xx"))


def test_days_before_the_hours_that_are_kept_can_still_be_asked_for() -> None:
    assert question(from_="2025-07-15", to="2026-07-14", by="day,route").days()[0] == (HOUR // 24 - 365, False)
    assert question(from_="2025-12-01", by="campaign,signature,day").opt_outs


def test_an_account_sees_itself_alone() -> None:
    own = parse({}, now_s=NOW_S, account="shop")
    assert own.accounts == ["shop"]
    for other in ({"account": "bank"}, {"by": "account"}):
        with pytest.raises(RequestError):
            parse(other, now_s=NOW_S, account="shop")


def test_accept_decides_where_format_does_not() -> None:
    assert parse({}, now_s=NOW_S, wants_csv=True).format == "csv"
    assert parse({"format": "json"}, now_s=NOW_S, wants_csv=True).format == "json"
    assert prefers_csv("text/html, Text/CSV;q=0.9")
    assert not prefers_csv("text/csv, application/json")
    assert not prefers_csv("*/*")


# --- reports against a naive sum

ACCOUNTS, CAMPAIGNS, CHANNELS = ("a", "b"), ("", "spring", "x,y", "other"), ("", "c1", "c2")
MEASURES = (
    "accepted", f"s{US}", f"+{US}", f"u{US}", f"n{US}0x58", f"n{US}0x14", f"D{US}t0", f"D{US}t5",
    f"D{US}late_correction", f"U{US}absent", f"R{US}absent", f"F{US}unknown_number", f"E{US}too_late",
    f"K{US}no_receipt", f"C{US}", f"B{US}td", f"v{US}clicked", f"v{US}converted", f"v{US}complained", f"td{US}",
)  # fmt: skip
CELLS = st.tuples(
    st.sampled_from(ACCOUNTS),
    st.integers(HOUR - 60, HOUR),
    st.tuples(
        st.sampled_from(("cm", "cu")), st.just("r"), st.sampled_from(("", "otp")), st.sampled_from(CAMPAIGNS),
        st.sampled_from(("", "b")), st.sampled_from("012"), st.sampled_from(CHANNELS),
    ),
    st.sampled_from([m if US in m else m + US for m in MEASURES]),
    st.integers(-2, 40),
)  # fmt: skip
FILTERS = {
    "account": ACCOUNTS,
    "category": CATEGORY_LABELS,
    "campaign": (r"x\,y", "spring", ""),
    "channel": CHANNELS,
    "carrier": ("cm", "nobody"),
    "reason": ("absent", "no_receipt"),
}
COUNTED = {
    "accepted": "accepted", "submitted": "s", "delivered": "D", "failed": "URF", "expired": "E", "unknown": "K",
    "cancelled": "C", "blocked": "B", "uncertain": "u", "refused": "n", "td": "td",
}  # fmt: skip


def tables(cells: list[Any], query: Query) -> list[tuple[str, Table]]:
    """Put the cells where the store would have them: tables of hours or of days, of the kind that is asked for."""
    found: dict[tuple[str, int], Table] = {}
    by_hour = dict(query.days())
    for account, hour, values, measure, n in cells:
        day = hour // 24
        if day in by_hour:
            numbers: Any = {US.join(values): {measure: n}}
            if query.tables != WHOLE:
                numbers = narrowed(numbers, CONTENT if query.tables == CONTENT else PATH)
            name = "" if query.tables == MERGED else account
            table = found.setdefault((name, day), Table())
            table.add(hour if by_hour[day] else day * 24, numbers)
    return [(account, unpack(pack(table))) for (account, _), table in found.items()]


def naive(cells: list[Any], query: Query) -> dict[tuple[str, ...], dict[str, int]]:
    """Do the same one by one."""
    rows: dict[tuple[str, ...], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for account, hour, values, measure, n in cells:
        outcome, reason = measure.split(US)
        ends = outcome in ("U", "R", "F", "E", "K", "C", "B")
        one = dict(zip(LABELS, values, strict=True)) | {"account": account, "reason": reason if ends else ""}
        began = datetime.fromtimestamp(hour * 3_600, query.zone)
        shown = one | {
            "category": CATEGORY_LABELS[int(one["category"])],
            "day": began.date().isoformat(),
            "hour": began.isoformat().replace("+00:00", "Z"),
        }
        if not query.from_hour <= hour < query.to_hour or ("reason" in query.where and not ends):
            continue
        if any(one[name] not in wanted for name, wanted in query.where.items()):
            continue
        cell = rows[tuple(shown[name] for name in query.by)]
        for name, outcomes in COUNTED.items():
            if outcome == outcomes or (len(outcomes) == 3 and outcome in outcomes):
                cell[name] += n
        if outcome == "v":
            cell[{"clicked": "clicks", "converted": "conversions", "complained": "complaints"}[reason]] += n
        if outcome in ("s", "+"):
            cell["parts"] += n
    return rows


@settings(max_examples=150, deadline=None)
@given(data=st.data(), cells=st.lists(CELLS, max_size=40))
def test_a_report_is_the_naive_sum(data: st.DataObject, cells: list[Any]) -> None:
    groupings = ["account", "category", "carrier", "channel", "reason", "template", "campaign", "variant", "route"]
    by = data.draw(st.lists(st.sampled_from([*groupings, "hour"]) | st.just("day"), unique=True, max_size=4))
    if {"hour", "day"} <= set(by):
        by.remove("hour")
    given = {"from": "2026-07-13", "by": ",".join(by)}
    if data.draw(st.booleans()):
        given |= {"from": "2026-07-13T05:00:00Z", "to": "2026-07-15T08:00:00Z"}
    given["zone"] = data.draw(st.sampled_from(("UTC", "+08:00", "-03:30", "America/New_York")))
    for name, values in FILTERS.items():
        if data.draw(st.integers(0, 3)) == 0:
            given[name] = ",".join(data.draw(st.lists(st.sampled_from(values), min_size=1, max_size=2)))
    query = parse(given, now_s=NOW_S)
    report = Report(query)
    for account, table in tables(cells, query):
        report.add(account, table)
    answer = report.answer()
    expected = naive(cells, query)
    names = (*COUNTED, "clicks", "conversions", "complaints", "parts")
    found = {tuple(row[name] for name in by): {name: row[name] for name in names} for row in answer["rows"]}
    wanted = {key: {name: cell.get(name, 0) for name in names} for key, cell in expected.items()}
    for key, cell in wanted.items():
        assert found.pop(key, dict.fromkeys(names, 0)) == cell
    assert not found
    assert {name: answer["total"][name] for name in names} == {
        name: sum(cell[name] for cell in wanted.values()) for name in names
    }
    assert len(list(csv.reader(io.StringIO(to_csv(answer))))) == 1 + len(answer["rows"])


# --- what a report says


def report(counts: dict[str, int], by: str = "") -> dict[str, Any]:
    table = Table()
    table.add(HOUR, {US.join(("cm", "r", "", "", "", "1", "ch")): counts})
    made = Report(question(by=by))
    made.add("shop", table)
    return made.answer()


def test_ratios_shares_money_and_refusals() -> None:
    found = report(
        {
            f"s{US}": 10, f"+{US}": 3, f"${US}": 1_234_500, f"D{US}t1": 6, f"U{US}absent": 2, f"F{US}no_route": 1,
            f"U{US}barred": 1, f"K{US}x": 1, f"E{US}x": 1, f"n{US}0x58": 4, f"n{US}0x14": 5, f"a{US}CNY": 199_000,
            f"a{US}USD": 1, f"v{US}converted": 2, f"C{US}x": 3,
        }
    )["total"]  # fmt: skip
    assert found["delivery_ratio"] == 0.5  # of 6 delivered, 4 failed, 1 unknown, 1 expired
    assert found["failures"] == [
        {"state": "undeliverable", "reason": "absent", "n": 2, "share": 0.5},
        {"state": "failed", "reason": "no_route", "n": 1, "share": 0.25},
        {"state": "undeliverable", "reason": "barred", "n": 1, "share": 0.25},
    ]
    assert found["refusals"] == [{"status": "0x14", "n": 5}, {"status": "0x58", "n": 4}]
    assert (found["cost"], found["amounts"]) == ("1.2345", {"CNY": "19.90", "USD": "0.0001"})
    assert found["parts"] == 13


def test_latency_is_read_from_buckets() -> None:
    assert latency({}) is None
    assert latency({0: 4}) == {"bucketed": True, "n": 4, "p50_s": 0.5, "p95_s": 0.95, "p99_s": 0.99}
    spread = latency({0: 50, 3: 40, 18: 10})
    assert spread is not None
    assert (spread["p50_s"], spread["p95_s"]) == (1.0, 196608.0)
    assert 4 < latency({0: 1, 3: 9})["p50_s"] <= 8  # type: ignore[index]


def test_too_many_rows_are_refused_with_what_to_do() -> None:
    made = Report(question(by="campaign"), most_rows=3)
    table = Table()
    for i in range(4):
        table.add(HOUR, {US.join(("cm", "r", "", f"c{i}", "", "1", "ch")): {f"s{US}": 1}})
    with pytest.raises(RequestError) as refused:
        made.add("shop", table)
    assert (refused.value.code, refused.value.field, refused.value.status) == ("too_many_rows", "by", 422)
    made = Report(question(by="reason"), most_rows=3)
    table = Table()
    table.add(HOUR, {US.join(("cm", "r", "", "", "", "1", "ch")): {f"U{US}why{i}": 1 for i in range(4)}})
    made.add("shop", table)
    with pytest.raises(RequestError):
        made.answer()


def test_hours_and_days_are_shown_in_the_zone() -> None:
    zoned = Report(question(by="hour", zone="+05:30"))
    table = Table()
    table.add(HOUR, {US.join(("cm", "r", "", "", "", "1", "ch")): {f"s{US}": 1}})
    zoned.add("shop", table)
    assert [row["hour"] for row in zoned.answer()["rows"]] == ["2026-07-15T15:30:00+05:30"]


def test_opt_outs_by_signature() -> None:
    made = Report(question(by="signature,campaign,day", from_="2026-07-01", account="shop"))
    day = HOUR // 24
    made.add_opt_outs(day, "shop", "spring", "Acme", "td", 3)
    made.add_opt_outs(day, "shop", "spring", "Acme", "complained", 1)
    made.add_opt_outs(day, "bank", "spring", "Bank", "td", 7)
    made.add_opt_outs(day - 1, "shop", "", "Acme", "td", 2)
    answer = made.answer()
    assert answer["rows"] == [
        {"signature": "Acme", "campaign": "", "day": "2026-07-14", "td": 2, "complaints": 0},
        {"signature": "Acme", "campaign": "spring", "day": "2026-07-15", "td": 3, "complaints": 1},
    ]
    assert answer["total"] == {"td": 5, "complaints": 1}
    assert columns(answer) == ["signature", "campaign", "day", "td", "complaints"]
    assert to_csv(answer).splitlines()[2] == "Acme,spring,2026-07-15,3,1"


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_a_cell_is_never_a_formula(first: str) -> None:
    made = Report(question(by="campaign"))
    table = Table()
    name = f"{first}cmd|' /C calc'!A0"
    table.add(HOUR, {US.join(("cm", "r", "", name, "", "1", "ch")): {f"s{US}": 1, f"K{US}x": -1, f'U{US}a,"b': 2}})
    made.add("shop", table)
    head, row = list(csv.reader(io.StringIO(to_csv(made.answer()), newline="")))
    shown = dict(zip(head, row, strict=True))
    assert shown["campaign"] == f"'{name}"
    assert shown["unknown"] == "-1", "numbers stay numbers"
    assert shown["failures"] == 'undeliverable/a,"b 2'
