"""The dashboard of servers of models with their GPUs, and of coding agents."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.panels import BAD_ABOVE_TENTH, Rows, bars, build, lines, number, rows_of, variable


def _vllm(name: str) -> str:
    """A metric of vLLM's. Its colon reaches Prometheus as an underscore, if Prometheus asks for OpenMetrics."""
    return f'{{__name__=~"vllm[:_]({name})", model_name=~"$served"}}'


def _vllm_quantile(share: float, histogram: str) -> str:
    return f"histogram_quantile({share}, sum by (le) (rate({_vllm(histogram + '_bucket')}[$__rate_interval])))"


def _litellm_quantile(share: float, histogram: str, by: str = "le") -> str:
    return f"histogram_quantile({share}, sum by ({by}) (rate({histogram}_bucket[$__rate_interval])))"


LLM: Rows = {
    "Demand and supply": [
        lines(
            "LibreChat's answers and vLLM's requests per second",
            ("sum(rate(librechat_messages_per_model_total[$__rate_interval]))", "answers in LibreChat"),
            (f"sum(rate({_vllm('request_success_total')}[$__rate_interval]))", "requests done by vLLM"),
            axis="1/s",
        ),
        lines(
            "What users wait, and what vLLM takes",
            (
                "histogram_quantile(0.95, sum by (le) (rate(librechat_answer_seconds_bucket[$__rate_interval])))",
                "users wait, p95",
            ),
            (_vllm_quantile(0.95, "e2e_request_latency_seconds"), "requests take, p95"),
            (_vllm_quantile(0.95, "time_to_first_token_seconds"), "until the first token"),
            unit="s",
        ),
        lines(
            "Requests at a time",
            (f"sum by (model_name) ({_vllm('num_requests_running')})", "{{model_name}}, running"),
            (f"sum by (model_name) ({_vllm('num_requests_waiting')})", "{{model_name}}, waiting"),
            axis="requests",
        ),
        lines(
            "Tokens per second",
            (
                f"sum by (model_name) (rate({_vllm('prompt_tokens_total')}[$__rate_interval]))",
                "{{model_name}}, prompts",
            ),
            (
                f"sum by (model_name) (rate({_vllm('generation_tokens_total')}[$__rate_interval]))",
                "{{model_name}}, answers",
            ),
            axis="tokens/s",
        ),
        lines(
            "Key-value cache in use",
            (
                f"max by (model_name) ({_vllm('kv_cache_usage_perc|gpu_cache_usage_perc')})",
                "{{model_name}}",
            ),
            unit="percentunit",
            most=1,
            text="Older releases of vLLM have it under another name; both are shown",
        ),
        number(
            "Waiting requests",
            f"sum({_vllm('num_requests_waiting')}) / (sum({_vllm('num_requests_running')}) > 0)",
            "percentunit",
            span=12,
            steps=BAD_ABOVE_TENTH,
            text="For each running request",
        ),
    ],
    "Time to the first token": [
        lines(
            "Until the first token, p95",
            (
                "histogram_quantile(0.95, sum by (le) (rate(agent_startup_milestone_duration_seconds_bucket"
                '{milestone="first_content_delta_queued"}[$__rate_interval])))',
                "LibreChat's users",
            ),
            (_vllm_quantile(0.95, "time_to_first_token_seconds"), "vLLM"),
            (_vllm_quantile(0.95, "request_queue_time_seconds"), "of that in vLLM's queue"),
            (_litellm_quantile(0.95, "litellm_llm_api_time_to_first_token_metric"), "LiteLLM's providers"),
            unit="s",
            text="What users wait for beyond the models is LibreChat's: tools, files, memory",
        ),
    ],
    "LiteLLM's proxy, and Ollama behind it": [
        lines(
            "Answers per second, by model",
            (
                "sum by (litellm_model_name) (rate(litellm_deployment_success_responses_total[$__rate_interval]))",
                "{{litellm_model_name}}",
            ),
            stacked=True,
            axis="answers/s",
        ),
        lines(
            "Failures among all, by provider",
            (
                "sum by (api_provider) (rate(litellm_deployment_failure_responses_total[$__rate_interval])) / ("
                "sum by (api_provider) (rate(litellm_deployment_success_responses_total[$__rate_interval])) + "
                "sum by (api_provider) (rate(litellm_deployment_failure_responses_total[$__rate_interval])))",
                "{{api_provider}}",
            ),
            unit="percentunit",
        ),
        lines(
            "Whole requests, by model, p95",
            (_litellm_quantile(0.95, "litellm_request_total_latency_metric", "le, model"), "{{model}}"),
            unit="s",
        ),
        lines(
            "Tokens per second, by model",
            ("sum by (model) (rate(litellm_total_tokens_metric_total[$__rate_interval]))", "{{model}}"),
            stacked=True,
            axis="tokens/s",
        ),
    ],
    "GPUs": [
        lines(
            "Use", ("avg by (Hostname, gpu) (DCGM_FI_DEV_GPU_UTIL)", "{{Hostname}} {{gpu}}"), unit="percent", most=100
        ),
        lines(
            "Memory that is used",
            (
                "DCGM_FI_DEV_FB_USED / (DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE)",
                "{{Hostname}} {{gpu}}",
            ),
            unit="percentunit",
            most=1,
        ),
        lines(
            "Power",
            ("sum by (Hostname, gpu) (DCGM_FI_DEV_POWER_USAGE)", "{{Hostname}} {{gpu}}"),
            unit="watt",
            stacked=True,
        ),
        lines("Temperature", ("max by (Hostname, gpu) (DCGM_FI_DEV_GPU_TEMP)", "{{Hostname}} {{gpu}}"), unit="celsius"),
    ],
    "The machine and its containers": [
        lines(
            "Processors that are used",
            ('1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[$__rate_interval]))', "{{instance}}"),
            unit="percentunit",
            most=1,
        ),
        lines(
            "Memory that is used",
            ("1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes", "{{instance}}"),
            unit="percentunit",
            most=1,
        ),
        lines(
            "Processors per container",
            ('sum by (name) (rate(container_cpu_usage_seconds_total{name!=""}[$__rate_interval]))', "{{name}}"),
            stacked=True,
            axis="processors",
        ),
        lines(
            "Memory per container",
            ('sum by (name) (container_memory_working_set_bytes{name!=""})', "{{name}}"),
            unit="bytes",
        ),
    ],
}

