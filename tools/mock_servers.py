"""Metrics that LibreChat and the servers beside it would serve, without them: LibreChat's own, vLLM, GPUs, a machine,
containers, agents.

The names and labels are theirs; the numbers follow a load that rises and falls within minutes. For the demo and tests:
`python -m tools.mock_servers` serves each on its usual port.
"""

import argparse
import math
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

MODELS = ("llama-3.3-70b", "mistral-large-2411")
_PERIOD = 300.0
_LATENCIES = ("0.5", "1.0", "2.5", "5.0", "10.0", "30.0", "60.0", "+Inf")


def load(seconds: float) -> float:
    """Between 0.2 and 1."""
    return 0.6 + 0.4 * math.sin(seconds * 2 * math.pi / _PERIOD)


def work(seconds: float) -> float:
    """The load up to then: what a counter follows."""
    return 0.6 * seconds + 0.4 * _PERIOD / (2 * math.pi) * (1 - math.cos(seconds * 2 * math.pi / _PERIOD))


def _gauge(name: str, text: str, values: Mapping[Any, float], *labels: str) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _counter(name: str, text: str, values: Mapping[Any, float], *labels: str) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _latency(name: str, text: str, typical: float, done: float) -> Metric:
    """Requests whose latency is spread around a typical one, in seconds."""
    family = HistogramMetricFamily(name, text, labels=("model_name",))
    for model in MODELS:
        shares = [1 - math.exp(-float(bound) / typical) for bound in _LATENCIES]
        family.add_metric(
            (model,), list(zip(_LATENCIES, (done * share for share in shares), strict=True)), done * typical
        )
    return family


def vllm(now: float) -> Iterable[Metric]:
    done = 2 * work(now)
    yield _gauge(
        "vllm:num_requests_running", "Requests running", {(m,): round(8 * load(now)) for m in MODELS}, "model_name"
    )
    waiting = max(0, round(10 * (load(now) - 0.8)))
    yield _gauge("vllm:num_requests_waiting", "Requests waiting", {(m,): waiting for m in MODELS}, "model_name")
    yield _gauge(
        "vllm:kv_cache_usage_perc", "Share of the cache used", {(m,): 0.9 * load(now) for m in MODELS}, "model_name"
    )
    yield _counter(
        "vllm:request_success_total",
        "Requests done",
        {(m, "stop"): done for m in MODELS},
        "model_name",
        "finished_reason",
    )
    yield _counter("vllm:prompt_tokens_total", "Prompt tokens", {(m,): 900 * done for m in MODELS}, "model_name")
    yield _counter("vllm:generation_tokens_total", "Tokens made", {(m,): 300 * done for m in MODELS}, "model_name")
    yield _latency("vllm:time_to_first_token_seconds", "Until the first token", 0.4, done)
    yield _latency("vllm:request_queue_time_seconds", "In the queue", 0.2, done)
    yield _latency("vllm:e2e_request_latency_seconds", "A whole request", 4.0, done)


def litellm(now: float) -> Iterable[Metric]:
    """LiteLLM's proxy, before vLLM and an Ollama that has no metrics of its own."""
    done = 2 * work(now)
    models = {("hosted_vllm/llama-3.3-70b", "hosted_vllm"): done, ("ollama_chat/qwen3", "ollama_chat"): done / 4}
    labels = ("litellm_model_name", "api_provider")
    yield _counter("litellm_deployment_success_responses_total", "Successes", models, *labels)
    failed = {key: count / 100 for key, count in models.items()}
    yield _counter("litellm_deployment_failure_responses_total", "Failures", failed, *labels)
    by_model = {(name,): count for (name, _), count in models.items()}
    tokens = {key: 1200 * count for key, count in by_model.items()}
    yield _counter("litellm_total_tokens_metric_total", "Tokens", tokens, "model")
    yield _counter("litellm_spend_metric_total", "US dollars", {key: 1e-3 * n for key, n in by_model.items()}, "model")
    bounds = ("0.05", "0.5", "1.0", "2.5", "5.0", "10.0", "60.0", "+Inf")
    name = "litellm_llm_api_time_to_first_token_metric"
    yield _durations(name, "Until the first token", bounds, 0.6, by_model, "model")
    yield _durations("litellm_request_total_latency_metric", "Whole requests", bounds, 4.5, by_model, "model")


# By the upper bounds of their buckets, in seconds.
_HTTP = ("0.05", "0.1", "0.3", "0.5", "1", "3", "5", "+Inf")
_BYTES = ("100", "1000", "10000", "100000", "1000000", "+Inf")
_STREAM = ("1", "5", "15", "30", "60", "300", "1800", "+Inf")
_QUERY = ("0.005", "0.05", "0.1", "0.5", "1", "5", "+Inf")
_MILESTONE = ("0.005", "0.1", "0.5", "1", "2.5", "5", "10", "30", "300", "+Inf")


def _durations(
    name: str, text: str, bounds: tuple[str, ...], typical: float, done: Mapping[Any, float], *labels: str
) -> Metric:
    """By labels, how many there were; their durations are spread around a typical one, in seconds."""
    family = HistogramMetricFamily(name, text, labels=labels)
    for key, count in done.items():
        buckets = [(bound, count * (1 - math.exp(-float(bound) / typical))) for bound in bounds]
        family.add_metric(key, buckets, count * typical)
    return family


