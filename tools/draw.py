"""Draws a dashboard from its JSON and a Prometheus' answers, so that its layout can be looked at without Grafana.

It is a drawing, not Grafana: panels stand where Grafana puts them and show what their queries find.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

from tools.prometheus import Prometheus

_LENGTH, _STEP, _TICK = timedelta(hours=24), timedelta(minutes=5), timedelta(hours=4)
_VARIABLES = {"__range": "24h", "__rate_interval": "5m", "__interval": "5m"}
_COLUMNS, _COLUMN_INCHES, _ROW_INCHES = 24, 0.58, 0.38
_COLOURS = (
    "#2f6fde",
    "#e07b00",
    "#2a9d5c",
    "#c2397d",
    "#7a55c7",
    "#0f8fa3",
    "#8a8f98",
    "#a3341f",
    "#5b7a12",
    "#1f4a7a",
)
_FAINT, _LINE, _PAGE = "#57606a", "#d8dee4", "#f6f7f9"
_MOST_ROWS, _MOST_SERIES = 9, 10
_LETTERS_PER_INCH = 13  # of a title
Panel = dict[str, Any]


def draw(dashboard: dict[str, Any], prometheus: Prometheus, end: datetime, file: Path, rows: int | None = None) -> None:
    """Writes a PNG. rows: of Grafana's grid, from the top, instead of all."""
    variables = _VARIABLES | {one["name"]: one.get("allValue") or "" for one in dashboard["templating"]["list"]}
    panels = [one for one in dashboard["panels"] if rows is None or one["gridPos"]["y"] < rows]
    height = max(one["gridPos"]["y"] + one["gridPos"]["h"] for one in panels)
    figure = Figure(figsize=(_COLUMNS * _COLUMN_INCHES, height * _ROW_INCHES), facecolor=_PAGE)
    for panel in panels:
        place = panel["gridPos"]
        left, width = place["x"] / _COLUMNS, place["w"] / _COLUMNS
        bottom, high = 1 - (place["y"] + place["h"]) / height, place["h"] / height
        axes = figure.add_axes((left + 0.002, bottom + 0.06 / height, width - 0.004, high - 0.12 / height))
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_color(_LINE if panel["type"] != "row" else _PAGE)
        axes.set_facecolor("white" if panel["type"] != "row" else _PAGE)
        _DRAWN[panel["type"]](axes, panel, _Answers(prometheus, end, variables))
    figure.savefig(file, dpi=100)


class _Answers:
    """The answers to the queries of panels."""

    def __init__(self, prometheus: Prometheus, end: datetime, variables: Mapping[str, str]) -> None:
        self._prometheus = prometheus
        self.end = end
        self.begin = end - _LENGTH
        self._variables = variables

    def _expression(self, target: Panel) -> str:
        return re.sub(r"\$(\w+)", lambda found: self._variables[found[1]], target["expr"])

    def now(self, target: Panel) -> list[tuple[dict[str, str], float]]:
        """Labels and values."""
        time = str(self.end.timestamp())
        found = self._prometheus.get("query", query=self._expression(target), time=time)["result"]
        return [(one["metric"], float(one["value"][1])) for one in found]

    def over_time(self, target: Panel) -> Iterator[tuple[str, list[float], list[float]]]:
        """Legends, Unix times and values."""
        span = {"start": str(self.begin.timestamp()), "end": str(self.end.timestamp())}
        step = str(_STEP.total_seconds())
        found = self._prometheus.get("query_range", query=self._expression(target), step=step, **span)["result"]
        for one in found:
            moments, values = zip(*one["values"], strict=True)
            yield legend(target, one["metric"]), list(moments), list(map(float, values))


def legend(target: Panel, labels: Mapping[str, str]) -> str:
    """As Grafana fills in `{{label}}`."""
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), target["legendFormat"]).strip()


def _title(axes: Axes, panel: Panel) -> None:
    title, most = panel["title"], int(panel["gridPos"]["w"] * _COLUMN_INCHES * _LETTERS_PER_INCH)
    shown = title if len(title) <= most else f"{title[: most - 1]}…"
    axes.annotate(
        shown, (0, 1), (8, -14), xycoords="axes fraction", textcoords="offset points", fontsize=8, weight="bold"
    )


def _unit(panel: Panel) -> str:
    return str(panel["fieldConfig"]["defaults"].get("unit", "short"))


def told(value: float, unit: str) -> str:
    """A value in one of Grafana's units."""
    if unit in ("percentunit", "percent"):
        return f"{value * (100 if unit == 'percentunit' else 1):.3g} %"
    if unit == "currencyUSD":
        return f"${_short(value)}"
    if unit == "s":
        return f"{value * 1000:.3g} ms" if abs(value) < 1 and value else f"{value:.3g} s"
    suffix = {"bytes": "B", "Bps": "B/s", "watt": "W", "celsius": "°C"}.get(unit, "")
    short = _short(value)
    return short + suffix if " " in short else f"{short} {suffix}".rstrip()


def _short(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if abs(value) >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g}"


def _row(axes: Axes, panel: Panel, _answers: _Answers) -> None:
    axes.text(0.003, 0.5, f"▾ {panel['title']}", fontsize=10, va="center", weight="bold")


def _empty(axes: Axes, panel: Panel) -> None:
    text = panel["fieldConfig"]["defaults"].get("noValue", "No data")
    axes.text(0.5, 0.45, text, ha="center", va="center", fontsize=11, color=_FAINT)


