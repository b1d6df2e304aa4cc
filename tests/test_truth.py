"""A real Prometheus, chats that come and go, an exporter that is stopped and killed: increase must be what was sent."""

import functools
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from tests import meanings
from tests.conftest import Document, MakeProcess, Process
from tools.prometheus import Prometheus
from tools.simulator import Simulator

CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: librechat
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""
SECONDS = 20
PEOPLES: Document = {"subagentThread": None}
SUCCESS = "librechat_exporter_collector_success"
HISTORY = 5000


def samples(server: Prometheus, selector: str) -> dict[tuple[tuple[str, str], ...], list[float]]:
    """All raw samples of the last ten minutes, by series."""
    return {
        tuple(sorted((k, v) for k, v in series["metric"].items() if k not in ("instance", "job"))): [
            float(value) for _, value in series["values"]
        ]
        for series in server.query(f"{selector}[10m]")
    }


@pytest.fixture
def prometheus(process: MakeProcess, tmp_path: Path) -> Iterator[tuple[Prometheus, Process]]:
    exporter = process(**with_payers(tmp_path))
    with Prometheus(CONFIG.format(port=exporter.port)) as server:
        yield server, exporter


def with_payers(folder: Path) -> dict[str, str]:
    """Settings with which all that the recorder counts is told; two dollars for a million tokens of whatever kind."""
    (folder / "prices.yml").write_text('"*": {input: 2, output: 2}\n')
    return {
        "GROUP_METRICS": "true",
        "DOMAIN_METRICS": "true",
        "PER_USER_METRICS": "id",
        "STATE_REFRESH": "1",
        "MODEL_PRICES": str(folder / "prices.yml"),
    }


def increase(values: list[float], before: float) -> float:
    """The sum of what was added, by Prometheus' own rule: any fall is a reset, after which everything is new."""
    added = 0.0
    for value in values:
        added += value - before if value >= before else value
        before = value
    return added


class Recorder(Simulator):
    """Traffic that remembers what was sent, in the form of each counter."""

    def __init__(self, database: Database[Document]) -> None:
        super().__init__(database, seed=7, users=15)
        self.sent: Counter[tuple[tuple[str, str], ...]] = Counter()
        # Answers that did not fail, as the windows show them.
        self.answers: Counter[tuple[tuple[str, str], ...]] = Counter()
        self.seen_by_exporter: Any = lambda: None
        self.is_live = False

    def _count(self, name: str, amount: float, **labels: str) -> None:
        self.sent[tuple(sorted({"__name__": name, **labels}.items()))] += amount  # type: ignore[assignment]

    def _charge(self, what: str, user: Any, amount: float, **labels: str) -> None:
        """To the user, the domain, and the groups."""
        one = str(user)
        self._count(f"librechat_user_{what}_total", amount, user=one, **labels)
        self._count(f"librechat_domain_{what}_total", amount, domain="example.org", **labels)
        external = f"entra-{self.users.index(one)}"
        groups = self.database["groups"].find({"memberIds": {"$in": [one, external]}})
        for name in [group["name"] for group in groups] or ["none"]:
            self._count(f"librechat_group_{what}_total", amount, group=name, **labels)

    def chat(self) -> Document:
        conversations = self.database["conversations"].count_documents(PEOPLES)
        answer = super().chat()
        if self.database["conversations"].count_documents(PEOPLES) > conversations:
            self._count("librechat_conversations_total", 1)
        return answer

    def ask(self, user: str, conversation: str) -> Document:
        answer = super().ask(user, conversation)
        question = self.database["messages"].find_one({"messageId": answer["parentMessageId"]})
        assert question is not None
        self._count("librechat_messages_total", 1)
        self._count("librechat_input_tokens_total", meanings.tokens(question))
        self._charge("messages", question["user"], 1)
        return answer

    def reply(self, question: Document) -> Document:
        answer = super().reply(question)
        agents = list(self.database["agents"].find())
        model = meanings.model(answer, agents)
        failed = meanings.failed(answer)
        self._count("librechat_messages_total", 1)
        self._charge("messages", answer["user"], 1)
        self._count("librechat_error_messages_total", failed)
        self._count("librechat_output_tokens_total", meanings.tokens(answer))
        self._count("librechat_messages_per_model_total", 1, model=model)
        self._count("librechat_errors_per_model_total", failed, model=model)
        self._count("librechat_input_tokens_per_model_total", meanings.tokens(question), model=model)
        self._count("librechat_output_tokens_per_model_total", meanings.tokens(answer), model=model)
        if meanings.tokens(answer) > 0:
            self._count("librechat_answer_tokens_count", 1, model=model)
            self._count("librechat_answer_tokens_sum", meanings.tokens(answer), model=model)
            self._count("librechat_answer_tokens_bucket", 1, model=model, le="+Inf")
        usage = answer.get("metadata", {}).get("usage", {})
        for token_type, tokens in usage.items():
            self._count("librechat_usage_tokens_total", tokens, model=model, token_type=token_type)
        is_first = self.database["messages"].count_documents({"parentMessageId": question["messageId"]}) == 1
        if is_first and 0 <= (answer["createdAt"] - question["createdAt"]).total_seconds() <= 3600:
            self._count("librechat_answer_seconds_count", 1, model=model)
        if not failed:
            self.answers[("class", "unclassified"), ("model", model), ("window", "30d")] += 1
        calls = list(meanings.tool_calls(answer))
        for agent in agents:
            if agent["id"] == answer.get("model"):
                self._count("librechat_agent_answers_total", 1, agent=agent["name"])
                self._count("librechat_agent_failed_answers_total", failed, agent=agent["name"])
        self._count("librechat_messages_with_tools_total", bool(calls))
        for tool, broken in calls:
            self._count("librechat_tool_calls_total", 1)
            self._count("librechat_tool_call_errors_total", broken)
            self._count("librechat_tool_call_errors_per_tool_total", broken, tool_name=tool)
            self._count("librechat_tool_calls_per_model", 1, model=model, tool_name=tool)
        return answer

    def ask_subagent(self, question: Document, answer: Document) -> str:
        agent = super().ask_subagent(question, answer)
        [name] = [one["name"] for one in self.database["agents"].find({"id": agent})]
        self._count("librechat_subagent_answers_total", 1, agent=name)
        return agent

    def transactions(self, question: Document, answer: Document) -> list[Document]:
        made = super().transactions(question, answer)
        for one in made if self.is_live else ():
            token_type = "input" if one["tokenType"] == "prompt" else "output"
            labels = {"model": one["model"], "context": one["context"]}
            cost = abs(one["tokenValue"]) / 1e6
            agents = [agent["name"] for agent in self.database["agents"].find({"id": answer["model"]})]
            self._count("librechat_llm_cost_usd_total", cost, token_type=token_type, **labels)
            self._charge("cost_usd", one["user"], cost)
            for agent in agents:
                self._count("librechat_agent_cost_usd_total", cost, agent=agent)
            tokens: dict[str, Any] = {token_type: one.get("inputTokens", one["rawAmount"])}
            tokens |= (
                {"cache_read": one["readTokens"], "cache_write": one["writeTokens"]} if "readTokens" in one else {}
            )
            for kind, amount in tokens.items():
                self._count("librechat_llm_tokens_total", abs(amount), token_type=kind, **labels)
                self._charge("tokens", one["user"], abs(amount), token_type=kind)
                for agent in agents:
                    self._count("librechat_agent_tokens_total", abs(amount), agent=agent, token_type=kind)
            listed = sum(abs(amount) for amount in tokens.values()) * 2e-6
            self._count("librechat_llm_list_cost_usd_total", listed, token_type=token_type, **labels)
        return made

    def upload(self) -> None:
        super().upload()
        self._count("librechat_uploaded_files_total", 1)

    def join(self) -> None:
        super().join()
        self._count("librechat_registered_users_total", 1)

    def delete_chat(self) -> None:
        self.seen_by_exporter()
        super().delete_chat()

    def clear_history(self) -> None:
        self.seen_by_exporter()
        super().clear_history()


