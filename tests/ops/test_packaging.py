"""compose.yaml, the Dockerfile and the systemd unit, by the linters of their makers, and the promises they make."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from gateway import worker
from gateway.roles import dispatch
from gateway.settings import load
from tests.support.prometheus import ROOT

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
UNIT = ROOT / "packaging" / "smsgw.service"
STOP_S = 35  # docs/delivery.md: a stop takes no longer


def beside_python(name: str) -> str:
    """Return a program that was installed with the development tools."""
    found = shutil.which(name, path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    assert found, f"{name} is missing: make {Path(sys.prefix).name}/dev"
    return found


def test_the_dockerfile_passes_its_linter() -> None:
    done = subprocess.run(
        [beside_python("hadolint"), "--no-color", str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stdout, done.stdout


def test_compose_follows_the_specification() -> None:
    spec = PyCompose.from_yaml((ROOT / "compose.yaml").read_text()).to_spec()
    assert set(spec.services) == {"gateway", "carriers", "valkey", "prometheus", "grafana"}
    with pytest.raises(Exception, match="imagge"):  # the check does look
        PyCompose.from_yaml("services: {a: {imagge: b}}").to_spec()


def test_images_are_pinned_and_nothing_listens_beyond_the_machine() -> None:
    for name, service in SERVICES.items():
        image = service["image"]
        assert re.search(r":(v?\d+\.\d+\.\d+(-alpine)?|local)$", image), (name, image)
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), (name, port)
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service["restart"] == "unless-stopped", name
        assert "healthcheck" in service or name == "gateway", name  # the gateway's stands in its image
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (ROOT / source).exists(), source
                assert volume.endswith(":ro"), volume
            else:
                assert source in COMPOSE["volumes"], source
    assert COMPOSE["networks"]["store"]["internal"]
    assert "ports" not in SERVICES["valkey"]
    assert int(SERVICES["gateway"]["stop_grace_period"].removesuffix("s")) > STOP_S


def test_no_secret_stands_in_clear() -> None:
    text = (ROOT / "compose.yaml").read_text()
    assert not re.search(r"(PASSWORD|TOKEN|SECRET)(?!__FILE)\w*: *\S*[a-z0-9]{6}", text)
    example = (ROOT / "packaging" / "compose" / "env.example").read_text()
    values = dict(line.split("=", 1) for line in example.splitlines() if line and not line.startswith("#"))
    assert set(values.values()) == {""}
    wanted = set(re.findall(r"^\w.*\$\{env:(\w+)\}", (ROOT / "config" / "channels.toml").read_text(), re.MULTILINE))
    assert wanted | {"SMSGW_ADMIN_TOKEN", "GRAFANA_ADMIN_PASSWORD"} == set(values)
    assert {secret["environment"] for secret in COMPOSE["secrets"].values()} <= set(values)
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_gateway_s_settings_in_compose_are_sound_and_meet_its_services(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    shutil.copy(ROOT / "packaging" / "compose" / "gateway.toml", tmp_path / "config" / "gateway.toml")
    channels = (ROOT / "config" / "channels.toml").read_text()
    env = dict.fromkeys(re.findall(r"\$\{env:(\w+)\}", channels), "x") | {"SMSGW_ADMIN_TOKEN": "x"}
    settings = load(tmp_path / "config", env)
    assert settings.store.url == "redis://valkey:6379/0"
    assert f"127.0.0.1:{settings.api.port}:{settings.api.port}" in SERVICES["gateway"]["ports"]
    scraped = yaml.safe_load((ROOT / "packaging" / "compose" / "prometheus.yml").read_text())["scrape_configs"][0]
    assert scraped["static_configs"][0]["targets"] == [f"gateway:{settings.admin.port}"]
    assert scraped["authorization"]["credentials_file"] == "/run/secrets/admin_token"
    listeners = {o.removeprefix("--listen=") for o in SERVICES["carriers"]["command"] if o.startswith("--listen")}
    assert listeners == {f"{c.host}:{c.port}" for c in settings.channels if c.host == "127.0.0.1"}


def test_the_store_in_compose_keeps_the_promise() -> None:
    from gateway.store.durability import check_settings

    command = SERVICES["valkey"]["command"]
    config = {key.removeprefix("--"): value for key, value in zip(command[1::2], command[2::2], strict=True)}
    config["maxmemory"] = str(2 << 30)  # "2gb", as CONFIG GET says it
    assert check_settings("strict", config) == []


# --- systemd


def directives() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def systemd_analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None and os.environ.get("CI"):
        pytest.fail("systemd-analyze is missing; the unit must be checked here")
    if found is None:
        pytest.skip("no systemd-analyze: apt-get install systemd")
    return found


def test_systemd_accepts_the_unit_and_finds_it_tight(tmp_path: Path) -> None:
    unit = tmp_path / "smsgw.service"
    # The program must exist where it is checked.
    unit.write_text(UNIT.read_text().replace("/opt/smsgw/bin/smsgw", sys.executable))
    for arguments in (("verify",), ("security", "--offline=yes", "--threshold=25")):
        done = subprocess.run([systemd_analyze(), *arguments, str(unit)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        if arguments == ("verify",):
            assert not done.stderr, done.stderr


def test_the_unit_stops_and_reloads_as_the_gateway_does() -> None:
    unit = directives()
    assert unit["KillMode"] == ["mixed"]  # workers are the supervisor's to stop
    assert int(unit["TimeoutStopSec"][0]) > STOP_S >= dispatch.DRAIN_S + dispatch.RECORD_LAST_S + worker.END_LIMIT_S
    assert unit["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert unit["RestartPreventExitStatus"] == ["3"]
    assert int(unit["LimitNOFILE"][0]) >= 65536
    assert unit["StateDirectory"] == ["smsgw"]
    assert unit["WorkingDirectory"] == ["/var/lib/smsgw"]
    assert unit["User"] == ["smsgw"]
