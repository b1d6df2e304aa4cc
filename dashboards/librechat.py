"""The dashboards over the daemon's metrics, by what they are about."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.health import HEALTH
from dashboards.overview import OVERVIEW
from dashboards.panels import (
    Rows,
    bars,
    build,
    lines,
    number,
    rows_of,
    variable,
)
from dashboards.payers import PAYERS
from dashboards.queries import RANGE, I, M, increase, quantile, rate
from dashboards.service import SERVICE

COST: Rows = {
    "Spending": [
        number("In the last hour", f"sum(instance:librechat_llm_cost_usd:increase1h{{{I}}})", "currencyUSD", span=6),
        number(
            "In the last 24 hours", f"sum(instance:librechat_llm_cost_usd:increase1d{{{I}}})", "currencyUSD", span=6
        ),
        number(
            "This month",
            f"sum(instance:librechat_llm_cost_usd:month_to_date{{{I}}})",
            "currencyUSD",
            span=6,
            text="Absent in the month in which Prometheus begins, unless USAGE_WINDOWS has `month`",
        ),
        number(
            "Forecast for this month",
            f"sum(instance:librechat_llm_cost_usd:month_forecast{{{I}}})",
            "currencyUSD",
            span=6,
            text="The rest of the month at the pace of the last seven days",
        ),
        lines(
            "Cost per hour, by model",
            (f"3600 * {rate('librechat_llm_cost_usd_total', M, 'model')}", "{{model}}"),
            unit="currencyUSD",
            stacked=True,
        ),
        lines(
            "Cost per hour, by what it is for",
            (f"3600 * {rate('librechat_llm_cost_usd_total', M, 'context')}", "{{context}}"),
            unit="currencyUSD",
            stacked=True,
        ),
    ],
    "Tokens as they are billed": [
        lines(
            "Tokens per second, by kind",
            (rate("librechat_llm_tokens_total", M, "token_type"), "{{token_type}}"),
            stacked=True,
            axis="tokens/s",
        ),
        lines(
            "Tokens per second, by model",
            (rate("librechat_llm_tokens_total", M, "model"), "{{model}}"),
            stacked=True,
            axis="tokens/s",
        ),
        lines(
            "Share of the prompt that comes from the cache",
            (
                f"""sum by (model) (rate(librechat_llm_tokens_total{{{M}, token_type="cache_read"}}[1h]))
                / (sum by (model) (rate(librechat_llm_tokens_total{{{M}, token_type=~"input|cache_.*"}}[1h])) > 0)""",
                "{{model}}",
            ),
            unit="percentunit",
            most=1,
        ),
        rows_of(
            "Models in this time",
            {
                "answers": increase("librechat_messages_per_model_total", M, "model"),
                "cost": increase("librechat_llm_cost_usd_total", M, "model"),
                "tokens": increase("librechat_llm_tokens_total", M, "model"),
            },
            units={"cost": "currencyUSD"},
        ),
    ],
    "In windows": [
        bars(
            "Answers in 7 days", f'sum by (model) (librechat_window_answers_per_model{{{M}, window="7d"}})', "{{model}}"
        ),
        bars(
            "Cost in 7 days, by model",
            f'sum by (model) (librechat_window_credits_per_model{{{M}, window="7d"}}) / 1e6',
            "{{model}}",
            "currencyUSD",
        ),
        rows_of(
            "By where the model runs, in 7 days",
            {
                "answers": f'sum by (class) (librechat_window_answers_per_model{{{M}, window="7d"}})',
                "tokens": f'sum by (class) (librechat_window_tokens_per_model{{{M}, window="7d"}})',
                "charged": f'sum by (class) (librechat_window_credits_per_model{{{M}, window="7d"}}) / 1e6',
            },
            units={"charged": "currencyUSD"},
            text="`unclassified` without EXTERNAL_MODEL_REGEX",
        ),
        rows_of(
            "Background requests in 7 days",
            {
                "tokens": f'sum by (context) (librechat_window_background_tokens_per_model{{{M}, window="7d"}})',
                "charged": f"""sum by (context) (librechat_window_credits_per_model{{
                    {M}, window="7d", context!~"message|incomplete|abort|subagent|sequential"}}) / 1e6""",
            },
            units={"charged": "currencyUSD"},
        ),
    ],
    "What users may spend": [
        lines(
            "Users by what they have left",
            (f"sum by (state) (librechat_balance_users{{{I}}})", "{{state}}"),
            stacked=True,
            axis="users",
        ),
        lines(
            "Credits",
            (f"sum(librechat_balance_credits{{{I}}})", "left to users"),
            (f"sum(increase(librechat_credits_granted_total{{{I}}}[1d]))", "granted in the 24 hours before"),
            axis="credits",
        ),
    ],
}

USERS: Rows = {
    "Who is there": [
        number("Registered", f"sum(librechat_registered_users_total{{{I}}})", text="Ever"),
        number("Logged in", f"sum(librechat_logged_in_users{{{I}}})"),
        number("Today", f"sum(librechat_daily_unique_users{{{I}}})"),
        number("This week", f"sum(librechat_weekly_unique_users{{{I}}})"),
        number("This month", f"sum(librechat_monthly_unique_users{{{I}}})"),
        number(
            "Share of users active this month",
            f"sum(librechat_monthly_unique_users{{{I}}}) / sum(librechat_users{{{I}}})",
            "percentunit",
            text="This month's users among the users there are",
        ),
        lines(
            "Unique users",
            (f"sum(librechat_daily_unique_users{{{I}}})", "since midnight"),
            (f"sum(librechat_weekly_unique_users{{{I}}})", "since Monday"),
            (f"sum(librechat_monthly_unique_users{{{I}}})", "since the first"),
            axis="users",
        ),
        lines(
            "Users with a chat request",
            (f"sum by (window) (librechat_window_unique_users{{{I}}})", "in {{window}}"),
            axis="users",
        ),
        lines(
            "New users per day",
            (increase("librechat_registered_users_total", I, during="1d"), "in the 24 hours before"),
            axis="users/day",
        ),
        bars("Users by provider", f"sum by (provider) (librechat_users{{{I}}})", "{{provider}}"),
    ],
    "How they use it": [
        lines(
            "New conversations per hour",
            (f"3600 * {rate('librechat_conversations_total', I)}", "conversations"),
            axis="conversations/h",
        ),
        lines(
            "Messages per active user and day",
            (
                f"""sum(increase(librechat_messages_total{{{I}}}[1d]))
                / (sum(librechat_window_unique_users{{{I}, window="1d"}}) > 0)""",
                "messages",
            ),
            axis="messages",
        ),
        bars(
            "Conversations by their messages",
            f"sum by (le) (librechat_conversation_messages_bucket{{{I}}})",
            "{{le}}",
            text="Of the last 30 days; so many messages, and more than the bar before",
            is_distribution=True,
        ),
        rows_of(
            "Features",
            {
                "memories": f"sum by (instance) (librechat_memory_entries_total{{{I}}})",
                "shared links": f"sum by (instance) (librechat_shared_links_total{{{I}}})",
                "agents": f"sum by (instance) (librechat_agents_total{{{I}}})",
            },
        ),
        lines(
            "Files uploaded per day",
            (increase("librechat_uploaded_files_total", I, during="1d"), "in the 24 hours before"),
            axis="files/day",
        ),
        bars("Stored files", f"sum by (type) (librechat_files_bytes{{{I}}})", "{{type}}", "bytes"),
    ],
}

QUALITY: Rows = {
    "Failures": [
        lines(
            "Share of answers that fail, by model",
            (f"instance_model:librechat_errors:ratio_rate30m{{{M}}}", "{{model}} {{instance}}"),
            unit="percentunit",
            text="In the 30 minutes before",
        ),
        lines(
            "Failed messages per hour, by model",
            (f"3600 * {rate('librechat_errors_per_model_total', M, 'model')}", "{{model}}"),
            stacked=True,
            axis="messages/h",
        ),
        bars(
            "Why requests were rejected, in 7 days",
            f'sum by (reason) (librechat_window_rejected_requests{{{I}, window="7d"}})',
            "{{reason}}",
        ),
        lines(
            "Share of answers that were stopped, in 7 days",
            (
                f"""sum by (model) (librechat_window_unfinished_answers_per_model{{{M}, window="7d"}})
            / (sum by (model) (librechat_window_answers_per_model{{{M}, window="7d"}}) > 0)""",
                "{{model}}",
            ),
            unit="percentunit",
        ),
    ],
    "Waiting": [
        lines(
            "How long users wait",
            (quantile(0.5, M), "p50"),
            (quantile(0.95, M), "p95"),
            (quantile(0.99, M), "p99"),
            unit="s",
        ),
        lines("Waiting time, by model, p95", (quantile(0.95, M, "model, le"), "{{model}}"), unit="s"),
        lines(
            "Tokens of an answer, p50",
            (
                f"histogram_quantile(0.5, sum by (model, le) (rate(librechat_answer_tokens_bucket{{{M}}}[{RANGE}])))",
                "{{model}}",
            ),
            axis="tokens",
        ),
        lines(
            "LibreChat's own response",
            (f"librechat_api_response_seconds{{{I}}}", "{{instance}}"),
            unit="s",
            text="Needs LIBRECHAT_URL",
        ),
    ],
    "Ratings": [
        number("Good", f"sum(librechat_thumbs_up_total{{{I}}})", span=6),
        number("Bad", f"sum(librechat_thumbs_down_total{{{I}}})", span=6),
        number("Satisfaction", f"avg(librechat_overall_rating_ratio{{{I}}})", "percent", span=6),
        number("Rated messages", f"sum(librechat_rated_messages_total{{{I}}})", span=6),
        bars(
            "Satisfaction by model", f"avg by (model) (librechat_rating_ratio_per_model{{{M}}})", "{{model}}", "percent"
        ),
        bars("Reasons", f"sum by (tag) (librechat_rating_counts_per_tag{{{I}}})", "{{tag}}"),
        rows_of(
            "Ratings by model and reason",
            {
                "good": f"sum by (model, tag) (librechat_model_tag_thumbs_up{{{M}}})",
                "bad": f"sum by (model, tag) (librechat_model_tag_thumbs_down{{{M}}})",
            },
            span=24,
        ),
    ],
}

TOOLS: Rows = {
    "Tools": [
        number("Tool calls in this time", increase("librechat_tool_calls_total", I), span=6),
        number("Failed", increase("librechat_tool_call_errors_total", I), span=6),
        number("Messages with tools", increase("librechat_messages_with_tools_total", I), span=6),
        number("Users of tools now", f"sum(librechat_active_tool_users{{{I}}})", span=6, text="In the last 5 minutes"),
        lines(
            "Tool calls per hour",
            (f"3600 * {rate('librechat_tool_calls_per_tool', I, 'tool_name')}", "{{tool_name}}"),
            stacked=True,
            axis="calls/h",
        ),
        lines(
            "Failed calls per hour",
            (f"3600 * {rate('librechat_tool_call_errors_per_tool_total', I, 'tool_name')}", "{{tool_name}}"),
            stacked=True,
            axis="calls/h",
        ),
        bars(
            "Calls that did not fail",
            f"avg by (tool_name) (librechat_tool_success_rate_per_tool{{{I}}})",
            "{{tool_name}}",
            "percent",
        ),
        rows_of("Tools and models", {"calls": f"sum by (tool_name, model) (librechat_tool_calls_per_model{{{M}}})"}),
    ],
    "MCP servers": [
        rows_of(
            "Servers",
            {
                "calls": f"sum by (server) (librechat_mcp_tool_calls_per_server{{{I}}})",
                "failed": f"sum by (server) (librechat_mcp_tool_call_errors_per_server{{{I}}})",
            },
        ),
        lines(
            "Calls per hour",
            (f"3600 * {rate('librechat_mcp_tool_calls_per_server', I, 'server')}", "{{server}}"),
            stacked=True,
            axis="calls/h",
        ),
    ],
    "Agents": [
        lines(
            "Answers per hour, by agent",
            (f"3600 * {rate('librechat_agent_answers_total', I, 'agent')}", "{{agent}}"),
            stacked=True,
            axis="answers/h",
        ),
        bars("Answers in this time", increase("librechat_agent_answers_total", I, "agent"), "{{agent}}"),
        bars("Agents by category", f"sum by (category) (librechat_agents_total{{{I}}})", "{{category}}"),
    ],
}

_INSTANCES = variable("instance", "Exporter", "label_values(librechat_up, instance)")
_MODELS = variable("model", "Model", 'label_values(librechat_messages_per_model_total{instance=~"$instance"}, model)')


def dashboards() -> dict[str, Dashboard]:
    """By the names of their files."""
    made = {
        "Grafana-Dashboard-template": ("overview", "overview", "What happens in LibreChat", OVERVIEW),
        "models-and-cost": ("cost", "models and cost", "Which models cost what, and what is left to spend", COST),
        "who-uses-it-who-pays": (
            "payers",
            "who uses it, who pays",
            "Groups, agents, users, and what they cost",
            PAYERS,
        ),
        "users-and-adoption": ("users", "users and adoption", "Who uses LibreChat, and how", USERS),
        "librechat-service": ("service", "LibreChat service", "LibreChat's own metrics beside the exporter's", SERVICE),
        "quality": ("quality", "quality", "What fails, how long users wait, what they think of it", QUALITY),
        "tools-and-agents": ("tools", "tools and agents", "Which tools, MCP servers and agents are used", TOOLS),
        "exporter-health": ("health", "exporter health", "Whether these figures can be relied on", HEALTH),
    }
    return {
        name: build(f"librechat-{uid}", f"LibreChat: {title}", text, rows, _INSTANCES, _MODELS)
        for name, (uid, title, text, rows) in made.items()
    }
