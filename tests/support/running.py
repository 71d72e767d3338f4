"""A whole gateway for tests that are not asynchronous: it runs on an event loop in a thread of its own.

`with running_gateway(folder) as gateway:` gives the started `GatewayProcess` with one simulated carrier; for tools that
make their own blocking requests (schemathesis).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.support.gateway import GatewayProcess
from tests.support.scenario import carrier


@contextmanager
def running_gateway(folder: Path, kind: type[GatewayProcess] = GatewayProcess, **options: Any) -> Iterator[Any]:
    """Run a gateway of `kind` with the carrier cm-a for a block; `options` as the kind takes them."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="gateway-under-test")
    thread.start()
    stack = AsyncExitStack()

    async def start() -> GatewayProcess:
        smsc = await stack.enter_async_context(carrier(receipt_delay_s=0.02))
        return await stack.enter_async_context(kind(folder, {"cm-a": smsc.port}, **options))

    def run(what: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(what, loop).result(90)

    try:
        try:
            yield run(start())
        finally:
            run(stack.aclose())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
