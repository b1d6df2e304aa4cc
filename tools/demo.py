"""The demo: a private MongoDB with simulated history and traffic, and the exporter beside it. Ctrl-C ends all of it."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

import pymongo
from pymongo.errors import PyMongoError

from librechat_exporter import ending
from librechat_exporter.faults import describe
from tools.mongod import Mongod, NoMongodError
from tools.private_server import die_with_parent
from tools.simulator import Document, Simulator

PORT = 8000
DATABASE = "librechat_exporter_demo"
HISTORY_DAYS = 60
HISTORY_MESSAGES = 20_000
RATE = 2.0
_PATIENCE_MILLISECONDS = 5000

_WELCOME = f"""
The exporter serves simulated traffic. Open

  http://localhost:{PORT}            in a browser: how it is doing
  http://localhost:{PORT}/metrics    the metrics; or: curl -s localhost:{PORT}
  http://localhost:{PORT}/ready      whether all history is counted

Ctrl-C ends everything and leaves nothing behind.
"""


def main() -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", PORT))  # noqa: S104
        except OSError:
            print(f"Port {PORT} is in use; stop what listens there and try again.", file=sys.stderr)
            return 1
    try:
        with ending.raising(), ExitStack() as stack:
            return _run(stack)
    except ending.EndedError:
        return 0
    except NoMongodError as error:
        print(error, file=sys.stderr)
        return 1


def _run(stack: ExitStack) -> int:
    """Until the exporter ends, or EndedError is raised; what it has made, the stack takes away."""
    folder = Path(tempfile.mkdtemp(prefix="librechat-exporter-demo-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    uri = os.environ.get("MONGODB_TEST_URI") or stack.enter_context(Mongod()).uri
    client = stack.enter_context(pymongo.MongoClient[Document](uri, serverSelectionTimeoutMS=_PATIENCE_MILLISECONDS))
    try:
        client.drop_database(DATABASE)
    except PyMongoError as error:
        raise NoMongodError(f"MONGODB_TEST_URI cannot be used: {describe(error)}") from None
    stack.callback(_drop, client)
    print(f"Writing {HISTORY_MESSAGES} messages of {HISTORY_DAYS} days ...", flush=True)
    simulator = Simulator(client[DATABASE])
    simulator.fill(HISTORY_MESSAGES, HISTORY_DAYS)
    environment = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG")}
    environment |= {
        "MONGODB_URI": uri,
        "MONGODB_DATABASE": DATABASE,
        "LISTEN_ADDRESS": f"0.0.0.0:{PORT}",
        "STATE_PATH": str(folder / "ledger.sqlite"),
    }
    exporter = subprocess.Popen(
        [sys.executable, Path(__file__).parent.parent / "metrics.py"],
        env=environment,
        cwd=folder,
        start_new_session=True,  # Ctrl-C is for the demo, which then ends it
        preexec_fn=die_with_parent,
    )
    stack.callback(_end, exporter)
    stop = threading.Event()
    traffic = threading.Thread(target=_traffic, args=(simulator, stop), daemon=True)
    traffic.start()
    stack.callback(traffic.join, 5)
    stack.callback(stop.set)
    print(_WELCOME, flush=True)
    exporter.wait()
    print("The exporter has ended by itself.", file=sys.stderr)
    return 1


def _drop(client: pymongo.MongoClient[Document]) -> None:
    """The demo's database is the last of it that goes, if the server is still there."""
    with contextlib.suppress(PyMongoError):
        client.drop_database(DATABASE)


def _traffic(simulator: Simulator, stop: threading.Event) -> None:
    try:
        simulator.run(RATE, stop)
    except PyMongoError as error:
        print(f"The simulated traffic has ended: {error}", file=sys.stderr)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
