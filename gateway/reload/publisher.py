"""Whoever proposes a change: reloads this machine's files, rolls back to an old revision, publishes at the start.

Owns the initiator's side of the protocol (one on a machine: its admin worker, or each role that runs alone): the check
of the whole, the proposal, the count of votes, what is told of it in metrics, log and audit. Refuses to decide for
other machines: a member that says no, or does not answer, keeps everything as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from gateway.check import table_problems
from gateway.errors import ConfigError, ConfigProblem, RequestError, StoreUnavailable
from gateway.reload.changes import changes, masked, unified
from gateway.reload.keeper import ConfigKeeper, spelt
from gateway.reload.machine import Mark, Standing, based_on, standing
from gateway.reload.writing import write_revision
from gateway.settings import Settings, load, load_local
from gateway.settings.bundle import Bundle, revisions_dir
from gateway.settings.loading import GATEWAY, parse_toml
from gateway.settings.local_keys import needs_restart, with_local
from gateway.settings.secrets import same_secrets
from gateway.store.audit import DONE
from gateway.store.revisions import Member, Revision, State

log = logging.getLogger(__name__)

VOTE_S: Final = 10.0
"""So long a proposal waits for its votes; a member that does not beat for five of them is not waited for."""
COUNT_S: Final = 0.05
SWAPPED_S: Final = 2.0
WATCH_S: Final = 1.0
QUIET_S: Final = 2.0
"""A watched folder must stay as it is for so long: what is still being written is not taken."""
START_AGAIN_S: Final = 0.5
LOST_AGAIN_S: Final = 10.0
_NAMES_IN_LOG: Final = 20
UNCHANGED: Final = "nothing to change"

Note = Callable[..., Awaitable[None]]
"""`store.audit.Audit.note`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a change. `result`: applied, unchanged, checked (a dry run) or refused, for the reason `code`."""

    result: str
    number: int  # the revision in force now
    detail: str = ""
    code: str = ""  # invalid | refused | no_answer | stale | busy | moved | lapsed | unknown_revision
    problems: tuple[dict[str, str], ...] = ()  # file, key, reason, and where it is another process': machine, role
    changes: dict[str, list[str]] = field(default_factory=dict)
    needs_restart: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    base: int = 0  # the revision before this one, where one was put in force


@dataclass(frozen=True, slots=True)
class Tried:
    """The last try of this process, for people."""

    at_ms: int
    by: str
    outcome: Outcome
    files: Any = None
    """The files' signature then, where it was about them."""


@dataclass(frozen=True, slots=True)
class _Checked:
    """A bundle that is sound here."""

    bundle: Bundle
    needs_restart: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    new_secrets: bool = False  # what its references stand for here is not what runs


