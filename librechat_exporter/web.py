"""HTTP: the metrics, a page for people, and health."""

import gzip
import html
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import CollectorRegistry

from librechat_exporter import __version__
from librechat_exporter.scrape import MARGIN_SECONDS, Outcome, deadline_of_request

StartResponse = Callable[[str, list[tuple[str, str]]], Any]
Environ = dict[str, Any]

LONGEST_SCRAPE = 300.0
# Workers of the server: most may wait for a scrape, some always answer the health checks.
THREADS = 64
SCRAPES_AT_ONCE = 56


class Status(Protocol):
    """What the page and the health checks ask the daemon."""

    def readiness(self) -> list[str]:
        """Why the exporter is not ready; empty if it is."""

    def history(self) -> Mapping[str, float]:
        """Share of history that is folded, by source."""

    def outcomes(self) -> Mapping[str, Outcome]:
        """What the collectors did in the last scrape."""

    def problems(self) -> Mapping[str, str]:
        """What went wrong in the last scrape, by collector."""

    def is_up(self) -> bool:
        """Whether MongoDB answered the last scrape."""


class Application:
    """The WSGI application."""

    def __init__(self, registry: CollectorRegistry, status: Status, scrape_timeout: float) -> None:
        self._registry = registry
        self._status = status
        self._scrape_timeout = scrape_timeout
        self._places = threading.BoundedSemaphore(SCRAPES_AT_ONCE)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        status, headers, body = self._respond(environ)
        headers.append(("Content-Length", str(len(body))))
        start_response(status, headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _respond(self, environ: Environ) -> tuple[str, list[tuple[str, str]], bytes]:
        path = environ.get("PATH_INFO") or "/"
        pages = {"/": self._root, "/metrics": self._metrics, "/health": self._health, "/ready": self._ready}
        if path not in pages:
            return _text("404 Not Found", "Not found. There are /metrics, /health and /ready.\n")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            status, headers, body = _text("405 Method Not Allowed", "Only GET and HEAD.\n")
            return status, [*headers, ("Allow", "GET, HEAD")], body
        return pages[path](environ)

    def _root(self, environ: Environ) -> tuple[str, list[tuple[str, str]], bytes]:
        if "text/html" in environ.get("HTTP_ACCEPT", ""):
            return "200 OK", [("Content-Type", "text/html; charset=utf-8"), ("Vary", "Accept")], self._page()
        return self._metrics(environ)

    def _metrics(self, environ: Environ) -> tuple[str, list[tuple[str, str]], bytes]:
        if not self._places.acquire(blocking=False):
            return _text("503 Service Unavailable", f"{SCRAPES_AT_ONCE} scrapes are waiting already.\n")
        deadline = deadline_of_request.set(time.monotonic() + self._timeout(environ))
        try:
            encode, content_type = _encoder(environ.get("HTTP_ACCEPT", ""))
            body = encode(self._registry)
        finally:
            deadline_of_request.reset(deadline)
            self._places.release()
        headers = [("Content-Type", content_type), ("Vary", "Accept, Accept-Encoding")]
        if _accepts_gzip(environ.get("HTTP_ACCEPT_ENCODING", "")):
            # Level 1: on a scrape's text, higher ones cost more time than the bytes they save.
            return "200 OK", [*headers, ("Content-Encoding", "gzip")], gzip.compress(body, compresslevel=1, mtime=0)
        return "200 OK", headers, body

    def _timeout(self, environ: Environ) -> float:
        """Seconds for the work. A header that makes no sense counts as none."""
        try:
            seconds = float(environ.get("HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS", ""))
        except ValueError:
            seconds = self._scrape_timeout
        if not 0 < seconds <= LONGEST_SCRAPE:
            seconds = self._scrape_timeout
        return max(seconds - MARGIN_SECONDS, seconds / 2)

    def _health(self, _environ: Environ) -> tuple[str, list[tuple[str, str]], bytes]:
        return _json("200 OK", {"status": "ok", "version": __version__})

    def _ready(self, _environ: Environ) -> tuple[str, list[tuple[str, str]], bytes]:
        reasons = self._status.readiness()
        if reasons:
            return _json("503 Service Unavailable", {"status": "not ready", "reasons": reasons})
        return _json("200 OK", {"status": "ready"})

    def _page(self) -> bytes:
        problems = self._status.problems()
        history = "".join(
            f"<tr><td>{html.escape(source)}</td><td>{ratio:.0%}</td></tr>"
            for source, ratio in self._status.history().items()
        )
        collectors = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{outcome.seconds * 1000:.1f} ms</td>"
            f"<td>{html.escape(problems.get(name, 'ok'))}</td></tr>"
            for name, outcome in self._status.outcomes().items()
        )
        if collectors:
            mongodb = "up" if self._status.is_up() else "down"
        else:
            mongodb, collectors = "not asked yet", "<tr><td colspan=3>nothing was scraped yet</td></tr>"
        return _PAGE.format(version=__version__, mongodb=mongodb, history=history, collectors=collectors).encode()


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>LibreChat exporter</title>
<style>body{{font-family:sans-serif;margin:2em}}td,th{{padding:.2em 1em .2em 0;text-align:left}}</style></head>
<body>
<h1>LibreChat exporter {version}</h1>
<p><a href="/metrics">Metrics</a> · <a href="/health">Health</a> · <a href="/ready">Readiness</a></p>
<p>MongoDB at the last scrape: {mongodb}</p>
<h2>History folded</h2>
<table>{history}</table>
<h2>Collectors at the last scrape</h2>
<table><tr><th>Collector</th><th>Duration</th><th>Result</th></tr>{collectors}</table>
</body>
</html>
"""


def _encoder(accept: str) -> tuple[Callable[[CollectorRegistry], bytes], str]:
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is no number
        return choose_encoder("")


def _text(status: str, text: str) -> tuple[str, list[tuple[str, str]], bytes]:
    return status, [("Content-Type", "text/plain; charset=utf-8")], text.encode()


def _json(status: str, content: object) -> tuple[str, list[tuple[str, str]], bytes]:
    return status, [("Content-Type", "application/json"), ("Cache-Control", "no-store")], json.dumps(content).encode()


def _accepts_gzip(accept_encoding: str) -> bool:
    for part in accept_encoding.lower().split(","):
        coding, _, parameters = part.partition(";")
        if coding.strip() in ("gzip", "*"):
            return parameters.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
