"""The Compose stack beside LibreChat, started for real over stand-ins of its images."""

import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools import mongod
from tools.containers import ROOT, Containers
from tools.private_server import free_port

pytestmark = pytest.mark.image

DEPLOY = ROOT / "deploy" / "librechat"
SERVICES: dict[str, Any] = yaml.safe_load((DEPLOY / "docker-compose.override.yml").read_text())["services"]
STARTED = ("mongodb", "api", "exporter", "prometheus", "alertmanager")
# LibreChat's own file, as far as it matters here.
LIBRECHATS = """
services:
  api:
    image: librechat
  mongodb:
    image: mongo:8.0.17
    command: mongod --noauth
    volumes:
      - ./data-node:/data/db
"""
# What stands for the images' programs, where the images have them.
LINKS = {"prometheus": "/bin/prometheus", "prometheus-alertmanager": "/bin/alertmanager"}


def stand_in(containers: Containers, name: str, package: str, entrypoint: str) -> None:
    """An image of this name, with a program of Debian's package."""
    base = f"debian-with-{package}"
    containers.base("bookworm", base, [package])
    folder = containers.folder / package
    folder.mkdir()
    (folder / "Dockerfile").write_text(
        f"FROM {base}\nRUN [ -e {LINKS[package]} ] || ln -s /usr/bin/{package} {LINKS[package]}\n"
        f'ENTRYPOINT ["{entrypoint}"]\n'
    )
    containers.build(name, folder)


def stand_in_of_mongo(containers: Containers) -> None:
    base = "debian-with-libcurl4"
    containers.base("bookworm", base, ["libcurl4"])
    folder = containers.folder / "mongo"
    folder.mkdir()
    shutil.copy(mongod.binary(), folder / "mongod")
    # The real image's entrypoint has it listen everywhere, too.
    (folder / "Dockerfile").write_text(
        f"FROM {base}\nCOPY mongod /usr/bin/mongod\nRUN mkdir -p /data/db\n"
        """ENTRYPOINT ["sh", "-c", "exec \\"$@\\" --bind_ip_all", "sh"]\n"""
    )
    containers.build("mongo:8.0.17", folder)


def stand_in_of_librechat(containers: Containers) -> None:
    """It serves metrics to who bears the token, and nothing else."""
    folder = containers.folder / "librechat-api"
    shutil.copytree(ROOT / "tools", folder / "tools")
    (folder / "Dockerfile").write_text(
        "FROM librechat-exporter\nCOPY tools /app/tools\n"
        'CMD ["python", "-m", "tools.mock_servers", "--address", "0.0.0.0", "--token", "s3cret"]\n'
    )
    containers.build("librechat", folder)


