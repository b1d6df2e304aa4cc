"""`make demo`, as a newcomer meets it."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import METRICS_PY
from tools.private_server import die_with_parent, free_port

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
    if "Port 8000 is in use" in output:
        pytest.skip("port 8000 is in use on this machine")
    assert demo.returncode == 0, output
    return output


def _wait_for_metrics() -> str:
    end = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen("http://localhost:8000/metrics", timeout=15) as response:
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
    demo = start()
    time.sleep(1)
    if demo.poll() is None:
        values = _wait_for_metrics()
        assert re.search(r"^librechat_messages_total 2\d{4}\.0$", values, re.MULTILINE)
        assert "librechat_up 1.0" in values
    assert "http://localhost:8000" in end(demo, number)
    assert list(tmp_path.iterdir()) == []


def test_it_can_be_ended_while_it_begins(start: StartDemo, tmp_path: Path) -> None:
    demo = start()
    while not list(tmp_path.glob("mongod-*/data/*")):
        assert demo.poll() is None
        time.sleep(0.01)
    end(demo, signal.SIGINT)
    assert list(tmp_path.iterdir()) == []


def test_a_mongodb_that_nobody_answers_for_is_told_in_a_line(start: StartDemo, tmp_path: Path) -> None:
    uri = f"mongodb://me:s3cret@127.0.0.1:{free_port()}/"
    started = time.monotonic()
    demo = start(MONGODB_TEST_URI=uri)
    output, _ = demo.communicate(timeout=30)
    if "Port 8000 is in use" in output:
        pytest.skip("port 8000 is in use on this machine")
    assert demo.returncode == 1
    assert time.monotonic() - started < 12
    [line] = output.splitlines()
    assert line.startswith("MONGODB_TEST_URI cannot be used: ServerSelectionTimeoutError")
    assert "s3cret" not in line
    assert list(tmp_path.iterdir()) == []
