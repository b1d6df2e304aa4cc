"""Writes what is generated from the code: docs/metrics.md, .env.example, and the README's table of settings."""

import sys
from pathlib import Path

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from librechat_exporter.daemon import all_collectors
from librechat_exporter.metric import Metric
from librechat_exporter.scrape import SELF_METRICS
from librechat_exporter.settings import documented

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- settings: begin -->", "<!-- settings: end -->"

_INTRODUCTION = """# Metrics

This page is generated from the code by `make docs`.

A metric is one of three kinds, which are measured differently:

- **happened**: how many there ever were. A counter that never falls, whatever is deleted, also across restarts. It is
  absent until the history that was there before the exporter's first start is folded.
- **recent**: how many there are in a window that ends now. A message whose `createdAt` is missing or in the future is
  in no window. Days, weeks (from Monday) and months begin in `METRICS_TIMEZONE`.
- **is**: how many are in the database now. Gauges that end in `_total` are of this kind; they break a naming rule and
  keep their names because dashboards use them.

*Exporter* metrics tell about the exporter itself. prometheus-client adds `process_…` and `python_…`.

What the words mean: a **user's message** has `isCreatedByUser: true` or, where that is missing, the sender `User` or
`user`; any other message is an **answer**. A message **failed** if it has `error: true` or an error among its content
parts. The label `model` is the answer's model; an agent's is the model that the agent used when the answer was first
counted; `unknown` if there is none. A label has at most `MAX_LABEL_VALUES` values; later ones count under `other`.

With all of a metric's toggles on, it is served. `BASIC` stands for `ENABLE_BASIC_METRICS`, and so on.
"""


def metrics_page() -> str:
    """docs/metrics.md."""
    tables = {f"Collector `{collector.name}`": collector.metrics for collector in all_collectors()}
    tables["The exporter itself"] = SELF_METRICS
    return "\n".join([_INTRODUCTION, *(f"## {title}\n\n{_table(metrics)}" for title, metrics in tables.items())])


def _table(metrics: tuple[Metric, ...]) -> str:
    lines = ["| metric | type | labels | kind | toggles | value |", "| --- | --- | --- | --- | --- | --- |"]
    for metric in metrics:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        toggles = ", ".join(f"`{group.upper()}`" for group in metric.groups)
        kind = {"self": "exporter"}.get(metric.kind, metric.kind)
        lines.append(f"| `{metric.name}` | {metric.type} | {labels} | {kind} | {toggles} | {metric.help} |")
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


def settings_table() -> str:
    """The README's table, with its markers."""
    lines = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, field in documented().items():
        default = f"`{default_of(field)}`" if default_of(field) else ""
        lines.append(f"| `{name}` | {default} | {field.description} |")
    return "\n".join([BEGIN, *lines, END])


def env_example() -> str:
    """.env.example: every setting, commented out, with its default."""
    lines = [
        "# Every setting of the exporter with its default. Copy this file to .env and uncomment what you change.",
        "",
    ]
    for name, field in documented().items():
        lines += [f"# {field.description}", f"# {name}={default_of(field)}", ""]
    return "\n".join(lines)


def readme() -> str:
    """README.md with its table of settings as it should be."""
    text = (ROOT / "README.md").read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + settings_table() + after


def generated() -> dict[Path, str]:
    """What each generated file should hold."""
    return {
        ROOT / "docs" / "metrics.md": metrics_page(),
        ROOT / ".env.example": env_example(),
        ROOT / "README.md": readme(),
    }


def main() -> int:
    for path, text in generated().items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
