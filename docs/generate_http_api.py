"""Write docs/http_api.md from the OpenAPI document (`make docs`); with `--check` say whether it is current (if not: 1).

Owns the page's frame and nothing of its content: calls, fields, examples and codes are those of /openapi.json.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from gateway.api.openapi_get import document

PAGE = Path(__file__).parent / "http_api.md"
Json = dict[str, Any]

_HEAD = """\
# The HTTP API

<!-- Made by docs/generate_http_api.py from the OpenAPI document; change that, then `make docs`. -->

{description}

The listener is `api.listen` (default `127.0.0.1:8080`); the machine-readable form of this page is at `/openapi.json`, a
short one for browsers at `/docs`. JSON in and out, in UTF-8; every call but those two wants
`Authorization: Bearer <key>` (`smsgw key new` makes one). What happens to messages afterwards is told by
[webhooks](webhooks.md): signed calls to the application, which `gateway.client.verify` checks and reads.

The examples run as they stand: the ones in bash with `SMSGW_URL` (`http://127.0.0.1:8080`) and `SMSGW_KEY` in the
environment (`make run` prints a key), and `ID`, a message's id, where one is named; those in Python with the same and
behind these lines:

```python
{prelude}```

`Client` is the blocking one; `AsyncClient` has the same methods to await. Both repeat what is safe to repeat, under one
idempotency key a call, until `Retry(deadline_s=30)` ends; errors are types by code (`gateway.client.errors`).

## Repeats
A time-out or a cut connection leaves open whether a message was stored. Repeat the call with the same `ref` in each
message, or with the same `Idempotency-Key` header and the same body: what was stored answers once more as it did at
first (`replayed`, or the header `Idempotent-Replayed: true`), for at least 24 hours. In a batch the key stands for an
item's recipient and its place in the list together.

A refusal is `application/problem+json` (RFC 9457): `code` from the table at the end, `field` where one is at fault,
`detail`, and `outcome`: `not_stored`, or `unknown` where only a repeat finds out. `429` and `503` carry `Retry-After`.
"""


def main() -> int:
    """Write or compare the page; return the exit code."""
    text = page(document())
    if "--check" in sys.argv[1:]:
        if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text:
            return 0
        print("docs/http_api.md is not what the code says; run `make docs`", file=sys.stderr)
        return 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


def page(spec: Json) -> str:
    """Return the page."""
    info, schemas = spec["info"], spec["components"]["schemas"]
    operations = [
        (method.upper(), path, one) for path, methods in spec["paths"].items() for method, one in methods.items()
    ]
    parts = [_HEAD.format(description=info["description"], prelude=info["x-prelude"])]
    parts += ["## Calls\n", _table(["call", "does"], [_line(*one) for one in operations])]
    parts += [_operation(schemas, *one) for one in operations]
    parts.append("## Shapes\nAnswers may get further members; requests with unknown ones are refused. `*`: required.\n")
    parts += [_shape(name, one) for name, one in schemas.items() if "properties" in one]
    parts.append(_codes(schemas["Problem"]["properties"]["code"]["x-codes"]))
    return "\n".join(parts)


def _line(method: str, path: str, operation: Json) -> list[str]:
    return [f"[`{method} {path}`](#{operation['operationId'].lower()})", operation["summary"]]


def _operation(schemas: Json, method: str, path: str, operation: Json) -> str:
    parts = [f"### {operation['operationId']}\n`{method} {path}`: {operation['summary']}.\n"]
    parameters = [
        [f"`{one['name']}`{' *' if one.get('required') else ''}", one["in"], one.get("description", "")]
        for one in operation["parameters"]
    ]
    if parameters:
        parts.append(_table(["parameter", "in", "meaning"], parameters))
    if "requestBody" in operation:
        parts.append(f"Body: {_kind(operation['requestBody']['content']['application/json']['schema'])}.\n")
    parts += [f"```{sample['lang']}\n{sample['source'].rstrip()}\n```\n" for sample in operation["x-codeSamples"]]
    rows = []
    for status, one in operation["responses"].items():
        kinds = [_kind(content["schema"]) for content in one["content"].values()]
        rows.append([status, " or ".join(dict.fromkeys(kinds)), one["description"]])
    parts.append(_table(["status", "body", "means"], rows))
    return "\n".join(parts)


def _shape(name: str, schema: Json) -> str:
    if name == "MessageDefaults":
        return (
            f"### {name}\nThe fields of a [Message](#message), none required; they stand under each that lacks them.\n"
        )
    required = schema.get("required", ())
    rows = [
        [f"`{field}`{' *' if field in required else ''}", _kind(one), one.get("description", "")]
        for field, one in schema["properties"].items()
    ]
    about = f"{schema['description']}\n\n" if "description" in schema else ""
    return f"### {name}\n{about}" + _table(["field", "value", "meaning"], rows)


def _kind(one: Json) -> str:
    """Return a schema in a few words."""
    if "$ref" in one:
        name = one["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in one:
        return " or ".join(_kind(each) for each in one["anyOf"])
    if "x-codes" in one:
        return "one of the [codes](#codes)"
    if "enum" in one:
        return ", ".join(f"`{each}`" for each in one["enum"])
    return _plain_kind(one)


_FORMATS = {"date-time": "time (RFC 3339)", "uuid": "uuid"}


def _plain_kind(one: Json) -> str:
    types = one.get("type", "any")
    kind = " or ".join(types) if isinstance(types, list) else types
    if one.get("format"):
        return _FORMATS.get(one["format"], kind) + (" or null" if "null" in types else "")
    if types == "array":
        return f"list of {_kind(one['items'])}" + (f", at most {one['maxItems']}" if "maxItems" in one else "")
    if types == "object" and one.get("properties"):
        return "object of " + ", ".join(f"`{name}`" for name in one["properties"])
    if "maxLength" in one:
        least, most = one.get("minLength", 0), one["maxLength"]
        return f"{kind}, {most if least == most else f'{least} to {most}'} characters"
    return f"{kind}, {one['minimum']} to {one['maximum']}" if {"minimum", "maximum"} <= one.keys() else kind


def _codes(codes: Json) -> str:
    rows = [[f"`{code}`", one["title"], one["do"]] for code, one in codes.items()]
    return "## Codes\n" + _table(["code", "means", "what to do"], rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
