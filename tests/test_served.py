"""Every metric has something to tell in one small database, and each toggle takes away its own metrics alone."""

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families
from pymongo.database import Database
from pymongo.errors import ConnectionFailure

from tests.conftest import Document, Exporter, MakeExporter, MakeLibreChat
from tests.offered import METRICS, ON, sample_names
from tests.people import fill

# Metrics that are 0 by nature, and why.
ALWAYS_ZERO = {
    "librechat_exporter_unreadable_documents_total": "no document is known that MongoDB stores and cannot read",
}


def served(one: Exporter) -> dict[str, Family]:
    """Returns the families of a scrape's text by name, without those of the process itself."""
    text = generate_latest(one.daemon.runner.scrape(time.monotonic() + 10)).decode()
    families = text_string_to_metric_families(text)
    return {family.name: family for family in families if not family.name.startswith(("process_", "python_"))}


@pytest.fixture
def switched_on(librechat: MakeLibreChat) -> dict[str, object]:
    """Something is not served without these settings."""
    return {"librechat_url": librechat(200, 0), "external_model_regex": "gpt", "max_users": 4, **ON}


def test_every_metric_has_something_to_tell(
    database: Database[Document],
    exporter: MakeExporter,
    switched_on: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A metric that comes newly needs a document in the small database that it counts."""
    now = datetime.now(UTC)
    fill(database, now)
    # There are more collections than a label may have values, so that some are counted under `other`.
    one = exporter(now, max_label_values=16, max_series=16, usage_windows="12h,7d,month", **switched_on)

    def refuse() -> datetime:
        raise ConnectionFailure

    with monkeypatch.context() as patch:
        patch.setattr(one.daemon.librechat, "now", refuse)
        one.scrape()  # fails, which is counted too
    families = served(one)
    offered = [metric.family() for metric in METRICS]
    assert {name: family.type for name, family in families.items()} == {family.name: family.type for family in offered}
    told = {sample.name for family in families.values() for sample in family.samples if sample.value != 0}
    assert {metric.name for metric in METRICS if not sample_names([metric]) <= told} == ALWAYS_ZERO.keys()


def test_a_toggle_takes_away_what_names_it_and_nothing_else(
    database: Database[Document], exporter: MakeExporter, switched_on: dict[str, object], tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    fill(database, now)

    def names(**toggles: bool) -> set[str]:
        state = tmp_path / f"{'-'.join(toggles)}.sqlite"
        one = exporter(now, state_path=str(state), **switched_on, **toggles)
        found = set(served(one))
        one.close()
        return found

    toggles = {toggle for metric in METRICS for toggle in metric.toggles}
    everything = names()
    changed = {toggle: everything ^ names(**{f"enable_{toggle}_metrics": False}) for toggle in toggles}
    assert changed == {
        toggle: {metric.family().name for metric in METRICS if toggle in metric.toggles} for toggle in toggles
    }
