"""Exits with 0 if the exporter of these settings answers on this machine: the container's health check."""

import http.client
import sys

from librechat_exporter.settings import Settings

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
_SECONDS = 4


def main() -> int:
    host, port = Settings.load().bind_address
    connection = http.client.HTTPConnection(_ANY_ADDRESS.get(host, host), port, timeout=_SECONDS)
    try:
        connection.request("GET", "/health")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        print(f"The exporter does not answer: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0 if status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main())
