"""The image's whole filesystem: the application, Python, the shared libraries that they load, certificates. It has no
shell and no package manager. Its layout is that of a distroless image, so that scanners and SBOMs find the packages.

`python tools/rootfs.py APP DESTINATION`, with the Python of APP's virtual environment, on Debian.
"""

import compileall
import re
import shutil
import ssl
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

_STDLIB_LEFT_OUT = (
    *("config-*", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages"),
    *("test", "*tkinter*", "turtle*", "venv"),
)
# Where libraries are, and by what scanners know Debian.
_SINGLE = ("/etc/ld.so.cache", "/etc/os-release", "/etc/debian_version")
# The connector's C extension, which wants Kerberos' libraries: the historic export uses its pure Python.
_APP_LEFT_OUT = ("_mysql_connector*", "vendor", ".lock")


def make(app: Path, destination: Path) -> None:
    """Raises RuntimeError if a shared library is missing, CalledProcessError if one belongs to no package."""
    stdlib = Path(sysconfig.get_path("stdlib"))
    executables = [*_links(app / ".venv" / "bin" / "python")]
    _copy(app, destination, *_APP_LEFT_OUT, symlinks=True)
    _copy(stdlib, destination, "__pycache__", *_STDLIB_LEFT_OUT)
    compileall.compile_dir(_inside(destination, stdlib), quiet=1, stripdir=str(destination))
    # OpenSSL's own folder has links to this one, where Debian has its certificates and its security level.
    _copy(Path("/etc/ssl"), destination, "private")
    openssl = Path(ssl.get_default_verify_paths().openssl_cafile).parent
    if openssl != Path("/etc/ssl"):
        _copy(openssl, destination, "misc", "private", symlinks=True)
    loading = [*executables, *_inside(destination, app).rglob("*.so*"), *_inside(destination, stdlib).rglob("*.so")]
    libraries = {one for one in _shared_libraries(loading) if destination not in one.parents}
    for path in [*executables, *libraries, *map(Path, _SINGLE)]:
        _copy(path, destination)
    statuses = destination / "var" / "lib" / "dpkg" / "status.d"
    statuses.mkdir(parents=True)
    for package in {_package(one) for one in libraries if not one.is_relative_to(sys.base_prefix)}:
        (statuses / package.partition(":")[0]).write_text(_run("dpkg-query", "--status", package))
    (destination / "tmp").mkdir(exist_ok=True)
    (destination / "tmp").chmod(0o1777)


def _links(path: Path) -> Iterator[Path]:
    """The paths that a symbolic link leads to, step by step."""
    while path.is_symlink():
        path = path.parent / path.readlink()
        yield path


def _inside(destination: Path, path: Path) -> Path:
    return destination / path.relative_to("/")


def _copy(source: Path, destination: Path, *left_out: str, symlinks: bool = False) -> None:
    """A file, or a folder without what matches left_out. symlinks: links stay links."""
    target = _inside(destination, source)
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=symlinks, ignore=shutil.ignore_patterns(*left_out))
    else:
        shutil.copy2(source, target)


def _shared_libraries(files: Iterable[Path]) -> Iterator[Path]:
    for file in files:
        shown = _run("ldd", str(file))
        if "not found" in shown:
            raise RuntimeError(f"{file} needs a shared library that is not installed:\n{shown}")
        yield from map(Path, re.findall(r"(/\S+) \(0x", shown))


def _package(library: Path) -> str:
    """Debian's /lib is a link to /usr/lib, and packages list their files under either. Lines that tell of a diversion
    name no package that has the file.
    """
    shown = _run("dpkg-query", "--search", f"*/{library.parent.name}/{library.name}")
    owners = [line for line in shown.splitlines() if not line.startswith("diversion by ")]
    return re.split(r": |, ", owners[0])[0]


def _run(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    make(Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute())
