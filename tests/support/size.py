"""How much of a thing a test makes: less in `make test`, all of it in `make test-long` (or with SMSGW_TEST_LONG=1).

For tests that prove the same with fewer repeats or a shorter queue, and whose full size stands in a document. They are
marked `long`, so that `make test-long` finds them. Whoever wants a figure of the README runs the full size.
"""

from __future__ import annotations

import os

LONG = os.environ.get("SMSGW_TEST_LONG", "") not in ("", "0")


def size(usual: int, full: int) -> int:
    """Return the full size where it is asked for, else the usual one."""
    return full if LONG else usual
