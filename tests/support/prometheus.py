"""A real Prometheus for tests: it scrapes a gateway each second, with the shipped rules on a quicker clock.

`async with Prometheus(tmp_path, targets) as prometheus:` starts the machine's own binary on a free port; `query` and
`query_range` evaluate, `firing` says what fires. Durations of the rules are scaled: an hour is half a minute.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest
import yaml

from tests.support.gateway import free_port
from tests.support.until import until

ROOT = Path(__file__).parents[2]
RULES = ROOT / "config" / "prometheus" / "rules.yml"
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
SCRAPE_S = 1
RANGE_SCALE, RANGE_LEAST_S = 120, 5
FOR_SCALE, FOR_LEAST_S = 600, 1


def tool(name: str) -> str:
    """Return where a program of Debian's `prometheus` is; without it the test is skipped, or fails in CI."""
    found = shutil.which(name)
    if found is None and os.environ.get("CI"):
        pytest.fail(f"{name} is missing; alerts and dashboards must be tested here")
    if found is None:
        pytest.skip(f"no {name}: apt-get install prometheus (its service need not run)")
    return found


def seconds(text: str) -> int:
    """Return a duration such as 5m or 1h30m in seconds."""
    return sum(int(n) * UNITS[unit] for n, unit in re.findall(r"(\d+)([smhdw])", text))


def scaled(text: str, scale: int, least_s: int) -> str:
    """Return a duration on the quicker clock."""
    return f"{max(least_s, seconds(text) // scale)}s"


def scaled_expression(expr: str) -> str:
    """Return an expression with its ranges and offsets on the quicker clock."""
    expr = re.sub(
        r"\[(\w+)\]", lambda m: f"[{scaled(m[1], RANGE_SCALE, RANGE_LEAST_S)}]" if m[1][0].isdigit() else m[0], expr
    )
    return re.sub(r"offset (\d\w+)", lambda m: f"offset {scaled(m[1], RANGE_SCALE, RANGE_LEAST_S)}", expr)


def rules() -> dict[str, Any]:
    """Return the shipped rules."""
    return dict(yaml.safe_load(RULES.read_text()))


def scaled_rules() -> dict[str, Any]:
    """Return the shipped rules on the quicker clock; nothing else of them is changed."""
    found = rules()
    for group in found["groups"]:
        group["interval"] = f"{SCRAPE_S}s"
        for rule in group["rules"]:
            rule["expr"] = scaled_expression(rule["expr"])
            if "for" in rule:
                rule["for"] = scaled(rule["for"], FOR_SCALE, FOR_LEAST_S)
    return found


class Prometheus:
    """One Prometheus with data of its own."""

    def __init__(self, directory: Path, targets: Iterable[str]) -> None:
        self.directory = directory
        self.port = free_port()
        self._binary = tool("prometheus")
        config = {
            "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [{"job_name": "smsgw", "static_configs": [{"targets": list(targets)}]}],
        }
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "rules.yml").write_text(yaml.safe_dump(scaled_rules()))
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._process: asyncio.subprocess.Process | None = None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        with (self.directory / "log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                self._binary,
                f"--config.file={self.directory}/prometheus.yml",
                f"--storage.tsdb.path={self.directory}/data",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--query.lookback-delta=10s",
                stdout=log,
                stderr=log,
            )
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
        await until(self._ready, timeout_s=20, every_s=0.1)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._session is not None
        assert self._process is not None
        await self._session.close()
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), 10)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, (self.directory / "log").read_text()[-2000:]
        try:
            assert self._session is not None
            async with self._session.get(f"http://127.0.0.1:{self.port}/-/ready") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def _get(self, path: str, **parameters: str) -> Any:
        assert self._session is not None
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}"
        async with self._session.post(url, data=parameters) if parameters else self._session.get(url) as answer:
            body = await answer.json()
        assert body["status"] == "success", (parameters, body)
        return body["data"]

    async def query(self, expr: str) -> list[dict[str, Any]]:
        """Return the series an expression has now, those that are no number left out. Fails on a wrong expression."""
        data = await self._get("query", query=expr)
        return [s for s in data["result"] if s["value"][1] != "NaN"]

    async def query_range(self, expr: str, since_s: float) -> list[dict[str, Any]]:
        """Return the series an expression had since a wall time, without those that were never a number."""
        now = time.time()
        data = await self._get("query_range", query=expr, start=str(since_s), end=str(now), step=f"{SCRAPE_S}s")
        return [s for s in data["result"] if any(value != "NaN" for _, value in s["values"])]

    async def firing(self) -> dict[str, dict[str, Any]]:
        """Return what fires now, one alert of each name."""
        return {a["labels"]["alertname"]: a for a in (await self._get("alerts"))["alerts"] if a["state"] == "firing"}

    async def sick_rules(self) -> list[str]:
        """Return the rules whose last evaluation failed."""
        groups = (await self._get("rules"))["groups"]
        return [f"{r['name']}: {r.get('lastError')}" for g in groups for r in g["rules"] if r["health"] == "err"]

    async def scraped(self, minimum: int = 1) -> bool:
        """Whether every target was scraped that often, and answers."""
        found = await self.query(f"count_over_time(up[1m]) >= {minimum} and up == 1")
        return bool(found)
