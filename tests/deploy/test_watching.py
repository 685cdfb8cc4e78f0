"""Alert rules and the dashboard: every metric that they name is one that the code has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

# What they count is registered when they are loaded.
from services.catalog import stock_handlers as _stock  # noqa: F401
from services.kit import metrics
from services.order import tallies as _orders  # noqa: F401
from services.payment import breaker as _breaker, tallies as _payments  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/dashboards/shop.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
# Prometheus's own, and Envoy's, which tests/edge/test_watch.py sees.
OTHERS = re.compile(r"up|process_resident_memory_bytes|envoy_(http|cluster)_[a-z_]+")
# Names that are followed by no bracket: functions are; labels stand in braces and behind `by`.
_STRIPPED = re.compile(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|(?:by|without|on)\s*\([^)]*\)')
_NAME = re.compile(r"\b[a-z_]{2,}\b(?!\s*\()")
WORDS = {"and", "or", "unless", "bool", "offset"}


def metrics_of(expression: str) -> set[str]:
    return set(_NAME.findall(_STRIPPED.sub("", expression))) - WORDS


def known() -> dict[str, set[str]]:
    """Every sample's name, with the labels that it may have."""
    found: dict[str, set[str]] = {}
    for collector in list(REGISTRY._collector_to_names):
        labels = set(getattr(collector, "_labelnames", ()))
        for name in REGISTRY._collector_to_names[collector]:
            found[name] = labels
    metrics.calls_of("/shop.Some/Method")  # what a server does for each of its methods
    for metric in REGISTRY.collect():
        for sample in metric.samples:
            found[sample.name] = found.get(sample.name, set()) | set(sample.labels)
    return found


def family(name: str) -> str:
    """What the samples of a counter or histogram have in common."""
    return re.sub(r"_(total|bucket|count|sum|created)$", "", name)


KNOWN = known()
EXPRESSIONS = {rule["alert"]: rule["expr"] for rule in RULES} | {
    f"{panel['title']}: {target['expr'][:40]}": target["expr"]
    for panel in PANELS
    for target in panel["targets"]
}


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS.keys())
def test_every_metric_and_label_exists(expression: str) -> None:
    names = metrics_of(expression)
    assert names
    for name in names:
        assert name in KNOWN or OTHERS.fullmatch(name), name
    if any(name.startswith("envoy_") for name in names):
        return
    labels = set(re.findall(r"[{,]\s*(\w+)\s*[=!]", expression))
    for grouped in re.findall(r"by \(([^)]*)\)", expression):
        labels |= set(grouped.split(", "))
    of_scraping = {"service", "instance", "job", "le"}
    assert labels - of_scraping <= set().union(*(KNOWN.get(name, set()) for name in names))


def test_the_check_would_find_what_does_not_exist() -> None:
    expression = 'sum by (a) (rate(x_total{b="up"}[5m])) / y_limit > 0.5 and zz == 0'
    assert metrics_of(expression) == {"x_total", "y_limit", "zz"}


def test_every_metric_of_the_shop_is_shown() -> None:
    shown = {family(name) for text in EXPRESSIONS.values() for name in metrics_of(text)}
    assert {family(name) for name in KNOWN if name.startswith("shop_")} <= shown


def test_every_metric_is_documented() -> None:
    text = (ROOT / "docs" / "operating.md").read_text()
    for name in KNOWN:
        if name.startswith("shop_"):
            assert f"`{family(name)}" in text, name


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert set(rule["annotations"]) == {"summary", "do"}


def test_panels_do_not_lie_over_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_the_dashboard_asks_the_source_that_is_set_up() -> None:
    folder = ROOT / "deploy/grafana/provisioning/datasources"
    (source,) = yaml.safe_load((folder / "prometheus.yaml").read_text())["datasources"]
    assert {panel["datasource"]["uid"] for panel in PANELS} == {source["uid"]}


def test_prometheus_takes_them() -> None:
    """Where there is a promtool."""
    if shutil.which("promtool") is None:
        pytest.skip("no promtool")
    for command in (
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts_test.yml"],
    ):
        done = subprocess.run(
            ["promtool", *command],
            cwd=PROMETHEUS,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