class Publisher:
    """The proposer beside a member. `run` publishes at the start, hears of signals and watches the files."""

    def __init__(self, keeper: ConfigKeeper, note: Note, started: Path) -> None:
        self.keeper = keeper
        self.last: Tried | None = None
        self._note = note
        self._started = started
        self._revisions = keeper.revisions
        self._one_at_a_time = asyncio.Lock()
        self._asked: list[str] = []
        self._woken = asyncio.Event()
        self._tried: Any = None
        self._again_at = 0.0
        self._shown_revision = ""
        metrics = keeper.metrics
        self._success = metrics.gauge("config_reload_success")
        self._success.n = 1
        self._differ = metrics.gauge("config_files_differ")

    def ask(self, by: str) -> None:
        """Reload the files soon, for a signal: nobody waits for what comes of it but the log and the metrics."""
        self._asked.append(by)
        self._woken.set()

    async def run(self) -> None:
        """Publish what was started with, then reload when asked or when watched files changed, until cancelled."""
        await self._settle_start()
        while True:
            try:
                await self._turn()
            except StoreUnavailable as exc:
                log.warning("configuration: %s", exc)
            except Exception as error:  # the boundary of this task
                log.error("configuration: %s", type(error).__name__, exc_info=error)
            self._woken.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), WATCH_S)

    async def _turn(self) -> None:
        while self._asked:
            by = self._asked.pop(0)
            await self.reload(by)
        await self.keeper.files.look()
        self._show()
        self._forgive()
        await self._note_step()
        await self._publish_again()
        if self.keeper.settings.config.watch:
            await self._watch()

    # --- what an operator asks for

    async def reload(self, by: str, *, note: str = "", force: bool = False, dry_run: bool = False) -> Outcome:
        """Put this machine's files in force everywhere, or say why not.

        Raises:
            StoreUnavailable: nothing was proposed, or nobody knows (`outcome` is `unknown`) whether it is in force.
        """
        async with self._one_at_a_time:
            return await self._tell(by, "config.reload", note, dry_run, self._reload(by, note, force, dry_run))

    async def rollback(self, number: int, by: str, *, note: str = "") -> Outcome:
        """Put an old revision's text in force again, as a new revision; this machine's files stay as they are.

        Raises:
            StoreUnavailable: as `reload`.
        """
        async with self._one_at_a_time:
            note = note or f"back to revision {number}"
            return await self._tell(by, "config.rollback", note, False, self._rollback(number, by, note))

    async def _reload(self, by: str, note: str, force: bool, dry_run: bool) -> Outcome:
        state = await self._revisions.state()
        try:
            bundle = await asyncio.to_thread(Bundle.read, self.keeper.files.folder)
            checked = await asyncio.to_thread(self._check, bundle)
        except ConfigError as exc:
            return _invalid(state, exc)
        how = standing(bundle.digest, await self._base(), state.number, state.digest)
        if how is Standing.IN_STEP and not checked.new_secrets and not force:
            await self._in_step(state)
            detail = f"revision {state.number} is in force and says the same"
            return Outcome("unchanged", state.number, detail, needs_restart=checked.needs_restart)
        if how in (Standing.BEHIND, Standing.STALE) and not force:
            return Outcome("refused", state.number, based_on(await self._base(), state.number), "stale")
        outcome = await self._decide(checked, state, by, note, dry_run)
        if outcome.result == "applied":
            await self._in_step(State(outcome.number, bundle.digest))
        return outcome

    async def _rollback(self, number: int, by: str, note: str) -> Outcome:
        state = await self._revisions.state()
        text = await self._revisions.text(number)
        if text is None:
            return Outcome("refused", state.number, f"revision {number} is not kept", "unknown_revision")
        try:
            bundle = await asyncio.to_thread(Bundle.decode, text)
            if bundle.digest == state.digest:
                return Outcome("unchanged", state.number, f"revision {state.number} is in force and says the same")
            checked = await asyncio.to_thread(self._check_old, bundle)
        except ConfigError as exc:
            return _invalid(state, exc)
        return await self._decide(checked, state, by, note, dry_run=False)

    async def write(self, by: str) -> tuple[int, list[str]]:
        """Write the revision in force into this machine's files; returns its number and the names of what changed.

        Raises:
            ConfigError: there is none, it cannot be brought together with this machine's keys, or not be written.
        """
        async with self._one_at_a_time:
            state = await self._revisions.state()
            text = await self._revisions.text(state.number)
            if text is None:
                raise ConfigError([ConfigProblem("revision", "", "none is in force")])
            try:
                written = await asyncio.to_thread(self._write, text)
            except OSError as exc:
                where = Path(exc.filename or "").name
                raise ConfigError([ConfigProblem(where, "", f"cannot be written: {exc.strerror}")]) from exc
            await self._in_step(state)
            await self.keeper.files.look()
            self._show()
            log.info("configuration: revision %d written into the files here: %s", state.number, ", ".join(written))
            await self._note(
                by, "config.write", "config", after=str(state.number), machine=self.keeper.machine,
                files=",".join(written), result=DONE if written else UNCHANGED,
            )  # fmt: skip
            return state.number, written

    def _write(self, text: bytes) -> list[str]:
        folder = self.keeper.files.folder
        machine = (self._started / GATEWAY).read_bytes()
        with contextlib.suppress(OSError, ValueError):
            here = (folder / GATEWAY).read_bytes()
            parse_toml(here)
            machine = here
        return write_revision(Bundle.decode(text), folder, machine)

    # --- what an operator looks at

    def refused_now(self) -> bool:
        """Tell whether the last try was refused and nothing was done about it: the same files still lie there.

        Files that were put back, or edited once more, are another matter.
        """
        last = self.last
        if last is None or last.outcome.result != "refused":
            return False
        files = self.keeper.files
        return last.files is None or (last.files == files.signature and files.digest != self.keeper.state.digest)

    def _forgive(self) -> None:
        """A refusal is over when the files say again what is in force."""
        files, last = self.keeper.files, self.last
        in_step = bool(files.digest) and files.digest == self.keeper.state.digest
        if in_step and last is not None and last.files is not None and not self._success.n:
            self._success.n = 1

    async def look(self) -> tuple[State, Revision | None, list[Member], dict[str, Any]]:
        """Return what is in force, who lives and runs what, and how this machine's files stand to it."""
        keeper = self.keeper
        state = await self._revisions.state()
        members = await self._revisions.members()
        revision = await self._revisions.revision(state.number) if state.number else None
        await keeper.files.look()
        base = await self._base()
        how = standing(keeper.files.digest, base, state.number, state.digest)
        problem, other = await asyncio.to_thread(self._own_keys)
        stands = {
            "machine": keeper.machine,
            "files_differ": bool(state.number) and keeper.files.digest != state.digest,
            "files": keeper.files.digest,
            "standing": how.value if keeper.files.digest else "the files cannot be read",
            "based_on": base.number if base is not None else 0,
            "needs_restart": other,
            "problem": problem,
        }
        return state, revision, members, stands

    def _own_keys(self) -> tuple[str, list[str]]:
        """Return why this machine's keys cannot be read, and which of them take a restart."""
        keeper = self.keeper
        try:
            return "", needs_restart(load_local(keeper.files.folder, keeper.env), keeper.settings)
        except ConfigError as exc:
            return str(exc), []

    async def history(self) -> list[Revision]:
        """Return the revisions that are kept, the newest first."""
        return await self._revisions.history()

    async def show(self, number: int) -> tuple[Revision, dict[str, str]]:
        """Return a revision and its files for people, secrets masked. Raises RequestError where it is not kept."""
        revision = await self._revisions.revision(number)
        bundle = await self._bundle(number)
        if revision is None:
            raise _not_kept(number)
        files = {name: masked(name, data.decode(errors="replace")) for name, data in sorted(bundle.files.items())}
        return revision, files

    async def diff(self, a: int, b: int) -> tuple[bool, list[str], tuple[str, str]]:
        """Return whether two configurations say the same, the difference as lines, and what the two are called.

        `a` and `b` are revisions; 0 means the one in force for `a`, this machine's files for `b`.

        Raises:
            RequestError: a revision is not kept.
        """
        a = a or (await self._revisions.state()).number
        old = await self._bundle(a) if a else Bundle({})
        if b:
            new = await self._bundle(b)
        else:
            # Also a folder with a file that is missing or too large can be compared.
            new = await asyncio.to_thread(Bundle.read_what_is_there, self.keeper.files.folder)
        names = (f"revision {a}" if a else "nothing", f"revision {b}" if b else "files here")
        lines = await asyncio.to_thread(unified, old, new, names)
        return old.digest == new.digest, lines, names

    async def _bundle(self, number: int) -> Bundle:
        text = await self._revisions.text(number)
        if text is None:
            raise _not_kept(number)
        try:
            return await asyncio.to_thread(Bundle.decode, text)
        except ConfigError as exc:
            raise RequestError("unreadable_revision", str(exc), status=409) from exc

    # --- the check of the whole

    def _check(self, bundle: Bundle) -> _Checked:
        """Prove this machine's files, its own keys too. Raises ConfigError."""
        keeper = self.keeper
        settings = load(keeper.files.folder, keeper.env, source=self._folder_of(bundle))
        other = tuple(needs_restart(settings, keeper.settings))
        return self._proven(bundle, with_local(settings, keeper.settings), other)

    def _check_old(self, bundle: Bundle) -> _Checked:
        """Prove an old revision, whose machine's keys are another time's. Raises ConfigError."""
        keeper, folder = self.keeper, self._folder_of(bundle)
        return self._proven(bundle, load(keeper.files.folder, keeper.env, source=folder, local=keeper.settings), ())

    def _folder_of(self, bundle: Bundle) -> Path:
        """Write a bundle to a folder of its own. Raises ConfigError."""
        memory = self.keeper.memory
        try:
            return bundle.materialise(memory.data_dir, memory.folders_in_use())
        except OSError as exc:
            reason = f"the configuration cannot be written below it: {exc.strerror or type(exc).__name__}"
            raise ConfigError([ConfigProblem(GATEWAY, "store.data_dir", reason)]) from exc

    def _proven(self, bundle: Bundle, settings: Settings, other: tuple[str, ...]) -> _Checked:
        problems = table_problems(settings)
        if settings.admin.token is None and self.keeper.settings.admin.token is not None:
            problems.append(ConfigProblem("gateway.toml", "admin.token", "not set, and nobody could ask this any more"))
        if problems:
            raise ConfigError(problems)
        moved = not same_secrets(settings, self.keeper.settings)
        return _Checked(bundle, other, tuple(str(one) for one in settings.warnings), moved)

    # --- the protocol

    async def _decide(self, checked: _Checked, state: State, by: str, note: str, dry_run: bool) -> Outcome:
        """Propose, count the votes, commit or withdraw."""
        keeper, bundle = self.keeper, checked.bundle
        await keeper.files.look()  # whoever swaps notes whether these are what it runs
        try:
            text = await asyncio.to_thread(bundle.encode)
        except ConfigError as exc:
            return _invalid(state, exc)
        changed = await self._changes(state, bundle)
        token = secrets.token_hex(8)
        members = {one.incarnation: one for one in await self._revisions.members()}
        committed = False
        try:
            first = await self._revisions.propose(
                token, state.number, bundle.digest, text, by=by, machine=keeper.machine, note=note
            )
            if first.word == "busy":
                detail = f"another change is being decided ({first.about}, for {first.age_s:.0f} s): try again soon"
                return Outcome("refused", state.number, detail, "busy")
            if first.word == "moved":
                detail = f"revision {first.number} came into force meanwhile: look at it first (`smsgw config diff`)"
                return Outcome("refused", first.number, detail, "moved")
            keeper.poke()
            outcome = await self._count(token, members, state, dry_run)
            committed = outcome.result == "applied"
        finally:
            if not committed:
                with contextlib.suppress(StoreUnavailable):
                    await asyncio.shield(self._revisions.withdraw(token))
        if committed:
            await self._swapped(outcome.number)
        return replace(
            outcome, base=state.number, changes=changed, needs_restart=checked.needs_restart, warnings=checked.warnings
        )

    async def _count(self, token: str, members: dict[str, Member], state: State, dry_run: bool) -> Outcome:
        clock = asyncio.get_running_loop().time
        until = clock() + VOTE_S
        while True:
            try:
                tally = await self._revisions.commit(token, dry=dry_run)
            except StoreUnavailable:
                # It may be in force: only the store can tell, so it is asked again for as long as there is time.
                if clock() > until:
                    raise
                await asyncio.sleep(START_AGAIN_S)
                continue
            match tally.word:
                case "committed":
                    return Outcome("applied", tally.number, f"revision {tally.number} is in force")
                case "agreed":
                    return Outcome("checked", state.number, "every member would take it; nothing was changed")
                case "refused":
                    problems = tuple(
                        {**one, **_place(members.get(who))} for who, found in tally.problems for one in found
                    )
                    return Outcome("refused", state.number, "not every machine can run it", "refused", problems)
                case "lapsed":
                    return Outcome("refused", state.number, "the proposal lapsed", "lapsed")
            if clock() > until:
                silent = [members[who].name if who in members else who for who in tally.waiting]
                detail = f"no answer within {VOTE_S:.0f} s from {'; '.join(silent)}"
                return Outcome("refused", state.number, detail, "no_answer")
            await asyncio.sleep(COUNT_S)

    async def _swapped(self, number: int) -> None:
        """Wait until this process runs what it published, so that whoever asks next sees it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SWAPPED_S):
                while self.keeper.mark.number < number:
                    self.keeper.poke()
                    await asyncio.sleep(COUNT_S)

    async def _changes(self, state: State, new: Bundle) -> dict[str, list[str]]:
        text = await self._revisions.text(state.number) if state.number else None
        try:
            old = await asyncio.to_thread(Bundle.decode, text) if text is not None else Bundle({})
        except ConfigError:
            old = Bundle({})
        return await asyncio.to_thread(changes, old, new)

    # --- what is told of it

    async def _tell(self, by: str, action: str, note: str, dry_run: bool, work: Awaitable[Outcome]) -> Outcome:
        try:
            outcome = await work
        except StoreUnavailable as exc:
            self._success.n = 0
            self.keeper.metrics.counter("config_reloads_total", result="error").n += 1
            log.error("configuration: %s by %s: %s", action, by, exc)
            raise
        if dry_run:
            return outcome
        await self.keeper.files.look()
        files = self.keeper.files.signature if action != "config.rollback" else None
        self.last = Tried(time.time_ns() // 1_000_000, by, outcome, files)
        self._success.n = 0 if outcome.result == "refused" else 1
        self.keeper.metrics.counter("config_reloads_total", result=outcome.result).n += 1
        if outcome.result == "refused":
            reasons = [
                spelt(one) + (f" ({one['machine']}, {one['role']})" if "machine" in one else "")
                for one in outcome.problems
            ]
            log.error("configuration: %s by %s refused: %s", action, by, "; ".join([outcome.detail, *reasons]))
        else:
            log.info(
                "configuration: %s by %s: %s", action, by, outcome.detail, extra={"fields": _short(outcome.changes)}
            )
        if outcome.needs_restart:
            log.warning("configuration: takes a restart of this machine: %s", ", ".join(outcome.needs_restart))
        self._show()
        applied = outcome.result == "applied"
        before, after = (outcome.base, str(outcome.number)) if applied else (outcome.number, outcome.code)
        result = f"refused: {outcome.code}" if outcome.result == "refused" else DONE if applied else UNCHANGED
        await self._note(
            by, action, "config", str(before), after, machine=self.keeper.machine, note=note, result=result
        )
        return outcome

    def _show(self) -> None:
        """Bring the gauges up to date."""
        keeper = self.keeper
        state, files = keeper.state, keeper.files.digest
        self._differ.n = 1 if state.number and files != state.digest else 0
        shown = (state.digest or keeper.mark.digest)[:12]
        if shown != self._shown_revision:
            if self._shown_revision:
                keeper.metrics.forget("config_revision_info", revision=self._shown_revision)
            keeper.metrics.gauge("config_revision_info", revision=shown).n = 1
            self._shown_revision = shown

    # --- files, base, start

    async def _base(self) -> Mark | None:
        return (await asyncio.to_thread(self.keeper.memory.read)).base

    async def _in_step(self, state: State) -> None:
        """Remember that the files say what is in force."""
        base = Mark(state.number, state.digest)
        if await self._base() != base:
            try:
                await asyncio.to_thread(self.keeper.memory.update, base=base)
            except OSError as exc:
                log.warning("configuration: cannot be noted on disk: %s", exc.strerror)

    async def _note_step(self) -> None:
        state = self.keeper.state
        if state.number and self.keeper.files.digest == state.digest:
            await self._in_step(state)

    async def _publish_again(self) -> None:
        """Publish what runs here where the store has lost it, so that whoever comes next does not decide for all."""
        keeper = self.keeper
        mark = keeper.mark
        now = asyncio.get_running_loop().time()
        if keeper.state.number or not mark.number or not mark.folder or now < self._again_at:
            return
        self._again_at = now + LOST_AGAIN_S
        async with self._one_at_a_time:
            state = await self._revisions.state()
            if state.number:
                return
            bundle = await asyncio.to_thread(Bundle.read, revisions_dir(keeper.memory.data_dir) / mark.folder)
            if bundle.digest != mark.digest:
                return
            note = f"it was revision {mark.number}, which the store has lost"
            outcome = await self._decide(_Checked(bundle), state, keeper.who, note, dry_run=False)
            if outcome.code not in ("busy", "moved", "lapsed"):
                await self._tell(keeper.who, "config.publish", note, False, _known(outcome))

    async def _watch(self) -> None:
        """Reload once for each state of the files, when it was quiet for a while."""
        files, clock = self.keeper.files, asyncio.get_running_loop().time
        seen = files.signature
        if seen == self._tried:
            return
        until = clock() + QUIET_S
        while clock() < until:
            await asyncio.sleep(QUIET_S / 4)
            await files.look()
            if files.signature != seen:
                seen, until = files.signature, clock() + QUIET_S
        if not self.keeper.settings.config.watch:  # switched off meanwhile
            return
        if files.digest != self.keeper.state.digest:
            outcome = await self.reload("file watch")
            if outcome.code in ("busy", "lapsed", "no_answer"):
                return  # nothing is wrong with the files: the next turn tries again
        self._tried = seen

    async def _settle_start(self) -> None:
        """Publish the files this machine started with, if it may; else follow what is in force."""
        complained = False
        while self.keeper.pending:
            try:
                async with self._one_at_a_time:  # who asks for a reload meanwhile waits for it
                    if await self._settled():
                        break
            except StoreUnavailable as exc:
                if not complained:
                    log.warning("configuration: not published yet: %s", exc)
                complained = True
            except Exception as error:  # the boundary of this task: signals and watched files are heard of behind it
                if not complained:
                    log.error("configuration: not published: %s", type(error).__name__, exc_info=error)
                complained = True
            await asyncio.sleep(START_AGAIN_S)
        self.keeper.settle()
        try:
            await asyncio.to_thread(self.keeper.memory.update, pending=False)
        except OSError as exc:
            log.warning("configuration: cannot be noted on disk: %s", exc.strerror)

    async def _settled(self) -> bool:
        """Try to publish what was started with; returns False where another change is being decided."""
        bundle = await asyncio.to_thread(Bundle.read, self._started)
        state = await self._revisions.state()
        how = standing(bundle.digest, await self._base(), state.number, state.digest)
        if how is Standing.IN_STEP:
            await self._in_step(state)
            return True
        if how in (Standing.BEHIND, Standing.STALE):
            log.warning("configuration: %s", based_on(await self._base(), state.number))
            return True
        await self.keeper.beat()
        try:
            checked = await asyncio.to_thread(self._check, bundle)
            work = self._decide(checked, state, "start", "files at the start", dry_run=False)
            outcome = await work
        except ConfigError as exc:
            outcome = _invalid(state, exc)
        if outcome.code in ("busy", "moved", "lapsed"):
            return False

        await self._tell("start", "config.publish", "files at the start", False, _known(outcome))
        if outcome.result == "applied":
            await self._in_step(State(outcome.number, bundle.digest))
        return True


async def _known(outcome: Outcome) -> Outcome:
    return outcome


def _not_kept(number: int) -> RequestError:
    return RequestError("unknown_revision", f"revision {number} is not kept", status=404)


def _invalid(state: State, exc: ConfigError) -> Outcome:
    problems = tuple({"file": p.file, "key": p.key, "reason": p.reason} for p in exc.problems)
    return Outcome("refused", state.number, "the configuration is not sound", "invalid", problems)


def _place(member: Member | None) -> dict[str, str]:
    return {"machine": member.machine, "role": f"{member.role} {member.number}"} if member is not None else {}


def _short(found: dict[str, list[str]]) -> dict[str, str]:
    """Return what changed as fields of a log record, long lists cut."""
    return {
        what.replace(" ", "_"): ",".join(names[:_NAMES_IN_LOG])
        + (f",… ({len(names)})" if len(names) > _NAMES_IN_LOG else "")
        for what, names in found.items()
    }
