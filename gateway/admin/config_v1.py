"""`/admin/v1/config`: which configuration is in force, how it came, and changing it on all machines at once.

    GET  …                      → {revision, digest, at, by, note, members: [...], here: {...}, last: {...}}
                                  (`last`: this machine's last try; `stands`: refused, and the files are still so)
    GET  …/history              → {"revisions": [{revision, digest, at, by, machine, note}]}, the newest first
    GET  …/revisions/{n}        → {revision, …, "files": {name: text}}, secrets masked
    GET  …/diff?a=4&b=6         → {"same": false, "lines": [...]}; without b: this machine's files, without a: in force
    POST …/reload    {force, dry_run, note}   → {result, revision, changes, needs_restart, warnings}
    POST …/rollback  {revision, note}         → the same
    POST …/write                → {"revision": 6, "written": ["routes.toml"]}

A change that is refused is a problem with `problems`: file, key and reason, and the machine and role that said so. Owns
these shapes; the protocol is `gateway.reload`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from aiohttp import web

from gateway.admin.problem import json_answer, problem
from gateway.admin.requests import actor_of, noted, read_object, unknown_field
from gateway.errors import ConfigError, RequestError
from gateway.model import iso
from gateway.reload.publisher import Outcome, Publisher
from gateway.store.revisions import Member, Revision

_STATUS: Final = {"invalid": 422, "unknown_revision": 404}
_NOTE_MOST: Final = 500
_DIGITS: Final = 9
_T = TypeVar("_T")


@dataclass
class ConfigApi:
    """What the endpoints work on."""

    publisher: Publisher

    def routes(self) -> list[web.RouteDef]:
        """Return the endpoints, for the admin server to add."""
        return [
            web.get("/admin/v1/config", self.get_config),
            web.get("/admin/v1/config/history", self.get_history),
            web.get("/admin/v1/config/revisions/{number}", self.get_revision),
            web.get("/admin/v1/config/diff", self.get_diff),
            web.post("/admin/v1/config/reload", self.post_reload),
            web.post("/admin/v1/config/rollback", self.post_rollback),
            web.post("/admin/v1/config/write", self.post_write),
        ]

    async def get_config(self, request: web.Request) -> web.Response:
        """Say what is in force, who runs what, and how this machine's files stand to it."""
        del request
        return json_answer(await self.look())

    async def look(self) -> dict[str, Any]:
        """Return what `get_config` answers."""
        here = self.publisher
        state, revision, members, stands = await here.look()
        answer: dict[str, Any] = {"revision": state.number, "digest": state.digest}
        if revision is not None:
            answer = _shown(revision)
        answer["members"] = [_member(one, state.number) for one in members]
        answer["here"] = stands
        last = here.last
        answer["last"] = None
        if last is not None:
            still = here.refused_now()
            answer["last"] = {
                "at": iso(last.at_ms),
                "at_ms": last.at_ms,
                "by": last.by,
                "stands": still,
                **_outcome(last.outcome),
            }
        return answer

    async def get_history(self, request: web.Request) -> web.Response:
        """List the revisions that are kept."""
        del request
        return json_answer({"revisions": [_shown(one) for one in await self.publisher.history()]})

    async def get_revision(self, request: web.Request) -> web.Response:
        """Show a revision's files, secrets masked."""
        number = _number(request.match_info["number"], "number")
        revision, files = await self.publisher.show(number)
        return json_answer({**_shown(revision), "files": files})

    async def get_diff(self, request: web.Request) -> web.Response:
        """Compare two revisions, or one (the one in force) with this machine's files."""
        a, b = (_number(request.query[name], name) if name in request.query else 0 for name in ("a", "b"))
        same, lines, names = await self.publisher.diff(a, b)
        return json_answer({"same": same, "between": list(names), "lines": lines})

    async def post_reload(self, request: web.Request) -> web.Response:
        """Put this machine's files in force everywhere."""
        body = await _body(request, {"force", "dry_run", "note"})
        force, dry_run = (_flag(body, name) for name in ("force", "dry_run"))
        noted(request)  # the publisher notes what changes or is refused; a dry run is neither
        work = self.publisher.reload(actor_of(request), note=_note(body), force=force, dry_run=dry_run)
        return _told(await _whole(work))

    async def post_rollback(self, request: web.Request) -> web.Response:
        """Put an old revision in force again, as a new one."""
        body = await _body(request, {"revision", "note"})
        number = body.get("revision")
        if not isinstance(number, int) or isinstance(number, bool) or not 0 < number < 10**_DIGITS:
            raise RequestError("invalid_field", "the number of a revision is wanted", field="revision")
        noted(request)
        return _told(await _whole(self.publisher.rollback(number, actor_of(request), note=_note(body))))

    async def post_write(self, request: web.Request) -> web.Response:
        """Write the revision in force into this machine's files."""
        await _body(request, set())
        try:
            number, written = await _whole(self.publisher.write(actor_of(request)))
        except ConfigError as exc:
            problems = [{"file": p.file, "key": p.key, "reason": p.reason} for p in exc.problems]
            return problem(409, "not_written", "the files are as they were", problems=problems)
        noted(request)
        return json_answer({"revision": number, "written": written})


async def _whole(work: Coroutine[Any, Any, _T]) -> _T:
    """Let a change go to its end, also when whoever asked for it hangs up."""
    return await asyncio.shield(asyncio.ensure_future(work))


async def _body(request: web.Request, known: set[str]) -> dict[str, Any]:
    body = await read_object(request) if request.can_read_body else {}
    if known:
        unknown_field(body, known)
    elif body:
        raise RequestError("unknown_field", "no fields are known here")
    return body


def _told(outcome: Outcome) -> web.Response:
    if outcome.result != "refused":
        return json_answer(_outcome(outcome))
    status = _STATUS.get(outcome.code, 409)
    code = {"invalid": "invalid_config"}.get(outcome.code, outcome.code)
    return problem(status, code, outcome.detail, revision=outcome.number, problems=list(outcome.problems))


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "result": outcome.result,
        "revision": outcome.number,
        "detail": outcome.detail,
        "code": outcome.code,
        "problems": list(outcome.problems),
        "changes": outcome.changes,
        "needs_restart": list(outcome.needs_restart),
        "warnings": list(outcome.warnings),
    }


def _shown(revision: Revision) -> dict[str, Any]:
    return {
        "revision": revision.number,
        "digest": revision.digest,
        "at": iso(revision.at_ms),
        "by": revision.by,
        "machine": revision.machine,
        "note": revision.note,
    }


def _member(member: Member, in_force: int) -> dict[str, Any]:
    return {
        "machine": member.machine,
        "role": member.role,
        "number": member.number,
        "lives": member.lives,
        "silent_s": round(member.silent_s, 1),
        "revision": member.revision,
        "digest": member.digest,
        "in_force": member.revision == in_force,
        "files": member.files,
        "problem": member.problem,
    }


def _note(body: dict[str, Any]) -> str:
    note = body.get("note", "")
    if not isinstance(note, str) or len(note) > _NOTE_MOST or not (note.isprintable() or not note):
        raise RequestError("invalid_field", f"at most {_NOTE_MOST} printable characters are wanted", field="note")
    return note


def _flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise RequestError("invalid_field", "true or false is wanted", field=name)
    return value


def _number(text: str, name: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > _DIGITS or int(text) == 0:
        raise RequestError("invalid_field", "the number of a revision is wanted", field=name)
    return int(text)