@contextmanager
def traffic(simulator: Recorder) -> Iterator[None]:
    """About 25 things a second, more deletions among them than users would do."""
    stop = threading.Event()
    errors: list[BaseException] = []
    one = simulator
    actions = (one.chat, one.regenerate, one.delete_chat, one.upload, one.join, one.clear_history)

    def work() -> None:
        chance = random.Random(3)
        try:
            while not stop.wait(chance.expovariate(25)):
                chance.choices(actions, (60, 10, 20, 5, 3, 2))[0]()
        except BaseException as error:
            errors.append(error)
            raise

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert not errors


def wait_until_seen(exporter: Process, alive: threading.Event) -> None:
    """Waits for a scrape that begins now, and of which no collector is late."""
    while True:
        alive.wait()
        try:
            exporter.scrape()
            values = exporter.scrape()  # the first may share the run of one that began earlier
        except OSError:
            time.sleep(0.05)
        else:
            if all(value for (name, _), value in values.items() if name == SUCCESS):
                return


@pytest.mark.no_cover
def test_increase_is_what_was_sent(prometheus: tuple[Prometheus, Process], database: Database[Document]) -> None:
    """For every counter, exactly: chats are sent, answered again, deleted, whole histories cleared, while the exporter
    is left running, stopped with SIGTERM, killed with SIGKILL.

    A message that is deleted before any scrape or tick saw it cannot be counted by anybody, so the traffic lets one
    scrape pass before it deletes.
    """
    server, exporter = prometheus
    simulator = Recorder(database)
    simulator.fill(HISTORY, days=3)
    exporter.start()
    alive = threading.Event()
    alive.set()

    simulator.seen_by_exporter = functools.partial(wait_until_seen, exporter, alive)
    simulator.is_live = True
    before = exporter.scrape()
    end = time.monotonic() + 20
    while not server.query("librechat_messages_total"):
        assert time.monotonic() < end
        time.sleep(0.2)
    with traffic(simulator):
        for number in (15, 9, 9, 15, 9):
            time.sleep(SECONDS / 6)
            alive.clear()
            exporter.stop(number)
            time.sleep(0.3)
            exporter.start()
            alive.set()
        time.sleep(SECONDS / 6)
        end = time.monotonic() + 300  # on a slow machine, for as long as it takes
        while simulator.sent[("__name__", "librechat_messages_total"),] <= 500 and time.monotonic() < end:
            time.sleep(0.1)
    time.sleep(5)  # for Prometheus to see the last of it, when new users have been read

    messages = simulator.sent[("__name__", "librechat_messages_total"),]
    assert messages > 500
    assert HISTORY + messages - database["messages"].count_documents({}) > 200, (
        "it must delete what it claims to withstand"
    )
    shown = exporter.scrape()
    for which, answers in simulator.answers.items():
        window = "librechat_window_answers_per_model"
        assert shown[window, which] - before.get((window, which), 0) == answers, which
    assert len(simulator.answers) >= 2
    checked = 0
    for series, sent in simulator.sent.items():
        labels = dict(series)
        name = labels.pop("__name__")
        values = samples(server, "{" + ",".join(f'{k}="{v}"' for k, v in series) + "}")[series]
        first = before.get((name, tuple(sorted(labels.items()))), 0)
        assert increase(values, first) == pytest.approx(sent, abs=1e-6), f"{series}: {values}"
        assert values == sorted(values), f"{series} fell"
        checked += 1
    assert checked >= 40
