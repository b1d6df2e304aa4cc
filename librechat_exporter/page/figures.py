"""Figures, charts and tables for people, told from the ledger alone: no query."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from librechat_exporter.folds import hours
from librechat_exporter.ledger.active_days import ACTIVE_DAYS
from librechat_exporter.ledger.totals import Totals
from librechat_exporter.ledger.windowed import HOUR, hour_of
from librechat_exporter.metrics.metric import LabelValues, Metric
from librechat_exporter.page.charts import Chart, largest, tell

_CREDITS_OF_A_DOLLAR = 1e6
_METRICS = (
    hours.QUESTIONS,
    hours.ANSWERS,
    hours.UNFINISHED,
    hours.REJECTED,
    hours.WAITS,
    hours.TOOL_CALLS,
    hours.TOKENS,
    hours.BACKGROUND_TOKENS,
    hours.CREDITS,
)
RANGES = {"24h": "24 hours", "7d": "7 days", "30d": "30 days"}
_ROWS = 10
# Instead of a number whose history is still being counted, and of one that there is not.
_PENDING, _NONE = "…", "–"  # noqa: RUF001
# Of all time: by a table's title its columns with their metrics, which have the thing as their first label, and units.
_OF_ALL_TIME = {
    "Agents": (("Answers", "librechat_agent_answers_total", ""), ("Cost", "librechat_agent_cost_usd_total", "$")),
    "Groups": (("Messages", "librechat_group_messages_total", ""), ("Cost", "librechat_group_cost_usd_total", "$")),
}

# By labels amounts in each hour, from the first one on that figures are told of.
_Values = Mapping[LabelValues, Sequence[float]]
# By a metric that is switched on its values, None as long as its history is not counted.
_ByHour = Mapping[Metric, _Values | None]


@dataclass(frozen=True)
class Tile:
    """A number of today. note: what stands below it."""

    title: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Table:
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Figures:
    """All that is shown of one of RANGES."""

    tiles: Sequence[Tile]
    charts: Sequence[Chart]
    tables: Sequence[Table]


class _Bins:
    """The hours of 24 hours, or the days of 7 or 30, all of which end now.

    edges: the places of the hours in which they begin, and of the one after the last.
    """

    def __init__(self, wanted: str, first: int, local: datetime) -> None:
        """first: the hour at place 0."""
        last = hour_of(local) - first
        self.days: list[date] = []
        if wanted == "24h":
            self.edges = [*range(last - 23, last + 2)]
            begins = (datetime.fromtimestamp((first + one) * HOUR.total_seconds(), local.tzinfo) for one in self.edges)
            self.labels = [f"{one:%H:%M}" for one in begins][:-1]
            return
        ago = range(int(wanted.removesuffix("d")) - 1, -1, -1)
        self.days = [local.date() - timedelta(days=one) for one in ago]
        self.labels = [f"{day.day} {day:%b}" for day in self.days]
        begins = (datetime(day.year, day.month, day.day, tzinfo=local.tzinfo) for day in self.days)
        self.edges = [*(hour_of(one) - first for one in begins), last + 1]

    def spread(self, amounts: Sequence[float]) -> list[float]:
        """Amounts by the hour, as those of the bins."""
        return [sum(amounts[begin:end]) for begin, end in pairwise(self.edges)]

    @property
    def span(self) -> slice:
        """Of all bins."""
        return slice(self.edges[0], self.edges[-1])


def figures(totals: Totals, toggles: frozenset[str], wanted: str, now: datetime, timezone: ZoneInfo) -> Figures:
    """Without what is switched off. wanted: one of RANGES."""
    local = now.astimezone(timezone)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    month = midnight.replace(day=1)
    first, last = hour_of(min(month, now - timedelta(days=31))), hour_of(now)
    bins = _Bins(wanted, first, local)
    by_hour = {one: totals.by_hour(one, first, last) for one in _METRICS if toggles.issuperset(one.toggles)}
    tiles = _tiles(by_hour, slice(hour_of(midnight) - first, None), slice(hour_of(month) - first, None), f"{month:%B}")
    charts = _charts(by_hour, bins, by_model="model" in toggles)
    if "user" in toggles:
        tiles.insert(0, _users(totals, midnight.date()))
        charts[:0] = _active_users(totals, bins)
    tables = [_tools(by_hour, bins), *_tables_of_all_time(totals, toggles)]
    if "model" in toggles:
        tables.insert(0, _models(by_hour, bins))
    return Figures(tiles, charts, [one for one in tables if one.rows])


def _tiles(by_hour: _ByHour, today: slice, month: slice, name: str) -> list[Tile]:
    """today, month: the places of their hours. name: of the month."""

    def since(span: slice, *metrics: Metric) -> float | None:
        """None as long as they are not counted."""
        found = [by_hour[metric] for metric in metrics]
        counted = [values for values in found if values is not None]
        if len(counted) < len(found):
            return None
        return sum(sum(amounts[span]) for values in counted for amounts in values.values())

    tiles = []
    if hours.QUESTIONS in by_hour:
        messages, failed = since(today, hours.QUESTIONS, hours.ANSWERS, hours.REJECTED), since(today, hours.REJECTED)
        share = f"{failed / messages:.1%} of messages" if messages and failed is not None else ""
        tiles += [
            Tile("Messages today", _told(messages), "by users and models"),
            Tile("Failed today", _told(failed), share),
        ]
    if hours.WAITS in by_hour:
        tiles.append(_waiting_time(by_hour[hours.WAITS], today))
    if hours.CREDITS in by_hour and by_hour[hours.CREDITS] == {}:  # it may bill nothing at all: that is no 0
        tiles += [Tile(title, _NONE, "nothing was billed in 35 days") for title in ("Tokens today", "Cost this month")]
    elif hours.CREDITS in by_hour:
        cost, cost_of_month = since(today, hours.CREDITS), since(month, hours.CREDITS)
        tiles += [
            Tile("Tokens today", _told(since(today, hours.TOKENS, hours.BACKGROUND_TOKENS)), "as LibreChat bills them"),
            Tile("Cost today", _told(_dollars(cost), "$"), "as LibreChat bills it"),
            Tile("Cost this month", _told(_dollars(cost_of_month), "$"), f"since 1 {name}"),
        ]
    return tiles


def _users(totals: Totals, today: date) -> Tile:
    if not totals.has_seen_all(ACTIVE_DAYS):
        return Tile("Users today", _PENDING)
    yesterday = totals.count_active(today - timedelta(days=1))
    return Tile("Users today", _told(totals.count_active(today)), f"{_told(yesterday)} yesterday")


def _dollars(charged: float | None) -> float | None:
    return charged / _CREDITS_OF_A_DOLLAR if charged is not None else None


def _waiting_time(values: _Values | None, today: slice) -> Tile:
    if values is None:
        return Tile("Waiting time today", _PENDING)
    waits = _waits(values, today)
    half, slow = (quantile(waits.values(), share) for share in (0.5, 0.95))
    note = f"p50; p95 is {_seconds(slow)}" if slow is not None else "no answer yet"
    return Tile("Waiting time today", _seconds(half), note)


def _told(amount: float | None, unit: str = "") -> str:
    return tell(amount, unit) if amount is not None else _PENDING


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return _NONE
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} min"


def _waits(values: _Values, span: slice) -> dict[str, dict[float, float]]:
    """By model how many answers took up to each of WAIT_BOUNDS, and longer than the one before."""
    found: dict[str, dict[float, float]] = defaultdict(lambda: dict.fromkeys(hours.WAIT_BOUNDS, 0.0))
    for (model, bound), amounts in values.items():
        found[model][float(bound)] += sum(amounts[span])
    return found


def quantile(histograms: Iterable[Mapping[float, float]], share: float) -> float | None:
    """Of all these histograms together, by linear interpolation within a bucket, as Prometheus' histogram_quantile."""
    together = [0.0] * len(hours.WAIT_BOUNDS)
    for one in histograms:
        for place, bound in enumerate(hours.WAIT_BOUNDS):
            together[place] += one[bound]
    rank, before, lower = share * sum(together), 0.0, 0.0
    if not rank:
        return None
    for bound, amount in zip(hours.WAIT_BOUNDS, together, strict=True):
        if amount and before + amount >= rank:
            return lower + (bound - lower) * (rank - before) / amount
        before, lower = before + amount, bound
    return lower


