"""Usage by groups, domains, users and agents: counted once, by what is true when it is counted."""

from datetime import timedelta
from typing import Any

import pymongo
import pytest
from bson import Code, ObjectId
from pymongo.database import Database
from pymongo.errors import OperationFailure

from librechat_exporter.cli import forget_label
from librechat_exporter.ledger import last_seen
from librechat_exporter.ledger.state_file import StateError
from librechat_exporter.settings import Settings
from tests.chats import NOW, message, object_id
from tests.conftest import Document, MakeExporter
from tests.meanings import Values

ANN, BOB, EVE = (ObjectId(one * 24) for one in "abc")
SALT = "0123456789abcdef-salt"
ON = {"group_metrics": True, "domain_metrics": True, "per_user_metrics": "id"}


def transaction(number: int, user: ObjectId, **fields: Any) -> list[Document]:
    """A prompt and a completion of an answer, of 1 and 2 cents."""
    shared = {"user": user, "model": "gpt-4o", "context": "message", "createdAt": NOW} | fields
    return [
        shared | {"_id": object_id(NOW, 2 * number), "tokenType": "prompt", "rawAmount": -100, "tokenValue": -10_000},
        shared
        | {"_id": object_id(NOW, 2 * number + 1), "tokenType": "completion", "rawAmount": -10, "tokenValue": -20_000},
    ]


def of(values: Values, name: str, label: str) -> dict[str, float]:
    """The values of a metric by one of its labels, added up."""
    found: dict[str, float] = {}
    for (metric, labels), value in values.items():
        if metric == name:
            found[dict(labels)[label]] = found.get(dict(labels)[label], 0) + value
    return found


@pytest.fixture
def people(database: Database[Document]) -> Database[Document]:
    database["users"].insert_many(
        [
            {
                "_id": ANN,
                "email": "ann@uni.example",
                "idOnTheSource": "entra-ann",
                "createdAt": NOW - timedelta(days=60),
            },
            {"_id": BOB, "email": "bob@uni.example", "createdAt": NOW - timedelta(days=60)},
            {"_id": EVE, "email": "eve@Other.example", "createdAt": NOW - timedelta(days=2)},
        ]
    )
    database["groups"].insert_many(
        [
            {"name": "Physics", "source": "entra", "memberIds": ["entra-ann", str(BOB)]},
            {"name": "Law", "source": "local", "memberIds": [str(BOB)]},
            {"name": "Law", "source": "local", "memberIds": ["entra-ann"]},
        ]
    )
    return database


def test_a_member_of_two_groups_counts_in_both(people: Database[Document], exporter: MakeExporter) -> None:
    """In history, and while it is open; groups of one name are one."""
    for number, (user, moment) in enumerate([(ANN, NOW), (BOB, NOW), (EVE, NOW), (BOB, NOW - timedelta(days=3))]):
        people["messages"].insert_one(message(moment, number, user=str(user)))
        people["transactions"].insert_many(transaction(number, user, messageId=f"m{number}"))
    values = exporter(NOW, **ON).scrape()
    assert of(values, "librechat_group_messages_total", "group") == {"Physics": 3, "Law": 3, "none": 1}
    assert of(values, "librechat_group_tokens_total", "group") == {"Physics": 330, "Law": 330, "none": 110}
    assert of(values, "librechat_group_cost_usd_total", "group") == pytest.approx(
        {"Physics": 0.09, "Law": 0.09, "none": 0.03}
    )
    assert of(values, "librechat_domain_messages_total", "domain") == {"uni.example": 3, "other.example": 1}
    assert of(values, "librechat_user_messages_total", "user") == {str(ANN): 1, str(BOB): 2, str(EVE): 1}
    window = [("group", "Physics"), ("window", "7d")]
    assert values["librechat_group_active_users", tuple(window)] == 2