def _number(axes: Axes, panel: Panel, answers: _Answers) -> None:
    _title(axes, panel)
    found = answers.now(panel["targets"][0])
    if not found:
        _empty(axes, panel)
        return
    value = found[0][1]
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    colour = [one["color"] for one in steps if one["value"] is None or value >= one["value"]][-1]
    shade = {"green": "#116329", "orange": "#b35900", "red": "#a40e26"}.get(colour, "black")
    axes.text(0.5, 0.4, told(value, _unit(panel)), ha="center", va="center", fontsize=20, color=shade, weight="bold")


def _inner(axes: Axes, panel: Panel, left: float = 0.09, bottom: float = 0.2) -> Axes:
    _title(axes, panel)
    inner = axes.inset_axes((left, bottom, 0.97 - left, 0.83 - bottom))
    inner.tick_params(labelsize=8, colors=_FAINT, length=0)
    for name, spine in inner.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color(_LINE)
    return inner


def _lines(axes: Axes, panel: Panel, answers: _Answers) -> None:
    series = [one for target in panel["targets"] for one in answers.over_time(target)]
    if not series:
        _title(axes, panel)
        _empty(axes, panel)
        return
    inner = _inner(axes, panel)
    custom = panel["fieldConfig"]["defaults"].get("custom", {})
    series = sorted(series, key=lambda one: -sum(one[2]) / len(one[2]))[:_MOST_SERIES]
    if "stacking" in custom:
        moments = sorted({moment for _, of, _ in series for moment in of})
        stacked = [[dict(zip(of, values, strict=True)).get(one, 0.0) for one in moments] for _, of, values in series]
        inner.stackplot(moments, stacked, labels=[name for name, _, _ in series], colors=_COLOURS, alpha=0.75)
    else:
        for (name, moments, values), colour in zip(series, _COLOURS, strict=False):
            inner.plot(moments, values, label=name, color=colour, linewidth=1.2)
    inner.set_xlim(answers.begin.timestamp(), answers.end.timestamp())
    inner.set_ylim(0, panel["fieldConfig"]["defaults"].get("max"))
    inner.xaxis.set_major_locator(MultipleLocator(_TICK.total_seconds()))
    inner.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{datetime.fromtimestamp(value, UTC):%H:%M}"))
    inner.yaxis.set_major_locator(MaxNLocator(4))
    inner.yaxis.set_major_formatter(FuncFormatter(lambda value, _place: told(value, _unit(panel))))
    inner.grid(axis="y", color=_LINE, linewidth=0.6)
    inner.set_ylabel(custom.get("axisLabel", ""), fontsize=8, color=_FAINT)
    inner.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.1), ncols=5, fontsize=7.5, frameon=False, handlelength=1)


def _bars(axes: Axes, panel: Panel, answers: _Answers) -> None:
    target = panel["targets"][0]
    found = [(legend(target, labels), value, labels) for labels, value in answers.now(target)]
    if target.get("format") == "heatmap":
        buckets = sorted((float(labels["le"]), name, value) for name, value, labels in found)
        before = [0.0, *(value for _, _, value in buckets)]
        found = [(name, value - lower, {}) for (_, name, value), lower in zip(buckets, before, strict=False)]
    else:
        found = sorted(found, key=lambda one: -one[1])[:_MOST_ROWS]
    if not found:
        _title(axes, panel)
        _empty(axes, panel)
        return
    inner = _inner(axes, panel, left=0.28, bottom=0.05)
    names, values = [name or panel["title"] for name, _, _ in found], [value for _, value, _ in found]
    drawn = inner.barh(range(len(found)), values, color="#2a9d5c")
    inner.bar_label(drawn, [told(value, _unit(panel)) for value in values], fontsize=8, padding=3)
    inner.set_yticks(range(len(found)), names)
    inner.invert_yaxis()
    inner.set_xticks([])
    inner.margins(x=0.15)


def _table(axes: Axes, panel: Panel, answers: _Answers) -> None:
    _title(axes, panel)
    organized = next(one["options"] for one in panel["transformations"] if one["id"] == "organize")
    units = {
        one["matcher"]["options"]: next(each["value"] for each in one["properties"] if each["id"] == "unit")
        for one in panel["fieldConfig"]["overrides"]
    }
    rows: dict[tuple[tuple[str, str], ...], dict[str, float]] = {}
    columns = []
    for target in panel["targets"]:
        value = "Value" if len(panel["targets"]) == 1 else f"Value #{target['refId']}"
        columns.append(organized["renameByName"].get(value, value))
        for labels, amount in answers.now(target):
            shown = tuple(one for one in sorted(labels.items()) if one[0] not in organized["excludeByName"])
            rows.setdefault(shown, {})[columns[-1]] = amount
    if not rows:
        _empty(axes, panel)
        return
    ordered = sorted(rows.items(), key=lambda one: -one[1].get(columns[0], 0))[:_MOST_ROWS]
    header = [*(name for name, _ in ordered[0][0]), *columns]
    cells = [
        [*(text[:34] for _, text in labels), *(_cell(of.get(one), units.get(one, "short")) for one in columns)]
        for labels, of in ordered
    ]
    _write_cells(axes, [header, *cells])


def _cell(value: float | None, unit: str) -> str:
    return told(value, unit) if value is not None else ""


def _write_cells(axes: Axes, cells: Sequence[Sequence[str]]) -> None:
    step = 0.8 / (_MOST_ROWS + 1)
    for line, texts in enumerate(cells):
        for place, text in enumerate(texts):
            weight = "bold" if line == 0 else "normal"
            at = 0.02 + 0.97 * place / len(texts), 0.83 - line * step
            axes.text(*at, text, fontsize=8, weight=weight, color=_FAINT if line == 0 else "black", va="center")


_DRAWN: dict[str, Callable[[Axes, Panel, _Answers], None]] = {
    "row": _row,
    "stat": _number,
    "timeseries": _lines,
    "bargauge": _bars,
    "table": _table,
}
