"""Every metric has something to tell in this small database, and whatever is of a person is marked in it."""

import time
from datetime import UTC, datetime, timedelta

from bson import ObjectId
from pymongo.database import Database

from tests.conftest import Document

MARK = "MARKED"
USER = ObjectId("4d41524b4544" + "0" * 12)  # its first bytes are the mark as well


def marked(what: str) -> str:
    return f"{MARK}-{what}"


def _messages(now: datetime) -> list[Document]:
    """The answers came some seconds after their question."""
    text = marked("text") + ' "type":"' + marked("type") + '" in it'
    said = {"type": "text", "text": text}
    call = {"name": "search_mcp_wiki", "args": marked("args"), "output": marked("output")}
    failed_call = call | {"output": f"Error processing tool: {marked('output')}"}
    shared: Document = {
        "user": str(USER),
        "conversationId": marked("conversation"),
        "createdAt": now,
        "updatedAt": now,
        "sender": marked("sender"),
        "text": text,
        "title": marked("title"),
    }
    question = shared | {"messageId": marked("question"), "isCreatedByUser": True, "tokenCount": 5}
    answer = shared | {
        "parentMessageId": marked("question"),
        "isCreatedByUser": False,
        "model": "gpt-4o",
        "endpoint": "openAI",
        "tokenCount": 7,
    }
    usage = {"input": 9, "output": 7, "cacheRead": 3, "cacheWrite": 2, "cost": 0.01}
    feedback = {"tag": "inaccurate", "text": marked("feedback")}
    liked = {
        "content": [said, {"type": "tool_call", "tool_call": call}],
        "feedback": feedback | {"rating": "thumbsUp"},
    }
    disliked = {"feedback": feedback | {"rating": "thumbsDown"}}
    stopped = {
        "content": [said, {"type": "tool_call", "tool_call": failed_call}],
        "feedback": feedback | {"rating": "thumbsDown"},
        "unfinished": True,
    }
    return [
        question | {"createdAt": now - timedelta(seconds=8)},
        answer | {"messageId": marked("liked"), "metadata": {"usage": usage}} | liked,
        shared | {"messageId": marked("task"), "conversationId": marked("thread"), "subagentTask": {"id": MARK}},
        answer | {"messageId": marked("stopped")} | stopped,
        answer | {"messageId": marked("failed"), "error": True},
        answer | {"messageId": marked("failed within"), "content": [said, {"type": "error", "error": text}]},
        answer | {"messageId": marked("an agent's"), "model": "agent_x", "endpoint": "agents"} | liked,
        answer
        | {"messageId": marked("its failed"), "model": "agent_x", "endpoint": "agents", "error": True}
        | disliked,
        {"user": {MARK: MARK}, "tokenCount": marked("tokens"), "createdAt": MARK},
    ]


def _transactions(now: datetime) -> list[Document]:
    billed = {
        "user": USER,
        "conversationId": marked("conversation"),
        "createdAt": now,
        "model": "gpt-4o",
        "context": "message",
        "rawAmount": -5,
        "tokenValue": -10,
    }
    cached = {"inputTokens": -2, "writeTokens": -1, "readTokens": -2}
    return [
        billed | {"tokenType": "prompt"} | cached,
        billed | {"tokenType": "completion", "context": "title"},
        billed | {"tokenType": "prompt", "messageId": marked("an agent's"), "model": "a model without a price"},
        billed | {"tokenType": "credits", "tokenValue": 100},
        billed | {"tokenType": "prompt", "rawAmount": marked("amount")},
    ]


def people(now: datetime) -> dict[str, list[Document]]:
    """Every collection has documents. Models, tools and agents are not marked."""
    named = {"author": USER, "name": marked("name"), "description": marked("description")}
    conversation = {"user": str(USER), "title": marked("title"), "messages": [ObjectId()], "isTemporary": True}
    user: Document = {"name": marked("name"), "username": marked("username"), "email": f"{marked('ann')}@example.org"}
    user |= {"provider": "local", "role": "USER", "createdAt": now}
    agent = {"id": "agent_x", "model": "gpt-4o", "category": "general", "authorName": marked("author")}
    job = {"status": "failed", "error": marked("why")}
    thread = {"parentConversationId": marked("conversation")}
    ban = {"key": f"BANS:{marked('address')}", "value": marked("ban")}
    return {
        "messages": _messages(now),
        "transactions": _transactions(now),
        "conversations": [
            conversation | {"conversationId": marked("conversation"), "createdAt": now},
            conversation | {"conversationId": marked("thread"), "agent_id": "agent_x", "subagentThread": thread},
        ],
        # The first was inserted years ago, so is new in no window.
        "users": [user | {"_id": USER, "createdAt": now - timedelta(days=3)}, user],
        "groups": [{"name": "Physics", "memberIds": [str(USER)], "email": marked("group"), "avatar": marked("avatar")}],
        "files": [{"user": USER, "filename": marked("file"), "source": "local", "type": "text/plain", "bytes": 5}],
        "agents": [agent | {"author": USER, "instructions": marked("prompt")}],
        "balances": [{"user": USER, "tokenCredits": 5}],
        "sessions": [
            {"user": USER, "expiration": datetime(2999, 1, 1, tzinfo=UTC), "refreshTokenHash": marked("token")}
        ],
        "memoryentries": [{"userId": USER, "key": marked("key"), "value": marked("memory")}],
        "auditlogs": [{"category": "auth", "outcome": "success", "actor": {"name": marked("actor")}}],
        "bans": [ban],
        "logs": [ban],
        "scheduleruns": [{"user": USER, "status": "error", "error": marked("run"), "createdAt": now}],
        "agenttriggerdeliveries": [job],
        "agentqueuedturns": [job],
        "skillsyncstatuses": [job],
        "skills": [named],
        "chatprojects": [named],
        "sharedlinks": [{"user": str(USER), "title": marked("title"), "shareId": marked("share")}],
        "mcpservers": [named | {"serverName": marked("server"), "config": {"url": marked("url")}}],
        "agentapikeys": [{"userId": USER, "name": marked("name"), "keyHash": marked("hash"), "lastUsedAt": now}],
    }


def within_a_month() -> datetime:
    """Now, but not in the last minute of a month: who wrote then is soon no user of the month."""
    while (now := datetime.now(UTC)).month != (now + timedelta(minutes=1)).month:
        time.sleep(1)
    return now


def fill(database: Database[Document], now: datetime) -> None:
    for name, documents in people(now).items():
        database[name].insert_many(documents)
