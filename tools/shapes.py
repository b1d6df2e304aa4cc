"""Documents as LibreChat writes them."""

import random
import uuid
from datetime import datetime
from typing import Any

from bson import ObjectId

Document = dict[str, Any]

MODELS = ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4-20250514", "mistral-large-2411", "llama-3.3-70b")
TAGS = {
    "thumbsUp": ("accurate_reliable", "creative_solution", "clear_well_written", "attention_to_detail"),
    "thumbsDown": ("not_matched", "inaccurate", "bad_style", "unjustified_refusal", "not_helpful", "other"),
}
RATES = dict(zip(MODELS, ((2.5, 10), (0.15, 0.6), (3, 15), (2, 6), (0.6, 0.6)), strict=True))  # USD per million tokens
TOOLS = ("web_search", "execute_code", "file_search", "search_mcp_wiki", "query_mcp_database")
RARE_TOOLS = ("lc_transfer_to_agent_2", "createTicket_action_helpdesk")
_WORDS = ("quick", "lazy", "brown", "fox", "dog", "jumping", "counting", "tokens", "cost", "metrics", "please")


class Shapes:
    """Makes documents and writes none. The same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.agents: dict[str, str] = {}  # their models
        self._counter = 0
        self._texts = [self._text() for _ in range(200)]
        self._billing = random.Random(seed)

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
