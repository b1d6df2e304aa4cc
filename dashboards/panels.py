"""Panels and variables that the dashboards over Prometheus share."""

from typing import Any

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models.dashboard import (
    Dashboard,
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
# What a panel shows that has nothing to show.
EMPTY = "nothing yet"

Panel = timeseries.Panel | table.Panel | stat.Panel | bargauge.Panel
Rows = dict[str, list[Panel]]
# Values from which on a colour holds; the first begins at the very bottom.
Steps = list[tuple[str, float | None]]

GREEN: Steps = [("green", None)]
BAD_ABOVE_TENTH: Steps = [("green", None), ("orange", 0.05), ("red", 0.1)]
BAD_BELOW_ONE: Steps = [("red", None), ("green", 1)]


def _target(expression: str, legend: str, name: str, *, instant: bool = False) -> prometheus.Dataquery:
    query = prometheus.Dataquery().expr(" ".join(expression.split())).legend_format(legend).ref_id(name)
    if instant:
        return query.instant().format(PromQueryFormat.TABLE if legend == "table" else PromQueryFormat.TIME_SERIES)
    return query.range()


def _steps(steps: Steps) -> dashboard.ThresholdsConfig:
    return (
        dashboard.ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(color=color, value=value) for color, value in steps])
    )


def lines(
    title: str,
    *queries: tuple[str, str],
    unit: str = "short",
    span: int = 12,
    stacked: bool = False,
    axis: str = "",
    text: str = "",
    most: float | None = None,
) -> timeseries.Panel:
    """Lines over time.

    queries: expressions and the legends of their series. axis: the axis' unit where Grafana has none for it.
    """
    panel = (
        timeseries.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .span(span)
        .height(8)
        .no_value(EMPTY)
        .tooltip(common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.DESCENDING))
        .legend(
            common.VizLegendOptions()
            .display_mode(kinds.LegendDisplayMode.LIST)
            .placement(kinds.LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
        )
    )
    if axis:
        panel = panel.axis_label(axis)
    if most is not None:
        panel = panel.max(most)
    if stacked:
        panel = panel.fill_opacity(40).stacking(common.StackingConfig().mode(kinds.StackingMode.NORMAL).group("A"))
    for number, (expression, legend) in enumerate(queries):
        panel = panel.with_target(_target(expression, legend, chr(ord("A") + number)))
    return panel


def number(
    title: str, expression: str, unit: str = "short", *, span: int = 4, text: str = "", steps: Steps = GREEN
) -> stat.Panel:
    """One number, as it is now."""
    return (
        stat.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .with_target(_target(expression, "", "A", instant=True))
        .unit(unit)
        .span(span)
        .height(4)
        .no_value(EMPTY)
        .thresholds(_steps(steps))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(values=False))
        .graph_mode(kinds.BigValueGraphMode.NONE)
    )


def bars(
    title: str,
    expression: str,
    legend: str,
    unit: str = "short",
    *,
    span: int = 12,
    text: str = "",
    is_distribution: bool = False,
) -> Panel:
    """A bar for each series, as it is now. is_distribution: the series are a histogram's buckets, which Grafana tells
    apart; as they are served, each holds those before it.
    """
    target = _target(expression, legend, "A", instant=True)
    if is_distribution:
        target = target.format(PromQueryFormat.HEATMAP)
    return (
        bargauge.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .with_target(target)
        .unit(unit)
        .min(0)
        .span(span)
        .height(8)
        .no_value(EMPTY)
        .thresholds(_steps(GREEN))
        .orientation(kinds.VizOrientation.HORIZONTAL)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(values=False))
    )


def rows_of(
    title: str, columns: dict[str, str], *, units: dict[str, str] | None = None, span: int = 12, text: str = ""
) -> table.Panel:
    """A table: a row for each combination of labels, a column for each expression."""
    panel = table.Panel().title(title).description(text).datasource(SOURCE).span(span).height(8).no_value(EMPTY)
    hidden = {"Time": True, "job": True, "instance": True, "__name__": True}
    renamed = {}
    for position, (column, expression) in enumerate(columns.items()):
        name = chr(ord("A") + position)
        panel = panel.with_target(_target(expression, "table", name, instant=True))
        renamed["Value" if len(columns) == 1 else f"Value #{name}"] = column
    panel = panel.with_transformation(_transformation("merge", {})).with_transformation(
        _transformation("organize", {"excludeByName": hidden, "renameByName": renamed})
    )
    for column, unit in (units or {}).items():
        panel = panel.override_by_name(column, [DynamicConfigValue(id_val="unit", value=unit)])
    return panel


def _transformation(name: str, options: dict[str, object]) -> Any:
    return DataTransformerConfig(id_val=name, options=options)


def variable(name: str, label: str, query: str) -> dashboard.QueryVariable:
    """Values of a label to choose from; all of them at first."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(query)
        .all_value(".*")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
    )


def build(uid: str, title: str, text: str, rows: Rows, *variables: dashboard.QueryVariable) -> Dashboard:
    """A dashboard with the data source as its first variable, and links to the others."""
    one = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(text)
        .tags(["librechat"])
        .time("now-24h", "now")
        .timezone("browser")
        .refresh("1m")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("LibreChat")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["librechat"])
            .as_dropdown(as_dropdown=True)
            .keep_time(keep_time=True)
            .include_vars(include_vars=True)
        )
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    for each in variables:
        one = one.with_variable(each)
    for name, panels in rows.items():
        one = one.with_row(dashboard.Row(name))
        for panel in panels:
            one = one.with_panel(panel)
    return one.build()


def json(one: Dashboard) -> str:
    """As Grafana reads it."""
    encoder: Any = JSONEncoder(indent=2, sort_keys=True, ensure_ascii=False)
    return str(encoder.encode(one)) + "\n"
