"""Documents that are absurdly large, many or broken: counted exactly, read once, and in little memory."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from bson import ObjectId, encode
from bson.raw_bson import RawBSONDocument
from pymongo.database import Database

from tests.chats import counters, message, object_id
from tests.conftest import Document, MakeProcess, Process
from tests.meanings import Values
from tests.payers_oracle import PayersOracle

pytestmark = pytest.mark.no_cover
MOST_MB = 256
LONG = 60_000
HISTORY_SECONDS, SCRAPE_SECONDS, QUIET_SECONDS = 100.0, 25.0, 30.0
# Inserted while the exporter runs; found at its start, still open; found at its start, hours old.
ARRIVING = pytest.mark.parametrize("arrival", ["live", pytest.param("start", marks=pytest.mark.slow), "history"])
SEED = 10**9

Documents = Iterable[Document | RawBSONDocument]
Make = Callable[[datetime], Documents]


def megabytes(one: Process) -> float:
    """The most that the process ever held."""
    assert one.process is not None
    status = Path(f"/proc/{one.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1000


def of(values: Values, name: str) -> dict[tuple[str, ...], float]:
    """A metric's values by those of its labels, in the order of the labels' names."""
    return {tuple(value for _, value in labels): amount for (one, labels), amount in values.items() if one == name}


def all_succeed(values: Values) -> bool:
    return set(of(values, "librechat_exporter_collector_success").values()) == {1}


def is_folded(values: Values) -> bool:
    return set(of(values, "librechat_exporter_history_progress_ratio").values()) == {1}


def scraped_until(one: Process, is_so: Callable[[Values], bool]) -> Values:
    end = time.monotonic() + HISTORY_SECONDS
    while not is_so(values := one.scrape(SCRAPE_SECONDS)):
        assert time.monotonic() < end, f"{of(values, 'librechat_exporter_history_progress_ratio')}\n{one.log}"
    return values


def documents_read(database: Database[Document], since: datetime) -> int:
    """By the ledger, whose queries are by `_id`; those that the index alone answers examine none."""
    mine = {"appName": {"$regex": "^librechat-exporter"}, "ts": {"$gte": since}}
    by_id = {"$or": [{"command.pipeline.0.$match._id": {"$exists": True}}, {"command.filter._id": {"$exists": True}}]}
    # A cursor's first answer is at once; what follows tells the command that it began with.
    later = {"originatingCommand.pipeline.0.$match._id": {"$exists": True}}
    asked = database["system.profile"].find({"$and": [mine, {"$or": [by_id, later]}]})
    return sum(one.get("docsExamined", 0) for one in asked)


def assert_quiet(one: Process, database: Database[Document], collection: str) -> None:
    """A scrape reads nothing anew; one of several, as the ticker reads once a minute what is open."""
    database.command("profile", 2)
    try:
        end = time.monotonic() + QUIET_SECONDS
        read = 1
        while read:
            assert time.monotonic() < end, f"each scrape reads {read} documents of {collection}"
            since = database.client.admin.command("hello")["localTime"]
            assert all_succeed(one.scrape(SCRAPE_SECONDS))
            read = documents_read(database, since)
    finally:
        database.command("profile", 0)


def counted(
    process: MakeProcess,
    database: Database[Document],
    arrival: str,
    make: Make,
    collection: str = "messages",
    **environment: str,
) -> tuple[Process, Values]:
    """Scrapes again. Asserts that the scrape is whole, that nothing is read anew, and that memory stays bounded.

    make: the documents, of this time. There is a message more.
    """
    now = datetime.now(UTC)
    moment = now - timedelta(hours=5) if arrival == "history" else now
    database["messages"].create_index("messageId")
    database["messages"].create_index("createdAt")
    database["messages"].insert_one(seed(now))
    one = process(**environment)

    def insert() -> None:
        documents = iter(make(moment))
        while some := list(itertools.islice(documents, 10_000)):
            database[collection].insert_many(some)

    if arrival == "live":
        one.start()
        before = scraped_until(one, lambda values: is_folded(values) and all_succeed(values))
        assert before["librechat_messages_total", ()] == 1
        insert()
    else:
        insert()
        one.start()
    started = time.monotonic()
    scraped_until(one, is_folded)
    values = one.scrape(SCRAPE_SECONDS)
    took = time.monotonic() - started
    print(f"\n{arrival}: {megabytes(one):.0f} MB, {took:.1f} s")  # noqa: T201
    assert all_succeed(values), one.log
    assert_quiet(one, database, collection)
    assert counters(one.scrape(SCRAPE_SECONDS)) == counters(values)
    assert megabytes(one) < MOST_MB
    return one, values


def seed(now: datetime) -> Document:
    """The message that is there besides: a user's, without tokens, of a model that takes no label from others."""
    return message(now, SEED, messageId="seed", isCreatedByUser=True, model="model-0", tokenCount=None)


