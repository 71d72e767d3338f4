"""A whole gateway at a terminal: the token is shown there alone; sessions live through a reload; the commands.

Canaries: the set-up token, passwords, cookies and the tokens of pages are looked for in logs, metrics and the audit.
"""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from gateway.cli import app
from gateway.console.setup_token import FILE
from gateway.errors import GatewayError
from tests.support.door import Browser
from tests.support.gateway import ADMIN_TOKEN, GatewayProcess
from tests.support.until import until

PASSWORD, SECOND = "zanzibar-canary-5521", "zanzibar-canary-7744"
TYPO = "zanzibar-canary-typed-as-name"


class AtTerminal(GatewayProcess):
    """One whose stderr is a terminal, which the test reads."""

    shown = ""

    async def start(self, *, ready: bool = True, **env: str) -> None:
        with (self.config_dir / "gateway.toml").open("a") as stream:
            stream.write(f'[log]\nfile = "{self.log_path}"\nformat = "json"\nlevel = "debug"\n')
        ours, theirs = pty.openpty()
        os.set_blocking(ours, False)
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "run", "--config", str(self.config_dir)),
            stdin=asyncio.subprocess.DEVNULL, stdout=theirs, stderr=theirs,
            env={**os.environ, "SMSGW_ADMIN_TOKEN": ADMIN_TOKEN, "SMSC_PASSWORD": "secret", **env},
        )  # fmt: skip
        os.close(theirs)
        asyncio.get_running_loop().add_reader(ours, self._read, ours)
        # No carrier answers, so it is never ready to send; the admin worker is.
        await until(lambda: "set-up token: " in self.shown or self._over(), timeout_s=50)
        assert not self._over(), self.shown

    def _over(self) -> bool:
        return self.process is not None and self.process.returncode is not None

    def _read(self, descriptor: int) -> None:
        try:
            octets = os.read(descriptor, 65536)
        except OSError:  # the other end is gone
            octets = b""
        if not octets:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)
        self.shown += octets.decode(errors="replace")

    async def smsgw(self, *args: str, stdin: str = "") -> tuple[int, Any, str]:
        """Run `smsgw console …` in this process (a new one costs a second): exit code, JSON, what went wrong."""
        command = ["console", *args, "--config", str(self.config_dir), "--json"]
        env = {"SMSGW_ADMIN_TOKEN": ADMIN_TOKEN}
        done = await asyncio.to_thread(CliRunner().invoke, app, command, input=stdin, env=env)
        if isinstance(done.exception, GatewayError):  # as `main` has it
            return 4, None, str(done.exception)
        return done.exit_code, json.loads(done.stdout) if done.stdout else None, done.stderr


async def test_from_the_first_start_to_the_commands(tmp_path: Path) -> None:
    async with AtTerminal(tmp_path, {"cm-a": 9}) as gateway:
        token = re.findall(r"set-up token: ([A-Za-z0-9_-]{43})", gateway.shown)[0]
        base = f"http://127.0.0.1:{gateway.admin_port}"
        assert f"console: {base}/console/" in gateway.shown
        assert (gateway.data_dir / FILE).read_text().strip() == token
        await until(lambda: str(gateway.data_dir / FILE) in gateway.log())  # the worker's own line, by another way

        async with Browser(base) as root, Browser(base) as li:
            secrets = [token, PASSWORD, SECOND, TYPO]
            body = {"token": token, "name": "root", "password": PASSWORD}
            status, said = await root.ask("POST", "/console/api/setup", body)
            assert (status, said["role"]) == (200, "admin")
            assert not (gateway.data_dir / FILE).exists()
            assert (await root.ask("GET", "/admin/v1/gates"))[0] == 200

            await _locked_out_and_let_in(gateway, li)
            secrets += [li.cookie, li.csrf, root.cookie, root.csrf]
            await _reloaded(gateway, root)
            await _changed_by_commands(gateway, li)
            await _taken_away(gateway, root)

        _, metrics = await gateway.admin("GET", "/metrics")
        _, audit = await gateway.admin("GET", "/admin/v1/audit?limit=1000")
        assert {entry["actor"].partition("@")[0] for entry in audit["entries"]} >= {"console:root", "nobody", "admin"}
        assert await gateway.terminate() == 0
        after = gateway.shown.replace(token, "", 1)  # where it was shown, once
        for secret in secrets:
            for where, written in (
                ("log", gateway.log()), ("terminal", after), ("metrics", metrics), ("audit", json.dumps(audit)),
            ):  # fmt: skip
                assert secret not in written, where


