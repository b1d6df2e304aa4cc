"""Images built and run without a registry, in a folder of their own: by buildah and podman, or by a Docker Engine.

The Dockerfile is the real one. What its FROM names is stood in for by Debian itself, unpacked by debootstrap.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tools.private_server import die_with_parent

ROOT = Path(__file__).parent.parent
SUITES = ("bookworm", "trixie")
FROM = re.findall(r"^FROM (\S+) AS", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[0]
_PACKAGES = "ca-certificates,python3,python3-venv,python3-pip"
_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
# crun has no say over this machine's control groups, and limits must not be above the caller's.
_CONFIGURATION = """
[engine]
cgroup_manager = "cgroupfs"
runtime = "crun"
[containers]
cgroups = "disabled"
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[network]
network_backend = "netavark"
"""
_MISSING = "{} are needed: run tools/debian-packages.sh images, as root"
_BRIDGE = Path("/sys/class/net/docker0")
_START_SECONDS = 60


class Containers(ABC):
    """Images and containers that nobody else sees; all of them end with it.

    Needs root. Raises RuntimeError if a program is missing, and with its words if one fails. engine: the program that
    runs containers.
    """

    engine: str
    programs: tuple[str, ...]
    # What holds a mount namespace, in which everything runs.
    hold: str

    def __init__(self) -> None:
        if os.getuid() != 0 or not all(map(shutil.which, (*self.programs, "debootstrap"))):
            raise RuntimeError(_MISSING.format(", ".join((*self.programs, "debootstrap"))))
        self.folder = Path(tempfile.mkdtemp(prefix="containers-"))
        # Engines refuse a machine that has both versions of control groups: they work where the second is not mounted,
        # in a mount namespace that stays as long as this.
        hidden = f"umount /sys/fs/cgroup/unified 2>/dev/null || true; echo; exec {self.hold.format(folder=self.folder)}"
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", hidden]
        log = (self.folder / "log").open("wb")
        self._namespace = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, preexec_fn=die_with_parent)
        log.close()
        if self._namespace.stdout is not None:
            self._namespace.stdout.readline()  # the namespace is there
            self._namespace.stdout.close()

    @property
    @abstractmethod
    def environment(self) -> dict[str, str]:
        """That of every program that works on these images."""

    @abstractmethod
    def build(self, name: str, folder: Path, dockerfile: str | Path = "Dockerfile") -> None:
        """An image of this name, of the folder's Dockerfile."""

    @abstractmethod
    def compose(self, folder: Path, *arguments: str, check: bool = True) -> str:
        """Runs Compose in a folder; what it says."""

    @abstractmethod
    def health(self, container: str) -> int:
        """Runs the health check of a container's image in it; its exit code."""

    def run(self, *command: str | Path, check: bool = True, timeout: float = 600) -> "subprocess.CompletedProcess[str]":
        """Runs a program where it finds these images and containers."""
        inside = ["nsenter", "--mount", f"--target={self._namespace.pid}", f"--wd={ROOT}"]
        done = subprocess.run(
            [*inside, *command], env=self.environment, capture_output=True, text=True, check=False, timeout=timeout
        )
        if check and done.returncode != 0:
            raise RuntimeError(
                f"{' '.join(map(str, command[:4]))} ended with {done.returncode}:\n{done.stderr[-4000:]}"
            )
        return done

    def call(self, *arguments: str | Path, check: bool = True) -> str:
        """The output of a command of the engine's, and what it says."""
        done = self.run(self.engine, *arguments, check=check)
        return (done.stdout + ("" if check else done.stderr)).strip()

    def base(self, suite: str, name: str = FROM, packages: Sequence[str] = ()) -> None:
        """A Debian of this suite with Python, under this name."""
        folder = self.folder / "base" / suite
        if not folder.exists():
            folder.mkdir(parents=True)
            self._unpack(suite, folder / "root")
            self.run("tar", "-C", folder / "root", "-cf", folder / "base.tar", ".")
            shutil.rmtree(folder / "root")
        steps = [f"RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends {' '.join(packages)}"]
        (folder / "Dockerfile").write_text(
            f"FROM scratch\nADD base.tar /\nENV SSL_CERT_FILE={_AUTHORITIES} PIP_CERT={_AUTHORITIES}\n"
            + "\n".join(steps if packages else [])
        )
        self.build(name, folder)

    def _unpack(self, suite: str, root: Path) -> None:
        mirrors = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
            capture_output=True,
            text=True,
            check=True,
        )
        [mirror, *_] = [one for one in mirrors.stdout.split() if one.rstrip("/").endswith("/debian")]
        self.run("debootstrap", "--variant=minbase", f"--include={_PACKAGES}", suite, root, mirror)
        (root / "usr/bin/python").symlink_to("python3")
        for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
            marker.unlink()
        shutil.copy(_AUTHORITIES, root / _AUTHORITIES.lstrip("/"))
        for cached in root.glob("var/cache/apt/archives/*.deb"):
            cached.unlink()

    def close(self) -> None:
        containers = self.run(self.engine, "ps", "--all", "--quiet", check=False).stdout.split()
        if containers:
            self.run(self.engine, "rm", "--force", *containers, check=False)
        self.call("network", "prune", "--force", check=False)  # with its bridge, and the names that it resolves
        self._namespace.terminate()
        try:
            self._namespace.wait(20)
        except subprocess.TimeoutExpired:
            self._namespace.kill()
            self._namespace.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


