"""Log lines as JSON, and colours where there is a terminal."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

from tests.conftest import METRICS_PY, MakeProcess


def test_every_line_is_an_object(process: MakeProcess) -> None:
    one = process(LOGGING_FORMAT="json", LOGGING_LEVEL="debug").start()
    one.scrape()
    one.stop()
    lines = [json.loads(line) for line in one.log.splitlines()]
    assert {frozenset(line) for line in lines} == {frozenset(("time", "level", "logger", "message"))}
    assert "Stopped" in [line["message"] for line in lines]
    assert all(line["time"].endswith("+00:00") for line in lines)


def checked(mongodb_uri: str, tmp_path: Path, **environment: str) -> str:
    """The output of --check on a terminal."""
    ours, theirs = pty.openpty()
    given = {"PATH": os.environ["PATH"], "TERM": "xterm", "MONGODB_URI": mongodb_uri}
    command = [sys.executable, str(METRICS_PY), "--check"]
    subprocess.run(command, cwd=tmp_path, env=given | environment, stdout=theirs, check=False, timeout=30)
    os.close(theirs)
    with os.fdopen(ours, "rb") as terminal:
        return terminal.read1(100_000).decode()


def test_check_is_coloured_on_a_terminal_alone(mongodb_uri: str, tmp_path: Path) -> None:
    assert "\x1b[32mok" in checked(mongodb_uri, tmp_path)
    assert "\x1b[" not in checked(mongodb_uri, tmp_path, NO_COLOR="1")
