"""The exporter's entry point: `uv run metrics.py`."""

from librechat_exporter import ending

if __name__ == "__main__":
    ending.hold()  # before what follows, which takes a moment

import argparse
import logging
import os
import sqlite3
import sys

from pymongo.errors import PyMongoError

from librechat_exporter import __version__
from librechat_exporter.access import AccessError
from librechat_exporter.daemon import Daemon, check, forget_label, print_indexes
from librechat_exporter.faults import describe
from librechat_exporter.ledger.state_file import StateError
from librechat_exporter.settings import Settings, SettingsError

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
    parser.add_argument(
        "--forget-label",
        metavar="NAME=VALUE",
        help="delete the series with a label value, such as model=gpt-3.5, so that another can have its place, and "
        "exit; the exporter must be stopped",
    )
    arguments = parser.parse_args()
    if arguments.forget_label is not None and not all(arguments.forget_label.partition("=")):
        parser.error("--forget-label takes NAME=VALUE, such as model=gpt-3.5")
    if arguments.check or arguments.print_indexes or arguments.forget_label:
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
    if arguments.forget_label:
        return _forget_label(settings, arguments.forget_label)
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


def _forget_label(settings: Settings, argument: str) -> int:
    label, _, value = argument.partition("=")
    try:
        forgotten = forget_label(settings, label, value)
    except (StateError, sqlite3.Error) as error:
        log.error("%s", error)  # noqa: TRY400
        return 1
    log.info("%d series of %s are forgotten; another value can have the place", forgotten, argument)
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
    except StateError as error:
        log.error("%s", error)  # noqa: TRY400
        return 1
    except OSError as error:
        log.error("LISTEN_ADDRESS %s cannot be served: %s", settings.listen_address, error)  # noqa: TRY400
        return 1
    logging.shutdown()
    os._exit(0)  # all is saved; threads that still wait for MongoDB must not keep the process


if __name__ == "__main__":
    sys.exit(main())
