"""The demo's people: a university, with the rhythm of its days and weeks, its models, agents and failures.

Documents have the simulator's shapes; what differs is how often what happens, and when.
"""

import heapq
import itertools
import json
import random
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo.database import Database

from tools.shapes import Document
from tools.simulator import GROUPS, ROOT, Simulator

# A model's share of answers, its provider, and how many seconds half of its answers take.
_MODELS = {
    "gpt-4o-mini": (0.44, "openAI", 2.2),
    "gpt-4o": (0.22, "openAI", 4.0),
    "claude-sonnet-4-20250514": (0.19, "anthropic", 5.5),
    "mistral-large-2411": (0.09, "Mistral", 3.5),
    "llama-3.3-70b": (0.06, "University cluster", 21.0),
}
_SPREAD = 0.7  # of the logarithm of a waiting time, so that some take very long
_AGENTS = {
    "Library guide": "gpt-4o-mini",
    "Statistics tutor": "claude-sonnet-4-20250514",
    "Code reviewer": "claude-sonnet-4-20250514",
    "Exam regulations": "gpt-4o-mini",
    "Grant writer": "gpt-4o",
}
_OF_AGENTS = 0.18
_FAILED = 0.025
# Why messages fail, in LibreChat's words; `None` has no JSON in its text.
_FAILURES = {"token_balance": 5, "INPUT_LENGTH": 4, None: 4, "moderation": 1, "concurrent": 1, "missing_model": 1}
# A tool's share of calls, and how often one fails.
_TOOLS = {
    "web_search": (0.4, 0.01),
    "file_search": (0.27, 0.0),
    "execute_code": (0.15, 0.05),
    "search_mcp_library": (0.12, 0.02),
    "find_room_mcp_campus": (0.06, 0.45),
}
_WITH_TOOLS = 0.14
_FILES = {
    "application/pdf": (0.55, "paper.pdf"),
    "image/png": (0.2, "figure.png"),
    "text/csv": (0.13, "survey.csv"),
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": (0.12, "thesis.docx"),
}
_PROVIDERS = {"openid": 0.8, "saml": 0.13, "local": 0.07}
_TEMPORARY = 0.04
_GRANTED = 0.02
_OF_A_CHAT = 4  # messages, about
# How much happens in each hour of a day, from midnight on, and on each day from Monday on.
_HOURS = (2, 1, 1, 0.5, 0.5, 1, 3, 9, 22, 34, 40, 38, 26, 33, 39, 37, 30, 22, 16, 15, 14, 12, 8, 4)
_WEEKDAYS = (1.0, 1.1, 1.08, 1.0, 0.8, 0.28, 0.35)


