"""Coding agents are received for real: OpenTelemetry's own SDK sends, over OTLP, into VictoriaMetrics."""

import time
import urllib.request
from collections.abc import Iterator

import pytest
from google.protobuf.json_format import MessageToJson  # type: ignore[import-untyped]
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import Counter, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    InMemoryMetricReader,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource

from tests.conftest import METRICS_PY, needs_debian
from tests.test_monitoring import FOLDER, expressions, has_data
from tools.victoria_metrics import VictoriaMetrics

pytestmark = needs_debian

SESSION = {"session.id": "5d2f1c3e", "organization.id": "o1"}
MODEL = SESSION | {"model": "claude-sonnet-4-5"}
DASHBOARD = FOLDER / "grafana" / "dashboards" / "coding-agents.json"
STEPS = 4


def work(provider: MeterProvider) -> None:
    """A session, as Claude Code tells of it: 10 input tokens and a cent in each step, a second apart."""
    meter = provider.get_meter("com.anthropic.claude_code")
    tokens = meter.create_counter("claude_code.token.usage", unit="tokens")
    cost = meter.create_counter("claude_code.cost.usage", unit="USD")
    lines = meter.create_counter("claude_code.lines_of_code.count")
    active = meter.create_counter("claude_code.active_time.total", unit="s")
    meter.create_counter("claude_code.session.count").add(1, SESSION)
    for _ in range(STEPS):
        for kind, amount in (("input", 10), ("output", 30), ("cacheRead", 500), ("cacheCreation", 50)):
            tokens.add(amount, MODEL | {"type": kind})
        cost.add(0.01, MODEL)
        for kind in ("added", "removed"):
            lines.add(3, SESSION | {"type": kind})
        for kind in ("cli", "user"):
            active.add(1.5, SESSION | {"type": kind})
        for name in ("commit", "pull_request"):
            meter.create_counter(f"claude_code.{name}.count").add(1, SESSION)
        for decision in ("accept", "reject"):
            labels = SESSION | {"tool": "Edit", "decision": decision}
            meter.create_counter("claude_code.code_edit_tool.decision").add(1, labels)
        time.sleep(1.1)


def send(url: str, temporality: AggregationTemporality) -> None:
    exporter = OTLPMetricExporter(url, preferred_temporality={Counter: temporality})
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=1000)
    provider = MeterProvider([reader], Resource.create({"service.name": "claude-code"}))
    work(provider)
    assert provider.force_flush()
    provider.shutdown()


@pytest.fixture(scope="module")
def receiver() -> Iterator[VictoriaMetrics]:
    """It has received a session."""
    with VictoriaMetrics() as server:
        send(f"{server.url}/opentelemetry/v1/metrics", AggregationTemporality.CUMULATIVE)
        yield server


def total(server: VictoriaMetrics, selector: str) -> float:
    return sum(float(one["value"][1]) for one in server.query(f"max_over_time({selector}[1m])"))


def test_every_query_of_the_dashboard_returns_data(receiver: VictoriaMetrics) -> None:
    found = [one for one in expressions(DASHBOARD) if "claude_code" in one[1]]
    assert len(found) > 10
    assert [one for one in found if not has_data(receiver, one[1])] == []


def test_cumulative_counters_are_what_was_sent(receiver: VictoriaMetrics) -> None:
    end = time.monotonic() + 20
    while total(receiver, 'claude_code_token_usage_tokens_total{type="input"}') != 10 * STEPS:
        assert time.monotonic() < end  # it may take a moment until all that was written is found
        time.sleep(0.2)
    assert total(receiver, "claude_code_cost_usage_USD_total") == pytest.approx(0.01 * STEPS)
    assert total(receiver, 'claude_code_active_time_seconds_total{type="cli"}') == 1.5 * STEPS
    assert total(receiver, "claude_code_session_count_total") == 1


def test_differences_are_no_counters() -> None:
    """Why the documentation wants the temporality `cumulative`: each value stands for itself, and none is added up."""
    with VictoriaMetrics() as server:
        send(f"{server.url}/opentelemetry/v1/metrics", AggregationTemporality.DELTA)
        assert total(server, 'claude_code_token_usage_tokens_total{type="input"}') < 10 * STEPS
    page = (METRICS_PY.parent / "docs" / "monitoring.md").read_text()
    assert "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=cumulative" in page


def test_json_is_refused_with_a_word() -> None:
    """VictoriaMetrics wants protobuf, as the documentation says; nothing is lost silently."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], Resource.create({"service.name": "claude-code"}))
    provider.get_meter("m").create_counter("claude_code.session.count").add(1, SESSION)
    data = reader.get_metrics_data()
    assert isinstance(data, MetricsData)
    body = MessageToJson(encode_metrics(data)).encode()
    with VictoriaMetrics() as server:
        url = f"{server.url}/opentelemetry/v1/metrics"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(request, timeout=10)
    page = (METRICS_PY.parent / "docs" / "monitoring.md").read_text()
    assert "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL=http/protobuf" in page
