"""A change goes through all members or none: several machines in one process, on a real store."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ConfigError, ConfigProblem, StoreUnavailable
from gateway.metrics import Metrics
from gateway.reload import keeper as keepers
from gateway.reload import publisher as publishers
from gateway.reload.keeper import ConfigKeeper
from gateway.reload.machine import begin, resume
from gateway.reload.publisher import Outcome, Publisher
from gateway.settings import Settings
from gateway.settings.bundle import Bundle
from gateway.store import revisions as revision_store
from gateway.store.audit import Audit
from gateway.store.revisions import Revisions
from gateway.store.store import Store
from tests.support.config import CHANNELS, ENV, GATEWAY, ROUTES, write_config
from tests.support.until import until
from tests.support.valkey import ValkeyServer


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keepers, "POLL_S", 0.03)
    monkeypatch.setattr(keepers, "BEAT_S", 0.1)
    monkeypatch.setattr(keepers, "AGAIN_S", 0.2)
    monkeypatch.setattr(publishers, "START_AGAIN_S", 0.05)
    monkeypatch.setattr(publishers, "WATCH_S", 0.1)
    monkeypatch.setattr(publishers, "QUIET_S", 0.4)
    monkeypatch.setattr(revision_store, "GONE_S", 1.0)


class Worker:
    """One member: what it was asked to prepare, and what it runs."""

    def __init__(self, machine: Machine, role: str, server: ValkeyServer) -> None:
        self.machine, self.role = machine, role
        self.prepared: list[str] = []
        self.runs: list[str] = []
        self.refuses: Exception | None = None
        self.breaks = False
        self.waits: asyncio.Event | None = None
        self.broken = False
        self.metrics = Metrics(role, "0", f"{machine.name}-{role}")
        self.tasks: list[asyncio.Task[None]] = []
        start = begin(machine.config, ENV) if role == "admin" else resume(machine.config, machine.started, ENV)
        machine.started = start.started
        self.runs.append(start.settings.routes[0].id)
        self.store = Store(start.settings, server.url, incarnation=f"{machine.name}-{role}")
        self.keeper = ConfigKeeper(
            Revisions(self.store),
            start,
            self.prepare,
            config_dir=machine.config,
            role=role,
            number=0,
            incarnation=f"{machine.name}-{role}",
            metrics=self.metrics,
            on_broken=self._broke,
            machine=machine.name,
            env=ENV,
        )
        self.publisher = Publisher(self.keeper, Audit(self.store).note, start.started)

    def _broke(self) -> None:
        self.broken = True

    async def prepare(self, settings: Settings) -> Callable[[], None]:
        route = settings.routes[0].id
        self.prepared.append(route)
        if self.waits is not None:
            await self.waits.wait()
        if self.refuses is not None:
            raise self.refuses

        def swap() -> None:
            if self.breaks:
                raise ValueError("half-way")
            self.runs.append(route)

        return swap

    def begin(self) -> None:
        self.tasks = [asyncio.create_task(self.keeper.run())]
        if self.role == "admin":
            self.tasks.append(asyncio.create_task(self.publisher.run()))

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.store.close()

    async def die(self) -> None:
        """End without a word, as a killed process."""
        self.keeper.revisions.leave = _nothing  # type: ignore[method-assign]
        await self.end()

    def gauge(self, name: str, **labels: str) -> float:
        return self.metrics.gauge(name, **labels).n

    def has(self, route: str, number: int) -> bool:
        return self.runs[-1] == route and self.keeper.mark.number == number


async def _nothing(incarnation: str) -> None:
    del incarnation


class Machine:
    """A folder of files and a data directory."""

    def __init__(self, directory: Path, name: str, route: str = "cn") -> None:
        self.name, self.config, self.data = name, directory / name / "config", directory / name / "var"
        self.started = Path()
        self.write(route)

    def write(self, route: str = "", *, gateway: str = "", **files: str) -> None:
        text = GATEWAY.replace('data_dir = "var"', f'data_dir = "{self.data}"') + gateway
        write_config(self.config, **{"gateway": text, "routes": ROUTES.replace('"cn"', f'"{route}"'), **files})


class Site:
    """Machines and workers of one test."""

    def __init__(self, directory: Path, server: ValkeyServer) -> None:
        self.directory, self.server = directory, server
        self.workers: list[Worker] = []

    async def worker(self, machine: Machine, role: str) -> Worker:
        one = Worker(machine, role, self.server)
        self.workers.append(one)
        await one.keeper.beat()
        one.begin()
        return one

    async def machine(self, name: str, route: str = "cn", *roles: str) -> list[Worker]:
        machine = Machine(self.directory, name, route)
        return [await self.worker(machine, role) for role in ("admin", *roles)]


@pytest.fixture
async def site(tmp_path: Path, valkey: ValkeyServer, settings: Settings) -> AsyncIterator[Site]:
    first = await Store.open(settings, valkey.url)
    one = Site(tmp_path, valkey)
    yield one
    for worker in one.workers:
        await worker.end()
    await first.close()


async def in_force(worker: Worker, route: str, number: int) -> None:
    await until(lambda: worker.has(route, number))


async def test_an_edit_is_published_and_runs_everywhere(site: Site) -> None:
    admin, api = await site.machine("one", "cn", "api")
    await in_force(admin, "cn", 1)
    await in_force(api, "cn", 1)
    (other,) = await site.machine("two", "cn")
    await in_force(other, "cn", 1)
    assert other.prepared == []  # its files say what is in force: there is nothing to build
    admin.machine.write("edited")
    outcome = await admin.publisher.reload("operator", note="why")
    assert (outcome.result, outcome.number) == ("applied", 2)
    assert outcome.changes == {"routes added": ["edited"], "routes removed": ["cn"]}
    assert admin.has("edited", 2)
    for worker in (api, other):
        await in_force(worker, "edited", 2)
    assert [(r.number, r.by, r.machine, r.note) for r in await admin.publisher.history()] == [
        (2, "operator", "one", "why"),
        (1, "start", "one", "files at the start"),
    ]
    # The other machine's files differ now, and say so; they are based on what is not in force any more.
    await until(lambda: other.gauge("config_files_differ") == 1)
    assert admin.gauge("config_files_differ") == 0
    refused = await other.publisher.reload("operator")
    assert (refused.result, refused.code) == ("refused", "stale")
    assert "based on revision 1, revision 2 is in force" in refused.detail
    assert other.gauge("config_reload_success") == 0
    assert (await other.publisher.reload("operator", force=True)).number == 3
    await in_force(admin, "cn", 3)
    assert (await other.publisher.reload("operator")).result == "unchanged"
    assert other.gauge("config_reload_success") == 1
    entries = [(e.action, e.before, e.after, e.more["result"]) for e in await Audit(admin.store).read()]
    assert entries == [
        ("config.reload", "3", "", "nothing to change"),
        ("config.reload", "2", "3", "done"),
        ("config.reload", "2", "stale", "refused: stale"),
        ("config.reload", "1", "2", "done"),
        ("config.publish", "0", "1", "done"),
    ]


@pytest.mark.parametrize(
    ("why", "words"),
    [
        (ConfigError([ConfigProblem("channels.toml", "channel[a].password", "environment variable X is not set")]),
         "channels.toml: channel[a].password: environment variable X is not set"),
        (RuntimeError("secret-words"), "cannot be built (RuntimeError), see the log"),
    ],
)  # fmt: skip
async def test_one_member_says_no_and_nobody_changes(site: Site, why: Exception, words: str) -> None:
    admin, api = await site.machine("one", "cn", "api")
    (other,) = await site.machine("two", "cn")
    for worker in (admin, api, other):
        await in_force(worker, "cn", 1)
    other.refuses = why
    admin.machine.write("edited")
    outcome = await admin.publisher.reload("operator")
    assert (outcome.result, outcome.code, outcome.number) == ("refused", "refused", 1)
    ((problem,),) = [outcome.problems]
    assert keepers.spelt(problem) == words
    assert (problem["machine"], problem["role"]) == ("two", "admin 0")
    assert "secret-words" not in str(outcome)
    assert {w.runs[-1] for w in (admin, api, other)} == {"cn"}
    assert (await admin.keeper.revisions.state()).token == ""
    # A dry run goes as far as the votes and changes nothing.
    other.refuses = None
    checked = await admin.publisher.reload("operator", dry_run=True)
    assert (checked.result, checked.number, checked.changes["routes added"]) == ("checked", 1, ["edited"])
    assert (await admin.keeper.revisions.state()).number == 1
    assert admin.gauge("config_reload_success") == 0  # a dry run is no try
    assert (await admin.publisher.reload("operator")).result == "applied"


async def test_a_member_that_dies_while_it_votes_is_not_waited_for_for_ever(site: Site) -> None:
    admin, api = await site.machine("one", "cn", "api")
    await in_force(api, "cn", 1)
    api.waits = asyncio.Event()
    admin.machine.write("edited")
    change = asyncio.create_task(admin.publisher.reload("operator"))
    await until(lambda: "edited" in api.prepared)
    assert not change.done()
    await api.die()
    outcome = await change
    assert (outcome.result, outcome.number) == ("applied", 2)
    # Its successor starts with what is in force.
    again = await site.worker(admin.machine, "api")
    assert again.has("edited", 2)


async def test_a_member_that_does_not_answer_in_time_stops_the_change(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishers, "VOTE_S", 3.0)
    admin, api = await site.machine("one", "cn", "api")
    await in_force(api, "cn", 1)
    api.waits = asyncio.Event()
    admin.machine.write("edited")
    outcome = await admin.publisher.reload("operator")
    assert (outcome.result, outcome.code) == ("refused", "no_answer")
    assert outcome.detail == "no answer within 3 s from one, api 0"
    api.waits.set()
    await until(lambda: api.keeper._seen_token != "")
    assert (admin.runs, api.runs) == (["cn"], ["cn"])


async def test_the_proposal_of_an_initiator_that_died_lapses(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revision_store, "LAPSE_S", 3.0)
    (admin,) = await site.machine("one", "cn")
    await in_force(admin, "cn", 1)
    (other,) = await site.machine("two", "cn")
    await in_force(other, "cn", 1)
    bundle = Bundle.read(Machine(site.directory, "dead", "never").config)
    revisions = other.keeper.revisions
    await revisions.propose("dead", 1, bundle.digest, bundle.encode(), by="operator", machine="dead")
    await until(lambda: "never" in admin.prepared)
    admin.machine.write("edited")
    busy = await admin.publisher.reload("operator")
    assert (busy.result, busy.code) == ("refused", "busy")
    assert "another change is being decided (operator on dead, for" in busy.detail

    async def again() -> Outcome | None:
        outcome = await admin.publisher.reload("operator")
        return None if outcome.code == "busy" else outcome

    outcome = await until(again)
    assert (outcome.result, outcome.number) == ("applied", 2)
    await in_force(other, "edited", 2)
    assert (await revisions.commit("dead")).word == "lapsed"


async def test_of_two_initiators_at_once_one_is_refused(site: Site) -> None:
    one, two = (await site.machine("one", "cn")) + (await site.machine("two", "cn"))
    for worker in (one, two):
        await in_force(worker, "cn", 1)
        await until(lambda w=worker: w.keeper.memory.read().base is not None)
    one.machine.write("of-one")
    two.machine.write("of-two")
    outcomes = await asyncio.gather(one.publisher.reload("a"), two.publisher.reload("b"))
    (won,) = [o for o in outcomes if o.result == "applied"]
    (lost,) = [o for o in outcomes if o.result == "refused"]
    assert (won.number, lost.code in ("busy", "moved", "stale")) == (2, True)
    route = "of-one" if outcomes[0] is won else "of-two"
    await in_force(one, route, 2)
    await in_force(two, route, 2)


async def test_a_machine_with_other_files_joins_what_is_in_force(site: Site) -> None:
    (admin,) = await site.machine("one", "cn")
    await in_force(admin, "cn", 1)
    new, events = await site.machine("new", "its-own", "events")
    assert new.runs == ["its-own"]  # no store was asked yet
    for worker in (new, events):
        await in_force(worker, "cn", 1)
    assert (await admin.keeper.revisions.state()).number == 1

    async def told() -> bool:
        members = {(m.machine, m.role): m for m in (await new.publisher.look())[2]}
        return members["new", "events"].revision == 1 and members["new", "events"].files not in (
            "",
            admin.keeper.mark.digest,
        )

    await until(told)
    *_, here = await new.publisher.look()
    assert (here["files_differ"], here["standing"]) == (True, "the files are not based on the revision in force")
    same, lines, _ = await new.publisher.diff(0, 0)
    assert not same
    assert '+id = "its-own"' in lines
    number, written = await new.publisher.write("operator")
    assert number == 1
    assert written == ["routes.toml"]  # gateway.toml kept this machine's own keys, and says the same else
    assert (await new.publisher.reload("operator")).result == "unchanged"


async def test_edited_files_at_a_restart_are_published_and_stale_ones_are_not(site: Site) -> None:
    admin, api = await site.machine("one", "cn", "api")
    (two,) = await site.machine("two", "cn")
    for worker in (admin, api, two):
        await in_force(worker, "cn", 1)
    await two.end()
    for worker in (admin, api):
        await worker.end()
    admin.machine.write("edited")
    admin, api = [await site.worker(admin.machine, role) for role in ("admin", "api")]
    assert (admin.runs, api.runs) == (["edited"], ["edited"])
    for worker in (admin, api):
        await in_force(worker, "edited", 2)
    assert api.prepared == []
    two.machine.write("of-two")
    two = await site.worker(two.machine, "admin")
    assert two.runs == ["of-two"]  # it cannot know yet
    await in_force(two, "edited", 2)
    assert (await two.keeper.revisions.state()).number == 2


async def test_a_rollback_is_a_new_revision_and_the_files_stay_behind(site: Site) -> None:
    admin, api = await site.machine("one", "cn", "api")
    await in_force(api, "cn", 1)
    admin.machine.write("edited")
    assert (await admin.publisher.reload("operator")).number == 2
    outcome = await admin.publisher.rollback(1, "operator")
    assert (outcome.result, outcome.number) == ("applied", 3)
    await in_force(api, "cn", 3)
    assert (await admin.publisher.history())[0].note == "back to revision 1"
    assert (await admin.publisher.rollback(1, "operator")).result == "unchanged"
    assert (await admin.publisher.rollback(77, "operator")).code == "unknown_revision"
    *_, here = await admin.publisher.look()
    assert here["standing"] == "the files are as they were, and a newer revision is in force"
    # A restart does not undo it.
    await api.end()
    await admin.end()
    admin = await site.worker(admin.machine, "admin")
    assert admin.has("cn", 3)
    assert await admin.publisher.write("operator") == (3, ["routes.toml"])


async def test_watched_files_are_taken_when_they_are_quiet(site: Site) -> None:
    machine = Machine(site.directory, "one")
    machine.write("cn", gateway="[config]\nwatch = true\n")
    admin = await site.worker(machine, "admin")
    await in_force(admin, "cn", 1)
    routes = machine.config / "routes.toml"
    text = ROUTES.replace('"cn"', '"edited"')
    for end in range(0, len(text), 20):  # written slowly, half of the time no TOML
        routes.write_text(text[:end])
        await asyncio.sleep(0.02)
    routes.write_text(text)
    await in_force(admin, "edited", 2)
    assert admin.metrics.counter("config_reloads_total", result="refused").n == 0
    routes.write_text("[[route")
    await until(lambda: admin.gauge("config_reload_success") == 0)
    last = admin.publisher.last
    assert last is not None
    assert (last.by, last.outcome.problems[0]["file"]) == ("file watch", "routes.toml")
    refused = admin.metrics.counter("config_reloads_total", result="refused").n
    await asyncio.sleep(0)  # the same broken file is tried once
    routes.write_text(text)
    await until(lambda: admin.publisher._tried == admin.keeper.files.signature)
    assert admin.metrics.counter("config_reloads_total", result="refused").n == refused
    assert admin.has("edited", 2)


async def test_a_swap_that_fails_half_way_ends_the_worker(site: Site) -> None:
    admin, api = await site.machine("one", "cn", "api")
    await in_force(api, "cn", 1)
    api.breaks = True
    admin.machine.write("edited")
    assert (await admin.publisher.reload("operator")).result == "applied"
    await until(lambda: api.broken)
    # Its successor begins with the revision: it does not come by the same swap.
    await api.end()
    again = await site.worker(admin.machine, "api")
    assert again.has("edited", 2)


async def test_a_member_that_cannot_follow_says_why_and_tries_again(site: Site) -> None:
    (admin,) = await site.machine("one", "cn")
    await in_force(admin, "cn", 1)
    admin.machine.write("edited")
    await admin.publisher.reload("operator")
    machine = Machine(site.directory, "new", "its-own")
    new = Worker(machine, "admin", site.server)
    new.refuses = ConfigError([ConfigProblem("channels.toml", "channel[a].tls_key", "cannot be read")])
    site.workers.append(new)
    new.begin()

    async def told() -> Any:
        return [m.problem for m in await admin.keeper.revisions.members() if m.machine == "new" and m.problem]

    assert await until(told) == ["channels.toml: channel[a].tls_key: cannot be read"]
    new.refuses = None
    await in_force(new, "edited", 2)
    await until(lambda: _cleared(admin))


async def _cleared(admin: Worker) -> bool:
    return not any(m.problem for m in await admin.keeper.revisions.members())


async def test_what_cannot_be_is_refused_before_anybody_is_asked(site: Site) -> None:
    admin, api = await site.machine("one", "cn", "api")
    await in_force(api, "cn", 1)
    before = Bundle.read(admin.machine.config)
    for spoil, file, key in (
        ({"routes": "[[route"}, "routes.toml", ""),
        ({"routes": ROUTES.replace("match", "mach")}, "routes.toml", "route[cn].mach"),
        ({"accounts": '[[account]]\nid = "shop"\nmax_per_s = -1\n'}, "accounts.toml", "account[shop].max_per_s"),
        ({"gateway": GATEWAY.replace("${env:TOKEN}", "")}, "gateway.toml", "admin.token"),
        ({"gateway": GATEWAY + "[nonsense]\n"}, "gateway.toml", "nonsense"),
    ):  # fmt: skip
        sound = {name.removesuffix(".toml"): data.decode() for name, data in before.files.items()}
        write_config(admin.machine.config, **{**sound, **spoil})
        outcome = await admin.publisher.reload("operator")
        assert (outcome.result, outcome.code) == ("refused", "invalid"), spoil
        assert (file, key) in [(p["file"], p["key"]) for p in outcome.problems], outcome.problems
    assert (admin.prepared, api.prepared) == ([], [])


async def test_a_refusal_is_over_when_its_files_are_put_back(site: Site) -> None:
    (admin,) = await site.machine("one", "cn")
    await in_force(admin, "cn", 1)
    routes = admin.machine.config / "routes.toml"
    sound = routes.read_text()
    routes.write_text("[[route")
    await admin.publisher.reload("operator")
    assert admin.publisher.refused_now()
    assert admin.gauge("config_reload_success") == 0
    routes.write_text("[[route\n")  # edited once more, still no TOML: nobody tried that one
    await until(lambda: not admin.publisher.refused_now())
    assert admin.gauge("config_reload_success") == 0
    routes.write_text(sound)
    await until(lambda: admin.gauge("config_reload_success") == 1)
    last = admin.publisher.last
    assert last is not None
    assert last.outcome.result == "refused", "what was tried is told all the same"
    assert not admin.publisher.refused_now()


async def test_the_history_is_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revision_store, "MOST_REVISIONS", 3)
    (admin,) = await site.machine("one", "cn")
    await in_force(admin, "cn", 1)
    for n in range(4):
        admin.machine.write(f"edited{n}")
        assert (await admin.publisher.reload("operator")).result == "applied"
    assert [r.number for r in await admin.publisher.history()] == [5, 4, 3]
    assert await admin.keeper.revisions.text(2) is None
    monkeypatch.setattr(revision_store, "MOST_HISTORY_BYTES", 1)
    admin.machine.write("last")
    await admin.publisher.reload("operator")
    assert [r.number for r in await admin.publisher.history()] == [6]


async def test_the_store_gone_for_a_while_changes_nothing(site: Site, valkey: ValkeyServer) -> None:
    (admin,) = await site.machine("one", "cn")
    await in_force(admin, "cn", 1)
    with contextlib.closing(valkey.sync()) as client:
        client.client_kill_filter(_type="normal", skipme=True)
    admin.machine.write("edited")

    async def applied() -> bool:
        with contextlib.suppress(StoreUnavailable):
            return (await admin.publisher.reload("operator")).result in ("applied", "unchanged")
        return False

    await until(applied)
    await in_force(admin, "edited", 2)


async def test_a_disk_that_takes_nothing_is_a_reason(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (admin,) = await site.machine("one")
    await in_force(admin, "cn", 1)
    admin.machine.write("edited")
    with monkeypatch.context() as patch:
        patch.setattr(Bundle, "materialise", full)
        outcome = await admin.publisher.reload("operator")
        assert (outcome.result, outcome.problems[0]["key"]) == ("refused", "store.data_dir")
        assert outcome.problems[0]["reason"].endswith("No space left on device")
        assert admin.gauge("config_reload_success") == 0
    admin.publisher.ask("SIGHUP")
    await in_force(admin, "edited", 2)


async def test_nothing_that_goes_wrong_ends_the_publisher(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = Worker(Machine(site.directory, "one"), "admin", site.server)
    site.workers.append(admin)
    settled, look, failed = admin.publisher._settled, admin.keeper.files.look, []

    async def broken() -> Any:
        failed.append(1)
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(admin.publisher, "_settled", broken)
    monkeypatch.setattr(admin.keeper.files, "look", broken)
    admin.begin()
    await until(lambda: len(failed) > 6)
    monkeypatch.setattr(admin.publisher, "_settled", settled)
    monkeypatch.setattr(admin.keeper.files, "look", look)
    await in_force(admin, "cn", 1)

    async def beats() -> bool:
        return [m.name for m in await admin.keeper.revisions.members() if m.lives] == ["one, admin 0"]

    await until(beats)


async def test_another_secret_behind_a_reference_is_taken_by_a_reload(site: Site) -> None:
    machine = Machine(site.directory, "one")
    (machine.config / "password").write_text("first")
    machine.write("cn", channels=CHANNELS.replace("${env:A_PASSWORD}", "file:password"))
    admin, api = [await site.worker(machine, role) for role in ("admin", "api")]
    await in_force(admin, "cn", 1)
    await in_force(api, "cn", 1)
    assert (await admin.publisher.reload("operator")).result == "unchanged"
    (machine.config / "password").write_text("second")
    assert (await admin.publisher.reload("operator")).number == 2
    await until(lambda: api.keeper.mark.number == 2)
    assert {w.keeper.settings.channels[0].password.reveal() for w in (admin, api)} == {"second"}
    assert (await admin.publisher.reload("operator")).result == "unchanged"
    # Where only another machine's secret is another, somebody must say so.
    built = len(api.prepared)
    assert (await admin.publisher.reload("operator", force=True)).number == 3
    await until(lambda: api.keeper.mark.number == 3)
    assert len(api.prepared) == built, "it has what it runs already"


async def test_a_store_that_lost_the_revision_gets_it_again(site: Site, valkey: ValkeyServer) -> None:
    admin, api = await site.machine("one", "cn", "api")
    admin.machine.write("edited")
    await in_force(api, "cn", 1)
    assert (await admin.publisher.reload("operator")).number == 2
    assert (await admin.publisher.rollback(1, "operator")).number == 3
    await in_force(api, "cn", 3)
    with contextlib.closing(valkey.sync()) as client:
        client.delete(*client.keys("gw:{config}:*"))
    await in_force(admin, "cn", 1)
    await in_force(api, "cn", 1)
    (first,) = await admin.publisher.history()
    assert first.note == "it was revision 3, which the store has lost"


async def test_watched_files_are_tried_again_when_somebody_else_was_busy(site: Site) -> None:
    machine = Machine(site.directory, "one")
    machine.write("cn", gateway="[config]\nwatch = true\n")
    admin = await site.worker(machine, "admin")
    await in_force(admin, "cn", 1)
    bundle = Bundle.read(Machine(site.directory, "dead", "never").config)
    revisions = admin.keeper.revisions
    await revisions.propose("dead", 1, bundle.digest, bundle.encode(), by="operator", machine="dead")
    machine.write("edited", gateway="[config]\nwatch = true\n")
    await until(lambda: admin.publisher.last is not None and admin.publisher.last.outcome.code == "busy")
    await revisions.withdraw("dead")
    await in_force(admin, "edited", 2)