class Podman(Containers):
    """Without a daemon. Compose is podman-compose."""

    engine = "podman"
    programs = ("buildah", "podman", "crun")
    hold = "sleep infinity"

    def __init__(self) -> None:
        super().__init__()
        (self.folder / "containers.conf").write_text(_CONFIGURATION)
        (self.folder / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        (self.folder / "storage.conf").write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{self.folder}/images"\nrunroot = "{self.folder}/run"\n'
        )

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
        }

    def build(self, name: str, folder: Path, dockerfile: str | Path = "Dockerfile") -> None:
        """`docker` as its format keeps the health check."""
        self.run(
            *("buildah", "bud", "--isolation", "chroot", "--pull-never", "--network", "host", "--format", "docker"),
            *("--file", folder / dockerfile, "--tag", name, folder),
        )

    def compose(self, folder: Path, *arguments: str, check: bool = True) -> str:
        script = Path(sys.executable).with_name("podman-compose")
        done = self.run("env", "-C", folder, sys.executable, script, *arguments, check=check)
        return done.stdout + done.stderr

    def health(self, container: str) -> int:
        return self.run("podman", "healthcheck", "run", container, check=False).returncode


class Docker(Containers):
    """With a Docker Engine of its own, where dockerd is installed. Compose is docker-compose, or Docker's plugin.

    The Engine leaves its chains of iptables and, where there is no `ip`, its bridge.
    """

    engine = "docker"
    programs = ("dockerd", "docker")
    hold = (
        "dockerd --data-root {folder}/data --exec-root {folder}/exec --pidfile {folder}/pid "
        "--host unix://{folder}/socket >&2"
    )

    def __init__(self) -> None:
        super().__init__()
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def _wait(self) -> None:
        end = time.monotonic() + _START_SECONDS
        while self.run("docker", "version", check=False).returncode != 0:
            if self._namespace.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"dockerd did not start:\n{(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.2)

    def close(self) -> None:
        super().close()
        self._remove_bridge()

    def _remove_bridge(self) -> None:
        if shutil.which("ip") is not None:
            subprocess.run(["ip", "link", "delete", _BRIDGE.name], check=False, capture_output=True)

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"DOCKER_HOST": f"unix://{self.folder}/socket", "DOCKER_BUILDKIT": "0"}

    def build(self, name: str, folder: Path, dockerfile: str | Path = "Dockerfile") -> None:
        self.run("docker", "build", "--network", "host", "--file", folder / dockerfile, "--tag", name, folder)

    def compose(self, folder: Path, *arguments: str, check: bool = True) -> str:
        is_plugin = self.run("docker", "compose", "version", check=False).returncode == 0
        program = ("docker", "compose") if is_plugin else ("docker-compose",)
        done = self.run("env", "-C", folder, *program, *arguments, check=check)
        return done.stdout + done.stderr

    def health(self, container: str) -> int:
        _, *command = json.loads(self.call("inspect", "--format", "{{json .Config.Healthcheck.Test}}", container))
        return self.run("docker", "exec", container, *command, check=False).returncode


def engines() -> list[type[Containers]]:
    """Those that tests use: Docker's only where it is installed, and no other Engine has made its bridge."""
    return [Podman, Docker] if shutil.which("dockerd") and not _BRIDGE.exists() else [Podman]
