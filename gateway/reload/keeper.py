"""One worker's part in changes of the configuration: it votes on what is proposed, and follows what is in force.

Owns the member's side of the protocol: beats, the look at one small key four times a second, the check of a proposal
with this machine's secrets, the swap. Refuses to know what a role builds: `Prepare` does, from settings that have the
machine's own keys. What goes wrong here is a vote against, or a problem other members can read; the worker runs on with
what it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from gateway.errors import ConfigError, StoreUnavailable
from gateway.metrics import Metrics
from gateway.reload.files import Files
from gateway.reload.machine import MachineFile, Mark, Start
from gateway.settings import Settings, load
from gateway.settings.bundle import Bundle
from gateway.settings.secrets import same_secrets
from gateway.store.revisions import Member, Proposal, Revisions, State

log = logging.getLogger(__name__)

Prepare = Callable[[Settings], Awaitable[Callable[[], None]]]
"""Builds everything that new settings need, beside what runs, and returns the swap: a plain function that cannot fail.

The settings have the machine's own keys laid over already. ConfigError (with file, key and reason) or anything else
that is raised is a vote against. What was prepared and is not wanted in the end is dropped without a word."""

POLL_S: Final = 0.25
BEAT_S: Final = 1.5
PREPARE_S: Final = 9.0
"""A member that needs longer votes against: the proposal waits for ten seconds."""
AGAIN_S: Final = 5.0


@dataclass(slots=True)
class _Prepared:
    """A revision whose parts are built here and wait for their turn."""

    token: str
    mark: Mark
    settings: Settings
    swap: Callable[[], None]


class ConfigKeeper:
    """The member that a worker process is. `run` is its life; `publisher` proposes where this worker may."""

    def __init__(
        self,
        revisions: Revisions,
        start: Start,
        prepare: Prepare,
        *,
        config_dir: Path,
        role: str,
        number: int,
        incarnation: str,
        metrics: Metrics,
        on_broken: Callable[[], None],
        on_settings: Callable[[Settings], None] = lambda settings: None,
        machine: str = "",
        env: Mapping[str, str] = os.environ,
    ) -> None:
        """Follow with the settings of `start`.

        `on_settings` is called with new settings once they run; `on_broken` when a swap failed half-way and nobody
        knows what this process runs: it must end.
        """
        self.revisions = revisions
        self.settings = start.settings
        self.mark = start.mark
        self.files = Files(config_dir)
        self.memory = MachineFile(Path(start.settings.store.data_dir), config_dir)
        self.machine = machine or socket.gethostname()
        self.env = env
        self.metrics = metrics
        self.pending = start.pending
        """Whether this machine's files run and wait to be published; then another revision is not followed yet."""
        self.state = State()
        """What was in force when the store was last asked."""
        self._prepare = prepare
        self._role, self._number, self._incarnation = role, number, incarnation
        self._on_broken, self._on_settings = on_broken, on_settings
        self._prepared: _Prepared | None = None
        self._seen_token = ""
        self._problem = ""
        self._again_at = 0.0
        self._memory_stamp = 0
        self._beat_now, self._poll_now = asyncio.Event(), asyncio.Event()
        self._revision = metrics.gauge("config_revision")
        self._revision.n = start.mark.number

    @property
    def who(self) -> str:
        """How this process signs what it does by itself."""
        return f"{self._role} {self._number}"

    async def run(self) -> None:
        """Take part until cancelled; says that it ends then."""
        beats = asyncio.create_task(self._beats(), name="configuration: beats")
        try:
            while True:
                try:
                    await self._take(await self.revisions.state())
                except StoreUnavailable:
                    pass  # the store's watch tells of that; what runs goes on
                except Exception as error:  # the boundary of this task: a worker must not stop following
                    log.error("configuration: %s", type(error).__name__, exc_info=error)
                self._poll_now.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._poll_now.wait(), POLL_S)
        finally:
            beats.cancel()
            await asyncio.gather(beats, return_exceptions=True)
            with contextlib.suppress(StoreUnavailable, TimeoutError):
                async with asyncio.timeout(1.0):
                    await self.revisions.leave(self._incarnation)

    @property
    def in_step(self) -> bool:
        """Whether what runs here says what is in force, as far as the store told last."""
        return self.mark.holds(self.state.number, self.state.digest)

    def poke(self) -> None:
        """Look at the store now and not only at the next turn."""
        self._poll_now.set()

    async def beat(self) -> None:
        """Say now that this member lives (the first beat makes it one)."""
        await self.revisions.beat(self._incarnation, self._member())

    def settle(self) -> None:
        """Follow the revision in force from now on: the files were published, or may not be."""
        self.pending = False

    # --- who we are

    async def _beats(self) -> None:
        while True:
            try:
                await self.files.look()
                await self.beat()
            except StoreUnavailable:
                pass
            except Exception as error:  # the boundary of this task: without beats nobody would ask this member any more
                log.error("configuration: %s", type(error).__name__, exc_info=error)
            self._beat_now.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._beat_now.wait(), BEAT_S)

    def _member(self) -> Member:
        return Member(
            incarnation=self._incarnation,
            machine=self.machine,
            role=self._role,
            number=self._number,
            revision=self.mark.number,
            digest=self.mark.digest,
            files=self.files.digest,
            problem=self._problem,
        )

    # --- what is proposed, what is in force

    async def _take(self, state: State) -> None:
        self.state = state
        if state.number and not self.mark.is_same(state.number, state.digest):
            await self._follow(state)
        if self._prepared is not None and self._prepared.token != state.token:
            self._prepared = None  # refused, withdrawn, or in force by now
        if state.token and state.token != self._seen_token:
            proposal = await self.revisions.proposal(state.token)
            self._seen_token = state.token
            if proposal is not None and self._incarnation in proposal.required:
                await self._vote(proposal)

    async def _follow(self, state: State) -> None:
        """Run the revision in force: swap what was prepared, or fetch it where this member came too late for that."""
        prepared = self._prepared
        if prepared is not None and prepared.mark.digest == state.digest:
            self._prepared = None
            await self._swap(prepared, state)
        elif state.digest == self.mark.digest:
            await self._remember(Mark(state.number, state.digest, self.mark.folder))
        elif not await self._is_pending() and asyncio.get_running_loop().time() >= self._again_at:
            await self._catch_up(state)

    async def _catch_up(self, state: State) -> None:
        problems: list[dict[str, str]] = []
        text = await self.revisions.text(state.number)
        if text is None:
            return  # a newer one is in force by now
        found = await self._build("", text, problems)
        if found is not None:
            await self._swap(found, state)
            return
        self._again_at = asyncio.get_running_loop().time() + AGAIN_S
        problem = "; ".join(spelt(one) for one in problems)
        if problem != self._problem:
            log.error("configuration: revision %d is in force and cannot run here: %s", state.number, problem)
            self._problem = problem
            self._beat_now.set()

    async def _vote(self, proposal: Proposal) -> None:
        problems: list[dict[str, str]] = []
        self._prepared = await self._build(proposal.token, proposal.text, problems)
        await self.revisions.vote(proposal.token, self._incarnation, problems or None)
        if problems:
            log.warning("configuration: refused here: %s", "; ".join(spelt(one) for one in problems))

    async def _build(self, token: str, text: bytes, problems: list[dict[str, str]]) -> _Prepared | None:
        """Load a revision and build its parts; None after noting why not."""
        try:
            async with asyncio.timeout(PREPARE_S):
                settings, mark = await asyncio.to_thread(self._load, text)
                if mark.digest == self.mark.digest and same_secrets(settings, self.settings):
                    # It runs here already; what a reference stands for may change while the text does not.
                    own = Mark(0, mark.digest, self.mark.folder)
                    return _Prepared(token, own, self.settings, lambda: None)
                swap = await self._prepare(settings)
        except ConfigError as exc:
            problems += [{"file": p.file, "key": p.key, "reason": p.reason} for p in exc.problems]
        except TimeoutError:
            problems.append({"file": "", "key": "", "reason": f"not ready within {PREPARE_S:.0f} s"})
        except Exception as error:  # whatever a part runs into while it is built: the old ones go on
            log.error("configuration: cannot be built: %s", type(error).__name__, exc_info=error)
            problems.append({"file": "", "key": "", "reason": f"cannot be built ({type(error).__name__}), see the log"})
        else:
            return _Prepared(token, mark, settings, swap)
        return None

    def _load(self, text: bytes) -> tuple[Settings, Mark]:
        """Return a revision's settings as this machine runs them. Raises ConfigError."""
        bundle = Bundle.decode(text)
        folder = bundle.materialise(self.memory.data_dir, self.memory.folders_in_use())
        settings = load(self.files.folder, self.env, source=folder, local=self.settings)
        return settings, Mark(0, bundle.digest, folder.name)

    async def _swap(self, prepared: _Prepared, state: State) -> None:
        try:
            prepared.swap()
        except Exception as error:  # half old, half new: only a new process is one of the two again
            log.critical("configuration: the change stopped half-way, this worker ends", exc_info=error)
            # Its successor starts with the revision, and does not run into the same change again.
            await self._remember(Mark(state.number, state.digest, prepared.mark.folder))
            self._on_broken()
            return
        self.settings = prepared.settings
        try:
            self._on_settings(prepared.settings)
        except Exception as error:  # the parts run by it: what was only told of it must not undo that
            log.error("configuration: %s", type(error).__name__, exc_info=error)
        self._problem, self._again_at = "", 0.0
        log.info("configuration: revision %d runs", state.number, extra={"fields": {"digest": state.digest[:12]}})
        await self._remember(Mark(state.number, state.digest, prepared.mark.folder))

    async def _remember(self, mark: Mark) -> None:
        """Note what runs: here, and on disk for the next start."""
        self.mark = mark
        self._revision.n = mark.number
        self._beat_now.set()
        changes = {"running": mark, "pending": False}
        # What was seen of the files may be older than this change: a roll back soon after they were written would pass
        # for theirs, and the next reload undo it unasked.
        with contextlib.suppress(OSError):
            await self.files.look()
        if self.files.digest == mark.digest:
            changes["base"] = Mark(mark.number, mark.digest)  # in the same step: a crash in between cannot part them
        try:
            await asyncio.to_thread(partial(self.memory.update, **changes))
        except OSError as exc:
            log.warning("configuration: what runs cannot be noted on disk: %s", exc.strerror)

    async def _is_pending(self) -> bool:
        """Tell whether this machine's files still wait to be published (another process of it says so on disk)."""
        if self.pending:
            stamp = self.memory.stamp()
            if stamp != self._memory_stamp:
                self._memory_stamp = stamp
                self.pending = (await asyncio.to_thread(self.memory.read)).pending
        return self.pending


def spelt(problem: Mapping[str, str]) -> str:
    """Spell a problem as `file: key: reason`."""
    return ": ".join(problem[name] for name in ("file", "key", "reason") if problem.get(name))
