"""The page: a template, and the headers that let it load nothing and run nothing."""

import base64
import functools
import hashlib
import statistics
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from librechat_exporter import __version__
from librechat_exporter.ledger.totals import Totals
from librechat_exporter.page.figures import RANGES, Figures, figures
from librechat_exporter.page.health import Status, banner
from librechat_exporter.settings import Settings

if TYPE_CHECKING:
    import jinja2

_REFRESH_SECONDS = 60
_FIGURES_SECONDS = 10.0
_FOLDER = Path(__file__).parent
_CSS = (_FOLDER / "page.css").read_text()
_CSS_DIGEST = base64.b64encode(hashlib.sha256(_CSS.encode()).digest()).decode()
HEADERS = [
    ("Content-Type", "text/html; charset=utf-8"),
    ("Vary", "Accept"),
    ("Cache-Control", "no-store"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    (
        "Content-Security-Policy",
        f"default-src 'none'; style-src 'sha256-{_CSS_DIGEST}'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'",
    ),
]
DEFAULT_RANGE = "24h"


class Page:
    """Safe for use from several threads."""

    def __init__(self, status: Status, totals: Totals, settings: Settings, save: Callable[[], None]) -> None:
        """save: of the ledger; nothing is shown that a crash could take back."""
        self._save = save
        self._status = status
        self._totals = totals
        self._settings = settings
        self._lock = threading.Lock()
        # By range, until when figures are shown again (time.monotonic()).
        self._figures: dict[str, tuple[float, Figures]] = {}

    @functools.cached_property
    def _template(self) -> "jinja2.Template":
        """The library takes three megabytes, which an exporter that nobody looks at need not have."""
        import jinja2

        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True, undefined=jinja2.StrictUndefined
        )
        return environment.get_template("page.html")

    def render(self, wanted: str) -> bytes:
        """wanted: one of RANGES, else DEFAULT_RANGE is shown."""
        wanted = wanted if wanted in RANGES else DEFAULT_RANGE
        settings, told = self._settings, banner(self._status)
        now, timezone = self._status.now(), settings.metrics_timezone
        text = self._template.render(
            banner=told,
            figures=self._shown(wanted, now) if settings.enable_page else None,
            ranges=RANGES,
            range=RANGES[wanted],
            last=self._status.last_scrape(),
            counted=self._totals.age(),
            history=statistics.mean(self._status.history().values() or (1.0,)),
            persistent=self._status.is_persistent(),
            age=_age,
            css=_CSS,
            version=__version__,
            refresh=_REFRESH_SECONDS,
            moment=f"{now.astimezone(timezone):%d %B %Y, %H:%M}",
            timezone=timezone.key,
        )
        return text.encode()

    def _shown(self, wanted: str, now: datetime) -> Figures:
        """They take most of the page's time, and hardly change within seconds: many who look cost no more than one."""
        with self._lock:
            until, shown = self._figures.get(wanted, (0.0, None))
            if shown is None or time.monotonic() > until:
                shown = figures(self._totals, self._settings.toggles, wanted, now, self._settings.metrics_timezone)
                self._save()
                self._figures[wanted] = time.monotonic() + _FIGURES_SECONDS, shown
            return shown


def _age(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
