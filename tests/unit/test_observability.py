"""Rules, dashboard, runbook and the page of metrics speak of metrics and alerts that exist, and of all of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from observability import ALERTS, DASHBOARD, RULES, dashboard_queries, rule_queries
from waystation.telemetry.metrics import Metrics
from waystation.telemetry.page import declared, page

ROOT = Path(__file__).parents[2]
METRICS = {metric.name: metric for metric in declared(Metrics())}
_HISTOGRAM = re.compile(r"_(bucket|sum|count)$")
_SELECTOR = re.compile(r"(waystation_\w+)(?:\{([^}]*)\})?")


def metric_of(name: str) -> str:
    return name if name in METRICS else _HISTOGRAM.sub("", name)


def test_the_page_of_metrics_is_what_the_code_declares() -> None:
    assert (ROOT / "docs/metrics.md").read_text() == page()


@pytest.mark.parametrize("query", sorted({*dashboard_queries(), *rule_queries()}))
def test_every_query_asks_for_metrics_and_labels_that_exist(query: str) -> None:
    found = _SELECTOR.findall(query)
    for name, matchers in found:
        metric = METRICS[metric_of(name)]
        labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        assert labels <= {*metric.labels, "instance", "job"}, name
    assert found or "up{" in query or "waystation:" in query


def test_the_dashboard_records_only_what_the_rules_record() -> None:
    recorded = set(re.findall(r"record: (\S+)", RULES.read_text()))
    used = {name for query in dashboard_queries() for name in re.findall(r"waystation:[\w:]+", query)}
    assert used
    assert used <= recorded


def test_every_alert_has_its_heading_in_the_runbook_and_no_other_alert_has() -> None:
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE)
    assert headings == list(ALERTS)
    for name, alert in ALERTS.items():
        assert f"docs/runbook.md#{name.lower()}" in alert
        assert re.search(r"severity: (critical|warning)", alert)


def test_every_alert_is_shown_to_fire_and_to_keep_quiet() -> None:
    cases = (RULES.parent / "waystation.test.yml").read_text()
    for name in ALERTS:
        assert re.search(rf"alertname: {name}, eval_time: \w+, exp_alerts: \[\]", cases), name
        assert re.search(rf"alertname: {name}\n\s+eval_time: \w+\n\s+exp_alerts:\n\s+- exp_labels", cases), name


@pytest.mark.parametrize(
    "arguments", [["check", "rules", "waystation.rules.yml"], ["test", "rules", "waystation.test.yml"]], ids=" ".join
)
def test_promtool_accepts(arguments: list[str]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not on PATH (Debian: prometheus)")
    done = subprocess.run(
        [promtool, *arguments], cwd=RULES.parent, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_panel_of_the_dashboard_lies_on_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
