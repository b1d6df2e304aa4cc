"""The first dashboard: its first screen answers whether it works, who is there, and what it costs."""

from dashboards.panels import BAD_ABOVE_TENTH, BAD_BELOW_ONE, Rows, lines, number, rows_of
from dashboards.queries import I, M, increase, rate

OVERVIEW: Rows = {
    "Now": [
        number(
            "LibreChat and MongoDB",
            f'min({{__name__=~"librechat_up|librechat_api_up", {I}}})',
            steps=BAD_BELOW_ONE,
            span=3,
            text="1 if both answer; LibreChat itself is only asked with LIBRECHAT_URL",
        ),
        number(
            "Answers that fail",
            f"avg(instance:librechat_errors:ratio_rate15m{{{I}}})",
            "percentunit",
            steps=BAD_ABOVE_TENTH,
            span=3,
            text="In the last 15 minutes",
        ),
        number(
            "Waiting time, p95",
            f"max(instance:librechat_answer_seconds:p95_rate15m{{{I}}})",
            "s",
            span=3,
            text="In the last 15 minutes",
        ),
        number("Users in the last 5 minutes", f"sum(librechat_active_users{{{I}}})", span=3),
        number("Users today", f"sum(librechat_daily_unique_users{{{I}}})", span=3),
        number("Messages in this time", increase("librechat_messages_total", I), span=3),
        number("Cost in this time", increase("librechat_llm_cost_usd_total", I), "currencyUSD", span=3),
        number(
            "Cost this month",
            f"sum(instance:librechat_llm_cost_usd:month_to_date{{{I}}})",
            "currencyUSD",
            span=3,
            text="Absent in the month in which Prometheus begins, unless USAGE_WINDOWS has `month`",
        ),
        lines(
            "Users and conversations in the last 5 minutes",
            (f"sum(librechat_active_users{{{I}}})", "users"),
            (f"sum(librechat_active_conversations{{{I}}})", "conversations"),
            axis="users, conversations",
        ),
        lines(
            "Cost per hour, by model",
            (f"3600 * {rate('librechat_llm_cost_usd_total', M, 'model')}", "{{model}}"),
            unit="currencyUSD",
            stacked=True,
        ),
        lines(
            "How long users wait",
            (f"max(instance:librechat_answer_seconds:p50_rate15m{{{I}}})", "p50"),
            (f"max(instance:librechat_answer_seconds:p95_rate15m{{{I}}})", "p95"),
            (f"max(instance:librechat_answer_seconds:p99_rate15m{{{I}}})", "p99"),
            unit="s",
        ),
        lines(
            "Share of answers that fail",
            (f"instance:librechat_errors:ratio_rate15m{{{I}}}", "{{instance}}"),
            unit="percentunit",
        ),
    ],
    "Traffic": [
        lines(
            "Messages per second",
            (rate("librechat_messages_total", I, "instance"), "{{instance}}"),
            axis="messages/s",
        ),
        lines(
            "Answers per second, by model",
            (rate("librechat_messages_per_model_total", M, "model"), "{{model}}"),
            stacked=True,
            axis="answers/s",
        ),
        lines(
            "Tokens per second",
            (rate("librechat_input_tokens_total", I), "users' messages"),
            (rate("librechat_output_tokens_total", I), "answers"),
            axis="tokens/s",
        ),
        rows_of(
            "Models in this time",
            {
                "answers": increase("librechat_messages_per_model_total", M, "model"),
                "failures": increase("librechat_errors_per_model_total", M, "model"),
                "cost": increase("librechat_llm_cost_usd_total", M, "model"),
            },
            units={"cost": "currencyUSD"},
        ),
    ],
    "From day to day": [
        lines(
            "Cost of a day",
            (f"sum(instance:librechat_llm_cost_usd:increase1d{{{I}}})", "the 24 hours before"),
            unit="currencyUSD",
        ),
        lines(
            "Satisfaction",
            (f"avg(librechat_overall_rating_ratio{{{I}}})", "thumbs up among all ratings"),
            unit="percent",
            most=100,
        ),
    ],
}
