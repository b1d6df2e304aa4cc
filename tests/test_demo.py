"""`make demo`, as a newcomer meets it."""

import itertools
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pymongo.database import Database

from tests.conftest import METRICS_PY, Document
from tools.private_server import die_with_parent, free_port
from tools.university import University

StartDemo = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartDemo]:
    """Starts the demo, which keeps its files in tmp_path."""
    started = []

    def begin(**environment: str) -> "subprocess.Popen[str]":
        demo = subprocess.Popen(
            [sys.executable, "-m", "tools.demo"],
            cwd=METRICS_PY.parent,
            env=os.environ | {"TMPDIR": str(tmp_path)} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=die_with_parent,
        )
        started.append(demo)
        return demo

    yield begin
    for demo in started:
        demo.kill()
        demo.communicate()


def end(demo: "subprocess.Popen[str]", number: signal.Signals) -> str:
    demo.send_signal(number)
    output, _ = demo.communicate(timeout=30)
    assert demo.returncode == 0, output
    return output


def _wait_for_metrics(port: int) -> str:
    end = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"http://localhost:{port}/metrics", timeout=15) as response:
                text: str = response.read().decode()
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.2)
        else:
            if "librechat_messages_total" in text:
                return text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_it_serves_and_leaves_nothing_behind(number: signal.Signals, start: StartDemo, tmp_path: Path) -> None:
    """Ended by Ctrl-C, or as its terminal is closed."""
    port = free_port()
    demo = start(DEMO_PORT=str(port))
    values = _wait_for_metrics(port)
    assert re.search(r"^librechat_messages_total [34]\d{4}\.0$", values, re.MULTILINE)
    assert "librechat_up 1.0" in values
    assert demo.stdout is not None
    said = "".join(iter(demo.stdout.readline, "Ctrl-C ends everything and leaves nothing behind.\n"))
    assert f"http://localhost:{port}/metrics" in said
    [prometheus] = re.findall(r"(http://127\.0\.0\.1:\d+) +Prometheus", said)
    with urllib.request.urlopen(f"{prometheus}/api/v1/rules", timeout=15) as response:
        assert "LibreChatMongoDBDown" in response.read().decode()
    end(demo, number)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("port", "said"), [("", "is in use"), ("http", "DEMO_PORT is a port, such as 8001")])
def test_a_port_that_cannot_be_had_is_told(port: str, said: str, start: StartDemo) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        demo = start(DEMO_PORT=port or str(taken.getsockname()[1]))
        output, _ = demo.communicate(timeout=30)
    assert demo.returncode == 1
    [line] = output.splitlines()
    assert said in line


def test_it_can_be_ended_while_it_begins(start: StartDemo, tmp_path: Path) -> None:
    demo = start(DEMO_PORT=str(free_port()))
    while not list(tmp_path.glob("mongod-*/data/*")):
        assert demo.poll() is None
        time.sleep(0.01)
    end(demo, signal.SIGINT)
    assert list(tmp_path.iterdir()) == []


def test_a_mongodb_that_nobody_answers_for_is_told_in_a_line(start: StartDemo, tmp_path: Path) -> None:
    uri = f"mongodb://me:s3cret@127.0.0.1:{free_port()}/"
    started = time.monotonic()
    demo = start(MONGODB_TEST_URI=uri, DEMO_PORT=str(free_port()))
    output, _ = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert time.monotonic() - started < 28, "PyMongo's own patience is 30 s"
    [line] = output.splitlines()
    assert line.startswith("MONGODB_TEST_URI cannot be used: ServerSelectionTimeoutError")
    assert "s3cret" not in line
    assert list(tmp_path.iterdir()) == []


def test_a_python_that_cannot_get_uv_is_told_alone(tmp_path: Path) -> None:
    """One line of make's after it, and nothing that is half made."""
    (tmp_path / "tools").mkdir()
    for name in ("Makefile", "tools/bootstrap.sh"):
        shutil.copy(METRICS_PY.parent / name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    for name in ("sh", "dirname", "make", "rm", "mkdir"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or "")
    python = tmp_path / "bin" / "python3"
    python.write_text('#!/bin/sh\nmkdir -p .tools/uv/bin; echo "No module named venv" >&2; exit 1\n')
    python.chmod(0o755)
    made = subprocess.run(
        ["make", "demo"], cwd=tmp_path, env={"PATH": str(tmp_path / "bin")}, capture_output=True, text=True, check=False
    )
    assert made.returncode == 2
    lines = made.stderr.splitlines()
    assert lines[:2] == ["Getting uv into .tools/ ...", "No module named venv"]
    assert lines[2].startswith("Python's venv module is needed (Debian and Ubuntu: apt install python3-venv)")
    assert len(lines) == 4
    assert lines[3].startswith("make: ***")
    assert not (tmp_path / ".tools" / "uv").exists()


def test_it_is_a_university(database: Database[Document]) -> None:
    """Days and weeks have their rhythm, few models carry most, one is slow, one tool fails, and nothing is in order."""
    end = datetime(2026, 3, 8, 12, tzinfo=UTC)
    University(database, users=60).fill(8000, 28, end)
    answers = list(database["messages"].find({"isCreatedByUser": False}))
    asked = {one["messageId"]: one for one in database["messages"].find({"isCreatedByUser": True})}
    assert 6000 < len(answers) + len(asked) < 10_000
    local = [one["createdAt"].astimezone() for one in asked.values()]
    weekend = sum(one.weekday() >= 5 for one in local)
    night = sum(one.hour < 6 for one in local)
    assert 0.02 < weekend / len(local) < 0.2
    assert 0 < night / len(local) < 0.05
    waits: dict[str, list[float]] = {}
    for one in answers:
        waited = one["createdAt"] - asked[one["parentMessageId"]]["createdAt"]
        waits.setdefault(one["model"], []).append(waited.total_seconds())
    half = {model: statistics.median(seconds) for model, seconds in waits.items()}
    together = sorted(itertools.chain.from_iterable(waits.values()))
    assert half["llama-3.3-70b"] > 4 * half["gpt-4o-mini"]
    assert together[len(together) * 19 // 20] > 3 * statistics.median(together)
    assert sum(sorted(map(len, waits.values()))[-2:]) > len(answers) / 2
    assert {one["endpoint"] for one in answers} == {"openAI", "anthropic", "Mistral", "University cluster", "agents"}
    assert 0.01 < sum(one["error"] for one in answers) / len(answers) < 0.05
    assert database["messages"].count_documents({"isTemporary": True}) > 0
    assert database["transactions"].count_documents({"tokenType": "credits"}) > 0
    assert set(database["users"].distinct("role")) == {"ADMIN", "USER"}
    assert set(database["users"].distinct("provider")) == {"openid", "saml", "local"}
    assert len(database["files"].distinct("type")) == 4
    assert set(database["agents"].distinct("name")) >= {"Library guide", "Statistics tutor"}