class Stack:
    """LibreChat's folder with the override copied into it, and Compose in it."""

    def __init__(self, containers: Containers, folder: Path) -> None:
        self._containers = containers
        self.folder = folder
        self.project = folder.name

    def compose(self, *arguments: str, check: bool = True) -> str:
        return self._containers.compose(self.folder, "--profile=monitoring", *arguments, check=check)

    def container(self, service: str) -> str:
        labels = {"project": self.project, "service": service}
        filters = [f"--filter=label=com.docker.compose.{name}={value}" for name, value in labels.items()]
        return self._containers.call("ps", "--all", "--quiet", *filters)

    def address(self, service: str) -> str:
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return self._containers.call("inspect", "--format", form, self.container(service))

    def get(self, service: str, port: int, path: str) -> Any:
        """JSON; None as long as nobody answers."""
        try:
            with urllib.request.urlopen(f"http://{self.address(service)}:{port}{path}", timeout=5) as answer:
                return json.load(answer)
        except (OSError, RuntimeError):
            return None

    def wait(self, what: str, is_so: Callable[[], bool], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() > end:
                logs = "\n".join(
                    self._containers.call("logs", self.container(one), check=False)[-2000:] for one in STARTED
                )
                raise AssertionError(f"it did not come to this: {what}\n{logs}")
            time.sleep(0.5)


@pytest.fixture(scope="module")
def stack(containers: Containers) -> Iterator[Stack]:
    containers.base("bookworm")
    containers.build("librechat-exporter", ROOT)
    stand_in_of_mongo(containers)
    stand_in_of_librechat(containers)
    stand_in(containers, SERVICES["prometheus"]["image"], "prometheus", "/bin/prometheus")
    stand_in(containers, SERVICES["alertmanager"]["image"], "prometheus-alertmanager", "/bin/alertmanager")
    folder = containers.folder / "librechat"
    (folder / "data-node").mkdir(parents=True)
    (folder / "docker-compose.yml").write_text(LIBRECHATS)
    (folder / ".env").write_text(f"METRICS_SECRET=s3cret\nEXPORTER_PORT={free_port()}\n")
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in files.stdout.splitlines():
        if name.startswith(("deploy/", "prometheus-dev/")) and (ROOT / name).is_file():
            (folder / "librechat-exporter" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / "librechat-exporter" / name)
    shutil.copy(DEPLOY / "docker-compose.override.yml", folder)
    hurry(folder / "librechat-exporter")
    one = Stack(containers, folder)
    one.compose("up", "--detach", "--no-build", *STARTED)
    yield one
    one.compose("down", "--volumes", check=False)


def hurry(repository: Path) -> None:
    """Seconds instead of minutes; the rest of the files is as it is."""
    prometheus = repository / "deploy" / "librechat" / "prometheus.yml"
    prometheus.write_text(
        re.sub(r"_interval: \w+|_timeout: \w+", lambda one: one[0].split(":")[0] + ": 1s", prometheus.read_text())
    )
    for rules in (repository / "prometheus-dev" / "rules").glob("*.yml"):
        rules.write_text(re.sub(r"(for|interval): \w+", r"\1: 1s", rules.read_text()))
    alertmanager = repository / "deploy" / "librechat" / "alertmanager.yml"
    alertmanager.write_text(re.sub(r"group_wait: \w+", "group_wait: 1s", alertmanager.read_text()))


def test_every_target_is_up_and_every_rule_is_evaluated(stack: Stack) -> None:
    def targets() -> dict[str, str]:
        found = stack.get("prometheus", 9090, "/api/v1/targets")
        return {one["labels"]["job"]: one["health"] for one in found["data"]["activeTargets"]} if found else {}

    jobs = {job["job_name"] for job in yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]}
    stack.wait("all targets up", lambda: targets() == dict.fromkeys(jobs, "up"))

    def rules() -> list[dict[str, Any]]:
        found = stack.get("prometheus", 9090, "/api/v1/rules")
        return [rule for group in found["data"]["groups"] for rule in group["rules"]]

    stack.wait("all rules evaluated", lambda: {rule["health"] for rule in rules()} == {"ok"})
    assert len(rules()) > 30
    [up] = stack.get("prometheus", 9090, "/api/v1/query?query=librechat_up")["data"]["result"]
    assert (up["metric"]["instance"], up["value"][1]) == ("exporter:8000", "1")
    url = f"http://{stack.address('exporter')}:8000/metrics"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(url, timeout=5)


def test_an_alert_reaches_alertmanager(stack: Stack) -> None:
    """LibreChat's stand-in has metrics, and no health: that is one."""

    def alerts() -> set[str]:
        return {one["labels"]["alertname"] for one in stack.get("alertmanager", 9093, "/api/v2/alerts") or ()}

    stack.wait("LibreChatDown in Alertmanager", lambda: "LibreChatDown" in alerts())


def test_all_is_gone_at_the_end(stack: Stack) -> None:
    stack.compose("down", "--volumes")
    for kind in ("ps --all", "volume ls", "network ls"):
        shown = stack._containers.call(*kind.split(), "--format", "{{.Names}}" if kind == "ps --all" else "{{.Name}}")
        assert stack.project not in shown
