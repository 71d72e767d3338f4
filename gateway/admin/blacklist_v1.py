"""`/admin/v1/blacklist`: numbers that must not be written to: counts, search, change, import, export, take back.

    GET                                      → {"numbers": [{scope, reason, numbers}], "days": […]}
    POST …/search {number}                   → {"entries": [{scope, categories, reason, since, source}]}
    PUT {number, scope, categories, reason}  → the entry
    DELETE {number, scope}                   → {"removed": [entries]}
    GET …/entries?scope=…&cursor=…           → {"entries": [[number, categories, reason, since, source]], "next"}
    POST …/imports {scope, reason, categories, country, dry_run, name[, id]}     → {"id"}
    POST …/imports/{id}/rows {"rows": [[line, number, categories, reason], …]}   → {added, changed, unchanged, bad, …}
    POST …/imports/{id}/end {totals}         → the import;   GET …/imports → {"imports": […]}
    POST …/undo {"import"} or {scope, source, since, until}, and "next"          → {removed, restored, next}

Numbers stand in bodies, never in paths, because paths stand in logs. A scope is "global" (or *), an account, or
account/sender, account/signature. Every change stands in the audit. Owns the shapes; what they mean is the store's.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from aiohttp import web

from gateway.admin import places
from gateway.admin.blacklist_rows import BadRow, labels, read_row, written_row
from gateway.admin.problem import json_answer
from gateway.admin.requests import actor_of, noted, number_of, operator_of, read_object, unknown_field
from gateway.errors import RequestError
from gateway.listing import mask_in, reason_in
from gateway.model import Category
from gateway.settings import Settings
from gateway.store.audit import DONE
from gateway.store.blacklists import DO_NOT_DISTURB, EVERYBODY, OPERATOR, Blacklists, Counts, Listed
from gateway.store.store import Store

MAX_ROWS: Final = 5000
MAX_ROWS_BYTES: Final = 2 << 20
_BAD_SHOWN: Final = 100
_NAME: Final = re.compile(r"[ -~]{0,100}")
_IMPORT_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,40}")
_SOURCE: Final = re.compile(r"[A-Za-z0-9_.@-]{1,80}")
_CURSOR: Final = re.compile(r"[0-9]{1,3}:[0-9]{1,19}")
_DIGITS: Final = 19  # of any number in a request: int() refuses more than 4,300
GLOBAL: Final = "global"


def shown_scope(scope: str) -> str:
    """Return a scope as people write it."""
    return GLOBAL if scope == EVERYBODY else scope


def entry_view(entry: Listed) -> dict[str, Any]:
    """Return an entry as JSON."""
    return {
        "scope": shown_scope(entry.scope),
        "categories": [category.label for category in entry.categories],
        "reason": entry.reason,
        "since": iso(entry.since_s),
        "source": entry.source,
    }


def iso(at_s: int) -> str:
    """Return epoch seconds as ISO 8601 in UTC."""
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%dT%H:%M:%SZ}"


@dataclass
class BlacklistApi:
    """What the endpoints work on."""

    settings: Settings
    store: Store
    lists: Blacklists = field(init=False)

    def __post_init__(self) -> None:
        self.lists = Blacklists(self.store)
        self._accounts = frozenset(account.id for account in self.settings.accounts)

    def routes(self) -> list[web.RouteDef]:
        """Return the endpoints, for the admin server to add."""
        base = "/admin/v1/blacklist"
        return [
            web.get(base, self.get_counts),
            web.put(base, self.put_entry),
            web.delete(base, self.delete_entry),
            web.post(f"{base}/search", self.search),
            web.get(f"{base}/entries", self.get_entries),
            web.get(f"{base}/imports", self.get_imports),
            web.post(f"{base}/imports", self.begin_import),
            web.post(f"{base}/imports/{{id}}/rows", self.import_rows),
            web.post(f"{base}/imports/{{id}}/end", self.end_import),
            web.post(f"{base}/undo", self.undo),
        ]

    # --- looking

    async def get_counts(self, request: web.Request) -> web.Response:
        """Say how many numbers are listed, and what came and went by day."""
        days = _number_of(request.query.get("days", "30"), "days", 400)
        counts = await self.lists.counts()
        by_day = await self.lists.by_day(days)
        return json_answer(
            {
                "numbers": [
                    {"scope": shown_scope(scope), "reason": reason, "numbers": n}
                    for (scope, reason), n in sorted(counts.items())
                ],
                "days": [
                    {
                        "day": iso(day * 86_400)[:10],
                        "scope": shown_scope(scope),
                        "reason": reason,
                        "added": added,
                        "removed": removed,
                    }
                    for day, scope, reason, added, removed in by_day
                ],
            }
        )

    async def search(self, request: web.Request) -> web.Response:
        """Show the entries of one number, in all scopes."""
        body = await read_object(request)
        unknown_field(body, {"number", "country"})
        return json_answer({"entries": [entry_view(one) for one in await self.lists.get(number_of(body))]})

    async def get_entries(self, request: web.Request) -> web.Response:
        """Show some entries of a scope, and where to go on; the first call of an export stands in the audit."""
        scope = self._scope(request.query.get("scope", GLOBAL))
        given, cursor, audit = request.query.get("cursor", ""), "", self.lists.audit
        operator = operator_of(request)
        belongs = ("blacklist", scope, operator.name if operator is not None else "")
        if given:
            # One that we gave to this operator: else an export could begin at its second page, and stand nowhere.
            cursor = await places.take(audit, given, *belongs) or ""
            if not (_CURSOR.fullmatch(cursor) and int(cursor.partition(":")[0]) < self.store.shards):
                raise RequestError("invalid_field", "what the answer before said is wanted", field="cursor")
        else:
            await audit.note(actor_of(request), "blacklist.export", scope)
        following, found = await self.lists.page(scope, cursor)
        rows = [written_row(number, one, iso(one.since_s)) for number, one in found]
        return json_answer(
            {"entries": rows, "next": await places.give(audit, following, *belongs) if following else None}
        )

    # --- one number

    async def put_entry(self, request: web.Request) -> web.Response:
        """Make one entry just so."""
        body = await read_object(request)
        unknown_field(body, {"number", "country", "scope", "categories", "reason"})
        scope, mask, reason = self._scope(body.get("scope", GLOBAL)), mask_in(body), reason_in(body, OPERATOR)
        msisdn, actor = number_of(body), actor_of(request)
        entry = await self.lists.put(msisdn, scope, mask, reason, source="operator", actor=actor, note_always=True)
        noted(request)
        return json_answer(entry_view(entry))

    async def delete_entry(self, request: web.Request) -> web.Response:
        """Take one number off one scope."""
        body = await read_object(request)
        unknown_field(body, {"number", "country", "scope"})
        msisdn, scope, actor = number_of(body), self._scope(body.get("scope", GLOBAL)), actor_of(request)
        removed = await self.lists.remove(msisdn, scope, actor=actor)
        if not removed:
            named = self.lists.audit.named(msisdn)
            await self.lists.audit.note(actor, "blacklist.remove", scope, result="nothing there", **named)
        noted(request)
        return json_answer({"removed": [entry_view(one) for one in removed]})

    # --- imports

    async def get_imports(self, request: web.Request) -> web.Response:
        """List the imports, the newest first."""
        del request
        return json_answer({"imports": [_import_view(name, what) for name, what in await self.lists.imports()]})

    async def begin_import(self, request: web.Request) -> web.Response:
        """Begin an import, or go on with one of the same id and the same rules."""
        body = await read_object(request)
        unknown_field(body, {"scope", "categories", "reason", "country", "dry_run", "name", "id"})
        scope, mask, reason = self._scope(body.get("scope", GLOBAL)), mask_in(body), reason_in(body, DO_NOT_DISTURB)
        country, name, given = body.get("country", ""), body.get("name", ""), body.get("id", "")
        dry_run = body.get("dry_run", False)
        if not isinstance(country, str) or (country and not re.fullmatch("[A-Za-z]{2}", country)):
            raise RequestError("invalid_field", "two letters are wanted", field="country")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise RequestError("invalid_field", "up to 100 printable ASCII characters are wanted", field="name")
        if not isinstance(given, str) or (given and not _IMPORT_ID.fullmatch(given)):
            raise RequestError("invalid_field", "letters, digits, - and _ are wanted", field="id")
        if not isinstance(dry_run, bool):
            raise RequestError("invalid_field", "true or false is wanted", field="dry_run")
        rules = {"mask": mask, "reason": reason, "country": country.upper(), "dry_run": dry_run}
        import_id = await self.lists.begin_import(scope, {**rules, "name": name, "by": actor_of(request)}, given)
        known = await self._import(import_id)
        if known["scope"] != scope or any(known[key] != value for key, value in rules.items()):
            raise RequestError("invalid_field", "the import of this id has other rules", field="id", status=409)
        # Also of one that never ends: its rows are in force one by one.
        result = "dry run" if dry_run else DONE
        await self.lists.audit.note(
            actor_of(request), "blacklist.import_begun", scope, import_id=import_id, result=result
        )
        noted(request)
        return json_answer({"id": import_id})

    async def import_rows(self, request: web.Request) -> web.Response:
        """Take rows of an import. Rows that come again change nothing."""
        import_id = request.match_info["id"]
        known = await self._import(import_id)
        if known.get("undone"):
            raise RequestError("invalid_field", "this import was taken back", field="id", status=409)
        body = orjson_object(await read_bytes(request, MAX_ROWS_BYTES))
        unknown_field(body, {"rows"})
        rows = body.get("rows")
        if not isinstance(rows, list) or len(rows) > MAX_ROWS:
            raise RequestError("invalid_field", f"a list of at most {MAX_ROWS} rows is wanted", field="rows")
        good, bad = await asyncio.to_thread(_read_rows, rows, known)
        counts = await self.lists.add_many(
            known["scope"], good, source=f"import.{import_id}", import_id=import_id, dry_run=known["dry_run"]
        )
        return json_answer({**_counts_view(counts), "bad": bad[:_BAD_SHOWN], "bad_rows": len(bad)})

    async def end_import(self, request: web.Request) -> web.Response:
        """Note that an import is complete, with its totals; they stand in the audit."""
        import_id = request.match_info["id"]
        known = await self._import(import_id)
        body = await read_object(request)
        unknown_field(body, {"added", "changed", "unchanged", "bad_rows"})
        totals: dict[str, Any] = {key: _number_of(str(body.get(key, 0)), key, 1 << 40) for key in
                  ("added", "changed", "unchanged", "bad_rows")}  # fmt: skip
        await self.lists.end_import(import_id, {**totals, "ended": True})
        result = "dry run" if known["dry_run"] else DONE
        await self.lists.audit.note(
            actor_of(request), "blacklist.import", known["scope"], import_id=import_id, result=result, **totals
        )
        noted(request)
        return json_answer(_import_view(import_id, {**known, **totals, "ended": True}))

    async def undo(self, request: web.Request) -> web.Response:
        """Take back a piece of what an import, or another source within a time, put on a scope."""
        body = await read_object(request)
        unknown_field(body, {"import", "scope", "source", "since", "until", "next"})
        cursor = body.get("next", "")
        if not isinstance(cursor, str) or (
            cursor and not (_CURSOR.fullmatch(cursor) and int(cursor.partition(":")[0]) < self.store.shards)
        ):
            raise RequestError("invalid_field", "what the answer before said is wanted", field="next")
        import_id, source = body.get("import", ""), body.get("source", "")
        if not isinstance(import_id, str) or not isinstance(source, str) or bool(import_id) == bool(source):
            raise RequestError("invalid_field", "an import's id, or a scope and a source, is wanted", field="import")
        if import_id:
            scope = (await self._import(import_id))["scope"]
            source = f"import.{import_id}"
            since_s, until_s = 0, 1 << 40
        else:
            scope = self._scope(body.get("scope", GLOBAL))
            if not _SOURCE.fullmatch(source) or source.startswith("import."):
                raise RequestError("invalid_field", "a source as the entries show it is wanted", field="source")
            since_s, until_s = _time(body, "since", 0), _time(body, "until", 1 << 40)
        if import_id and not cursor:
            await self.lists.end_import(import_id, {"undone": True})  # no rows are taken from now on
        following, removed, restored = await self.lists.undo(
            scope, source, since_s=since_s, until_s=until_s, cursor=cursor, import_id=import_id
        )
        if removed or restored or not following:
            await self.lists.audit.note(
                actor_of(request), "blacklist.undo", scope, source=source, removed=removed, restored=restored
            )
        noted(request)
        return json_answer({"removed": removed, "restored": restored, "next": following or None})

    # --- helpers

    async def _import(self, import_id: str) -> dict[str, Any]:
        known = await self.lists.import_named(import_id) if _IMPORT_ID.fullmatch(import_id) else None
        if known is None:
            raise RequestError("not_found", "there is no such import", field="import", status=404)
        return known

    def _scope(self, written: Any) -> str:
        """Return a scope. Raises RequestError where its account is not configured."""
        if written in (GLOBAL, EVERYBODY):
            return EVERYBODY
        if isinstance(written, str) and len(written) <= 128 and written.isprintable():
            account, slash, name = written.partition("/")
            if account in self._accounts and bool(slash) == bool(name):
                return written
        raise RequestError(
            "invalid_field", "global, an account, or account/sender or account/signature is wanted", field="scope"
        )


async def read_bytes(request: web.Request, most: int) -> bytes:
    """Return a body larger than other endpoints take. Raises RequestError (413)."""
    if request.content_type != "application/json":
        raise RequestError("unsupported_media_type", "application/json in UTF-8 is wanted", status=415)
    raw = bytearray()
    while chunk := await request.content.readany():
        raw += chunk
        if len(raw) > most:
            raise RequestError("too_large", f"at most {most} bytes are accepted here", status=413)
    return bytes(raw)


def orjson_object(raw: bytes) -> dict[str, Any]:
    """Return a body as an object. Raises RequestError (400)."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        raise RequestError("invalid_json", "the body is not JSON", status=400) from exc
    if not isinstance(value, dict):
        raise RequestError("invalid_json", "an object is wanted", status=400)
    return value


