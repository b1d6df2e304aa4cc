"""Traffic of a LibreChat, for demo, tests and benchmarks. It writes; the exporter never does.

A chat is written the way LibreChat writes it: upserts whose `_id` the server makes, an answer first half-saved and then
complete, a failure in one of the three forms that LibreChat leaves, a deletion that removes a conversation and its
messages and nothing else: what was billed for it stays.
"""

import argparse
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pymongo
from pymongo.database import Database

from tools.shapes import MODELS, Document, Shapes

ROOT = "00000000-0000-0000-0000-000000000000"
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
# Of messages, as nobody sees those of sub-agents.
PEOPLES: Document = {"subagentTask": None}
_BATCH = 5000


class Simulator(Shapes):
    """Writes into one database. The same seed makes the same documents, but for the server's `_id`s and the time."""

    def __init__(self, database: Database[Document], seed: int = 1, users: int = 40, agents: int = 5) -> None:
        super().__init__(seed)
        self.database = database
        self.users: list[str] = []
        self.conversations: list[tuple[str, str]] = []
        self._users_wanted = users
        self._agents_wanted = agents
        # By so much the clock that makes messages' `_id`s is wrong; if it is not, the server makes them.
        self.skew = timedelta(0)

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
