"""The page of the HTTP API is what the code says, and its examples and the README's run on a real gateway."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.api.openapi_get import document
from gateway.client import AsyncClient, Message
from tests.support.gateway import GatewayProcess
from tests.support.scenario import carrier
from tests.support.until import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "http_api.md").read_text(encoding="utf-8")
PRELUDE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]

SHOWN = {
    "sendMessage": ("queued", "queued 1"),
    "findMessages": ('"messages":[{"id"', r"[0-9a-f-]{36} \w+ 20"),
    "sendBatch": ('"accepted":2,"rejected":0', r"([0-9a-f-]{36}\n){2}"),
    "checkMessages": ('"state":"queued"', "queued cn 1 0"),
    "getMessage": ('"state":"delivered"', r"delivered \w* ?\['cm-a'\]"),
    "cancelMessage": ('"state":"cancelled"', "cancelled"),
    "sendFeedback": ('"repeated":false', "new"),
    "putBlacklist": ('"listed":true', "shop 20"),
    "getBlacklist": ('"listed":true', r"shop \('marketing',\) operator"),
    "deleteBlacklist": ('"removed":[{', "1 entries removed"),
    "getStats": ('"by":["day","category"]', r"20\d\d-\d\d-\d\d verification 1"),
    "getHealth": ('"status":"ok"', "shop"),
}
"""What each example must print, in bash and in Python; in an order in which each finds what it wants."""


def examples(language: str) -> dict[str, str]:
    """Return the page's examples of a language by operation."""
    found = {}
    for section in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]:
        blocks = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
        if blocks:
            (found[section.partition("\n")[0]],) = blocks
    return found


@dataclass
class Running:
    """A gateway, and messages of each kind that an example names."""

    url: str
    key: str
    client: AsyncClient
    delivered: list[str] = field(default_factory=list)

    async def id_for(self, operation: str) -> str:
        if operation == "cancelMessage":
            later = datetime.now(UTC) + timedelta(hours=1)
            return (await self.client.send(Message("+8613800138077", "notification", "later", send_at=later))).id
        return self.delivered.pop() if operation == "sendFeedback" else self.delivered[0]

    async def run(self, *command: str, **env: str) -> str:
        """Run a command with the documented environment; return what it printed."""
        env = {**os.environ, "SMSGW_URL": self.url, "SMSGW_KEY": self.key, "PYTHONPATH": str(ROOT), **env}
        process = await asyncio.create_subprocess_exec(
            *command, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0, f"{out.decode()}\n{err.decode()}"
        return out.decode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    async with carrier(receipt_delay_s=0.02) as smsc:
        async with GatewayProcess(tmp_path_factory.mktemp("gateway"), {"cm-a": smsc.port}) as gateway:
            url = f"http://127.0.0.1:{gateway.api_port}"
            async with AsyncClient(url, gateway.key) as client:
                found = Running(url, gateway.key, client)
                rows = [Message(f"+861390013900{i}", "notification", "hello", ref=f"r{i}") for i in range(3)]
                found.delivered = [one.id async for _, one in client.send_many(rows)]  # type: ignore[union-attr]

                async def all_delivered() -> bool:
                    return all([(await client.get(one)).state == "delivered" for one in found.delivered])

                await until(all_delivered)
                yield found


async def test_the_page_is_current() -> None:
    spec = importlib.util.spec_from_file_location("generate_http_api", ROOT / "docs" / "generate_http_api.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.page(document()) == PAGE, "run `make docs`"


async def test_every_link_inside_the_page_leads_somewhere() -> None:
    heads = {line.lstrip("# ").lower() for line in PAGE.splitlines() if line.startswith("#")}
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= heads
    assert all((ROOT / "docs" / name).exists() for name in re.findall(r"\]\(([a-z_]+\.md)\)", PAGE))


async def test_every_call_has_both_examples() -> None:
    names = {one["operationId"] for methods in document()["paths"].values() for one in methods.values()}
    assert examples("bash").keys() == examples("python").keys() == names == SHOWN.keys()


async def test_every_curl_example_runs(running: Running) -> None:
    found = examples("bash")
    for operation, (shown, _) in SHOWN.items():
        name = await running.id_for(operation)
        printed = await running.run("bash", "-euo", "pipefail", "-c", found[operation], ID=name)
        assert shown in printed, operation


async def test_every_python_example_runs(running: Running) -> None:
    found = examples("python")
    names = [await running.id_for(operation) for operation in SHOWN]
    # One process for all of them: its start is most of the time. Each sees only the prelude's names.
    program = "\n".join(
        f"os_.environ['ID'] = {name!r}\nprint('### {operation}')\nexec({PRELUDE + found[operation]!r}, {{}})"
        for operation, name in zip(SHOWN, names, strict=True)
    )
    printed = await running.run(sys.executable, "-c", f"import os as os_\n{program}")
    sections = dict(section.split("\n", 1) for section in printed.split("### ")[1:])
    for operation, (_, shown) in SHOWN.items():
        assert re.search(shown, sections[operation]), f"{operation}: {sections[operation]}"


async def test_the_readme_s_python_runs(running: Running) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("## From Python\n")[2].partition("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    printed = await running.run(sys.executable, "-c", code)
    assert re.search(r"[0-9a-f-]{36} queued", printed)
