"""LibreChat's own metrics beside the exporter's: requests and messages, first token and whole answers, failures."""

from dashboards.panels import BAD_ABOVE_TENTH, Rows, bars, lines, number
from dashboards.queries import RANGE, I, increase, quantile, rate

# LibreChat's job has instances of its own.
A = 'job="librechat-api"'
_FIRST = 'milestone="first_content_delta_queued"'
_BROKEN = f'{A}, status=~"5.."'
_CUT = f'{A}, status!~"2.."'
_FAILED = f'{A}, result=~"error|abort_failed"'


def _quantile(share: float, histogram: str, labels: str = A, by: str = "le") -> str:
    return f"histogram_quantile({share}, sum by ({by}) (rate({histogram}_bucket{{{labels}}}[{RANGE}])))"


SERVICE: Rows = {
    "Now": [
        number(
            "Requests with a server error",
            f"max(instance:librechat_http_errors:ratio_rate15m{{{A}}})",
            "percentunit",
            steps=BAD_ABOVE_TENTH,
            text="In the last 15 minutes",
        ),
        number("Streams under way", f"sum(sse_streams_in_flight{{{A}}})"),
        number(
            "Streams cut off",
            f"max(instance:librechat_streams_cut:ratio_rate15m{{{A}}})",
            "percentunit",
            text="In the last 15 minutes, also by clients that went away",
        ),
        number(
            "First token, p95",
            "max(instance:librechat_first_token_seconds:p95_rate15m)",
            "s",
            text="One user in twenty waited longer for the first word in the last 15 minutes",
        ),
        number("Event loop lag, p99", f"max(nodejs_eventloop_lag_p99_seconds{{{A}}})", "s"),
        number("Memory", f"sum(process_resident_memory_bytes{{{A}}})", "bytes"),
    ],
    "Both halves": [
        lines(
            "Requests and messages per second",
            (rate("http_requests_total", A), "HTTP requests"),
            (rate("librechat_messages_total", I), "messages"),
            axis="1/s",
        ),
        lines(
            "The first token, and whole answers",
            (_quantile(0.5, "agent_startup_milestone_duration_seconds", _FIRST), "first token, p50"),
            (_quantile(0.95, "agent_startup_milestone_duration_seconds", _FIRST), "first token, p95"),
            (quantile(0.5, I), "whole answer, p50"),
            (quantile(0.95, I), "whole answer, p95"),
            unit="s",
        ),
        lines(
            "Failures per hour, by where they arise",
            (f"3600 * {rate('http_requests_total', _BROKEN)}", "HTTP server errors"),
            (f"3600 * {rate('sse_streams_total', _CUT)}", "streams cut off"),
            (f"3600 * {rate('generation_jobs_total', _FAILED)}", "generation jobs"),
            (f"3600 * {rate('librechat_error_messages_total', I)}", "answers"),
            (f"3600 * {rate('librechat_tool_call_errors_total', I)}", "tool calls"),
            axis="failures/h",
        ),
        lines(
            "Error budget burn rate, last six hours",
            (
                "max by (slo) (instance_slo:librechat_objective_missed:ratio_rate6h "
                "/ on (slo) group_left () slo:librechat_error_budget:ratio)",
                "{{slo}}",
            ),
            unit="percentunit",
            text="Above 100% the objective is missed; prometheus-dev/rules/objectives.yml has the objectives",
        ),
    ],
    "HTTP": [
        lines(
            "Requests per second, by status",
            (rate("http_requests_total", A, "status"), "{{status}}"),
            stacked=True,
            axis="requests/s",
        ),
        lines(
            "Duration of requests, by path, p95",
            (_quantile(0.95, "http_request_duration_seconds", by="le, path"), "{{path}}"),
            unit="s",
        ),
        lines(
            "Duration of streams",
            (_quantile(0.5, "sse_stream_duration_seconds"), "p50"),
            (_quantile(0.95, "sse_stream_duration_seconds"), "p95"),
            unit="s",
        ),
        lines("Uploads, in bytes per second", (rate("upload_bytes_total", A), "bytes"), unit="Bps"),
    ],
    "Behind it": [
        lines("Generation jobs per second", (rate("generation_jobs_total", A, "result"), "{{result}}"), axis="jobs/s"),
        lines(
            "Duration of MongoDB queries, by model, p95",
            (_quantile(0.95, "mongoose_query_duration_seconds", by="le, model"), "{{model}}"),
            unit="s",
        ),
        bars("Queries in this time", increase("mongoose_queries_total", A, "model"), "{{model}}"),
        lines(
            "Node",
            (f"sum by (instance) (nodejs_heap_size_used_bytes{{{A}}})", "heap"),
            (f"sum by (instance) (process_resident_memory_bytes{{{A}}})", "memory"),
            unit="bytes",
        ),
    ],
}
