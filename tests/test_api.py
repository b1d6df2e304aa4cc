"""LibreChat's own health, which no scrape waits for."""

import time
from pathlib import Path

import pytest
from pymongo.database import Database

from librechat_exporter.collectors import api
from tests.conftest import Document, MakeExporter, MakeLibreChat
from tools.private_server import free_port

UP = ("librechat_api_up", ())
SECONDS = ("librechat_api_response_seconds", ())
STATUS = ("librechat_status_code", ())
SUCCESS = ("librechat_exporter_collector_success", (("collector", "api"),))


def test_up_and_down(
    database: Database[Document],
    exporter: MakeExporter,
    librechat: MakeLibreChat,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Why it is down is said once."""
    database["messages"].insert_one({})
    values = exporter(librechat_url=librechat(200, 0)).scrape()
    assert values[UP] == 1
    assert 0 < values[SECONDS] < 1
    assert values[STATUS] == 200
    assert caplog.text == ""
    refused = f"http://127.0.0.1:{free_port()}"
    for number, (url, status, said) in enumerate(
        ((librechat(503, 0), 503, "with HTTP status 503"), (refused, None, "does not answer (ConnectionRefusedError)"))
    ):
        one = exporter(librechat_url=url, state_path=str(tmp_path / f"{number}.sqlite"))
        for _ in range(2):
            values = one.scrape()
            assert values[UP] == 0
            assert SECONDS not in values
            assert values.get(STATUS) == status
        assert caplog.text.count(said) == 1


def test_without_an_address_it_is_not_asked(database: Database[Document], exporter: MakeExporter) -> None:
    database["messages"].insert_one({})
    values = exporter().scrape()
    assert UP not in values
    assert SUCCESS not in values


def test_a_slow_answer_delays_no_scrape(
    database: Database[Document],
    exporter: MakeExporter,
    librechat: MakeLibreChat,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database["messages"].insert_one({})
    monkeypatch.setattr(api, "_PATIENCE_SECONDS", 0.2)
    one = exporter(librechat_url=librechat(200, 1))
    started = time.monotonic()
    values = one.scrape()
    assert time.monotonic() - started < 0.9
    assert UP not in values
    assert values[SUCCESS] == 0
    time.sleep(1)
    values = one.scrape()
    assert (values[UP], values[SUCCESS]) == (1, 1)
    assert values[SECONDS] == pytest.approx(1, abs=0.4)
