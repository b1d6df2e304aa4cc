"""A private Alertmanager, from Debian's package."""

import json
import urllib.request
from typing import Any

from tools.private_server import PrivateServer
from tools.prometheus import answers


class Alertmanager(PrivateServer):
    """Runs with this configuration. Raises RuntimeError if it does not come up."""

    name = "prometheus-alertmanager"

    def __init__(self, configuration: str) -> None:
        self._configuration = configuration
        super().__init__()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def prepare(self) -> None:
        (self.folder / "alertmanager.yml").write_text(self._configuration)

    def command(self) -> list[str]:
        return [
            "prometheus-alertmanager",
            f"--config.file={self.folder / 'alertmanager.yml'}",
            f"--storage.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--cluster.listen-address=",
        ]

    def answers(self) -> bool:
        return answers(f"{self.url}/-/ready")

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/api/v2/{path}", timeout=10) as response:  # noqa: S310
            return json.load(response)

    def send(self, *alerts: dict[str, str]) -> None:
        """Alerts by their labels, as Prometheus sends them."""
        body = json.dumps([{"labels": labels} for labels in alerts]).encode()
        request = urllib.request.Request(  # noqa: S310
            f"{self.url}/api/v2/alerts", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310
            return