def librechat(now: float) -> Iterable[Metric]:
    """LibreChat's own metrics, as of 0.8.7 and, those of agents' starts, later; with some of Node's."""
    done = 3 * work(now)
    paths = [("GET", "/api/convos"), ("GET", "/api/messages/#id"), ("POST", "/api/agents/chat/#id"), ("GET", "/#path")]
    requests = {(*path, "200"): done for path in paths} | {
        (*paths[2], "500"): done / 200,
        (*paths[1], "404"): done / 50,
    }
    http = ("method", "path", "status")
    yield _counter("http_requests_total", "HTTP requests", requests, *http)
    yield _durations("http_request_duration_seconds", "Their duration", _HTTP, 0.08, requests, *http)
    yield _gauge("http_requests_in_flight", "Under way", {(): round(6 * load(now))})
    yield _durations("http_request_body_bytes", "Bytes of their bodies", _BYTES, 4000, requests, *http)
    stream = ("GET", "/api/agents/chat/stream/#id")
    streams = {(*stream, "200"): done / 2, (*stream, "499"): done / 20}
    yield _counter("sse_streams_total", "Streams", streams, *http)
    yield _gauge("sse_streams_in_flight", "Streams under way", {stream: round(20 * load(now))}, "method", "path")
    yield _durations("sse_stream_duration_seconds", "Their duration", _STREAM, 12, streams, *http)
    uploads = {("POST", "/api/files", "200"): done / 10}
    yield _counter("upload_requests_total", "Uploads", uploads, *http)
    yield _gauge("upload_requests_in_flight", "Uploads under way", {("POST", "/api/files"): 1}, "method", "path")
    yield _durations("upload_request_duration_seconds", "Their duration", _STREAM, 2, uploads, *http)
    sizes = {key: count * 3e5 for key, count in uploads.items()}
    yield _counter("upload_bytes_total", "Their bytes", sizes, *http)
    logins = {("found",): done / 30, ("created",): done / 900}
    yield _counter("openid_user_lookup_total", "Look-ups of users by OpenID", logins, "result")
    yield _durations("openid_user_lookup_duration_seconds", "Their duration", _QUERY, 0.02, logins, "result")
    queries = {(model, "find", "success"): done * 4 for model in ("Message", "Conversation", "User")}
    asked = ("model", "operation", "status")
    yield _counter("mongoose_queries_total", "Queries", queries, *asked)
    yield _durations("mongoose_query_duration_seconds", "Their duration", _QUERY, 0.01, queries, *asked)
    jobs = {
        ("memory", result): done * share for result, share in (("created", 1), ("completed", 0.96), ("error", 0.02))
    }
    yield _counter("generation_jobs_total", "Generation jobs", jobs, "store", "result")
    yield _gauge("generation_jobs_in_flight", "Under way", {("memory",): round(20 * load(now))}, "store")
    streamed = {("memory", "live", "success"): done, ("memory", "resume", "success"): done / 40}
    told = ("store", "type", "result")
    yield _counter("generation_stream_subscriptions_total", "Subscriptions to streams", streamed, *told)
    resumed = {("memory", "resume", "success"): done / 10}
    yield _counter("generation_stream_resume_pending_events_total", "Events sent after a break", resumed, *told)
    name = "generation_stream_first_attachment_delay_seconds"
    yield _durations(name, "Until a client listens", _QUERY, 0.05, {("memory",): done}, "store")
    yield _counter(
        "rum_proxy_requests_total", "Real user monitoring", {("/traces", "success"): done}, "endpoint", "result"
    )
    yield _counter("agent_startups_total", "Starts of agents", {("success",): done}, "result")
    milestones = {("first_content_delta_queued",): done}
    name = "agent_startup_milestone_duration_seconds"
    yield _durations(name, "Until a milestone", _MILESTONE, 1.5, milestones, "milestone")
    yield _gauge("nodejs_eventloop_lag_p99_seconds", "Lag of the event loop", {(): 0.01 + 0.02 * load(now)})
    yield _gauge("nodejs_heap_size_used_bytes", "Heap", {(): 3e8 + 1e8 * load(now)})
    yield _gauge("process_resident_memory_bytes", "Memory", {(): 5e8 + 1e8 * load(now)})


def dcgm(now: float) -> Iterable[Metric]:
    labels = ("gpu", "UUID", "modelName", "Hostname")
    cards = [(str(number), f"GPU-{number}", "NVIDIA H100 80GB HBM3", "llm1") for number in range(2)]
    for name, text, value in (
        ("DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %)", 100 * load(now)),
        ("DCGM_FI_DEV_FB_USED", "Framebuffer memory used (in MiB)", 60_000 + 15_000 * load(now)),
        ("DCGM_FI_DEV_FB_FREE", "Framebuffer memory free (in MiB)", 20_000 - 15_000 * load(now)),
        ("DCGM_FI_DEV_POWER_USAGE", "Power draw (in W)", 120 + 500 * load(now)),
        ("DCGM_FI_DEV_GPU_TEMP", "GPU temperature (in C)", 35 + 40 * load(now)),
    ):
        yield _gauge(name, text, dict.fromkeys(cards, value), *labels)


