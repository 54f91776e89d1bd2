"""Reads the rules and the dashboard: which alerts there are, and what is asked of Prometheus."""

from __future__ import annotations

import json
import re
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "observability"
RULES = FOLDER / "waystation.rules.yml"
DASHBOARD = FOLDER / "grafana-dashboard.json"

_ALERT = re.compile(r"^      - alert: (\w+)\n((?:        .*\n|\n)+)", re.MULTILINE)
_EXPRESSION = re.compile(r"^        expr: (?:\|\n((?:          .*\n)+)|(.+)\n)", re.MULTILINE)

ALERTS = dict(_ALERT.findall(RULES.read_text()))
"""Each alert's text, in order."""


def rule_queries() -> list[str]:
    """The expression of every rule."""
    return [block or line for block, line in _EXPRESSION.findall(RULES.read_text())]


def dashboard_queries(instance: str = ".*", window: str = "1m") -> list[str]:
    """Every query of the dashboard, its variables filled in."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    variables = {"$instance": instance, "$__range": window, "$__rate_interval": window}
    for name, value in variables.items():
        queries = [query.replace(name, value) for query in queries]
    return queries
