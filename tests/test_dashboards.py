"""The dashboards: every query is executed against real data and returns some."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from pymongo.database import Database

from librechat_exporter.historic import command
from tests.conftest import METRICS_PY, Document, Metrics
from tools.simulator import Simulator

ROOT = METRICS_PY.parent
HISTORIC = ROOT / "historic-analysis"
COMPOSE = sorted(ROOT.glob("*/docker-compose*.yml")) + sorted(ROOT.glob("deploy/*/docker-compose*.yml"))
DAYS = ("2026-01-01", "2026-04-30")


def expanded(sql: str, metrics: Metrics, variables: dict[str, str]) -> str:
    """The query as Grafana's MySQL data source sends it for these DAYS, with all models chosen."""
    first, last = (int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) for day in DAYS)
    sql = sql.replace("$__unixEpochFrom()", str(first)).replace("$__unixEpochTo()", str(last))
    for name, value in variables.items():
        sql = sql.replace(f"${{{name}:sqlstring}}", value)
    assert "$" not in sql, f"{sql} has a macro that is not known here"
    return sql


def load(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture
def filled(
    monkeypatch: pytest.MonkeyPatch, mongodb_uri: str, database: Database[Document], metrics: Metrics
) -> Metrics:
    """MariaDB after an export of four months of history."""
    simulator = Simulator(database, users=20)
    simulator.fill(3000, days=105, end=datetime(2026, 4, 20, tzinfo=UTC))
    given = {"MONGODB_URI": mongodb_uri, "MONGODB_DATABASE": database.name, **metrics.environment}
    for name, value in (given | {"GROUP_METRICS": "true", "MODEL_PRICES": "genai-prices"}).items():
        monkeypatch.setenv(name, value)
    assert command.main([DAYS[0], "2026-04-19"]) == 0
    return metrics


def test_every_query_of_the_historic_dashboard_returns_rows(filled: Metrics) -> None:
    dashboard = load(HISTORIC / "Grafana-Dashboard-template.json")
    [model] = [one for one in dashboard["templating"]["list"] if one["name"] == "model"]
    models = [row[0] for row in filled.rows(model["query"])]
    assert len(models) > 4
    chosen = ", ".join(f"'{name}'" for name in models)
    checked = 0
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            for value in (model["allValue"], chosen):
                rows = filled.rows(expanded(target["rawSql"], filled, {"model": value}))
                assert rows, panel["title"]
                assert any(cell is not None for cell in rows[0]), panel["title"]
            checked += 1
    assert checked > 25


def test_the_historic_dashboard_where_mariadb_has_another_time_zone(filled: Metrics) -> None:
    """Days have none: a range shows the same ones in every zone."""
    dashboard = load(HISTORIC / "Grafana-Dashboard-template.json")
    [users] = [panel for panel in dashboard["panels"] if panel["title"] == "Users per day"]
    sql = expanded(users["targets"][0]["rawSql"], filled, {})
    for zone in ("+00:00", "+02:00", "-05:00"):
        filled.rows(f"SET time_zone = '{zone}'")
        assert len(filled.rows(sql)) == 109, zone


def test_the_historic_dashboard_over_empty_tables(filled: Metrics) -> None:
    """No query fails, so that Grafana says that there is no data, and not that there is an error."""
    for (table,) in filled.rows("SHOW TABLES"):
        filled.rows(f"TRUNCATE `{table}`")
    dashboard = load(HISTORIC / "Grafana-Dashboard-template.json")
    [model] = [one for one in dashboard["templating"]["list"] if one["name"] == "model"]
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            filled.rows(expanded(target["rawSql"], filled, {"model": model["allValue"]}))


def test_the_numbers_of_the_historic_dashboard(filled: Metrics, database: Database[Document]) -> None:
    """Some of them, against a plain count."""
    dashboard = load(HISTORIC / "Grafana-Dashboard-template.json")
    queries = {panel["title"]: panel["targets"][0]["rawSql"] for panel in dashboard["panels"] if "targets" in panel}

    def first(title: str) -> Any:
        return filled.rows(expanded(queries[title], filled, {}))[0][0]

    inside = {"createdAt": {"$gte": datetime(2026, 1, 1, tzinfo=UTC), "$lt": datetime(2026, 4, 20, tzinfo=UTC)}}
    assert first("Messages") == database["messages"].count_documents(inside)
    assert first("New conversations") == database["conversations"].count_documents(inside)
    up = database["messages"].count_documents(inside | {"feedback.rating": "thumbsUp"})
    rated = database["messages"].count_documents(inside | {"feedback.rating": {"$exists": True}})
    assert float(first("Satisfaction")) == pytest.approx(up / rated, abs=1e-4)
    spent = sum(abs(one["tokenValue"]) for one in database["transactions"].find(inside))
    assert float(first("Cost")) == pytest.approx(spent / 1e6, rel=1e-6)


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_compose_mounts_exists_and_nothing_is_published(path: Path) -> None:
    services = yaml.safe_load(path.read_text())["services"]
    for name, service in services.items():
        for mounted in service.get("volumes", ()):
            source = mounted.partition(":")[0].replace("./librechat-exporter/", f"{ROOT}/", 1)  # as it is cloned there
            assert not source.startswith((".", str(ROOT))) or (path.parent / source).exists(), mounted
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        image = re.sub(r"\$\{\w+:-([^}]+)\}", r"\1", service.get("image", "librechat-exporter"))
        tag = image.partition(":")[2]
        assert tag not in ("latest", "") or image == "librechat-exporter", f"{image} is not pinned"


# The keys that Grafana's documentation of provisioning knows.
SOURCE_KEYS = {
    *("name", "type", "access", "orgId", "uid", "url", "user", "database", "basicAuth", "basicAuthUser", "version"),
    *("withCredentials", "isDefault", "jsonData", "secureJsonData", "editable", "apiVersion"),
}
PROVIDER_KEYS = {
    *("name", "orgId", "folder", "folderUid", "type", "disableDeletion", "updateIntervalSeconds", "allowUiUpdates"),
    "options",
}


def test_the_sources_that_are_provisioned() -> None:
    for folder, kind in ((HISTORIC, "mysql"), (ROOT / "prometheus-dev", "prometheus")):
        [path] = (folder / "grafana" / "provisioning" / "datasources").glob("*.yml")
        [source] = yaml.safe_load(path.read_text())["datasources"]
        assert (source["type"], source["isDefault"]) == (kind, True)
        assert source.keys() <= SOURCE_KEYS
        [path] = (folder / "grafana" / "provisioning" / "dashboards").glob("*.yml")
        told = yaml.safe_load(path.read_text())
        assert (told.keys(), told["apiVersion"]) == ({"apiVersion", "providers"}, 1)
        for provider in told["providers"]:
            assert provider.keys() <= PROVIDER_KEYS
            assert (provider["type"], Path(provider["options"]["path"]).is_absolute()) == ("file", True)
