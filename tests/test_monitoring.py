"""Every query of the dashboards, rules and alerts is run by a real Prometheus that has scraped the daemon."""

import json
import math
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pymongo
import pytest
import yaml

from tests.conftest import METRICS_PY, Document, Process
from tools import mock_servers
from tools.draw import draw
from tools.prometheus import Prometheus
from tools.simulator import Simulator

ROOT = METRICS_PY.parent
FOLDER = ROOT / "prometheus-dev"
DASHBOARDS = sorted([FOLDER / "Grafana-Dashboard-template.json", *(FOLDER / "grafana" / "dashboards").glob("*.json")])
BESIDE = ROOT / "deploy" / "librechat"
RULES = sorted((FOLDER / "rules").glob("*.yml"))
VARIABLES = {
    "$__rate_interval": "10s",
    "$__range": "1m",
    "$instance": ".*",
    "$model": ".*",
    "$served": ".*",
    "$session": ".*",
}
SECONDS = 15
TOKEN = "s3cret"  # noqa: S105
# Known once Prometheus has seen a month begin; its own test tells that time.
NOT_AT_FIRST = {"instance:librechat_llm_cost_usd:month_start"}


class _Healthy(BaseHTTPRequestHandler):
    """LibreChat's own /health."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"OK")

    def log_message(self, *_arguments: Any) -> None:
        """Nothing to say."""


def configuration(exporter: Process, ports: dict[str, int]) -> str:
    """prometheus.yml, as fast as a test wants it, with the targets where they are here."""
    given = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    secret = exporter.folder / "metrics_secret"
    secret.write_text(TOKEN)
    script = yaml.safe_load((FOLDER / "docker-compose.yml").read_text())["services"]["prometheus"]["entrypoint"][2]
    for job in given["scrape_configs"]:
        if "authorization" in job:
            assert f"> {job['authorization']['credentials_file']}\n" in script
            job["authorization"]["credentials_file"] = str(secret)
        for found in job.pop("file_sd_configs", ()):
            assert f"> {found['files'][0]}\n" in script
    del given["otlp"]  # Debian's Prometheus is older than it
    given["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    given["rule_files"] = [str(exporter.folder / path.name) for path in RULES]
    for path in RULES:  # all groups at once, as seldom as some are worked out elsewhere
        (exporter.folder / path.name).write_text(re.sub(r"interval: \w+", "interval: 1s", path.read_text()))
    targets = {"librechat": exporter.port} | ports
    given["scrape_configs"] = [one for one in given["scrape_configs"] if one["job_name"] in targets]
    assert len(given["scrape_configs"]) == 1 + 6
    for job in given["scrape_configs"]:
        job.pop("dns_sd_configs", None)
        job["static_configs"] = [{"targets": [f"127.0.0.1:{targets[job['job_name']]}"]}]
    # What comes over OTLP there has no job; here it is scraped.
    agents = {"job_name": "claude_code", "static_configs": [{"targets": [f"127.0.0.1:{ports['claude_code']}"]}]}
    given["scrape_configs"].append(agents)
    return yaml.safe_dump(given)


@pytest.fixture(scope="module")
def prometheus(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It has scraped the daemon over traffic, and all that runs beside LibreChat, for SECONDS."""
    client: pymongo.MongoClient[Document] = pymongo.MongoClient(mongodb_uri, tz_aware=True)
    database = client["test_monitoring"]
    client.drop_database(database)
    simulator = Simulator(database, users=20)
    simulator.fill(4000, days=40)
    simulator.register(datetime.now(UTC) - timedelta(days=3))
    rejected = {"isCreatedByUser": False, "error": True, "text": '{"type":"token_balance"}'}
    database["messages"].insert_one(rejected | {"createdAt": datetime.now(UTC)})
    prices = tmp_path_factory.mktemp("prices") / "prices.yml"
    prices.write_text("gpt-*: {input: 2.5, output: 10}\n")
    librechat = HTTPServer(("127.0.0.1", 0), _Healthy)
    threading.Thread(target=librechat.serve_forever, daemon=True).start()
    exporter = Process(
        tmp_path_factory.mktemp("exporter"),
        MONGODB_URI=mongodb_uri,
        MONGODB_DATABASE=database.name,
        EXTERNAL_MODEL_REGEX="gpt|claude",
        LIBRECHAT_URL=f"http://127.0.0.1:{librechat.server_port}",
        STATE_REFRESH="1",
        USAGE_WINDOWS="1d,7d,30d,month",
        GROUP_METRICS="true",
        DOMAIN_METRICS="true",
        PER_USER_METRICS="hash",
        USER_ID_SALT="0123456789abcdef",
        MODEL_PRICES=str(prices),
    ).start()
    exporter.scrape()
    names = ("vllm", "litellm", "dcgm", "node", "cadvisor", "claude_code")
    mocks = {name: mock_servers.serve(getattr(mock_servers, name), "127.0.0.1", 0) for name in names}
    mocks["librechat-api"] = mock_servers.serve(mock_servers.librechat, "127.0.0.1", 0, TOKEN)
    ports = {name: port for name, (port, _) in mocks.items()}
    stop = threading.Event()
    traffic = threading.Thread(target=simulator.run, args=(20, stop))
    try:
        with Prometheus(configuration(exporter, ports)) as server:
            traffic.start()
            time.sleep(SECONDS)
            targets = server.get("targets")["activeTargets"]
            assert [one["scrapePool"] for one in targets if one["health"] != "up"] == [], targets
            yield server
    finally:
        stop.set()
        traffic.join()
        exporter.stop()
        librechat.shutdown()
        librechat.server_close()
        for _, end in mocks.values():
            end()
        client.drop_database(database)
        client.close()


