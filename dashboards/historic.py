"""The dashboard over the historic export's tables in MariaDB."""

from grafana_foundation_sdk.builders import barchart, common, dashboard, stat, table, timeseries
from grafana_foundation_sdk.cog import builder, variants
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models.dashboard import (
    Dashboard,
    DashboardCursorSync,
    DataSourceRef,
    DynamicConfigValue,
    VariableRefresh,
    VariableSort,
)

SOURCE = DataSourceRef(type_val="mysql", uid="${datasource}")
NOTHING = "No data in these days: is the export running?"
# $__timeFilter would convert by the time zone of the connection.
_WITHIN = (
    "BETWEEN '1970-01-01' + INTERVAL $__unixEpochFrom() SECOND AND '1970-01-01' + INTERVAL $__unixEpochTo() SECOND"
)
DAYS = f"date {_WITHIN}"
MODELS = "model IN (${model:sqlstring})"
ALL_MODELS = "SELECT model FROM daily_messages_by_model UNION SELECT model FROM daily_cost_by_model"

Panel = timeseries.Panel | table.Panel | stat.Panel | barchart.Panel


class _Target(variants.Dataquery):
    """A query of Grafana's MySQL data source, for which the SDK has no builder."""

    def __init__(self, sql: str, form: str, name: str) -> None:
        self.sql, self.form, self.name = sql, form, name

    def to_json(self) -> dict[str, object]:
        return {
            "refId": self.name,
            "datasource": SOURCE.to_json(),
            "format": self.form,
            "editorMode": "code",
            "rawQuery": True,
            "rawSql": self.sql,
        }


class _Query(builder.Builder[variants.Dataquery]):
    def __init__(self, sql: str, form: str = "time_series", name: str = "A") -> None:
        self._target = _Target(" ".join(sql.split()), form, name)

    def build(self) -> variants.Dataquery:
        return self._target


