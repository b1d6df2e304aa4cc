"""Passwords against bcrypt hashes, which are made to be slow: one at a time, the clients in turn."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import bcrypt

_MOST_REMEMBERED = 100
_LONGEST = 72  # bytes; bcrypt knows no more
# So many requests may wait, each in a thread of the server.
WAITING = 40


class Passwords:
    """Checks passwords. Safe for use from several threads."""

    def __init__(self) -> None:
        self._queue = _Queue()
        self._lock = threading.Lock()
        # Apart, so that no number of wrong passwords pushes a right one out.
        self._checked: dict[bool, OrderedDict[bytes, None]] = {True: OrderedDict(), False: OrderedDict()}
        self._decoys: dict[int, bytes] = {}

    def check(self, users: Mapping[str, str], user: str, password: bytes, client: str) -> bool | None:
        """True if it is the user's password; None if too many wait. As slow for a user who is not there.

        users: bcrypt hashes by name. client: its address. Many guesses from one do not keep another waiting.
        """
        key = hashlib.sha256("\0".join((user, users.get(user, ""))).encode() + b"\0" + password).digest()
        matches = self._remembered(key)
        if matches is not None:
            return matches
        with self._queue.turn(client) as is_granted:
            if not is_granted:
                return None
            matches = self._remembered(key)
            if matches is None:
                matches = self._compare(users, user, password)
                with self._lock:
                    keys = self._checked[matches]
                    keys[key] = None
                    if len(keys) > _MOST_REMEMBERED:
                        keys.popitem(last=False)
            return matches

    def _remembered(self, key: bytes) -> bool | None:
        with self._lock:
            return next((matches for matches, keys in self._checked.items() if key in keys), None)

    def _compare(self, users: Mapping[str, str], user: str, password: bytes) -> bool:
        """Takes the time of one hash of each cost that is in use, whoever asks: the time tells no names."""
        own = users.get(user, "")
        matches = False
        for cost in sorted({_cost(hashed) for hashed in users.values()}):
            is_own = bool(own) and _cost(own) == cost
            found = bcrypt.checkpw(password[:_LONGEST], own.encode() if is_own else self._decoy(cost))
            matches = matches or (is_own and found and len(password) <= _LONGEST)
        return matches

    def _decoy(self, cost: int) -> bytes:
        """A hash that no password has: only the cost is that of a real one."""
        if cost not in self._decoys:
            self._decoys[cost] = bcrypt.gensalt(cost) + b"." * 31
        return self._decoys[cost]


def _cost(hashed: str) -> int:
    return int(hashed.split("$")[2])


class _Queue:
    """Who waits, by client. A full queue refuses the newest of the client that has most in it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: OrderedDict[str, list[object]] = OrderedDict()
        self._is_busy = False

    @contextmanager
    def turn(self, client: str) -> Iterator[bool]:
        """Waits for its turn, and keeps it; yields False if it was refused."""
        ticket = object()
        with self._changed:
            self._waiting.setdefault(client, []).append(ticket)
            if sum(map(len, self._waiting.values())) > WAITING:
                self._remove(max(reversed(self._waiting), key=lambda one: len(self._waiting[one])), -1)
                self._changed.notify_all()
            self._changed.wait_for(lambda: not self._waits(client, ticket) or self._is_next(client, ticket))
            is_granted = self._waits(client, ticket)
            if is_granted:
                self._remove(client, 0)
                self._is_busy = True
        try:
            yield is_granted
        finally:
            if is_granted:
                with self._changed:
                    self._is_busy = False
                    self._changed.notify_all()

    def _waits(self, client: str, ticket: object) -> bool:
        return any(one is ticket for one in self._waiting.get(client, ()))

    def _is_next(self, client: str, ticket: object) -> bool:
        return not self._is_busy and next(iter(self._waiting)) == client and self._waiting[client][0] is ticket

    def _remove(self, client: str, place: int) -> None:
        """The client's next request is behind those of all others."""
        tickets = self._waiting.pop(client)
        tickets.pop(place)
        if tickets:
            self._waiting[client] = tickets
