"""The newest and the stable Prometheus, and VictoriaMetrics' agent, scrape the daemon in all forms they may ask for."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest
import yaml
from pymongo.database import Database

from tests.chats import object_id
from tests.conftest import Document, MakeProcess, needs_debian
from tools.prometheus import Prometheus
from tools.victoria_metrics import NEWER, VictoriaMetrics, Vmagent

pytestmark = needs_debian

SENT = 7
ODD = 'a "model"\nof two lines, ü and \\'
PROTOCOLS = ("OpenMetricsText1.0.0", "OpenMetricsText0.0.1", "PrometheusText1.0.0", "PrometheusText0.0.4")
# A job for each way of asking, which the newest Prometheus has.
FORMS: dict[str, dict[str, object]] = {
    "librechat": {},
    **{protocol: {"scrape_protocols": [protocol]} for protocol in PROTOCOLS},
    "legacy names": {"metric_name_validation_scheme": "legacy", "metric_name_escaping_scheme": "underscores"},
    "not compressed": {"enable_compression": False},
}


def configuration(port: int, forms: dict[str, dict[str, object]]) -> str:
    targets = {"static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
    jobs = [{"job_name": name} | targets | form for name, form in forms.items()]
    return yaml.safe_dump({"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": jobs})


def newest(stack: ExitStack, port: int) -> Prometheus:
    return stack.enter_context(Prometheus(configuration(port, FORMS), NEWER / "prometheus"))


def stable(stack: ExitStack, port: int) -> Prometheus:
    return stack.enter_context(Prometheus(configuration(port, {"librechat": {}})))


def remote_write(stack: ExitStack, port: int) -> Prometheus:
    receiver = stack.enter_context(VictoriaMetrics())
    stack.enter_context(Vmagent(configuration(port, {"librechat": {}}), receiver))
    return receiver


def counts(receiver: Prometheus, metric: str) -> list[float]:
    return [float(one["value"][1]) for one in receiver.query(metric)]


def wait(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.mark.parametrize(("receiver", "jobs"), [(stable, 1), (newest, len(FORMS)), (remote_write, 1)])
def test_it_is_scraped_and_increase_is_exact(
    process: MakeProcess, database: Database[Document], receiver: Callable[[ExitStack, int], Prometheus], jobs: int
) -> None:
    def send(first: int) -> None:
        now = datetime.now(UTC)
        database["messages"].insert_many(
            {"_id": object_id(now, first + number), "user": "u", "model": ODD, "tokenCount": 1, "createdAt": now}
            for number in range(SENT)
        )

    send(0)
    exporter = process().start()
    with ExitStack() as stack:
        server = receiver(stack, exporter.port)
        wait(lambda: counts(server, "librechat_messages_total") == [SENT] * jobs)
        series = server.query("librechat_messages_per_model_total")
        assert [one["metric"]["model"] for one in series] == [ODD] * jobs
        send(SENT)
        wait(lambda: counts(server, "librechat_messages_total") == [2 * SENT] * jobs)
        database["messages"].delete_many({})
        time.sleep(2)
        added = "max_over_time(librechat_messages_total[1m]) - min_over_time(librechat_messages_total[1m])"
        assert counts(server, added) == [SENT] * jobs
        assert counts(server, "resets(librechat_messages_total[1m])") == [0] * jobs
        wait(lambda: counts(server, "up") == [1] * jobs)
