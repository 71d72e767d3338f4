"""What is asked of the statistics, and the report that answers it: filter, group, add up, ratios, CSV.

Pure: time is an argument, tables come from whoever reads them. Owns the parameters of `GET /v1/stats` and what a
measure of the store means to people (docs/statistics.md). Refuses to know where numbers are kept, beyond for how long.
Beside the path; the application API, the admin API and `smsgw stats` all ask here.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import cache
from typing import Any, Final, Protocol

import orjson

from gateway.errors import RequestError
from gateway.model import CATEGORY_BY_LABEL, CATEGORY_LABELS, STATE_LABELS, State
from gateway.policy.time_zones import zone_named
from gateway.store.stats_table import (
    CONTENT,
    DAILY_DAYS,
    HOURLY_DAYS,
    LABELS,
    MERGED,
    PATH,
    US,
    WHOLE,
    Table,
)

MOST_ROWS: Final = 10_000
_HOUR_S: Final = 3_600
_AHEAD_H: Final = 25
"""Hours behind now that are looked at as well: another machine's clock may be ahead."""

TIMES: Final = ("hour", "day")
DIMENSIONS: Final = (
    "account", "category", "carrier", "route", "channel", "reason", "template", "campaign", "variant", "signature",
)  # fmt: skip
_OPT_OUT_BY: Final = ("account", "campaign", "signature", "day")
"""Opt-outs by signature are counted by these alone."""
FORMATS: Final = ("json", "csv")
PARAMETERS: Final = ("from", "to", "zone", "by", "format", *DIMENSIONS)

FAILED: Final = (State.UNDELIVERABLE, State.REJECTED, State.FAILED)
_FINALS: Final = (*FAILED, State.EXPIRED, State.UNKNOWN, State.CANCELLED, State.BLOCKED)
_SHARES: Final = (("p50_s", 0.5), ("p95_s", 0.95), ("p99_s", 0.99))
COUNTS: Final = (
    "accepted", "submitted", "delivered", "failed", "expired", "unknown", "cancelled", "blocked", "uncertain",
    "refused", "td", "complaints", "clicks", "conversions", "parts",
)  # fmt: skip
OPT_OUT_COUNTS: Final = ("td", "complaints")

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")
_OFFSET = re.compile(r"([+-])(\d\d):([0-5]\d)")
_COMMA = re.compile(r"(?<!\\),")
_MAX_VALUE_CHARS: Final = 2_000


