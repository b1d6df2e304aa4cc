"""Pages for people: generated ones are current, links and names lead somewhere, commands do what they say."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from librechat_exporter import __version__
from librechat_exporter.historic import textfile
from tests.conftest import METRICS_PY, MakeProcess
from tests.offered import METRICS, sample_names
from tools import reference

ROOT = METRICS_PY.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
MONITORING = ("prometheus-dev", "charts", "deploy")
# Neither a module of the package's, nor a beginning that many names share.
NAME = re.compile(r"(?<![\w:])(?:\w+:)?librechat_\w*[a-z0-9](?::\w+)?(?![\w…/]|\.\w)")
# The demo's database, and the metric that is added as an example.
NO_METRICS = {"librechat_default", "librechat_exporter", "librechat_exporter_demo", "librechat_failed_answers_total"}


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


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_code_begins_and_ends_in_lines_of_its_own(page: Path) -> None:
    fences = [line for line in page.read_text().splitlines() if "```" in line]
    assert all(re.fullmatch(r" *```[a-z]*", line) for line in fences)
    assert [bool(re.search("[a-z]$", line)) for line in fences[1::2]] == [False] * (len(fences) // 2)
    assert len(fences) % 2 == 0


def test_every_metric_that_is_named_exists(tmp_path: Path) -> None:
    """A rule's unit test makes series of any name, so that names are looked up here."""
    textfile.write(tmp_path / "export.prom", success=True, seconds=1, days=1, rows=1)
    exported = {family.name for family in text_string_to_metric_families((tmp_path / "export.prom").read_text())}
    recorded = {rule["record"] for group in reference.rules() for rule in group["rules"] if "record" in rule}
    told = {metric.name for metric in METRICS} | exported | recorded | NO_METRICS
    known = told | sample_names(METRICS)
    files = [path for name in MONITORING for path in (ROOT / name).rglob("*") if path.is_file()]
    named = {str(path.relative_to(ROOT)): set(NAME.findall(path.read_text())) for path in (*PAGES, *files)}
    assert {path: names - known for path, names in named.items() if names - known} == {}
    assert set.union(*named.values()) & known >= told, "all of it is told of somewhere"


def test_all_that_is_recorded_is_written_on() -> None:
    [regex] = re.findall(r"source_labels: \[__name__\], regex: \"(.*?)\"", (ROOT / "docs" / "operating.md").read_text())
    recorded = {rule["record"] for group in reference.rules() for rule in group["rules"] if "record" in rule}
    wanted = {"up"} | recorded | sample_names(METRICS)
    assert {name for name in wanted if not re.fullmatch(regex, name)} == set()


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__
    assert f"## {__version__}\n" in (ROOT / "CHANGELOG.md").read_text()


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        assert set(re.findall(r"`?make ([a-z-]+)`", page.read_text())) <= targets, page


def test_the_health_check(process: MakeProcess) -> None:
    one = process()
    check = [sys.executable, "-m", "librechat_exporter.healthcheck"]
    environment = one.environment | {"PYTHONPATH": str(ROOT)}
    assert subprocess.run(check, env=environment, check=False, timeout=30).returncode == 1
    one.start()
    assert subprocess.run(check, env=environment, check=False, timeout=30).returncode == 0