def _charts(by_hour: _ByHour, bins: _Bins, *, by_model: bool) -> list[Chart]:
    def chart(
        title: str, unit: str, places: Mapping[Metric, int], like: Chart | None = None, factor: float = 1.0
    ) -> Chart | None:
        """None if a metric is switched off. places: of the label that tells series apart. like: has their colours."""
        if not by_hour.keys() >= places.keys():
            return None
        series = _by(by_hour, bins, places, factor)
        shown = largest(series or {}, like.series if like is not None else ())
        return Chart(title, unit, bins.labels, shown, is_counted=series is not None)

    answers = chart("Answers by model", "answers", {hours.ANSWERS: 0})
    charts = [
        answers if by_model else None,
        chart("Failures by reason", "failures", {hours.REJECTED: 0}),
        _waiting(by_hour[hours.WAITS], bins) if hours.WAITS in by_hour else None,
        chart("Tokens", "tokens", {hours.TOKENS: 1, hours.BACKGROUND_TOKENS: 2}),
        chart("Cost by model", "$", {hours.CREDITS: 0}, answers, 1 / _CREDITS_OF_A_DOLLAR),
        chart("Tool calls", "calls", {hours.TOOL_CALLS: 0}),
    ]
    return [one for one in charts if one is not None]


def _by(
    by_hour: _ByHour, bins: _Bins, places: Mapping[Metric, int], factor: float
) -> dict[str, Sequence[float]] | None:
    """The sums of metrics by the value of a label, whose place is told; None as long as they are not counted."""
    found: dict[str, list[float]] = defaultdict(lambda: [0.0] * len(bins.labels))
    for metric, place in places.items():
        values = by_hour[metric]
        if values is None:
            return None
        for labels, of_hours in values.items():
            added = zip(found[labels[place]], bins.spread(of_hours), strict=True)
            found[labels[place]] = [one + amount * factor for one, amount in added]
    return {name: amounts for name, amounts in found.items() if any(amounts)}


