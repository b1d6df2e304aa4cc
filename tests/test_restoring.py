"""A collection that is being written back is told from one that is whole."""

import contextlib
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from bson import ObjectId

from librechat_exporter.ledger import restoring
from librechat_exporter.ledger.restoring import Restoring
from librechat_exporter.ledger.source import Source
from librechat_exporter.ledger.state_file import IN_MEMORY, State
from librechat_exporter.librechat.database import LibreChat
from librechat_exporter.metrics.guard import LabelGuard
from tests.chats import object_id
from tests.life import Counts

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


class Stored:
    """Collections by their UUIDs; the documents of all, in the order of their insertion."""

    def __init__(self) -> None:
        self.uuids = {"messages": "one", "transactions": "one"}
        self.now_is = NOW
        self.documents: list[ObjectId] = []

    def identity(self, collection: str = "messages") -> str | None:
        return self.uuids.get(collection)

    def now(self) -> datetime:
        return self.now_is

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
    return Restoring(cast(LibreChat, stored), state, contextlib.nullcontext(), lambda: None)


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


def test_a_collection_that_never_was_there_misses_nothing_until_it_comes(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may come from a dump; one that is empty then is not waited for as long as one that was met before."""
    one = of(stored, State(IN_MEMORY))
    assert one.is_whole("logs")
    monkeypatch.setattr(restoring, "_GONE_SECONDS", 3600)
    stored.uuids["logs"] = "one"
    assert [one.is_whole("logs") for _ in range(2)] == [False, True]
    assert of(stored, State(IN_MEMORY)).is_whole("logs"), "what is there at a first start is whole"


@pytest.mark.parametrize(("seconds", "is_new"), [(1, True), (-1, False)])
def test_what_librechat_makes_is_whole_at_once(stored: Stored, seconds: int, is_new: bool) -> None:
    """All that is in it is younger than it."""
    one = of(stored, State(IN_MEMORY))
    assert one.is_whole("logs")
    stored.uuids["logs"] = "one"
    stored.insert(seconds)
    assert one.is_whole("logs") is is_new


def test_in_another_database_everything_may_be_on_its_way(stored: Stored) -> None:
    state = State(IN_MEMORY)
    one = of(stored, state)
    assert one.is_whole("messages")
    state.forget_all()
    one.forget()
    stored.insert(-900)
    assert not one.is_whole("messages")
    stored.insert(-800)
    assert [one.is_whole("messages") for _ in range(2)] == [False, True]


def test_a_member_that_lags_makes_nothing_whole(stored: Stored) -> None:
    """It still has the collection of before, while another has a half of the new one."""
    one = of(stored, State(IN_MEMORY))
    assert one.is_whole("transactions")
    for uuid in ("two", "one", "two", "one"):
        stored.uuids["transactions"] = uuid
        assert not one.is_whole("transactions")
    stored.insert(-900)
    stored.uuids["transactions"] = "two"
    assert [one.is_whole("transactions") for _ in range(2)] == [False, True]


def test_messages_that_are_sent_are_not_taken_for_a_dump_by_a_clock_that_was_ahead(stored: Stored) -> None:
    one = of(stored, State(IN_MEMORY))
    assert one.is_whole("transactions")
    stored.uuids["transactions"] = "two"
    stored.insert(-900)
    stored.now_is = NOW + timedelta(days=1)
    assert not one.is_whole("transactions")
    stored.now_is = NOW
    stored.insert(5)
    assert one.is_whole("transactions")


def test_who_pays_is_read_anew_when_all_has_come_back(stored: Stored) -> None:
    renewed = []
    one = Restoring(
        cast(LibreChat, stored), State(IN_MEMORY), contextlib.nullcontext(), lambda: renewed.append("members")
    )
    fold = Counts("messages")
    fold.reads = ("users",)
    source = Source(fold, LabelGuard(1, 1, ()))
    assert one.are_whole(source)
    stored.uuids["users"] = "one"
    stored.insert(-900)
    assert not one.are_whole(source)
    assert renewed == []
    assert [one.are_whole(source) for _ in range(2)] == [True, True]
    assert renewed == ["members"]


@pytest.mark.parametrize("uuid", [None, "two"], ids=["away", "empty"])
def test_what_is_not_there_is_waited_for_longer(
    stored: Stored, monkeypatch: pytest.MonkeyPatch, uuid: str | None
) -> None:
    one = of(stored, State(IN_MEMORY))
    assert one.is_whole("transactions")
    stored.uuids = {"messages": "one"} | ({"transactions": uuid} if uuid is not None else {})
    assert [one.is_whole("transactions") for _ in range(3)] == [False] * 3
    monkeypatch.setattr(restoring, "_GONE_SECONDS", 0)
    assert [one.is_whole("transactions") for _ in range(3)] == [True] * 3, "it is waited for once"


def test_a_database_that_is_away_is_waited_for_without_end(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    one = of(stored, State(IN_MEMORY))
    assert one.is_whole("messages")
    assert one.is_whole("transactions")
    monkeypatch.setattr(restoring, "_GONE_SECONDS", 0)
    stored.uuids = {}
    for _ in range(3):
        assert not one.is_whole("messages")
        assert not one.is_whole("transactions")