_CHOSEN = 'session_id=~"$session"'
_WHOLE = "Sessions that sent anything in this time, counted whole"


def _sessions(metric: str, by: str = "", labels: str = "") -> str:
    """Each session is a counter of its own, which begins above 0: what it has reached is what happened in it."""
    grouped = f"sum by ({by})" if by else "sum"
    return f"{grouped} (max_over_time(claude_code_{metric}{{{labels}}}[$__range]))"


def _per_hour(metric: str, by: str, labels: str = "") -> str:
    return f"3600 * sum by ({by}) (rate(claude_code_{metric}{{{labels}}}[$__rate_interval]))"


CODING: Rows = {
    "In this time": [
        number("Sessions", _sessions("session_count_total"), text=_WHOLE),
        number("Cost", _sessions("cost_usage_USD_total"), "currencyUSD", text=_WHOLE),
        number("Tokens", _sessions("token_usage_tokens_total"), text=_WHOLE),
        number("Time at work", _sessions("active_time_seconds_total"), "s", text=_WHOLE),
        number("Commits", _sessions("commit_count_total"), text=_WHOLE),
        number("Pull requests", _sessions("pull_request_count_total"), text=_WHOLE),
    ],
    "Tokens and cost": [
        lines(
            "Tokens per hour, by type",
            (_per_hour("token_usage_tokens_total", "type"), "{{type}}"),
            stacked=True,
            axis="tokens/h",
        ),
        lines(
            "Tokens per hour, by model",
            (_per_hour("token_usage_tokens_total", "model"), "{{model}}"),
            stacked=True,
            axis="tokens/h",
        ),
        lines(
            "Cost per hour",
            (_per_hour("cost_usage_USD_total", "model"), "coding agents, {{model}}"),
            ("3600 * sum(rate(librechat_llm_cost_usd_total[$__rate_interval]))", "LibreChat"),
            unit="currencyUSD",
            stacked=True,
        ),
        rows_of(
            "Models",
            {
                "cost": _sessions("cost_usage_USD_total", "model"),
                "tokens": _sessions("token_usage_tokens_total", "model"),
            },
            units={"cost": "currencyUSD"},
            text=_WHOLE,
        ),
    ],
    "Activity": [
        lines("Lines of code per hour", (_per_hour("lines_of_code_count_total", "type"), "{{type}}"), axis="lines/h"),
        bars(
            "Suggested edits",
            _sessions("code_edit_tool_decision_total", "decision"),
            "{{decision}}",
            text=_WHOLE,
        ),
        lines("Time at work, per hour", (_per_hour("active_time_seconds_total", "type"), "{{type}}"), unit="s"),
        bars("Tokens by type", _sessions("token_usage_tokens_total", "type"), "{{type}}", text=_WHOLE),
    ],
    "Sessions, where their ids are kept": [
        rows_of(
            "Sessions",
            {
                "cost": _sessions("cost_usage_USD_total", "session_id", _CHOSEN),
                "input": _sessions("token_usage_tokens_total", "session_id", f'{_CHOSEN}, type="input"'),
                "output": _sessions("token_usage_tokens_total", "session_id", f'{_CHOSEN}, type="output"'),
                "from cache": _sessions("token_usage_tokens_total", "session_id", f'{_CHOSEN}, type="cacheRead"'),
                "to cache": _sessions("token_usage_tokens_total", "session_id", f'{_CHOSEN}, type="cacheCreation"'),
                "time at work": _sessions("active_time_seconds_total", "session_id", _CHOSEN),
                "lines": _sessions("lines_of_code_count_total", "session_id", _CHOSEN),
                "commits": _sessions("commit_count_total", "session_id", _CHOSEN),
            },
            units={"cost": "currencyUSD", "time at work": "s"},
            span=24,
            text="Choose one above to see it alone",
        ),
        lines(
            "Tokens of these sessions per hour, by type",
            (_per_hour("token_usage_tokens_total", "type", _CHOSEN), "{{type}}"),
            stacked=True,
            axis="tokens/h",
        ),
        lines(
            "Cost of these sessions per hour",
            (_per_hour("cost_usage_USD_total", "session_id", _CHOSEN), "{{session_id}}"),
            unit="currencyUSD",
            stacked=True,
        ),
    ],
}


def dashboards() -> dict[str, Dashboard]:
    """By the names of their files."""
    served = variable("served", "Served model", 'label_values({__name__=~"vllm[:_]num_requests_running"}, model_name)')
    session = variable("session", "Session", "label_values(claude_code_session_count_total, session_id)")
    return {
        "llm-servers": build(
            "librechat-llm", "LibreChat: LLM servers", "vLLM, GPUs and machines beside LibreChat's demand", LLM, served
        ),
        "coding-agents": build(
            "librechat-coding",
            "LibreChat: coding agents",
            "Claude Code beside LibreChat, over OpenTelemetry",
            CODING,
            session,
        ),
    }
