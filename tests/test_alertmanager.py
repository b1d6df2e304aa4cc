"""Alertmanager groups the alerts, keeps silent about what follows from others, and knows the configurations."""

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import yaml

from tests.conftest import METRICS_PY
from tools.alertmanager import Alertmanager

DEPLOY = METRICS_PY.parent / "deploy" / "librechat"
CONFIGURATIONS = sorted(DEPLOY.glob("alertmanager*.yml"))


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.name)
def test_the_configuration_is_valid(path: Any) -> None:
    checked = subprocess.run(["amtool", "check-config", path], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_example_inhibits_and_groups_as_the_other_does() -> None:
    one, other = (yaml.safe_load(path.read_text()) for path in CONFIGURATIONS)
    assert one["inhibit_rules"] == other["inhibit_rules"]
    assert one["route"]["group_by"] == other["route"]["group_by"]


class _Receiver(BaseHTTPRequestHandler):
    """A webhook: what it is told."""

    told: list[dict[str, Any]]

    def do_POST(self) -> None:
        self.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_arguments: Any) -> None:
        """Nothing to say."""


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    told: list[dict[str, Any]] = []
    server = HTTPServer(("127.0.0.1", 0), type("Handler", (_Receiver,), {"told": told}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", told
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_dead_exporter_silences_what_follows_from_it(webhook: tuple[str, list[dict[str, Any]]]) -> None:
    url, told = webhook
    given = yaml.safe_load((DEPLOY / "alertmanager.yml").read_text())
    given["route"] |= {"group_wait": "1s", "group_interval": "1s"}
    given["receivers"] = [{"name": "nobody", "webhook_configs": [{"url": url}]}]
    with Alertmanager(yaml.safe_dump(given)) as server:
        server.send(
            {"alertname": "LibreChatExporterDown", "instance": "dead"},
            {"alertname": "LibreChatAnswersSlow", "instance": "dead"},
            {"alertname": "LibreChatExportStale", "instance": "dead"},
            {"alertname": "LibreChatToolFailing", "instance": "alive", "tool_name": "a"},
            {"alertname": "LibreChatToolFailing", "instance": "alive", "tool_name": "b"},
            {"alertname": "NodeDown", "instance": "dead"},
        )
        end = time.monotonic() + 20
        while len(told) < 4:
            assert time.monotonic() < end, told
            time.sleep(0.1)
        inhibited = {
            one["labels"]["alertname"]: bool(one["status"]["inhibitedBy"])
            for one in server.get("alerts")
            if one["labels"]["instance"] == "dead"
        }
        groups = [group["alerts"] for group in server.get("alerts/groups")]
    assert inhibited == {
        "LibreChatExporterDown": False,
        "LibreChatAnswersSlow": True,
        "LibreChatExportStale": False,
        "NodeDown": False,
    }
    assert sorted(len(alerts) for alerts in groups) == [1, 1, 1, 1, 2]
    names = sorted(alert["labels"]["alertname"] for message in told for alert in message["alerts"])
    assert names == [
        "LibreChatExportStale",
        "LibreChatExporterDown",
        "LibreChatToolFailing",
        "LibreChatToolFailing",
        "NodeDown",
    ]
