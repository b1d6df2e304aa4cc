"""A private server for demo, tests and benchmarks: on a free port, in a folder of its own, ended whatever happens."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self

_START_SECONDS = 60
_PR_SET_PDEATHSIG = 1


# Bound for as long as this process lives, so that the system gives their ports to nobody who asks for any; who names
# one, as a server does with SO_REUSEADDR, gets it.
_HELD: list[socket.socket] = []


def free_port() -> int:
    """A port that nothing listens on, and that is this process's to give away."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    _HELD.append(holder)
    port: int = holder.getsockname()[1]
    return port


def die_with_parent() -> None:
    """For subprocess's preexec_fn: the child is killed when its parent ends, however it ends. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class PrivateServer(ABC):
    """A server process that can be hurt. Raises RuntimeError if it does not come up."""

    name: str

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.close()
            raise

    @abstractmethod
    def command(self) -> list[str]:
        """The command that starts the server."""

    @abstractmethod
    def answers(self) -> bool:
        """True if the server serves."""

    @abstractmethod
    def prepare(self) -> None:
        """Makes what the folder needs before the first start."""

    @property
    def pid(self) -> int:
        if self.process is None:
            raise RuntimeError(f"{self.name} does not run")
        return self.process.pid

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, start_new_session=True, preexec_fn=die_with_parent
            )
        end = time.monotonic() + _START_SECONDS
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{self.name} did not start:\n{(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
