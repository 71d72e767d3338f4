"""The image's promises, read from the Dockerfile: locked dependencies, no root, one writable place, a health check."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
FINAL = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]


def test_dependencies_come_from_the_lock_file_with_their_hashes() -> None:
    install = re.search(r"RUN (.*-r requirements\.txt)", DOCKERFILE)
    assert install is not None
    assert "--require-hashes" in install[1]
    assert "--only-binary :all:" in install[1]
    lock = (ROOT / "requirements.txt").read_text()
    pinned = re.findall(r"^[a-z0-9._-]+(?:\[[a-z,]+\])?==\S+ \\$", lock, re.MULTILINE)
    assert pinned
    assert lock.count("--hash=sha256:") >= len(pinned)


def test_the_lock_has_all_that_any_python_it_is_made_for_needs() -> None:
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    lock = (ROOT / "requirements.txt").read_text()
    for requirement in named:
        name = re.split(r"[<>=!;\[ ]", requirement)[0]
        assert re.search(rf"^{name}(\[[a-z,]+\])?==", lock, re.MULTILINE), f"{name} is not locked"
    # Also what only some of them need: `make lock` on a newer one leaves it out.
    assert re.search(r'^async-timeout==\S+ ; python_full_version < "3\.11\.3" ', lock, re.MULTILINE)


def test_it_runs_as_nobody_special_and_writes_in_one_place() -> None:
    assert re.search(r"^USER 10001:10001$", FINAL, re.MULTILINE)
    assert "--uid 10001" in FINAL
    assert FINAL.index("USER 10001") < FINAL.index("CMD [")
    assert "-m 0700 -o smsgw" in FINAL
    assert re.findall(r"^VOLUME (.*)$", FINAL, re.MULTILINE) == ["/var/lib/smsgw"]


def test_no_secret_is_baked_in_and_health_is_liveness() -> None:
    assert not re.search(r"^(ENV|ARG)\b.*(PASSWORD|TOKEN|KEY|SECRET)", DOCKERFILE, re.MULTILINE)
    assert "/livez" in FINAL
    assert "HEALTHCHECK" in FINAL
    assert "STOPSIGNAL SIGTERM" in FINAL


def test_what_is_copied_exists() -> None:
    for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE):
        for name in line.split()[:-1]:
            assert (ROOT / name).exists(), name