def assert_as_the_oracle_says(values: Values, *messages: Document, agents: Iterable[Document] = ()) -> None:
    """Of all counters, those of the seed among them."""
    now = datetime.now(UTC)
    wanted = counters(PayersOracle({"messages": [seed(now), *messages], "agents": agents}, now, kinds=()).values)
    found = counters(values)
    assert {series: found.get(series) for series in wanted} == wanted
    assert all(value == 0 for series, value in found.items() if series not in wanted)


def unreadable(values: Values) -> float:
    return values["librechat_exporter_unreadable_documents_total", (("source", "messages"),)]


def call(name: str, output: str = "", **fields: Any) -> Document:
    return {"type": "tool_call", "tool_call": {"name": name, "output": output} | fields}


@ARRIVING
def test_tools_names_of_60_000_characters(process: MakeProcess, database: Database[Document], arrival: str) -> None:
    content = [call(f"{number:03d}" + "n" * LONG) for number in range(200)]

    def make(moment: datetime) -> list[Document]:
        return [message(moment, number, endpoint="agents", content=content) for number in range(3)]

    _, values = counted(process, database, arrival, make)
    assert values["librechat_messages_total", ()] == 4
    assert values["librechat_output_tokens_total", ()] == 30
    assert values["librechat_messages_with_tools_total", ()] == 3
    assert of(values, "librechat_tool_calls_per_tool") == {("unknown",): 600}
    assert_as_the_oracle_says(values, *make(datetime.now(UTC)))
    assert unreadable(values) == 0


@ARRIVING
def test_an_agents_id_of_60_000_characters(process: MakeProcess, database: Database[Document], arrival: str) -> None:
    def make(moment: datetime) -> list[Document]:
        return [message(moment, number, endpoint="agents", model="agent_" + "x" * LONG) for number in range(300)]

    _, values = counted(process, database, arrival, make)
    assert of(values, "librechat_messages_per_model_total") == {("unknown",): 300}
    assert of(values, "librechat_output_tokens_per_model_total") == {("unknown",): 3000}
    assert_as_the_oracle_says(values, *make(datetime.now(UTC)))
    assert unreadable(values) == 0


