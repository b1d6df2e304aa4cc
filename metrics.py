"""The exporter's entry point: `uv run metrics.py`."""

from librechat_exporter import ending

if __name__ == "__main__":
    ending.hold()  # before what follows, which takes a moment

import argparse
import logging
import os
import sys

from pymongo.errors import PyMongoError

from librechat_exporter import __version__
from librechat_exporter.access import AccessError
from librechat_exporter.daemon import Daemon, check, print_indexes
from librechat_exporter.faults import describe
from librechat_exporter.settings import Settings, SettingsError
from librechat_exporter.state import StateInUseError

log = logging.getLogger("librechat_exporter")


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Serves what happens in LibreChat as Prometheus metrics.",
        epilog="All settings come from environment variables or from .env; .env.example lists them.",
    )
    parser.add_argument("--check", action="store_true", help="validate the settings and the connection, and exit")
    parser.add_argument("--version", action="version", version=f"librechat-exporter {__version__}")
    parser.add_argument(
        "--print-indexes", action="store_true", help="print the indexes that would make metrics exact, and exit"
    )
    arguments = parser.parse_args()
    if arguments.check or arguments.print_indexes:
        ending.release()
    try:
        settings = Settings.load()
    except SettingsError as error:
        print(f"The settings are wrong:\n{error}", file=sys.stderr)  # noqa: T201
        return 2
    logging.basicConfig(level=settings.logging_level.upper(), format=settings.logging_format)
    logging.getLogger("pymongo").setLevel(logging.WARNING)  # at debug level it writes commands, and so documents
    if settings.metrics_cache_enabled is not None or settings.metrics_cache_ttl is not None:
        log.info(
            "METRICS_CACHE_ENABLED and METRICS_CACHE_TTL have no effect: nothing is cached, as a scrape costs little"
        )
    if arguments.print_indexes:
        return _print_indexes(settings)
    return _check(settings) if arguments.check else _serve(settings)


def _print_indexes(settings: Settings) -> int:
    try:
        print_indexes(settings)
    except PyMongoError as error:
        log.error("MongoDB cannot be read: %s", describe(error))  # noqa: TRY400
        return 1
    return 0


def _check(settings: Settings) -> int:
    try:
        warnings = check(settings)
    except PyMongoError as error:
        log.error("MongoDB cannot be read: %s", describe(error))  # noqa: TRY400
        return 1
    for warning in warnings:
        log.warning(warning)
    log.info("The settings are valid, and MongoDB can be read")
    return 0


def _serve(settings: Settings) -> int:
    try:
        Daemon(settings).run()
    except AccessError as error:
        log.error("%s", error)  # noqa: TRY400
        return 2
    except StateInUseError as error:
        log.error("%s", error)  # noqa: TRY400
        return 1
    except OSError as error:
        log.error("LISTEN_ADDRESS %s cannot be served: %s", settings.listen_address, error)  # noqa: TRY400
        return 1
    logging.shutdown()
    os._exit(0)  # all is saved; threads that still wait for MongoDB must not keep the process


if __name__ == "__main__":
    sys.exit(main())