def panels(path: Path) -> list[dict[str, Any]]:
    return [panel for panel in json.loads(path.read_text())["panels"] if panel.get("targets")]


def expressions(path: Path) -> list[tuple[str, str]]:
    """Titles and expressions, with Grafana's variables replaced."""
    found = []
    for panel in panels(path):
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            assert "$" not in expression, f"{expression} has a variable that is not known here"
            found.append((panel["title"], expression))
    return found


def has_data(server: Prometheus, expression: str) -> bool:
    """True if there was a number at any time."""
    end = time.time()
    series = server.get("query_range", query=expression, start=str(end - SECONDS), end=str(end), step="1")["result"]
    return any(math.isfinite(float(value)) for one in series for _, value in one["values"])


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_query_of_a_dashboard_returns_data(prometheus: Prometheus, path: Path) -> None:
    found = expressions(path)
    assert len(found) >= 10
    empty = [(title, expression) for title, expression in found if not has_data(prometheus, expression)]
    assert not empty


def test_the_documentations_queries_return_data(prometheus: Prometheus) -> None:
    blocks = re.findall(r"```promql\n(.*?)```", "".join(map(Path.read_text, (ROOT / "docs").glob("*.md"))), re.DOTALL)
    queries = [re.sub(r"#.*", "", one).strip() for block in blocks for one in block.split("\n\n")]
    assert len(queries) >= 3
    assert [one for one in queries if not has_data(prometheus, one)] == []


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_dashboard_can_be_drawn(prometheus: Prometheus, path: Path, tmp_path: Path) -> None:
    """With what is there, and where nothing is."""
    for number, end in enumerate((datetime.now(UTC), datetime(2001, 1, 1, tzinfo=UTC))):
        file = tmp_path / f"{number}.png"
        draw(json.loads(path.read_text()), prometheus, end, file)
        assert file.read_bytes().startswith(b"\x89PNG")
    assert len((tmp_path / "0.png").read_bytes()) > len((tmp_path / "1.png").read_bytes())


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_axis_has_its_unit(path: Path) -> None:
    for panel in panels(path):
        if panel["type"] == "timeseries":
            defaults = panel["fieldConfig"]["defaults"]
            assert defaults["unit"] != "short" or defaults["custom"]["axisLabel"], panel["title"]