def _read_rows(rows: list[Any], known: dict[str, Any]) -> tuple[list[tuple[str, int, str]], list[dict[str, Any]]]:
    """Return rows that are good, and the lines of those that are not with the reason; in a thread: it takes a while."""
    good: list[tuple[str, int, str]] = []
    bad: list[dict[str, Any]] = []
    country, mask, reason = known["country"], known["mask"], known["reason"]
    for row in rows:
        if not isinstance(row, list) or not row or not isinstance(row[0], int):
            raise RequestError("invalid_field", "each row begins with the number of its line", field="rows")
        try:
            good.append(read_row(row[1:], country, mask, reason))
        except BadRow as exc:
            bad.append({"line": row[0], "reason": str(exc)})
    return good, bad


def _time(body: dict[str, Any], key: str, usual: int) -> int:
    written = body.get(key)
    if written is None:
        return usual
    try:
        return int(datetime.fromisoformat(written).astimezone(UTC).timestamp())
    except (TypeError, ValueError, OverflowError):
        raise RequestError("invalid_field", "a time with its offset is wanted", field=key) from None


def _number_of(text: str, name: str, most: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > _DIGITS or int(text) > most:
        raise RequestError("invalid_field", f"a number from 0 to {most} is wanted", field=name)
    return int(text)


def _counts_view(counts: Counts) -> dict[str, int]:
    return {"added": counts.added, "changed": counts.changed, "unchanged": counts.unchanged}


def _import_view(import_id: str, what: dict[str, Any]) -> dict[str, Any]:
    shown = {key: value for key, value in what.items() if key not in ("mask", "at_s", "scope")}
    categories = [c for c in Category if what["mask"] >> c & 1]
    return {
        "id": import_id,
        "scope": shown_scope(what["scope"]),
        "categories": labels(categories),
        "at": iso(what["at_s"]),
        **shown,
    }
