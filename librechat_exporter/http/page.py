"""The page for people."""

import html
from collections.abc import Mapping
from typing import Protocol

from librechat_exporter import __version__
from librechat_exporter.collector import Outcome

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>LibreChat exporter</title>
<style>body{{font-family:sans-serif;margin:2em}}td,th{{padding:.2em 1em .2em 0;text-align:left}}</style></head>
<body>
<h1>LibreChat exporter {version}</h1>
<p><a href="metrics">Metrics</a> · <a href="health">Health</a> · <a href="ready">Readiness</a></p>
<p>MongoDB at the last scrape: {mongodb}</p>
<h2>History folded</h2>
<table>{history}</table>
<h2>Collectors at the last scrape</h2>
<table><tr><th>Collector</th><th>Duration</th><th>Result</th></tr>{collectors}</table>
</body>
</html>
"""


class Status(Protocol):
    """The daemon, as the page and the health checks ask it."""

    def readiness(self) -> list[str]:
        """Why the exporter is not ready; empty if it is."""

    def history(self) -> Mapping[str, float]:
        """Share of history that is folded, by source."""

    def outcomes(self) -> Mapping[str, Outcome]:
        """The collectors' outcomes in the last scrape."""

    def problems(self) -> Mapping[str, str]:
        """The failures of the last scrape, by collector."""

    def is_up(self) -> bool:
        """True if MongoDB answered the last scrape."""


def page(status: Status) -> bytes:
    problems = status.problems()
    history = "".join(
        f"<tr><td>{html.escape(source)}</td><td>{ratio:.0%}</td></tr>" for source, ratio in status.history().items()
    )
    collectors = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{outcome.seconds * 1000:.1f} ms</td>"
        f"<td>{html.escape(problems.get(name, 'ok'))}</td></tr>"
        for name, outcome in status.outcomes().items()
    )
    if collectors:
        mongodb = "up" if status.is_up() else "down"
    else:
        mongodb, collectors = "not asked yet", "<tr><td colspan=3>nothing was scraped yet</td></tr>"
    return _PAGE.format(version=__version__, mongodb=mongodb, history=history, collectors=collectors).encode()
