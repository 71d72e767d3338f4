"""The committed dashboards: what their source makes, complete, and readable by who has just woken up."""

from __future__ import annotations

import json
import re
from itertools import combinations
from typing import Any

import pytest
import yaml

from gateway.metrics import FAMILIES
from tests.support.prometheus import ROOT, rules
from tools.dashboards import DASHBOARDS, FOLDER, texts

PAGES = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}
UNITS = {"short", "s", "percentunit", "mps", "reqps", "ops", "bytes", "none"}


def panels(page: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in page["panels"] if panel["type"] != "row"]


def test_the_files_are_what_the_source_makes() -> None:
    assert {name: (FOLDER / name).read_text(encoding="utf-8") for name in PAGES} == texts(), (
        "python -m tools.dashboards"
    )
    assert set(DASHBOARDS) == {"overview", "carriers", "accounts", "store"}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_complete(name: str) -> None:
    page = PAGES[name]
    assert page["uid"] == f"smsgw-{name.removesuffix('.json')}"
    assert page["schemaVersion"] >= 39  # Grafana 11
    variables = [v["name"] for v in page["templating"]["list"]]
    assert variables[:2] == ["datasource", "job"]
    ids = [panel["id"] for panel in page["panels"]]
    assert len(ids) == len(set(ids))
    for panel in panels(page):
        title = panel["title"]
        assert len(panel["description"]) > 40, title
        assert panel["description"].endswith((".", "?")), title
        assert panel["datasource"]["uid"] == "${datasource}", title
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, title
        assert panel["targets"], title
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}", title
            assert target["instant"] != target["range"]
            used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
            assert used <= set(variables), title
        if panel["type"] == "timeseries":
            several = [t["legendFormat"] for t in panel["targets"]]
            assert len(set(several)) == len(several), title
            assert panel["options"]["legend"]["showLegend"]
        if panel["type"] == "stat":
            assert len(panel["fieldConfig"]["defaults"]["thresholds"]["steps"]) > 1 or title == "Waiting", title


@pytest.mark.parametrize("name", PAGES)
def test_panels_do_not_lie_on_each_other(name: str) -> None:
    places = [panel["gridPos"] for panel in PAGES[name]["panels"]]
    for a in places:
        assert a["x"] >= 0
        assert a["x"] + a["w"] <= 24
    for a, b in combinations(places, 2):
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, (a, b)


def test_only_metrics_that_are_made_are_asked_for() -> None:
    made = {f"smsgw_{name}{end}" for name in FAMILIES for end in ("", "_bucket", "_count", "_sum")}
    made |= {rule["record"] for group in rules()["groups"] for rule in group["rules"] if "record" in rule}
    for page in PAGES.values():
        for panel in panels(page):
            for target in panel["targets"]:
                for name in re.findall(r"\bsmsgw[_:][\w:]+", re.sub(r'"[^"]*"', "", target["expr"])):
                    assert name in made, (panel["title"], name)
        for variable in page["templating"]["list"][1:]:
            for name in re.findall(r"smsgw_\w+", variable["definition"]):
                assert name in made, name


def test_provisioning_names_what_compose_mounts() -> None:
    folder = ROOT / "config" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((folder / "dashboards" / "smsgw.yml").read_text())["providers"]
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    mounts = dict(v.split(":")[:2] for v in compose["services"]["grafana"]["volumes"])
    assert mounts["./config/grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./config/grafana/provisioning"] == "/etc/grafana/provisioning"
    assert source["url"] == "http://prometheus:9090"
    for name in ("config/prometheus/prometheus.yml", "packaging/compose/prometheus.yml"):
        config = yaml.safe_load((ROOT / name).read_text())
        assert config["global"]["scrape_interval"] == source["jsonData"]["timeInterval"]
        assert [job["job_name"] for job in config["scrape_configs"]] == ["smsgw"]
