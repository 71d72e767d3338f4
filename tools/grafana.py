"""Grafana's dashboard JSON from a few plain values: panels, queries, rows, laid out from left to right.

Owns the shape of the JSON (schema 41, Grafana 11 and 12) and what all our panels have in common. Refuses to know what
is shown: tools/dashboards.py says that. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

SCHEMA: Final = 41
COLUMNS: Final = 24
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
GREEN, ORANGE, RED, BLUE = "green", "orange", "red", "blue"


@dataclass(frozen=True, slots=True)
class Query:
    """One expression; `legend` with {{label}}. In a table: the heading of its column."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. `about` says what it means and what to do.

    `steps` are (from, colour) above the base colour; `words` map values to (text, colour); `width` is in 24ths.
    """

    title: str
    about: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"  # timeseries | stat | table | state-timeline
    unit: str = "short"
    width: int = 12
    height: int = 8
    base: str = GREEN
    steps: tuple[tuple[float, str], ...] = ()
    words: dict[float, tuple[str, str]] = field(default_factory=dict)
    stacked: bool = False
    least: float | None = 0
    most: float | None = None
    log: bool = False
    units: dict[str, str] = field(default_factory=dict)  # of a table's columns, by heading
    column_words: dict[str, dict[float, tuple[str, str]]] = field(default_factory=dict)

    def json(self, number: int, x: int, y: int) -> dict[str, Any]:
        """Return the panel as Grafana keeps it."""
        made: dict[str, Any] = {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.about,
            "datasource": SOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "targets": [self._target(i, query) for i, query in enumerate(self.queries)],
            "fieldConfig": {"defaults": self._defaults(), "overrides": self._overrides()},
            "options": self._options(),
        }
        if self.kind == "table":
            made["transformations"] = self._columns()
        return made

    def _target(self, index: int, query: Query) -> dict[str, Any]:
        at_once = self.kind in ("stat", "table")
        target: dict[str, Any] = {
            "refId": chr(ord("A") + index),
            "datasource": SOURCE,
            "editorMode": "code",
            "expr": query.expr,
            "instant": at_once,
            "range": not at_once,
        }
        if self.kind == "table":
            target["format"] = "table"
        else:
            target["legendFormat"] = query.legend or "__auto"
        return target

    def _defaults(self) -> dict[str, Any]:
        defaults: dict[str, Any] = {
            "unit": self.unit,
            "thresholds": {
                "mode": "absolute",
                "steps": [{"color": self.base, "value": None}, *({"color": c, "value": v} for v, c in self.steps)],
            },
            "mappings": _mappings(self.words),
            "color": {"mode": "palette-classic" if self.kind == "timeseries" else "thresholds"},
        }
        if self.least is not None:
            defaults["min"] = self.least
        if self.most is not None:
            defaults["max"] = self.most
        if self.kind == "timeseries":
            defaults["custom"] = {
                "drawStyle": "line",
                "lineWidth": 1,
                "fillOpacity": 40 if self.stacked else 8,
                "showPoints": "never",
                "spanNulls": False,
                "stacking": {"mode": "normal" if self.stacked else "none", "group": "A"},
                "thresholdsStyle": {"mode": "dashed" if self.steps else "off"},
                "scaleDistribution": {"type": "log", "log": 10} if self.log else {"type": "linear"},
            }
        elif self.kind == "state-timeline":
            defaults["custom"] = {"fillOpacity": 80, "lineWidth": 0}
        return defaults

    def _overrides(self) -> list[dict[str, Any]]:
        overrides = []
        for heading in dict.fromkeys((*self.units, *self.column_words)):
            properties: list[dict[str, Any]] = []
            if heading in self.units:
                properties.append({"id": "unit", "value": self.units[heading]})
            if heading in self.column_words:
                properties.append({"id": "mappings", "value": _mappings(self.column_words[heading])})
                properties.append({"id": "custom.cellOptions", "value": {"type": "color-background", "mode": "basic"}})
            overrides.append({"matcher": {"id": "byName", "options": heading}, "properties": properties})
        return overrides

    def _options(self) -> dict[str, Any]:
        match self.kind:
            case "stat":
                return {
                    "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
                    "colorMode": "background",
                    "graphMode": "none",
                    "textMode": "auto",
                    "justifyMode": "auto",
                    "orientation": "auto",
                }
            case "table":
                return {"showHeader": True, "cellHeight": "sm"}
            case "state-timeline":
                return {"mergeValues": True, "showValue": "auto", "rowHeight": 0.9, "legend": {"showLegend": False}}
        return {
            "legend": {
                "showLegend": True,
                "displayMode": "table",
                "placement": "right",
                "calcs": ["lastNotNull", "max"],
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        }

    def _columns(self) -> list[dict[str, Any]]:
        """One row a label set, one column a query, named by its legend."""
        names = {f"Value #{chr(ord('A') + i)}": query.legend for i, query in enumerate(self.queries)}
        if len(self.queries) == 1:
            names["Value"] = self.queries[0].legend
        return [
            {"id": "merge", "options": {}},
            {"id": "organize", "options": {"excludeByName": {"Time": True}, "renameByName": names}},
        ]


def _mappings(words: dict[float, tuple[str, str]]) -> list[dict[str, Any]]:
    if not words:
        return []
    options = {
        f"{value:g}": {"text": text, "color": colour, "index": i}
        for i, (value, (text, colour)) in enumerate(words.items())
    }
    return [{"type": "value", "options": options}]


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice at the top: the values of a label; all of them at first."""

    name: str
    label: str
    query: str

    def json(self) -> dict[str, Any]:
        """Return it as Grafana keeps it."""
        return {
            "type": "query",
            "name": self.name,
            "label": self.label,
            "datasource": SOURCE,
            "definition": self.query,
            "query": {"query": self.query, "refId": f"Variable-{self.name}"},
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        }


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A page: rows of panels under headings."""

    uid: str
    title: str
    about: str
    rows: tuple[tuple[str, Sequence[Panel]], ...]
    variables: tuple[Variable, ...] = ()
    period: str = "now-3h"

    def json(self) -> dict[str, Any]:
        """Return the dashboard as Grafana imports it."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.about,
            "tags": ["smsgw"],
            "schemaVersion": SCHEMA,
            "version": 1,
            "editable": True,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": {"from": self.period, "to": "now"},
            "timezone": "browser",
            "annotations": {"list": []},
            "links": [
                {
                    "type": "dashboards",
                    "title": "smsgw",
                    "tags": ["smsgw"],
                    "asDropdown": False,
                    "includeVars": True,
                    "keepTime": True,
                    "targetBlank": False,
                }
            ],
            "templating": {"list": [_source_variable(), *(v.json() for v in self.variables)]},
            "panels": self._panels(),
        }

    def _panels(self) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = []
        y = 0
        for title, panels in self.rows:
            made.append(
                {
                    "id": len(made) + 1,
                    "type": "row",
                    "title": title,
                    "collapsed": False,
                    "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
                    "panels": [],
                }
            )
            y += 1
            x = tallest = 0
            for panel in panels:
                if x + panel.width > COLUMNS:
                    x, y, tallest = 0, y + tallest, 0
                made.append(panel.json(len(made) + 1, x, y))
                x, tallest = x + panel.width, max(tallest, panel.height)
            y += tallest
        return made


def _source_variable() -> dict[str, Any]:
    return {
        "type": "datasource",
        "name": "datasource",
        "label": "Prometheus",
        "query": "prometheus",
        "refresh": 1,
        "multi": False,
        "includeAll": False,
        "current": {},
    }
