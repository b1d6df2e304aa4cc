"""LibreChat-shaped documents and traffic, for demo, tests and benchmarks. It writes; the exporter never does.

A chat is written the way LibreChat writes it: upserts whose `_id` the server makes, an answer first half-saved and then
complete, a failure in one of the three forms that LibreChat leaves, a deletion that removes a conversation and its
messages and nothing else: what was billed for it stays.
"""

import argparse
import random
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo
from bson import ObjectId
from pymongo.database import Database

Document = dict[str, Any]

ROOT = "00000000-0000-0000-0000-000000000000"
MODELS = ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4-20250514", "mistral-large-2411", "llama-3.3-70b")
TAGS = {
    "thumbsUp": ("accurate_reliable", "creative_solution", "clear_well_written", "attention_to_detail"),
    "thumbsDown": ("not_matched", "inaccurate", "bad_style", "unjustified_refusal", "not_helpful", "other"),
}
RATES = dict(zip(MODELS, ((2.5, 10), (0.15, 0.6), (3, 15), (2, 6), (0.6, 0.6)), strict=True))  # USD per million tokens
TOOLS = ("web_search", "execute_code", "file_search", "search_mcp_wiki", "query_mcp_database")
RARE_TOOLS = ("lc_transfer_to_agent_2", "createTicket_action_helpdesk")
GROUPS = ("Physics", "Law", "Library", "Administration")
AGENT_CATEGORIES = ("general", "general", "rd", "hr", "it")
INDEXES = {
    "messages": ("createdAt", "messageId", "conversationId", "user", "expiredAt"),
    "conversations": ("conversationId", "createdAt", "user"),
    "transactions": ("user", "conversationId"),
    "files": ("file_id", "createdAt", "user"),
    "users": ("email",),
    "agents": ("id",),
}
_WORDS = ("quick", "lazy", "brown", "fox", "dog", "jumping", "counting", "tokens", "cost", "metrics", "please")
# Of messages, as nobody sees those of sub-agents.
PEOPLES: Document = {"subagentTask": None}
_BATCH = 5000


