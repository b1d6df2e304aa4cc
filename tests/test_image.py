"""The image: the Dockerfile's steps in an empty folder, and what they make as the root of a process of its own."""

import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pymongo.database import Database

from librechat_exporter import __version__
from tests.conftest import METRICS_PY, Document, MakeProcess, Metrics

ROOT = METRICS_PY.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
USER = 10001


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the build stage has at /app, and in / what it copies there."""
    app = tmp_path_factory.mktemp("image") / "app"
    app.mkdir()
    kept = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    for line in re.findall(r"^COPY ([^-].*)$", DOCKERFILE, re.MULTILINE):
        *sources, target = line.split()
        for source in sources:
            assert source.removeprefix("./") in kept, f".dockerignore keeps {source} out"
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, app / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                (app / target).mkdir(exist_ok=True)
                shutil.copy(ROOT / source, app / target)
    [sync] = re.findall(r"^RUN uv (sync .*)$", DOCKERFILE, re.MULTILINE)
    command = [uv(), *sync.split(), "--python", sys.executable]
    subprocess.run(command, cwd=app, env=environment(), check=True, timeout=300)
    return app


@pytest.fixture(scope="module")
def rootfs(app: Path) -> Path:
    rootfs = app.parent / "rootfs"
    [step] = re.findall(r"^RUN (\S+ \S+rootfs.py) /app /rootfs$", DOCKERFILE, re.MULTILINE)
    subprocess.run([*step.split(), app, rootfs], cwd=app, check=True, timeout=120)
    # As a container's runtime gives it.
    (rootfs / "dev").mkdir()
    (rootfs / "dev" / "null").touch()
    (rootfs / "dev" / "null").chmod(0o666)
    return rootfs


def uv() -> str:
    shown = subprocess.run([ROOT / "tools" / "bootstrap.sh"], capture_output=True, text=True, check=True, cwd=ROOT)
    found = shown.stdout.strip()
    return str((ROOT / found).resolve()) if "/" in found else found


def test_it_exports(rootfs: Path, app: Path, metrics: Metrics, mongodb_uri: str, database: Database[Document]) -> None:
    sent = datetime.now(UTC) - timedelta(days=1)
    database["messages"].insert_one({"messageId": "m1", "user": "u1", "createdAt": sent, "isCreatedByUser": True})
    environment = {"MONGODB_URI": mongodb_uri, "MONGODB_DATABASE": database.name} | metrics.environment
    script = app / "historic-analysis" / "export_metrics.py"
    export = [*within(rootfs), str(app / ".venv" / "bin" / "python"), str(script), f"{sent:%F}", f"{sent:%F}"]
    done = subprocess.run(export, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert metrics.rows("SELECT total_messages FROM daily_messages") == [(1,)]


def environment() -> dict[str, str]:
    usual = {key: value for key, value in os.environ.items() if not key.startswith(("UV_PROJECT", "VIRTUAL"))}
    return usual | dict(re.findall(r"\b(UV_\w+)=(\w+)", DOCKERFILE))


def within(rootfs: Path) -> list[str]:
    """As the image's user, who is root in a namespace of its own where only root may change the root."""
    if os.geteuid() == 0:
        return ["/usr/sbin/chroot", f"--userspec={USER}:{USER}", str(rootfs)]
    return ["/usr/bin/unshare", "--map-root-user", f"--root={rootfs}"]


def test_the_base_that_is_pinned_is_the_dockerfiles() -> None:
    """The release builds upon the digest, which only a context of exactly that name brings in."""
    [tag] = re.findall(r"^FROM (\S+) AS", DOCKERFILE, re.MULTILINE)
    pinned = (ROOT / ".github" / "base-image" / "Dockerfile").read_text()
    assert re.findall(r"^FROM (\S+)$", pinned, re.MULTILINE)[0].split("@sha256:")[0] == tag
    assert re.search("@sha256:[0-9a-f]{64}$", pinned.strip())


def test_it_has_what_it_needs_and_nothing_else(app: Path) -> None:
    python = app / ".venv" / "bin" / "python"
    for script in ("metrics.py", "historic-analysis/export_metrics.py"):
        shown = subprocess.run([python, script, "--version"], cwd=app, capture_output=True, text=True, check=True)
        assert shown.stdout == f"librechat-exporter {__version__}\n"
    listing = [uv(), "pip", "list", "--python", str(python)]
    installed = subprocess.run(listing, env=environment(), capture_output=True, text=True, check=True).stdout
    assert "pymongo" in installed
    assert not re.search("pytest|mypy|fiftyone", installed)


def test_there_is_no_shell_in_it(app: Path, rootfs: Path) -> None:
    """All that can be executed is Python, the loader of shared libraries, and scripts of Python."""
    files = [path for path in rootfs.rglob("*") if path.is_file() and not path.is_symlink()]
    executable = [path.name for path in files if path.stat().st_mode & 0o111 and path.read_bytes()[:4] == b"\x7fELF"]
    programs = {re.sub(r"[\d.]+$", "", name) for name in executable if ".so" not in name}
    assert programs == {"python"}
    assert not {"sh", "bash", "dash", "busybox", "apt", "dpkg", "pip"} & {path.name for path in files}
    packages = {path.name for path in (rootfs / "var" / "lib" / "dpkg" / "status.d").iterdir()}
    assert "libc6" in packages


def test_packages_need_no_libraries_that_the_base_image_may_lack(app: Path, rootfs: Path) -> None:
    within_app = rootfs / app.relative_to("/")
    needed = {
        Path(needed).name
        for library in within_app.rglob("*.so*")
        for needed in re.findall(r"(?:=> )?(/\S+) \(0x", ldd(library))
        if not Path(needed).is_relative_to(rootfs)
    }
    assert needed
    of_glibc = {"ld", "libc", "libm", "libpthread", "librt", "libdl"}
    assert {re.sub(r"[-.].*", "", name) for name in needed} <= of_glibc | {"libgcc_s", "libz"}


def ldd(library: Path) -> str:
    return subprocess.run(["ldd", library], capture_output=True, text=True, check=True).stdout


def test_it_has_bytecode_and_certificates(app: Path, rootfs: Path) -> None:
    compiled = {path.parent.parent.name for path in rootfs.rglob("*.pyc")}
    assert {"pymongo", "asyncio"} <= compiled
    assert (rootfs / "etc" / "ssl" / "certs" / "ca-certificates.crt").is_file()
    assert (rootfs / "etc" / "debian_version").is_file()


def test_it_serves(rootfs: Path, app: Path, process: MakeProcess) -> None:
    python = str(app / ".venv" / "bin" / "python")
    state = rootfs / "state"
    state.mkdir()
    if os.geteuid() == 0:
        os.chown(state, USER, USER)
    one = process(STATE_PATH="/state/ledger.sqlite", PYTHONPATH=str(app))
    one.command = [*within(rootfs), python, str(app / "metrics.py")]
    one.start()
    values = one.scrape()
    assert values["librechat_up", ()] == values["librechat_exporter_state_persistent", ()] == 1
    check = [*within(rootfs), python, "-m", "librechat_exporter.healthcheck"]
    assert subprocess.run(check, env=one.environment, check=False, timeout=30).returncode == 0
    trusted = "import ssl; print(ssl.create_default_context().cert_store_stats()['x509_ca'])"
    shown = subprocess.run([*within(rootfs), python, "-c", trusted], env={}, capture_output=True, text=True, check=True)
    assert int(shown.stdout) > 50
