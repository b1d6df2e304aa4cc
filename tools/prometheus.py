"""A private Prometheus, from Debian's package."""

import json
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from tools.private_server import PrivateServer


def answers(url: str) -> bool:
    """True if there is an answer, and it tells of no failure."""
    try:
        with urllib.request.urlopen(url, timeout=1):  # noqa: S310
            return True
    except OSError:
        return False


class Prometheus(PrivateServer):
    """Runs with this configuration. Raises RuntimeError if it does not come up."""

    name = "prometheus"

    def __init__(self, configuration: str, program: str | Path = "prometheus") -> None:
        self._configuration = configuration
        self._program = program
        super().__init__()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def prepare(self) -> None:
        (self.folder / "prometheus.yml").write_text(self._configuration)

    def command(self) -> list[str]:
        return [
            str(self._program),
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]

    def answers(self) -> bool:
        return answers(f"{self.url}/-/ready")

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an API's answer. Raises urllib.error.HTTPError, for a wrong query among others."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=20) as response:  # noqa: S310
            return json.load(response)["data"]

    def query(self, expression: str) -> list[Any]:
        """The series of an instant query."""
        result: list[Any] = self.get("query", query=expression)["result"]
        return result
