"""Documents of current LibreChat, and how they are counted; the oracle says the same of documents of any shape."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from pymongo.database import Database

from tests.chats import NOW, message, object_id, set_clock
from tests.conftest import Document, MakeExporter
from tests.meanings import Values

SECOND = timedelta(seconds=1)


def value(values: Values, name: str, **labels: str) -> float | None:
    return values.get((name, tuple(sorted(labels.items()))))


def of(values: Values, name: str) -> dict[str, float]:
    """By the values of labels, without the windows."""
    found = {}
    for (one, labels), amount in values.items():
        told = [text for label, text in labels if label not in ("window", "class")]
        if one == name and dict(labels).get("window") in (None, "1d"):
            found["/".join(told)] = amount
    return found


REASONS = [
    ('{ "type": "missing_model", "info": "openAI" }', "missing_model"),
    ('{"type":"INPUT_LENGTH"}', "INPUT_LENGTH"),
    ('{"type"\n:\t"invalid_request_error"}', "invalid_request_error"),
    ('An error occurred while processing the request: {"type":"stream_expired"}', "stream_expired"),
    ('{"type":"made up"}', "other"),
    ('{"kind":"type","type":"refusal"}', "other"),
]


@pytest.mark.parametrize(("text", "reason"), REASONS, ids=range(len(REASONS)))
@pytest.mark.parametrize("where", ["text", "content"])
def test_rejections(database: Database[Document], exporter: MakeExporter, text: str, reason: str, where: str) -> None:
    said = {"text": text} if where == "text" else {"text": "", "content": [{"type": "error", "error": text}]}
    database["messages"].insert_one(message(NOW, 1, error=True, **said))
    assert of(exporter(NOW).scrape(), "librechat_window_rejected_requests") == {reason: 1}


def test_a_subagent_is_named_by_a_conversation_that_comes_later(
    database: Database[Document], exporter: MakeExporter
) -> None:
    database["agents"].insert_one({"id": "agent_x", "name": "Researcher", "model": "gpt-4o"})
    told = {"subagentTask": {"id": "t"}, "user": "sub"}
    answers = [message(NOW, number, conversationId=f"c{number}", **told) for number in (2, 3)]
    database["messages"].insert_many(answers)
    one = exporter(NOW)
    assert of(one.scrape(), "librechat_subagent_answers_total") == {}
    thread = {"conversationId": "c2", "subagentThread": {"parentConversationId": "c1"}, "agent_id": "agent_x"}
    database["conversations"].insert_one(thread)
    assert of(one.scrape(), "librechat_subagent_answers_total") == {"Researcher": 1}
    set_clock(one, NOW + timedelta(minutes=3))
    one.daemon.ledger.tick()
    assert of(one.scrape(), "librechat_subagent_answers_total") == {"Researcher": 1, "unknown": 1}, "it never came"
    set_clock(one, NOW + timedelta(minutes=30))
    one.daemon.ledger.tick()
    assert of(one.scrape(), "librechat_subagent_answers_total") == {"Researcher": 1, "unknown": 1}


@pytest.mark.parametrize("ago", [timedelta(0), timedelta(days=1)], ids=["open", "history"])
def test_a_chat_that_asks_a_subagent(database: Database[Document], exporter: MakeExporter, ago: timedelta) -> None:
    then = NOW - ago - timedelta(seconds=10)
    database["agents"].insert_one({"id": "agent_x", "name": "Researcher", "model": "gpt-4o"})
    thread = {"subagentThread": {"parentConversationId": "c1"}, "agent_id": "agent_x"}
    chat, child = (message(then, 10 + number) | {"conversationId": f"c{number + 1}"} for number in range(2))
    database["conversations"].insert_many([chat, child | thread])
    task = {"subagentTask": {"id": "t"}, "model": None, "conversationId": "c2"}
    database["messages"].insert_many(
        [
            message(then, 1, isCreatedByUser=True, model=None, conversationId="c1"),
            message(then, 2, parentMessageId="m1", conversationId="c1"),
            message(then, 3, isCreatedByUser=True, user="sub", **task),
            message(then, 4, parentMessageId="m3", user="sub", **task),
        ]
    )
    values = exporter(NOW).scrape()
    assert value(values, "librechat_conversations_total") == 1
    assert value(values, "librechat_messages_total") == 2
    assert of(values, "librechat_messages_per_model_total") == {"gpt-4o": 1}
    assert of(values, "librechat_subagent_answers_total") == {"Researcher": 1}
    assert of(values, "librechat_agent_answers_total") == {}
    assert value(values, "librechat_monthly_unique_users") == 1
    assert value(values, "librechat_conversation_messages_count") == 1
    assert value(values, "librechat_stored_documents", collection="messages") == 4
    if not ago:
        assert value(values, "librechat_active_conversations") == 1


def test_a_half_saved_answer_counts_once_under_its_model(database: Database[Document], exporter: MakeExporter) -> None:
    database["agents"].insert_one({"id": "agent_1", "name": "One", "model": "gpt-4o"})
    question = message(NOW, 1, isCreatedByUser=True, model=None, tokenCount=40)
    half = message(NOW, 2, parentMessageId="m1", unfinished=True, endpoint="agents", model=None, tokenCount=None)
    database["messages"].insert_many([question, half])
    one = exporter(NOW)
    values = one.scrape()
    assert value(values, "librechat_messages_total") == 2
    assert of(values, "librechat_messages_per_model_total") == {}
    assert of(values, "librechat_input_tokens_per_model_total") == {}
    complete = {"unfinished": False, "model": "agent_1", "tokenCount": 7}
    database["messages"].update_one({"messageId": "m2"}, {"$set": complete})
    values = one.scrape()
    assert of(values, "librechat_messages_per_model_total") == {"gpt-4o": 1}
    assert of(values, "librechat_input_tokens_per_model_total") == {"gpt-4o": 40}
    assert of(values, "librechat_agent_answers_total") == {"One": 1}
    assert value(values, "librechat_messages_total") == 2


def test_a_half_saved_answer_that_is_never_named_is_unknown(
    database: Database[Document], exporter: MakeExporter
) -> None:
    database["messages"].insert_one(message(NOW, 1, unfinished=True, endpoint="agents", model=None))
    one = exporter(NOW)
    assert of(one.scrape(), "librechat_messages_per_model_total") == {}
    for minutes in (30, 54, 58, 65, 80):
        set_clock(one, NOW + timedelta(minutes=minutes))
        one.daemon.ledger.tick()
        named = {"unknown": 1} if minutes > 55 else {}
        assert of(one.scrape(), "librechat_messages_per_model_total") == named
    assert one.scrape()["librechat_messages_total", ()] == 1


def test_a_half_saved_answer_is_waited_for_though_the_clock_is_ahead(
    database: Database[Document], exporter: MakeExporter
) -> None:
    one = exporter(NOW, doubts=True)
    question = message(NOW, 1, isCreatedByUser=True, model=None)
    database["messages"].insert_one(question)
    one.scrape()
    answer = message(NOW + 2 * SECOND, 2, parentMessageId="m1", unfinished=True, endpoint="agents", model=None)
    database["messages"].insert_one(answer)
    set_clock(one, NOW + timedelta(hours=1))
    assert of(one.scrape(), "librechat_messages_per_model_total") == {}
    database["messages"].update_one({"messageId": "m2"}, {"$set": {"unfinished": False, "model": "gpt-4o"}})
    set_clock(one, NOW + 3 * SECOND)
    values = one.scrape()
    assert of(values, "librechat_messages_per_model_total") == {"gpt-4o": 1}
    assert of(values, "librechat_answer_seconds_count") == {"gpt-4o": 1}


def call(**fields: Any) -> Document:
    return {"type": "tool_call", "tool_call": {"name": "search", "type": "tool_call"} | fields}


def test_tools(database: Database[Document], exporter: MakeExporter) -> None:
    database["mcpservers"].insert_many(
        [{"serverName": name} for name in ("big_mcp_wiki", "wiki", "mcp_forge", "forge")]
    )
    parts = [
        call(output="Blocked: policy"),
        call(output="blocked: is no policy"),
        call(name="run", output="exit code 1: no", backgroundTask={"status": "error", "backgrounded": True}),
        call(name="run", output="exit code 0: yes", backgroundTask={"status": "completed", "backgrounded": True}),
        call(name="check_background_task"),
        call(name="sync_mcp_users_action_X"),
        call(name="get_mcp_big_mcp_wiki"),
        call(name="get_mcp_small_mcp_other"),
        call(name="get_action_mcp_wiki"),
        call(name="open_issue_mcp_mcp_forge"),
        call(name="lc_transfer_to_agent_1"),
        call(name="lc_transfer_to_agent_2"),
    ]
    for number, ago in enumerate((timedelta(0), timedelta(days=1))):
        database["messages"].insert_one(message(NOW - ago, number, content=parts))
    values = exporter(NOW).scrape()
    assert of(values, "librechat_tool_calls_per_tool") == {
        "search": 4,
        "run": 4,
        "sync_mcp_users_action_X": 2,
        "get_mcp_big_mcp_wiki": 2,
        "get_mcp_small_mcp_other": 2,
        "get_action_mcp_wiki": 2,
        "open_issue_mcp_mcp_forge": 2,
        "lc_transfer_to": 4,
    }
    errors = of(values, "librechat_tool_call_errors_per_tool_total")
    assert {tool: count for tool, count in errors.items() if count} == {"search": 2, "run": 2}
    assert of(values, "librechat_mcp_tool_calls_per_server") == {
        "big_mcp_wiki": 2,
        "other": 2,
        "wiki": 2,
        "mcp_forge": 2,
    }


@pytest.mark.parametrize("read", ["together", "apart", "history"])
def test_a_regenerated_answer_did_not_let_anybody_wait(
    database: Database[Document], exporter: MakeExporter, read: str
) -> None:
    """The first is found among what is read, or in the conversation."""
    begin = NOW - (timedelta(days=2) if read == "history" else timedelta(minutes=50))
    question = message(begin, 1, isCreatedByUser=True, model=None, conversationId="c")
    shared = {"parentMessageId": "m1", "conversationId": "c"}
    answers = [message(begin + timedelta(seconds=seconds), 2 + seconds, **shared) for seconds in (5, 2400)]
    database["messages"].insert_many([question, answers[0]])
    if read != "apart":
        database["messages"].insert_one(answers[1])
    one = exporter(begin + timedelta(minutes=1) if read == "apart" else NOW)
    one.folded()
    if read == "apart":
        one.close()
        database["messages"].insert_one(answers[1])
        one = exporter(begin + timedelta(minutes=41))
    values = one.scrape()
    assert of(values, "librechat_answer_seconds_sum") == {"gpt-4o": 5}
    assert of(values, "librechat_answer_seconds_count") == {"gpt-4o": 1}
    assert of(values, "librechat_messages_per_model_total") == {"gpt-4o": 2}


@pytest.mark.parametrize("is_running", [True, False])
def test_a_first_answer_that_is_found_late_was_the_only_first_one(
    database: Database[Document], exporter: MakeExporter, is_running: bool
) -> None:
    """A LibreChat whose clock is behind wrote the question and its first answer, another one the second answer."""

    def behind(number: int, created: datetime, **fields: Any) -> Document:
        late = object_id(created - 400 * SECOND, number)
        return message(created, number, _id=late, conversationId="c", **fields)

    one = exporter(NOW)
    database["messages"].insert_one(message(NOW, 1))
    question = behind(2, NOW, isCreatedByUser=True, model=None)
    if is_running:
        one.scrape()
        database["messages"].insert_one(question)
        one.daemon.ledger.tick()
    else:
        database["messages"].insert_one(question)
        one.scrape()
    again = message(NOW + 30 * SECOND, 4, parentMessageId="m2", conversationId="c")
    database["messages"].insert_many([behind(3, NOW + 5 * SECOND, parentMessageId="m2"), again])
    set_clock(one, NOW + 31 * SECOND)
    assert of(one.scrape(), "librechat_messages_per_model_total") == {"gpt-4o": 2}
    one.daemon.ledger.tick()
    values = one.scrape()
    assert of(values, "librechat_messages_per_model_total") == {"gpt-4o": 3}
    assert of(values, "librechat_answer_seconds_sum") == {"gpt-4o": 5}
    assert of(values, "librechat_answer_seconds_count") == {"gpt-4o": 1}


def test_conversations_are_as_long_as_what_is_stored_of_them(
    database: Database[Document], exporter: MakeExporter
) -> None:
    old = NOW - timedelta(days=90)
    chats = [message(NOW, number, conversationId="c") for number in range(2)]
    chats += [message(old, number, conversationId=name) for number, name in ((7, "c"), (8, "long ago"))]
    database["messages"].insert_many(chats)
    database["conversations"].insert_one({"conversationId": "c", "messages": [1, 2, 3, 4], "createdAt": NOW})
    values = exporter(NOW).scrape()
    assert value(values, "librechat_conversation_messages_sum") == 3
    assert value(values, "librechat_conversation_messages_count") == 1


@pytest.mark.parametrize("is_half_saved", [False, True])
def test_a_question_that_librechat_counts_anew_before_it_saves_the_answer(
    database: Database[Document], exporter: MakeExporter, *, is_half_saved: bool
) -> None:
    one = exporter(NOW)
    database["messages"].insert_one(message(NOW - SECOND, 0))
    one.scrape()
    database["messages"].insert_one(message(NOW, 1, isCreatedByUser=True, model=None, tokenCount=40))
    one.scrape()
    answer = message(NOW + SECOND, 2, parentMessageId="m1")
    if is_half_saved:
        database["messages"].insert_one(answer | {"unfinished": True})
        set_clock(one, NOW + SECOND)
        assert of(one.scrape(), "librechat_input_tokens_per_model_total") == {"gpt-4o": 40}
    database["messages"].update_one({"messageId": "m1"}, {"$set": {"tokenCount": 52}})
    database["messages"].replace_one({"messageId": "m2"}, answer, upsert=True)
    set_clock(one, NOW + 2 * SECOND)
    values = one.scrape()
    assert of(values, "librechat_input_tokens_per_model_total") == {"gpt-4o": 52}
    assert values["librechat_model_input_tokens_5m", (("model", "gpt-4o"),)] == 52


def test_an_edited_question_was_read_by_no_model(database: Database[Document], exporter: MakeExporter) -> None:
    database["messages"].insert_many(
        [message(NOW, 1, isCreatedByUser=True, model=None, tokenCount=40), message(NOW, 2, parentMessageId="m1")]
    )
    one = exporter(NOW)
    one.scrape()
    database["messages"].update_one({"messageId": "m1"}, {"$set": {"tokenCount": 57}})
    database["messages"].update_one({"messageId": "m2"}, {"$set": {"feedback": {"rating": "thumbsUp"}}})
    one.daemon.ledger.tick()
    values = one.scrape()
    assert of(values, "librechat_input_tokens_per_model_total") == {"gpt-4o": 40}
    assert value(values, "librechat_input_tokens_total") == 57


def test_a_hidden_agent_of_a_chain_is_of_the_chat(database: Database[Document], exporter: MakeExporter) -> None:
    billed = {"user": "u", "model": "gpt-4o", "context": "sequential", "createdAt": NOW, "tokenType": "prompt"}
    database["transactions"].insert_one(billed | {"rawAmount": -5, "tokenValue": -10})
    values = exporter(NOW).scrape()
    assert of(values, "librechat_window_tokens_per_model") == {"gpt-4o/input": 5}
    assert of(values, "librechat_window_background_tokens_per_model") == {}
    assert value(values, "librechat_window_unique_users", window="1d") == 1


@pytest.mark.parametrize("ago", [timedelta(0), timedelta(days=1)], ids=["open", "history"])
def test_usage_without_billing(database: Database[Document], exporter: MakeExporter, ago: timedelta) -> None:
    usage = {"input": 100, "output": 20, "cacheRead": 7, "cacheWrite": 3.0, "cost": 0.0125}
    database["messages"].insert_many(
        [message(NOW - ago, 1, metadata={"usage": usage}), message(NOW - ago, 2, metadata={"usage": {"cost": 1e300}})]
    )
    values = exporter(NOW).scrape()
    assert of(values, "librechat_usage_tokens_total") == {
        "gpt-4o/input": 100,
        "gpt-4o/output": 20,
        "gpt-4o/cache_read": 7,
        "gpt-4o/cache_write": 3,
    }
    assert of(values, "librechat_usage_cost_usd_total") == {"gpt-4o": 0.0125}


def test_states_of_jobs_and_contexts_of_files(database: Database[Document], exporter: MakeExporter) -> None:
    database["agentqueuedturns"].insert_many([{"status": "dead"}, {"status": "dead"}, {"status": "queued"}])
    database["files"].insert_one({"source": "s3", "context": "execute_code", "type": "image/png", "status": "failed"})
    values = exporter(NOW).scrape()
    assert of(values, "librechat_job_states") == {
        "agentqueuedturns/dead": 2,
        "agentqueuedturns/queued": 1,
        "files/failed": 1,
    }
    assert value(values, "librechat_files", source="s3", context="execute_code", type="image") == 1


def test_tool_call_limit_is_no_stop(database: Database[Document], exporter: MakeExporter) -> None:
    database["messages"].insert_one(message(NOW, 1, unfinished=True, finish_reason="tool_call_limit"))
    assert of(exporter(NOW).scrape(), "librechat_window_unfinished_answers_per_model") == {"gpt-4o": 0}


def test_tags_of_both_ratings(database: Database[Document], exporter: MakeExporter) -> None:
    rated = [
        message(NOW, number, feedback={"rating": rating, "tag": "other"})
        for number, rating in enumerate(("thumbsUp", "thumbsDown", "thumbsDown"))
    ]
    database["messages"].insert_many(rated)
    name = "librechat_rating_counts_per_tag"
    assert of(exporter(NOW).scrape(), name) == {"thumbsUp/other": 1, "thumbsDown/other": 2}
