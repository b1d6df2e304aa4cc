"""Writes what is generated from the code: references, settings, the schema in SQL, dashboards."""

import re
import sys
from pathlib import Path
from typing import Any

import yaml
from grafana_foundation_sdk.models.dashboard import Dashboard
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from dashboards import beside, historic, librechat, panels
from librechat_exporter import __version__
from librechat_exporter.collectors import all_collectors
from librechat_exporter.historic.tables import schema
from librechat_exporter.metrics.metric import Metric
from librechat_exporter.self_metrics import SELF_METRICS
from librechat_exporter.settings import ExportSettings, LibreChatSettings, Settings, documented

ROOT = Path(__file__).parent.parent
HISTORIC = ROOT / "historic-analysis"
PROMETHEUS = ROOT / "prometheus-dev"
# What has settings of its own.
SETTINGS: tuple[type[LibreChatSettings], ...] = (Settings, ExportSettings)
# The daemon's settings by what they are for: those whose names begin so, in the first that fits.
_PURPOSES = {
    "LibreChat's database": ("MONGO", "TENANT_ID", "LIBRECHAT_URL"),
    "Where it listens, and who may ask": ("LISTEN_", "WEB_", "METRICS_SECRET", "HEALTHCHECK_"),
    "The counters": ("STATE_PATH", "STATE_USER_IDS", "USER_ID_SALT", "LEDGER_"),
    "Time": ("METRICS_TIMEZONE", "USAGE_WINDOWS", "SCRAPE_TIMEOUT", "STATE_REFRESH"),
    "Who uses it, who pays": ("GROUP_", "DOMAIN_", "PER_USER_", "MAX_USERS", "MODEL_PRICES", "EXTERNAL_MODEL"),
    "What is served": ("ENABLE_", "MAX_"),
    "Logging": ("LOGGING_",),
    "Without effect": ("METRICS_CACHE_",),
}

# With all that is off unless it is asked for.
_ALL = Settings().with_all()

_INTRODUCTION = """# Metrics

This page is generated from the code by `make docs`.

## Questions

**What does it cost?** In the last day, and by model. [chargeback.md](chargeback.md) has groups, agents and users.

```promql
sum(increase(librechat_llm_cost_usd_total[1d]))

topk(5, sum by (model) (increase(librechat_llm_cost_usd_total[1d])))
```

**Who is active?** Users in the last five minutes, since midnight, and with a chat request in seven days; and the share
of those who registered longer than 30 days ago and still come.

```promql
librechat_active_users

librechat_daily_unique_users

librechat_window_unique_users{window="7d"}

librechat_user_retention_ratio{window="30d"}
```

**Is it slow?** The 95th percentile of the time that users waited for an answer, in the last quarter of an hour: one in
twenty waited longer.

```promql
histogram_quantile(0.95, sum by (le) (rate(librechat_answer_seconds_bucket[15m])))
```

**What fails?** The share of each model's answers, and the tools that failed most.

```promql
sum by (model) (rate(librechat_errors_per_model_total[30m]))
  / (sum by (model) (rate(librechat_messages_per_model_total[30m])) > 0)

topk(5, sum by (tool_name) (increase(librechat_tool_call_errors_per_tool_total[1d])))
```

**Are people content?** Thumbs up among all ratings, in percent, of all and by model.

```promql
librechat_overall_rating_ratio

librechat_rating_ratio_per_model
```

**What is used?** Models, tools and agents.

```promql
topk(5, sum by (model) (increase(librechat_messages_per_model_total[1d])))

topk(5, sum by (tool_name) (increase(librechat_tool_calls_per_tool[1d])))

topk(5, sum by (agent) (increase(librechat_agent_answers_total[1d])))
```

**Can these figures be relied on?** Both are 1 if MongoDB answers and no collector fails.

```promql
min(librechat_up)

min(librechat_exporter_collector_success)
```

## What a metric is

A metric is one of three kinds, which are measured differently:

- **happened**: how many there ever were. It never falls, even after deletions and restarts, except a success rate.
  It is absent until the history from before the exporter's first start is folded.
- **recent**: how many there are in a window that ends now. A message whose `createdAt` is missing or in the future is
  in no window. Days, weeks (from Monday) and months begin in `METRICS_TIMEZONE`.
- **is**: how many are in the database now. Gauges that end in `_total` are of this kind; they break a naming rule and
  keep their names because dashboards use them.

*Exporter* metrics tell about the exporter itself. prometheus-client adds `process_…` and `python_…`.

What the words mean: a **user's message** has `isCreatedByUser: true` or, where that is missing, the sender `User` or
`user`; any other message is an **answer**. A message **failed** if it has `error: true` or an error among its content
parts. The label `model` is the answer's model; an agent's is the model that the agent used when the answer was first
counted; `unknown` if there is none. A label has at most `MAX_LABEL_VALUES` values, of agents and groups
1,000, of users `MAX_USERS`; later ones count under `other`.

With all of a metric's toggles on, it is served. `BASIC` stands for `ENABLE_BASIC_METRICS`, and so on. Metrics of groups
need `GROUP_METRICS`, of domains `DOMAIN_METRICS`, of single users `PER_USER_METRICS`, list costs `MODEL_PRICES`, those
of LibreChat's own answers `LIBRECHAT_URL`.
"""


