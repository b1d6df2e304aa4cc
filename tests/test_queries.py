"""The queries of any collection, on mongomock: they need no server, so these tests run on every machine."""

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import mongomock
import pytest
from bson import ObjectId

from librechat_exporter.librechat.database import LibreChat

START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def an_id(minute: int) -> ObjectId:
    return ObjectId.from_datetime(START + minute * MINUTE)


@pytest.fixture
def database() -> Iterator[Any]:
    """Fifty messages, a minute apart, of three users and two tenants."""
    client: Any = mongomock.MongoClient(tz_aware=True)
    client["LibreChat"]["messages"].insert_many(
        {"_id": an_id(n), "user": f"user {n % 3}", "tenantId": "even" if n % 2 == 0 else "odd", "n": n}
        for n in range(50)
    )
    yield client["LibreChat"]
    client.close()


def librechat(database: Any, tenant: str | None = None) -> LibreChat:
    # mongomock knows no codec options; documents that need them are tested with a real server.
    client = SimpleNamespace(get_database=lambda _name, _codec: database)
    return LibreChat(cast("Any", client), "LibreChat", tenant, lambda: START)


def test_ids_come_in_their_order_from_a_place_on(database: Any) -> None:
    one = librechat(database)
    assert one.ids("messages", an_id(7).binary, 3) == [an_id(n).binary for n in (7, 8, 9)]
    assert one.ids("messages", an_id(49).binary, 3) == [an_id(49).binary]
    assert one.ids("messages", an_id(50).binary, 3) == []
    assert one.ids("nothing", bytes(12), 3) == []
    odd = librechat(database, "odd")
    assert odd.ids("messages", bytes(12), 2) == [an_id(n).binary for n in (1, 3)]


def test_the_id_after_some_is_within_bounds(database: Any) -> None:
    one = librechat(database)
    assert one.id_after("messages", an_id(3), an_id(20), 5) == an_id(8)
    assert one.id_after("messages", an_id(3), an_id(8), 5) is None
    assert one.id_after("messages", an_id(45), an_id(99), 4) == an_id(49)


def test_the_newest_is_an_object_id(database: Any) -> None:
    one = librechat(database)
    assert (one.newest_id("messages"), one.has_foreign_ids("messages")) == (an_id(49), False)
    for foreign in ("zzz", 5):
        database["messages"].insert_one({"_id": foreign})
        assert (one.newest_id("messages"), one.has_foreign_ids("messages")) == (an_id(49), True)
        database["messages"].delete_one({"_id": foreign})
    assert (one.newest_id("nothing"), one.has_foreign_ids("nothing")) == (None, False)


def test_ids_are_spread_over_all_times(database: Any) -> None:
    one = librechat(database)
    spread = one.spread_ids("messages", 5)
    assert spread == sorted(set(spread))
    assert {an_id(n).binary for n in range(8)} < set(spread), "the first ones, which are deleted last"
    assert spread[-1] == an_id(49).binary
    assert max(int.from_bytes(b[:4]) - int.from_bytes(a[:4]) for a, b in itertools.pairwise(spread)) <= 600
    assert one.spread_ids("nothing", 5) == []
    assert one.found("messages", [spread[0], ObjectId().binary])
    assert not one.found("messages", [ObjectId().binary])


def test_counts(database: Any) -> None:
    one, odd = librechat(database), librechat(database, "odd")
    assert (one.count("messages", {"n": {"$gte": 40}}), odd.count("messages", {"n": {"$gte": 40}})) == (10, 5)
    assert (one.count("nothing", {}), one.size("messages"), odd.size("messages")) == (0, 50, 25)
    assert one.count_by("messages", "$user") == {("user 0",): 17, ("user 1",): 17, ("user 2",): 16}
    assert odd.count_by("messages", "$user", match={"n": {"$lt": 6}}) == {
        ("user 1",): 1,
        ("user 0",): 1,
        ("user 2",): 1,
    }
    assert one.count_distinct("messages", "$user", {"n": {"$in": [0, 1, 3]}}) == 2
    database["messages"].insert_one({"user": None})
    assert one.count_by("messages", "$user", match={"n": {"$exists": False}}) == {("unknown",): 1}
    assert one.count_distinct("messages", "$user", {}) == 3
    assert one.refused(["messages", "nothing"]) == []
