"""The image of the unchanged Dockerfile, built on each Debian it should run on, and run as its users run it."""

import re
import shutil
import socket
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import bcrypt
import pytest
import trustme
from pymongo.database import Database

from librechat_exporter import __version__
from tests.conftest import Document, Metrics
from tools.containers import ROOT, SUITES, Containers
from tools.private_server import free_port

pytestmark = pytest.mark.image

MOST_BYTES = 110e6
# From version 0.1.0, the earliest whose image builds on its own: its state file is of another form.
EARLIER = "c475de0"
HARDENED = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--network=host")
PASSWORD = "s3cret"  # noqa: S105


@pytest.fixture(scope="module", params=SUITES)
def image(containers: Containers, request: pytest.FixtureRequest) -> str:
    """Its name, on this Debian."""
    name = f"librechat-exporter:{request.param}"
    containers.base(request.param)
    containers.build(name, ROOT)
    return name


class Exporter:
    """A container of the image, on the host's network, with a volume for its state."""

    def __init__(self, containers: Containers, image: str, *options: str, **environment: str) -> None:
        self._containers = containers
        self.port = free_port()
        given = {"LISTEN_ADDRESS": f"127.0.0.1:{self.port}"} | environment
        settings = [f"--env={name}={value}" for name, value in given.items()]
        self.id = containers.call("run", "--detach", *HARDENED, *settings, *options, image).splitlines()[-1]

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=15) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def ready(self) -> "Exporter":
        """Waits until it is; a scrape is what lets it count."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                self.get("/metrics")
                if self.get("/ready")[0] == 200:
                    return self
            except OSError:
                pass
            time.sleep(0.1)
        raise AssertionError(self.log)

    def serves(self) -> "Exporter":
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.1)
            else:
                return self
        raise AssertionError(self.log)

    def messages(self) -> float:
        found = re.search(r"^librechat_messages_total (\S+)$", self.get("/metrics")[1], re.MULTILINE)
        assert found is not None, self.log
        return float(found[1])

    @property
    def log(self) -> str:
        return self._containers.call("logs", self.id, check=False)

    def health(self) -> int:
        return self._containers.health(self.id)

    def stop(self) -> tuple[float, int]:
        """The seconds that it took, and the exit code."""
        started = time.monotonic()
        self._containers.call("stop", "--time", "10", self.id)
        took = time.monotonic() - started
        return took, int(self._containers.call("inspect", "--format", "{{.State.ExitCode}}", self.id))


Start = Callable[..., Exporter]


@pytest.fixture
def start(containers: Containers, image: str, mongodb_uri: str, database: Database[Document]) -> Iterator[Start]:
    """Starts a container of the image, for the test's database."""
    started: list[Exporter] = []

    def begin(*options: str, of: str = image, **environment: str) -> Exporter:
        one = Exporter(containers, of, *options, MONGODB_URI=f"{mongodb_uri}{database.name}", **environment)
        started.append(one)
        return one

    database["messages"].insert_many([{"messageId": f"m{number}"} for number in range(3)])
    yield begin
    for one in started:
        containers.call("rm", "--force", one.id)


def test_it_is_small_and_says_its_version(containers: Containers, image: str) -> None:
    size = int(containers.call("image", "inspect", "--format", "{{.Size}}", image))
    assert size <= MOST_BYTES
    shown = containers.call("run", "--rm", *HARDENED, image, "python", "metrics.py", "--version")
    assert shown.splitlines()[-1] == f"librechat-exporter {__version__}"
    user = containers.call("image", "inspect", "--format", "{{.Config.User}}", image)
    assert user == "10001:10001"


def test_nothing_in_it_can_be_changed_and_there_is_no_shell(containers: Containers, image: str, tmp_path: Path) -> None:
    container = containers.call("create", image).splitlines()[-1]
    containers.call("export", "--output", tmp_path / "image.tar", container)
    containers.call("rm", container)
    with tarfile.open(tmp_path / "image.tar") as exported:
        members = {one.name: one for one in exported if not one.name.startswith(("dev", "proc", "sys", "run"))}
    assert len(members) > 2000
    writable = {name for name, one in members.items() if one.mode & 0o022 and not one.issym()}
    assert writable == {"tmp"}
    assert {name for name, one in members.items() if one.uid != 0} == {"state"}
    names = {Path(name).name for name, one in members.items() if one.isfile()}
    assert not {"sh", "bash", "dash", "busybox", "apt", "dpkg", "pip", "pip3"} & names
    shell = ("run", "--rm", *HARDENED, "--entrypoint=sh", image, "-c", "true")
    refused = containers.run(containers.engine, *shell, check=False)
    assert refused.returncode == 127


