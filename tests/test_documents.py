"""What people read: generated pages are current, links lead somewhere, commands do what they say."""

import os
import re
import signal
import subprocess
import sys
import time
import tomllib
import urllib.request
from pathlib import Path

import pytest

from librechat_exporter import __version__
from tests.conftest import METRICS_PY, MakeProcess
from tools import reference
from tools.server import die_with_parent

ROOT = METRICS_PY.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("path", sorted(reference.generated()), ids=lambda path: path.name)
def test_what_is_generated_is_current(path: Path) -> None:
    assert path.read_text() == reference.generated()[path], "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_tables_are_whole(page: Path) -> None:
    """A bar within a cell, which is not escaped, begins another one, also in code."""
    cells = 0
    for line in page.read_text().splitlines():
        count = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not (cells and count) or count == cells, line
        cells = count


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__
    assert f"## {__version__}\n" in (ROOT / "CHANGELOG.md").read_text()


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        assert set(re.findall(r"`?make ([a-z-]+)`", page.read_text())) <= targets, page


def test_layers_point_one_way() -> None:
    """Each module imports only from those after it."""
    order = [
        *("daemon", "web", "server", "access", "exchange", "scrape", "collectors", "refreshed", "ledger"),
        *("faults", "librechat", "rows", "fields", "metric", "user_ids"),
    ]
    for path in (ROOT / "librechat_exporter").rglob("*.py"):
        layer = path.relative_to(ROOT / "librechat_exporter").parts[0].removesuffix(".py")
        if layer not in order:
            continue
        imported = set(re.findall(r"^from librechat_exporter\.(\w+)", path.read_text(), re.MULTILINE))
        allowed = {*order[order.index(layer) :], "settings"}
        assert imported <= allowed, f"{path.name} imports {imported - allowed}"


def test_the_health_check(process: MakeProcess) -> None:
    one = process()
    check = [sys.executable, "-m", "librechat_exporter.healthcheck"]
    environment = one.environment | {"PYTHONPATH": str(ROOT)}
    assert subprocess.run(check, env=environment, check=False, timeout=30).returncode == 1
    one.start()
    assert subprocess.run(check, env=environment, check=False, timeout=30).returncode == 0


def test_the_demo(tmp_path: Path) -> None:
    """As a newcomer starts it: it serves on port 8000, and Ctrl-C leaves nothing behind."""
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-m", "tools.demo"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=die_with_parent,
    ) as demo:
        try:
            time.sleep(1)
            if demo.poll() == 1:
                output = demo.communicate()[0]
                assert "Port 8000 is in use" in output
                pytest.skip("port 8000 is in use on this machine")
            values = _wait_for_metrics()
            assert re.search(r"^librechat_messages_total 2\d{4}\.0$", values, re.MULTILINE)
            assert "librechat_up 1.0" in values
        finally:
            demo.send_signal(signal.SIGINT)
            output = demo.communicate(timeout=30)[0]
    assert demo.returncode == 0
    assert "http://localhost:8000" in output
    assert list(tmp_path.iterdir()) == []


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