@ARRIVING
@pytest.mark.parametrize("number", [3000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_agents_that_call_many_tools(
    process: MakeProcess, database: Database[Document], arrival: str, number: int
) -> None:
    """Each with three calls of each of four tools, of which one fails; their agent has a model."""
    database["agents"].insert_one({"id": "agent_1", "name": "Researcher", "model": "gpt-4o"})
    output = ("found", "", "nothing", "Error processing tool: x")
    content = 3 * [call(f"tool-{tool}", output[tool]) for tool in range(4)]
    created = datetime.now(UTC) - timedelta(minutes=1)

    def make(moment: datetime) -> Iterator[Document]:
        for one in range(number):
            yield message(moment, one, endpoint="agents", model="agent_1", content=content) | {
                "createdAt": created + timedelta(milliseconds=one % 60_000),
                "user": f"user-{one % 500}",
                "conversationId": f"conversation-{one % 1000}",
            }

    began = time.monotonic()
    _, values = counted(process, database, arrival, make)
    calls = 3 * number
    assert values["librechat_messages_total", ()] == 1 + number
    assert values["librechat_output_tokens_total", ()] == 10 * number
    assert of(values, "librechat_messages_per_model_total") == {("gpt-4o",): number}
    assert of(values, "librechat_agent_answers_total") == {("Researcher",): number}
    assert values["librechat_messages_with_tools_total", ()] == number
    assert values["librechat_tool_calls_total", ()] == 4 * calls
    assert values["librechat_tool_call_errors_total", ()] == calls
    tools = {(f"tool-{tool}",): calls for tool in range(4)}
    assert of(values, "librechat_tool_calls_per_tool") == tools
    assert of(values, "librechat_tool_calls_per_model") == {("gpt-4o", *tool): calls for tool in tools}
    assert of(values, "librechat_tool_calls_per_endpoint") == {("agents", *tool): calls for tool in tools}
    failed = {tool: calls if tool == ("tool-3",) else 0 for tool in tools}
    assert of(values, "librechat_tool_call_errors_per_tool_total") == failed
    assert of(values, "librechat_window_answers_per_model")["unclassified", "gpt-4o", "1d"] == number
    # What is hours old by its `_id` is not told in the last five minutes, which the test must not outlast.
    if arrival != "history" and time.monotonic() - began < 200:
        assert values["librechat_messages_5m", ()] == 1 + number
        assert of(values, "librechat_tool_calls_per_tool_5m") == tools
        assert values["librechat_tool_call_errors_5m", ()] == calls
        assert values["librechat_active_tool_users", ()] == min(500, number)
        assert values["librechat_active_conversations", ()] == min(1000, number)
    assert unreadable(values) == 0


@ARRIVING
@pytest.mark.parametrize("number", [2000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_agents_that_call_other_tools_each(
    process: MakeProcess, database: Database[Document], arrival: str, number: int
) -> None:
    """Answers with twelve calls each of a hundred tools, hardly two of the same ones."""
    random = Random(1)
    chosen = [random.sample(range(100), 12) for _ in range(number)]

    def make(moment: datetime) -> Iterator[Document]:
        for one, tools in enumerate(chosen):
            yield message(moment, one, endpoint="agents", content=[call(f"tool-{tool}") for tool in tools])

    _, values = counted(process, database, arrival, make)
    wanted = Counter(f"tool-{tool}" for tools in chosen for tool in tools)
    assert of(values, "librechat_tool_calls_per_tool") == {(tool,): calls for tool, calls in wanted.items()}
    per_model = {("gpt-4o", tool): calls for tool, calls in wanted.items()}
    assert of(values, "librechat_tool_calls_per_model") == per_model
    assert values["librechat_messages_with_tools_total", ()] == number
    assert unreadable(values) == 0


def outputs(process: MakeProcess, database: Database[Document], arrival: str, texts: dict[str, bool]) -> None:
    """texts: of tool calls, and whether they say that it failed."""

    def make(moment: datetime) -> Iterator[Document]:
        for number, text in enumerate(texts):
            yield message(moment, number, content=[call(f"tool-{number}", text)])

    _, values = counted(process, database, arrival, make)
    assert values["librechat_tool_calls_total", ()] == len(texts)
    failed = {(f"tool-{number}",): float(fails) for number, fails in enumerate(texts.values())}
    assert of(values, "librechat_tool_call_errors_per_tool_total") == failed
    assert_as_the_oracle_says(values, *make(datetime.now(UTC)))
    assert unreadable(values) == 0


@ARRIVING
def test_outputs_of_10_megabytes(process: MakeProcess, database: Database[Document], arrival: str) -> None:
    long = "Error: " + "x" * 10**7
    outputs(process, database, arrival, {f"{long} Please fix your mistakes.": True, f"{long} and so on": False})


@pytest.mark.slow
@ARRIVING
def test_outputs_that_are_slow_to_search(process: MakeProcess, database: Database[Document], arrival: str) -> None:
    texts = {
        " \n" * 5_000_000 + "error calling tool x": True,
        "x" * 10**7 + " Error processing tool: x": False,
        "Error: " + "Please fix your mistakes. " * 400_000 + "\n": True,
        "Error: " + "x" * 10**7 + "Tool call failed: no" + "x" * 1000: True,
        "Error: " + " " * 10**7 + "." + " " * 1000: False,
    }
    outputs(process, database, arrival, texts)


@ARRIVING
def test_documents_as_large_as_can_be(process: MakeProcess, database: Database[Document], arrival: str) -> None:
    """Of the calls of one message, the first 1000 are told apart."""
    part = {"type": "text", "text": "x"}
    many: list[Document] = 395_000 * [part]
    many[300_000] = call("needle", "Error calling tool")
    calls = 100_000 * [call("tool", "error processing tool")]

    def make(moment: datetime) -> Iterator[Document]:
        yield message(moment, 1, endpoint="agents", content=many)
        yield message(moment, 2, endpoint="agents", content=calls)
        yield message(moment, 3)

    assert 15_500_000 < len(encode(next(make(datetime.now(UTC))))) < 16 * 2**20
    _, values = counted(process, database, arrival, make)
    assert values["librechat_messages_total", ()] == 4
    assert values["librechat_output_tokens_total", ()] == 30
    assert values["librechat_messages_with_tools_total", ()] == 2
    assert values["librechat_tool_calls_total", ()] == 100_001
    tools = {("needle",): 1, ("tool",): 1000, ("unknown",): 99_000}
    assert of(values, "librechat_tool_calls_per_tool") == tools
    assert of(values, "librechat_tool_calls_per_endpoint") == {("agents", *tool): n for tool, n in tools.items()}
    failed = {("needle",): 1, ("tool",): 1000, ("unknown",): 0}
    assert of(values, "librechat_tool_call_errors_per_tool_total") == failed
    assert values["librechat_tool_call_errors_total", ()] == 1001
    assert unreadable(values) == 0


@ARRIVING
def test_a_thousand_grants_of_a_million_dollars(
    process: MakeProcess, database: Database[Document], arrival: str
) -> None:
    grant = {"tokenType": "credits", "context": "admin", "rawAmount": 10**12, "tokenValue": 10**12, "user": ObjectId()}

    def make(moment: datetime) -> Iterator[Document]:
        for number in range(1000):
            yield {"_id": object_id(moment, number), "createdAt": moment} | grant

    one, values = counted(process, database, arrival, make, "transactions")
    assert values["librechat_credits_granted_total", ()] == 1e15
    assert values["librechat_exporter_skipped_transactions_total", ()] == 0
    for wanted in (1e15, 1e15 + 1e12):
        one.stop()
        one.start()
        values = scraped_until(one, lambda values: is_folded(values) and all_succeed(values))
        assert values["librechat_credits_granted_total", ()] == wanted
        database["transactions"].insert_one({"_id": ObjectId(), "createdAt": datetime.now(UTC)} | grant)
    assert one.scrape()["librechat_credits_granted_total", ()] == 1e15 + 2e12


@ARRIVING
@pytest.mark.parametrize("number", [5000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_many_models(process: MakeProcess, database: Database[Document], arrival: str, number: int) -> None:
    def make(moment: datetime) -> Iterator[Document]:
        for one in range(number):
            yield message(moment, one, model=f"model-{one}", tokenCount=one, error=one % 10 == 0)

    _, values = counted(process, database, arrival, make)
    every = number * (number - 1) // 2
    assert values["librechat_messages_total", ()] == 1 + number
    assert values["librechat_output_tokens_total", ()] == every
    answers = of(values, "librechat_messages_per_model_total")
    named = {labels: int(labels[0].removeprefix("model-")) for labels in answers if labels != ("other",)}
    assert len(named) == 200
    assert answers == dict.fromkeys(named, 1) | {("other",): number - 200}
    tokens = of(values, "librechat_output_tokens_per_model_total")
    assert tokens == named | {("other",): every - sum(named.values())}
    failed = {labels: one % 10 == 0 for labels, one in named.items()}
    errors = of(values, "librechat_errors_per_model_total")
    assert errors == failed | {("other",): number / 10 - sum(failed.values())}
    lengths = of(values, "librechat_answer_tokens_count")
    assert sum(lengths.values()) == number - 1
    assert sum(of(values, "librechat_answer_tokens_sum").values()) == every
    dropped = of(values, "librechat_exporter_label_values_dropped_total")
    assert dropped["model",] == number - 200
    assert unreadable(values) == 0


@ARRIVING
@pytest.mark.parametrize(("side", "most"), [(40, 500), pytest.param(200, 5000, marks=pytest.mark.slow)])
def test_many_combinations_of_labels(
    process: MakeProcess, database: Database[Document], arrival: str, side: int, most: int
) -> None:
    """Each pair of a model and a tool, and of an endpoint and a tool, once."""

    def make(moment: datetime) -> Iterator[Document]:
        for number in range(side * side):
            model, tool = divmod(number, side)
            yield message(moment, number, model=f"model-{model}", endpoint=f"endpoint-{(model + tool) % side}") | {
                "content": [call(f"tool-{tool}", "error calling tool" if tool % 2 else "")]
            }

    _, values = counted(process, database, arrival, make, MAX_LABEL_VALUES=str(side), MAX_SERIES=str(most))
    every = side * side
    assert values["librechat_messages_total", ()] == 1 + every
    assert values["librechat_tool_calls_total", ()] == every
    assert values["librechat_tool_call_errors_total", ()] == every / 2
    tools = {(f"tool-{tool}",): side for tool in range(side)}
    assert of(values, "librechat_tool_calls_per_tool") == tools
    assert of(values, "librechat_messages_per_model_total") == {(f"model-{model}",): side for model in range(side)}
    dropped = of(values, "librechat_exporter_series_dropped_total")
    for name in ("librechat_tool_calls_per_model", "librechat_tool_calls_per_endpoint"):
        found = of(values, name)
        rest = found.pop(("other", "other"))
        assert rest == every - most
        assert set(found.values()) == {1}
        assert len(found) == most
        assert dropped[name,] == every - most
    assert dropped["librechat_tool_calls_per_tool",] == 0
    assert set(of(values, "librechat_exporter_label_values_dropped_total").values()) == {0}
    assert unreadable(values) == 0


BROKEN = b"\xff\xfe\xc3\x28\xe2"


def broken(document: Document) -> RawBSONDocument:
    """With a string of bytes that are not UTF-8 in place of each BYTES."""
    return RawBSONDocument(encode(document).replace(b"BYTES", BROKEN))


BROKEN_FIELDS: dict[str, Document] = {
    "model": {"model": "BYTES", "endpoint": "openAI"},
    "agent": {"model": "agent_BYTES", "endpoint": "agents"},
    "tool": {"content": [call("BYTES"), call("", function={"name": "BYTES"}), call("", type="BYTES")]},
    "text": {"text": "BYTES", "error": True},
    "type of an error": {"text": '{"type":"BYTES"}', "error": True},
    "error": {"content": [{"type": "error", "error": "BYTES"}]},
    "ids": dict.fromkeys(("user", "messageId", "conversationId", "parentMessageId", "sender"), "BYTES"),
    "endpoint": {"endpoint": "BYTES", "content": [call("tool")]},
    "type of a part": {"content": [{"type": "BYTES"}]},
    "feedback": {"feedback": {"rating": "thumbsUp", "tag": "BYTES"}},
    "status": {"content": [call("tool", backgroundTask={"status": "completed", "id": "BYTES"})]},
    "a field's name": {"BYTES": 1, "content": [{"BYTES": 1}]},
}


@ARRIVING
def test_what_is_not_utf8_is_counted_or_told_of(
    process: MakeProcess, database: Database[Document], arrival: str
) -> None:
    def make(moment: datetime) -> Iterator[Document | RawBSONDocument]:
        for number, fields in enumerate(BROKEN_FIELDS.values()):
            yield message(moment, 2 * number, model="whole")
            yield broken(message(moment, 2 * number + 1, model="gpt-4o") | fields)

    _, values = counted(process, database, arrival, make)
    passed_over = unreadable(values)
    number = len(BROKEN_FIELDS)
    assert values["librechat_messages_total", ()] == 1 + 2 * number - passed_over
    assert values["librechat_output_tokens_total", ()] == 10 * (2 * number - passed_over)
    assert of(values, "librechat_messages_per_model_total")["whole",] == number
    assert sum(of(values, "librechat_messages_per_model_total").values()) == 2 * number - passed_over
    assert passed_over <= number
    print(f"{passed_over:.0f} passed over")  # noqa: T201


@ARRIVING
@pytest.mark.parametrize("number", [20, pytest.param(500, marks=pytest.mark.slow)])
def test_as_many_tools_as_a_message_can_name(
    process: MakeProcess, database: Database[Document], arrival: str, number: int
) -> None:
    """Each message as much as can be read of one: a thousand calls of tools with long names."""
    content = [call(f"{tool:03d}" + "n" * 790) for tool in range(1000)]

    def make(moment: datetime) -> Iterator[Document]:
        for one in range(number):
            yield message(moment, one, content=content, endpoint="agents")

    _, values = counted(process, database, arrival, make)
    assert values["librechat_messages_total", ()] == 1 + number
    assert values["librechat_tool_calls_total", ()] == 1000 * number
    per_tool = of(values, "librechat_tool_calls_per_tool")
    assert sum(per_tool.values()) == 1000 * number
    assert per_tool["other",] == 800 * number
    assert len(per_tool) == 201
    assert unreadable(values) == 0
