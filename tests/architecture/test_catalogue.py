"""observability/catalogue.yaml and the code name the same metrics and log events."""

import ast
import re
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from app.telemetry import metrics
from tests.architecture.tree import ROOT, parse, python_files
from tests.architecture.yaml_files import load_all

(CATALOGUE,) = load_all((ROOT / "observability/catalogue.yaml").read_text())
ROWS = {row["name"]: row for row in CATALOGUE["metrics"]}
NAME = re.compile(r"fashionistar_[a-z_]+|http_server_[a-z_]+")
EVENT = re.compile(r"[a-z][a-z_]*(?:\.[a-z][a-z_]*)+")
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


def described(metric: MetricWrapperBase) -> dict[str, Any]:
    """The registered metric as a row of the catalogue."""
    kind = {Counter: "counter", Gauge: "gauge", Histogram: "histogram"}[type(metric)]
    row: dict[str, Any] = {
        "name": metric._name + ("_total" if kind == "counter" else ""),
        "type": kind,
        "help": metric._documentation,
        "labels": list(metric._labelnames),
    }
    if isinstance(metric, Histogram):
        row["buckets"] = [bound for bound in metric._upper_bounds if bound != float("inf")]
    return row


def registered() -> dict[str, dict[str, Any]]:
    """Every metric of app/telemetry/metrics.py."""
    found = [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]
    return {row["name"]: row for row in map(described, found)}


def test_same_metrics() -> None:
    assert sorted(registered()) == sorted(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_metric_is_as_described(name: str) -> None:
    row = ROWS[name]
    promised = {key: row[key] for key in ("name", "type", "help", "buckets") if key in row}
    assert registered()[name] == promised | {"labels": list(row.get("labels", {}))}


@pytest.mark.parametrize("name", ROWS)
def test_name_says_the_unit(name: str) -> None:
    row = ROWS[name]
    assert NAME.fullmatch(name)
    assert name.endswith("_total") == (row["type"] == "counter")
    assert (row["type"] != "histogram") or name.endswith(("_seconds", "_bytes"))
    assert len(row.get("buckets", [])) <= 10
    assert row["owner"]


def test_planted_metric_is_told_apart() -> None:
    planted = Gauge("fashionistar_http_client_disconnects_total", "x", registry=None)
    assert described(planted)["type"] == "gauge"
    assert described(planted) != ROWS["fashionistar_http_client_disconnects_total"]


def test_metrics_are_made_in_one_file() -> None:
    made = [
        f"{path}:{node.lineno}"
        for path in python_files("app")
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"Counter", "Gauge", "Histogram", "Summary", "Info"}
        and isinstance(getattr(node.args[0] if node.args else None, "value", None), str)
        and str(path) != "app/telemetry/metrics.py"
    ]
    assert made == []


def log_messages(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and message of each `log.<level>("…")`; "" for one that is not literal text."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in LEVELS
            and ast.unparse(node.func.value) in {"log", "_log", "logger"}
        ):
            at = 1 if node.func.attr == "log" else 0  # log.log(level, message)
            value = getattr(node.args[at], "value", "") if len(node.args) > at else ""
            yield node.lineno, value if isinstance(value, str) else ""


def test_log_events_are_names_and_stand_in_the_catalogue() -> None:
    found = {
        message.partition(" ")[0]: f"{path}:{line}"
        for path in python_files("app")
        for line, message in log_messages(parse(path))
    }
    assert {event: at for event, at in found.items() if not EVENT.fullmatch(event)} == {}
    listed = {row["name"] for row in CATALOGUE["log_events"]}
    assert sorted(listed) == sorted(found)


def test_planted_log_sentence_is_found() -> None:
    ((line, message),) = log_messages(ast.parse("log.info('Order was paid')"))
    assert (line, message) == (1, "Order was paid")
    assert not EVENT.fullmatch(message.partition(" ")[0])