class University(Simulator):
    """users: the lower a user's place, the more that user does."""

    def __init__(self, database: Database[Document], seed: int = 1, users: int = 240) -> None:
        super().__init__(database, seed, users, agents=0)
        self._people = random.Random(seed)
        self._due: list[tuple[datetime, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def _choose(self, shares: dict[Any, Any]) -> Any:
        weights = [one if isinstance(one, int | float) else one[0] for one in shares.values()]
        return self._people.choices(list(shares), weights)[0]

    # The shapes of documents.

    def question(self, user: str, conversation: str, parent: str, moment: datetime) -> Document:
        question = super().question(user, conversation, parent, moment)
        if self._people.random() < _TEMPORARY:
            question |= {"isTemporary": True, "expiredAt": moment + timedelta(days=30)}
        return question

    def answer(self, question: Document, moment: datetime) -> Document:
        """Its createdAt comes so long after the moment as its model takes."""
        answer = super().answer(question, moment)
        for field in ("content", "tokenCount", "finish_reason", "metadata"):
            answer.pop(field, None)
        agent = self._people.choice(list(self.agents)) if self._people.random() < _OF_AGENTS else None
        model = self.agents[agent] if agent is not None else self._choose(_MODELS)
        _, endpoint, half = _MODELS[model]
        waited = timedelta(seconds=half * self._people.lognormvariate(0, _SPREAD))
        answer |= {"model": agent or model, "endpoint": "agents" if agent is not None else endpoint, "text": ""}
        answer |= {"error": False, "createdAt": moment + waited, "updatedAt": moment + waited}
        if question["isTemporary"]:
            answer |= {"isTemporary": True, "expiredAt": question["expiredAt"]}
        if self._people.random() < _FAILED:
            return answer | self._failure()
        content: list[Document] = [{"type": "text", "text": question["text"]}]
        if self._people.random() < _WITH_TOOLS:
            content[:0] = [self._tool_part() for _ in range(self._people.randint(1, 3))]
        tokens = min(8000, int(self._people.lognormvariate(5.9, 0.8)))
        answer |= {"content": content, "tokenCount": tokens}
        answer["metadata"] = {"usage": {"input": question["tokenCount"], "output": tokens}}
        return answer | ({"finish_reason": "incomplete"} if self._people.random() < 0.02 else {})

    def _failure(self) -> Document:
        reason = self._choose(_FAILURES)
        said = json.dumps({"type": reason}) if reason is not None else "503 The model is overloaded"
        return {"error": True, "text": said}

    def _tool_part(self) -> Document:
        name = self._choose(_TOOLS)
        failed = self._people.random() < _TOOLS[name][1]
        output = f"Error: [MCP][{name}] tool call failed: timeout" if failed else "found"
        call = {"id": f"call_{self.uuid()}", "name": name, "args": "{}", "type": "tool_call", "progress": 1}
        return {"type": "tool_call", "tool_call": call | {"output": output}}

    def file(self, user: str, moment: datetime) -> Document:
        kind = self._choose(_FILES)
        return super().file(user, moment) | {"type": kind, "filename": _FILES[kind][1]}

    # What is there before.

    def prepare(self, moment: datetime) -> None:
        super().prepare(moment)
        for number, (name, model) in enumerate(_AGENTS.items()):
            agent = f"agent_university{number}"
            self.agents[agent] = model
            self.database["agents"].insert_one({"id": agent, "name": name, "model": model, "category": "general"})

    def register(self, moment: datetime) -> None:
        super().register(moment)
        number = len(self.users)
        changed = {"provider": self._choose(_PROVIDERS), "role": "ADMIN" if number <= 3 else "USER"}
        user = ObjectId(self.users[-1])
        if number > len(GROUPS) * 3 and number % 3 == 0:
            joined = moment + (datetime.now(UTC) - moment) * self._people.random()
            changed |= {"createdAt": joined, "updatedAt": joined}
        self.database["users"].update_one({"_id": user}, {"$set": changed})

    def _somebody(self) -> str:
        return self.users[min(len(self.users) - 1, int(self._people.expovariate(6 / len(self.users))))]

    def _moments(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """When chats begin, as the days' and weeks' rhythm has them; endless, in no order."""
        hours = [start + timedelta(hours=number) for number in range(int((end - start) / timedelta(hours=1)))]
        weights = [_HOURS[one.astimezone().hour] * _WEEKDAYS[one.astimezone().weekday()] for one in hours]
        growth = [weight * (0.7 + 0.6 * place / len(hours)) for place, weight in enumerate(weights)]
        while True:
            for hour in self._people.choices(hours, growth, k=1000):
                yield hour + timedelta(seconds=self._people.uniform(0, 3600))

    def _history(self, messages: int, start: datetime, end: datetime) -> Iterator[tuple[str, Document]]:
        return self.chats(messages, start, end)

    def chats(self, messages: int, start: datetime, end: datetime) -> Iterator[tuple[str, Document]]:
        """About so many messages, chat by chat, and what belongs to them, each with its collection."""
        chats = sorted(itertools.islice(self._moments(start, end), messages // _OF_A_CHAT))
        for moment in chats:
            yield from self._chat_of(moment, end)

    def _chat_of(self, moment: datetime, end: datetime) -> Iterator[tuple[str, Document]]:
        user, conversation, parent = self._somebody(), self.uuid(), ROOT
        turns = min(9, 1 + int(self._people.expovariate(0.7)))
        listed = {"messages": [self.object_id(moment) for _ in range(2 * turns)]}
        yield "conversations", {"_id": self.object_id(moment)} | self.conversation(user, conversation, moment) | listed
        self._remember(user, conversation)
        if self._people.random() < 0.12:
            yield "files", self.file(user, moment)
        if self._people.random() < _GRANTED:
            yield "transactions", self._grant(user, moment)
        for _ in range(turns):
            question = self.question(user, conversation, parent, moment)
            answer = self.answer(question, moment)
            if answer["createdAt"] >= end:
                return
            if self._people.random() < 0.05:
                answer["feedback"] = self.feedback()
            for message in (question, answer):
                yield "messages", {"_id": self.object_id(message["createdAt"])} | message
            for transaction in self.transactions(question, answer):
                yield "transactions", transaction
            parent = answer["messageId"]
            moment = answer["createdAt"] + timedelta(seconds=self._people.expovariate(1 / 60))

    def _grant(self, user: str, moment: datetime) -> Document:
        granted = {"tokenType": "credits", "context": "autoRefill", "rawAmount": 500_000, "rate": 1}
        shared = {"_id": self.object_id(moment), "user": ObjectId(user), "createdAt": moment, "updatedAt": moment}
        return shared | granted | {"tokenValue": 500_000, "__v": 0}

    # What happens now.

    def reply(self, question: Document) -> Document:
        """The answer is saved once its time has come: see run()."""
        answer = self.answer(question, datetime.now(UTC))

        def save() -> None:
            transactions = self.transactions(question, answer)
            if transactions:
                self.database["transactions"].insert_many(transactions)
            self.save(answer)

        heapq.heappush(self._due, (answer["createdAt"], next(self._numbers), save))
        return answer

    def run(self, rate: float, stop: threading.Event) -> None:
        """About `rate` things a second until stop is set; answers come when they are due."""
        coming = datetime.now(UTC)
        while not stop.is_set():
            now = datetime.now(UTC)
            while self._due and self._due[0][0] <= now:
                heapq.heappop(self._due)[2]()
            if coming <= now:
                self.step()
                coming = now + timedelta(seconds=self._people.expovariate(rate))
            later = min([coming, *(one[0] for one in self._due[:1])])
            stop.wait(max(0.0, (later - datetime.now(UTC)).total_seconds()))