def test_it_serves_without_any_rights_and_ends_at_once(image: str, start: Start) -> None:
    one = start(f"--volume=serves-{image[-6:]}:/state").ready()
    assert one.messages() == 3
    assert "librechat_exporter_state_persistent 1.0" in one.get("/metrics")[1]
    assert one.health() == 0
    took, code = one.stop()
    assert (code, took < 3) == (0, True)
    assert "Traceback" not in one.log


def test_with_another_time_zone_and_authorities(containers: Containers, image: str, start: Start) -> None:
    one = start(f"--volume=zone-{image[-6:]}:/state", METRICS_TIMEZONE="Europe/Berlin").ready()
    assert one.messages() == 3
    look = "import ssl; print(ssl.create_default_context().cert_store_stats()['x509_ca'])"
    trusted = containers.call("run", "--rm", *HARDENED, image, "python", "-c", look)
    assert int(trusted.splitlines()[-1]) > 50


def test_the_health_check_with_tls_passwords_and_the_token(start: Start, tmp_path: Path) -> None:
    certificate = trustme.CA().issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    users = f"basic_auth_users:\n  prometheus: {hashed}\n"
    (tmp_path / "web.yml").write_text(users + "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n")
    for file in (tmp_path, *tmp_path.iterdir()):
        file.chmod(0o755)
    web = (f"--volume={tmp_path}:/web:ro", "--tmpfs=/state:mode=1777")
    one = start(*web, WEB_CONFIG_FILE="/web/web.yml", HEALTHCHECK_USER="prometheus", HEALTHCHECK_PASSWORD=PASSWORD)
    assert one.serves().health() == 0
    assert start(*web, WEB_CONFIG_FILE="/web/web.yml").serves().health() == 1
    one = start("--tmpfs=/state:mode=1777", METRICS_SECRET=PASSWORD).serves()
    assert (one.health(), one.get("/metrics")[0]) == (0, 401)
    assert one.get("/metrics", Authorization=f"Bearer {PASSWORD}")[0] == 200
    assert PASSWORD not in one.log


def test_counters_stay_over_a_restart_and_an_upgrade(
    containers: Containers, image: str, start: Start, database: Database[Document], tmp_path: Path
) -> None:
    """With the same volume, and chats deleted meanwhile; the first is the image of an earlier release."""
    known = subprocess.run(["git", "cat-file", "-e", EARLIER], cwd=ROOT, check=False, capture_output=True)
    if known.returncode != 0:
        pytest.skip(f"this clone has no history: {EARLIER} is not in it")
    archive = tmp_path / "earlier.tar"
    subprocess.run(["git", "archive", "--output", archive, EARLIER], cwd=ROOT, check=True)
    shutil.unpack_archive(archive, tmp_path / "earlier")
    # What is not of the image, but of how it is made: it did not build on every Debian then.
    shutil.copy(ROOT / "tools" / "rootfs.py", tmp_path / "earlier" / "tools" / "rootfs.py")
    containers.build("earlier", tmp_path / "earlier")
    name = f"--volume=upgrade-{image.rpartition(':')[2]}:/state"
    first = start(name, of="earlier", MONGODB_DATABASE=database.name).ready()
    assert first.messages() == 3
    first.stop()
    database["messages"].delete_many({"messageId": {"$ne": "m0"}})
    for _ in range(2):
        one = start(name).ready()
        assert one.messages() == 3
        assert one.stop()[1] == 0


def test_the_historic_export_is_another_command_of_it(
    containers: Containers, image: str, mongodb_uri: str, database: Database[Document], metrics: Metrics
) -> None:
    sent = datetime.now(UTC) - timedelta(days=1)
    database["messages"].insert_one({"messageId": "m1", "user": "u1", "createdAt": sent, "isCreatedByUser": True})
    given = metrics.environment | {"MONGODB_URI": f"{mongodb_uri}{database.name}"}
    settings = [f"--env={name}={value}" for name, value in given.items()]
    command = ("python", "historic-analysis/export_metrics.py", f"{sent:%F}", f"{sent:%F}")
    said = containers.call("run", "--rm", *HARDENED, *settings, image, *command)
    assert "1 days, " in said
    assert metrics.rows("SELECT total_messages FROM daily_messages") == [(1,)]
