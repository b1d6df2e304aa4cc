"""A collection that is being written back is told from one that is whole."""

import contextlib
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from bson import ObjectId

from librechat_exporter.ledger import restoring
from librechat_exporter.ledger.restoring import Restoring
from librechat_exporter.ledger.state_file import IN_MEMORY, State
from librechat_exporter.librechat.database import LibreChat
from tests.chats import object_id

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


class Stored:
    """Collections by their UUIDs; the documents of all, in the order of their insertion."""

    def __init__(self) -> None:
        self.uuids = {"messages": "one", "transactions": "one"}
        self.documents: list[ObjectId] = []

    def identity(self, collection: str = "messages") -> str | None:
        return self.uuids.get(collection)

    def now(self) -> datetime:
        return NOW

    def insert(self, seconds: int) -> None:
        self.documents.append(object_id(NOW + timedelta(seconds=seconds), len(self.documents)))

    def inserted_last(self, _collection: str, before: ObjectId) -> ObjectId | None:
        return next((one for one in reversed(self.documents) if one < before), None)


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> Stored:
    """A collection that has not changed from one look to the next is at rest."""
    monkeypatch.setattr(restoring, "_AT_REST_SECONDS", 0)
    return Stored()


def of(stored: Stored, state: State) -> Restoring:
    return Restoring(cast(LibreChat, stored), state, contextlib.nullcontext())


def test_a_collection_is_waited_for_as_long_as_documents_come(stored: Stored) -> None:
    """A message that is sent meanwhile, or just before, hides none."""
    state = State(IN_MEMORY)
    assert of(stored, state).is_whole("transactions")
    stored.uuids["transactions"] = "two"
    again = of(stored, state)
    stored.insert(-1)
    for seconds in (-900, -800, -700):
        stored.insert(seconds)
        assert not again.is_whole("transactions")
        stored.insert(5)
    assert again.is_whole("transactions")
    assert of(stored, state).is_whole("transactions"), "it is remembered"


def test_a_collection_that_never_was_there_misses_nothing(stored: Stored) -> None:
    one = of(stored, State(IN_MEMORY))
    assert one.is_whole("logs")
    stored.uuids["logs"] = "one"
    assert one.is_whole("logs")


@pytest.mark.parametrize("uuid", [None, "two"], ids=["away", "empty"])
def test_what_is_not_there_is_waited_for_longer(
    stored: Stored, monkeypatch: pytest.MonkeyPatch, uuid: str | None
) -> None:
    one = of(stored, State(IN_MEMORY))
    assert one.is_whole("transactions")
    stored.uuids = {"messages": "one"} | ({"transactions": uuid} if uuid is not None else {})
    assert [one.is_whole("transactions") for _ in range(3)] == [False] * 3
    monkeypatch.setattr(restoring, "_GONE_SECONDS", 0)
    assert one.is_whole("transactions")


def test_a_database_that_is_away_is_waited_for_without_end(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    one = of(stored, State(IN_MEMORY))
    assert one.is_whole("messages")
    assert one.is_whole("transactions")
    monkeypatch.setattr(restoring, "_GONE_SECONDS", 0)
    stored.uuids = {}
    for _ in range(3):
        assert not one.is_whole("messages")
        assert not one.is_whole("transactions")