def test_the_first_screen_tells_what_matters() -> None:
    """It tells whether it works, who is there, what it costs: in the rows that a screen of 1080 pixels shows."""
    [first, second] = [
        one["gridPos"]["y"] for one in json.loads(DASHBOARDS[0].read_text())["panels"] if one["type"] == "row"
    ][:2]
    assert second - first <= 21
    seen = {one["title"] for one in panels(DASHBOARDS[0]) if one["gridPos"]["y"] < second}
    assert seen >= {"LibreChat and MongoDB", "Answers that fail", "Users today", "Cost in this time", "Cost this month"}


def test_every_variable_finds_values(prometheus: Prometheus) -> None:
    for path in DASHBOARDS:
        variables = [one for one in json.loads(path.read_text())["templating"]["list"] if one["type"] == "query"]
        for one in variables:
            [(selector, label)] = re.findall(r"label_values\((.*), (\w+)\)$", one["query"])
            for name, value in VARIABLES.items():
                selector = selector.replace(name, value)
            assert any(label in series["metric"] for series in prometheus.query(selector)), one["query"]


def test_every_rule_and_alert_is_evaluated(prometheus: Prometheus) -> None:
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    wanted = [rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]
    assert len(rules) == len(wanted) > 30
    for rule in rules:
        assert (rule["health"], rule.get("lastError", "")) == ("ok", ""), rule["name"]
        if rule["type"] == "recording":
            assert has_data(prometheus, rule["name"]) or rule["name"] in NOT_AT_FIRST, rule["name"]
        else:
            prometheus.query(rule["query"])
    firing = {rule["name"] for rule in rules if rule["type"] == "alerting" and rule["state"] == "firing"}
    assert not firing, "nothing is wrong here"