class Simulator:
    """Writes into one database. The same seed makes the same documents, but for the server's `_id`s and the time."""

    def __init__(self, database: Database[Document], seed: int = 1, users: int = 40, agents: int = 5) -> None:
        self.database = database
        self.random = random.Random(seed)
        self.users: list[str] = []
        self.agents: dict[str, str] = {}  # their models
        self.conversations: list[tuple[str, str]] = []
        self._users_wanted = users
        self._agents_wanted = agents
        # By so much the clock that makes messages' `_id`s is wrong; if it is not, the server makes them.
        self.skew = timedelta(0)
        self._counter = 0
        self._texts = [self._text() for _ in range(200)]
        self._billing = random.Random(seed)

    # The shapes of documents.

    def object_id(self, moment: datetime) -> ObjectId:
        """An `_id` of that moment; later calls give greater ones within a second."""
        self._counter = (self._counter + 1) % 2**24
        return ObjectId(int(moment.timestamp()).to_bytes(4, "big") + b"\1simu" + self._counter.to_bytes(3, "big"))

    def uuid(self) -> str:
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def _text(self) -> str:
        return " ".join(self.random.choices(_WORDS, k=self.random.randint(10, 160)))

    def question(self, user: str, conversation: str, parent: str, moment: datetime) -> Document:
        return {
            "messageId": self.uuid(),
            "user": user,
            "__v": 0,
            "_meiliIndex": False,
            "conversationId": conversation,
            "createdAt": moment,
            "endpoint": "openAI",
            "error": False,
            "isCreatedByUser": True,
            "isTemporary": False,
            "model": None,
            "parentMessageId": parent,
            "sender": "User",
            "text": self.random.choice(self._texts),
            "tokenCount": self.random.randint(5, 600),
            "unfinished": False,
            "updatedAt": moment,
        }

    def answer(self, question: Document, moment: datetime) -> Document:
        """An answer to the question: complete, stopped, with tool calls, or one of the forms of a failure."""
        answer: Document = {
            "messageId": self.uuid(),
            "user": question["user"],
            "__v": 0,
            "_meiliIndex": False,
            "conversationId": question["conversationId"],
            "createdAt": moment,
            "error": False,
            "isCreatedByUser": False,
            "isTemporary": False,
            "isUserSubmitted": False,
            "model": self.random.choice(MODELS),
            "parentMessageId": question["messageId"],
            "sender": "AI",
            "text": "",
            "unfinished": False,
            "updatedAt": moment,
        }
        kind = self.random.random()
        if kind < 0.02:  # by sendError: no endpoint, no content, no tokenCount
            return answer | {"error": True, "text": "429 Rate limit reached"}
        if kind < 0.04:  # by the agents client, which leaves `error: false`
            said = '{ "type": "model_not_found", "info": "openAI" }'
            error = {"type": "error", "error": f"An error occurred while processing the request: {said}"}
            return answer | {"endpoint": "openAI", "content": [error], "tokenCount": 4}
        content: list[Document] = [{"type": "text", "text": self.random.choice(self._texts)}]
        answer |= {"endpoint": "openAI", "content": content, "tokenCount": self.random.randint(20, 1500)}
        answer["metadata"] = {"usage": {"input": question["tokenCount"], "output": answer["tokenCount"]}}
        if kind < 0.08:
            answer["finish_reason"] = "incomplete"
        if kind > 0.85:
            content[:0] = [part for _ in range(self.random.randint(1, 3)) for part in self._tool_call()]
        if kind > 0.9 and self.agents:
            answer |= {"endpoint": "agents", "model": self.random.choice(list(self.agents))}
        return answer

    def _tool_call(self) -> list[Document]:
        """The parts of a call: a call in the background is asked for by polls."""
        name = self.random.choice(TOOLS)
        output = self.random.choice(self._texts)
        chance = self.random.random()
        if chance < 0.1:
            output = f"Error: [MCP][{name}] tool call failed: internal error\n Please fix your mistakes."
        elif chance < 0.12:
            output = "Blocked: a policy of the organisation denies this call"
        call: Document = {"id": f"call_{self.uuid()}", "name": name, "args": "{}", "type": "tool_call", "progress": 1}
        part = {"type": "tool_call", "tool_call": call | {"output": output}}
        if chance > 0.97:
            return [{"type": "tool_call", "tool_call": call | {"name": self._billing.choice(RARE_TOOLS)}}]
        if name != "execute_code" or chance < 0.8:
            return [part]
        status = self._billing.choice(("completed", "error"))
        task = {"backgroundTask": {"status": status, "backgrounded": True}, "output": f"exit code 1: {output}"}
        poll = {"type": "tool_call", "tool_call": call | {"name": "check_background_task"}}
        return [{"type": "tool_call", "tool_call": call | task}, poll]

    def feedback(self) -> Document:
        rating = "thumbsUp" if self.random.random() < 0.7 else "thumbsDown"
        return {"rating": rating, "tag": self.random.choice(TAGS[rating]), "_id": ObjectId()}

    def transactions(self, question: Document, answer: Document) -> list[Document]:
        """Transactions of an answer: the prompt with all that came before it, and the completion."""
        if "tokenCount" not in answer:
            return []
        model: str = answer["model"]
        model = self.agents.get(model, model)
        input_rate, output_rate = RATES[model]
        cut_short = answer.get("finish_reason") == "incomplete"
        moment = answer["createdAt"]
        shared = {
            "user": ObjectId(answer["user"]),
            "conversationId": answer["conversationId"],
            "model": model,
            "context": "abort" if cut_short else "sequential" if self._billing.random() < 0.02 else "message",
            "messageId": answer["messageId"],
            "createdAt": moment,
            "updatedAt": moment,
            "__v": 0,
        }
        prompt = -question["tokenCount"] * self._billing.randint(1, 8)
        documents = [{"tokenType": "prompt", "rawAmount": prompt, "rate": input_rate}]
        if model.startswith("claude"):
            written = self._billing.randint(0, 500)
            read = self._billing.randint(0, 2000)
            paid = prompt - 1.25 * written - 0.1 * read
            structured = {"inputTokens": prompt, "writeTokens": -written, "readTokens": -read}
            amount = prompt - written - read
            documents = [{"tokenType": "prompt", **structured, "rawAmount": amount, "rate": input_rate * paid / amount}]
        documents.append({"tokenType": "completion", "rawAmount": -answer["tokenCount"], "rate": output_rate})
        if self._billing.random() < 0.05:
            documents.append(
                {"tokenType": "completion", "context": "title", "rawAmount": -self._billing.randint(3, 9), "rate": 1}
            )
        return [
            {"_id": self.object_id(moment)} | shared | {"tokenValue": one["rawAmount"] * one["rate"]} | one
            for one in documents
        ]

    @staticmethod
    def conversation(user: str, conversation: str, moment: datetime) -> Document:
        return {
            "conversationId": conversation,
            "user": user,
            "__v": 0,
            "createdAt": moment,
            "endpoint": "openAI",
            "isArchived": False,
            "messages": [],
            "title": "New Chat",
            "updatedAt": moment,
        }

    def file(self, user: str, moment: datetime) -> Document:
        return {
            "_id": self.object_id(moment),
            "file_id": self.uuid(),
            "bytes": self.random.randint(100, 5_000_000),
            "context": self._billing.choice(("message_attachment", "execute_code", "image_generation")),
            "createdAt": moment,
            "filename": "notes.pdf",
            "object": "file",
            "source": "local",
            "type": "application/pdf",
            "updatedAt": moment,
            "usage": 1,
            "user": ObjectId(user),
        }

    # What is there before.

    def prepare(self, moment: datetime) -> None:
        """LibreChat's indexes, users and agents."""
        for collection, fields in INDEXES.items():
            for field in fields:
                self.database[collection].create_index(field)
        for _ in range(self._users_wanted):
            self.register(moment)
        for number in range(self._agents_wanted):
            agent = f"agent_{self.uuid().replace('-', '')[:21]}"
            self.agents[agent] = MODELS[number % 3]
            self.database["agents"].insert_one(
                {
                    "id": agent,
                    "name": f"Agent {number}",
                    "model": self.agents[agent],
                    "category": AGENT_CATEGORIES[number % len(AGENT_CATEGORIES)],
                }
            )
        for number, name in enumerate(GROUPS):
            # A user of an identity provider is listed by the id that it has there; one in ten is in two groups.
            members = [
                self._external_id(place) if place % 2 else user
                for place, user in enumerate(self.users)
                if place % 5 == number or place % 10 == 5 + number
            ]
            self.database["groups"].insert_one({"name": name, "source": "local", "memberIds": members})
        self.database["sharedlinks"].insert_many(
            {"user": user, "conversationId": self.uuid()} for user in self.users[:3]
        )

    @staticmethod
    def _external_id(number: int) -> str:
        return f"entra-{number}"

    def register(self, moment: datetime) -> None:
        number = len(self.users)
        user = self.object_id(moment)
        self.users.append(str(user))
        self.database["users"].insert_one(
            {
                "_id": user,
                "name": f"User {number}",
                "username": f"user{number}",
                "email": f"user{number}@example.org",
                "provider": "openid" if number % 2 else "local",
                "role": "USER",
                "createdAt": moment,
                "updatedAt": moment,
            }
            | ({"idOnTheSource": self._external_id(number)} if number % 2 else {})
        )
        granted, left = 1_000_000, self._billing.choice((0, 50_000, 400_000, 900_000))
        self.database["balances"].insert_one({"_id": user, "user": user, "tokenCredits": left, "refillAmount": granted})
        ends = datetime.now(UTC) + timedelta(days=self._billing.randint(-3, 6), hours=1)
        self.database["sessions"].insert_one({"user": user, "expiration": ends})
        if number % 3 == 0:
            self.database["memoryentries"].insert_one(
                {"userId": user, "key": "language", "value": "prefers short answers"}
            )

    def fill(self, messages: int, days: float, end: datetime | None = None) -> None:
        """History: so many messages, evenly over that many days before `end` (now), oldest first."""
        end = end or datetime.now(UTC)
        start = end - timedelta(days=days)
        self.prepare(start)
        batches: dict[str, list[Document]] = {
            name: [] for name in ("messages", "conversations", "files", "transactions")
        }
        for collection, document in self._history(messages, start, end):
            batches[collection].append(document)
            if len(batches[collection]) >= _BATCH:
                self.database[collection].insert_many(batches[collection], ordered=False)
                batches[collection] = []
        for collection, batch in batches.items():
            if batch:
                self.database[collection].insert_many(batch, ordered=False)

    def _history(self, messages: int, start: datetime, end: datetime) -> Iterator[tuple[str, Document]]:
        written = 0
        step = (end - start) / max(1, messages)
        while written < messages:
            user, conversation, parent = self.random.choice(self.users), self.uuid(), ROOT
            moment = start + step * written
            listed = {"messages": [self.object_id(moment) for _ in range(self._billing.randint(2, 12))]}
            document = self.conversation(user, conversation, moment) | listed
            yield "conversations", {"_id": self.object_id(moment)} | document
            if self.random.random() < 0.1:
                yield "files", self.file(user, moment)
            self._remember(user, conversation)
            for _ in range(min(self.random.randint(1, 6), (messages - written + 1) // 2)):
                question = self.question(user, conversation, parent, start + step * written)
                yield "messages", {"_id": self.object_id(question["createdAt"])} | question
                written += 1
                for _ in range(1 if self.random.random() < 0.9 else 2):
                    if written < messages:
                        answer = self.answer(question, start + step * written)
                        if self.random.random() < 0.02:
                            answer["feedback"] = self.feedback()
                        yield "messages", {"_id": self.object_id(answer["createdAt"])} | answer
                        for transaction in self.transactions(question, answer):
                            yield "transactions", transaction
                        written += 1
                        parent = answer["messageId"]

    def _remember(self, user: str, conversation: str) -> None:
        self.conversations.append((user, conversation))
        del self.conversations[:-500]

    # What happens now.

    def save(self, message: Document) -> None:
        """As LibreChat saves: an upsert, so that the server makes the `_id`, and what was saved before is kept."""
        changed = {key: value for key, value in message.items() if key not in ("messageId", "user", "createdAt", "__v")}
        made = {"createdAt": message["createdAt"], "__v": 0}
        if self.skew:
            made["_id"] = self.object_id(message["createdAt"] + self.skew)
        self.database["messages"].update_one(
            {"messageId": message["messageId"], "user": message["user"]},
            {"$set": changed, "$setOnInsert": made},
            upsert=True,
        )

    def chat(self) -> Document:
        """A question and its answer, half-saved first, in a new conversation or an older one. Returns the answer."""
        now = datetime.now(UTC)
        if not self.conversations or self.random.random() < 0.4:
            user, conversation = self.random.choice(self.users), self.uuid()
            self.database["conversations"].update_one(
                {"conversationId": conversation, "user": user},
                {"$set": self.conversation(user, conversation, now)},
                upsert=True,
            )
            self._remember(user, conversation)
        else:
            user, conversation = self.random.choice(self.conversations)
        return self.ask(user, conversation)

    def ask(self, user: str, conversation: str) -> Document:
        """A question and its answer, which it returns."""
        now = datetime.now(UTC)
        question = self.question(user, conversation, ROOT, now)
        self.save(question)
        listed = {"$each": [self.object_id(now), self.object_id(now)]}
        self.database["conversations"].update_one({"conversationId": conversation}, {"$push": {"messages": listed}})
        return self.reply(question)

    def reply(self, question: Document) -> Document:
        answer = self.answer(question, datetime.now(UTC))
        complete = ("content", "tokenCount", "finish_reason", "metadata")
        half = {key: value for key, value in answer.items() if key not in complete}
        self.save(half | {"unfinished": True} | ({"model": None} if answer.get("endpoint") == "agents" else {}))
        for transaction in self.transactions(question, answer):
            self.database["transactions"].insert_one(transaction)
        self.save(answer)
        if answer.get("endpoint") == "agents" and self._billing.random() < 0.2:
            self.ask_subagent(question, answer)
        return answer

    def ask_subagent(self, question: Document, answer: Document) -> str:
        """The agent hands a task to another one, in a thread of its own, which nobody reads. Returns the other's id."""
        thread, task = self.uuid(), {"subagentTask": {"parentMessageId": answer["messageId"]}}
        agent: str = self._billing.choice(list(self.agents))
        child = {"subagentThread": {"parentConversationId": answer["conversationId"]}, "agent_id": agent}
        conversation = self.conversation(answer["user"], thread, answer["createdAt"]) | child
        self.database["conversations"].insert_one(conversation)
        shared = {"conversationId": thread, "messageId": self.uuid(), "endpoint": "agents", "model": None} | task
        asked = {key: value for key, value in question.items() if key != "_id"} | shared
        self.save(asked)
        told = {"messageId": self.uuid(), "parentMessageId": asked["messageId"]}
        self.save({key: value for key, value in {**answer, **shared, **told}.items() if key != "metadata"})
        return agent

    def regenerate(self) -> None:
        """Another answer to one of the last questions."""
        last = self.database["messages"].find(PEOPLES | {"isCreatedByUser": True}, sort=[("createdAt", -1)], limit=20)
        questions = list(last)
        if questions:
            self.reply(self.random.choice(questions))

    def rate(self) -> None:
        """Rates one of the last answers, or takes its rating back."""
        last = self.database["messages"].find(PEOPLES | {"isCreatedByUser": False}, sort=[("createdAt", -1)], limit=50)
        answers = list(last)
        if answers:
            answer = self.random.choice(answers)
            feedback = None if answer.get("feedback") else self.feedback()
            self.database["messages"].update_one(
                {"_id": answer["_id"]}, {"$set": {"feedback": feedback, "updatedAt": datetime.now(UTC)}}
            )

    def delete_chat(self) -> None:
        if self.conversations:
            user, conversation = self.conversations.pop(self.random.randrange(len(self.conversations)))
            self.database["conversations"].delete_one({"conversationId": conversation, "user": user})
            self.database["messages"].delete_many({"conversationId": conversation, "user": user})

    def clear_history(self) -> None:
        """One user deletes all chats."""
        user = self.random.choice(self.users)
        self.conversations = [(owner, conversation) for owner, conversation in self.conversations if owner != user]
        self.database["conversations"].delete_many({"user": user})
        self.database["messages"].delete_many({"user": user})

    def step(self) -> None:
        """One thing that users do."""
        actions = (self.chat, self.regenerate, self.rate, self.delete_chat, self.upload, self.join, self.clear_history)
        self.random.choices(actions, (70, 8, 10, 6, 4, 1, 0.2))[0]()

    def upload(self) -> None:
        self.database["files"].insert_one(self.file(self.random.choice(self.users), datetime.now(UTC)))

    def join(self) -> None:
        self.register(datetime.now(UTC))

    def run(self, rate: float, stop: threading.Event) -> None:
        """About `rate` things a second until stop is set."""
        while not stop.wait(self.random.expovariate(rate)):
            self.step()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.simulator",
        description="Fills a database of your own with LibreChat-shaped history, then keeps traffic flowing.",
    )
    parser.add_argument("--uri", required=True, help="connection string of a MongoDB that may be written to")
    parser.add_argument("--database", default="LibreChat", help="a database that has no messages yet")
    parser.add_argument("--days", type=float, default=60, help="days of history")
    parser.add_argument("--messages", type=int, default=20_000, help="messages of history")
    parser.add_argument("--users", type=int, default=40, help="users")
    parser.add_argument("--rate", type=float, default=1, help="things that happen in a second; 0: only history")
    parser.add_argument("--seconds", type=float, help="end after so many seconds of traffic")
    arguments = parser.parse_args()
    client: pymongo.MongoClient[Document] = pymongo.MongoClient(arguments.uri)
    database = client[arguments.database]
    if database["messages"].find_one() is not None:
        parser.error(f"--database {arguments.database} holds messages already; name one of its own")
    simulator = Simulator(database, users=arguments.users)
    started = time.monotonic()
    simulator.fill(arguments.messages, arguments.days)
    print(f"{arguments.messages} messages in {time.monotonic() - started:.1f} s", file=sys.stderr)
    if arguments.rate > 0:
        stop = threading.Event()
        if arguments.seconds is not None:
            threading.Timer(arguments.seconds, stop.set).start()
        simulator.run(arguments.rate, stop)
    return 0


if __name__ == "__main__":
    sys.exit(main())
