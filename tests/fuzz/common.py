"""What both fuzzed interfaces share: how many requests a call gets, and what every answer is held against."""

from __future__ import annotations

import os
from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

examples_a_call = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "15")),
    deadline=None,
    database=None,
    derandomize="FUZZ_EXAMPLES" not in os.environ,  # the tests of a commit are the same every time
    suppress_health_check=list(HealthCheck),
)


def loaded(spec: dict[str, Any]) -> Any:
    """Return the schema of a specification; in a usual run without the systematic phase.

    That one prepares a request for every bound and every wrong member of every shape while tests are being collected:
    half a minute even for those who run other tests.
    """
    schema = schemathesis.openapi.from_dict(spec)
    schema.config.phases.coverage.enabled = "FUZZ_EXAMPLES" in os.environ
    return schema


def negative_data_rejection(ctx: Any, response: Any, case: Any) -> bool | None:
    """Hold a wrong request against its refusal; in a batch each item has its own, within an answer that is 2xx."""
    if response.status_code < 300 and case.path.endswith(("/batch", "/check")) and response.json().get("rejected"):
        return None
    return checks.negative_data_rejection(ctx, response, case)


ANSWERED = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.allow_header_conformance,
]
CHECKED = [*ANSWERED, negative_data_rejection, checks.unsupported_method]
"""Left out: that whatever fits the schema is accepted (numbers, routes and limits are not in it), and keys, which have
tests of their own: after twenty wrong ones an address gets 429."""