_SETTINGS_INTRODUCTION = """# Settings

This page is generated from the code by `make docs`.

Settings are environment variables, or lines of a file `.env` in the working directory. All are checked at the start,
and all that is wrong is said at once; `metrics.py --check` tries what they lead to as well. `.env.example` has them
all with their defaults.
"""
_EXPORT_INTRODUCTION = """The historic export has these, and the daemon's on LibreChat's database, the time zone, users'
hashes, groups, prices and logging.
"""
INIT_SQL = """-- The tables of the historic export, generated by `make docs`. MariaDB's image runs this file when its
-- volume is new. The export makes what is missing as well, and brings older tables up to date.

"""


def metrics_page() -> str:
    """docs/metrics.md."""
    tables = {f"Collector `{collector.name}`": collector.metrics for collector in all_collectors(_ALL)}
    tables["The exporter itself"] = SELF_METRICS
    return "\n".join([_INTRODUCTION, *(f"## {title}\n\n{_table(metrics)}" for title, metrics in tables.items())])


def _table(metrics: tuple[Metric, ...]) -> str:
    lines = ["| metric | type | labels | kind | toggles | value |", "| --- | --- | --- | --- | --- | --- |"]
    for metric in metrics:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        toggles = ", ".join(f"`{toggle.upper()}`" for toggle in metric.toggles)
        kind = {"self": "exporter"}.get(metric.kind, metric.kind)
        bounds = ", ".join(f"{one:g}" for one in metric.buckets)
        buckets = (f"buckets up to {bounds}",) if bounds else ()
        told = "; ".join((metric.help, *buckets, *metric.since, *metric.changes))
        lines.append(f"| `{metric.name}` | {metric.type} | {labels} | {kind} | {toggles} | {told} |")
    return "\n".join(lines) + "\n"


def default_of(field: FieldInfo) -> str:
    """A setting's default as one would write it into `.env`; empty if it has none."""
    default = field.default
    if default is None or default is PydanticUndefined:
        return ""
    if isinstance(default, SecretStr):
        return default.get_secret_value()
    if isinstance(default, bool):
        return str(default).lower()
    return str(default)


def _own(settings: type[LibreChatSettings]) -> dict[str, FieldInfo]:
    """The settings but for those of the daemon, which come first."""
    shared = {} if settings is Settings else documented(Settings)
    return {name: field for name, field in documented(settings).items() if name not in shared}


