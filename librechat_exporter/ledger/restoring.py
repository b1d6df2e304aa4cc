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


class _Look(NamedTuple):
    """A collection has been like this since a time of time.monotonic(): its UUID, and the newest of its documents that
    are older than a moment, as all in a dump are."""

    at: float
    uuid: str
    before: ObjectId
    newest: ObjectId | None


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
        """Whether it is there as it was before, or is written back. Raises PyMongoError."""
        with self._lock:
            uuid = self._librechat.identity(collection)
            known = self._known.get(collection) or self._kept(collection)
            if uuid is None or uuid == known:
                self._looks.pop(collection, None)
                return known is None or uuid is not None  # what never was there misses nothing
            if known is not None and not self._is_at_rest(collection, uuid):
                return False
            self._keep(collection, uuid)
            return True

    def _is_at_rest(self, collection: str, uuid: str) -> bool:
        now, last = time.monotonic(), self._looks.get(collection)
        before = last.before if last is not None else ObjectId(id_at(self._librechat.now()))
        newest = self._librechat.newest_id(collection, before)
        if last is None or (last.uuid, last.newest) != (uuid, newest):
            if last is None:
                log.info("The collection %s has been restored: its history waits until it is whole", collection)
            self._looks[collection] = _Look(now, uuid, before, newest)
            return False
        return now - last.at >= _AT_REST_SECONDS

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