def test_membership_is_what_it_is_when_usage_is_counted(people: Database[Document], exporter: MakeExporter) -> None:
    """Neither a user who moves, nor a deleted group or chat, nor a restart takes anything back or counts it twice."""
    people["messages"].insert_one(message(NOW, 1, user=str(ANN)))
    people["transactions"].insert_many(transaction(1, ANN))
    one = exporter(NOW, **ON, state_refresh=1)
    first = of(one.scrape(), "librechat_group_messages_total", "group")
    assert first == {"Physics": 1, "Law": 1}
    people["groups"].delete_many({"name": "Law"})
    people["groups"].insert_one({"name": "Arts", "memberIds": ["entra-ann"]})
    people["messages"].update_one({"messageId": "m1"}, {"$set": {"tokenCount": 11}})
    one.close()
    one = exporter(NOW, **ON, state_refresh=1)
    one.daemon.ledger.tick()
    assert of(one.scrape(), "librechat_group_messages_total", "group") == first
    people["messages"].delete_many({})
    people["messages"].insert_one(message(NOW, 2, user=str(ANN)))
    people["transactions"].insert_many(transaction(2, ANN))
    values = one.scrape()
    assert of(values, "librechat_group_messages_total", "group") == {"Physics": 2, "Law": 1, "Arts": 1}
    assert of(values, "librechat_group_cost_usd_total", "group") == pytest.approx(
        {"Physics": 0.06, "Law": 0.03, "Arts": 0.03}
    )


def test_a_family_that_is_switched_on_later_has_all_that_is_stored(
    people: Database[Document], exporter: MakeExporter
) -> None:
    for number in range(4):
        moment = NOW - timedelta(days=number % 2)
        people["messages"].insert_one(message(moment, number, user=str(BOB)))
        people["transactions"].insert_many(transaction(number, BOB))
    one = exporter(NOW)
    assert "librechat_group_messages_total" not in {name for name, _ in one.scrape()}
    one.close()
    values = exporter(NOW, **ON).folded().scrape()
    assert of(values, "librechat_group_messages_total", "group") == {"Physics": 4, "Law": 4}
    assert of(values, "librechat_user_tokens_total", "user") == {str(BOB): 440}


def test_a_new_user_pays_once_it_is_known_who_that_is(people: Database[Document], exporter: MakeExporter) -> None:
    """Users are read once in a while: until then the message counts, and is charged to nobody.

    The clock by which its `_id` is made may be behind MongoDB's.
    """
    people["messages"].insert_one(message(NOW, 1, user=str(ANN)))
    one = exporter(NOW, **ON, state_refresh=3600)
    one.scrape()
    one.at = NOW + timedelta(seconds=5)
    new = ObjectId()
    people["messages"].insert_one(message(one.at, 2, user=str(new)))
    people["messages"].insert_one(message(one.at - timedelta(seconds=100), 3, user=str(new)))
    people["messages"].insert_one(message(one.at, 4, user="nobody known"))
    values = one.scrape()
    assert values["librechat_messages_total", ()] == 4
    assert of(values, "librechat_domain_messages_total", "domain") == {"uni.example": 1}
    people["users"].insert_one({"_id": new, "email": "new@uni.example"})
    one.daemon.ledger.membership.renew()
    assert of(one.scrape(), "librechat_domain_messages_total", "domain") == {"uni.example": 3, "unknown": 1}


