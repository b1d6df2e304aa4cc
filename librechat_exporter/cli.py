"""The command line of `metrics.py`: its arguments, and the commands that they name."""

import argparse
import contextlib
import ctypes
import gc
import json
import logging
import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

from pymongo.errors import PyMongoError

from librechat_exporter import __version__, check, ending, log_lines
from librechat_exporter.collectors import all_collectors, folds_of
from librechat_exporter.daemon import Daemon
from librechat_exporter.faults import describe, why
from librechat_exporter.folds import payers
from librechat_exporter.http.web_config import AccessError
from librechat_exporter.ledger import forgetting
from librechat_exporter.ledger.state_file import State, StateError
from librechat_exporter.librechat.database import connect
from librechat_exporter.librechat.fields import IS_RATED, RATINGS_INDEX, RATINGS_INDEX_OPTIONS
from librechat_exporter.price_report import print_prices
from librechat_exporter.settings import Settings, SettingsError

log = logging.getLogger("librechat_exporter")

# M_ARENA_MAX of glibc's malloc.h.
_ARENA_MAX = -8
# Of gc.set_threshold. Old objects are seldom looked through for garbage, as all threads stop meanwhile: for 60 ms where
# 36,000 documents are open, and by Python's own thresholds 20 times while these are read.
_GARBAGE_THRESHOLDS = (2_000, 10, 50)
_INDEX_BYTES = 100  # an entry, before compression


def parser() -> argparse.ArgumentParser:
    one = argparse.ArgumentParser(
        description="Serves what happens in LibreChat as Prometheus metrics.",
        epilog="All settings come from environment variables or from .env; .env.example lists them. It exits with 1 if "
        "a command needs MongoDB and cannot read it, with 2 if settings, the state file, the web configuration or the "
        "address cannot be used.",
    )
    one.add_argument("--version", action="version", version=f"librechat-exporter {__version__}")
    commands = one.add_mutually_exclusive_group()
    commands.add_argument(
        "--check", action="store_true", help="try all that a start needs, tell what was found, and exit"
    )
    commands.add_argument(
        "--print-indexes", action="store_true", help="print the index that would make ratings cheap to read, and exit"
    )
    commands.add_argument(
        "--print-prices",
        action="store_true",
        help="print which price of MODEL_PRICES each model of the last 30 days gets today, and why, and exit",
    )
    commands.add_argument(
        "--forget-label",
        metavar="NAME=VALUE",
        help="delete the series with a label value, such as model=gpt-3.5, so that another can have its place, and "
        "exit; the exporter must be stopped",
    )
    one.add_argument("--json", action="store_true", help="tell the findings of --check as JSON")
    return one


def main() -> int:
    """Runs the command. Returns its exit code."""
    arguments = parser().parse_args()
    if arguments.json and not arguments.check:
        parser().error("--json belongs to --check")
    command = _command(arguments)
    if arguments.check or command is not serve:
        ending.release()
    if arguments.check:
        return check.main(as_json=arguments.json)
    try:
        settings = Settings.load()
    except SettingsError as error:
        print(f"The settings are wrong:\n{error}", file=sys.stderr)
        return 2
    log_lines.set_up(settings.logging_level, settings.logging_format)
    logging.getLogger("pymongo").setLevel(logging.WARNING)  # at debug level it writes commands, and so documents
    for warning in settings.warnings:
        log.warning("%s", warning)
    if settings.metrics_cache_enabled is not None or settings.metrics_cache_ttl is not None:
        log.info(
            "METRICS_CACHE_ENABLED and METRICS_CACHE_TTL have no effect: nothing is cached, as a scrape costs little"
        )
    try:
        return command(settings)
    except (AccessError, StateError) as error:
        log.error("%s", error)  # noqa: TRY400
        return 2
    except sqlite3.Error as error:
        log.error("STATE_PATH: %s", error)  # noqa: TRY400
        return 1
    except PyMongoError as error:
        log.error("MongoDB cannot be read: %s", describe(error))  # noqa: TRY400
        return 1


def _command(arguments: argparse.Namespace) -> Callable[[Settings], int]:
    if arguments.forget_label is not None:
        label, _, value = arguments.forget_label.partition("=")
        if not (label and value):
            parser().error("--forget-label takes NAME=VALUE, such as model=gpt-3.5")
        return lambda settings: forget_label(settings, label, value)
    if arguments.print_indexes:
        return print_indexes
    if arguments.print_prices:
        return print_prices
    return serve


def serve(settings: Settings) -> int:
    """Runs the daemon until it is told to end. Raises AccessError, StateError."""
    _share_memory()
    gc.set_threshold(*_GARBAGE_THRESHOLDS)
    try:
        Daemon(settings).run()
    except OSError as error:
        log.error("LISTEN_ADDRESS %s cannot be served: %s", settings.listen_address, error)  # noqa: TRY400
        return 2
    logging.shutdown()
    os._exit(0)  # all is saved; threads that still wait for MongoDB must not keep the process


def _share_memory() -> None:
    """With glibc, all threads share one arena: else each keeps memory that the others could use."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)


def print_indexes(settings: Settings) -> int:
    """Prints the index that would make ratings cheap to read. Raises PyMongoError if MongoDB cannot be read."""
    librechat = connect(settings)
    rated = librechat.count("messages", IS_RATED)
    print("// Ratings: without an index they are read from all messages, once in a while; with this one, often.")
    print(f"// It holds rated messages alone, {rated:,} now, and takes about {rated * _INDEX_BYTES / 1e6:.1f} MB.")
    if librechat.has_ratings_index():
        print("// There is such an index already.")
    else:
        print(f"db.messages.createIndex({json.dumps(RATINGS_INDEX)}, {json.dumps(RATINGS_INDEX_OPTIONS)})")
    return 0


def forget_label(settings: Settings, label: str, value: str) -> int:
    """Forgets a label value in the state file. Raises StateError, sqlite3.Error.

    The daemon must not run: it has the file to itself.
    """
    try:
        is_there = Path(settings.state_path).is_file()
    except OSError as error:
        raise StateError(f"STATE_PATH {settings.state_path} cannot be read ({why(error)})") from None
    if not is_there:
        raise StateError(f"STATE_PATH {settings.state_path} is not there; name the exporter's own")
    told = value if label != payers.USER else "..."  # who must be in no log
    state = State(settings.state_path)
    if not state.on_disk:
        raise StateError(f"STATE_PATH {settings.state_path} cannot be written")
    folds = folds_of(all_collectors(settings.with_all()), settings)
    with contextlib.closing(state):
        if (label, value) not in state.labels():
            known = sorted(one for name, one in state.labels() if name == label)
            there = f"it has {', '.join(map(repr, known))}" if known else "there is no such label"
            if known and label == payers.USER:
                there = f"it has {len(known)} others"
            raise StateError(f"The label {label} has no value {told!r}: {there}")
        forgotten = forgetting.forget_label(state, folds, label, value)
    log.info("%d series of %s=%s are forgotten; another value can have the place", forgotten, label, told)
    return 0
