"""A collection that is written back from a dump is whole once nothing more of it comes.

It has another UUID then. Until it is whole, nothing of it is sealed, and none of its history is folded: what is written
back later would be counted by nobody.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from bson import ObjectId

from librechat_exporter.ledger.source import END, Source, id_at
from librechat_exporter.ledger.state_file import State
from librechat_exporter.librechat.database import LibreChat, allowed

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

    def __init__(
        self,
        librechat: LibreChat,
        state: State,
        lock: AbstractContextManager[Any],
        renew_members: Callable[[], None],
    ) -> None:
        """lock: of the state. It is not held while MongoDB is asked. renew_members: of Membership."""
        self._renew_members = renew_members
        self._librechat = librechat
        self._state = state
        self._state_lock = lock
        self._lock = threading.Lock()
        self._begin(is_other=False)

    def forget(self) -> None:
        """Another database has other collections, which may be on their way."""
        self._begin(is_other=True)

    def _begin(self, *, is_other: bool) -> None:
        self._is_other = is_other
        self._known: dict[str, str] = {}
        # Before what nothing was there that is not here yet: by MongoDB's clock, when it was not there last.
        self._absent: dict[str, ObjectId] = {}
        self._looks: dict[str, _Look] = {}
        self._waiting: set[Source] = set()

    def note_absent(self, sources: Iterable[Source]) -> None:
        """Collections that are not there yet may come from a dump. Raises PyMongoError."""
        for source in sources:
            self.is_whole(source.fold.collection)

    def are_whole(self, source: Source) -> bool:
        """All that its history is told from is whole. Raises PyMongoError."""
        looked_at = [self.is_whole(one) for one in (source.fold.collection, *source.fold.reads)]
        if not all(looked_at):
            self._waiting.add(source)
            return False
        if source in self._waiting:
            self._waiting.discard(source)
            self._renew_members()  # who pays may have come back, too
        return True

    def is_whole(self, collection: str) -> bool:
        """True if it is there as it was before, or nothing more of it is written back. Raises PyMongoError."""
        with self._lock:
            uuid = self._librechat.identity(collection)
            known = self._known.get(collection) or self._kept(collection)
            if known is None and uuid is None:  # what never was there misses nothing
                self._absent[collection] = ObjectId(id_at(self._librechat.now()))
                return True
            is_known = uuid == known or (known is None and self._is_new(collection))
            # While it is looked at, one that is known can be told by a member that lags.
            if (not is_known or collection in self._looks) and not self._is_at_rest(collection, uuid, known):
                return False
            if uuid is not None:
                self._looks.pop(collection, None)
                if uuid != known:
                    self._keep(collection, uuid)
            return True

    def _is_new(self, collection: str) -> bool:
        """It comes from no dump: it was there at the first start, or nothing in it is older than itself."""
        absent = self._absent.get(collection)
        if absent is None:
            return not self._is_other
        return self._last(collection, absent) is None and self._last(collection, ObjectId(END)) is not None

    def _last(self, collection: str, before: ObjectId) -> ObjectId | None:
        """None if nothing that is older is there, or it may not be read."""
        return allowed(lambda: self._librechat.inserted_last(collection, before))

    def _is_at_rest(self, collection: str, uuid: str | None, known: str | None) -> bool:
        now, look = time.monotonic(), self._looks.get(collection)
        before = ObjectId(id_at(self._librechat.now()))
        if look is not None and look.uuid == uuid:
            before = min(before, look.before)  # the clock may have been ahead
        last = self._last(collection, before) if uuid is not None else None
        if look is None or look.uuid != uuid or look.last != last:
            if look is None or look.uuid != uuid:
                log.info("The collection %s is away, or restored: its history waits until it is whole", collection)
            self._looks[collection] = _Look(now, uuid, before, last)
            return False
        self._looks[collection] = look._replace(before=before)
        if uuid is None and self._librechat.identity() is None:
            self._looks[collection] = look._replace(at=now)  # the whole database is away
            return False
        # One that was met before is not empty for long.
        return now - look.at >= (_GONE_SECONDS if last is None and known is not None else _AT_REST_SECONDS)

    def _kept(self, collection: str) -> str | None:
        with self._state_lock:
            return self._state.kept(_name(collection))

    def _keep(self, collection: str, uuid: str) -> None:
        self._known[collection] = uuid
        try:
            with self._state_lock:
                self._state.keep(_name(collection), uuid)
        except sqlite3.Error as error:  # it is whole all the same, and looked at once more after a restart
            log.debug("The UUID of %s could not be kept: %s", collection, error)


def _name(collection: str) -> str:
    return f"collection {collection}"