def _active_users(totals: Totals, bins: _Bins) -> list[Chart]:
    """Of a day there is no number of users by the hour."""
    if not bins.days or not totals.has_seen_all(ACTIVE_DAYS):
        return []
    active = [float(totals.count_active(day)) for day in bins.days]
    return [Chart("Active users by day", "users", bins.labels, {"": active})]


def _waiting(values: _Values | None, bins: _Bins) -> Chart:
    """The distribution of how long users waited for answers in the range."""
    series = {}
    if values is not None:
        of_models = _waits(values, bins.span)
        series = {"": [sum(one[bound] for one in of_models.values()) for bound in hours.WAIT_BOUNDS]}
    title, is_counted = "How long users wait for an answer", values is not None
    return Chart(title, "answers", _WAIT_LABELS, series, is_of_time=False, is_counted=is_counted)


def _bound(seconds: float) -> str:
    return f"{seconds:g} s" if seconds < 60 else f"{seconds / 60:g} min" if seconds < 3600 else f"{seconds / 3600:g} h"


_WAIT_LABELS = [f"to {_bound(seconds)}" for seconds in hours.WAIT_BOUNDS]


def _sums(by_hour: _ByHour, bins: _Bins, metric: Metric, *places: int) -> dict[LabelValues, float]:
    """In the range, by the values of the labels at these places."""
    found: dict[LabelValues, float] = defaultdict(float)
    for labels, of_hours in (by_hour.get(metric) or {}).items():
        amount = sum(of_hours[bins.span])
        if amount:
            found[tuple(labels[place] for place in places)] += amount
    return found


