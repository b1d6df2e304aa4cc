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
from tools.prometheus import Prometheus
from tools.shapes import Document
from tools.university import University

ADDRESS = "127.0.0.1"
RULES = Path(__file__).parent.parent / "prometheus-dev" / "rules"
DATABASE = "librechat_exporter_demo"
HISTORY_DAYS = 60
HISTORY_MESSAGES = 40_000
RATE = 0.7
_PATIENCE_MILLISECONDS = 5000

_WELCOME = """
The exporter serves simulated traffic, on this machine alone. Open

  http://localhost:{port}            in a browser: how it is doing
  http://localhost:{port}/metrics    the metrics; or: curl -s localhost:{port}
  http://localhost:{port}/ready      whether all history is counted
{prometheus}
Ctrl-C ends everything and leaves nothing behind.
"""
_PROMETHEUS = """  {url}             Prometheus, with rules and alerts
"""


def _port() -> int:
    """DEMO_PORT. Raises ValueError if it is none, OSError if it is in use."""
    told = os.environ.get("DEMO_PORT") or "8000"
    if not told.isdecimal() or not 0 < int(told) < 65536:
        raise ValueError(f"DEMO_PORT is a port, such as 8001, not {told!r}.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((ADDRESS, int(told)))
    return int(told)


def main() -> int:
    try:
        port = _port()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError:
        told = os.environ.get("DEMO_PORT") or 8000
        print(f"Port {told} is in use; stop what listens there, or name another in DEMO_PORT.", file=sys.stderr)
        return 1
    try:
        with ending.raising(), ExitStack() as stack:
            return _run(stack, port)
    except ending.EndedError:
        return 0
    except NoMongodError as error:
        print(error, file=sys.stderr)
        return 1


def _run(stack: ExitStack, port: int) -> int:
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
    print(f"Writing about {HISTORY_MESSAGES} messages of {HISTORY_DAYS} days ...", flush=True)
    simulator = University(client[DATABASE])
    simulator.fill(HISTORY_MESSAGES, HISTORY_DAYS)
    environment = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG")}
    environment |= {
        "MONGODB_URI": uri,
        "MONGODB_DATABASE": DATABASE,
        "LISTEN_ADDRESS": f"{ADDRESS}:{port}",
        "GROUP_METRICS": "true",
        "USAGE_WINDOWS": "1d,7d,30d,month",
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
    print(_WELCOME.format(port=port, prometheus=_prometheus(stack, port)), flush=True)
    exporter.wait()
    print("The exporter has ended by itself.", file=sys.stderr)
    return 1


def _prometheus(stack: ExitStack, port: int) -> str:
    """The line about the Prometheus that is started, if one is installed."""
    if shutil.which("prometheus") is None:
        return ""
    server = stack.enter_context(Prometheus(_configuration(port)))
    return _PROMETHEUS.format(url=server.url)


def _configuration(port: int) -> str:
    return (
        "global: {scrape_interval: 5s, scrape_timeout: 4s, evaluation_interval: 15s}\n"
        f"rule_files: ['{RULES}/*.yml']\n"
        f"scrape_configs:\n- job_name: librechat\n  static_configs: [{{targets: ['{ADDRESS}:{port}']}}]\n"
    )


def _drop(client: pymongo.MongoClient[Document]) -> None:
    """The demo's database is the last of it that goes, if the server is still there."""
    with contextlib.suppress(PyMongoError):
        client.drop_database(DATABASE)


def _traffic(simulator: University, stop: threading.Event) -> None:
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
