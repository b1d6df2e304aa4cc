"""Which database the state belongs to: it is recognised by its documents.

A collection's UUID changes when it is restored from a dump. As long as it is the same, nothing is asked; else documents
that were met before are looked up. If one of them is there, it is the same database, and the totals go on.
"""

import functools
import json
import logging
import time
from collections.abc import Collection
from contextlib import AbstractContextManager
from enum import Enum
from typing import Any

from librechat_exporter.ledger.source import Source
from librechat_exporter.ledger.state_file import State
from librechat_exporter.librechat.database import LibreChat, allowed

log = logging.getLogger(__name__)

# While a dump is written back, what was met before may not be there yet.
DOUBT_SECONDS = 30.0
# Of each collection, so many documents at even distances of time are remembered, and so many open ones are looked up.
_REMEMBERED = 32
_OPEN_LOOKED_UP = 64
_KEPT = "documents met"
# A user's `_id` is personal, and is held in no other way than STATE_USER_IDS says.
_PERSONAL = "users"


class Verdict(Enum):
    """The database is the state's, or another one, or that cannot be told yet, or it has never had messages."""

    SAME = 1
    OTHER = 2
    DOUBTFUL = 3
    EMPTY = 4


class Binding:
    """Of several threads, only one at a time may call it."""

    def __init__(
        self, librechat: LibreChat, state: State, sources: Collection[Source], lock: AbstractContextManager[Any]
    ) -> None:
        """lock: of the state and the sources. It is not held while MongoDB is asked."""
        self._librechat = librechat
        self._state = state
        self._sources = sources
        self._lock = lock
        self._found: dict[str, str | None] = {}
        self._open_met = self._open_documents()
        self._doubted_since: float | None = None

    def verdict(self) -> Verdict:
        """Judges the database, and binds it anew if it is the same. Raises PyMongoError, sqlite3.Error."""
        open_documents = self._open_documents()  # before it is asked: what is read after that may be another's
        found = self._found = self._identify()
        identity = found["messages"]
        with self._lock:
            bound = self._state.binding()
        if bound == found and identity is not None:
            self._open_met = open_documents
            self._doubted_since = None
            return Verdict.SAME
        if bound and bound.get("tenant") != found["tenant"]:
            return Verdict.OTHER
        has_name = bound.get("database") == found["database"]
        if identity is None:  # a collection that is not there tells nothing
            return Verdict.SAME if has_name and bound.get("messages") is not None else Verdict.EMPTY
        was_without = has_name and bound.get("messages") is None
        if not bound or was_without or self._knows_a_document():
            if bound and not was_without:
                log.info("The database has been restored or renamed: its documents are known, so the counters go on")
            self.bind()
            return Verdict.SAME
        return self._doubt()

    def _identify(self) -> dict[str, str | None]:
        librechat = self._librechat
        return {"messages": librechat.identity(), "database": librechat.name, "tenant": librechat.tenant}

    def _doubt(self) -> Verdict:
        if self._librechat.newest_id("messages") is None:
            return Verdict.DOUBTFUL
        now = time.monotonic()
        if self._doubted_since is None:
            self._doubted_since = now
        return Verdict.OTHER if now - self._doubted_since >= DOUBT_SECONDS else Verdict.DOUBTFUL

    def bind(self) -> None:
        """Binds the state to the database that was found last. Raises sqlite3.Error."""
        with self._lock:
            self._state.bind(self._found)
        self._open_met = {}
        self._doubted_since = None

    def _open_documents(self) -> dict[str, set[bytes]]:
        """Some open documents of each collection."""
        some: dict[str, set[bytes]] = {}
        with self._lock:
            for source in self._sources:
                step = max(1, len(source.order) // _OPEN_LOOKED_UP)
                some.setdefault(source.fold.collection, set()).update(source.order[::step])
        return some

    def _knows_a_document(self) -> bool:
        with self._lock:
            remembered = json.loads(self._state.kept(_KEPT) or "{}")
        met = {name: {bytes.fromhex(one) for one in ids} for name, ids in remembered.items()}
        for name, documents in self._open_met.items():
            met.setdefault(name, set()).update(documents)
        found = self._librechat.found
        return any(ids and allowed(functools.partial(found, collection, ids)) for collection, ids in met.items())

    def remember(self) -> bool:
        """Keeps some documents that are there now, to know the database again; False if it is another one by now.

        Raises PyMongoError, sqlite3.Error.
        """
        collections = {source.fold.collection for source in self._sources} - {_PERSONAL}
        spread = self._librechat.spread_ids
        met = {name: allowed(functools.partial(spread, name, _REMEMBERED)) for name in sorted(collections)}
        found = self._identify()
        with self._lock:
            if self._state.binding() != found:
                return False
            self._state.keep(_KEPT, json.dumps({name: [one.hex() for one in ids or ()] for name, ids in met.items()}))
        return True