def _models(by_hour: _ByHour, bins: _Bins) -> Table:
    """With the columns that are switched on."""
    answers, stopped = _sums(by_hour, bins, hours.ANSWERS, 0), _sums(by_hour, bins, hours.UNFINISHED, 0)
    tokens, charged = _sums(by_hour, bins, hours.TOKENS, 0), _sums(by_hour, bins, hours.CREDITS, 0)
    for model, amount in _sums(by_hour, bins, hours.BACKGROUND_TOKENS, 0).items():
        tokens[model] += amount
    waits = _waits(by_hour.get(hours.WAITS) or {}, bins.span)
    bills = by_hour.get(hours.CREDITS) != {}
    columns: tuple[tuple[str, Metric, Callable[[LabelValues], str]], ...] = (
        ("Answers", hours.ANSWERS, lambda model: tell(answers.get(model, 0))),
        ("Stopped", hours.UNFINISHED, lambda model: tell(stopped.get(model, 0))),
        ("Wait, p50", hours.WAITS, lambda model: _seconds(quantile([waits[model[0]]], 0.5))),
        ("p95", hours.WAITS, lambda model: _seconds(quantile([waits[model[0]]], 0.95))),
        ("Tokens", hours.TOKENS, lambda model: tell(tokens.get(model, 0)) if bills else _NONE),
        (
            "Cost",
            hours.CREDITS,
            lambda model: tell(charged.get(model, 0) / _CREDITS_OF_A_DOLLAR, "$") if bills else _NONE,
        ),
    )
    shown = [column for column in columns if column[1] in by_hour]
    models = sorted(answers.keys() | charged.keys(), key=lambda one: (-answers.get(one, 0), -charged.get(one, 0), one))
    rows = [
        (model[0], *(told(model) if by_hour[metric] is not None else _PENDING for _, metric, told in shown))
        for model in models[:_ROWS]
    ]
    return Table("Models", ("Model", *(header for header, _, _ in shown)), rows)


def _tools(by_hour: _ByHour, bins: _Bins) -> Table:
    calls, failed = _sums(by_hour, bins, hours.TOOL_CALLS, 0), _sums(by_hour, bins, hours.TOOL_CALLS, 0, 1)
    rows = []
    for (tool,) in sorted(calls, key=lambda one: (-calls[one], one))[:_ROWS]:
        broken = failed.get((tool, hours.FAILED), 0)
        rows.append((tool, tell(calls[tool,]), tell(broken), f"{broken / calls[tool,]:.0%}"))
    return Table("Tools", ("Tool", "Calls", "Failed", "Share"), rows)


def _tables_of_all_time(totals: Totals, toggles: frozenset[str]) -> list[Table]:
    """Each with the columns that are switched on."""
    tables = []
    for title, columns in _OF_ALL_TIME.items():
        found = [(header, unit, totals.metric(name)) for header, name, unit in columns]
        shown = [(header, unit, one) for header, unit, one in found if one and toggles.issuperset(one.toggles)]
        values = [_by_first_label(totals, metric) for _, _, metric in shown]
        if not values or values[0] is None:
            continue
        ranked = sorted(values[0].items(), key=lambda one: (-one[1], one[0]))[:_ROWS]
        rows = [
            (thing, *(_of(thing, counted, unit) for (_, unit, _), counted in zip(shown, values, strict=True)))
            for thing, _ in ranked
        ]
        header = (title.removesuffix("s"), *(header for header, _, _ in shown))
        tables.append(Table(f"{title}, of all time", header, rows))
    return tables


def _by_first_label(totals: Totals, metric: Metric) -> dict[str, float] | None:
    """None as long as it is not counted."""
    if not totals.is_folded(metric):
        return None
    return {labels[0]: value for labels, value in totals.values(metric).items()}


def _of(thing: str, values: Mapping[str, float] | None, unit: str) -> str:
    return _PENDING if values is None else tell(values.get(thing, 0), unit)