async def _locked_out_and_let_in(gateway: AtTerminal, li: Browser) -> None:
    # The commands: a user is made, gets in, is locked out, let in, changed and removed.
    code, said, _ = await gateway.smsgw("add", "li", "--role", "viewer", stdin=f"{SECOND}\n")
    assert (code, said["role"]) == (0, "viewer")
    code, _, error = await gateway.smsgw("add", "wu", stdin="short\n")
    assert (code, error) == (4, "password: 12 to 256 characters are wanted")
    code, _, error = await gateway.smsgw("setup-token")
    assert (code, error) == (4, "the console has users: sign in, or ask one of them")
    assert (await li.sign_in("li", SECOND))[0] == 200
    assert (await li.ask("PUT", "/admin/v1/gates", {"kind": "tag", "name": "x", "state": "hold"}))[0] == 403
    await asyncio.gather(*(li.sign_in(TYPO, PASSWORD) for _ in range(2)))
    for _ in range(3):
        await li.sign_in("li", PASSWORD)
    assert (await li.sign_in("li", SECOND))[0] == 429
    assert (await gateway.smsgw("unlock", "li", "--address", "127.0.0.1"))[0] == 0
    assert (await li.sign_in("li", SECOND))[0] == 200


async def _reloaded(gateway: AtTerminal, root: Browser) -> None:
    # A reload: the listener has another configuration, the sessions are the same.
    text = (gateway.config_dir / "gateway.toml").read_text()
    (gateway.config_dir / "gateway.toml").write_text(text + "[console]\nidle_s = 120\n")
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGHUP)

    async def shorter() -> bool:
        return bool((await root.ask("GET", "/console/api/session"))[1].get("idle_s", 999) <= 120)

    await until(shorter, timeout_s=15)
    assert (await root.ask("GET", "/admin/v1/gates"))[0] == 200


async def _changed_by_commands(gateway: AtTerminal, li: Browser) -> None:
    code, said, _ = await gateway.smsgw("role", "li", "operator")
    assert (code, said["role"], said["sessions_ended"]) == (0, "operator", 1)
    assert (await li.ask("GET", "/admin/v1/gates"))[0] == 401
    assert (await gateway.smsgw("disable", "li"))[1]["enabled"] is False
    assert (await gateway.smsgw("enable", "li"))[1]["enabled"] is True
    assert (await gateway.smsgw("passwd", "li", stdin=f"{SECOND}-2\n"))[0] == 0
    assert (await li.sign_in("li", f"{SECOND}-2"))[0] == 200
    users = (await gateway.smsgw("users"))[1]["users"]
    assert [(one["name"], one["role"], one["sessions"]) for one in users] == [
        ("li", "operator", 1),
        ("root", "admin", 1),
    ]
    assert (await gateway.smsgw("remove", "li"))[1] == {"removed": "li", "sessions_ended": 1}
    assert (await gateway.smsgw("remove", "li"))[0] == 4


async def _taken_away(gateway: AtTerminal, root: Browser) -> None:
    text = (gateway.config_dir / "gateway.toml").read_text().partition("[console]")[0]
    assert gateway.process is not None
    # `enabled = false` takes the paths away.
    (gateway.config_dir / "gateway.toml").write_text(text + "[console]\nenabled = false\n")
    gateway.process.send_signal(signal.SIGHUP)

    async def away() -> bool:
        return (await root.ask("GET", "/console/"))[0] == 401

    await until(away, timeout_s=15)
    assert (await root.ask("GET", "/admin/v1/gates"))[0] == 401
    assert (await gateway.admin("GET", "/console/"))[0] == 404