def settings_page() -> str:
    """docs/settings.md. Raises ValueError if a setting is for nothing."""
    sections = [_SETTINGS_INTRODUCTION]
    left = _own(Settings)
    for purpose, beginnings in _PURPOSES.items():
        some = {name: field for name, field in left.items() if name.startswith(beginnings)}
        left = {name: field for name, field in left.items() if name not in some}
        sections.append(f"## {purpose}\n\n{_settings_table(some)}\n")
    if left:
        raise ValueError(f"_PURPOSES does not say what these are for: {', '.join(left)}")
    sections.append(f"## The historic export\n\n{_EXPORT_INTRODUCTION}\n{_settings_table(_own(ExportSettings))}\n")
    return "\n".join(sections)


def _settings_table(fields: dict[str, FieldInfo]) -> str:
    lines = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, field in fields.items():
        default = f"`{default_of(field)}`" if default_of(field) else ""
        meaning = (field.description or "").replace("|", r"\|")
        lines.append(f"| `{name}` | {default} | {meaning} |")
    return "\n".join(lines)


def env_example() -> str:
    """.env.example: every setting, commented out, with its default."""
    lines = ["# Every setting with its default. Copy this file to .env and uncomment what you change.", ""]
    for settings in SETTINGS:
        for name, field in _own(settings).items():
            lines += [f"# {field.description}", f"# {name}={default_of(field)}", ""]
    return "\n".join(lines)


def generated() -> dict[Path, str]:
    """The content that each generated file should have."""
    return {
        ROOT / "docs" / "metrics.md": metrics_page(),
        ROOT / ".env.example": env_example(),
        ROOT / "docs" / "settings.md": settings_page(),
        HISTORIC / "mariadb-init" / "init.sql": INIT_SQL + schema(),
        HISTORIC / "Grafana-Dashboard-template.json": panels.json(historic.build()),
        ROOT / "deploy" / "kubernetes" / "prometheusrule.yaml": prometheus_rule(),
        ROOT / "charts" / "librechat-exporter" / "files" / "rules.yaml": _yaml({"groups": rules()}),
        **versions(),
    } | {path: panels.json(made) for path, made in live_dashboards().items()}


def versions() -> dict[Path, str]:
    """Files that name this version, with that of the package."""
    chart = ROOT / "charts" / "librechat-exporter" / "Chart.yaml"
    places = {
        ROOT / "pyproject.toml": r'(?m)^(version = )".*"$',
        ROOT / "deploy" / "kubernetes" / "kustomization.yaml": r"(?m)^(    newTag: )(.*)$",
        chart: r"(?m)^(version: |appVersion: )(.*)$",
    }
    quotes = {ROOT / "pyproject.toml": '"'}
    return {
        path: re.sub(place, rf"\g<1>{quotes.get(path, '')}{__version__}{quotes.get(path, '')}", path.read_text())
        for path, place in places.items()
    }


def rules() -> list[Any]:
    """The groups of all recording rules and alerts."""
    files = sorted((PROMETHEUS / "rules").glob("*.yml"))
    return [group for path in files for group in yaml.safe_load(path.read_text())["groups"]]


def prometheus_rule() -> str:
    """The rules as the Prometheus operator takes them."""
    return _yaml(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": "librechat-exporter"},
            "spec": {"groups": rules()},
        }
    )


def _yaml(content: Any) -> str:
    return "# Generated by `make docs`.\n" + yaml.safe_dump(content, sort_keys=False, width=100, allow_unicode=True)


def live_dashboards() -> dict[Path, Dashboard]:
    """The dashboards over Prometheus, by the paths of their JSON."""
    overview, *_ = made = librechat.dashboards()
    paths = {overview: PROMETHEUS / f"{overview}.json"}
    made |= beside.dashboards()
    return {paths.get(name, PROMETHEUS / "grafana" / "dashboards" / f"{name}.json"): one for name, one in made.items()}


def main() -> int:
    for path, text in generated().items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
