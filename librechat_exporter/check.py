"""`metrics.py --check`: tries all that a start needs, and says what was found."""

import errno
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum

import pymongo
from pymongo.errors import OperationFailure, PyMongoError

from librechat_exporter.daemon import CHECK_SECONDS
from librechat_exporter.faults import ASKING_ERRORS, describe, why
from librechat_exporter.http.access import Access
from librechat_exporter.http.server import listener
from librechat_exporter.http.web_config import AccessError
from librechat_exporter.ledger import state_check
from librechat_exporter.ledger.state_file import StateError
from librechat_exporter.librechat import health
from librechat_exporter.librechat.database import LibreChat, allowed, connect
from librechat_exporter.librechat.fields import COLLECTIONS
from librechat_exporter.price_report import unpriced
from librechat_exporter.prices import PriceList
from librechat_exporter.settings import Settings, SettingsError

_CLOCKS_DIFFER = timedelta(minutes=1)


class Verdict(IntEnum):
    """The exit code that follows. With UNREADABLE it starts, and measures nothing until that is mended."""

    OK = 0
    WARNING = -1
    UNREADABLE = 1
    ERROR = 2


_STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.UNREADABLE: "red", Verdict.ERROR: "red"}


@dataclass(frozen=True)
class Finding:
    """subject: a setting, or what was looked at. text: a line without secrets."""

    verdict: Verdict
    subject: str
    text: str


def main(*, as_json: bool) -> int:
    """Prints the findings. Returns 0 if it would start and measure, warnings or not; 1 if MongoDB cannot be read; 2 if
    it would not start.
    """
    from rich.console import Console

    logging.disable()  # what is found is told here
    found = list(_findings())
    code = max(0, *(one.verdict for one in found))
    if as_json:
        lines = [asdict(one) | {"verdict": one.verdict.name.lower()} for one in found]
        print(json.dumps({"exit_code": code, "findings": lines}, indent=2))
        return code
    width = max(len(one.subject) for one in found)
    console = Console(highlight=False, markup=False)  # plain where there is no terminal
    for one in found:
        console.print(f"{one.verdict.name.lower():<11}", style=_STYLES[one.verdict], end="")
        console.print(f" {one.subject:<{width}}  {one.text}", soft_wrap=True)
    console.print(f"\n{_summary(code, sum(one.verdict is Verdict.WARNING for one in found))}", soft_wrap=True)
    return code


def _summary(code: int, warnings: int) -> str:
    if code == Verdict.ERROR:
        return "The exporter would not start."
    if code == Verdict.UNREADABLE:
        return "The exporter would start, and have no metrics of LibreChat until MongoDB can be read."
    return "The exporter would start." + (f" {warnings} warning{'s' if warnings > 1 else ''}." if warnings else "")


def _findings() -> Iterator[Finding]:
    try:
        settings = Settings.load()
    except SettingsError as error:
        for line in str(error).splitlines():
            named = re.match("([A-Z_]+): ", line)
            yield Finding(
                Verdict.ERROR, named[1] if named else "settings", line.removeprefix(named[0] if named else "")
            )
        return
    for warning in settings.warnings:
        yield Finding(Verdict.WARNING, "settings", warning)
    yield Finding(Verdict.OK, "settings", "valid")
    yield _state(settings)
    yield _access(settings)
    yield _address(settings)
    librechat = connect(settings)
    try:
        with pymongo.timeout(CHECK_SECONDS):
            now = librechat.now()
        yield Finding(Verdict.OK, "MongoDB", "answers")
        yield from _clocks(librechat, now)
        yield from _database(librechat, settings)
        if settings.price_list is not None:
            yield from _prices(librechat, settings.price_list)
    except ASKING_ERRORS as error:
        yield Finding(Verdict.UNREADABLE, "MongoDB", f"cannot be read: {describe(error)}")
    finally:
        librechat.close()
    if settings.librechat_url is not None:
        answer = health.ask(settings.librechat_url)
        verdict = Verdict.OK if answer.problem is None else Verdict.WARNING
        yield Finding(verdict, "LIBRECHAT_URL", answer.problem or "LibreChat answers")


