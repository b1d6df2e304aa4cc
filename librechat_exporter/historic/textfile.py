"""The result of a run, for Prometheus, through the textfile collector of node_exporter."""

import os
import time
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile
from prometheus_client.parser import text_string_to_metric_families

_LAST_SUCCESS = "librechat_export_last_success_timestamp_seconds"


def write(path: Path, *, success: bool, seconds: float, days: int, rows: int) -> None:
    """Replaces the file at once. A run that failed keeps the time of the last success. Raises OSError."""
    last_success = time.time() if success else _last_success(path)
    registry = CollectorRegistry()
    for name, text, value in (
        (_LAST_SUCCESS, "When the last export that succeeded ended, as a Unix time", last_success),
        ("librechat_export_success", "Whether the last export succeeded", float(success)),
        ("librechat_export_duration_seconds", "How long the last export took", seconds),
        ("librechat_export_dates_written", "Days that the last export wrote", days),
        ("librechat_export_rows_written", "Rows that the last export wrote", rows),
    ):
        if value is not None:
            Gauge(name, text, registry=registry).set(value)
    mask = os.umask(0o022)  # node_exporter reads it as another user
    try:
        write_to_textfile(str(path), registry)
    finally:
        os.umask(mask)


def _last_success(path: Path) -> float | None:
    """As an earlier run wrote it, None if there is none."""
    try:
        families = list(text_string_to_metric_families(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):  # none, someone else's, or half of one
        return None
    samples = (sample for family in families for sample in family.samples)
    return next((sample.value for sample in samples if sample.name == _LAST_SUCCESS), None)
