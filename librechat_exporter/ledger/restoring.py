"""A collection that is written back from a dump is whole once nothing more of it comes.

It has another UUID then. Until it is whole, nothing of it is sealed, and none of its history is folded: what is written
back later would be counted by nobody.
"""

import logging
import sqlite3
import threading
import time
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from bson import ObjectId

from librechat_exporter.ledger.source import id_at
from librechat_exporter.ledger.state_file import State
from librechat_exporter.librechat.database import LibreChat

log = logging.getLogger(__name__)

_AT_REST_SECONDS = 30.0
# What is not there, or empty, for so long, comes back no more.
_GONE_SECONDS = 600.0


class _Look(NamedTuple):
    """A collection has been like this since a time of time.monotonic(): its UUID, None if it is not there, and which of
    its documents that are older than a moment, as all in a dump are, was inserted last."""

    at: float
    uuid: str | None
    before: ObjectId
    last: ObjectId | None


class Restoring:
    """Safe for use from several threads."""

    def __init__(self, librechat: LibreChat, state: State, lock: AbstractContextManager[Any]) -> None:
        """lock: of the state. It is not held while MongoDB is asked."""
        self._librechat = librechat
        self._state = state
        self._state_lock = lock
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """Another database has other collections."""
        self._known: dict[str, str] = {}
        self._looks: dict[str, _Look] = {}

    def is_whole(self, collection: str) -> bool:
        """True if it is there as it was before, or nothing more of it is written back. Raises PyMongoError."""
        with self._lock:
            uuid = self._librechat.identity(collection)
            known = self._known.get(collection) or self._kept(collection)
            if known in (None, uuid):  # what never was there misses nothing
                self._looks.pop(collection, None)
            elif not self._is_at_rest(collection, uuid):
                return False
            if uuid is not None and uuid != known:
                self._keep(collection, uuid)
            return True

    def _is_at_rest(self, collection: str, uuid: str | None) -> bool:
        now, look = time.monotonic(), self._looks.get(collection)
        is_new = look is None or look.uuid != uuid
        before = ObjectId(id_at(self._librechat.now())) if look is None or is_new else look.before
        last = self._librechat.inserted_last(collection, before) if uuid is not None else None
        if look is None or is_new or look.last != last:
            if is_new:
                log.info("The collection %s is away, or restored: its history waits until it is whole", collection)
            self._looks[collection] = _Look(now, uuid, before, last)
            return False
        if uuid is None and self._librechat.identity() is None:
            self._looks[collection] = look._replace(at=now)  # the whole database is away
            return False
        return now - look.at >= (_AT_REST_SECONDS if last is not None else _GONE_SECONDS)

    def _kept(self, collection: str) -> str | None:
        with self._state_lock:
            return self._state.kept(_name(collection))

    def _keep(self, collection: str, uuid: str) -> None:
        self._looks.pop(collection, None)
        self._known[collection] = uuid
        try:
            with self._state_lock:
                self._state.keep(_name(collection), uuid)
        except sqlite3.Error as error:  # it is whole all the same, and looked at once more after a restart
            log.debug("The UUID of %s could not be kept: %s", collection, error)


def _name(collection: str) -> str:
    return f"collection {collection}"