def node(now: float) -> Iterable[Metric]:
    busy = 0.5 * work(now)
    seconds = {
        (str(cpu), mode): busy if mode == "user" else now - busy for cpu in range(4) for mode in ("user", "idle")
    }
    yield _counter("node_cpu_seconds_total", "Seconds of the processors", seconds, "cpu", "mode")
    yield _gauge("node_memory_MemTotal_bytes", "Memory", {(): 512e9})
    yield _gauge("node_memory_MemAvailable_bytes", "Memory that is free", {(): 512e9 - 300e9 * load(now)})
    exported = {(): time.time() - 3600}
    yield _gauge(
        "librechat_export_last_success_timestamp_seconds", "When the last export that succeeded ended", exported
    )


def cadvisor(now: float) -> Iterable[Metric]:
    names = [("LibreChat",), ("chat-mongodb",), ("vllm",)]
    yield _counter("container_cpu_usage_seconds_total", "Seconds", dict.fromkeys(names, work(now)), "name")
    yield _gauge("container_memory_working_set_bytes", "Memory", dict.fromkeys(names, 2e9 + 1e9 * load(now)), "name")


def claude_code(now: float) -> Iterable[Metric]:
    """As Prometheus names what it receives over OTLP, for two sessions of one user."""
    sessions = [("5d2f1c3e-1", "1"), ("77aa0b42-2", "2")]
    one = ("session_id", "organization_id")
    kinds = {"input": 20, "output": 60, "cacheRead": 2000, "cacheCreation": 150}
    model = "claude-sonnet-4-5"
    tokens = {(*s, kind, model): 1 + rate * work(now) for s in sessions for kind, rate in kinds.items()}
    yield _counter("claude_code_session_count_total", "Sessions", dict.fromkeys(sessions, 1), *one)
    yield _counter("claude_code_token_usage_tokens_total", "Tokens", tokens, *one, "type", "model")
    cost = {(*s, model): 0.02 + 0.002 * work(now) for s in sessions}
    yield _counter("claude_code_cost_usage_USD_total", "Cost", cost, *one, "model")
    lines = {(*s, kind): 1 + 0.3 * work(now) for s in sessions for kind in ("added", "removed")}
    yield _counter("claude_code_lines_of_code_count_total", "Lines of code", lines, *one, "type")
    yield _counter("claude_code_commit_count_total", "Commits", dict.fromkeys(sessions, 1 + now // 600), *one)
    yield _counter(
        "claude_code_pull_request_count_total", "Pull requests", dict.fromkeys(sessions, 1 + now // 3600), *one
    )
    active = {(*s, kind): 1 + 0.5 * work(now) for s in sessions for kind in ("cli", "user")}
    yield _counter("claude_code_active_time_seconds_total", "Time at work", active, *one, "type")
    decisions = {(*s, "Edit", kind): 1 + 0.05 * work(now) for s in sessions for kind in ("accept", "reject")}
    yield _counter("claude_code_code_edit_tool_decision_total", "Decisions", decisions, *one, "tool", "decision")


SERVERS: dict[int, Callable[[float], Iterable[Metric]]] = {
    3080: librechat,
    8000: vllm,
    4000: litellm,
    9400: dcgm,
    9100: node,
    8080: cadvisor,
    9464: claude_code,
}


class _Mock(Collector):
    def __init__(self, families: Callable[[float], Iterable[Metric]]) -> None:
        self._families = families
        self._started = time.monotonic()

    def collect(self) -> Iterable[Metric]:
        # From the middle of the first period on, so that counters do not begin at 0.
        return self._families(_PERIOD / 2 + time.monotonic() - self._started)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_arguments: Any) -> None:
        """Nothing to say."""


def serve(
    families: Callable[[float], Iterable[Metric]], address: str, port: int, token: str = ""
) -> tuple[int, Callable[[], None]]:
    """Serves them under /metrics, to those who bear the token.

    Returns the port, which is a free one for 0, and what ends it.
    """
    registry = CollectorRegistry()
    registry.register(_Mock(families))
    metrics = make_wsgi_app(registry)

    def application(environ: Any, start: Any) -> Any:
        if token and environ.get("HTTP_AUTHORIZATION") != f"Bearer {token}":
            start("401 Unauthorized", [("Content-Type", "text/plain")])
            return [b"Unauthorized\n"]
        return metrics(environ, start)

    server = make_server(address, port, application, _Server, _Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return server.server_port, stop


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.mock_servers", description=__doc__)
    parser.add_argument("--address", default="127.0.0.1", help="where to listen; 0.0.0.0 within a container")
    parser.add_argument("--token", default="", help="LibreChat's METRICS_SECRET")
    arguments = parser.parse_args()
    for port, families in SERVERS.items():
        serve(families, arguments.address, port, arguments.token if families is librechat else "")
        print(f"{families.__name__}: http://{arguments.address}:{port}/metrics", flush=True)
    threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
