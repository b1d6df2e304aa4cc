"""Images built and run without an engine's daemon and without a registry: buildah and podman, in a folder of their own.

The Dockerfile is the real one. What its FROM names is stood in for by Debian itself, unpacked by debootstrap.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self

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
_MISSING = "buildah, podman and debootstrap are needed: run tools/debian-packages.sh images, as root"


class Containers:
    """Images and containers that nobody else sees; all of them end with it.

    Needs root. Raises RuntimeError if a program is missing, and with its words if one fails.
    """

    def __init__(self) -> None:
        if os.getuid() != 0 or not all(map(shutil.which, ("buildah", "podman", "crun", "debootstrap"))):
            raise RuntimeError(_MISSING)
        self.folder = Path(tempfile.mkdtemp(prefix="containers-"))
        (self.folder / "containers.conf").write_text(_CONFIGURATION)
        (self.folder / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        (self.folder / "storage.conf").write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{self.folder}/images"\nrunroot = "{self.folder}/run"\n'
        )
        # Podman's crun refuses a machine that has both versions of control groups: it works where the second is not
        # mounted, in a mount namespace that stays as long as this.
        hidden = "umount /sys/fs/cgroup/unified 2>/dev/null || true; echo; exec sleep infinity"
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", hidden]
        self._namespace = subprocess.Popen(command, stdout=subprocess.PIPE)
        if self._namespace.stdout is not None:
            self._namespace.stdout.readline()  # the namespace is there
            self._namespace.stdout.close()

    @property
    def environment(self) -> dict[str, str]:
        """That of every program that works on these images."""
        return os.environ | {
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
        }

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

    def podman(self, *arguments: str | Path, check: bool = True) -> str:
        """The output of a command of podman's, and what it says."""
        done = self.run("podman", *arguments, check=check)
        return (done.stdout + ("" if check else done.stderr)).strip()

    def build(self, name: str, folder: Path, dockerfile: str | Path = "Dockerfile") -> None:
        """An image of this name, of the folder's Dockerfile; `docker` as its format keeps the health check."""
        self.run(
            *("buildah", "bud", "--isolation", "chroot", "--pull-never", "--network", "host", "--format", "docker"),
            *("--file", folder / dockerfile, "--tag", name, folder),
        )

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
        self.podman("rm", "--all", "--force", "--time", "1", check=False)
        self.podman("network", "prune", "--force", check=False)  # with its bridge, and the names that it resolves
        self.podman("volume", "rm", "--all", "--force", check=False)
        self._namespace.kill()
        self._namespace.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
