"""What a machine starts with: its files or the revision in force, by what it remembers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ConfigError
from gateway.reload.machine import MachineFile, Mark, Standing, begin, resume, standing
from gateway.settings import Settings
from gateway.settings.bundle import Bundle, revisions_dir
from tests.support.config import ENV, GATEWAY, ROUTES, write_config


@pytest.mark.parametrize(
    ("files", "base", "force", "wanted"),
    [
        ("a", None, (0, ""), Standing.FIRST),
        ("a", Mark(7, "a"), (0, ""), Standing.FIRST),  # the store was emptied
        ("a", None, (3, "a"), Standing.IN_STEP),
        ("a", Mark(1, "x"), (3, "a"), Standing.IN_STEP),
        ("b", Mark(3, "a"), (3, "a"), Standing.EDITED),
        ("a", Mark(3, "a"), (4, "c"), Standing.BEHIND),
        ("b", Mark(3, "a"), (4, "c"), Standing.STALE),
        ("b", None, (4, "c"), Standing.STALE),
        ("b", Mark(4, "a"), (4, "c"), Standing.STALE),  # the number is another store's
    ],
)
def test_how_files_stand(files: str, base: Mark | None, force: tuple[int, str], wanted: Standing) -> None:
    assert standing(files, base, *force) is wanted


class Machine:
    """One configuration folder and its data directory."""

    def __init__(self, tmp_path: Path) -> None:
        self.config = tmp_path / "config"
        self.data = tmp_path / "var"
        self.memory = MachineFile(self.data, self.config)
        self.write("cn")

    def write(self, route: str, **files: str) -> str:
        gateway = GATEWAY.replace('data_dir = "var"', f'data_dir = "{self.data}"')
        write_config(self.config, **{"gateway": gateway, "routes": ROUTES.replace('"cn"', f'"{route}"'), **files})
        return Bundle.read(self.config).digest

    def begin(self, **more: Any) -> tuple[str, int, bool, list[str]]:
        """Return the route's id, the revision, whether it waits to be published, and warnings."""
        start = begin(self.config, ENV, **more)
        return start.settings.routes[0].id, start.mark.number, start.pending, list(start.warnings)

    def runs(self, route: str, number: int, *, base: int = 0) -> None:
        """Let a revision with this route be what ran last; `base`: the files were in step with that number."""
        here = {path.name: path.read_bytes() for path in self.config.iterdir() if path.is_file()}
        digest = self.write(route)
        folder = Bundle.read(self.config).materialise(self.data)
        for name, data in here.items():
            (self.config / name).write_bytes(data)
        mark = Mark(number, digest, folder.name)
        changes: dict[str, Any] = {"running": mark, "pending": False}
        if base:
            changes["base"] = Mark(base, digest if base == number else Bundle.read(self.config).digest)
        self.memory.update(**changes)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_first_start_runs_the_files_and_keeps_the_directory_private(machine: Machine) -> None:
    assert machine.begin() == ("cn", 0, True, [])
    assert machine.data.stat().st_mode & 0o077 == 0
    assert machine.begin() == ("cn", 0, True, [])  # nothing was published meanwhile


def test_files_in_step_start_the_revision_without_a_store(machine: Machine) -> None:
    machine.begin()
    machine.runs("cn", 3, base=3)
    assert machine.begin() == ("cn", 3, False, [])


def test_edited_files_run_and_wait_to_be_published(machine: Machine) -> None:
    machine.begin()
    machine.runs("cn", 3, base=3)
    machine.write("edited")
    assert machine.begin() == ("edited", 0, True, [])


def test_unchanged_files_behind_a_rollback_leave_it_in_force(machine: Machine) -> None:
    machine.begin()
    machine.runs("rolled-back", 5, base=4)
    route, number, pending, warnings = machine.begin()
    assert (route, number, pending) == ("rolled-back", 5, False)
    assert warnings == ["revision 5 is in force here, and not what the files say (`smsgw config diff`)"]


def test_stale_files_are_not_run_and_it_is_said(machine: Machine) -> None:
    machine.begin()
    machine.runs("newer", 6, base=4)
    machine.write("edited")
    route, number, pending, (warning,) = machine.begin()
    assert (route, number, pending) == ("newer", 6, False)
    assert "based on revision 4, revision 6 is in force" in warning
    assert "smsgw config write" in warning


def test_its_own_keys_come_from_the_files_always(machine: Machine) -> None:
    machine.begin()
    machine.runs("newer", 6, base=4)
    gateway = (machine.config / "gateway.toml").read_text().replace("[api]", "[api]\nworkers = 5")
    (machine.config / "gateway.toml").write_text(gateway)
    assert begin(machine.config, ENV).settings.api.workers == 5


def test_a_revision_whose_folder_is_damaged_is_not_run(machine: Machine) -> None:
    machine.begin()
    machine.runs("rolled-back", 3, base=2)
    running = machine.memory.read().running
    assert running is not None
    (revisions_dir(machine.data) / running.folder / "routes.toml").write_bytes(b"")
    assert machine.begin()[:2] == ("cn", 0)
    (machine.data / "config.json").write_bytes(b"{")
    assert machine.begin()[:2] == ("cn", 0)


def test_a_machine_that_knows_nothing_asks_the_store(machine: Machine, tmp_path: Path) -> None:
    other = write_config(tmp_path / "other", routes=ROUTES.replace('"cn"', '"theirs"'))
    asked: list[Settings] = []

    def ask(local: Settings) -> tuple[int, Bundle]:
        asked.append(local)
        return 9, Bundle.read(other)

    route, number, pending, (warning,) = machine.begin(ask=ask)
    assert (route, number, pending) == ("theirs", 9, False)
    assert "never in step with a revision, revision 9 is in force" in warning
    assert machine.begin(ask=ask)[:2] == ("theirs", 9)
    assert len(asked) == 1
    assert asked[0].store.data_dir == machine.data


def test_a_worker_runs_what_its_machine_runs_whatever_became_of_the_files(machine: Machine) -> None:
    start = begin(machine.config, ENV)
    machine.runs("newer", 2, base=2)
    machine.write("half-written", routes="[[route")
    (machine.config / "gateway.toml").write_text("[")
    again = resume(machine.config, start.started, ENV)
    assert (again.settings.routes[0].id, again.mark.number) == ("newer", 2)
    assert again.settings.store.data_dir == machine.data


def test_files_that_are_not_sound_do_not_start(machine: Machine) -> None:
    machine.write("cn", channels="[[channel]]\nid = 1\n")
    with pytest.raises(ConfigError, match=r"channels\.toml: channel\[1\]\.id"):
        begin(machine.config, ENV)


def test_folders_of_two_configurations_share_a_data_directory(machine: Machine, tmp_path: Path) -> None:
    machine.begin()
    other = MachineFile(machine.data, tmp_path / "other")
    other.update(base=Mark(1, "x"))
    assert machine.memory.read().base is None
    assert other.read().base == Mark(1, "x")
    for n in range(20):
        MachineFile(machine.data, tmp_path / f"many{n}").update(base=Mark(1, "x"))
    assert MachineFile(machine.data, tmp_path / "many19").read().base is not None
    assert other.read().base is None  # the oldest are forgotten