@dataclass(frozen=True, slots=True)
class Query:
    """One question. Hours are epoch hours, the last one is not in it."""

    from_hour: int
    to_hour: int
    by: tuple[str, ...]
    where: Mapping[str, frozenset[str]]
    zone: tzinfo
    zone_name: str
    format: str
    now_hour: int

    @property
    def accounts(self) -> list[str] | None:
        """The accounts that are asked for; None: all."""
        return sorted(self.where["account"]) if "account" in self.where else None

    @property
    def tables(self) -> str:
        """Which kind of tables will do (`stats_table.WHOLE` …)."""
        asked = {*self.by, *self.where}
        if asked & {"template", "campaign", "variant"}:
            return WHOLE if asked & {"carrier", "route", "channel"} else CONTENT
        return PATH if "account" in asked else MERGED

    @property
    def opt_outs(self) -> bool:
        """Whether only opt-outs and complaints are asked for: they alone are counted by signature."""
        return "signature" in self.by or "signature" in self.where

    def days(self) -> list[tuple[int, bool]]:
        """Return the days (epoch days, UTC) to be read, and whether each is needed by hours."""
        last = min(self.to_hour, self.now_hour + _AHEAD_H) - 1
        return [(day, self._by_hour(day)) for day in range(self.from_hour // 24, last // 24 + 1)]

    def _by_hour(self, day: int) -> bool:
        whole = self.from_hour <= day * 24 and day * 24 + 24 <= self.to_hour
        return not whole or "hour" in self.by or ("day" in self.by and self.zone is not UTC)


def parse(given: Mapping[str, str], *, now_s: float, account: str | None = None, wants_csv: bool = False) -> Query:
    """Read the parameters of a question. `now_s`: epoch s; `account`: the only one that is shown, None for all;
    `wants_csv`: what is answered where `format` does not say.

    Raises:
        RequestError: `invalid_parameter` (400), field: the parameter.
    """
    known = PARAMETERS if account is None else tuple(p for p in PARAMETERS if p != "account")
    for name in given:
        if name not in known:
            raise wrong(None, f"the parameters are {', '.join(known)}")
    now_hour = int(now_s) // _HOUR_S
    zone_name, zone = _zone(given.get("zone", "UTC"))
    by = _by(given.get("by", ""), account is None)
    where = {name: _values(name, given[name]) for name in DIMENSIONS if name in given}
    if account is not None:
        where["account"] = frozenset((account,))
    default = datetime.fromtimestamp(now_hour * _HOUR_S, zone).date().isoformat()
    from_hour = _hour("from", given.get("from", default), zone, end=False)
    to_hour = _hour("to", given["to"], zone, end=True) if "to" in given else max(now_hour, from_hour) + 1
    shown = given.get("format", "csv" if wants_csv else "json")
    if shown not in FORMATS:
        raise wrong("format", "json or csv is wanted")
    query = Query(from_hour, to_hour, by, where, zone, zone_name, shown, now_hour)
    _check_range(query)
    if query.opt_outs:
        _check_opt_outs(query)
    return query


def wrong(parameter: str | None, detail: str) -> RequestError:
    """Return the refusal of a parameter; None where none is to be named."""
    return RequestError("invalid_parameter", detail, field=parameter, status=400)


def _check_range(query: Query) -> None:
    today = query.now_hour // 24
    if query.to_hour <= query.from_hour:
        raise wrong("to", "to must be after from")
    latest = query.now_hour + (DAILY_DAYS + 1) * 24  # beyond the calendar's end there are no names for hours
    for name, hour in (("from", query.from_hour), ("to", query.to_hour)):
        if hour > latest:
            raise wrong(name, f"at most {DAILY_DAYS} days ahead can be asked for")
    if query.from_hour // 24 < today - DAILY_DAYS:
        raise wrong("from", f"statistics are kept for {DAILY_DAYS} days")
    if query.to_hour - query.from_hour > (DAILY_DAYS + 1) * 24:
        raise wrong("to", f"at most {DAILY_DAYS} days can be asked for at once")
    if any(by_hour for day, by_hour in query.days() if day < today - HOURLY_DAYS) and not query.opt_outs:
        detail = f"hours are kept for {HOURLY_DAYS} days: before that ask for whole days of UTC, and not by hour"
        raise wrong("from", detail)


def _check_opt_outs(query: Query) -> None:
    wanted = ", ".join(_OPT_OUT_BY)
    for name in query.by:
        if name not in _OPT_OUT_BY:
            raise wrong("by", f"opt-outs and complaints by signature can be grouped by {wanted} only")
    for name in query.where:
        if name not in _OPT_OUT_BY:
            raise wrong(name, f"opt-outs and complaints by signature can be filtered by {wanted} only")
    if query.zone is not UTC:
        raise wrong("zone", "opt-outs and complaints by signature are counted by days of UTC")
    for name, hour in (("from", query.from_hour), ("to", query.to_hour)):
        if hour % 24 and hour <= query.now_hour:
            raise wrong(name, "opt-outs and complaints by signature are counted by days: a date is wanted")


def _zone(name: str) -> tuple[str, tzinfo]:
    text = f"+{name[1:]}" if name.startswith(" ") else name  # a '+' in a query string means a space
    if text in ("UTC", "Z", "z"):
        return "UTC", UTC
    if match := _OFFSET.fullmatch(text):
        minutes = int(match[2]) * 60 + int(match[3])
        if minutes <= 14 * 60:
            offset = timedelta(minutes=-minutes if match[1] == "-" else minutes)
            return (text, timezone(offset)) if minutes else ("UTC", UTC)
    try:
        return text, zone_named(text)
    except ValueError:
        raise wrong("zone", "an offset as +08:00 is wanted, or a zone's name as Asia/Shanghai") from None


def _by(text: str, all_accounts: bool) -> tuple[str, ...]:
    by = tuple(text.split(",")) if text else ()
    allowed = [*TIMES, *(d for d in DIMENSIONS if all_accounts or d != "account")]
    for name in by:
        if name not in allowed:
            raise wrong("by", f"any of {', '.join(allowed)} are wanted, with commas between")
    if len(set(by)) != len(by) or set(TIMES) <= set(by):
        raise wrong("by", "each can stand there once, and hour or day but not both")
    return by


def _values(name: str, text: str) -> frozenset[str]:
    if len(text) > _MAX_VALUE_CHARS:
        raise wrong(name, f"at most {_MAX_VALUE_CHARS} characters are wanted")
    values = frozenset(part.replace("\\,", ",") for part in _COMMA.split(text))
    if name == "category":
        if not values <= CATEGORY_BY_LABEL.keys():
            raise wrong(name, f"any of {', '.join(CATEGORY_LABELS)} are wanted, with commas between")
        return frozenset(str(int(CATEGORY_BY_LABEL[value])) for value in values)
    return values


def _hour(name: str, text: str, zone: tzinfo, *, end: bool) -> int:
    """Return the first hour of a date or time; for `end` the first one behind it."""
    try:
        if _DATE.fullmatch(text):
            day = date.fromisoformat(text) + timedelta(days=1 if end else 0)
            at = datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()
            return -(-int(at) // _HOUR_S)  # an hour belongs to the day in which it begins
        text = f"{text[:-6]}+{text[-5:]}" if text[-6:-5] == " " else text
        if _TIME.fullmatch(text):
            seconds = datetime.fromisoformat(text.upper()).timestamp()
            return int(-(-seconds // _HOUR_S) if end else seconds // _HOUR_S)
    except (ValueError, OverflowError):
        pass
    raise wrong(name, "a date as 2026-07-01 is wanted, or a time with its offset as 2026-07-01T08:00:00+08:00")


def prefers_csv(accept: str) -> bool:
    """Return whether an `Accept` header asks for CSV and not for JSON."""
    kinds = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    return "text/csv" in kinds and "application/json" not in kinds


class Reader(Protocol):
    """What reads the tables; see `gateway.store.statistics`."""

    async def read(
        self,
        days: Sequence[tuple[int, bool]],
        accounts: Sequence[str] | None,
        add: Callable[[str, Table], None],
        kind: str,
    ) -> None: ...
    async def opt_outs(
        self,
        days: Iterable[int],
        accounts: Sequence[str] | None,
        add: Callable[[int, str, str, str, str, int], None],
    ) -> None: ...


async def collect(query: Query, reader: Reader) -> Report:
    """Return the report that answers a query. What is left to do (`answer`, `body`) may take a tenth of a second and
    more: a matter for a thread.

    Raises:
        RequestError: `too_many_rows`.
        StoreUnavailable: the tables cannot be read now.
    """
    report = Report(query)
    if query.opt_outs:
        await reader.opt_outs([day for day, _ in query.days()], query.accounts, report.add_opt_outs)
    else:
        await reader.read(query.days(), query.accounts, report.add, query.tables)
    return report


# --- the report

Cells = dict[str, int]
"""measure (outcome US reason) → number"""
Place = tuple[str | int, ...]
"""The values of what is grouped by, in its order; hour: epoch hours."""


@dataclass(slots=True)
class Report:
    """Adds tables up as a query asks. Give it all tables (`add`, `add_opt_outs`), then take the answer."""

    query: Query
    most_rows: int = MOST_ROWS
    _groups: dict[Place, Cells] = field(default_factory=dict)
    _parts: dict[str, tuple[str, ...] | None] = field(default_factory=dict)  # label → what of it is grouped by
    _measures: dict[str, str | None] = field(default_factory=dict)
    _days: dict[int, str] = field(default_factory=dict)
    _rest: list[str] = field(init=False)  # what of labels is grouped by
    _grouped: list[int] = field(init=False)  # and its places in a label
    _wanted: list[tuple[int, frozenset[str]]] = field(init=False)  # places in a label, and what may stand there

    def __post_init__(self) -> None:
        self._rest = [name for name in self.query.by if name not in ("account", "reason", *TIMES)]
        self._grouped = [LABELS.index(name) for name in self._rest if name in LABELS]
        self._wanted = [(LABELS.index(name), only) for name, only in self.query.where.items() if name in LABELS]

    def add(self, account: str, table: Table) -> None:
        """Add one account's table.

        Raises:
            RequestError: `too_many_rows`.
        """
        query = self.query
        accounts = query.where.get("account")
        if accounts is not None and account not in accounts:
            return
        own = (account,) if "account" in query.by else ()
        parts = [self._part(label) for label in table.labels]
        measures = [self._measure(measure) for measure in table.measures]
        distinct = {part: i for i, part in enumerate(dict.fromkeys(part for part in parts if part is not None))}
        if not distinct:
            return
        alike = len(distinct) == 1 and None not in parts
        group_of = [distinct[part] if part is not None else -1 for part in parts]  # -1: the last one, filtered out
        for hour, columns in table.slots.items():
            if not query.from_hour <= hour < query.to_hour:
                continue
            sums: list[Cells] = [{} for _ in distinct]
            for at, places, numbers in columns:
                measure = measures[at]
                if measure is None:
                    continue
                if alike:
                    sums[0][measure] = sum(numbers)
                    continue
                column = [0] * (len(distinct) + 1)
                for group, n in zip(map(group_of.__getitem__, places), numbers, strict=True):
                    column[group] += n
                for cells, n in zip(sums, column, strict=False):
                    if n:
                        cells[measure] = n
            self._take((*own, *self._when(hour)), distinct, sums)

    def _take(self, front: Place, parts: Iterable[Place], sums: Iterable[Cells]) -> None:
        for part, found in zip(parts, sums, strict=True):
            if found:
                cells = self._group((*front, *part))
                for measure, n in found.items():
                    cells[measure] = cells.get(measure, 0) + n

    def add_opt_outs(self, day: int, account: str, campaign: str, signature: str, kind: str, n: int) -> None:
        """Add a number of opt-outs (td) or complaints (complained) of a day (epoch days)."""
        values = {"account": account, "campaign": campaign, "signature": signature}
        if any(values[name] not in wanted for name, wanted in self.query.where.items()):
            return
        own = (account,) if "account" in self.query.by else ()
        rest = tuple(values[name] for name in self._rest)
        cells = self._group((*own, *self._when(day * 24), *rest))
        measure = f"{'v' if kind == 'complained' else kind}{US}{kind if kind == 'complained' else ''}"
        cells[measure] = cells.get(measure, 0) + n

    def _group(self, place: Place) -> Cells:
        cells = self._groups.get(place)
        if cells is None:
            if len(self._groups) >= self.most_rows:
                raise self._too_many()
            cells = self._groups[place] = {}
        return cells

    def _too_many(self) -> RequestError:
        detail = f"more than {self.most_rows} rows: group by less, ask for a shorter time, or filter"
        return RequestError("too_many_rows", detail, field="by", status=422)

    def _when(self, hour: int) -> tuple[str | int, ...]:
        if "hour" in self.query.by:
            return (hour,)
        if "day" not in self.query.by:
            return ()
        day = self._days.get(hour)
        if day is None:
            day = self._days[hour] = datetime.fromtimestamp(hour * _HOUR_S, self.query.zone).date().isoformat()
        return (day,)

    def _part(self, label: str) -> tuple[str, ...] | None:
        """Return what of a label is grouped by; None: it is filtered out."""
        if label not in self._parts:
            values = label.split(US)
            left_out = any(values[at] not in wanted for at, wanted in self._wanted)
            self._parts[label] = None if left_out else tuple([values[at] for at in self._grouped])
        return self._parts[label]

    def _measure(self, measure: str) -> str | None:
        """Return the measure as it is counted here, one string for all tables; None: it is filtered out."""
        if measure not in self._measures:
            outcome, _, reason = measure.partition(US)
            wanted = self.query.where.get("reason")
            left_out = wanted is not None and (outcome not in _FINALS or reason not in wanted)
            self._measures[measure] = None if left_out else measure
        return self._measures[measure]

    def answer(self) -> dict[str, Any]:
        """Return the report as it is answered: JSON values only.

        Raises:
            RequestError: `too_many_rows`.
        """
        query = self.query
        groups = self._by_reason() if "reason" in query.by else self._groups
        if len(groups) > self.most_rows:
            raise self._too_many()
        order = [
            *(["account"] if "account" in query.by else ()),
            *(name for name in query.by if name in TIMES),
            *self._rest,
            *(["reason"] if "reason" in query.by else ()),
        ]
        at = [order.index(name) for name in query.by]
        summary = _opt_out_summary if query.opt_outs else _summary
        everything: Cells = {}
        rows = []
        for place in sorted(groups, key=lambda p: tuple(p[i] for i in at)):
            cells = groups[place]
            for measure, n in cells.items():
                everything[measure] = everything.get(measure, 0) + n
            if any(cells.values()):
                rows.append(
                    {name: self._shown(name, place[i]) for name, i in zip(query.by, at, strict=True)} | summary(cells)
                )
        where = {k: sorted(_named(k, v) for v in values) for k, values in query.where.items()}
        return {
            "from": _time(query.from_hour, query.zone),
            "to": _time(query.to_hour, query.zone),
            "zone": query.zone_name,
            "by": list(query.by),
            "where": where,
            "rows": rows,
            "total": summary(everything),
        }

    def body(self) -> bytes:
        """Return the answer in the query's format.

        Raises:
            RequestError: `too_many_rows`.
        """
        found = self.answer()
        return to_csv(found).encode() if self.query.format == "csv" else orjson.dumps(found)

    def _by_reason(self) -> dict[Place, Cells]:
        groups: dict[Place, Cells] = {}
        for place, cells in self._groups.items():
            for measure, n in cells.items():
                outcome, _, reason = measure.partition(US)
                own = groups.setdefault((*place, reason if outcome in _FINALS else ""), {})
                own[measure] = n
        return groups

    def _shown(self, name: str, value: str | int) -> str:
        return _time(value, self.query.zone) if isinstance(value, int) else _named(name, value)


def _named(name: str, value: str) -> str:
    return CATEGORY_LABELS[int(value)] if name == "category" and value.isdigit() else value


def _time(hour: int, zone: tzinfo) -> str:
    text = datetime.fromtimestamp(hour * _HOUR_S, zone).isoformat()
    return text.replace("+00:00", "Z") if zone is UTC else text


def _opt_out_summary(cells: Cells) -> dict[str, Any]:
    return {"td": cells.get(f"td{US}", 0), "complaints": cells.get(f"v{US}complained", 0)}


@cache  # outcomes and reasons are few: those of the scripts and of the table of failure codes
def _split(measure: str) -> tuple[str, str]:
    outcome, _, reason = measure.partition(US)
    return outcome, reason


def _summary(cells: Cells) -> dict[str, Any]:
    """Return what the counters of a group mean."""
    by: dict[str, int] = {}
    failures: dict[tuple[str, str], int] = {}
    refusals: dict[str, int] = {}
    amounts: dict[str, int] = {}
    feedback: dict[str, int] = {}
    buckets: dict[int, int] = {}
    for measure, n in cells.items():
        outcome, reason = _split(measure)
        by[outcome] = by.get(outcome, 0) + n
        if outcome in FAILED:
            failures[outcome, reason] = n
        elif outcome == "D" and reason[:1] == "t" and reason[1:].isdigit():
            buckets[int(reason[1:])] = n
        elif outcome == "n":
            refusals[reason] = n
        elif outcome == "a":
            amounts[reason] = n
        elif outcome == "v":
            feedback[reason] = n
    delivered, failed = by.get("D", 0), sum(by.get(outcome, 0) for outcome in FAILED)
    ended = delivered + failed + by.get("E", 0) + by.get("K", 0)
    return {
        "accepted": by.get("accepted", 0),
        "submitted": by.get("s", 0),
        "delivered": delivered,
        "failed": failed,
        "expired": by.get("E", 0),
        "unknown": by.get("K", 0),
        "cancelled": by.get("C", 0),
        "blocked": by.get("B", 0),
        "uncertain": by.get("u", 0),
        "refused": by.get("n", 0),
        "td": by.get("td", 0),
        "complaints": feedback.get("complained", 0),
        "clicks": feedback.get("clicked", 0),
        "conversions": feedback.get("converted", 0),
        "parts": by.get("s", 0) + by.get("+", 0),
        "delivery_ratio": round(delivered / ended, 4) if ended > 0 else None,
        "latency": latency(buckets),
        "cost": decimal_text(by.get("$", 0), 6),
        "amounts": {currency: decimal_text(n, 4) for currency, n in sorted(amounts.items()) if n},
        "failures": [
            {
                "state": STATE_LABELS[state],
                "reason": reason,
                "n": n,
                "share": round(n / failed, 4) if failed > 0 else None,
            }
            for (state, reason), n in sorted(failures.items(), key=lambda item: (-item[1], item[0]))
            if n
        ],
        "refusals": [
            {"status": status, "n": n}
            for status, n in sorted(refusals.items(), key=lambda item: (-item[1], item[0]))
            if n
        ],
    }


def latency(buckets: Mapping[int, int]) -> dict[str, Any] | None:
    """Return within how many seconds of submission messages were delivered, from buckets: n → messages that took up
    to 2^n s and more than half of that.

    Inside a bucket they are taken to be spread evenly: a figure is never off by more than a factor of two. The last
    bucket, 2^18 s, has no upper end. None where nothing was delivered.
    """
    total = sum(n for n in buckets.values() if n > 0)
    if not total:
        return None
    found: dict[str, Any] = {"bucketed": True, "n": total}
    for name, share in _SHARES:
        seen, wanted = 0, share * total
        for place in sorted(buckets):
            n = max(0, buckets[place])
            if n and seen + n >= wanted:
                low = 0.0 if place == 0 else 2.0 ** (place - 1)
                found[name] = round(low + (2.0**place - low) * (wanted - seen) / n, 3)
                break
            seen += n
    return found


def decimal_text(n: int, places: int) -> str:
    """Return a fixed-point number as a decimal string with at least two places."""
    text = f"{Decimal(n).scaleb(-places):.{places}f}"
    whole, _, rest = text.partition(".")
    return f"{whole}.{rest.rstrip('0').ljust(2, '0')}"


# --- CSV

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_MORE: Final = (
    "delivery_ratio",
    "latency_p50_s",
    "latency_p95_s",
    "latency_p99_s",
    "cost",
    "amounts",
    "failures",
    "refusals",
)


def columns(answer: Mapping[str, Any]) -> list[str]:
    """Return the columns of a report's CSV."""
    if "accepted" not in answer["total"]:
        return [*answer["by"], *OPT_OUT_COUNTS]
    return [*answer["by"], *COUNTS, *_MORE]


def to_csv(answer: Mapping[str, Any]) -> str:
    """Return a report as CSV (RFC 4180): a line a row, without the total.

    Text that a spreadsheet would take for a formula gets a leading apostrophe (delivery.md §3 row 20); numbers of ours,
    which a correction may make negative, stay numbers.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns(answer))
    by = answer["by"]
    for row in answer["rows"]:
        cells: list[Any] = [_safe(row[name]) for name in by]
        if "accepted" not in row:
            writer.writerow([*cells, *(row[name] for name in OPT_OUT_COUNTS)])
            continue
        taken = row["latency"] or {}
        cells += [row[name] for name in COUNTS]
        cells += [row["delivery_ratio"], *(taken.get(name) for name, _ in _SHARES), row["cost"]]
        cells.append(_safe(_listed(f"{currency} {amount}" for currency, amount in row["amounts"].items())))
        cells.append(_safe(_listed(f"{f['state']}/{f['reason']} {f['n']}" for f in row["failures"])))
        cells.append(_safe(_listed(f"{r['status']} {r['n']}" for r in row["refusals"])))
        writer.writerow(cells)
    return out.getvalue()


def _listed(items: Iterable[str]) -> str:
    return "; ".join(items)


def _safe(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
