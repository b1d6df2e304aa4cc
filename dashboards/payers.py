"""Who uses it, who pays: groups, domains, agents, users, and list cost beside billed cost."""

from dashboards.panels import Rows, bars, lines, number, rows_of
from dashboards.queries import I, M, increase, rate

_MONEY = "currencyUSD"
_TOGETHER = "A member of two groups counts in both. Needs GROUP_METRICS"


def _largest(expression: str, most: int = 20) -> str:
    return f"topk({most}, {expression})"


def _seen(metric: str, by: str, window: str = "30d") -> str:
    return f'sum by ({by}) ({metric}{{{I}, window="{window}"}})'


PAYERS: Rows = {
    "This month": [
        number(
            "Spent",
            f"sum(instance:librechat_llm_cost_usd:month_to_date{{{I}}})",
            _MONEY,
            text="Absent in the month in which Prometheus begins, unless USAGE_WINDOWS has `month`",
        ),
        number(
            "Spent at its end, if it goes on so",
            f"sum(instance:librechat_llm_cost_usd:month_forecast{{{I}}})",
            _MONEY,
            text="The rest of the month at the pace of the last seven days",
        ),
        number("Users in 30 days", f'sum(librechat_window_unique_users{{{I}, window="30d"}})'),
        number(
            "Cost per user in 30 days",
            f'sum(librechat_window_credits_per_model{{{I}, window="30d"}}) / 1e6 '
            f'/ sum(librechat_window_unique_users{{{I}, window="30d"}})',
            _MONEY,
        ),
        number(
            "Come back",
            f'avg(librechat_user_retention_ratio{{{I}, window="30d"}})',
            "percentunit",
            text="Of the users who registered over 30 days ago, those with a message in these",
        ),
        number(
            "New users who write",
            f'avg(librechat_new_user_activation_ratio{{{I}, window="30d"}})',
            "percentunit",
            text="Of the users who registered in the last 30 days",
        ),
    ],
    "Groups": [
        lines(
            "Cost per hour, by group",
            (f"3600 * {rate('librechat_group_cost_usd_total', I, 'group')}", "{{group}}"),
            unit=_MONEY,
            stacked=True,
            text=_TOGETHER,
        ),
        lines(
            "Messages per hour, by group",
            (f"3600 * {rate('librechat_group_messages_total', I, 'group')}", "{{group}}"),
            stacked=True,
            text=_TOGETHER,
            axis="messages/h",
        ),
        rows_of(
            "Groups",
            {
                "cost in this time": increase("librechat_group_cost_usd_total", I, "group"),
                "tokens in this time": increase("librechat_group_tokens_total", I, "group"),
                "messages in this time": increase("librechat_group_messages_total", I, "group"),
                "users in 7 days": _seen("librechat_group_active_users", "group", "7d"),
                "users in 30 days": _seen("librechat_group_active_users", "group"),
            },
            units={"cost in this time": _MONEY},
            span=24,
            text="`none`: users without a group",
        ),
    ],
    "Domains of e-mail addresses": [
        lines(
            "Cost per hour, by domain",
            (f"3600 * {rate('librechat_domain_cost_usd_total', I, 'domain')}", "{{domain}}"),
            unit=_MONEY,
            stacked=True,
            text="Needs DOMAIN_METRICS",
        ),
        rows_of(
            "Domains",
            {
                "cost in this time": increase("librechat_domain_cost_usd_total", I, "domain"),
                "tokens in this time": increase("librechat_domain_tokens_total", I, "domain"),
                "messages in this time": increase("librechat_domain_messages_total", I, "domain"),
                "users in 30 days": _seen("librechat_active_users_by_domain", "domain"),
                "users": f"sum by (domain) (librechat_users_by_domain{{{I}}})",
            },
            units={"cost in this time": _MONEY},
        ),
    ],
    "Agents": [
        lines(
            "Cost per hour, by agent",
            (f"3600 * {rate('librechat_agent_cost_usd_total', I, 'agent')}", "{{agent}}"),
            unit=_MONEY,
            stacked=True,
        ),
        lines(
            "Tokens per hour, by agent",
            (f"3600 * {rate('librechat_agent_tokens_total', I, 'agent')}", "{{agent}}"),
            stacked=True,
            axis="tokens/h",
        ),
        rows_of(
            "Agents",
            {
                "cost in this time": increase("librechat_agent_cost_usd_total", I, "agent"),
                "answers in this time": increase("librechat_agent_answers_total", I, "agent"),
                "that failed": f"{increase('librechat_agent_failed_answers_total', I, 'agent')} "
                f"/ ({increase('librechat_agent_answers_total', I, 'agent')} > 0)",
                "users in 30 days": _seen("librechat_agent_users", "agent"),
                "thumbs up": f"sum by (agent) (librechat_agent_thumbs_up{{{I}}})",
                "thumbs down": f"sum by (agent) (librechat_agent_thumbs_down{{{I}}})",
            },
            units={"cost in this time": _MONEY, "that failed": "percentunit"},
            span=24,
        ),
    ],
    "Users, by hash or id": [
        bars(
            "Cost in this time, the most expensive",
            _largest(increase("librechat_user_cost_usd_total", I, "user")),
            "{{user}}",
            _MONEY,
            text="Needs PER_USER_METRICS; no names are known here",
        ),
        rows_of(
            "The most expensive users",
            {
                "cost in this time": _largest(increase("librechat_user_cost_usd_total", I, "user")),
                "tokens in this time": _largest(increase("librechat_user_tokens_total", I, "user")),
                "messages in this time": _largest(increase("librechat_user_messages_total", I, "user")),
            },
            units={"cost in this time": _MONEY},
        ),
    ],
    "Billed, and by the price list": [
        lines(
            "Cost per hour",
            (f"3600 * {rate('librechat_llm_cost_usd_total', M)}", "billed"),
            (f"3600 * {rate('librechat_llm_list_cost_usd_total', M)}", "by the price list"),
            unit=_MONEY,
            text="The price list is MODEL_PRICES; models without a price are missing in it",
        ),
        rows_of(
            "Models",
            {
                "billed in this time": increase("librechat_llm_cost_usd_total", M, "model"),
                "by the price list": increase("librechat_llm_list_cost_usd_total", M, "model"),
                "tokens without a price": increase("librechat_exporter_unpriced_tokens_total", M, "model"),
            },
            units={"billed in this time": _MONEY, "by the price list": _MONEY},
        ),
    ],
    "When": [
        bars(
            "Messages by the hour of the day",
            f"sum by (hour) (librechat_messages_by_hour_of_day{{{I}}})",
            "{{hour}}",
            text="In the last 30 days, as far as Prometheus has seen them; hours are UTC's",
        ),
        bars(
            "Messages by the day of the week",
            f"sum by (weekday) (librechat_messages_by_weekday{{{I}}})",
            "{{weekday}}",
            text="In the last 30 days, as far as Prometheus has seen them; 1 is Sunday",
        ),
    ],
}
