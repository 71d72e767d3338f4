"""Tests against an SMPP implementation that shares nothing with ours: they need what `make peers` installs."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.interop.peer import installed


@pytest.fixture(autouse=True)
def _peer_is_there(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("needs_peer") is None or (shutil.which("node") and installed()):
        return
    if os.environ.get("CI"):
        pytest.fail("the SMSC of `make peers` is missing; it must be tested against here")
    pytest.skip("no SMSC of another make: `make peers` installs it (it needs node and npm)")
