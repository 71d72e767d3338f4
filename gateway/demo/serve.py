"""`make run`: the gateway kept up for one's own `curl`, with a simulated carrier behind every loopback channel.

Works on a copy of the shipped configuration under `var/config`, made once and then the user's to edit. The account's
key is made with it and kept beside it, readable by the user only, so that a second start prints the same one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path

import uvloop
from rich.console import Console

from gateway.apikey import new_key
from gateway.console.setup_token import read_token
from gateway.demo.world import (
    DemoFailed,
    World,
    carriers_of,
    copy_shipped_config,
    gateway_process,
    secret_environment,
)
from gateway.settings import load
from gateway.simulator.behaviour import SimulatorOptions

FOLDER = Path("var")

_SMSGW = os.path.relpath(Path(sys.executable).with_name("smsgw"))
_WELCOME = """
The gateway is up; Ctrl-C stops it. Configuration: {config}; log: {log}
API key of account "{account}": {key}
Admin token: {token}

Send a message, then look where it stands:

  curl -s {api}/v1/messages -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\
    -d '{{"to": "+8613800138000", "category": "notification", "text": "【Acme】Hello from smsgw"}}'

  curl -s '{api}/v1/messages?to=%2B8613800138000' -H 'Authorization: Bearer {key}'

Watch it, and take what you changed in the configuration into use:

  export SMSGW_ADMIN_TOKEN={token}
  {smsgw} top -c {config}
  {smsgw} config reload -c {config}

In a browser: {admin}/console/{setup}

Metrics: curl -s {admin}/metrics -H 'Authorization: Bearer {token}'
"""


def serve(*, as_json: bool = False) -> int:
    """Run until SIGINT or SIGTERM; return the exit code. With `as_json` addresses and keys are one JSON object."""
    console = Console(stderr=as_json)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(console, as_json))
    except DemoFailed as exc:
        console.print(str(exc), style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 0


async def _serve(console: Console, as_json: bool) -> int:
    config_dir = FOLDER / "config"
    key = _key_of(config_dir)
    env = secret_environment(config_dir)
    settings = load(config_dir, env)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(sign, stopped.set)
    behaviour = SimulatorOptions(latency_s=0.005, receipt_delay_s=1.0, keep_ledger=False)
    async with carriers_of(settings, behaviour) as carriers:
        world = World(config_dir, settings, key, env, carriers)
        async with gateway_process(world, FOLDER / "gateway.log") as process:
            about = {
                "config": str(config_dir),
                "log": str(FOLDER / "gateway.log"),
                "account": settings.accounts[0].id if settings.accounts else "",
                "key": key,
                "token": world.token,
                "api": world.api_url,
                "admin": world.admin_url,
            }
            if as_json:
                print(json.dumps(about), flush=True)
            else:
                # Only where nobody can sign in yet, and in no JSON: that goes into files.
                setup = read_token(Path(settings.store.data_dir))
                about["setup"] = f"\nSet-up token of the console: {setup}" if setup else ""
                console.print(_WELCOME.format(**about, smsgw=_SMSGW), highlight=False, markup=False, soft_wrap=True)
            ended = asyncio.create_task(process.wait())
            stopping = asyncio.create_task(stopped.wait())
            await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await stopping
            return int(process.returncode or 0) if ended.done() else 0


def _key_of(config_dir: Path) -> str:
    """Return the account's key, making the configuration and the key at the first start."""
    path = FOLDER / "api-key"
    if (config_dir / "accounts.toml").exists():
        try:
            return path.read_text(encoding="ascii").strip()
        except OSError:
            return "(not kept here; see key_hashes in accounts.toml)"
    key, key_hash = new_key()
    copy_shipped_config(config_dir, key_hash)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        stream.write(key + "\n")
    return key