def test_promtool_accepts_and_tests_the_rules() -> None:
    """In its unit tests every alert fires, and is silent, on series that are made for it."""
    subprocess.run(["promtool", "check", "rules", *RULES], check=True, capture_output=True)
    tests = sorted((FOLDER / "rules" / "tests").glob("*.yml"))
    ran = subprocess.run(["promtool", "test", "rules", *tests], check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "rules" / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_every_alert_is_tested_and_has_its_section() -> None:
    tests = "".join(path.read_text() for path in (FOLDER / "rules" / "tests").glob("*.yml"))
    sections = re.findall(r"^### (\w+)$", (ROOT / "docs" / "alerts.md").read_text(), re.MULTILINE)
    assert sorted(sections) == sorted(alert["alert"] for alert in alerts())
    for alert in alerts():
        name = alert["alert"]
        assert f'alertname="{name}"' in tests, name
        assert alert["annotations"]["runbook_url"] == f"docs/alerts.md#{name.lower()}"
        assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
        assert alert["labels"]["severity"] in ("warning", "critical")
        assert "for" in alert


def test_recording_rules_are_named_by_the_convention() -> None:
    """But for those that have the names of another exporter's metrics."""
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    recorded = [rule for group in groups for rule in group["rules"] if "record" in rule]
    theirs = [one["record"] for one in recorded if re.fullmatch(r"librechat_[a-z0-9_]+", one["record"])]
    assert len(theirs) == 16
    for rule in (one for one in recorded if one["record"] not in theirs):
        assert re.fullmatch(r"[a-z_]+:[a-z_]+:[a-z0-9_]+", rule["record"]), rule["record"]


def hosts(job: dict[str, Any]) -> list[str]:
    """Whom a job scrapes. A name that only a profile brings is looked up, so that it is no target without that."""
    looked_up = [f"{name}:{one['port']}" for one in job.get("dns_sd_configs", ()) for name in one["names"]]
    looked_up += [file for one in job.get("file_sd_configs", ()) for file in one["files"]]
    return looked_up or [target for one in job["static_configs"] for target in one["targets"]]


def test_the_demo_scrapes_what_the_real_one_does() -> None:
    real, demo = (yaml.safe_load((FOLDER / f"prometheus{name}.yml").read_text()) for name in ("", ".demo"))
    assert (real["global"], real["rule_files"]) == (demo["global"], demo["rule_files"])
    jobs = {job["job_name"]: hosts(job) for job in demo["scrape_configs"]}
    assert jobs.pop("claude_code")
    real_jobs = {job["job_name"]: hosts(job) for job in real["scrape_configs"]}
    assert jobs.pop("librechat") != real_jobs.pop("librechat")
    assert jobs == real_jobs


def test_no_job_is_down_by_design() -> None:
    """All that is scraped by a fixed name is started by the same file, or is the exporter on the host."""
    for compose, configuration in (
        (FOLDER / "docker-compose.yml", FOLDER / "prometheus.yml"),
        (
            BESIDE / "docker-compose.override.yml",
            BESIDE / "prometheus.yml",
        ),
    ):
        services = yaml.safe_load(compose.read_text())["services"]
        known = {name for name, one in services.items() if one.get("profiles", ["monitoring"]) == ["monitoring"]}
        for job in yaml.safe_load(configuration.read_text())["scrape_configs"]:
            looked_up = {name for one in job.get("dns_sd_configs", ()) for name in one["names"]}
            assert looked_up <= services.keys(), f"{job['job_name']} is started by no profile"
            for one in job.get("static_configs", ()):
                names = {target.partition(":")[0] for target in one["targets"]}
                assert names <= known | {"localhost", "host.docker.internal"}, job["job_name"]


def test_no_port_is_published_twice() -> None:
    ports = [
        re.sub(r"\$\{\w+:-(\d+)\}", r"\1", port).split(":")[1]
        for path in (*ROOT.glob("*/docker-compose*.yml"), *ROOT.glob("deploy/*/docker-compose*.yml"))
        for service in yaml.safe_load(path.read_text())["services"].values()
        for port in service.get("ports", ())
    ]
    assert len(ports) >= 5
    assert len(ports) == len(set(ports))
    assert "3080" not in ports, "LibreChat's own"


def test_the_configuration_of_alertmanager_is_known_to_it() -> None:
    known = yaml.safe_load((BESIDE / "alertmanager.yml").read_text())
    alerts = yaml.safe_load((FOLDER / "rules" / "alerts.yml").read_text())
    names = {rule["alert"] for group in alerts["groups"] for rule in group["rules"] if "alert" in rule}
    for rule in known["inhibit_rules"]:
        [source] = rule["source_matchers"]
        assert source.partition(" = ")[2] in names


def test_the_stack_beside_librechat_is_the_development_stacks() -> None:
    """The same images and the same way of handing Prometheus the token."""
    ours, beside = (
        yaml.safe_load(path.read_text())["services"]
        for path in (FOLDER / "docker-compose.yml", BESIDE / "docker-compose.override.yml")
    )
    for name in ("prometheus", "grafana"):
        assert ours[name]["image"] == beside[name]["image"]
    assert ours["prometheus"]["entrypoint"] == beside["prometheus"]["entrypoint"]


def test_librechats_own_metrics_want_their_token() -> None:
    port, stop = mock_servers.serve(mock_servers.librechat, "127.0.0.1", 0, TOKEN)
    try:
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5)
    finally:
        stop()


@pytest.mark.parametrize(("secret", "targets"), [("", None), (TOKEN, [{"targets": ["api:3080"]}])])
def test_librechat_is_scraped_where_it_has_a_secret(secret: str, targets: object, tmp_path: Path) -> None:
    service = yaml.safe_load((BESIDE / "docker-compose.override.yml").read_text())["services"]["prometheus"]
    script = service["entrypoint"][2].replace("$$", "$").replace("> /tmp/", f"> {tmp_path}/").replace("exec ", "true ")
    environment = {"METRICS_SECRET": secret, "LIBRECHAT_ADDRESS": "api:3080", "PATH": "/usr/bin:/bin"}
    subprocess.run(["/bin/sh", "-ec", script, "prometheus"], env=environment, check=True)
    assert (tmp_path / "metrics_secret").read_text() == secret
    written = tmp_path / "librechat-api.json"
    assert (json.loads(written.read_text()) if written.exists() else None) == targets
