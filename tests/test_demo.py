"""`make demo`, as a newcomer meets it."""

import os
import re
import shutil
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
