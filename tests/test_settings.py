"""Settings: their defaults, all errors at once, secrets from files and in no log; the command line."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from pymongo.database import Database

from librechat_exporter import __version__
from librechat_exporter.settings import Settings, SettingsError, documented
from tests.conftest import METRICS_PY, Document, MakeExporter


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine's, no .env of the folder's."""
    for name in (*documented(Settings), *(name.lower() for name in documented(Settings))):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_defaults() -> None:
    settings = Settings.load()
    assert settings.mongodb_uri.get_secret_value() == "mongodb://mongodb:27017/"
    assert settings.database == "LibreChat"
    assert settings.bind_address == ("0.0.0.0", 8000)
    assert settings.metrics_timezone == ZoneInfo("UTC")
    assert settings.toggles == {
        "basic",
        "token",
        "user",
        "model",
        "time_window",
        "rating",
        "file",
        "tool",
        "agent",
        "answer",
        "balance",
        "feature",
        "cost",
        "usage_window",
    }


def test_environment_wins_over_the_file_and_empty_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text(
        "MONGODB_DATABASE=FromFile\nTENANT_ID=acme\nMETRICS_TIMEZONE=Europe/Berlin\nLISTEN_ADDRESS=[::1]:9000\nOTHER=x\n"
    )
    monkeypatch.setenv("MONGODB_DATABASE", "FromEnvironment")
    monkeypatch.setenv("SCRAPE_TIMEOUT", "")
    monkeypatch.setenv("ENABLE_RATING_METRICS", "no")
    settings = Settings.load()
    assert (settings.mongodb_database, settings.tenant_id) == ("FromEnvironment", "acme")
    assert settings.metrics_timezone == ZoneInfo("Europe/Berlin")
    assert settings.bind_address == ("::1", 9000)
    assert settings.scrape_timeout == 10
    assert "rating" not in settings.toggles


BAD = {
    "MONGODB_URI": [
        "localhost:27017",
        "mongodb://user:p@ss:word@host",
        "mongodb://host:notaport/",
        "http://host/",
        "mongodb+srv://a:p@ss:word@host",
    ],
    "LISTEN_ADDRESS": ["8000", "0.0.0.0", "0.0.0.0:99999", "::1:8000", "host:port"],
    "METRICS_TIMEZONE": ["Berlin", "../../etc/passwd", "/etc/passwd"],
    "LEDGER_OPEN_MINUTES": ["0", "ten", "100000"],
    "SCRAPE_TIMEOUT": ["0", "-1", "soon", "nan"],
    "MAX_LABEL_VALUES": ["0", "many"],
    "MONGO_READ_PREFERENCE": ["secundary"],
    "LOGGING_LEVEL": ["loud"],
    "LOGGING_FORMAT": ["%(nothing)s", "%(message)d"],
    "ENABLE_BASIC_METRICS": ["perhaps"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_bad_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    [line] = str(caught.value).splitlines()
    assert line.startswith(f"{name}: ")
    assert "p@ss" not in line


def test_all_errors_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, values in BAD.items():
        monkeypatch.setenv(name, values[0])
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    assert {line.partition(":")[0] for line in str(caught.value).splitlines()} == BAD.keys()


def test_the_connection_string_from_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("secret").write_text("mongodb://reader:from-file@host/\n")
    monkeypatch.setenv("MONGODB_URI", "mongodb://other/")
    monkeypatch.setenv("MONGODB_URI_FILE", "secret")
    settings = Settings.load()
    assert settings.mongodb_uri.get_secret_value() == "mongodb://reader:from-file@host/"
    assert "from-file" not in repr(settings)
    monkeypatch.setenv("MONGODB_URI_FILE", "nowhere")
    monkeypatch.setenv("LOGGING_LEVEL", "info")
    with pytest.raises(SettingsError, match=r"^MONGODB_URI_FILE: it names a file that cannot be read: No such file"):
        Settings.load()


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, METRICS_PY, *arguments],
        env={"PATH": os.environ["PATH"]} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_version_and_help() -> None:
    assert run("--version").stdout == f"librechat-exporter {__version__}\n"
    assert "--check" in run("--help").stdout
    assert run("--nonsense").returncode == 2


def test_wrong_settings_stop_the_start() -> None:
    result = run(LOGGING_LEVEL="loud", SCRAPE_TIMEOUT="0")
    assert result.returncode == 2
    assert "LOGGING_LEVEL: must be one of" in result.stderr
    assert "SCRAPE_TIMEOUT: " in result.stderr


def test_a_port_in_use_and_a_state_in_use(mongodb_uri: str, exporter: MakeExporter, tmp_path: Path) -> None:
    exporter()
    state = str(tmp_path / "ledger.sqlite")
    result = run(MONGODB_URI=mongodb_uri, STATE_PATH=state, LISTEN_ADDRESS="127.0.0.1:0")
    assert result.returncode == 2
    assert "is in use by another exporter" in result.stderr
    port = mongodb_uri.rpartition(":")[2].rstrip("/")
    result = run(MONGODB_URI=mongodb_uri, STATE_PATH=str(tmp_path / "2"), LISTEN_ADDRESS=f"127.0.0.1:{port}")
    assert result.returncode == 2
    assert f"LISTEN_ADDRESS 127.0.0.1:{port} cannot be served" in result.stderr


def test_the_cache_settings_of_others_are_answered(mongodb_uri: str, tmp_path: Path) -> None:
    state = str(tmp_path / "s")
    result = run(
        "--print-indexes", MONGODB_URI=mongodb_uri, METRICS_CACHE_TTL="60", METRICS_CACHE_ENABLED="1", STATE_PATH=state
    )
    assert result.stderr.count("METRICS_CACHE_ENABLED and METRICS_CACHE_TTL have no effect: nothing is cached") == 1


def test_a_disabled_group_runs_no_query(
    database: Database[Document], exporter: MakeExporter, caplog: pytest.LogCaptureFixture
) -> None:
    database["messages"].insert_one({"messageId": "m1"})
    toggles = {name.lower(): False for name in documented(Settings) if name.startswith("ENABLE_")}
    database.command("profile", 2)

    def collections(**on: bool) -> set[str]:
        one = exporter(**(toggles | on))
        served = {name for name, _ in one.scrape()}
        one.close()
        database.command("profile", 0)
        commands = [
            entry["command"] for entry in database["system.profile"].find({"op": {"$in": ["command", "query"]}})
        ]
        asked = {command.get("aggregate", command.get("find")) for command in commands} - {"system.profile"}
        database.drop_collection("system.profile")
        database.command("profile", 2)
        assert "librechat_up" in served
        assert bool(on) == any(not name.startswith("librechat_exporter_") for name in served - {"librechat_up"})
        return asked - {None}

    assert collections() == set()
    assert collections(enable_file_metrics=True) == {"files"}
    assert collections(enable_basic_metrics=True) == {"messages", "conversations"}
    assert collections(enable_rating_metrics=True) == {"messages"}
    assert collections(enable_user_metrics=True) == {"messages", "users"}
    assert collections(enable_time_window_metrics=True) == {"messages"}
    assert collections(enable_model_metrics=True) == {"messages"}
    database.command("profile", 0)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING and "failed" in record.message]
