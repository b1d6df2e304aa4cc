"""Exits with 0 if the exporter of these settings answers on this machine: the container's health check.

It asks /health, or the path that is its argument, such as /ready.
"""

import argparse
import http.client
import ssl
import sys
from base64 import b64encode

from librechat_exporter.http.access import Access
from librechat_exporter.http.web_config import AccessError
from librechat_exporter.settings import Settings, SettingsError

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
_SECONDS = 4


def main(path: str = "/health") -> int:
    try:
        settings = Settings.load()
        with_tls = Access(settings.web_config_file).tls() is not None
        status = _ask(settings, path, with_tls=with_tls)
    except (OSError, http.client.HTTPException, AccessError, SettingsError) as error:
        print(f"The exporter does not answer: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0 if status == http.client.OK else 1


def _ask(settings: Settings, path: str, *, with_tls: bool) -> int:
    host, port = settings.bind_address
    host = _ANY_ADDRESS.get(host, host)
    connection: http.client.HTTPConnection
    if with_tls:
        context = ssl.create_default_context()
        context.check_hostname = False  # it is asked on this machine, by an address that its certificate does not name
        context.verify_mode = ssl.CERT_NONE
        if settings.healthcheck_cert_file is not None:
            context.load_cert_chain(settings.healthcheck_cert_file, settings.healthcheck_key_file)
        connection = http.client.HTTPSConnection(host, port, timeout=_SECONDS, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=_SECONDS)
    headers = {}
    password = settings.healthcheck_password.get_secret_value()
    if password:
        told = b64encode(f"{settings.healthcheck_user}:{password}".encode()).decode()
        headers["Authorization"] = f"Basic {told}"
    connection.request("GET", path, headers=headers)
    return connection.getresponse().status


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="healthcheck", description="Exits with 0 if the exporter answers 200 on this machine, else with 1."
    )
    parser.add_argument("path", nargs="?", default="/health", help="what is asked, such as /ready (default: /health)")
    sys.exit(main(parser.parse_args().path))
