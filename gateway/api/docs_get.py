"""GET /docs: the specification as one page for people, written from the OpenAPI document.

Owns a small renderer; no script, no style sheet and no picture is loaded from anywhere. Built once.
"""

from __future__ import annotations

from functools import cache
from html import escape
from typing import Any

from gateway.api import problem
from gateway.api.advice import ADVICE
from gateway.api.answer import Answer
from gateway.api.context import Call, Context
from gateway.api.openapi_get import document

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%}td,th{border:1px solid #bbb;padding:.3rem .6rem;"
    "text-align:left;vertical-align:top}pre{background:#f2f2f2;padding:1rem;overflow:auto}"
)
_HEADERS = (
    b"Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; "
    b"base-uri 'none'; form-action 'none'\r\nReferrer-Policy: no-referrer\r\n"
)
_EXAMPLE = (
    "curl -H 'Authorization: Bearer KEY' -H 'Content-Type: application/json' \\\n"
    '     -d \'{"to": "+8613800138000", "category": "verification", "text": "【Acme】Your code: 4829"}\' \\\n'
    "     http://127.0.0.1:8080/v1/messages"
)


async def get_docs(context: Context, call: Call) -> Answer:
    """Answer with the page."""
    return Answer(200, page(), headers=_HEADERS, content_type=b"text/html; charset=utf-8")


@cache
def page() -> bytes:
    """Return the page as UTF-8."""
    spec = document()
    calls = [
        [f"{method.upper()} {path}", operation["summary"], ", ".join(operation["responses"])]
        for path, methods in spec["paths"].items()
        for method, operation in methods.items()
    ]
    schemas = spec["components"]["schemas"]
    parts = (
        "<!doctype html><html lang=en><meta charset=utf-8><title>smsgw API</title>",
        f"<style>{_STYLE}</style><h1>smsgw API</h1><p>{escape(spec['info']['description'])}",
        ' The whole specification: <a href="/openapi.json">/openapi.json</a>.</p>',
        f"<pre>{escape(_EXAMPLE)}</pre><h2>Calls</h2>",
        _table(["Call", "Does", "Answers"], calls),
        "<h2>A message</h2><p>* required; unknown fields are refused.</p>",
        _table(["Field", "Value", "Meaning"], _fields(schemas["Message"])),
        "<h2>Feedback</h2><p>* required; unknown fields are refused.</p>",
        _table(["Field", "Value", "Meaning"], _fields(schemas["Feedback"])),
        "<h2>Codes of refusals</h2>",
        _table(
            ["Code", "Meaning", "What to do"], [[c, title, ADVICE[c]] for c, title in sorted(problem.TITLES.items())]
        ),
    )
    return "".join(parts).encode()


def _fields(described: dict[str, Any]) -> list[list[str]]:
    return [
        [name + (" *" if name in described["required"] else ""), _bounds(one), one["description"]]
        for name, one in described["properties"].items()
    ]


def _bounds(one: dict[str, Any]) -> str:
    if "enum" in one:
        return " | ".join(one["enum"])
    if "maximum" in one:
        return f"{one['type']}, {one['minimum']} to {one['maximum']}"
    if "maxItems" in one:
        return f"list of at most {one['maxItems']}, each up to {one['items']['maxLength']} characters"
    if "properties" in one:
        return "object of " + ", ".join(one["properties"])
    if "format" in one:
        return "RFC 3339 time with offset"
    return f"string, up to {one['maxLength']} characters" if "maxLength" in one else str(one["type"])


def _table(head: list[str], rows: list[list[str]]) -> str:
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{cells}</tr>{body}</table>"