def _days(title: str, sql: str, *, unit: str = "short", span: int = 12, stacked: bool = False, text: str = "") -> Panel:
    """Bars or lines by day. A name in the second column makes a series of each."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .with_target(_Query(sql))
        .unit(unit)
        .min(0)
        .span(span)
        .height(8)
        .no_value(NOTHING)
        .tooltip(common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.DESCENDING))
        .legend(
            common.VizLegendOptions()
            .display_mode(kinds.LegendDisplayMode.LIST)
            .placement(kinds.LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
        )
    )
    if " AS metric" in sql:
        panel = panel.display_name("${__field.labels.metric}")
    if stacked:
        panel = (
            panel.draw_style(kinds.GraphDrawStyle.BARS)
            .fill_opacity(80)
            .line_width(0)
            .stacking(common.StackingConfig().mode(kinds.StackingMode.NORMAL).group("A"))
        )
    return panel


def _table(title: str, sql: str, *, span: int = 12, text: str = "", units: dict[str, str] | None = None) -> Panel:
    panel = (
        table.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .with_target(_Query(sql, "table"))
        .span(span)
        .height(9)
        .no_value(NOTHING)
    )
    for column, unit in (units or {}).items():
        panel = panel.override_by_name(column, [DynamicConfigValue(id_val="unit", value=unit)])
    return panel


def _total(title: str, sql: str, unit: str = "short") -> Panel:
    return (
        stat.Panel()
        .title(title)
        .datasource(SOURCE)
        .with_target(_Query(sql, "table"))
        .unit(unit)
        .span(4)
        .height(4)
        .no_value("none")
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(values=False))
        .graph_mode(kinds.BigValueGraphMode.NONE)
    )


def _by(column: str, value: str, of: str, *, where: str = "TRUE") -> str:
    """A series for each name in the column."""
    return (
        f"SELECT CAST(date AS DATETIME) AS time, {column} AS metric, SUM({value}) AS value FROM {of}"
        f" WHERE {DAYS} AND {where} GROUP BY date, {column} ORDER BY date, {column}"
    )


ROWS: dict[str, list[Panel]] = {
    "In these days": [
        _total("Messages", f"SELECT SUM(total_messages) AS messages FROM daily_messages WHERE {DAYS}"),
        _total(
            "New conversations", f"SELECT SUM(total_conversations) AS conversations FROM daily_messages WHERE {DAYS}"
        ),
        _total("Users on the busiest day", f"SELECT MAX(unique_users) AS users FROM daily_users WHERE {DAYS}"),
        _total("Cost", f"SELECT SUM(cost_usd) AS cost FROM daily_cost_by_model WHERE {DAYS}", "currencyUSD"),
        _total(
            "Answers that failed",
            f"""SELECT (SELECT SUM(error_count) FROM daily_errors_by_model WHERE {DAYS})
            / NULLIF(SUM(message_count), 0) AS failed FROM daily_messages_by_model WHERE {DAYS}""",
            "percentunit",
        ),
        _total(
            "Satisfaction",
            f"""SELECT SUM(thumbs_up) / NULLIF(SUM(thumbs_up + thumbs_down), 0) AS satisfaction
            FROM daily_ratings_by_model WHERE {DAYS}""",
            "percentunit",
        ),
    ],
    "Users": [
        _days(
            "Users per day",
            f"SELECT CAST(date AS DATETIME) AS time, unique_users AS users FROM daily_users WHERE {DAYS} ORDER BY date",
        ),
        _days("New users per day, by provider", _by("provider", "users", "daily_new_users"), stacked=True),
        _days(
            "Users per week",
            f"""SELECT CAST(week_start AS DATETIME) AS time, unique_users AS users FROM weekly_users
            WHERE week_start {_WITHIN} ORDER BY week_start""",
            text="Weeks from Monday, once they are over",
        ),
        _days(
            "Users per month",
            f"""SELECT CAST(month_start AS DATETIME) AS time, unique_users AS users FROM monthly_users
            WHERE month_start {_WITHIN} ORDER BY month_start""",
            text="Once the month is over",
        ),
    ],
    "Messages": [
        _days(
            "Messages and new conversations per day",
            f"""SELECT CAST(date AS DATETIME) AS time, total_messages AS messages, total_conversations AS conversations
            FROM daily_messages WHERE {DAYS} ORDER BY date""",
        ),
        _days(
            "Messages per user and day",
            f"""SELECT CAST(m.date AS DATETIME) AS time, m.total_messages / NULLIF(u.unique_users, 0) AS messages
            FROM daily_messages m JOIN daily_users u ON u.date = m.date WHERE m.date {_WITHIN} ORDER BY m.date""",
        ),
        _days(
            "Answers per day, by model",
            _by("model", "message_count", "daily_messages_by_model", where=MODELS),
            stacked=True,
            span=24,
        ),
    ],
    "Tokens and cost": [
        _days(
            "Input tokens per day, by model",
            _by("model", "input_tokens", "daily_tokens_by_model", where=MODELS),
            stacked=True,
            text="Of the questions, once for each answer",
        ),
        _days(
            "Output tokens per day, by model",
            _by("model", "output_tokens", "daily_tokens_by_model", where=MODELS),
            stacked=True,
        ),
        _days(
            "Tokens per user and day",
            f"""SELECT CAST(t.date AS DATETIME) AS time,
            SUM(t.input_tokens + t.output_tokens) / NULLIF(MAX(u.unique_users), 0) AS tokens
            FROM daily_tokens_by_model t JOIN daily_users u ON u.date = t.date
            WHERE t.date {_WITHIN} GROUP BY t.date ORDER BY t.date""",
        ),
        _days(
            "Cost per day, by model",
            _by("model", "cost_usd", "daily_cost_by_model", where=MODELS),
            unit="currencyUSD",
            stacked=True,
            text="As LibreChat bills it; needs transactions to be enabled there",
        ),
        _days(
            "Cost per day, by context",
            _by("context", "cost_usd", "daily_cost_by_model", where=MODELS),
            unit="currencyUSD",
            stacked=True,
            text="What the tokens were for: messages, titles, summaries …",
        ),
        _table(
            "Tokens and cost, by model",
            f"""SELECT model, SUM(input_tokens) AS 'input', SUM(cache_read_tokens) AS 'from cache',
            SUM(cache_write_tokens) AS 'to cache', SUM(output_tokens) AS 'output', SUM(cost_usd) AS 'cost'
            FROM daily_cost_by_model WHERE {DAYS} AND {MODELS} GROUP BY model ORDER BY SUM(cost_usd) DESC""",
            units={"cost": "currencyUSD"} | dict.fromkeys(("input", "output", "from cache", "to cache"), "short"),
        ),
    ],
    "Who uses it, who pays": [
        _days(
            "Cost per day, by group",
            _by("group_name", "cost_usd", "daily_usage_by_group"),
            unit="currencyUSD",
            stacked=True,
            text="With GROUP_METRICS=true. A member of two groups counts in both",
        ),
        _days(
            "Messages per day, by group",
            _by("group_name", "messages", "daily_usage_by_group"),
            stacked=True,
            text="A member of two groups counts in both",
        ),
        _table(
            "Groups",
            f"""SELECT group_name AS 'group', SUM(messages) AS 'messages',
            MAX(active_users) AS 'users on the busiest day',
            SUM(input_tokens + output_tokens + cache_read_tokens + cache_write_tokens) AS 'tokens',
            SUM(cost_usd) AS 'cost'
            FROM daily_usage_by_group WHERE {DAYS} GROUP BY group_name ORDER BY SUM(cost_usd) DESC""",
            units={"cost": "currencyUSD", "tokens": "short"},
        ),
        _table(
            "Agents",
            f"""SELECT agent, SUM(answers) AS 'answers', SUM(failed_answers) / NULLIF(SUM(answers), 0) AS 'failed',
            MAX(users) AS 'users on the busiest day',
            SUM(input_tokens + output_tokens + cache_read_tokens + cache_write_tokens) AS 'tokens',
            SUM(cost_usd) AS 'cost'
            FROM daily_usage_by_agent WHERE {DAYS} GROUP BY agent ORDER BY SUM(cost_usd) DESC""",
            units={"cost": "currencyUSD", "tokens": "short", "failed": "percentunit"},
        ),
        _days(
            "Cost per day, billed and by the price list",
            f"""SELECT CAST(date AS DATETIME) AS time,
            SUM(cost_usd) AS billed, SUM(list_cost_usd) AS 'by the price list'
            FROM daily_cost_by_model WHERE {DAYS} AND {MODELS} GROUP BY date ORDER BY date""",
            unit="currencyUSD",
            text="The price list is MODEL_PRICES; models without a price are missing in it",
        ),
        _days(
            "Cost per day, by agent", _by("agent", "cost_usd", "daily_usage_by_agent"), unit="currencyUSD", stacked=True
        ),
    ],
    "Quality": [
        _days(
            "Failed messages per day, by model",
            _by("model", "error_count", "daily_errors_by_model", where=MODELS),
            stacked=True,
        ),
        _days(
            "Share of answers that failed, by model",
            f"""SELECT CAST(a.date AS DATETIME) AS time, a.model AS metric,
            COALESCE(e.error_count, 0) / NULLIF(a.message_count, 0) AS value
            FROM daily_messages_by_model a LEFT JOIN daily_errors_by_model e ON e.date = a.date AND e.model = a.model
            WHERE a.date {_WITHIN} AND a.{MODELS} ORDER BY a.date, a.model""",
            unit="percentunit",
        ),
        _days(
            "Ratings per day",
            f"""SELECT CAST(date AS DATETIME) AS time, SUM(thumbs_up) AS up, SUM(thumbs_down) AS down
            FROM daily_ratings_by_model WHERE {DAYS} AND {MODELS} GROUP BY date ORDER BY date""",
            stacked=True,
            text="By the day of the answer",
        ),
        _table(
            "Satisfaction, by model",
            f"""SELECT model, SUM(thumbs_up) AS 'up', SUM(thumbs_down) AS 'down',
            SUM(thumbs_up) / NULLIF(SUM(thumbs_up + thumbs_down), 0) AS 'satisfaction'
            FROM daily_ratings_by_model WHERE {DAYS} AND {MODELS} GROUP BY model
            ORDER BY SUM(thumbs_up + thumbs_down) DESC""",
            span=6,
            units={"satisfaction": "percentunit"},
        ),
        _table(
            "Reasons given",
            f"""SELECT IF(tag = '', 'none', tag) AS reason, SUM(thumbs_up + thumbs_down) AS ratings
            FROM daily_ratings_by_model WHERE {DAYS} AND {MODELS} GROUP BY tag ORDER BY ratings DESC""",
            span=6,
        ),
    ],
    "Tools": [
        _days("Tool calls per day", _by("tool_name", "calls", "daily_tool_calls"), stacked=True),
        _table(
            "Tools",
            f"""SELECT tool_name AS tool, SUM(calls) AS 'calls', SUM(errors) AS 'failed',
            SUM(errors) / NULLIF(SUM(calls), 0) AS 'share' FROM daily_tool_calls
            WHERE {DAYS} GROUP BY tool_name ORDER BY SUM(calls) DESC""",
            units={"share": "percentunit"},
        ),
    ],
    "Who uses most": [
        _table(
            "Top users",
            f"""SELECT user, COUNT(*) AS 'days', SUM(input_tokens) AS 'input', SUM(output_tokens) AS 'output'
            FROM daily_tokens_by_user WHERE {DAYS} GROUP BY user
            ORDER BY SUM(input_tokens + output_tokens) DESC LIMIT 50""",
            text="LibreChat's user ids, or what USER_IDS makes of them",
            units={"input": "short", "output": "short"},
        ),
        _table(
            "Last exports",
            """SELECT started_at AS 'began (UTC)', range_start AS 'from', range_end AS 'to', days_written AS 'days',
            rows_written AS 'rows', seconds, outcome FROM export_runs ORDER BY id DESC LIMIT 20""",
            units={"seconds": "s"},
        ),
    ],
}


def build() -> Dashboard:
    """The dashboard as the SDK's model."""
    one = (
        dashboard.Dashboard("LibreChat: history")
        .uid("librechat-history")
        .description("Daily, weekly and monthly aggregates of LibreChat, from the historic export")
        .tags(["librechat"])
        .time("now-90d", "now")
        .timezone("utc")
        .refresh("")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("mysql"))
        .with_variable(
            dashboard.QueryVariable("model")
            .label("Model")
            .datasource(SOURCE)
            .query(ALL_MODELS)
            .all_value(ALL_MODELS)  # not the names, which would leave `IN ()` where there is none yet
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.ALPHABETICAL_ASC)
            .multi(multi=True)
            .include_all(include_all=True)
        )
    )
    for title, panels in ROWS.items():
        one = one.with_row(dashboard.Row(title))
        for panel in panels:
            one = one.with_panel(panel)
    return one.build()
