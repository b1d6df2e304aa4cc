"""The historic export as an operator meets it: arguments, reruns, older schemas, two runs at once, privacy."""

import os
import re
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pymongo.database import Database

from librechat_exporter.historic import command
from librechat_exporter.historic.lock import LockedError
from librechat_exporter.historic.store import Store
from librechat_exporter.settings import ExportSettings
from tests.conftest import METRICS_PY, Document, Metrics
from tools.simulator import Simulator

TODAY = date(2026, 4, 6)
FIRST, LAST = "2026-03-20", "2026-04-05"
SCRIPT = METRICS_PY.parent / "historic-analysis" / "export_metrics.py"


@pytest.fixture
def environment(
    monkeypatch: pytest.MonkeyPatch, mongodb_uri: str, database: Database[Document], metrics: Metrics
) -> pytest.MonkeyPatch:
    """The settings that name the test's databases; it is the morning of TODAY."""
    for name, value in {"MONGODB_URI": mongodb_uri, "MONGODB_DATABASE": database.name, **metrics.environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MYSQL_RETRY_DELAY", "0")
    monkeypatch.setattr(command, "today", lambda _: TODAY)
    return monkeypatch


@pytest.fixture
def simulator(database: Database[Document]) -> Simulator:
    """Twenty days of history before TODAY."""
    one = Simulator(database, users=20)
    one.fill(1000, days=20, end=datetime(2026, 4, 6, tzinfo=UTC))
    return one


def messages_of(metrics: Metrics) -> dict[date, int]:
    return dict(metrics.rows("SELECT date, total_messages FROM daily_messages ORDER BY date"))


@pytest.mark.usefixtures("environment", "simulator")
def test_without_arguments_it_exports_what_is_new(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([]) == 0
    assert list(messages_of(metrics)) == [date(2026, 3, 7) + timedelta(days=number) for number in range(30)]
    assert re.fullmatch(r"30 days, [\d,]+ rows written in \d+\.\d s\n", capsys.readouterr().out)
    monkeypatch.setattr(command, "today", lambda _: TODAY + timedelta(days=2))
    assert command.main([]) == 0
    assert capsys.readouterr().out.startswith("3 days, "), "two new ones, and the day before them again"
    assert max(messages_of(metrics)) == date(2026, 4, 7)


@pytest.mark.usefixtures("environment")
def test_history_does_not_shrink_when_chats_are_deleted(
    metrics: Metrics, simulator: Simulator, database: Database[Document]
) -> None:
    assert command.main([FIRST, LAST]) == 0
    before, weeks = messages_of(metrics), metrics.rows("SELECT * FROM weekly_users")
    gone, kept = date(2026, 3, 21), date(2026, 4, 4)
    database["messages"].delete_many({"createdAt": {"$lt": datetime(2026, 4, 1, tzinfo=UTC)}})
    simulator.database["messages"].delete_one({"createdAt": {"$gte": datetime(2026, 4, 4, tzinfo=UTC)}})
    assert command.main([FIRST, LAST]) == 0
    after = messages_of(metrics)
    assert after[gone] == before[gone] > 0
    assert after[kept] == before[kept] - 1, "the last two days are written anew"
    assert metrics.rows("SELECT * FROM weekly_users") == weeks, "a week does not shrink for that"
    assert command.main([FIRST, LAST, "--redo", "0"]) == 0
    assert command.main([FIRST, LAST, "--force"]) == 0
    assert messages_of(metrics)[gone] == 0
    assert metrics.rows("SELECT * FROM weekly_users") != weeks


@pytest.mark.usefixtures("environment", "simulator")
def test_daily(metrics: Metrics, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It exports at once, and then each day; a day that fails does not end it."""
    runs = 0

    def wait(_moment: clock, _now: datetime) -> float:
        nonlocal runs
        runs += 1
        monkeypatch.setattr(command, "today", lambda _: TODAY + timedelta(days=runs))
        if runs == 2:
            monkeypatch.setattr(command, "_CHECK_SECONDS", 1e-9)
        if runs == 3:
            raise SystemExit(0)
        return 0

    monkeypatch.setattr(command, "seconds_until", wait)
    with pytest.raises(SystemExit):
        command.main(["--daily", "02:30"])
    assert max(messages_of(metrics)) == date(2026, 4, 6)
    assert "MongoDB cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("zone", "moment", "now", "hours"),
    [
        ("UTC", clock(2, 30), datetime(2026, 4, 1, 1, 30, tzinfo=UTC), 1),
        ("UTC", clock(2, 30), datetime(2026, 4, 1, 2, 30, tzinfo=UTC), 24),
        ("Europe/Berlin", clock(3, 30), datetime(2026, 3, 28, 2, 30, tzinfo=UTC), 23),  # the clocks go forward
    ],
)
def test_the_next_run(zone: str, moment: clock, now: datetime, hours: int) -> None:
    assert command.seconds_until(moment, now.astimezone(ZoneInfo(zone))) == hours * 3600


@pytest.mark.usefixtures("environment", "simulator")
def test_a_dry_run_does_nothing(metrics: Metrics, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--days", "3", "--dry-run"]) == 0
    assert "Would be written: 2026-04-03 to 2026-04-05\nWould be written: weekly_users of 2026-03-30 to" in (
        capsys.readouterr().out
    )
    assert metrics.rows("SHOW TABLES") == []


@pytest.mark.usefixtures("simulator")
def test_a_dry_run_that_fails(environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    environment.setenv("MYSQL_PASSWORD", "wrong")
    assert command.main(["--days", "3", "--dry-run"]) == 1
    assert "ER_ACCESS_DENIED_ERROR" in capsys.readouterr().err
    environment.setattr(command, "_CHECK_SECONDS", 1e-9)
    assert command.main(["--days", "3", "--dry-run"]) == 1
    assert "MongoDB cannot be read" in capsys.readouterr().err


@pytest.mark.usefixtures("environment", "simulator")
def test_cleanup(metrics: Metrics, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([FIRST, LAST]) == 0
    assert command.main(["--days", "3", "--cleanup"]) == 2, "there is no terminal"
    assert "add --yes" in capsys.readouterr().err
    assert command.main(["--cleanup", "--yes"]) == 2
    assert "name them" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: "n")
    assert command.main(["--days", "3", "--cleanup"]) == 1
    assert len(messages_of(metrics)) == 17
    asked: list[str] = []

    def agree(text: str) -> str:
        asked.append(text)
        return "y"

    monkeypatch.setattr("builtins.input", agree)
    assert command.main(["--days", "3", "--cleanup"]) == 0
    assert re.match(r"\d+ rows outside 2026-04-03 to 2026-04-05 will be deleted", asked[0])
    assert min(messages_of(metrics)) == date(2026, 4, 3)
    assert metrics.rows("SELECT week_start FROM weekly_users") == [(date(2026, 3, 30),)], "a part of it is inside"
    assert metrics.rows("SELECT * FROM monthly_users") == []
    for table in ("daily_tokens_by_user", "daily_cost_by_model", "daily_tool_calls"):
        assert metrics.rows(f"SELECT * FROM {table} WHERE date < '2026-04-03'") == []  # noqa: S608
    assert command.main(["--days", "2", "--cleanup", "--yes"]) == 0
    assert len(messages_of(metrics)) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["2026-02-30", "2026-03-01"], "'2026-02-30' is not a day; write it as 2024-01-31"),
        (["2026-03-02", "2026-03-01"], "the start 2026-03-02 is after the end 2026-03-01"),
        (
            ["2026-03-02", "2026-04-07"],
            "the end 2026-04-07 is not over in UTC; the last day that is over is 2026-04-05",
        ),
        (["2026-03-02"], "START and END belong together; END is missing"),
        (["--end-date", "2026-03-02"], "--start-date and --end-date belong together; --start-date is missing"),
        (["2026-03-02", "2026-03-03", "--days", "2"], "name the days in one way"),
        (["--days", "0"], "--days must be at least 1"),
        (["--days", "many"], "'many' is not a number of days"),
        (["--days", "-3"], "'-3' is not a number of days"),
        (["--daily", "25:00"], "'25:00' is not a time of day; write it as 02:30"),
        (["--daily", "02:30", "--days", "2"], "--daily exports what is new each time; name no days"),
        (["--redo", "x"], "'x' is not a number of days"),
        (["1999-03-02", "2026-03-03"], "is before 2000-01-01"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
@pytest.mark.usefixtures("environment", "database")
def test_arguments_that_make_no_sense(
    arguments: list[str], said: str, metrics: Metrics, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = command.main(arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    assert code == 2
    assert said in capsys.readouterr().err
    assert metrics.rows("SHOW TABLES") == []


def test_settings_that_make_no_sense(
    environment: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("MYSQL_PORT", "nine")
    environment.setenv("MYSQL_HOST", "mysql://root:hunter2@localhost/metrics")
    environment.setenv("USER_IDS", "hash")
    environment.setenv("MYSQL_SSL_CA", str(tmp_path / "none.pem"))
    assert command.main([]) == 2
    said = capsys.readouterr().err
    assert "MYSQL_PORT: " in said
    assert "MYSQL_HOST: must be a host's name or address alone" in said
    assert "hunter2" not in said
    assert "none.pem is not a file" in said
    environment.delenv("MYSQL_PORT")
    environment.setenv("MYSQL_HOST", "127.0.0.1:3306")
    environment.delenv("USER_IDS")
    assert command.main([]) == 2
    assert "MYSQL_HOST: must be" in capsys.readouterr().err
    environment.setenv("MYSQL_HOST", "::1")
    environment.setenv("USER_IDS", "hash")
    environment.delenv("MYSQL_SSL_CA")
    assert command.main([]) == 2
    assert "USER_IDS: hash needs USER_ID_SALT, a key of at least 16 characters" in capsys.readouterr().err
    environment.setenv("USER_IDS", "secret")
    assert command.main([]) == 2
    assert "USER_IDS: must be one of raw, hash, none" in capsys.readouterr().err


@pytest.mark.usefixtures("simulator")
def test_user_ids(environment: pytest.MonkeyPatch, metrics: Metrics, tmp_path: Path) -> None:
    statement = "SELECT user FROM daily_tokens_by_user"
    assert command.main(["--days", "2"]) == 0
    raw = {user for (user,) in metrics.rows(statement)}
    assert all(re.fullmatch("[0-9a-f]{24}", user) for user in raw)
    (tmp_path / "salt").write_text("0123456789abcdef\n")
    environment.setenv("USER_ID_SALT_FILE", str(tmp_path / "salt"))
    environment.setenv("USER_IDS", "hash")
    assert command.main(["--days", "2"]) == 0
    hashed = {user for (user,) in metrics.rows(statement)}
    assert all(re.fullmatch("[0-9a-f]{64}", user) for user in hashed)
    assert len(hashed) == len(raw)
    environment.setenv("USER_IDS", "none")
    assert command.main(["--days", "2"]) == 0
    assert metrics.rows(statement) == []


def test_the_password_may_stand_in_a_file(
    environment: pytest.MonkeyPatch, simulator: Simulator, metrics: Metrics, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text(metrics.environment["MYSQL_PASSWORD"] + "\n")
    environment.setenv("MYSQL_PASSWORD", "wrong")
    environment.setenv("MYSQL_PASSWORD_FILE", str(tmp_path / "password"))
    assert command.main(["--days", "1"]) == 0


@pytest.mark.usefixtures("simulator")
def test_a_refused_login_is_said_at_once(environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    environment.setenv("MYSQL_PASSWORD", "hunter2hunter2")
    environment.setenv("MYSQL_RETRY_DELAY", "1000")
    assert command.main(["--days", "1"]) == 1
    output = capsys.readouterr()
    assert "ER_ACCESS_DENIED_ERROR" in output.err
    assert "hunter2" not in output.err + output.out


@pytest.mark.usefixtures("environment")
def test_a_database_that_is_not_librechats(
    database: Database[Document], metrics: Metrics, capsys: pytest.CaptureFixture[str]
) -> None:
    database["messages"].rename("other")
    assert command.main(["--days", "1"]) == 1
    assert f"The database '{database.name}' has no collection `messages`" in capsys.readouterr().err
    assert metrics.rows("SHOW TABLES") == []


@pytest.mark.usefixtures("simulator")
def test_a_mongodb_that_is_not_there(environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    environment.setenv("MONGODB_URI", "mongodb://someone:hunter2@127.0.0.1:1/")
    environment.setattr(command, "_CHECK_SECONDS", 0.5)
    assert command.main(["--days", "1"]) == 1
    output = capsys.readouterr()
    assert "MongoDB cannot be read: " in output.err
    assert "hunter2" not in output.err + output.out


OLDER_SCHEMA = """
CREATE TABLE daily_users (date DATE PRIMARY KEY, unique_users INT NOT NULL);
CREATE TABLE daily_messages_by_model
    (date DATE, model VARCHAR(255), message_count INT NOT NULL, PRIMARY KEY (date, model)) ENGINE=MyISAM;
CREATE TABLE daily_tokens_by_model
    (date DATE, model VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin, input_tokens INT NOT NULL,
    PRIMARY KEY (date, model));
INSERT INTO daily_users VALUES ('2026-03-20', 7), ('2026-03-21', 7), ('2026-03-22', 7);
INSERT INTO daily_messages_by_model VALUES ('2026-03-20', 'gpt-4o', 3);
"""


@pytest.mark.usefixtures("environment", "simulator")
def test_an_older_schema_is_brought_up_to_date(
    metrics: Metrics, database: Database[Document], caplog: pytest.LogCaptureFixture
) -> None:
    for statement in OLDER_SCHEMA.strip().split(";\n"):
        metrics.rows(statement.rstrip(";"))
    moment = datetime(2026, 4, 4, tzinfo=UTC)
    database["messages"].insert_many(
        {"messageId": model, "isCreatedByUser": False, "model": model, "tokenCount": 2**31 - 1, "createdAt": moment}
        for model in ("Big", "big", "bíg", "big ")
    )
    with caplog.at_level("INFO"):
        assert command.main([FIRST, LAST]) == 0
    assert "changed daily_users.unique_users to BIGINT" in caplog.text
    assert "moved daily_messages_by_model to InnoDB" in caplog.text
    assert "added the column daily_tokens_by_model.output_tokens" in caplog.text
    assert "changed daily_tokens_by_model.model to VARCHAR(255)" in caplog.text
    assert "created the table daily_cost_by_model" in caplog.text
    assert metrics.rows("SELECT * FROM daily_users WHERE date = '2026-03-20'") == [(date(2026, 3, 20), 7)], "left alone"
    assert metrics.rows("SELECT * FROM daily_messages_by_model WHERE date = '2026-03-20'") != []
    sums = metrics.rows("SELECT model, output_tokens FROM daily_tokens_by_model WHERE LOWER(model) LIKE 'b_g'")
    assert dict(sums) == {"Big": 2**31 - 1, "big": 2 * (2**31 - 1), "bíg": 2**31 - 1}
    caplog.clear()
    with caplog.at_level("INFO"):
        assert command.main([FIRST, LAST]) == 0
    assert "up to date" not in caplog.text


def test_what_the_image_runs_makes_the_same_schema(metrics: Metrics, environment: pytest.MonkeyPatch) -> None:
    """mariadb-init/init.sql: nothing is left to do for the export, and a second time it harms nothing."""
    script = (SCRIPT.parent / "mariadb-init" / "init.sql").read_text()
    statements = [one for one in re.sub("^--.*$", "", script, flags=re.MULTILINE).split(";") if one.strip()]
    for statement in statements:
        metrics.rows(statement)
    store = Store(ExportSettings.load())
    assert store.upgrade() == []
    store.write(None, {}, force=False)
    metrics.rows("INSERT INTO daily_users VALUES ('2026-03-20', 7)")
    for statement in statements:
        metrics.rows(statement)
    assert metrics.rows("SELECT unique_users FROM daily_users") == [(7,)]
    store.close()
    assert "DROP" not in script.upper()


@pytest.mark.usefixtures("environment", "simulator")
def test_two_runs_at_once(metrics: Metrics, capsys: pytest.CaptureFixture[str]) -> None:
    first = Store(ExportSettings.load())
    first.lock()
    assert command.main(["--days", "1"]) == 1
    assert f"another export writes into the database {metrics.name}" in capsys.readouterr().err
    assert metrics.rows("SHOW TABLES") == []
    first.close()
    second = Store(ExportSettings.load())
    second.lock()
    with pytest.raises(LockedError):
        first.lock()
    second.close()
    assert command.main(["--days", "1"]) == 0


@pytest.mark.usefixtures("environment", "simulator")
def test_runs_are_noted(metrics: Metrics) -> None:
    assert command.main(["--days", "3"]) == 0
    [run] = metrics.rows("SELECT range_start, range_end, days_written, rows_written, seconds, outcome FROM export_runs")
    rows = sum(len(rows) for rows in metrics.tables().values())
    assert run[:4] == (date(2026, 4, 3), date(2026, 4, 5), 3, rows)
    assert 0 < run[4] < 60
    assert run[5] == "success"


def textfile_values(path: Path) -> dict[str, float]:
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
    }


@pytest.mark.usefixtures("simulator")
def test_the_textfile(environment: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "librechat_export.prom"
    assert command.main(["--days", "3", "--textfile", str(path)]) == 0
    values = textfile_values(path)
    assert values["librechat_export_success"] == 1
    assert values["librechat_export_dates_written"] == 3
    assert values["librechat_export_rows_written"] > 20
    assert values["librechat_export_last_success_timestamp_seconds"] == pytest.approx(
        datetime.now(UTC).timestamp(), abs=60
    )
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=path.read_text(), capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    environment.setenv("MYSQL_PASSWORD", "wrong")
    assert command.main(["--days", "3", "--textfile", str(path)]) == 1
    after = textfile_values(path)
    assert after["librechat_export_success"] == 0
    name = "librechat_export_last_success_timestamp_seconds"
    assert after[name] == values[name], "a stale export can be told"
    assert list(tmp_path.iterdir()) == [path]
    environment.setenv("MYSQL_PASSWORD", "wrong")
    assert command.main(["--days", "1", "--textfile", str(tmp_path / "none" / "x.prom")]) == 1
    assert "x.prom cannot be written: No such file or directory" in capsys.readouterr().err


@pytest.mark.usefixtures("simulator")
def test_node_exporter_can_read_the_textfile(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As another user, whatever the umask, and whatever was there before."""
    path = tmp_path / "librechat_export.prom"
    path.write_bytes(b"\xff\xfe no text")
    mask = os.umask(0o077)
    try:
        assert command.main(["--days", "1", "--textfile", str(path)]) == 0
        assert (path.stat().st_mode & 0o777, os.umask(0o077)) == (0o644, 0o077)
    finally:
        os.umask(mask)
    path.write_bytes(b"\xff\xfe no text")
    environment.setenv("MYSQL_PORT", "nine")
    assert command.main(["--days", "1", "--textfile", str(path)]) == 2
    assert textfile_values(path)["librechat_export_success"] == 0, "settings that are wrong are a failure as well"


@pytest.mark.usefixtures("environment", "simulator")
def test_rows_of_an_old_format_are_changed(metrics: Metrics) -> None:
    """Where the server makes COMPACT rows, the key of names would be too long."""
    root = metrics.server.connect()
    try:
        root.cursor().execute("SET GLOBAL innodb_default_row_format = compact")
        metrics.rows("CREATE TABLE daily_users (date DATE PRIMARY KEY, unique_users BIGINT NOT NULL)")
        assert command.main([FIRST, LAST]) == 0
    finally:
        root.cursor().execute("SET GLOBAL innodb_default_row_format = dynamic")
        root.close()
    formats = "SELECT DISTINCT ROW_FORMAT FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()"
    assert metrics.rows(formats) == [("Dynamic",)]


@pytest.mark.usefixtures("environment")
def test_a_user_called_unknown_and_messages_without_one_both_count(
    metrics: Metrics, database: Database[Document]
) -> None:
    moment = datetime(2026, 4, 4, tzinfo=UTC)
    answer = {"isCreatedByUser": False, "model": "m", "createdAt": moment}
    database["messages"].insert_many([{**answer, "user": "unknown", "tokenCount": 3}, {**answer, "tokenCount": 4}])
    assert command.main(["2026-04-04", "2026-04-04"]) == 0
    assert metrics.rows("SELECT user, output_tokens FROM daily_tokens_by_user") == [("unknown", 7)]


@pytest.mark.usefixtures("environment", "simulator")
def test_amounts_that_are_no_numbers_are_told(database: Database[Document], capsys: pytest.CaptureFixture[str]) -> None:
    moment = datetime(2026, 4, 4, tzinfo=UTC)
    database["messages"].insert_one({"tokenCount": "many", "createdAt": moment})
    assert command.main(["--days", "3"]) == 0
    assert "; 1 amounts were no sensible numbers and count as 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("output", "errors"),
    [
        ("Error: " + "x" * 15_000_000, 0),
        ("Error: " + "tool call " * 1_500_000, 0),
        ("\n" * 15_000_000 + "Error calling tool", 1),
        ("Error: " + "x" * 15_000_000 + "Please fix your mistakes.\n", 1),
    ],
    ids=["none", "nearly", "after much", "at the end"],
)
@pytest.mark.usefixtures("environment")
def test_tool_outputs_of_megabytes(output: str, errors: int, metrics: Metrics, database: Database[Document]) -> None:
    part = {"type": "tool_call", "tool_call": {"name": "big", "output": output}}
    database["messages"].insert_one({"content": [part], "createdAt": datetime(2026, 4, 4, tzinfo=UTC)})
    assert command.main(["--days", "2"]) == 0
    assert metrics.rows("SELECT tool_name, calls, errors FROM daily_tool_calls") == [("big", 1, errors)]


@pytest.mark.usefixtures("environment", "simulator")
def test_no_line_tells_of_a_user(
    database: Database[Document], metrics: Metrics, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not at debug level, and not when MariaDB refuses a row and quotes it."""
    metrics.rows("CREATE TABLE daily_tokens_by_user (date DATE, user VARCHAR(9) PRIMARY KEY, input_tokens BIGINT)")
    with caplog.at_level("DEBUG"):
        assert command.main(["--days", "3", "-v"]) == 1
    output = capsys.readouterr()
    told = caplog.text + output.out + output.err
    assert "MariaDB error" in told
    for user in database["users"].find():
        for secret in (str(user["_id"]), user["email"], user["name"]):
            assert secret not in told


@pytest.mark.usefixtures("simulator")
def test_as_a_script_of_its_own(
    mongodb_uri: str, database: Database[Document], metrics: Metrics, tmp_path: Path
) -> None:
    """From any folder, settings from `.env` there."""
    given = {"MONGODB_URI": mongodb_uri, "MONGODB_DATABASE": database.name, **metrics.environment}
    (tmp_path / ".env").write_text("".join(f'{name}="{value}"\n' for name, value in given.items()))
    done = subprocess.run(
        [sys.executable, SCRIPT, FIRST, "2026-03-25"], cwd=tmp_path, env={}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr  # it made the tables, and says so
    assert done.stdout.startswith("6 days, ")
    assert len(messages_of(metrics)) == 6
    shown = subprocess.run([sys.executable, SCRIPT, "--help"], capture_output=True, text=True, check=True)
    assert "30 2 * * *" in shown.stdout
    for option in ("--start-date", "--end-date", "--days", "--force", "--cleanup", "--yes", "--dry-run", "--textfile"):
        assert option in shown.stdout