def test_who_came_in_an_outage_pays_for_what_is_older_than_an_hour(
    people: Database[Document], exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also who is met only after users were read."""
    monkeypatch.setattr("librechat_exporter.ledger.open_documents._COUNTED_AT_ONCE", 2)
    people["messages"].insert_one(message(NOW, 1, user=str(ANN)))
    one = exporter(NOW, **ON, state_refresh=3600)
    one.scrape()
    one.daemon.ledger.tick()
    one.close()
    users = [str(ANN), str(ANN), str(ANN), "gone", str(ANN)]
    people["messages"].insert_many(
        [message(NOW + timedelta(seconds=n), n, user=user) for n, user in enumerate(users, 2)]
    )
    two = exporter(NOW + timedelta(hours=2), **ON, state_refresh=3600)
    two.daemon.ledger.tick()
    two.at = NOW + timedelta(hours=2, minutes=1)
    two.daemon.ledger.membership.renew()
    two.daemon.ledger.tick()
    assert of(two.scrape(), "librechat_domain_messages_total", "domain") == {"uni.example": 5, "unknown": 1}
    source = two.daemon.ledger._sources["messages"]
    assert not source.cells, "what waited is sealed when it is charged"


def test_users_may_be_read_on_a_member_that_lags(people: Database[Document], exporter: MakeExporter) -> None:
    people["messages"].insert_one(message(NOW, 1, user=str(ANN)))
    one = exporter(NOW, **ON, state_refresh=3600, mongo_read_preference="secondaryPreferred")
    one.scrape()
    new = ObjectId()
    people["messages"].insert_one(message(NOW, 2, user=str(new)))
    one.scrape()
    one.daemon.ledger.membership.renew()  # without the new one
    assert of(one.scrape(), "librechat_domain_messages_total", "domain") == {"uni.example": 1}
    people["users"].insert_one({"_id": new, "email": "new@uni.example"})
    one.daemon.ledger.membership.renew()
    assert of(one.scrape(), "librechat_domain_messages_total", "domain") == {"uni.example": 2}


def test_users_are_read_at_least_every_half_hour(people: Database[Document], exporter: MakeExporter) -> None:
    """Their usage stays open for an hour."""
    assert exporter(NOW, **ON, state_refresh=7200).daemon.ledger.membership._every == 1800


def test_a_user_who_cannot_be_read_is_waited_for_as_long_as_messages_are_open(
    people: Database[Document], exporter: MakeExporter, client: pymongo.MongoClient[Document]
) -> None:
    people["messages"].insert_one(message(NOW, 1, user=str(ANN)))
    one = exporter(NOW, **ON, state_refresh=1)
    one.scrape()
    fault = {"failCommands": ["aggregate"], "namespace": f"{people.name}.users", "errorCode": 96}
    client.admin.command({"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": fault})
    try:
        people["messages"].insert_one(message(NOW, 2, user=str(ObjectId())))
        one.scrape()
        one.at = NOW + timedelta(minutes=50)
        assert of(one.scrape(), "librechat_domain_messages_total", "domain") == {"uni.example": 1}
        one.at = NOW + timedelta(minutes=56)
        assert of(one.scrape(), "librechat_domain_messages_total", "domain") == {"uni.example": 1, "unknown": 1}
    finally:
        client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


def test_users_that_may_not_be_read_are_asked_for_once_in_a_reading(
    people: Database[Document], exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for each message; their usage is nobody's that is known."""
    asked = []

    def refused(*_arguments: object, **_named: object) -> None:
        asked.append(1)
        raise OperationFailure("not authorized", 13)

    monkeypatch.setattr("librechat_exporter.ledger.membership.read_members", refused)
    people["messages"].insert_many([message(NOW, number, user=str(ANN)) for number in range(200)])
    values = exporter(NOW, **ON).scrape()
    assert of(values, "librechat_group_messages_total", "group") == {"unknown": 200}
    assert of(values, "librechat_domain_messages_total", "domain") == {"unknown": 200}
    assert len(asked) < 30


def test_users_who_are_too_many_count_as_other(people: Database[Document], exporter: MakeExporter) -> None:
    people["messages"].insert_many([message(NOW, number, user=f"u{number}") for number in range(5)])
    values = exporter(NOW, per_user_metrics="id", max_users=2).scrape()
    found = of(values, "librechat_user_messages_total", "user")
    assert (len(found), found["other"]) == (3, 3)
    assert values["librechat_exporter_label_values_dropped_total", (("label", "user"),)] == 3


def test_members_of_groups_that_are_too_many_are_not_counted_together(
    people: Database[Document], exporter: MakeExporter
) -> None:
    """Ann is in two groups; whoever is in several that are dropped would count several times."""
    people["groups"].insert_one({"name": "Arts", "memberIds": [str(ANN)], "source": "local"})
    people["messages"].insert_one(message(NOW, 1, user=str(ANN)))
    one = exporter(NOW, **ON)
    one.daemon.ledger._guard._limits = {"group": 1}
    values = one.scrape()
    assert list(of(values, "librechat_group_active_users", "group").values()) == [3], "one in each of three windows"
    assert of(values, "librechat_group_messages_total", "group")["other"] == 2


def test_users_named_in_another_way_start_afresh(
    people: Database[Document], exporter: MakeExporter, caplog: pytest.LogCaptureFixture
) -> None:
    people["messages"].insert_many([message(NOW, 1, user=str(ANN)), message(NOW - timedelta(days=1), 2, user=str(ANN))])

    def named(**settings: Any) -> dict[str, float]:
        one = exporter(NOW, **settings)
        found = of(one.folded().scrape(), "librechat_user_messages_total", "user")
        one.close()
        return found

    hashed = {"per_user_metrics": "hash", "user_id_salt": SALT}
    [(first, count)] = named(**hashed).items()
    assert (len(first), count) == (16, 2)
    assert str(ANN) not in first
    people["messages"].delete_many({"messageId": "m2"})
    assert named(**hashed) == {first: 2}
    assert "afresh" not in caplog.text
    [(second, count)] = named(**hashed | {"user_id_salt": SALT + "other"}).items()
    assert (second == first, count) == (False, 1)
    assert "librechat_user_messages_total is counted in another form: it starts afresh" in caplog.text
    assert named(per_user_metrics="id") == {str(ANN): 1}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"per_user_metrics": "name"}, "must be one of off, hash, id"),
        ({"per_user_metrics": "hash"}, "hash needs USER_ID_SALT"),
        ({"per_user_metrics": "id", "state_user_ids": "hash", "user_id_salt": SALT}, "STATE_USER_IDS=hash keeps out"),
        ({"per_user_metrics": "id", "max_series": 3000}, "4000 label combinations: MAX_SERIES must be as many"),
        ({"per_user_metrics": "id", "max_users": 2000}, "8000 label combinations: MAX_SERIES must be as many"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Settings(**settings)


def agents_answer(number: int, **fields: Any) -> Document:
    return message(NOW, number, user=str(ANN), model="agent_1", endpoint="agents") | fields


@pytest.fixture
def agent(people: Database[Document]) -> Database[Document]:
    people["agents"].insert_one({"id": "agent_1", "name": "Tutor", "model": "gpt-4o"})
    return people


def test_a_transaction_is_its_agents_once_the_answer_is_there(
    agent: Database[Document], exporter: MakeExporter
) -> None:
    """It is written before the answer, which is half saved first; another name of the agent moves nothing."""
    agent["messages"].insert_one(message(NOW, 9))
    agent["transactions"].insert_many([*transaction(1, ANN, messageId="m1"), *transaction(2, ANN)])
    one = exporter(NOW)
    assert of(one.scrape(), "librechat_agent_cost_usd_total", "agent") == {}
    agent["messages"].insert_one(agents_answer(1, error=True, unfinished=True, model=None))
    one.daemon.ledger.tick()
    assert of(one.scrape(), "librechat_agent_cost_usd_total", "agent") == {}
    agent["messages"].update_one({"messageId": "m1"}, {"$set": {"model": "agent_1", "unfinished": False}})
    one.daemon.ledger.tick()
    agent["agents"].update_one({"id": "agent_1"}, {"$set": {"name": "Coach"}})
    one.daemon.ledger.tick()
    values = one.scrape()
    assert of(values, "librechat_agent_cost_usd_total", "agent") == pytest.approx({"Tutor": 0.03})
    assert of(values, "librechat_agent_tokens_total", "token_type") == {"input": 100, "output": 10}
    assert of(values, "librechat_agent_failed_answers_total", "agent") == {"Tutor": 1}
    assert of(values, "librechat_agent_users", "window") == {"1d": 1, "7d": 1, "30d": 1}


def test_an_answer_that_comes_after_the_transaction_is_sealed_is_no_agents(
    agent: Database[Document], exporter: MakeExporter
) -> None:
    agent["messages"].insert_one(message(NOW, 9))
    agent["transactions"].insert_many(transaction(1, ANN, messageId="m1"))
    one = exporter(NOW)
    one.scrape()
    one.at = NOW + timedelta(hours=2)
    agent["transactions"].insert_one({"_id": object_id(one.at), "tokenType": "credits"})
    one.daemon.ledger.tick()
    one.daemon.ledger.tick()
    agent["messages"].insert_one(agents_answer(1))
    one.daemon.ledger.tick()
    values = one.scrape()
    assert of(values, "librechat_agent_cost_usd_total", "agent") == {}
    assert of(values, "librechat_llm_cost_usd_total", "model") == pytest.approx({"gpt-4o": 0.03})


def test_pairs_of_agents_and_users_are_bounded(
    agent: Database[Document], exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(last_seen, "MOST_PAIRS", 3)
    agent["messages"].insert_many([agents_answer(number, user=f"u{number}") for number in range(5)])
    for _ in range(2):
        one = exporter(NOW)
        assert of(one.scrape(), "librechat_agent_users", "window") == {"1d": 3, "7d": 3, "30d": 3}
        one.close()
    assert caplog.text.count("pairs of an agent and a user") == 2  # each says it once


def test_agents_beyond_the_bound_of_series_have_no_users_together(
    agent: Database[Document], exporter: MakeExporter
) -> None:
    """Who uses several of them would count several times."""
    agent["agents"].insert_many([{"id": f"agent_{n}", "name": f"Agent {n}"} for n in range(20, 30)])
    agent["messages"].insert_many(
        [message(NOW, n, user=str(ANN), model=f"agent_{n}", endpoint="agents") for n in range(20, 30)]
    )
    values = exporter(NOW, max_series=6).scrape()
    agents = of(values, "librechat_agent_users", "agent").keys()
    assert 0 < len(agents) <= 6
    assert "other" not in agents


def test_ids_of_users_are_told_by_no_command(
    people: Database[Document], exporter: MakeExporter, caplog: pytest.LogCaptureFixture
) -> None:
    people["messages"].insert_one(message(NOW, 1, user=str(ANN)))
    one = exporter(NOW, per_user_metrics="id")
    one.scrape()
    one.close()
    with pytest.raises(StateError, match=r"The label user has no value '\.\.\.': it has 1 others"):
        forget_label(one.daemon.settings, "user", "x")
    caplog.set_level("INFO")
    forget_label(one.daemon.settings, "user", str(ANN))
    assert "series of user=... are forgotten" in caplog.text
    assert str(ANN) not in caplog.text


def test_a_member_of_a_group_that_is_no_text_is_nobody(people: Database[Document], exporter: MakeExporter) -> None:
    people["groups"].update_one({"name": "Law"}, {"$push": {"memberIds": Code("f()")}})
    people["messages"].insert_one(message(NOW, 1, user=str(BOB)))
    values = exporter(NOW, **ON).scrape()
    assert of(values, "librechat_group_messages_total", "group") == {"Physics": 1, "Law": 1}


@pytest.mark.parametrize("ago", [timedelta(0), timedelta(hours=3)], ids=["open", "history"])
def test_what_an_agent_cost_that_was_the_last_one_and_is_deleted(
    database: Database[Document], exporter: MakeExporter, ago: timedelta
) -> None:
    database["messages"].insert_one(message(NOW - ago, 1, user=str(ANN), model="agent_1", endpoint="agents"))
    database["transactions"].insert_many(
        [one | {"_id": object_id(NOW - ago, n), "messageId": "m1"} for n, one in enumerate(transaction(1, ANN))]
    )
    for name in ("messages", "transactions"):
        database[name].insert_one({"_id": object_id(NOW, 9), "user": "u9"})
    values = exporter(NOW).folded().scrape()
    assert set(of(values, "librechat_agent_tokens_total", "agent")) == {"unknown"}


def test_a_label_that_is_forgotten_leaves_its_users_too(agent: Database[Document], exporter: MakeExporter) -> None:
    agent["messages"].insert_one(agents_answer(1))
    one = exporter(NOW)
    one.scrape()
    one.close()
    assert forget_label(one.daemon.settings, "agent", "Tutor") == 0
    agent["messages"].delete_many({})
    values = exporter(NOW).scrape()
    assert not [series for series in values if "Tutor" in str(series)]


def test_a_label_of_a_metric_that_is_off_is_forgotten_too(people: Database[Document], exporter: MakeExporter) -> None:
    people["messages"].insert_one(message(NOW, 1, user=str(ANN)))
    one = exporter(NOW, **ON)
    one.scrape()
    one.close()
    off = exporter(NOW)
    off.close()
    assert forget_label(off.daemon.settings, "group", "Physics") == 0
    people["messages"].delete_many({})
    people["groups"].delete_many({})
    values = exporter(NOW, **ON).scrape()
    assert not [series for series in values if "Physics" in str(series)]


def test_adoption_follows_registrations_and_messages(people: Database[Document], exporter: MakeExporter) -> None:
    """Of two old users one writes; of one new user none does."""
    people["messages"].insert_one(message(NOW - timedelta(days=3), 1, user=str(ANN)))
    values = exporter(NOW).scrape()
    assert of(values, "librechat_user_retention_ratio", "window") == {"1d": 0, "7d": 0.5, "30d": 0.5}
    assert of(values, "librechat_new_user_activation_ratio", "window") == {"7d": 0, "30d": 0}


def test_usage_waits_for_users_to_be_read(
    people: Database[Document], exporter: MakeExporter, client: pymongo.MongoClient[Document]
) -> None:
    """Nothing is counted for the wrong group because users could not be read at first."""
    people["messages"].insert_one(message(NOW, 1, user=str(ANN)))
    fault = {"failCommands": ["aggregate"], "namespace": f"{people.name}.groups", "errorCode": 96}
    client.admin.command({"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": fault})
    try:
        one = exporter(NOW, **ON, state_refresh=1)
        assert not [name for name, _ in one.scrape() if name.startswith("librechat_group_")]
    finally:
        client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})
    assert of(one.folded().scrape(), "librechat_group_messages_total", "group") == {"Physics": 1, "Law": 1}
