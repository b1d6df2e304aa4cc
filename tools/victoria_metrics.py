"""A private VictoriaMetrics, which receives OpenTelemetry and remote writes, and a vmagent that scrapes for it."""

from pathlib import Path
from typing import Any

from tools.private_server import PrivateServer
from tools.prometheus import Prometheus, answers

NEWER = Path(__file__).parent.parent / ".tools" / "newer" / "usr" / "bin"


class VictoriaMetrics(Prometheus):
    """It has Prometheus' API. Names are made as Prometheus makes them of OpenTelemetry's."""

    name = "victoria-metrics"

    def __init__(self) -> None:
        super().__init__("")

    def command(self) -> list[str]:
        return [
            str(NEWER / "victoria-metrics"),
            f"-storageDataPath={self.folder / 'data'}",
            f"-httpListenAddr=127.0.0.1:{self.port}",
            "-opentelemetry.usePrometheusNaming",
            "-search.latencyOffset=1ms",
            "-memory.allowedBytes=100MB",
        ]

    def answers(self) -> bool:
        return answers(f"{self.url}/health")

    def get(self, path: str, **parameters: str) -> Any:
        answers(f"{self.url}/internal/force_flush")  # what was written is found at once
        return super().get(path, **parameters)


class Vmagent(PrivateServer):
    """Scrapes by this configuration and writes to the receiver."""

    name = "vmagent"

    def __init__(self, configuration: str, receiver: VictoriaMetrics) -> None:
        self._configuration = configuration
        self._receiver = receiver
        super().__init__()

    def prepare(self) -> None:
        (self.folder / "prometheus.yml").write_text(self._configuration)

    def command(self) -> list[str]:
        return [
            str(NEWER / "vmagent"),
            f"-promscrape.config={self.folder / 'prometheus.yml'}",
            f"-remoteWrite.url={self._receiver.url}/api/v1/write",
            f"-remoteWrite.tmpDataPath={self.folder / 'data'}",
            "-remoteWrite.flushInterval=500ms",
            f"-httpListenAddr=127.0.0.1:{self.port}",
        ]

    def answers(self) -> bool:
        return answers(f"http://127.0.0.1:{self.port}/health")