def _state(settings: Settings) -> Finding:
    try:
        warning = state_check.examine(settings.state_path)
    except StateError as error:
        return Finding(Verdict.ERROR, "STATE_PATH", str(error).removeprefix("STATE_PATH "))
    if warning is not None:
        return Finding(Verdict.WARNING, "STATE_PATH", warning)
    return Finding(Verdict.OK, "STATE_PATH", f"{settings.state_path} can be written")


def _access(settings: Settings) -> Finding:
    try:
        access = Access(settings.web_config_file, settings.metrics_secret.get_secret_value())
    except AccessError as error:
        return Finding(Verdict.ERROR, "WEB_CONFIG_FILE", str(error).removeprefix("WEB_CONFIG_FILE "))
    return Finding(Verdict.OK, "access", access.demands)


def _address(settings: Settings) -> Finding:
    try:
        listener(settings.bind_address).close()
    except OSError as error:
        hint = "; does this exporter run already?" if error.errno == errno.EADDRINUSE else ""
        return Finding(
            Verdict.ERROR, "LISTEN_ADDRESS", f"{settings.listen_address} cannot be served: {why(error)}{hint}"
        )
    return Finding(Verdict.OK, "LISTEN_ADDRESS", f"{settings.listen_address} is free")


def _clocks(librechat: LibreChat, now: datetime) -> Iterator[Finding]:
    ahead = now - datetime.now(UTC)
    if abs(ahead) > _CLOCKS_DIFFER:
        where = "ahead of" if ahead > timedelta() else "behind"
        yield Finding(Verdict.WARNING, "clocks", f"MongoDB's is {abs(ahead)} {where} this machine's")
    with pymongo.timeout(CHECK_SECONDS):
        newest = allowed(lambda: librechat.newest_id("messages"))
    if newest is not None and newest.generation_time - now > _CLOCKS_DIFFER:
        ahead = newest.generation_time - now
        yield Finding(Verdict.WARNING, "clocks", f"the newest message is {ahead} ahead of MongoDB's clock")


def _prices(librechat: LibreChat, prices: PriceList) -> Iterator[Finding]:
    try:
        with pymongo.timeout(CHECK_SECONDS):
            missing = unpriced(librechat, prices)
    except PyMongoError as error:  # that MongoDB answers, and transactions may be read, is told elsewhere
        text = f"models without a price are not known ({describe(error)}); --print-prices takes its time"
        yield Finding(Verdict.WARNING, "MODEL_PRICES", text)
        return
    if not missing:
        yield Finding(Verdict.OK, "MODEL_PRICES", "every model that was billed in the last 30 days has a price")
    for model in missing:
        yield Finding(Verdict.WARNING, "MODEL_PRICES", f"has no price for {model!r}, which was billed lately")


def _database(librechat: LibreChat, settings: Settings) -> Iterator[Finding]:
    with pymongo.timeout(CHECK_SECONDS):
        nothing = librechat.without_messages()
        refused = librechat.refused(one for one in COLLECTIONS if one != "groups" or settings.group_metrics)
    if nothing is not None:
        yield Finding(Verdict.WARNING, "database", nothing)
    else:
        yield Finding(Verdict.OK, "database", f"{librechat.name} has messages")
    for name in refused:
        yield Finding(
            Verdict.UNREADABLE if name == "messages" else Verdict.WARNING,
            "rights",
            f"{name} may not be read: the metrics that come of it are absent; docs/security.md has the role",
        )
    try:
        with pymongo.timeout(CHECK_SECONDS):
            missing = librechat.missing_indexes()
            rated = librechat.has_ratings_index()
    except OperationFailure as error:
        yield Finding(Verdict.WARNING, "indexes", f"may not be listed: {describe(error)}")
        return
    for index in missing:
        yield Finding(
            Verdict.WARNING,
            "indexes",
            f"{index} has none, which LibreChat makes itself: scrapes read the whole collection",
        )
    if not missing:
        more = "" if rated else "; --print-indexes tells of one for ratings that LibreChat does not make"
        yield Finding(Verdict.OK, "indexes", f"those that scrapes need are there{more}")
