"""The whole exposition of the real process on a fixed data set; and what promtool thinks of it."""

import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pymongo.database import Database

from tests.conftest import Document, MakeProcess
from tools.simulator import Simulator

GOLDEN = Path(__file__).parent / "golden.txt"

# What differs from run to run; its names and labels are compared, its values are not.
VOLATILE = (
    "librechat_exporter_build_info",
    "librechat_exporter_collector_duration_seconds",
    "librechat_exporter_data_age_seconds",
    "librechat_daily_unique_users",
    "librechat_weekly_unique_users",
    "librechat_monthly_unique_users",
)
# The process' own, as prometheus-client makes them.
FOREIGN = ("process_", "python_")

# Names that break Prometheus' conventions and are kept, because dashboards of other exporters use them.
KEPT_NAMES = {
    "librechat_thumbs_up_total": 'non-counter metrics should not have "_total" suffix',
    "librechat_thumbs_down_total": 'non-counter metrics should not have "_total" suffix',
    "librechat_agents_total": 'non-counter metrics should not have "_total" suffix',
    "librechat_memory_entries_total": 'non-counter metrics should not have "_total" suffix',
    "librechat_shared_links_total": 'non-counter metrics should not have "_total" suffix',
    "librechat_rated_messages_total": 'non-counter metrics should not have "_total" suffix',
}


def normalized(exposition: str) -> str:
    lines = []
    for line in exposition.splitlines():
        name = re.split(r"[ {]", line.removeprefix("# HELP ").removeprefix("# TYPE "), maxsplit=1)[0]
        if name.startswith(FOREIGN):
            continue
        if name == "librechat_exporter_build_info" and not line.startswith("#"):
            line = re.sub(r'"[^"]*"', '"…"', line)
        if name in VOLATILE and not line.startswith("#"):
            line = line.rpartition(" ")[0] + " …"
        lines.append(line)
    return "\n".join(lines) + "\n"


@pytest.fixture
def exposition(database: Database[Document], process: MakeProcess, tmp_path: Path) -> str:
    simulator = Simulator(database, seed=2026, users=12)
    simulator.fill(600, days=60, end=datetime.now(UTC) - timedelta(days=1))
    agent = next(iter(simulator.agents))
    thread = {"conversationId": "thread", "subagentThread": {"parentConversationId": "c"}, "agent_id": agent}
    database["conversations"].insert_one(thread)
    database["messages"].insert_one({"messageId": "sub", "conversationId": "thread", "subagentTask": {"id": "t"}})
    database["messages"].insert_one(
        {"messageId": "odd", "user": 5, "model": 'a "model"\nof two lines \\', "tokenCount": -1, "error": True}
    )
    # All of it lies within the window, so that its values do not depend on the time of the day.
    (tmp_path / "prices.yml").write_text("gpt-*: {input: 2.5, output: 10}\nclaude-*: {input: 3, output: 15}\n")
    settings = {"GROUP_METRICS": "true", "DOMAIN_METRICS": "true", "MODEL_PRICES": str(tmp_path / "prices.yml")}
    one = process(USAGE_WINDOWS="90d", EXTERNAL_MODEL_REGEX="gpt|claude", **settings).start()
    one.scrape()
    return one.get("/metrics")[2].decode()


def test_the_exposition_is_the_golden_one(exposition: str, request: pytest.FixtureRequest) -> None:
    found = normalized(exposition)
    if request.config.getoption("--write-golden"):
        GOLDEN.write_text(found)
    assert found == GOLDEN.read_text(), "if the change is meant, run `make golden` and read the difference"
    series = [line.rpartition(" ")[0] for line in found.splitlines() if not line.startswith("#")]
    assert len(series) == len(set(series))


def test_promtool_finds_nothing_but_the_names_that_are_kept(exposition: str) -> None:
    lint = subprocess.run(
        ["promtool", "check", "metrics"], input=exposition, capture_output=True, text=True, check=False, timeout=60
    )
    found = dict(line.split(" ", 1) for line in lint.stderr.splitlines())
    assert {name: text for name, text in found.items() if not name.startswith(FOREIGN)} == KEPT_NAMES
