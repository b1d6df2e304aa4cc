"""HTTP: the metrics, a page for people, and health."""

import gzip
import json
import threading
import time
from collections.abc import Callable
from http import HTTPStatus

from prometheus_client.exposition import choose_encoder

from librechat_exporter import __version__
from librechat_exporter.http.exchange import Request, Response, plain_text
from librechat_exporter.http.exposition import Exposition
from librechat_exporter.http.server import THREADS
from librechat_exporter.page.health import Status, readiness
from librechat_exporter.page.page import HEADERS
from librechat_exporter.scrape import MARGIN_SECONDS, Scraped, StoppingError

# In less time nothing can be asked of MongoDB, which would seem to be down.
SHORTEST_SCRAPE, LONGEST_SCRAPE = 0.1, 300.0
# Of the server's threads most may wait for a scrape, a few for MongoDB's readiness, a few for the page; some always
# answer the rest.
SCRAPES_AT_ONCE = THREADS - 12
READY_AT_ONCE = PAGES_AT_ONCE = 4

_ESCAPINGS = ("underscores", "dots", "values", "allow-utf-8")
# What a scraper may ask for. Each of prometheus-client's content types quotes the request, so there is no end to them.
_FORMS = {
    content_type: Exposition(encode)
    for encode, content_type in map(
        choose_encoder,
        (
            "",
            "application/openmetrics-text",
            *(f"application/openmetrics-text;version=1.0.0;escaping={one}" for one in _ESCAPINGS),
            *(f"text/plain;version=1.0.0;escaping={one}" for one in _ESCAPINGS),
        ),
    )
}


class Application:
    """Answers requests."""

    def __init__(
        self,
        scrape: Callable[[float], Scraped],
        status: Status,
        page: Callable[[str], bytes],
        scrape_timeout: float,
    ) -> None:
        """scrape: takes a deadline (time.monotonic()). page: takes a range. scrape_timeout: in seconds, where the
        request tells none."""
        self._scrape = scrape
        self._status = status
        self._page = page
        self._scrape_timeout = scrape_timeout
        self._scrapes = threading.BoundedSemaphore(SCRAPES_AT_ONCE)
        self._readinesses = threading.BoundedSemaphore(READY_AT_ONCE)
        self._pages = threading.BoundedSemaphore(PAGES_AT_ONCE)

    def respond(self, request: Request) -> Response:
        pages = {"/": self._root, "/metrics": self._metrics, "/health": self._health, "/ready": self._ready}
        if request.path not in pages:
            return plain_text(HTTPStatus.NOT_FOUND, "Not found. There are /metrics, /health and /ready.")
        if request.method not in ("GET", "HEAD"):
            return plain_text(HTTPStatus.METHOD_NOT_ALLOWED, "Only GET and HEAD.", ("Allow", "GET, HEAD"))
        return pages[request.path](request)

    def _root(self, request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            wanted = request.parameter("range")
            return self._few(self._pages, lambda: Response(HTTPStatus.OK, HEADERS, self._page(wanted)))
        return self._metrics(request)

    def _metrics(self, request: Request) -> Response:
        exposition, content_type = _form(request.headers.get("accept", ""))
        compressed = _accepts_gzip(request.headers.get("accept-encoding", ""))
        if not self._scrapes.acquire(blocking=False):
            return plain_text(HTTPStatus.SERVICE_UNAVAILABLE, f"{SCRAPES_AT_ONCE} scrapes are waiting already.")
        try:
            scraped = self._scrape(time.monotonic() + self._timeout(request))
            # Level 1: on a scrape's text, higher ones cost more time than the bytes they save.
            body = scraped.text(
                (content_type, compressed),
                lambda one: (
                    gzip.compress(exposition.text(one), compresslevel=1, mtime=0)
                    if compressed
                    else exposition.text(one)
                ),
            )
        except StoppingError:
            return plain_text(HTTPStatus.SERVICE_UNAVAILABLE, "The exporter ends.")
        finally:
            self._scrapes.release()
        headers = [("Content-Type", content_type), ("Vary", "Accept, Accept-Encoding")]
        if compressed:
            headers.append(("Content-Encoding", "gzip"))
        return Response(HTTPStatus.OK, headers, body)

    def _timeout(self, request: Request) -> float:
        """Seconds for the work. A header that makes no sense counts as none."""
        try:
            seconds = float(request.headers.get("x-prometheus-scrape-timeout-seconds", ""))
        except ValueError:
            seconds = self._scrape_timeout
        if not SHORTEST_SCRAPE <= seconds <= LONGEST_SCRAPE:
            seconds = self._scrape_timeout
        return max(seconds - MARGIN_SECONDS, seconds / 2)

    def _health(self, _request: Request) -> Response:
        return _json(HTTPStatus.OK, {"status": "ok", "version": __version__})

    def _ready(self, _request: Request) -> Response:
        return self._few(self._readinesses, self._readiness)

    @staticmethod
    def _few(places: threading.BoundedSemaphore, answer: Callable[[], Response]) -> Response:
        """A few at a time are answered what asks MongoDB; a page that is refused asks again by itself."""
        if not places.acquire(blocking=False):
            return plain_text(HTTPStatus.SERVICE_UNAVAILABLE, "Some wait for this already.", ("Refresh", "60"))
        try:
            return answer()
        finally:
            places.release()

    def _readiness(self) -> Response:
        reasons = readiness(self._status)
        if reasons:
            return _json(HTTPStatus.SERVICE_UNAVAILABLE, {"status": "not ready", "reasons": reasons})
        return _json(HTTPStatus.OK, {"status": "ready"})


def _form(accept: str) -> tuple[Exposition, str]:
    """One of _FORMS. A form that is not among them counts as its kind's first, a version that is no number as none."""
    try:
        _, content_type = choose_encoder(accept)
    except (TypeError, ValueError):
        content_type = ""
    if content_type not in _FORMS:
        kind = "application/openmetrics-text" if "openmetrics" in content_type else ""
        _, content_type = choose_encoder(kind)
    return _FORMS[content_type], content_type


def _json(status: HTTPStatus, content: object) -> Response:
    headers = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]
    return Response(status, headers, json.dumps(content).encode())


def _accepts_gzip(accept_encoding: str) -> bool:
    for part in accept_encoding.lower().split(","):
        coding, _, parameters = part.partition(";")
        if coding.strip() in ("gzip", "*"):
            return parameters.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
